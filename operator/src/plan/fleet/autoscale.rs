//! How many pods the load asks for. More at once; fewer only when a whole window asked for no more, and never
//! while pods are exchanged.

use crate::observe::{Load, Observed};
use crate::validate::Autoscale;

/// Pods for a load, within the bounds.
fn asked(by: &Autoscale, load: Load) -> i64 {
    let pods = |count: u64, target: Option<i32>| {
        let target =
            target.and_then(|target| u64::try_from(target).ok()).filter(|target| *target > 0);
        target.map_or(0, |target| i64::try_from(count.div_ceil(target)).unwrap_or(i64::MAX))
    };
    let asked =
        pods(load.sessions, by.sessions_per_pod).max(pods(load.streams, by.streams_per_pod));
    bound(by, asked)
}

fn bound(by: &Autoscale, pods: i64) -> i64 {
    pods.clamp(i64::from(by.min), i64::from(by.max.max(by.min)))
}

/// Pods that there should be. `exchanged`: pods of another revision are still there.
pub(super) fn wanted(by: &Autoscale, observed: &Observed, exchanged: bool) -> i64 {
    let there = observed.sets().iter().map(|set| set.replicas).sum();
    let current = bound(by, observed.wanted_before.filter(|wanted| *wanted > 0).unwrap_or(there));
    let up = asked(by, observed.load);
    if up > current {
        return up;
    }
    match observed.peak {
        // An operator that has just begun does not know what a whole window asked for.
        Some(peak) if !exchanged => asked(by, peak).min(current),
        _ => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by() -> Autoscale {
        Autoscale { min: 2, max: 6, sessions_per_pod: Some(100), streams_per_pod: Some(20) }
    }

    fn seen(wanted: i64, sessions: u64, streams: u64, peak: Option<u64>) -> Observed {
        Observed {
            wanted_before: Some(wanted),
            load: Load { sessions, streams },
            peak: peak.map(|sessions| Load { sessions, streams: 0 }),
            ..Observed::default()
        }
    }

    #[test]
    fn it_grows_at_once_by_whatever_asks_for_more_and_stays_within_its_bounds() {
        assert_eq!(wanted(&by(), &seen(2, 201, 0, None), false), 3);
        assert_eq!(wanted(&by(), &seen(2, 10, 81, None), false), 5);
        assert_eq!(wanted(&by(), &seen(2, 9_999, 0, None), true), 6);
        assert_eq!(wanted(&by(), &seen(0, 0, 0, None), false), 2);
    }

    #[test]
    fn it_shrinks_only_after_a_whole_window_and_not_while_pods_are_exchanged() {
        assert_eq!(wanted(&by(), &seen(5, 10, 0, None), false), 5, "it has just begun");
        assert_eq!(wanted(&by(), &seen(5, 10, 0, Some(450)), false), 5);
        assert_eq!(wanted(&by(), &seen(5, 10, 0, Some(301)), false), 4);
        assert_eq!(wanted(&by(), &seen(5, 10, 0, Some(10)), true), 5, "pods are exchanged");
        assert_eq!(wanted(&by(), &seen(5, 10, 0, Some(10)), false), 2);
    }
}
