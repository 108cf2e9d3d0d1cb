//! The embedded playground (protocol section 7): several nodes in one process over the memory
//! store, to break at will.
//!
//! ```text
//!  main thread        control thread                   one thread a node
//!  signals, banner    page, /dev, one Control a node ─▶ Incarnation: runtime, Node, MemoryHandle
//! ```
//! Reading order: [`fleet`] → `member` → `incarnation` → `freezer` → `ports` → `http`.

mod banner;
pub mod fleet;
mod freezer;
mod http;
mod incarnation;
mod member;
mod options;
mod ports;

pub use fleet::{Fleet, FleetError, FleetOptions, Ports, WrapEngines};
pub use options::Args;

use crate::telemetry;
use anyhow::Context as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// Something asked for that this playground does not have.
const UNSUPPORTED: u8 = 2;
/// Everything has ended by then, or is left to the end of the process.
const STOP: Duration = Duration::from_millis(1_500);

/// Runs the playground until Ctrl-C or SIGTERM.
///
/// # Errors
/// What the operating system refused.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = match args.fleet() {
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
