//! The `dataplane` binary: one node, or several of them to play with.

use clap::{Parser, Subcommand};
use dataplane::{playground, process};
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
    /// Run one node, configured by a file
    #[command(after_help = RUN)]
    Run(process::Args),
    /// Run several nodes to play with: a chat page, and controls to break them
    #[command(after_help = PLAYGROUND)]
    Playground(playground::Args),
}

const RUN: &str = "\
A file may be as short as this; `--check` prints all settings with their defaults:

  node:
    name: node-1               # or CHAT_NODE_NAME, or POD_NAME
    dataAddress: 0.0.0.0:8080
    adminAddress: 0.0.0.0:8081
  store:
    redis:
      url: redis://redis:6379

Secrets are never in the file. Each is the value of a variable, or of a file that NAME_FILE names:
  CHAT_JWT_SECRET      checks users' tokens (HS256), at least 32 bytes; not needed with auth.jwks
  CHAT_RESUME_SECRET   signs resume tokens, the same on all nodes, at least 32 bytes
  CHAT_ADMIN_KEY       bearer of /admin/*, at least 16 bytes
  CHAT_REDIS_PASSWORD  where Redis wants one
  CHAT_UPSTREAM_KEY_X  of the provider x of upstream.providers, where it wants one
For a rotation CHAT_JWT_SECRET_PREVIOUS and CHAT_RESUME_SECRET_PREVIOUS are accepted as well.

SIGTERM or Ctrl-C drains: answers and sockets move to other nodes, then the exit code is 0. A second
one hands everything over at once and ends within 3 s. Exit code 2: the configuration cannot be used.
RUST_LOG=debug shows more.";

const PLAYGROUND: &str = "\
While it runs (PORT is the page's, 8080 unless set):
  GET  http://127.0.0.1:PORT/                        the chat page
  GET  http://127.0.0.1:PORT/dev/nodes               the nodes and their phases
  POST http://127.0.0.1:PORT/dev/nodes/NAME/kill     as SIGKILL
  POST http://127.0.0.1:PORT/dev/nodes/NAME/drain    {\"deadlineMs\": 5000, \"policy\": \"continue\"}
  POST http://127.0.0.1:PORT/dev/nodes/NAME/pause    {\"ms\": 3000}, as SIGSTOP
  POST http://127.0.0.1:PORT/dev/nodes/NAME/start    a new incarnation on the same ports
  GET  http://127.0.0.1:PORT/dev/upstream/calls      what the provider was asked
  GET  http://127.0.0.1:PORT/dev/token?user=alice    a token for one hour
  GET  http://127.0.0.1:PORT/dev/redis               where Redis is, with STORES=redis

CHAT_UPSTREAM_URL=http://127.0.0.1:8000/v1 asks an OpenAI-compatible server instead of the simulated
provider, with CHAT_UPSTREAM_MODEL and CHAT_UPSTREAM_KEY where it wants them.

The simulated provider obeys a directive at the start of what the user says:
  [sim tokens=200 rate=50 seed=7 ttft=300 pause=20:2000 fail=90 stall=90 types=text,code vary=epoch]

RUST_LOG=info shows more. Ctrl-C stops everything.";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => process::run(&args),
        Command::Playground(args) => playground::run(&args),
    }
}
