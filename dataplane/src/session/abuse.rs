//! How many bad frames a client sent lately (protocol section 2).

/// More bad frames than this in [`WINDOW_MS`] close 4502.
pub const MOST_BAD_FRAMES: usize = 20;
/// The window, in milliseconds.
pub const WINDOW_MS: u64 = 10_000;

/// Times of the latest bad frames; takes no memory for a client that sends none.
#[derive(Debug, Default)]
pub struct BadFrames {
    at_ms: Vec<u64>,
}

impl BadFrames {
    /// Counts one more. `true`: that is too many.
    pub fn count(&mut self, now_ms: u64) -> bool {
        self.at_ms.retain(|at| now_ms.saturating_sub(*at) < WINDOW_MS);
        self.at_ms.push(now_ms);
        self.at_ms.len() > MOST_BAD_FRAMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twenty_first_within_ten_seconds_is_too_many() {
        let mut bad = BadFrames::default();
        assert!((0..20).all(|i| !bad.count(i * 400)));
        assert!(bad.count(9_999));
    }

    #[test]
    fn a_slow_offender_is_never_too_many() {
        let mut bad = BadFrames::default();
        assert!((0..1_000).all(|i| !bad.count(i * 500)));
    }
}
