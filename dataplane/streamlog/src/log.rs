//! The log itself: what a stream is, and what an engine must do.

use crate::answer::Answer;
use crate::batch::Batch;
use crate::bell::Listener;
use crate::error::LogError;
use async_trait::async_trait;
use jiff::Timestamp;
use protocol::server_frame::{ResetReason, Source, TakeoverMode};
use protocol::{
    ChatOptions, ConversationId, Digest, Epoch, Incarnation, Index, MessageId, NodeName,
    OnDisconnect, RequestId, Seal, UserId,
};
use serde::{Deserialize, Serialize};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// One boot of a node: who may append.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// For people.
    pub node: NodeName,
    /// The identity.
    pub incarnation: Incarnation,
}

/// One earlier message of a conversation, sent upstream as context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// Everything a stream is opened with: a successor finds the whole request here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// The answer's id: the stream's name.
    pub message: MessageId,
    /// Whose it is.
    pub user: UserId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The message it answers.
    pub user_message: MessageId,
    /// The client's own id.
    pub request_id: Option<RequestId>,
    /// What the user said.
    pub content: String,
    /// What the model gets.
    pub options: ChatOptions,
    /// What happens when nobody follows.
    pub on_disconnect: OnDisconnect,
    /// Earlier messages, oldest first.
    pub context: Vec<Turn>,
    /// First acceptance: every bound counts from here, across takeovers.
    pub started_at: Timestamp,
    /// Where its request stood in a trace (W3C `traceparent`), for whoever takes it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// Answer to [`StreamLog::open`].
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    /// The stream is yours, under this epoch.
    Yours(Epoch),
    /// It exists; follow it.
    Exists(Owner, Arc<Opening>),
}

/// A claim that shortened the log, or found another run of the store. Kept until a later one has a
/// smaller or equal `keep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The claim's epoch.
    pub epoch: Epoch,
    /// Indexes ≥ this were void from then on.
    pub keep: Index,
    /// Why.
    pub reason: ResetReason,
}

/// How the current owner came to own the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// First index of this owner.
    pub from: Index,
    /// How it goes on.
    pub mode: TakeoverMode,
}

/// What is true of a stream at one moment, read in one atomic step.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Current ownership generation.
    pub epoch: Epoch,
    /// First kept index: 0, or the tail once the text is gone.
    pub first: Index,
    /// First unwritten index.
    pub tail: Index,
    /// Digest of the whole log.
    pub digest: Digest,
    /// The terminal record.
    pub seal: Option<Arc<Seal>>,
    /// Claims that made cursors invalid, oldest first.
    pub cuts: Arc<[Cut]>,
    /// The last takeover; `None` under the first owner.
    pub taken_over: Option<TakenOver>,
    /// Somebody asked to cancel.
    pub cancel: bool,
}

impl Head {
    /// A stream that was just opened.
    pub fn opened(epoch: Epoch) -> Self {
        Self {
            epoch,
            first: Index::ZERO,
            tail: Index::ZERO,
            digest: Digest::EMPTY,
            seal: None,
            cuts: Arc::new([]),
            taken_over: None,
            cancel: false,
        }
    }
}

/// An index beyond every tail: a read from it gives the shared log's head and no text.
pub const BEYOND: Index = Index(u64::MAX);

/// For so long after a store came back as another run, a stream it does not have may still be written
/// back by its owner: it is `Unavailable`, not `NotFound` (protocol section 4, "Keeping").
pub const RUN_GRACE: Duration = Duration::from_secs(5);
/// When to ask again in that time.
pub const RUN_RETRY: Duration = Duration::from_millis(250);

/// One atomic read.
#[derive(Clone, Debug)]
pub struct Page {
    /// What the stream was opened with.
    pub opening: Arc<Opening>,
    /// The stream at the moment of the read.
    pub head: Head,
    /// The index that was asked for.
    pub from: Index,
    /// Digest of the log before `from`; `None` where `from` is beyond the tail, or inside of the
    /// trimmed text.
    pub before: Option<Digest>,
    /// Whole batches that overlap `from..`, contiguous; the first may begin before `from`.
    pub batches: Vec<Arc<Batch>>,
    /// Where it was read.
    pub source: Source,
}

/// The watch was closed by its engine: attach again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchClosed;

/// What a node's own memory of a live stream says to one of its followers.
#[derive(Debug)]
pub enum Nearby {
    /// The next batch; `more` where another one is there already.
    Next {
        /// It begins at the index asked for.
        batch: Arc<Batch>,
        /// Whether it is not the last one.
        more: bool,
    },
    /// Certainly nothing now.
    Nothing,
    /// The log must be read.
    Unknown,
}

/// A memory that a follower may ask before it reads the log, because it is certain of what it shows.
pub trait Near: std::fmt::Debug + Send + Sync {
    /// What follows the log before `from`, of which the follower has `before` as the digest and
    /// `epoch` as the last owner. Anything that is not the plain next batch is `Unknown`.
    fn next(&self, from: Index, before: Digest, epoch: Epoch) -> Nearby;
}

