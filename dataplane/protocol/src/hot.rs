//! Settings that a running node takes up. Everything else needs a new process.

use crate::settings::{Drain, Limits, Settings};
use serde::{Deserialize, Serialize};

/// One file; what it leaves out stays as the settings have it. Whatever needs a new process is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hot {
    /// Of whoever wrote it; a node's report names the one that it has taken up.
    #[serde(default)]
    pub generation: u64,
    /// Bounds of one node and one user.
    #[serde(default)]
    pub limits: HotLimits,
    /// Going away.
    #[serde(default)]
    pub drain: HotDrain,
}

/// Of [`Limits`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_docs)]
pub struct HotLimits {
    pub streams: Option<usize>,
    pub sessions: Option<usize>,
    pub requests_per_minute: Option<u32>,
    pub request_burst: Option<u32>,
    pub sockets_per_user: Option<usize>,
    pub answers_per_user: Option<usize>,
}

/// Of [`Drain`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_docs)]
pub struct HotDrain {
    pub deadline_ms: Option<u64>,
    pub goaways_per_second: Option<u32>,
}

impl Hot {
    /// The settings with these laid over them.
    pub fn over(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        self.limits.over(&mut settings.limits);
        let Drain { deadline_ms, goaways_per_second, .. } = &mut settings.drain;
        lay(deadline_ms, self.drain.deadline_ms);
        lay(goaways_per_second, self.drain.goaways_per_second);
        settings
    }
}

impl HotLimits {
    fn over(&self, limits: &mut Limits) {
        lay(&mut limits.streams, self.streams);
        lay(&mut limits.sessions, self.sessions);
        lay(&mut limits.requests_per_minute, self.requests_per_minute);
        lay(&mut limits.request_burst, self.request_burst);
        lay(&mut limits.sockets_per_user, self.sockets_per_user);
        lay(&mut limits.answers_per_user, self.answers_per_user);
    }
}

fn lay<T>(over: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *over = value;
    }
}
