//! `kubectl chat`: what a fleet does, what a change would do, and a drain by hand. A plugin of kubectl: it is
//! found by its name on the PATH. It asks the API server as whoever runs it, and changes nothing but what a
//! person asks for.

mod fleet;
mod output;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  kubectl chat status demo                     where it stands: pods, sessions, what is under way and why
  kubectl chat plan demo                       what the operator would do next, and how many sessions that moves
  kubectl chat plan demo -f new.yaml           the same for another spec, before it is applied
  kubectl chat sessions demo                   sessions and live answers by pod
  kubectl chat drain demo demo-1a2b-x7x7x      another pod takes its place; its sessions move without a gap
  kubectl chat rollout pause demo              nothing moves until: kubectl chat rollout resume demo
  kubectl chat rollout abort demo              back to the revision that serves
  kubectl chat rotate-keys demo                new keys for resume tokens and the admin port, while every pod runs

Exit codes: 0 fine, 1 it failed or (plan) something would have to wait, 2 the command line is wrong.";

/// What a ChatCluster does, and what a change would do
#[derive(Parser)]
#[command(name = "kubectl-chat", bin_name = "kubectl chat", version, after_help = EXAMPLES)]
struct Cli {
    /// The namespace [default: the context's]
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    /// JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Where a cluster stands: pods, sessions, what is under way and why
    Status(Name),
    /// What the operator would do next, and how many sessions that moves
    Plan {
        #[command(flatten)]
        name: Name,
        /// Another spec instead of the one that is there: a manifest of a ChatCluster
        #[arg(long, short)]
        file: Option<PathBuf>,
    },
    /// Sessions and live answers by pod
    Sessions(Name),
    /// Drain one pod; another one takes its place
    Drain {
        #[command(flatten)]
        name: Name,
        /// The pod
        pod: String,
    },
    /// Exchange the keys of resume tokens and of the admin port, while every pod runs
    RotateKeys(Name),
    /// Hold a rollout, let it go on, or go back
    #[command(subcommand)]
    Rollout(Rollout),
}

#[derive(Subcommand)]
enum Rollout {
    /// Change nothing until it is resumed: operation.paused
    Pause(Name),
    /// Go on
    Resume(Name),
    /// Go back to the revision that serves, and try this one again only when told
    Abort(Name),
}

#[derive(Args)]
struct Name {
    /// The ChatCluster
    name: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // Refused only where somebody installed one before, and then there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let shown = match run(cli).await {
        Ok((text, code)) => write(&text).map(|()| code),
        Err(error) => Err(error),
    };
    shown.unwrap_or_else(|error| {
        eprintln!("kubectl chat: {error:#}");
        ExitCode::FAILURE
    })
}

/// Whoever reads may have seen enough: `kubectl chat status demo | head -1` is no failure.
fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("the output"),
        _ => Ok(()),
    }
}

/// What is shown, and how it ends.
async fn run(cli: Cli) -> Result<(String, ExitCode)> {
    let client = kube::Client::try_default().await.context("no cluster: look at KUBECONFIG")?;
    let namespace = cli.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let at = |name: Name| fleet::read(&client, &namespace, name.name);
    let text = match cli.command {
        Command::Status(name) => output::status(&at(name).await?, cli.json)?,
        Command::Sessions(name) => output::sessions(&at(name).await?, cli.json)?,
        Command::Plan { name, file } => {
            let mut fleet = at(name).await?;
            if let Some(file) = file {
                let text =
                    std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                fleet.replace_spec(&text).with_context(|| file.display().to_string())?;
            }
            let (text, waits) = output::plan(&fleet, cli.json)?;
            return Ok((text, if waits { ExitCode::FAILURE } else { ExitCode::SUCCESS }));
        }
        Command::Drain { name, pod } => {
            let fleet = at(name).await?;
            let Some(found) = fleet.observed.pods.iter().find(|one| one.name == pod) else {
                bail!("{} has no pod {pod}", fleet.name);
            };
            if found.component != "gateway" {
                bail!("pod {pod} is no node of the data plane; only those can be drained");
            }
            fleet::drain(&client, &namespace, &pod).await?;
            format!("pod/{pod} drains; see: kubectl chat status {}\n", fleet.name)
        }
        Command::RotateKeys(name) => {
            let fleet = at(name).await?;
            fleet::rotate(&client, &namespace, &fleet).await?;
            format!("keys are exchanged; see: kubectl chat status {}\n", fleet.name)
        }
        Command::Rollout(Rollout::Pause(Name { name })) => {
            fleet::pause(&client, &namespace, &name, true).await?;
            format!(
                "{name} is paused: nothing is changed until `kubectl chat rollout resume {name}`\n"
            )
        }
        Command::Rollout(Rollout::Resume(Name { name })) => {
            fleet::pause(&client, &namespace, &name, false).await?;
            format!("{name} goes on\n")
        }
        Command::Rollout(Rollout::Abort(name)) => {
            let fleet = at(name).await?;
            fleet::abort(&client, &namespace, &fleet).await? + "\n"
        }
    };
    Ok((text, ExitCode::SUCCESS))
}
