//! The engines that a node's settings ask for.

use crate::config::Config;
use crate::node::Engines;
use protocol::settings;
use std::sync::Arc;
use streamlog::memory::MemoryStore;
use streamlog::{Clock, Ids, Owner};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a node is built on.
pub struct Store {
    engines: Engines,
    stop: CancellationToken,
}

impl Store {
    /// The traits a node wants.
    pub fn engines(&self) -> Engines {
        self.engines.clone()
    }

    /// Starts whatever the engines do by themselves.
    pub fn run(&self, _tasks: &TaskTracker) {}

    /// Ends it.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Whether the store could be opened, as far as that can be known without reaching it.
///
/// # Errors
/// A text for people.
pub fn check(config: &Config) -> Result<(), String> {
    match &config.settings.store {
        settings::Store::Memory => Ok(()),
        settings::Store::Redis(_) => Err("store.redis: not in this build".to_owned()),
    }
}

/// Opens the store for one incarnation.
///
/// # Errors
/// A text for people.
pub fn open(config: &Config, owner: &Owner, clock: &Clock, ids: &Ids) -> Result<Store, String> {
    check(config)?;
    let handle = MemoryStore::new(clock.clone(), ids.uuid()).handle(owner.clone());
    let engines = Engines {
        log: Arc::new(handle.clone()),
        directory: Arc::new(handle.clone()),
        registry: Arc::new(handle.clone()),
        bus: Arc::new(handle),
    };
    Ok(Store { engines, stop: CancellationToken::new() })
}
