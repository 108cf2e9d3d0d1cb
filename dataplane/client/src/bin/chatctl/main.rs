//! `chatctl`: one command a file; this one holds the command line and the exit codes.

mod answer;
mod cancel;
mod chaos;
mod chat;
mod cluster;
mod exit;
mod follow;
mod load;
mod nodes;
mod output;
mod soak;
mod token;
mod verify;

use clap::{Args, Parser, Subcommand};
use exit::Outcome;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  make dev                                    a playground with three nodes on port 8080
  chatctl chat 'Why is the sky blue?'         ask, and watch the answer arrive
  echo 'Summarise this' | chatctl chat        the prompt from a pipe
  chatctl chat                                a conversation, line by line
  chatctl chaos --answers 100                 kill nodes under load; nothing may be lost
  chatctl soak --duration 1m                  hold 200 sockets, answers back to back
  chatctl nodes                               who serves, who drains, who is dead
  chatctl --url http://a:8080,http://b:8080 --token \"$JWT\" chat hello
                                              a real cluster instead of the playground

Exit codes:
  0  fine: the answer completed, the verdict is green
  1  the answer failed or the verdict is red
  2  the command line is wrong
  3  nothing to connect to
  4  no token, or a refused one";

/// Talk to a ChatCluster: ask, follow, cancel, and prove that no answer is lost.
#[derive(Parser)]
#[command(name = "chatctl", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Args, Clone)]
struct Global {
    /// The playground's front, or the nodes themselves; repeat it or separate by commas.
    #[arg(
        long,
        global = true,
        env = "CHATCTL_URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8080"
    )]
    url: Vec<String>,
    /// The JWT; without one the playground is asked.
    #[arg(long, global = true, env = "CHATCTL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// As whom to ask the playground for a token.
    #[arg(long, global = true, default_value = "alice")]
    user: String,
    /// JSON on stdout: one document, or one line per event where the command streams.
    #[arg(long, global = true)]
    json: bool,
    /// No colours; they are only used on a terminal anyway.
    #[arg(
        long,
        global = true,
        env = "NO_COLOR",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    no_color: bool,
}

#[derive(Subcommand)]
enum Command {
    Token(token::TokenArgs),
    Chat(chat::ChatArgs),
    Follow(follow::FollowArgs),
    Cancel(cancel::CancelArgs),
    Nodes(nodes::NodesArgs),
    Load(load::LoadArgs),
    Soak(soak::SoakArgs),
    Chaos(chaos::ChaosArgs),
    Verify(verify::VerifyArgs),
}

async fn run(cli: Cli) -> anyhow::Result<Outcome> {
    let Cli { global, command } = cli;
    match command {
        Command::Token(args) => token::run(&global, args).await,
        Command::Chat(args) => chat::run(&global, args).await,
        Command::Follow(args) => follow::run(&global, args).await,
        Command::Cancel(args) => cancel::run(&global, args).await,
        Command::Nodes(args) => nodes::run(&global, args).await,
        Command::Load(args) => load::run(&global, args).await,
        Command::Soak(args) => soak::run(&global, args).await,
        Command::Chaos(args) => chaos::run(&global, args).await,
        Command::Verify(args) => verify::run(&global, args).await,
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    client::token::install_crypto();
    let paint = output::Paint::stderr(&cli.global);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::failed(&paint, &error.into()),
    };
    let result = runtime.block_on(Box::pin(run(cli)));
    // A read of the terminal that is still under way cannot be interrupted.
    runtime.shutdown_background();
    match result {
        Ok(outcome) => outcome.into(),
        Err(error) => exit::failed(&paint, &error),
    }
}
