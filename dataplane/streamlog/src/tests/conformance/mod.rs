//! What every engine must do, as test cases that run against a [`Fixture`], and a seeded model test.
//!
//! One line runs the whole suite for an engine:
//! ```text
//! streamlog::conformance_suite!(redis, RedisFixture);
//! streamlog::conformance_suite!(memory, MemoryFixture, (start_paused = true));
//! ```
//! Each case's name is the sentence it tests. A guarantee that an engine claims switches cases on;
//! one it does not claim is printed as `not claimed`.

// A failing case is a failing test: it says so by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

pub mod facts;
pub mod model;
pub mod ownership;
pub mod reading;
pub mod repair;
#[cfg(test)]
pub(crate) mod scene;
#[cfg(all(test, feature = "bugs"))]
pub(crate) mod teeth;
pub mod writing;

use crate::batch::Batch;
use crate::bus::Bus;
use crate::clock::{Clock, Ids};
use crate::directory::{Claim, Directory, Keep, Restore};
use crate::error::LogError;
use crate::log::{Appended, Opened, Opening, Owner, Page, StreamLog};
use crate::registry::Registry;
use async_trait::async_trait;
use jiff::Timestamp;
use protocol::server_frame::TakeoverMode;
use protocol::{
    ChatOptions, Chunk, ChunkType, ConversationId, Digest, Epoch, Incarnation, Index, MessageId,
    NodeName, OnDisconnect, Seal, SealStatus, Usage, UserId,
};
use std::sync::Arc;
use std::time::Duration;

/// How one incarnation reaches the store.
#[derive(Clone)]
pub struct Handles {
    /// Which incarnation.
    pub owner: Owner,
    /// The log.
    pub log: Arc<dyn StreamLog>,
    /// Leases and claims.
    pub directory: Arc<dyn Directory>,
    /// Facts with a time to live.
    pub registry: Arc<dyn Registry>,
    /// Hints.
    pub bus: Arc<dyn Bus>,
}

/// An engine under test: one empty store, reached by any number of incarnations.
#[async_trait]
pub trait Fixture: Send + Sync + Sized + 'static {
    /// An empty store, or a name space of its own in a shared one.
    async fn new() -> Self;

    /// A new incarnation of the node of this name. It holds no lease in the directory yet.
    async fn incarnation(&self, node: &str) -> Handles;

    /// Lets time pass by the store's clock.
    async fn advance(&self, by: Duration);

    /// A time to live that is short, yet long enough for a few calls.
    fn ttl(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// Kills the store without warning and starts it again; only where `durable` is claimed.
    async fn crash(&self) {
        panic!("an engine that claims to be durable must say how to crash its store");
    }
}

