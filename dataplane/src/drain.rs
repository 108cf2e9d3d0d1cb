//! Going away without anybody noticing: phases as a watch value, and who is told what when.

use crate::node::Node;
use protocol::drain::{DrainPolicy, DrainRequest};
use protocol::{DrainPhase, DrainReport, ErrorCode};
use std::sync::Arc;
use tokio::sync::watch;

/// Where the node stands.
pub struct Drain {
    phase: watch::Sender<DrainPhase>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { phase: watch::Sender::new(DrainPhase::Serving) }
    }
}

impl Drain {
    /// The phase now.
    pub fn phase(&self) -> DrainPhase {
        *self.phase.borrow()
    }

    /// Whether new streams and sockets are accepted.
    pub fn is_serving(&self) -> bool {
        self.phase() == DrainPhase::Serving
    }

    /// Wakes on every change of the phase.
    pub fn watch(&self) -> watch::Receiver<DrainPhase> {
        self.phase.subscribe()
    }
}

impl Node {
    /// Starts a drain (or repeats one). Returns at once; the phases follow.
    ///
    /// # Errors
    /// STALE_EPOCH for a lower epoch than the last accepted.
    pub fn start_drain(self: &Arc<Self>, request: &DrainRequest) -> Result<(), ErrorCode> {
        let _ = (request, DrainPolicy::Finish);
        Ok(())
    }

    /// Calls a drain off while that is possible.
    ///
    /// # Errors
    /// STALE_EPOCH for a lower epoch than the last accepted.
    pub fn cancel_drain(self: &Arc<Self>, epoch: u64) -> Result<(), ErrorCode> {
        let _ = epoch;
        Ok(())
    }

    /// The node's report about itself.
    pub fn drain_report(&self) -> DrainReport {
        DrainReport {
            node: self.owner.node.to_string(),
            incarnation: self.owner.incarnation,
            phase: self.drain.phase(),
            epoch: 0,
            sessions: self.sockets.len(),
            streams: self.streams.len(),
            remaining_ms: None,
        }
    }
}
