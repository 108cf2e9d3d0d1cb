//! When users come: a rate that ramps up from a tenth, stays, and ramps down, as in the load
//! profile of the original design (2 min up, 5 min level, 1 min down). Pure.

use std::time::Duration;

/// Share of the time in which the rate rises.
const UP: f64 = 0.25;
/// Share of the time in which it falls.
const DOWN: f64 = 0.125;
/// The rate at both ends, as a share of the height.
const FLOOR: f64 = 0.1;

/// Arrival times of users, from the start of the run.
#[derive(Clone, Debug)]
pub struct Arrivals {
    users: u64,
    next: u64,
    seconds: f64,
}

/// Users that have come after the share `t` of the time, at a height of one user a unit.
fn area(t: f64) -> f64 {
    let ramp = |x: f64, width: f64| FLOOR * x + (1.0 - FLOOR) * x * x / (2.0 * width);
    let up = ramp(t.min(UP), UP);
    let level = (t.min(1.0 - DOWN) - UP).max(0.0);
    let left = (1.0 - t).min(DOWN);
    let down = ramp(DOWN, DOWN) - ramp(left, DOWN);
    up + level + down
}

impl Arrivals {
    /// `users` users within `duration`; without one, as long as it takes at `rate` users a second.
    pub fn new(users: u64, rate: f64, duration: Option<Duration>) -> Self {
        let needed = users as f64 / (rate.max(0.001) * area(1.0));
        let seconds = duration.map_or(needed, |duration| duration.as_secs_f64());
        Self { users, next: 0, seconds }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.next >= self.users {
            return None;
        }
        let wanted = area(1.0) * self.next as f64 / self.users as f64;
        self.next += 1;
        // Bisection: `area` only rises. 40 halvings are exact enough for any run.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if area(middle) < wanted { low = middle } else { high = middle }
        }
        Some(Duration::from_secs_f64(low * self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(times: &[Duration], from: f64, to: f64) -> usize {
        times.iter().filter(|t| (from..to).contains(&t.as_secs_f64())).count()
    }

    #[test]
    fn the_rate_rises_stays_and_falls() {
        let times: Vec<_> = Arrivals::new(40_200, 100.0, None).collect();
        assert_eq!(times.len(), 40_200);
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
        let end = times[times.len() - 1].as_secs_f64();
        let level = within(&times, end * 0.5, end * 0.5 + 10.0);
        assert!((990..1_010).contains(&level), "{level} in 10 s");
        assert!(within(&times, 0.0, 1.0) < 20);
        assert!(within(&times, end - 1.0, end) < 20);
    }

    #[test]
    fn a_duration_stretches_it() {
        let times: Vec<_> = Arrivals::new(100, 1.0, Some(Duration::from_secs(10))).collect();
        assert_eq!(times.len(), 100);
        assert!(times[99] <= Duration::from_secs(10) && times[99] > Duration::from_secs(9));
        assert_eq!(Arrivals::new(0, 1.0, None).count(), 0);
    }
}
