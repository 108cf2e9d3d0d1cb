//! Small facts with a time to live: request ids, tickets, sessions, conversations, rates.

use crate::error::LogError;
use async_trait::async_trait;
use std::time::Duration;

/// Kinds of facts; each has its own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// `requestId` → the answer it started.
    Request,
    /// Single-use tickets.
    Ticket,
    /// Open sessions of a user.
    Session,
    /// Recent turns of a conversation.
    Conversation,
    /// A follower's node says: somebody follows this answer.
    Followed,
    /// Live answers of a user.
    Answer,
    /// Request rate of a user.
    Rate,
}

impl Space {
    /// Whether somebody was promised that it is not forgotten. For [`crate::log::RUN_GRACE`] after
    /// the store came back as another run, such a fact that is absent is `Unavailable`: its node may
    /// be about to write it back.
    pub fn is_promise(self) -> bool {
        self == Self::Request
    }
}

/// The name of a fact: its space, the user it belongs to (empty for none), its own name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Kind of fact.
    pub space: Space,
    /// Whose; `list` goes by it.
    pub user: String,
    /// Which.
    pub name: String,
}

impl Key {
    /// A fact of a user.
    pub fn of(space: Space, user: &protocol::UserId, name: impl ToString) -> Self {
        Self { space, user: user.as_str().to_owned(), name: name.to_string() }
    }
    /// A fact that belongs to no user.
    pub fn global(space: Space, name: impl ToString) -> Self {
        Self { space, user: String::new(), name: name.to_string() }
    }
}

/// A rate in GCRA's terms (ITU-T I.371): one unit per `period`, `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time one unit takes to come back.
    pub period: Duration,
    /// Units that may be spent at once.
    pub burst: u32,
}

/// Key-value facts with a time to live. Every method is atomic.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Sets the value if there is none; otherwise returns what is there.
    async fn put_if_absent(
        &self,
        key: &Key,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<Option<Vec<u8>>, LogError>;

    /// Sets the value.
    async fn put(&self, key: &Key, value: Vec<u8>, ttl: Duration) -> Result<(), LogError>;

    /// Reads the value.
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, LogError>;

    /// Reads and removes the value: only one caller gets it.
    async fn take(&self, key: &Key) -> Result<Option<Vec<u8>>, LogError>;

    /// Removes the value.
    async fn remove(&self, key: &Key) -> Result<(), LogError>;

    /// Names and values of one user's facts of one space.
    async fn list(&self, space: Space, user: &str) -> Result<Vec<(String, Vec<u8>)>, LogError>;

    /// Spends `n` units. `Err` inside: not spent, and how long until it would be.
    async fn spend(&self, key: &Key, n: u32, rate: Rate) -> Result<Result<(), Duration>, LogError>;
}
