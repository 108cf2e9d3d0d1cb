//! What a running node takes up: some of its settings. Read where they are used, never once for all; who
//! reads them holds what he read, so that one decision is made by one set of them.

use protocol::Settings;
use protocol::hot::Hot;
use protocol::settings::{Drain, Limits};
use std::sync::{Arc, PoisonError, RwLock};

/// The settings that may change while a node runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// Of whoever wrote them; 0: none were written.
    pub generation: u64,
    /// Bounds of one node and one user.
    pub limits: Limits,
    /// Going away.
    pub drain: Drain,
}

/// Holds them.
pub struct HotSettings(RwLock<Arc<Current>>);

impl HotSettings {
    /// As the settings have them.
    pub fn new(settings: &Settings) -> Self {
        Self(RwLock::new(Arc::new(current(0, settings))))
    }

    /// As they are now.
    pub fn now(&self) -> Arc<Current> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lays `hot` over what the node was started with.
    pub(crate) fn take(&self, settings: &Settings, hot: &Hot) {
        let current = Arc::new(current(hot.generation, &hot.over(settings)));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = current;
    }
}

fn current(generation: u64, settings: &Settings) -> Current {
    Current { generation, limits: settings.limits.clone(), drain: settings.drain.clone() }
}
