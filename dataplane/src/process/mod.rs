//! A node as a process: a file and an environment in, an exit code out.
//!
//! [`store`] makes the engines that the file asks for, `ending` is what signals do. One thread runs
//! everything, as in the playground: a node's work is waiting, and a pod scales by being repeated.

mod ending;
pub mod parent;
pub mod store;
pub(crate) mod takeup;

use crate::config::{Config, ConfigError};
use crate::listen::listen;
use crate::node::{Node, NodeConfig, RunningNode};
use crate::telemetry;
use crate::telemetry::otlp::{Endpoint, Exporting};
use crate::upstream::calls::CallLog;
use crate::upstream::compose::upstream;
use ending::Signals;
use protocol::Incarnation;
use protocol::hot::Hot;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use streamlog::{Clock, Ids, Owner};
use tokio::net::TcpListener;

/// What was asked for cannot be used.
const UNUSABLE: u8 = 2;
/// Something went wrong.
const FAILED: u8 = 1;

/// One node, configured by a file; secrets come by environment.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The settings: one YAML file; whatever it leaves out has its default
    #[arg(long, env = "CHAT_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub config: PathBuf,

    /// Settings that are read again while the node runs: limits and drains, and nothing else
    #[arg(long, env = "CHAT_HOT", value_name = "FILE", hide_env_values = true)]
    pub hot: Option<PathBuf>,

    /// Read and check everything, print the effective settings without secrets, and end
    #[arg(long)]
    pub check: bool,

    /// Die as soon as standard input ends: for whoever starts nodes and must leave none behind
    #[arg(long, hide = true)]
    pub exit_with_stdin: bool,

    /// Append what the provider was asked to this file, as JSON lines
    #[arg(long, hide = true, value_name = "FILE")]
    pub calls: Option<PathBuf>,

    /// A deliberate bug for the tests of the tests; needs a build with the feature `bugs`
    #[arg(long, env = "CHAT_BUG", hide_env_values = true, hide = true)]
    pub bug: Option<String>,
}

/// Runs the node until a signal ends it.
///
/// # Errors
/// What the operating system refused.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.exit_with_stdin {
        parent::die_with_it();
    }
    let (config, hot) = match load(args, &environment) {
        Ok(loaded) => loaded,
        Err(refused) => {
            eprintln!("dataplane: {refused}");
            return Ok(ExitCode::from(UNUSABLE));
        }
    };
    if args.check {
        return print(&config);
    }
    telemetry::init(!io::stderr().is_terminal());
    let traces = config.settings.telemetry.otlp_endpoint.as_deref();
    let traces = Endpoint::find(traces, &environment);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(config, hot, args, traces.as_ref()));
    // Waits for nothing: whatever still blocks ends with the process.
    runtime.shutdown_background();
    let Ended { code, exporting, flush } = ended?;
    if let Some(exporting) = exporting {
        exporting.end(flush);
    }
    Ok(code)
}

/// The one place that reads the process's environment; everything else is given its values.
fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// A process that does nothing more but end.
struct Ended {
    code: ExitCode,
    exporting: Option<Exporting>,
    /// How long the last spans have.
    flush: Duration,
}

impl From<u8> for Ended {
    fn from(code: u8) -> Self {
        Self { code: ExitCode::from(code), exporting: None, flush: Duration::ZERO }
    }
}

/// Everything that can be known to be wrong before the node starts.
fn load(
    args: &Args,
    environment: crate::config::secrets::Environment<'_>,
) -> Result<(Config, Hot), String> {
    let config = Config::load(&args.config, environment).map_err(|e: ConfigError| e.to_string())?;
    store::check(&config).map_err(|why| format!("{}: {why}", args.config.display()))?;
    if let Some(name) = args.bug.clone().filter(|name| !name.is_empty()) {
        crate::playground::switch_on(name).map_err(|refused| refused.to_string())?;
    }
    let hot = args.hot.as_deref().map(|path| takeup::read_hot(path, &config.settings));
    Ok((config, hot.transpose()?.unwrap_or_default()))
}

fn print(config: &Config) -> anyhow::Result<ExitCode> {
    let text = config.effective().map_err(anyhow::Error::msg)?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    config: Config,
    hot: Hot,
    args: &Args,
    traces: Option<&Endpoint>,
) -> anyhow::Result<Ended> {
    // Before anything runs: a signal that comes early must not be lost.
    let signals = Signals::listen()?;
    let settings = &config.settings.node;
    let ports = (
        open(settings.data_address, "node.dataAddress"),
        open(settings.admin_address, "node.adminAddress"),
    );
    let (data, admin) = match ports {
        (Ok(data), Ok(admin)) => (data, admin),
        (Err(refused), _) | (_, Err(refused)) => {
            eprintln!("dataplane: {refused}");
            return Ok(Ended::from(FAILED));
        }
    };
    let keys = config.keys.clone();
    let (node, store) = compose(config, args.calls.as_deref())?;
    node.take_up(&hot);
    node.tasks.spawn(takeup::keep(node.clone(), args.hot.clone(), (hot, keys), environment));
    let exporting = match traces.map(|endpoint| Exporting::start(&node, endpoint)).transpose() {
        Ok(exporting) => exporting,
        Err(refused) => {
            eprintln!("dataplane: {refused}");
            return Ok(Ended::from(UNUSABLE));
        }
    };
    let running = node.serve(TcpListener::from_std(data)?, TcpListener::from_std(admin)?)?;
    announce(&running);
    let orphaned = ending::stdin_ended(args.exit_with_stdin);
    let (code, flush) = tokio::select! {
        flush = ending::until_the_end(&node, signals) => (ExitCode::SUCCESS, flush),
        () = orphaned => (ExitCode::FAILURE, ending::HURRIED_FLUSH),
    };
    ending::close(&node, &store).await;
    Ok(Ended { code, exporting, flush })
}

fn open(address: SocketAddr, key: &str) -> Result<std::net::TcpListener, String> {
    listen(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} ({key}) is taken; `ss -ltnp 'sport = :{}'` shows by whom. \
             Set {key} to another address.",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{address} ({key}) needs privileges that this process does not have; \
             ports from 1024 on need none."
        ),
        _ => format!("cannot listen on {address} ({key}): {error}."),
    })
}

/// The node and what is under it.
fn compose(config: Config, calls: Option<&Path>) -> anyhow::Result<(Arc<Node>, Store)> {
    let clock = Clock::system();
    let ids = Ids::random(clock.clone());
    let owner = Owner { node: config.name.clone(), incarnation: Incarnation(ids.uuid()) };
    let store = store::open(&config, &owner, &clock, &ids).map_err(anyhow::Error::msg)?;
    let calls = match calls {
        Some(path) => CallLog::to_file(path)?,
        None => CallLog::default(),
    };
    let (settings, calls) = (&config.settings, Arc::new(calls));
    let upstream = upstream(settings, &config.provider_keys, calls, &clock, &owner.node);
    let node = Node::new(NodeConfig {
        owner,
        settings: config.settings,
        keys: config.keys,
        engines: store.engines(),
        upstream: upstream.map_err(anyhow::Error::msg)?,
        clock,
        ids,
    });
    store.run(&node);
    Ok((node, store))
}

fn announce(running: &RunningNode) {
    let owner = &running.node.owner;
    tracing::info!(
        node = %owner.node, incarnation = %owner.incarnation,
        data = %running.data, admin = %running.admin,
        version = env!("CARGO_PKG_VERSION"), "serving",
    );
}
