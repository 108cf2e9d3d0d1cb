//! The one gapless catch-up-then-tail loop, generic over engines.
//!
//! Attach (read and subscribe in one step), deliver, then wait for a wake-up or the sweep and read
//! again from the first index not yet delivered. Wake-ups carry no data, so a lost one delays and
//! never loses. What was read must continue what was delivered, by digest: if it does not, and the
//! shared log itself agrees, the follower says RESET and starts over, it never mixes.

use crate::batch::{Batch, Slice};
use crate::bugs::{self, Bug};
use crate::cursor::Cursor;
use crate::error::LogError;
use crate::log::{BEYOND, Head, Nearby, Opening, Page, StreamLog, TailWatch};
use futures_util::future::BoxFuture;
use protocol::server_frame::{ResetReason, Source, TakeoverMode};
use protocol::{Digest, Epoch, Index, MessageId, Seal, UserId};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How often a follower re-reads without a wake-up: the bound on the delay of a lost one.
pub const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// What a follower tells, in this order: `Attached`, then anything, then `Sealed` last. `Paused` and
/// `Live` may come before `Attached`, where the log is away from the start.
#[derive(Clone, Debug)]
pub enum Event {
    /// The stream was found, and it is this user's. Batches follow from `from`.
    Attached(Box<Attached>),
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

/// What a follower found. Boxed, so that an event is as small as a batch needs it.
#[derive(Clone, Debug)]
pub struct Attached {
    /// What it was opened with.
    pub opening: Arc<Opening>,
    /// The stream now.
    pub head: Head,
    /// First index that follows.
    pub from: Index,
    /// Digest of the log before `from`.
    pub before: Digest,
    /// Where what is known of it was read.
    pub source: Source,
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
        swept: false,
        fetching: None,
        attached: false,
        behind: false,
        doubted: false,
        paused: false,
        retry_at: None,
        ended: false,
    }
}

/// A page, and the watch of a follower that had none.
type Fetched = Result<(Page, Option<TailWatch>), LogError>;

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
    /// Whoever polls it sweeps it.
    swept: bool,
    /// A read that is on its way.
    fetching: Option<BoxFuture<'static, Fetched>>,
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

    /// Without a timer of its own: whoever polls it calls [`Self::sweep`] every [`SWEEP_EVERY`].
    #[must_use]
    pub fn swept_from_outside(mut self) -> Self {
        self.swept = true;
        self
    }

    /// Looks at the log when it is polled next, although nothing woke it.
    pub fn sweep(&mut self) {
        self.behind = true;
    }

    /// The next event; `None` after the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, FollowError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, FollowError>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            if self.fetching.is_none() {
                if self.watch.is_some() && !self.behind {
                    ready!(self.poll_wait(cx));
                    self.behind = true;
                }
                match self.nearby() {
                    Nearby::Next { batch, more } => {
                        self.behind = more;
                        return Poll::Ready(Some(Ok(self.pass(batch))));
                    }
                    Nearby::Nothing => {
                        self.behind = false;
                        continue;
                    }
                    Nearby::Unknown => self.fetching = Some(self.fetch()),
                }
            }
            let Some(fetching) = &mut self.fetching else { continue };
            let fetched = ready!(fetching.as_mut().poll(cx));
            self.fetching = None;
            if let Some(event) = self.took(fetched) {
                return Poll::Ready(Some(event));
            }
        }
    }

    /// What a read led to that must be told before anything else.
    fn took(&mut self, fetched: Fetched) -> Option<Result<Event, FollowError>> {
        match fetched {
            Ok((page, watch)) => {
                if watch.is_some() {
                    self.watch = watch;
                }
                let error = self.take(page).err()?;
                self.ended = true;
                Some(Err(error))
            }
            Err(LogError::Unavailable { retry }) => {
                self.retry_at = Some(Instant::now() + retry);
                (!std::mem::replace(&mut self.paused, true)).then_some(Ok(Event::Paused))
            }
            Err(error) => {
                self.ended = true;
                let trimmed = matches!(error, LogError::Trimmed { .. });
                Some(Err(if trimmed { FollowError::Expired } else { FollowError::NotFound }))
            }
        }
    }

    /// What the owner's memory has for a follower that is attached and has no doubts.
    fn nearby(&self) -> Nearby {
        let plain = self.attached && !self.doubted && !self.paused && self.retry_at.is_none();
        let broken = bugs::active(Bug::NaiveFollower) || bugs::active(Bug::NoDedupe);
        match (&self.watch, self.before, self.epoch) {
            (Some(watch), Some(before), Some(epoch)) if plain && !broken => {
                watch.nearby(self.cursor.next, before, epoch)
            }
            _ => Nearby::Unknown,
        }
    }

    fn pass(&mut self, batch: Arc<Batch>) -> Event {
        self.cursor = Cursor { next: batch.end(), epoch: Some(batch.epoch), digest: None };
        self.before = Some(batch.after);
        Event::Batch(Slice::whole(batch))
    }

    /// Reads what there is now, and subscribes where that was not done.
    fn fetch(&mut self) -> BoxFuture<'static, Fetched> {
        let (log, stream, from) = (self.log.clone(), self.stream, self.cursor.next);
        let (limit, doubted) = (self.page_bytes, self.doubted);
        let (retry_at, attach) = (self.retry_at.take(), self.watch.is_none());
        Box::pin(async move {
            if let Some(at) = retry_at {
                tokio::time::sleep_until(at).await;
            }
            if doubted {
                // A node's memory that is out of date learns so from this and answers no more.
                log.read(stream, BEYOND, 1).await?;
            }
            if !attach {
                return Ok((log.read(stream, from, limit).await?, None));
            }
            let naive = bugs::active(Bug::NaiveFollower);
            let (page, watch) = if naive {
                attach_naively(&*log, stream, from).await?
            } else {
                log.attach(stream, from, limit).await?
            };
            Ok((page, Some(watch)))
        })
    }

    /// Until there may be something new.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(watch) = &mut self.watch else { return Poll::Ready(()) };
        if let Poll::Ready(changed) = watch.poll_changed(cx) {
            if changed.is_err() {
                self.watch = None;
            }
            return Poll::Ready(());
        }
        if self.swept || bugs::active(Bug::NaiveFollower) {
            return Poll::Pending;
        }
        let sweep = self.sweep.get_or_insert_with(|| {
            let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP_EVERY, SWEEP_EVERY);
            sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
            sweep
        });
        sweep.poll_tick(cx).map(|_| ())
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
        self.events.push_back(Event::Attached(Box::new(Attached {
            opening: page.opening.clone(),
            head: page.head.clone(),
            from: self.cursor.next,
            before,
            source: page.source,
        })));
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

