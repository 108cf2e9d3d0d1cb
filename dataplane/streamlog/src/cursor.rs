//! Whether a client's cursor fits the log: the rule of protocol section 4, "Cursors", as a pure
//! function.

use crate::log::{Head, Page};
use protocol::server_frame::ResetReason;
use protocol::{Digest, Epoch, Index};

/// Where a client stands: it has everything before `next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// First index it lacks.
    pub next: Index,
    /// Epoch of the last chunk it has; `None` counts as 0.
    pub epoch: Option<Epoch>,
    /// Digest of what it has.
    pub digest: Option<Digest>,
}

impl Cursor {
    /// From the start.
    pub const START: Self = Self { next: Index::ZERO, epoch: None, digest: None };

    /// From the start of a stream: what every new follower without chunks has.
    pub const fn at(next: Index) -> Self {
        Self { next, epoch: None, digest: None }
    }

    /// `Some(reason)` where the chunks of this client are not a prefix of the log: it must start
    /// over. `page` must have been read at `self.next`.
    pub fn refuted_by(&self, page: &Page) -> Option<ResetReason> {
        let last = self.next.0.checked_sub(1).map(Index)?;
        let fits = match (self.digest, page.before) {
            _ if last >= page.head.tail => false,
            (Some(mine), Some(before)) => mine == before,
            // Trimmed text cannot be compared; the follower answers EXPIRED anyway.
            (Some(_), None) => true,
            (None, _) => {
                let epoch = self.epoch.unwrap_or_default();
                !page.head.cuts.iter().any(|cut| cut.epoch > epoch && cut.keep <= last)
            }
        };
        (!fits).then(|| reason(&page.head, last, self.epoch.unwrap_or_default()))
    }
}

/// RESTARTED where a restart explains it, ROLLED_BACK otherwise.
fn reason(head: &Head, last: Index, epoch: Epoch) -> ResetReason {
    let restarted = head
        .cuts
        .iter()
        .any(|cut| cut.epoch > epoch && cut.keep <= last && cut.reason == ResetReason::Restarted);
    if restarted { ResetReason::Restarted } else { ResetReason::RolledBack }
}
