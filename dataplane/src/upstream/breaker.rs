//! When a provider that fails is not asked. Pure: moments and outcomes in, decisions out.
//!
//! A call is over when its stream is: one that dies midway is a failure, and a probe that only began
//! well proves nothing.

use std::time::Duration;
use tokio::time::Instant;

/// Calls that are remembered.
const WINDOW: u32 = 10;
/// So many failures among them open it: half.
const FAILURES: u32 = 5;
/// So long no call goes through.
pub const OPEN_FOR: Duration = Duration::from_secs(30);
/// Then one call in this time goes through, until one of them ends well.
pub const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Every call.
    Closed,
    /// None.
    Open,
    /// One a second.
    HalfOpen,
}

/// The right to one call. Its outcome is reported with it, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// How often the breaker had opened by then.
    opened: u64,
}

/// Counts the calls of one provider.
#[derive(Debug, Default)]
pub struct Breaker {
    /// The last calls, the newest in the lowest bit: 1 failed.
    last: u32,
    opened: u64,
    open: Option<Opened>,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    until: Instant,
    /// The next probe may go then.
    probe_at: Instant,
}

impl Breaker {
    /// Lets a call through, or not.
    pub fn admit(&mut self, now: Instant) -> Option<Permit> {
        if let Some(open) = &mut self.open {
            if now < open.probe_at {
                return None;
            }
            open.probe_at = now + PROBE_EVERY;
        }
        Some(Permit { opened: self.opened })
    }

    /// Whether [`Self::admit`] would.
    pub fn would_admit(&self, now: Instant) -> bool {
        self.open.is_none_or(|open| now >= open.probe_at)
    }

    /// A call ended. Calls from before it opened say nothing about the provider now.
    pub fn report(&mut self, permit: Permit, failed: bool, now: Instant) {
        if permit.opened != self.opened {
            return;
        }
        if self.open.is_some() {
            if !failed {
                (self.open, self.last) = (None, 0);
            }
            return;
        }
        self.last = (self.last << 1 | u32::from(failed)) & ((1 << WINDOW) - 1);
        if self.last.count_ones() >= FAILURES {
            let until = now + OPEN_FOR;
            self.open = Some(Opened { until, probe_at: until });
            self.opened += 1;
        }
    }

    /// What it lets through.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.open {
            None => BreakerState::Closed,
            Some(open) if now < open.until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// How often it opened.
    pub fn opened(&self) -> u64 {
        self.opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn start() -> Instant {
        Instant::now()
    }

    fn run(breaker: &mut Breaker, outcomes: &str, now: Instant) {
        for outcome in outcomes.chars() {
            let permit = breaker.admit(now).unwrap();
            breaker.report(permit, outcome == 'x', now);
        }
    }

    #[test]
    fn half_of_the_last_ten_calls_open_it() {
        let now = start();
        for (outcomes, expected) in [
            ("xxxx", BreakerState::Closed),
            ("xxxxx", BreakerState::Open),
            (".x.x.x.x.", BreakerState::Closed),
            (".x.x.x.x.x", BreakerState::Open),
            ("xxxx......x", BreakerState::Closed),
            ("xxxx.....x", BreakerState::Open),
        ] {
            let mut breaker = Breaker::default();
            run(&mut breaker, outcomes, now);
            assert_eq!(breaker.state(now), expected, "{outcomes}");
        }
    }

    #[test]
    fn after_thirty_seconds_one_probe_a_second_goes_through_until_one_ends_well() {
        let now = start();
        let at = |seconds: f64| now + Duration::from_secs_f64(seconds);
        let mut breaker = Breaker::default();
        let early = breaker.admit(now).unwrap();
        run(&mut breaker, "xxxxx", now);
        assert_eq!(breaker.admit(at(29.9)), None);
        assert!(!breaker.would_admit(at(29.9)));
        breaker.report(early, false, at(29.9));
        assert_eq!(breaker.state(at(29.9)), BreakerState::Open, "a call from before says nothing");
        let probe = breaker.admit(at(30.0)).unwrap();
        assert_eq!(breaker.state(at(30.0)), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(at(30.9)), None, "whatever becomes of the first probe");
        breaker.report(probe, true, at(30.9));
        let (second, third) = (breaker.admit(at(31.0)).unwrap(), breaker.admit(at(32.0)).unwrap());
        breaker.report(second, false, at(32.5));
        assert_eq!(breaker.state(at(32.5)), BreakerState::Closed);
        breaker.report(third, true, at(33.0));
        run(&mut breaker, "xxx", at(34.0));
        assert_eq!(breaker.state(at(34.0)), BreakerState::Closed);
        run(&mut breaker, "x", at(34.0));
        assert_eq!((breaker.state(at(34.0)), breaker.opened()), (BreakerState::Open, 2));
    }

    proptest! {
        /// Against the definition: the last ten outcomes since it last closed.
        #[test]
        fn it_is_open_exactly_after_half_of_ten_failed(steps in prop::collection::vec((any::<bool>(), 0u64..40), 1..200)) {
            let mut now = start();
            let mut breaker = Breaker::default();
            let (mut window, mut opened_at) = (VecDeque::new(), None::<Instant>);
            let mut last_probe = None::<Instant>;
            for (failed, wait) in steps {
                now += Duration::from_secs(wait);
                let expected = match opened_at {
                    None => true,
                    Some(at) => now >= at + OPEN_FOR
                        && last_probe.is_none_or(|probe| now >= probe + PROBE_EVERY),
                };
                let permit = breaker.admit(now);
                prop_assert_eq!(permit.is_some(), expected);
                let Some(permit) = permit else { continue };
                breaker.report(permit, failed, now);
                if opened_at.is_some() {
                    last_probe = Some(now);
                    if !failed {
                        (opened_at, last_probe) = (None, None);
                        window.clear();
                    }
                } else {
                    window.push_back(failed);
                    if window.len() > 10 {
                        window.pop_front();
                    }
                    if window.iter().filter(|failed| **failed).count() >= 5 {
                        opened_at = Some(now);
                    }
                }
                prop_assert_eq!(breaker.state(now) == BreakerState::Closed, opened_at.is_none());
            }
        }
    }
}
