//! The embedded playground (protocol section 7): several nodes to break at will, as threads over the
//! memory store (tests: also over Redis), or as processes over Redis.
//!
//! ```text
//!  main thread        control thread                   World, which boots a Life each time
//!  signals, banner    page, /dev, one Control a node ─▶ threads:   runtime, Node, Store
//!                                                    ─▶ processes: `dataplane run`, one Redis
//! ```
//! Reading order: [`fleet`] → `life` → `member` → `threads` → `freezer` → `processes` → `child` →
//! `admin_client` → `call_files` → `redis` → `ports` → `http`.

mod admin_client;
mod banner;
mod call_files;
mod child;
pub mod fleet;
mod freezer;
mod http;
mod life;
mod member;
mod options;
mod ports;
mod processes;
mod redis;
mod threads;

pub use fleet::{Fleet, FleetError, FleetOptions, Kind, Ports, WrapEngines};
pub use options::Args;
pub(crate) use options::switch_on;

use protocol::Settings;
use protocol::settings::{Auth, Limits};

use crate::telemetry;
use anyhow::Context as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// Settings of a playground: wide limits, tokens in the query.
pub fn settings() -> Settings {
    Settings {
        auth: Auth { token_in_query: true, ..Auth::default() },
        limits: Limits {
            requests_per_minute: 6_000,
            request_burst: 1_000,
            sessions: 100_000,
            sockets_per_user: 1_000,
            answers_per_user: 1_000,
            ..Limits::default()
        },
        ..Settings::default()
    }
}

/// Something asked for that this playground does not have.
const UNSUPPORTED: u8 = 2;
/// Everything has ended by then, or is left to the end of the process.
const STOP: Duration = Duration::from_millis(1_500);

/// Runs the playground until Ctrl-C or SIGTERM.
///
/// # Errors
/// What the operating system refused.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let environment = |name: &str| std::env::var_os(name);
    let options = match args.fleet(&environment) {
        Ok(options) => options,
        Err(refused) => {
            eprintln!("playground: {refused}");
            return Ok(ExitCode::from(UNSUPPORTED));
        }
    };
    // The terminal stays calm unless somebody asks: a killed node is no news here.
    telemetry::init_at(false, LevelFilter::WARN);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything runs: a signal that comes early must not be lost.
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
        let fleet = match Fleet::start(options).await {
            Ok(fleet) => fleet,
            Err(error) => {
                eprintln!("playground: {}", banner::explain(&error));
                return Ok(ExitCode::FAILURE);
            }
        };
        banner::print(&fleet);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop(fleet).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Ends all nodes, without waiting for one that blocks.
async fn stop(fleet: Fleet) {
    let ended = tokio::task::spawn_blocking(move || drop(fleet));
    let _ = tokio::time::timeout(STOP, ended).await;
}