/// Expands to one test for each case. The third argument goes to `#[tokio::test(…)]`.
#[macro_export]
macro_rules! conformance_suite {
    ($name:ident, $fixture:ty) => {
        $crate::conformance_suite!($name, $fixture, ());
    };
    ($name:ident, $fixture:ty, $args:tt) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance_suite!(@cases writing, $fixture, $args,
                opening_gives_the_stream_to_one_incarnation
                a_repeated_open_is_yours_again_until_something_was_written
                of_many_racers_exactly_one_opens
                an_append_lands_only_at_the_tail
                a_repeated_append_is_acknowledged_again
                an_append_of_another_epoch_or_owner_is_fenced
                nothing_is_written_to_a_sealed_or_unknown_stream
                an_append_tells_of_a_cancel
                a_stream_is_sealed_once
                a_seal_of_another_epoch_or_owner_is_fenced
            );
            $crate::conformance_suite!(@cases reading, $fixture, $args,
                a_read_gives_the_suffix_and_its_digest_from_every_index
                a_read_gives_about_as_much_as_asked_for_and_always_progress
                a_read_beyond_the_tail_is_no_error
                a_page_carries_the_opening_and_the_whole_head
                an_attach_wakes_for_every_kind_of_change
                nothing_falls_between_an_attach_and_its_watch
                an_atomic_attach_never_wakes_for_what_it_read
                the_text_of_a_sealed_stream_can_be_trimmed
                what_was_acknowledged_survives_a_crash
            );
            $crate::conformance_suite!(@cases ownership, $fixture, $args,
                a_claim_moves_the_epoch_once
                of_many_claims_exactly_one_wins
                a_claim_keeps_the_tail_or_nothing
                a_restart_of_an_empty_log_makes_no_cut
                a_repeated_claim_is_granted_again
                a_claimed_stream_fences_its_old_owner
                a_sealed_or_unknown_stream_cannot_be_claimed
                takeovers_without_a_chunk_are_counted
                a_mark_stays_and_comes_too_late_for_a_sealed_stream
                the_streams_of_the_dead_are_orphans
                a_released_lease_orphans_at_once
                a_renewal_revives
                a_mark_orphans_the_stream_of_the_living
                orphans_tell_all_a_successor_needs
                nodes_are_listed_with_what_they_said
                renewals_name_one_run_of_the_store
            );
            $crate::conformance_suite!(@cases repair, $fixture, $args,
                a_store_that_lost_a_stream_gets_it_back
                a_restored_stream_goes_on_as_before
                a_prefix_is_completed_and_its_followers_wake
                more_or_other_text_is_never_overwritten
                a_higher_epoch_or_another_owner_fences_a_restore
                a_lower_epoch_is_replaced
                a_seal_that_stands_is_the_only_one
                a_trimmed_or_large_text_is_written_back
            );
            $crate::conformance_suite!(@cases facts, $fixture, $args,
                a_fact_is_put_once_if_absent
                facts_are_put_read_and_removed
                facts_end_with_their_time
                a_fact_is_taken_once
                facts_are_listed_by_user_and_space
                a_rate_is_spent_as_gcra_says
                hints_reach_everybody_who_listens
                a_slow_listener_slows_nobody
            );
        }
    };
    (@cases $part:ident, $fixture:ty, $args:tt, $($case:ident)*) => {
        $($crate::conformance_suite!(@case $part, $fixture, $args, $case);)*
    };
    (@case $part:ident, $fixture:ty, ($($args:tt)*), $case:ident) => {
        #[tokio::test($($args)*)]
        async fn $case() {
            $crate::conformance::$part::$case::<$fixture>().await
        }
    };
}

/// The user of every stream here.
pub fn user() -> UserId {
    UserId::new("alice")
}

/// Ids that collide with nobody's.
pub fn ids() -> Ids {
    Ids::random(Clock::system())
}

/// A request, under a message id of its own.
pub fn opening() -> Arc<Opening> {
    opening_of(&ids())
}

/// A request with ids from `ids`.
pub fn opening_of(ids: &Ids) -> Arc<Opening> {
    Arc::new(Opening {
        message: MessageId(ids.uuid()),
        user: user(),
        conversation: ConversationId(ids.uuid()),
        user_message: MessageId(ids.uuid()),
        request_id: protocol::RequestId::parse("request-1"),
        content: "What is a log?".to_owned(),
        options: ChatOptions::default(),
        on_disconnect: OnDisconnect::Continue,
        context: vec![crate::log::Turn { role: "user".to_owned(), content: "Hello".to_owned() }],
        started_at: Timestamp::UNIX_EPOCH,
        trace: None,
    })
}

/// An owner of that name.
pub fn owner(ids: &Ids, node: &str) -> Owner {
    Owner { node: NodeName::new(node), incarnation: Incarnation(ids.uuid()) }
}

/// Text chunks, different at each index and for each epoch.
pub fn chunks(epoch: Epoch, first: Index, n: usize) -> Vec<Chunk> {
    let text = |i: usize| format!("e{epoch}c{} ", first.plus(i));
    (0..n).map(|i| Chunk::new(ChunkType::Text, &text(i))).collect()
}

/// A terminal record that differs by `reason`.
pub fn seal(reason: &str) -> Arc<Seal> {
    Arc::new(Seal {
        status: SealStatus::Completed,
        finish_reason: reason.to_owned(),
        model: "model".to_owned(),
        usage: Usage::default(),
        latency_ms: 1,
        first_token_ms: None,
        code: None,
    })
}

