//! Values that are written as text: durations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A span of time: whole numbers with the units `ms`, `s`, `m` and `h`, such as `30s` or `1h30m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Span(
    #[schemars(regex(pattern = r"^([0-9]{1,6}(ms|s|m|h)){1,4}$"), length(min = 2, max = 36))]
    pub  String,
);

impl Span {
    /// The span, or why this is none.
    pub fn parse(&self) -> Result<Duration, String> {
        let wrong = || format!("{:?} is no duration: write it as 30s, 10m or 1h30m", self.0);
        let mut rest = self.0.as_str();
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let millis = match &rest[..unit] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(wrong()),
            };
            total += Duration::from_millis(count.checked_mul(millis).ok_or_else(wrong)?);
            rest = &rest[unit..];
        }
        if self.0.is_empty() { Err(wrong()) } else { Ok(total) }
    }
}

impl From<&str> for Span {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_add_up_and_nonsense_is_refused() {
        for (text, seconds) in [("30s", 30), ("1h30m", 5_400), ("10m", 600), ("1500ms", 1)] {
            assert_eq!(Span::from(text).parse().unwrap().as_secs(), seconds);
        }
        for text in ["", "5", "s", "5d", "-5s", "5s ", "99999999999999999999h"] {
            assert!(Span::from(text).parse().unwrap_err().contains("30s"), "{text:?}");
        }
    }
}
