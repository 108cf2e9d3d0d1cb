//! The one gapless catch-up-then-tail loop, generic over engines.
//!
//! Attach (read and subscribe in one step), deliver, then wait for a wake-up or the sweep and read
//! again from the first index not yet delivered. Wake-ups carry no data, so a lost one delays and
//! never loses. What was read must continue what was delivered, by digest: if it does not, and the
//! shared log itself agrees, the follower says RESET and starts over, it never mixes.

use crate::batch::Slice;
use crate::bugs::{self, Bug};
use crate::cursor::Cursor;
use crate::error::LogError;
use crate::log::{BEYOND, Head, Opening, Page, StreamLog, TailWatch};
use protocol::server_frame::{ResetReason, TakeoverMode};
use protocol::{Digest, Epoch, Index, MessageId, Seal, UserId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How often a follower re-reads without a wake-up: the bound on the delay of a lost one.
pub const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// What a follower tells, in this order: `Attached`, then anything, then `Sealed` last. `Paused` and
/// `Live` may come before `Attached`, where the log is away from the start.
#[derive(Clone, Debug)]
pub enum Event {
    /// The stream was found, and it is this user's. Batches follow from `from`.
    Attached {
        /// What it was opened with.
        opening: Arc<Opening>,
        /// The stream now.
        head: Head,
        /// First index that follows.
        from: Index,
        /// Digest of the log before `from`.
        before: Digest,
    },
    /// Chunks, each index exactly once and in order.
    Batch(Slice),
    /// Another owner.
    TakenOver {
        /// Its epoch.
        epoch: Epoch,
        /// Its first index.
        from: Index,
        /// How it goes on.
        mode: TakeoverMode,
    },
    /// Everything delivered so far is void; batches follow from 0.
    Reset {
        /// Why.
        reason: ResetReason,
        /// The current epoch.
        epoch: Epoch,
    },
    /// The log is away.
    Paused,
    /// It is back.
    Live,
    /// The end.
    Sealed {
        /// The terminal record.
        seal: Arc<Seal>,
        /// Chunks in the log.
        tail: Index,
        /// Digest of the log.
        digest: Digest,
    },
}

/// Why there is nothing to follow. Ends the follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// No such stream, or somebody else's.
    #[error("no such stream")]
    NotFound,
    /// Its text is gone.
    #[error("the text is gone")]
    Expired,
}

/// Follows `stream` from `cursor`, reading pages of about `page_bytes`.
pub fn follow(
    log: Arc<dyn StreamLog>,
    stream: MessageId,
    user: UserId,
    cursor: Cursor,
    page_bytes: usize,
) -> Follower {
    Follower {
        log,
        stream,
        user,
        page_bytes,
        cursor,
        before: None,
        epoch: None,
        events: VecDeque::new(),
        watch: None,
        sweep: None,
        attached: false,
        behind: false,
        doubted: false,
        paused: false,
        retry_at: None,
        ended: false,
    }
}

/// One reader of one stream.
pub struct Follower {
    log: Arc<dyn StreamLog>,
    stream: MessageId,
    user: UserId,
    page_bytes: usize,
    /// Before the first page: the client's; afterwards `next` only.
    cursor: Cursor,
    /// Digest of everything delivered, once attached.
    before: Option<Digest>,
    /// The owner last told.
    epoch: Option<Epoch>,
    events: VecDeque<Event>,
    watch: Option<TailWatch>,
    sweep: Option<Interval>,
    attached: bool,
    /// There is something to read: no waiting before the next read, however often that is tried.
    behind: bool,
    /// The last page refuted what was delivered. It may come from the memory of a node that lost
    /// the stream; the next one comes from the log itself and is believed.
    doubted: bool,
    paused: bool,
    /// Not before then is a log that is away asked again.
    retry_at: Option<Instant>,
    ended: bool,
}

impl Follower {
    /// The stream.
    pub fn stream(&self) -> MessageId {
        self.stream
    }

