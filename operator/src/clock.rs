//! Wall time, for leases and conditions: the one place that reads it. Whatever decides is given the time.

use jiff::Timestamp;

/// Now.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Timestamp {
    Timestamp::now()
}