/// Wake-ups of one stream. They carry no data: they may come late, together or for nothing, and a
/// follower must survive a lost one.
#[derive(Debug)]
pub struct TailWatch {
    bell: Listener,
    /// A second source, where a stream may be read from two places.
    other: Option<Listener>,
    pub(crate) near: Option<Arc<dyn Near>>,
    /// Wake-ups swallowed by the chaos decorator.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) lossy: Option<crate::chaos::Loss>,
}

impl TailWatch {
    /// Wakes whenever the bell rings.
    pub fn new(bell: Listener) -> Self {
        Self {
            bell,
            other: None,
            near: None,
            #[cfg(any(test, feature = "testing"))]
            lossy: None,
        }
    }

    /// Wakes for this bell as well. It may have been listened to since before the read that this
    /// watch belongs to.
    #[must_use]
    pub fn also(mut self, other: Listener) -> Self {
        self.other = Some(other);
        self
    }

    /// Whoever waits here may ask this memory before the log.
    #[must_use]
    pub fn beside(mut self, near: Arc<dyn Near>) -> Self {
        self.near = Some(near);
        self
    }

    /// What the memory beside says, see [`Near::next`]; without one nothing is known.
    pub fn nearby(&self, from: Index, before: Digest, epoch: Epoch) -> Nearby {
        self.near.as_ref().map_or(Nearby::Unknown, |near| near.next(from, before, epoch))
    }

    /// Waits for the next change since the last call.
    ///
    /// # Errors
    /// [`WatchClosed`] when the engine let go of the stream.
    pub async fn changed(&mut self) -> Result<(), WatchClosed> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// As [`Self::changed`].
    pub fn poll_changed(&mut self, cx: &Context<'_>) -> Poll<Result<(), WatchClosed>> {
        loop {
            // In a fixed order, so that a seed repeats a run.
            let rung = match (self.bell.poll_rung(cx), &mut self.other) {
                (Poll::Pending, Some(other)) => other.poll_rung(cx),
                (rung, _) => rung,
            };
            ready!(rung).map_err(|_| WatchClosed)?;
            #[cfg(any(test, feature = "testing"))]
            if self.lossy.as_mut().is_some_and(crate::chaos::Loss::swallows) {
                continue;
            }
            return Poll::Ready(Ok(()));
        }
    }
}

/// What an engine promises beyond the contract of [`StreamLog`]; the conformance suite tests every
/// claim and prints every one that is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantees {
    /// `attach` reads and subscribes in one atomic step.
    pub atomic_attach: bool,
    /// What was acknowledged survives a crash of the store.
    pub durable: bool,
}

/// Answer to a successful append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Somebody asked to cancel.
    pub cancel: bool,
}

/// An append-only log of chunks for each stream, with one fenced writer.
///
/// The tail is the first unwritten index. Every method is atomic. `Unavailable` means "may have
/// happened or not": all writes can be repeated with the same arguments.
#[async_trait]
pub trait StreamLog: Send + Sync + 'static {
    /// Creates the stream. Exactly one incarnation ever gets [`Opened::Yours`]; its own repeat, after
    /// a lost answer, gets it again as long as nothing was written. Everybody else gets
    /// [`Opened::Exists`].
    ///
    /// # Errors
    /// `Unavailable`.
    async fn open(&self, opening: Arc<Opening>, owner: &Owner) -> Result<Opened, LogError>;

    /// Appends if `batch.epoch` and `owner` are the stream's and the log ends at `batch.first`.
    /// The same batch again is acknowledged again.
    ///
    /// # Errors
    /// `Fenced`, `Gap` (at 0 where there is no such stream: a store that lost it looks like one that
    /// lost only its text), `Sealed`, `Unavailable`.
    fn append(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: Arc<Batch>,
    ) -> Answer<Result<Appended, LogError>>;

    /// Writes the terminal record if `epoch` and `owner` are the stream's. Once; the same seal
    /// again by the same owner is acknowledged again.
    ///
    /// # Errors
    /// `Fenced`, `Sealed`, `NotFound`, `Unavailable`.
    async fn seal(
        &self,
        stream: MessageId,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<(), LogError>;

    /// Reads from `from`, about `limit` bytes and at least one batch where there is one.
    /// `from` beyond the tail is no error: `before` is `None` then, and the head is the shared log's
    /// own, never a node's memory of it.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    async fn read(&self, stream: MessageId, from: Index, limit: usize) -> Result<Page, LogError>;

    /// As `read`, and a watch that wakes for every change after that read.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    async fn attach(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
    ) -> Result<(Page, TailWatch), LogError>;

    /// Forgets the text before `before` (whole batches only). Only of a sealed stream.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    async fn trim(&self, stream: MessageId, before: Index) -> Result<(), LogError>;

    /// What this engine promises.
    fn guarantees(&self) -> Guarantees;
}
