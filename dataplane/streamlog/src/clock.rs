//! Time, ids and chance come through the door: everything that needs them gets a [`Clock`] and an
//! [`Ids`], so that a seed and virtual time repeat a run exactly.

use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Monotonic and wall time. Monotonic time is tokio's, which tests can pause.
#[derive(Clone, Debug)]
pub struct Clock {
    base: Instant,
    wall: Wall,
    /// A moment on both clocks, at most [`ANCHOR_FOR`] old when it is used.
    anchor: Arc<Mutex<(Instant, i64)>>,
}

/// So long may wall time be counted on from a moment at which it was read: how late a clock that was
/// set is followed.
const ANCHOR_FOR: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Wall {
    System,
    Since(Timestamp),
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self::with(Wall::System)
    }

    /// Wall time that starts at `start` and moves with tokio's (pausable) time.
    pub fn starting_at(start: Timestamp) -> Self {
        Self::with(Wall::Since(start))
    }

    fn with(wall: Wall) -> Self {
        let base = Instant::now();
        let clock = Self { base, wall, anchor: Arc::new(Mutex::new((base, 0))) };
        clock.cast_anchor(base);
        clock
    }

    fn cast_anchor(&self, now: Instant) -> (Instant, i64) {
        let anchor = (now, self.wall().as_millisecond());
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) = anchor;
        anchor
    }

    /// Wall time at `now`, a moment that was just read: for what happens with every chunk, at a small
    /// part of the price of [`Self::wall`].
    pub fn wall_at(&self, now: Instant) -> Timestamp {
        let (at, wall) = *self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = match now.checked_duration_since(at) {
            Some(since) if since < ANCHOR_FOR => wall + i64::from(since.subsec_millis()),
            _ => self.cast_anchor(now).1,
        };
        Timestamp::from_millisecond(millis).unwrap_or_else(|_| self.wall())
    }

    /// Monotonic time.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Wall time, cut to milliseconds: what frames and records carry.
    #[allow(clippy::disallowed_methods)] // The one place that reads the wall clock.
    pub fn wall(&self) -> Timestamp {
        let exact = match self.wall {
            Wall::System => Timestamp::now(),
            Wall::Since(start) => {
                let passed = Instant::now().saturating_duration_since(self.base);
                start.checked_add(passed).unwrap_or(start)
            }
        };
        Timestamp::from_millisecond(exact.as_millisecond()).unwrap_or(exact)
    }
}

/// Makes UUIDv7s and random numbers from one seed.
#[derive(Clone)]
pub struct Ids {
    clock: Clock,
    rng: Arc<Mutex<SmallRng>>,
}

impl Ids {
    /// Ids that repeat with the seed (and the clock).
    pub fn seeded(clock: Clock, seed: u64) -> Self {
        Self { clock, rng: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    /// Ids nobody can guess, for production.
    pub fn random(clock: Clock) -> Self {
        Self { clock, rng: Arc::new(Mutex::new(SmallRng::from_os_rng())) }
    }

    /// A UUIDv7 (RFC 9562): ordered by time.
    pub fn uuid(&self) -> Uuid {
        let millis = self.clock.wall().as_millisecond().max(0) as u64;
        let random: [u8; 10] = self.with(|rng| rng.random());
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A number in `0..bound`; 0 for an empty range.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.with(|rng| rng.random_range(0..bound)) }
    }

    /// A duration in `0..=most`.
    pub fn jitter(&self, most: Duration) -> Duration {
        Duration::from_millis(self.below(most.as_millis() as u64 + 1))
    }

    fn with<T>(&self, f: impl FnOnce(&mut SmallRng) -> T) -> T {
        f(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
