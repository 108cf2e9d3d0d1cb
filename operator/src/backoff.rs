//! When a cluster whose pass failed is tried again: from 1 s, doubled up to 5 min, with full jitter
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>), for each on its own.

use rand::Rng as _;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row, by cluster.
#[derive(Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// It failed once more: wait this long.
    pub fn failed(&self, cluster: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(cluster.to_owned()).or_default();
        *count = count.saturating_add(1);
        let bound = bound(*count);
        rand::rng().random_range(FIRST / 2..=bound)
    }

    /// It went well, or is gone.
    pub fn forget(&self, cluster: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }
}

fn bound(failures: u32) -> Duration {
    FIRST.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_five_minutes_and_a_success_resets_it() {
        let bounds: Vec<_> =
            [1, 2, 3, 9, 10, u32::MAX].map(|failures| bound(failures).as_secs()).into();
        assert_eq!(bounds, [1, 2, 4, 256, 300, 300]);
        let backoff = Backoff::default();
        for _ in 0..20 {
            assert!(backoff.failed("a") <= LONGEST);
        }
        backoff.forget("a");
        assert!(backoff.failed("a") <= FIRST);
    }
}