    /// The next event; `None` after the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, FollowError>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            match self.fetch().await {
                Ok(page) => {
                    if let Err(error) = self.take(page) {
                        self.ended = true;
                        return Some(Err(error));
                    }
                }
                Err(LogError::Unavailable { retry }) => {
                    self.retry_at = Some(Instant::now() + retry);
                    if !std::mem::replace(&mut self.paused, true) {
                        return Some(Ok(Event::Paused));
                    }
                }
                Err(error) => {
                    self.ended = true;
                    let trimmed = matches!(error, LogError::Trimmed { .. });
                    let why = if trimmed { FollowError::Expired } else { FollowError::NotFound };
                    return Some(Err(why));
                }
            }
        }
    }

    /// Waits until there may be something new, and reads it.
    async fn fetch(&mut self) -> Result<Page, LogError> {
        if let Some(at) = self.retry_at {
            tokio::time::sleep_until(at).await;
            self.retry_at = None;
        }
        if self.watch.is_some() && !self.behind {
            self.wait().await;
            self.behind = true;
        }
        if self.doubted {
            // A node's memory that is out of date learns so from this and answers no more.
            self.log.read(self.stream, BEYOND, 1).await?;
        }
        if self.watch.is_none() {
            let (page, watch) = self.attach().await?;
            self.watch = Some(watch);
            return Ok(page);
        }
        self.log.read(self.stream, self.cursor.next, self.page_bytes).await
    }

    async fn attach(&mut self) -> Result<(Page, TailWatch), LogError> {
        if bugs::active(Bug::NaiveFollower) {
            return self.attach_naively().await;
        }
        self.log.attach(self.stream, self.cursor.next, self.page_bytes).await
    }

    /// The bug: what is appended between the read and the subscription is never delivered.
    async fn attach_naively(&mut self) -> Result<(Page, TailWatch), LogError> {
        let page = self.log.read(self.stream, self.cursor.next, usize::MAX).await?;
        let (now, watch) = self.log.attach(self.stream, self.cursor.next, 1).await?;
        let head = if now.head.seal.is_some() { page.head.clone() } else { now.head };
        Ok((Page { head, ..page }, watch))
    }

    async fn wait(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        if bugs::active(Bug::NaiveFollower) {
            if watch.changed().await.is_err() {
                self.watch = None;
            }
            return;
        }
        let sweep = self.sweep.get_or_insert_with(|| {
            let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP_EVERY, SWEEP_EVERY);
            sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
            sweep
        });
        tokio::select! {
            biased;
            changed = watch.changed() => if changed.is_err() {
                self.watch = None;
            },
            _ = sweep.tick() => {}
        }
    }

    fn take(&mut self, page: Page) -> Result<(), FollowError> {
        if !self.attached && page.opening.user != self.user {
            return Err(FollowError::NotFound);
        }
        let refuted = self.refuted_by(&page);
        let next = if refuted.is_some() { Index::ZERO } else { self.cursor.next };
        if page.head.first > next {
            return Err(FollowError::Expired);
        }
        if std::mem::take(&mut self.paused) {
            self.events.push_back(Event::Live);
        }
        if refuted.is_some() && !std::mem::replace(&mut self.doubted, true) {
            self.behind = true;
            return Ok(());
        }
        self.doubted = false;
        self.tell_takeover(&page.head);
        if let Some(reason) = refuted {
            self.start_over(reason, &page);
            return Ok(());
        }
        self.tell_attached(&page);
        let before = self.cursor.next;
        self.deliver(&page);
        let progressed = self.cursor.next > before;
        if let Some(seal) = &page.head.seal
            && self.cursor.next == page.head.tail
        {
            self.ended = true;
            self.events.push_back(Event::Sealed {
                seal: seal.clone(),
                tail: page.head.tail,
                digest: page.head.digest,
            });
        }
        // A page without progress is not read again at once: the next wake-up or the sweep is due.
        self.behind = progressed && self.cursor.next < page.head.tail;
        Ok(())
    }

    /// A new owner is told live, not replayed.
    fn tell_takeover(&mut self, head: &Head) {
        let known = self.epoch;
        // A page of an earlier owner's memory takes nothing back.
        self.epoch = known.max(Some(head.epoch));
        if let (Some(known), Some(taken)) = (known, head.taken_over)
            && known < head.epoch
        {
            let (from, mode) = (taken.from, taken.mode);
            self.events.push_back(Event::TakenOver { epoch: head.epoch, from, mode });
        }
    }

    /// Whether what was delivered is no prefix of the log.
    fn refuted_by(&self, page: &Page) -> Option<ResetReason> {
        let cursor = match self.before {
            Some(before) => Cursor { digest: Some(before), ..self.cursor },
            None => self.cursor,
        };
        if bugs::active(Bug::NaiveFollower) && self.attached {
            return None;
        }
        cursor.refuted_by(page)
    }

    fn start_over(&mut self, reason: ResetReason, page: &Page) {
        self.cursor = Cursor::START;
        self.before = Some(Digest::EMPTY);
        self.tell_attached(page);
        self.events.push_back(Event::Reset { reason, epoch: page.head.epoch });
        self.behind = true;
    }

    fn tell_attached(&mut self, page: &Page) {
        if std::mem::replace(&mut self.attached, true) {
            return;
        }
        let before = self.before.or(page.before).unwrap_or_default();
        self.before = Some(before);
        self.events.push_back(Event::Attached {
            opening: page.opening.clone(),
            head: page.head.clone(),
            from: self.cursor.next,
            before,
        });
    }

    fn deliver(&mut self, page: &Page) {
        for batch in &page.batches {
            if batch.first > self.cursor.next {
                // A hole in the page: what is missing is read again.
                if !bugs::active(Bug::NaiveFollower) {
                    return;
                }
            }
            let slice = if bugs::active(Bug::NoDedupe) {
                Some(Slice::whole(batch.clone()))
            } else {
                Slice::from(batch.clone(), self.cursor.next)
            };
            if let Some(slice) = slice {
                self.cursor = Cursor { next: batch.end(), epoch: Some(batch.epoch), digest: None };
                self.before = Some(batch.after);
                self.events.push_back(Event::Batch(slice));
            }
        }
        if bugs::active(Bug::NaiveFollower) {
            // The bug: "read up to here, live from there".
            self.cursor.next = self.cursor.next.max(page.head.tail);
        }
    }
}
