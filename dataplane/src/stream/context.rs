//! The recent turns of a conversation, which go upstream with the next request. They live in the
//! registry until there is a database.

use crate::node::Node;
use protocol::{ConversationId, ErrorCode, UserId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use streamlog::log::Turn;
use streamlog::{Key, LogError, Space};

/// Messages kept of a conversation.
pub const MAX_TURNS: usize = 20;
/// Bytes kept of a conversation.
pub const MAX_BYTES: usize = 32 * 1024;
/// How long after its last message.
pub const KEEP: Duration = Duration::from_secs(30 * 60);

/// What is remembered of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Whose.
    pub user: UserId,
    /// Oldest first.
    pub turns: Vec<Turn>,
}

impl Conversation {
    /// Adds a message and drops the oldest beyond the bounds.
    pub fn push(&mut self, role: &str, content: &str) {
        self.turns.push(Turn { role: role.to_owned(), content: content.to_owned() });
        let mut bytes: usize = self.turns.iter().map(|turn| turn.content.len()).sum();
        let mut surplus = self.turns.len().saturating_sub(MAX_TURNS);
        for (at, turn) in self.turns.iter().enumerate() {
            if bytes <= MAX_BYTES && at >= surplus {
                break;
            }
            bytes -= turn.content.len();
            surplus = surplus.max(at + 1);
        }
        self.turns.drain(..surplus);
    }
}

impl Node {
    /// The conversation, which is this user's from now on if nobody's it was.
    ///
    /// # Errors
    /// NOT_FOUND for another user's, STORE_UNAVAILABLE.
    pub async fn conversation(
        &self,
        user: &UserId,
        id: ConversationId,
    ) -> Result<Conversation, ErrorCode> {
        let new = Conversation { user: user.clone(), turns: Vec::new() };
        let bytes = serde_json::to_vec(&new).map_err(|_| ErrorCode::Internal)?;
        let key = Key::global(Space::Conversation, id);
        let found = self.registry.put_if_absent(&key, bytes, KEEP).await;
        let Some(bytes) = found.map_err(|_| ErrorCode::StoreUnavailable)? else { return Ok(new) };
        let known: Conversation =
            serde_json::from_slice(&bytes).map_err(|_| ErrorCode::Internal)?;
        if known.user == *user { Ok(known) } else { Err(ErrorCode::NotFound) }
    }

    /// Adds a message to what is remembered.
    ///
    /// # Errors
    /// `Unavailable`: the next request then has less context.
    pub async fn remember(
        &self,
        id: ConversationId,
        user: &UserId,
        role: &str,
        content: &str,
    ) -> Result<(), LogError> {
        let Ok(mut conversation) = self.conversation(user, id).await else { return Ok(()) };
        conversation.push(role, content);
        let bytes = serde_json::to_vec(&conversation).unwrap_or_default();
        self.registry.put(&Key::global(Space::Conversation, id), bytes, KEEP).await
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use protocol::{ChatOptions, MessageId, OnDisconnect};
    use std::sync::Arc;
    use streamlog::Opening;
    use uuid::Uuid;

    /// An opening for tests.
    pub(crate) fn opening(user: &str) -> Arc<Opening> {
        Arc::new(Opening {
            message: MessageId(Uuid::from_u128(7)),
            user: UserId::new(user),
            conversation: ConversationId(Uuid::from_u128(8)),
            user_message: MessageId(Uuid::from_u128(9)),
            request_id: None,
            content: "hello".to_owned(),
            options: ChatOptions::default(),
            on_disconnect: OnDisconnect::Continue,
            context: Vec::new(),
            started_at: jiff::Timestamp::from_second(1_800_000_000).unwrap(),
            trace: None,
        })
    }

    #[test]
    fn a_conversation_keeps_twenty_messages_and_32_kib() {
        let mut c = Conversation { user: UserId::new("a"), turns: Vec::new() };
        for n in 0..30 {
            c.push("user", &n.to_string());
        }
        assert_eq!(c.turns.len(), MAX_TURNS);
        assert_eq!(c.turns[0].content, "10");
        c.push("assistant", &"x".repeat(MAX_BYTES - 5));
        assert!(c.turns.iter().map(|t| t.content.len()).sum::<usize>() <= MAX_BYTES);
        assert_eq!(c.turns.last().unwrap().role, "assistant");
        c.push("assistant", &"x".repeat(MAX_BYTES + 1));
        assert!(c.turns.is_empty(), "one message over the bound is not kept");
    }
}