/// An owner at work on one stream.
pub struct Writer {
    pub handles: Handles,
    pub opening: Arc<Opening>,
    pub stream: MessageId,
    pub epoch: Epoch,
    pub tail: Index,
    pub digest: Digest,
    pub batches: Vec<Arc<Batch>>,
}

impl Writer {
    /// Opens a stream of its own.
    pub async fn open(handles: &Handles) -> Self {
        Self::open_with(handles, opening()).await
    }

    /// Opens this stream.
    pub async fn open_with(handles: &Handles, opening: Arc<Opening>) -> Self {
        let opened = handles.log.open(opening.clone(), &handles.owner).await.unwrap();
        assert_eq!(opened, Opened::Yours(Epoch::FIRST));
        Self {
            handles: handles.clone(),
            stream: opening.message,
            opening,
            epoch: Epoch::FIRST,
            tail: Index::ZERO,
            digest: Digest::EMPTY,
            batches: Vec::new(),
        }
    }

    /// The next `n` chunks, not sent yet.
    pub fn batch(&self, n: usize) -> Arc<Batch> {
        let chunks = chunks(self.epoch, self.tail, n);
        Arc::new(Batch::new(self.epoch, self.tail, Timestamp::UNIX_EPOCH, self.digest, chunks))
    }

    /// Sends a batch and, if that went well, stands behind it.
    pub async fn send(&mut self, batch: Arc<Batch>) -> Result<Appended, LogError> {
        let (log, owner) = (&self.handles.log, &self.handles.owner);
        let done = log.append(self.stream, owner, batch.clone()).await?;
        (self.tail, self.digest) = (batch.end(), batch.after);
        self.batches.push(batch);
        Ok(done)
    }

    /// Appends `n` chunks.
    pub async fn append(&mut self, n: usize) -> Result<Appended, LogError> {
        self.send(self.batch(n)).await
    }

    /// Writes the terminal record.
    pub async fn seal(&self, reason: &str) -> Result<(), LogError> {
        let Handles { log, owner, .. } = &self.handles;
        log.seal(self.stream, owner, self.epoch, seal(reason)).await
    }

    /// What this writer would write back, as `reader` sees it.
    pub async fn restore(&self, reader: &Handles) -> Restore {
        let Page { opening, head, batches, .. } = self.seen_by(reader).await;
        Restore { opening, head, batches, barren: 0, used_tools: false }
    }

    /// A claim of what this writer owns.
    pub fn claim(&self, keep: Keep) -> Claim {
        let mode = TakeoverMode::Continue;
        Claim { stream: self.stream, expected: self.epoch, keep, mode }
    }

    /// The stream in the hands of another incarnation.
    pub async fn taken_by(&self, by: &Handles, keep: Keep) -> Result<Self, LogError> {
        let claimed = by.directory.claim(&self.claim(keep), &by.owner).await?;
        let kept = keep == Keep::Tail;
        Ok(Self {
            handles: by.clone(),
            opening: claimed.opening,
            stream: self.stream,
            epoch: claimed.head.epoch,
            tail: claimed.head.tail,
            digest: claimed.head.digest,
            batches: if kept { self.batches.clone() } else { Vec::new() },
        })
    }

    /// Everything, as `reader` sees it.
    pub async fn seen_by(&self, reader: &Handles) -> Page {
        reader.log.read(self.stream, Index::ZERO, usize::MAX).await.unwrap()
    }
}

/// All chunks of a page from its index on.
pub fn text(page: &Page) -> Vec<Chunk> {
    let all = page.batches.iter().flat_map(|batch| {
        let skip = page.from.since(batch.first);
        batch.chunks.get(skip..).unwrap_or_default().to_vec()
    });
    all.collect()
}

/// Says that a guarantee is not claimed; cases that need it end there.
pub fn claimed(name: &str, is: bool) -> bool {
    if !is {
        println!("not claimed: {name}");
    }
    is
}

#[cfg(test)]
mod fixtures;
