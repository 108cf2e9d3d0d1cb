//! Who lives, and who owns what: node leases, claims, marks.

use crate::batch::Batch;
use crate::error::LogError;
use crate::log::{Head, Opening, Owner};
use async_trait::async_trait;
use protocol::server_frame::TakeoverMode;
use protocol::{Digest, Epoch, Index, MessageId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What a node says of itself with each renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    /// Whether it takes new sockets and streams.
    pub accepting: bool,
    /// Open sockets.
    pub sessions: usize,
    /// Live streams it owns.
    pub streams: usize,
}

/// A node as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Which boot of which node.
    pub owner: Owner,
    /// Whether its lease is alive by the store's clock.
    pub alive: bool,
    /// What it last said.
    pub stats: NodeStats,
}

/// Answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The store's run: another one means it came back without its memory.
    pub run: Uuid,
}

/// What of the log a claim keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    Tail,
    /// Nothing: the answer starts over, and every follower is told RESET.
    Nothing,
}

/// A compare-and-set of the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Which stream.
    pub stream: MessageId,
    /// The epoch it must have.
    pub expected: Epoch,
    /// What is kept.
    pub keep: Keep,
    /// How it goes on, told to followers.
    pub mode: TakeoverMode,
}

/// A claim that succeeded.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// The stream right after the claim; its epoch is yours.
    pub head: Head,
    /// The whole request.
    pub opening: Arc<Opening>,
}

/// Something asked of an owner through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Stop the answer.
    Cancel,
    /// Take it from me: I am going away. The owner goes on until it is fenced.
    HandOver,
}

/// Why a stream wants a new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanCause {
    /// Its owner's incarnation is dead.
    Dead,
    /// Its owner marked it.
    HandOver,
}

/// A live stream that wants a new owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Orphan {
    /// Which stream.
    pub stream: MessageId,
    /// Its request.
    pub opening: Arc<Opening>,
    /// Its epoch.
    pub epoch: Epoch,
    /// Who had it.
    pub owner: Owner,
    /// Why.
    pub cause: OrphanCause,
    /// For how long.
    pub since: Duration,
    /// Takeovers in a row, up to now, without a new chunk.
    pub barren: u32,
    /// Somebody asked to cancel.
    pub cancel: bool,
    /// Whether a tool was used: such an answer is never restarted.
    pub used_tools: bool,
}

/// What an owner writes back into a store that lost it: the stream as its owner knows it to have
/// been acknowledged.
#[derive(Clone, Debug)]
pub struct Restore {
    /// What the stream was opened with.
    pub opening: Arc<Opening>,
    /// Epoch, tail, digest, seal, cuts, takeover and cancel.
    pub head: Head,
    /// The kept text, contiguous up to `head.tail`; empty where it is gone.
    pub batches: Vec<Arc<Batch>>,
    /// Takeovers in a row without a new chunk.
    pub barren: u32,
    /// Whether a tool was used.
    pub used_tools: bool,
}

impl Restore {
    /// First kept index.
    pub fn first(&self) -> Index {
        self.batches.first().map_or(self.head.tail, |batch| batch.first)
    }

    /// Digest of this log before `index`; `None` outside of the kept text.
    pub fn digest_before(&self, index: Index) -> Option<Digest> {
        if index == self.head.tail {
            return Some(self.head.digest);
        }
        if index == Index::ZERO {
            return Some(Digest::EMPTY);
        }
        let at = crate::batch::position(&self.batches, index);
        self.batches.get(at).and_then(|batch| batch.digest_before(index))
    }
}

/// Node leases and ownership of streams. The store's clock decides who is dead.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Takes or renews the lease of an incarnation.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn renew(
        &self,
        owner: &Owner,
        ttl: Duration,
        stats: &NodeStats,
    ) -> Result<Renewal, LogError>;

    /// Gives the lease up at once: what it still owns is orphaned.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn release(&self, owner: &Owner) -> Result<(), LogError>;

    /// Every node with a lease, and those whose lease ended lately.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, LogError>;

    /// Makes `by` the owner under the next epoch, if the epoch is the expected one and the stream is
    /// live; in the same step shortens the log to what is kept. Notes a cut where that shortened the
    /// log, or where the store's run is another than the one the stream was last written to under
    /// an owner's eyes. Never creates a stream.
    ///
    /// # Errors
    /// `Fenced` where somebody else was first, `Sealed`, `NotFound`, `Unavailable`.
    async fn claim(&self, claim: &Claim, by: &Owner) -> Result<Claimed, LogError>;

    /// Sets a mark, as often as you like: a cancel from any node, a hand-over by the owner. That of
    /// another node is accepted and means nothing: it came after a claim.
    ///
    /// # Errors
    /// `Sealed` where it is too late, `NotFound`, `Unavailable`.
    async fn mark(&self, stream: MessageId, mark: Mark) -> Result<(), LogError>;

    /// Live streams that want a new owner, at most `limit`.
    ///
    /// # Errors
    /// `Unavailable`, also for [`crate::log::RUN_GRACE`] after the store came back as another run: it
    /// may have forgotten who lives, and a caller may not know of the change yet.
    async fn orphans(&self, limit: usize) -> Result<Vec<Orphan>, LogError>;

    /// Writes a stream back, by the owner that still knows it. Accepted only where the store has
    /// none, has a lower epoch, or the same epoch and a prefix of the same text; the same again is
    /// acknowledged again. Marks that stand are kept.
    ///
    /// # Errors
    /// `Fenced` where a higher epoch stands or, under the same, another owner; `Sealed` where a seal
    /// stands that is not this one; `Gap` where the same epoch holds more or other text;
    /// `Unavailable`.
    async fn restore(&self, restore: &Restore, owner: &Owner) -> Result<(), LogError>;
}
