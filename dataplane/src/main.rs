//! The `dataplane` binary: one node, or several of them to play with.

use clap::{Parser, Subcommand};
use dataplane::playground;
use std::process::ExitCode;

/// ChatCluster's data plane: answers that stream, and are never lost, doubled or reordered.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run several nodes in this process, with the chat page and controls to break them
    #[command(after_help = PLAYGROUND)]
    Playground(playground::Args),
}

const PLAYGROUND: &str = "\
While it runs (PORT is the page's, 8080 unless set):
  GET  http://127.0.0.1:PORT/                        the chat page
  GET  http://127.0.0.1:PORT/dev/nodes               the nodes and their phases
  POST http://127.0.0.1:PORT/dev/nodes/NAME/kill     as SIGKILL
  POST http://127.0.0.1:PORT/dev/nodes/NAME/drain    {\"deadlineMs\": 5000, \"policy\": \"continue\"}
  POST http://127.0.0.1:PORT/dev/nodes/NAME/pause    {\"ms\": 3000}, as SIGSTOP
  POST http://127.0.0.1:PORT/dev/nodes/NAME/start    a new incarnation on the same ports
  GET  http://127.0.0.1:PORT/dev/upstream/calls      what the simulated provider was asked
  GET  http://127.0.0.1:PORT/dev/token?user=alice    a token for one hour

The simulated provider obeys a directive at the start of what the user says:
  [sim tokens=200 rate=50 seed=7 ttft=300 pause=20:2000 fail=90 stall=90 types=text,code vary=epoch]

RUST_LOG=info shows more. Ctrl-C stops everything.";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Playground(args) => playground::run(&args),
    }
}
