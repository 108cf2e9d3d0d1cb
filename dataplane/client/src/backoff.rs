//! When to try again: full jitter between nothing and a ceiling that doubles, and a memory that is
//! not wiped by a connection that breaks at once. Pure: chance and time come in as arguments.

use rand::Rng;
use std::time::Duration;

/// Ceiling of the first delay.
pub const FIRST: Duration = Duration::from_millis(100);
/// Ceiling of every delay.
pub const LONGEST: Duration = Duration::from_secs(10);
/// A connection must have lived so long before failures are forgotten.
pub const STABLE: Duration = Duration::from_secs(30);

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Failures since the last stable connection.
    pub fn failures(self) -> u32 {
        self.failures
    }

    /// One more failure of a connection that lived for `lived`; how long to wait now.
    pub fn failed(&mut self, lived: Duration, rng: &mut impl Rng) -> Duration {
        if lived >= STABLE {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let ceiling = FIRST.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST);
        ceiling.mul_f64(rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn ceilings_double_up_to_the_longest() {
        let mut rng = SmallRng::seed_from_u64(1);
        let (mut backoff, mut longest) = (Backoff::default(), Duration::ZERO);
        for n in 0..40 {
            let delay = backoff.failed(Duration::ZERO, &mut rng);
            assert!(
                delay <= LONGEST && delay <= FIRST.saturating_mul(1 << n.min(16)),
                "{n}: {delay:?}"
            );
            longest = longest.max(delay);
        }
        assert!(longest > LONGEST / 2, "{longest:?}");
    }

    #[test]
    fn only_a_stable_connection_is_forgiven() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed(STABLE / 2, &mut rng);
        }
        assert_eq!(backoff.failures(), 5);
        backoff.failed(STABLE, &mut rng);
        assert_eq!(backoff.failures(), 1);
    }
}
