//! What happens to an orphan: the table of takeover policies. Pure.

use jiff::Timestamp;
use protocol::server_frame::TakeoverMode;
use protocol::settings::{Settings, TakeoverPolicy};
use protocol::{ErrorCode, SealStatus};
use std::time::Duration;
use streamlog::{Keep, Orphan, OrphanCause};

/// What to do with an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Claim it and go on.
    TakeOver {
        /// What of the log is kept.
        keep: Keep,
        /// Told to followers.
        mode: TakeoverMode,
    },
    /// Claim it and seal it. Needs no place.
    End {
        /// How it ended.
        status: SealStatus,
        /// Why, for a failure.
        code: Option<ErrorCode>,
    },
}

const INTERRUPTED: Decision =
    Decision::End { status: SealStatus::Failed, code: Some(ErrorCode::Interrupted) };

/// Decides on one orphan. `can_continue`: the provider can go on from what is there.
pub fn decide(
    orphan: &Orphan,
    settings: &Settings,
    can_continue: bool,
    now: Timestamp,
) -> Decision {
    let ownership = &settings.ownership;
    let age = now.duration_since(orphan.opening.started_at);
    if orphan.cancel {
        return Decision::End { status: SealStatus::Cancelled, code: None };
    }
    if age.as_millis() >= i128::from(settings.stream.total_ms) {
        let code = Some(ErrorCode::StreamTimeout);
        return Decision::End { status: SealStatus::Failed, code };
    }
    let unclaimed = orphan.since >= Duration::from_millis(ownership.unclaimed_ms);
    let barren = orphan.barren + 1 >= ownership.max_barren_takeovers;
    if unclaimed || barren {
        return INTERRUPTED;
    }
    let policy = match orphan.cause {
        // A drain hands over what it could not finish: never less than `continue`.
        OrphanCause::HandOver => TakeoverPolicy::Continue,
        OrphanCause::Dead => ownership.takeover,
    };
    match policy {
        TakeoverPolicy::Continue if can_continue => {
            Decision::TakeOver { keep: Keep::Tail, mode: TakeoverMode::Continue }
        }
        TakeoverPolicy::Fail => INTERRUPTED,
        // A tool may have had an effect: such an answer is never asked for twice.
        TakeoverPolicy::Continue | TakeoverPolicy::Restart if orphan.used_tools => INTERRUPTED,
        TakeoverPolicy::Continue | TakeoverPolicy::Restart => {
            Decision::TakeOver { keep: Keep::Nothing, mode: TakeoverMode::Restart }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::context::tests::opening;
    use protocol::{Epoch, Incarnation, NodeName};
    use streamlog::Owner;
    use uuid::Uuid;

    fn orphan() -> Orphan {
        let opening = opening("alice");
        Orphan {
            stream: opening.message,
            opening,
            epoch: Epoch(1),
            owner: Owner { node: NodeName::new("a"), incarnation: Incarnation(Uuid::nil()) },
            cause: OrphanCause::Dead,
            since: Duration::ZERO,
            barren: 0,
            cancel: false,
            used_tools: false,
        }
    }

    fn with(policy: TakeoverPolicy) -> Settings {
        let mut settings = Settings::default();
        settings.ownership.takeover = policy;
        settings
    }

    fn at(orphan: &Orphan, ms: i64) -> Timestamp {
        orphan.opening.started_at + jiff::SignedDuration::from_millis(ms)
    }

    const CONTINUE: Decision =
        Decision::TakeOver { keep: Keep::Tail, mode: TakeoverMode::Continue };
    const RESTART: Decision =
        Decision::TakeOver { keep: Keep::Nothing, mode: TakeoverMode::Restart };

    #[test]
    fn the_policy_after_a_crash() {
        let o = orphan();
        let tools = Orphan { used_tools: true, ..orphan() };
        let marked = Orphan { cause: OrphanCause::HandOver, ..orphan() };
        for (orphan, policy, can_continue, expected) in [
            (&o, TakeoverPolicy::Continue, true, CONTINUE),
            (&o, TakeoverPolicy::Continue, false, RESTART),
            (&o, TakeoverPolicy::Restart, true, RESTART),
            (&o, TakeoverPolicy::Fail, true, INTERRUPTED),
            (&tools, TakeoverPolicy::Continue, true, CONTINUE),
            (&tools, TakeoverPolicy::Continue, false, INTERRUPTED),
            (&tools, TakeoverPolicy::Restart, true, INTERRUPTED),
            (&marked, TakeoverPolicy::Fail, true, CONTINUE),
            (&marked, TakeoverPolicy::Restart, true, CONTINUE),
        ] {
            let decided = decide(orphan, &with(policy), can_continue, at(orphan, 0));
            assert_eq!(decided, expected, "{policy:?} {can_continue} {:?}", orphan.cause);
        }
    }

    #[test]
    fn what_ends_an_orphan() {
        let settings = Settings::default();
        let end = |status, code| Decision::End { status, code };
        let cancelled = Orphan { cancel: true, ..orphan() };
        assert_eq!(
            decide(&cancelled, &settings, true, at(&cancelled, 0)),
            end(SealStatus::Cancelled, None)
        );
        let o = orphan();
        assert_eq!(
            decide(&o, &settings, true, at(&o, 300_000)),
            end(SealStatus::Failed, Some(ErrorCode::StreamTimeout))
        );
        let unclaimed = Orphan { since: Duration::from_secs(30), ..orphan() };
        assert_eq!(decide(&unclaimed, &settings, true, at(&unclaimed, 0)), INTERRUPTED);
        let second = Orphan { barren: 1, ..orphan() };
        assert_eq!(decide(&second, &settings, true, at(&second, 0)), CONTINUE);
        let third = Orphan { barren: 2, ..orphan() };
        assert_eq!(decide(&third, &settings, true, at(&third, 0)), INTERRUPTED);
    }
}