/// The bug: what is appended between the read and the subscription is never delivered.
async fn attach_naively(
    log: &dyn StreamLog,
    stream: MessageId,
    from: Index,
) -> Result<(Page, TailWatch), LogError> {
    let page = log.read(stream, from, usize::MAX).await?;
    let (now, watch) = log.attach(stream, from, 1).await?;
    let head = if now.head.seal.is_some() { page.head.clone() } else { now.head };
    Ok((Page { head, ..page }, watch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::{Faults, Op};
    use crate::conformance::Writer;
    use crate::conformance::scene::{PAGE, Scene, Viewer, cursor};
    use crate::conformance::user;
    use crate::directory::Keep;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn catches_up_then_tails_to_the_end() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(2).await.unwrap();
        writer.append(3).await.unwrap();
        let mut viewers = [a.follow(&writer, Cursor::START), b.follow(&writer, Cursor::START)];
        for viewer in &mut viewers {
            viewer.expect(&["attached 0", "batch 0..2", "batch 2..5", "silent"]).await;
        }
        writer.append(1).await.unwrap();
        writer.seal("stop").await.unwrap();
        for viewer in &mut viewers {
            viewer.expect(&["batch 5..6", "sealed 6", "end", "end"]).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn begins_inside_of_a_batch() {
        let scene = Scene::default();
        let a = scene.node("a");
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(4).await.unwrap();
        let mut viewer = a.follow(&writer, cursor(&writer, &a, 3).await);
        viewer.expect(&["attached 3", "batch 3..4"]).await;
        assert_eq!(viewer.got, writer.batches[0].chunks[3..]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_wake_up_delays_until_the_sweep() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        b.control.set(Faults { lose_wakeup: 1.0, ..Faults::NONE });
        let mut writer = Writer::open(&a.handles()).await;
        let mut viewer = b.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0", "silent"]).await;
        writer.append(1).await.unwrap();
        assert_eq!(viewer.next_within(SWEEP_EVERY).await, "batch 0..1");
        writer.seal("stop").await.unwrap();
        assert_eq!(viewer.next_within(SWEEP_EVERY).await, "sealed 1");
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_read_one_after_the_other_without_waiting() {
        let scene = Scene::default();
        let a = scene.node("a");
        let mut writer = Writer::open(&a.handles()).await;
        for _ in 0..20 {
            writer.append(1).await.unwrap();
        }
        let start = Instant::now();
        for page_bytes in [0, 1, 12] {
            let log = a.tiered.clone();
            let follower = follow(log, writer.stream, user(), Cursor::START, page_bytes);
            let mut viewer = Viewer { follower, got: Vec::new() };
            viewer.expect(&["attached 0"]).await;
            for at in 0..20 {
                viewer.expect(&[&format!("batch {at}..{}", at + 1)]).await;
            }
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_future_between_wake_up_and_read_costs_nothing() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        let mut viewer = b.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0"]).await;
        assert_eq!(viewer.next_within(Duration::from_millis(1)).await, "silent");
        let mut read = b.control.hold_next(Op::Read, false);
        let write = async {
            writer.append(1).await.unwrap();
            read.reached().await;
        };
        tokio::select! {
            () = write => {}
            event = viewer.follower.next() => panic!("{event:?}"),
        }
        // The read that began goes on.
        read.release();
        viewer.expect(&["batch 0..1"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_is_told_before_its_text() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(3).await.unwrap();
        let mut viewer = b.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0", "batch 0..3"]).await;
        let mut taken = b.take(&writer, Keep::Nothing).await;
        viewer.expect(&["taken over 2 0", "reset Restarted"]).await;
        taken.append(4).await.unwrap();
        viewer.expect(&["batch 0..4"]).await;
        // Told live only: who comes now finds the new text as it is.
        let mut late = b.follow(&taken, Cursor::START);
        late.expect(&["attached 0", "batch 0..4"]).await;
        // And who comes with the old text is told, with and without a digest.
        let old = Cursor { next: Index(3), epoch: Some(Epoch(1)), digest: None };
        let digest = Some(writer.batches[0].after);
        for cursor in [old, Cursor { digest, ..old }, Cursor { epoch: None, ..old }] {
            let mut late = b.follow(&taken, cursor);
            late.expect(&["attached 0", "reset Restarted", "batch 0..4"]).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_equal_text_after_a_restart_is_no_reset() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(3).await.unwrap();
        let behind = cursor(&writer, &a, 2).await;
        let mut taken = b.take(&writer, Keep::Nothing).await;
        let same = writer.batches[0].chunks.clone();
        let at = jiff::Timestamp::UNIX_EPOCH;
        let batch = crate::Batch::new(taken.epoch, Index::ZERO, at, Digest::EMPTY, same);
        taken.send(Arc::new(batch)).await.unwrap();
        let mut viewer = b.follow(&taken, behind);
        viewer.expect(&["attached 2", "batch 2..3"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_cursor_ahead_of_the_log_is_rolled_back() {
        let scene = Scene::default();
        let a = scene.node("a");
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(3).await.unwrap();
        let digest = Digest::parse("deadbeef");
        for (next, digest) in [(4, None), (4, digest), (2, digest)] {
            let cursor = Cursor { next: Index(next), epoch: Some(Epoch(1)), digest };
            let mut viewer = a.follow(&writer, cursor);
            viewer.expect(&["attached 0", "reset RolledBack", "batch 0..3", "silent"]).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_elses_stream_does_not_exist() {
        let scene = Scene::default();
        let a = scene.node("a");
        let writer = Writer::open(&a.handles()).await;
        let other = UserId::new("mallory");
        let log: Arc<dyn StreamLog> = a.tiered.clone();
        let theirs = follow(log.clone(), writer.stream, other, Cursor::START, PAGE);
        let mut theirs = Viewer { follower: theirs, got: Vec::new() };
        theirs.expect(&["not found", "end"]).await;
        // Not even after a pause.
        a.control.refuse_next(Op::Attach, 1);
        let other = UserId::new("mallory");
        let theirs = follow(a.engine.clone(), writer.stream, other, Cursor::START, PAGE);
        let mut theirs = Viewer { follower: theirs, got: Vec::new() };
        theirs.expect(&["paused", "not found", "end"]).await;
        let unknown = crate::conformance::opening().message;
        let none = follow(log, unknown, user(), Cursor::START, PAGE);
        Viewer { follower: none, got: Vec::new() }.expect(&["not found", "end"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn trimmed_text_is_expired() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        for _ in 0..3 {
            writer.append(2).await.unwrap();
        }
        let (inside, end) = (cursor(&writer, &a, 3).await, cursor(&writer, &a, 6).await);
        writer.seal("stop").await.unwrap();
        a.handle.trim(writer.stream, Index(4)).await.unwrap();
        b.follow(&writer, Cursor::START).expect(&["expired", "end"]).await;
        b.follow(&writer, inside).expect(&["expired", "end"]).await;
        // Where a RESET would need text that is gone, none is promised.
        let wrong = Cursor { digest: Digest::parse("deadbeef"), ..end };
        b.follow(&writer, wrong).expect(&["expired", "end"]).await;
        b.follow(&writer, end).expect(&["attached 6", "sealed 6", "end"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_while_the_log_is_away_and_asks_no_more_often_than_told() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        let mut viewer = b.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0"]).await;
        b.control.set(Faults::AWAY);
        writer.append(1).await.unwrap();
        viewer.expect(&["paused"]).await;
        assert_eq!(viewer.next_within(MINUTE).await, "silent");
        b.control.set(Faults::NONE);
        viewer.expect(&["live", "batch 0..1", "silent"]).await;
        // Away from the start.
        b.control.refuse_next(Op::Attach, 3);
        let start = Instant::now();
        let mut late = b.follow(&writer, Cursor::START);
        late.expect(&["paused", "live", "attached 0", "batch 0..1"]).await;
        assert_eq!(start.elapsed(), crate::chaos::RETRY * 3);
    }

    /// An engine whose pages lack their first batch, for a while.
    struct Holes(Arc<dyn StreamLog>, std::sync::atomic::AtomicUsize);

    impl Holes {
        fn pierce(&self, mut page: Page) -> Page {
            use std::sync::atomic::Ordering::SeqCst;
            let left = self.1.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
            if left.is_ok() && page.batches.len() > 1 {
                page.batches.remove(1);
            }
            page
        }
    }

    #[async_trait::async_trait]
    impl StreamLog for Holes {
        async fn open(
            &self,
            opening: Arc<Opening>,
            owner: &crate::Owner,
        ) -> Result<crate::Opened, LogError> {
            self.0.open(opening, owner).await
        }
        fn append(
            &self,
            stream: MessageId,
            owner: &crate::Owner,
            batch: Arc<crate::Batch>,
        ) -> crate::Answer<Result<crate::log::Appended, LogError>> {
            self.0.append(stream, owner, batch)
        }
        async fn seal(
            &self,
            stream: MessageId,
            owner: &crate::Owner,
            epoch: Epoch,
            seal: Arc<Seal>,
        ) -> Result<(), LogError> {
            self.0.seal(stream, owner, epoch, seal).await
        }
        async fn read(
            &self,
            stream: MessageId,
            from: Index,
            limit: usize,
        ) -> Result<Page, LogError> {
            Ok(self.pierce(self.0.read(stream, from, limit).await?))
        }
        async fn attach(
            &self,
            stream: MessageId,
            from: Index,
            limit: usize,
        ) -> Result<(Page, TailWatch), LogError> {
            let (page, watch) = self.0.attach(stream, from, limit).await?;
            Ok((self.pierce(page), watch))
        }
        async fn trim(&self, stream: MessageId, before: Index) -> Result<(), LogError> {
            self.0.trim(stream, before).await
        }
        fn guarantees(&self) -> crate::log::Guarantees {
            self.0.guarantees()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hole_is_read_again_and_never_skipped() {
        let scene = Scene::default();
        let a = scene.node("a");
        let mut writer = Writer::open(&a.handles()).await;
        for _ in 0..4 {
            writer.append(1).await.unwrap();
        }
        let holes = Arc::new(Holes(a.engine.clone(), 2.into()));
        let mut viewer = Viewer::new(holes, &writer, Cursor::START);
        viewer
            .expect(&["attached 0", "batch 0..1", "batch 1..2", "batch 2..3", "batch 3..4"])
            .await;
    }
}
