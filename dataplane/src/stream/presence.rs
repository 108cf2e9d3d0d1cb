//! What a producer writes into and reads from the registry: the user's count of live answers,
//! whether anybody follows, and the finished answer as context of the next.

use super::outcome::Outcome;
use super::producer::{Producer, Step};
use protocol::{Index, OnDisconnect};
use std::time::Duration;
use streamlog::{Key, Space, StreamLog};
use tokio::time::Instant;

/// A count that nobody took back ends this long after the stream's own bound.
const COUNT_SLACK: Duration = Duration::from_secs(60);

impl Producer {
    fn answer_key(&self) -> Key {
        Key::of(Space::Answer, &self.opening.user, self.opening.message)
    }

    /// Counts a live answer of its user.
    pub(super) async fn count_answer(&mut self) {
        let bound = Duration::from_millis(self.node.settings.stream.total_ms) + COUNT_SLACK;
        // A lost count lets the user have one answer more, for once.
        let _ = self.node.registry.put(&self.answer_key(), Vec::new(), bound).await;
    }

    /// The answer is no longer live.
    pub(super) async fn uncount_answer(&mut self) {
        let _ = self.node.registry.remove(&self.answer_key()).await;
    }

    /// Ends an answer that was asked to end when nobody follows it. Time in which the log is away
    /// or this node drains does not count.
    pub(super) async fn look_for_followers(&mut self, now: Instant) -> Step {
        if self.opening.on_disconnect == OnDisconnect::Continue {
            return Step::Continue;
        }
        let key = Key::global(Space::Followed, self.opening.message);
        let alone = matches!(self.node.registry.get(&key).await, Ok(None));
        if !alone || !self.node.drain.is_serving() {
            self.followed = now;
        }
        let limit = Duration::from_millis(self.node.settings.stream.abandoned_ms);
        let abandoned = now.saturating_duration_since(self.followed) >= limit;
        if abandoned { Step::End(Outcome::Cancelled) } else { Step::Continue }
    }

    /// The finished answer goes upstream with the next request of its conversation.
    pub(super) async fn remember_answer(&mut self) {
        let (node, opening) = (&self.node, &self.opening);
        let Ok(page) = node.log.read(opening.message, Index::ZERO, usize::MAX).await else {
            return;
        };
        let chunks = page.batches.iter().flat_map(|batch| &batch.chunks);
        let content: String =
            chunks.filter(|chunk| chunk.kind.is_content()).map(|chunk| &*chunk.content).collect();
        let conversation = opening.conversation;
        for (role, text) in [("user", &opening.content), ("assistant", &content)] {
            if node.remember(conversation, &opening.user, role, text).await.is_err() {
                return;
            }
        }
    }
}
