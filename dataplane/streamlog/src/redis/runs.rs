//! Which run of the store this engine talks to, and since when: a store that came back as another run
//! may not have everything back yet.

use crate::clock::Clock;
use crate::error::LogError;
use crate::log::{RUN_GRACE, RUN_RETRY};
use jiff::Timestamp;
use protocol::MessageId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// What a store says of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) id: Uuid,
    /// When it began, by the store's clock, cut to seconds; `None`: the store does not say.
    pub(super) began: Option<Timestamp>,
    /// How long ago that was, cut to seconds.
    pub(super) age: Duration,
}

/// Shared by all connections of an engine: whichever comes first learns of a new run, before it
/// carries any command.
#[derive(Clone)]
pub(super) struct Runs {
    clock: Clock,
    made: Timestamp,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    run: Option<Uuid>,
    changed: Option<Instant>,
    young: Option<Young>,
}

/// The first run that this engine met had begun a moment ago: perhaps it is the successor of one that
/// others knew.
struct Young {
    /// Until when they may be writing back.
    until: Instant,
    /// What was made before this time cannot have begun in it.
    since: Timestamp,
}

impl Runs {
    pub(super) fn new(clock: Clock) -> Self {
        Self { made: clock.wall(), clock, seen: Arc::default() }
    }

    /// A connection found this run at its other end.
    pub(super) fn saw(&self, run: Run) {
        let now = self.clock.now();
        let mut seen = self.lock();
        match (seen.run.replace(run.id), run.began) {
            (Some(known), _) if known != run.id => seen.changed = Some(now),
            (None, Some(began)) if run.age < RUN_GRACE => {
                // It began within the second after `began`; what is younger than this engine did not
                // exist before that.
                let latest = began.saturating_add(Duration::from_secs(1)).unwrap_or(began);
                let since = latest.min(self.made).max(began);
                seen.young = Some(Young { until: now + (RUN_GRACE - run.age), since });
            }
            _ => {}
        }
    }

    /// What this stream is, which the store does not have: as [`Self::absent`], and where this engine
    /// is as new as the store, perhaps about to be written back if it is older than both.
    pub(super) fn absent_stream(&self, stream: MessageId) -> LogError {
        let doubtful = self.lock().young.as_ref().is_some_and(|young| {
            let made = made_at(stream);
            self.clock.now() < young.until && made.is_some_and(|made| made < young.since)
        });
        if doubtful { LogError::Unavailable { retry: RUN_RETRY } } else { self.absent() }
    }

    /// What a stream, or a promise, is that the store does not have: gone, or perhaps about to be
    /// written back.
    pub(super) fn absent(&self) -> LogError {
        let changed = self.lock().changed;
        let since = changed.map(|at| self.clock.now().saturating_duration_since(at));
        match since {
            Some(since) if since < RUN_GRACE => LogError::Unavailable { retry: RUN_RETRY },
            _ => LogError::NotFound,
        }
    }

    /// `Unavailable` while what is absent may only be on its way back.
    pub(super) fn settled(&self) -> Result<(), LogError> {
        match self.absent() {
            LogError::NotFound => Ok(()),
            away => Err(away),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a stream was named; `None` for a name that no node made.
fn made_at(stream: MessageId) -> Option<Timestamp> {
    let (seconds, nanoseconds) = stream.0.get_timestamp()?.to_unix();
    Timestamp::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Ids;

    fn old(id: u128) -> Run {
        Run { id: Uuid::from_u128(id), began: Some(Timestamp::UNIX_EPOCH), age: 9 * RUN_GRACE }
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_as_new_as_the_store_doubts_only_what_is_older_and_not_for_long() {
        let clock = Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap());
        let ids = Ids::seeded(clock.clone(), 1);
        let older = MessageId(ids.uuid());
        // The store began in this second, at 0.4; the engine is made at 0.6.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let runs = Runs::new(clock.clone());
        let young = MessageId(ids.uuid());
        let began = Some(Timestamp::from_second(1_800_000_000).unwrap());
        runs.saw(Run { id: Uuid::from_u128(1), began, age: Duration::ZERO });
        let away = LogError::Unavailable { retry: RUN_RETRY };
        assert_eq!(runs.absent_stream(older), away);
        assert_eq!(runs.absent_stream(young), LogError::NotFound);
        assert_eq!(runs.absent_stream(MessageId(Uuid::nil())), LogError::NotFound, "no node's");
        assert!(runs.settled().is_ok());
        tokio::time::sleep(RUN_GRACE).await;
        assert_eq!(runs.absent_stream(older), LogError::NotFound);

        let runs = Runs::new(clock);
        runs.saw(old(1));
        assert_eq!(runs.absent_stream(older), LogError::NotFound, "the store is no successor");
    }

    #[tokio::test(start_paused = true)]
    async fn only_another_run_makes_absence_doubtful_and_not_for_long() {
        let runs = Runs::new(Clock::system());
        runs.saw(old(1));
        runs.saw(old(1));
        assert_eq!(runs.absent(), LogError::NotFound);
        runs.saw(old(2));
        assert_eq!(runs.absent(), LogError::Unavailable { retry: RUN_RETRY });
        assert!(runs.settled().is_err());
        tokio::time::sleep(RUN_GRACE / 2).await;
        // The other connections come later.
        runs.saw(old(2));
        tokio::time::sleep(RUN_GRACE / 2).await;
        assert_eq!(runs.absent(), LogError::NotFound);
        assert!(runs.settled().is_ok());
    }
}
