//! Whether this node may call another one dead: only after one whole lease time of unbroken contact
//! with one run of the store. So an outage of the store, or of this node, causes no takeover. Pure.

use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Contact with the store, as the renewals tell it.
#[derive(Debug, Default)]
pub struct Contact {
    since: Option<Instant>,
    last: Option<Instant>,
    run: Option<Uuid>,
}

impl Contact {
    /// A renewal was acknowledged at `now` by this run of the store. `true`: an earlier one was
    /// acknowledged by another run, which may have taken what it held along.
    pub fn succeeded(&mut self, now: Instant, run: Uuid, ttl: Duration) -> bool {
        let another = self.run.is_some_and(|known| known != run);
        let gap = self.last.is_none_or(|last| now.saturating_duration_since(last) > ttl);
        if gap || self.run != Some(run) {
            self.since = Some(now);
        }
        self.last = Some(now);
        self.run = Some(run);
        self.since = self.since.or(Some(now));
        another
    }

    /// A renewal failed or was not answered in time.
    pub fn failed(&mut self) {
        self.since = None;
    }

    /// Whether the contact is unbroken for one whole `ttl`, and fresh.
    pub fn is_trusted(&self, now: Instant, ttl: Duration) -> bool {
        let long = self.since.is_some_and(|since| now.saturating_duration_since(since) >= ttl);
        let fresh = self.last.is_some_and(|last| now.saturating_duration_since(last) < ttl);
        long && fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    fn steps(contact: &mut Contact, from: Instant, seconds: std::ops::Range<u64>, run: Uuid) {
        for second in seconds {
            contact.succeeded(from + Duration::from_secs(second), run, TTL);
        }
    }

    #[tokio::test]
    async fn trust_needs_a_whole_ttl_without_failure_in_one_run() {
        let (start, run) = (Instant::now(), Uuid::from_u128(1));
        let at = |s| start + Duration::from_secs(s);
        let mut contact = Contact::default();
        steps(&mut contact, start, 0..5, run);
        assert!(!contact.is_trusted(at(4), TTL));
        steps(&mut contact, start, 5..6, run);
        assert!(contact.is_trusted(at(5), TTL));
        contact.failed();
        assert!(!contact.is_trusted(at(5), TTL));
        steps(&mut contact, start, 6..11, run);
        assert!(!contact.is_trusted(at(10), TTL), "counted from the first success after a failure");
        steps(&mut contact, start, 11..12, run);
        assert!(contact.is_trusted(at(11), TTL));
        assert!(contact.succeeded(at(12), Uuid::from_u128(2), TTL));
        assert!(!contact.succeeded(at(12), Uuid::from_u128(2), TTL), "told once");
        assert!(!contact.is_trusted(at(12), TTL), "another run of the store");
    }

    #[tokio::test]
    async fn a_node_that_slept_trusts_nothing() {
        let (start, run) = (Instant::now(), Uuid::from_u128(1));
        let at = |s| start + Duration::from_secs(s);
        let mut contact = Contact::default();
        steps(&mut contact, start, 0..10, run);
        assert!(!contact.is_trusted(at(20), TTL), "stale");
        contact.succeeded(at(20), run, TTL);
        assert!(!contact.is_trusted(at(20), TTL), "the gap broke the contact");
    }
}
