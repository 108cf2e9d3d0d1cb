//! The node's own memory over the shared log: an owner serves its live streams from here.
//!
//! A `Tiered` is itself a [`StreamLog`]. Nothing is visible here before the inner log acknowledged
//! it (invariant 1), and no live stream is served from here unless this node's lease is certainly
//! alive by its own clock when the reply is complete (invariant 2b); otherwise the inner log is read.
//! What has ended never changes and is served from [`finished`]; what the store lost is written back
//! by its owner, [`repair`].

mod finished;
mod live;
mod repair;

use crate::answer::Answer;
use crate::batch::Batch;
use crate::bell::Bell;
use crate::bugs::{self, Bug};
use crate::clock::Clock;
use crate::directory::Directory;
use crate::error::LogError;
use crate::lease::Lease;
use crate::log::{
    Appended, BEYOND, Guarantees, Head, Opened, Opening, Owner, Page, StreamLog, TailWatch,
};
use ahash::RandomState;
use async_trait::async_trait;
use finished::{Finished, Whole};
use futures_util::future::BoxFuture;
use live::{Live, Own};
use protocol::{Epoch, Index, MessageId, Seal};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// See the module.
pub struct Tiered {
    inner: Arc<dyn StreamLog>,
    directory: Arc<dyn Directory>,
    owner: Owner,
    lease: Arc<Lease>,
    own: Mutex<Owned>,
    finished: Finished,
    reads: Reads,
    /// Streams that this node offers to others, until it lets go of them.
    yielded: Mutex<HashSet<MessageId>>,
    /// For an append that is on its way.
    this: Weak<Self>,
}

type Owned = HashMap<MessageId, Arc<Live>, RandomState>;

/// Reads answered so far, by where the answer came from; those of memory of what has ended are
/// counted there.
#[derive(Debug, Default)]
struct Reads {
    live: Arc<AtomicU64>,
    shared: AtomicU64,
    absent: AtomicU64,
}

/// Reads answered so far, by where the answer came from, and what memory had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// This node's memory of a live stream it owns.
    pub live: u64,
    /// This node's memory of an answer that it sealed.
    pub own: u64,
    /// This node's memory of an answer that it read elsewhere.
    pub cached: u64,
    /// The shared log.
    pub shared: u64,
    /// Not even the shared log had it.
    pub absent: u64,
    /// Answers that this node sealed and let go for want of room.
    pub own_evicted: u64,
    /// Answers that it had read elsewhere and let go for want of room.
    pub cached_evicted: u64,
}

impl Tiered {
    /// Over `inner` and its `directory`, for the incarnation that holds `lease`.
    pub fn new(
        inner: Arc<dyn StreamLog>,
        directory: Arc<dyn Directory>,
        owner: Owner,
        lease: Arc<Lease>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            inner,
            directory,
            owner,
            lease,
            own: Mutex::default(),
            finished: Finished::new(clock),
            reads: Reads::default(),
            yielded: Mutex::default(),
            this: this.clone(),
        })
    }

    /// Where reads were answered from.
    pub fn read_counts(&self) -> ReadCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (reads, ended) = (&self.reads, self.finished.counts());
        ReadCounts {
            live: of(&reads.live),
            own: of(&ended.own),
            cached: of(&ended.cached),
            shared: of(&reads.shared),
            absent: of(&reads.absent),
            own_evicted: of(&ended.own_evicted),
            cached_evicted: of(&ended.cached_evicted),
        }
    }

    /// Forgets every answer of other nodes: somebody says that one of them is not what it was.
    pub fn clear_cache(&self) {
        self.finished.clear_cache();
    }

    /// Keeps a stream that this node just claimed, with everything it held before.
    ///
    /// # Errors
    /// `Fenced` where the claim is no longer the last one; `NotFound`, `Unavailable`.
    pub async fn adopt(
        &self,
        stream: MessageId,
        epoch: Epoch,
    ) -> Result<Vec<Arc<Batch>>, LogError> {
        let generation = self.lease.certain();
        let page = self.inner.read(stream, Index::ZERO, usize::MAX).await?;
        if page.head.epoch != epoch {
            return Err(LogError::Fenced { epoch: page.head.epoch });
        }
        let batches = page.batches.clone();
        self.keep(page.opening, page.head, page.batches, generation);
        Ok(batches)
    }

    /// The stream as the shared log has it, never as this memory has it: marks and epoch included.
    /// An unchanged epoch confirms that what is held here may be served.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable` of the inner log.
    pub async fn shared_head(&self, stream: MessageId) -> Result<Head, LogError> {
        let generation = self.lease.certain();
        let mut page = self.inner.read(stream, BEYOND, 0).await;
        if let Err(LogError::NotFound) = page
            && self.write_back(stream).await?
        {
            page = self.inner.read(stream, BEYOND, 0).await;
        }
        let head = page?.head;
        self.learn(stream, &head);
        if let Some(live) = self.live(stream) {
            let mut own = live.lock();
            if own.head.epoch == head.epoch {
                own.head.cancel = head.cancel;
                own.confirm(generation.filter(|_| !self.is_yielded(stream)));
            }
        }
        Ok(head)
    }

    /// Lets go of a stream: sealed here, or lost to another node.
    pub fn forget(&self, stream: MessageId) {
        lock(&self.yielded).remove(&stream);
        self.let_go(stream, |_| true);
    }

    /// Serves a stream from the log only, until [`Self::forget`]. To be called *before* the stream is
    /// marked to be handed over: after a mark other nodes may claim it while this node's lease is
    /// alive, so that no lease protects what would be served from here. That counts for a stream
    /// that is only being claimed here as well.
    pub fn hand_over(&self, stream: MessageId) {
        lock(&self.yielded).insert(stream);
        if let Some(live) = self.live(stream) {
            live.lock().lapse();
        }
    }

    fn is_yielded(&self, stream: MessageId) -> bool {
        lock(&self.yielded).contains(&stream)
    }

    /// `generation` is the lease's from before the call that proved the ownership was sent.
    fn keep(
        &self,
        opening: Arc<Opening>,
        head: Head,
        batches: Vec<Arc<Batch>>,
        generation: Option<u64>,
    ) {
        let stream = opening.message;
        let mut streams = self.lock();
        // What is held under the same epoch already may be ahead of a repeated answer.
        if streams.get(&stream).is_none_or(|live| live.lock().head.epoch < head.epoch) {
            let confirmed = generation.filter(|_| !self.is_yielded(stream));
            let (lease, reads) = (self.lease.clone(), self.reads.live.clone());
            let live = Arc::new(Live::new(opening, head, batches, confirmed, lease, reads));
            if let Some(superseded) = streams.insert(stream, live) {
                superseded.lock().close();
            }
        }
    }

    /// A newer epoch or a seal in the log ends what is held here.
    fn learn(&self, stream: MessageId, head: &Head) {
        self.finished.learn(stream, head);
        self.let_go(stream, |own| own.head.epoch < head.epoch || head.seal.is_some());
    }

    fn live(&self, stream: MessageId) -> Option<Arc<Live>> {
        self.lock().get(&stream).cloned()
    }

    /// Shows nothing of a stream any more, if `over` says so.
    fn let_go(&self, stream: MessageId, over: impl FnOnce(&Own) -> bool) {
        let mut streams = self.lock();
        let Some(live) = streams.get(&stream) else { return };
        let mut own = live.lock();
        if over(&own) {
            own.close();
            drop(own);
            streams.remove(&stream);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Owned> {
        lock(&self.own)
    }

    /// Counts what the shared log did not have.
    fn missed<T>(&self, answer: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(LogError::NotFound) = answer {
            count(&self.reads.absent);
        }
        answer
    }

    /// The shared log was read.
    fn was_read(&self, page: &Page) {
        count(&self.reads.shared);
        self.learn(page.opening.message, &page.head);
        self.finished.remember(page);
    }

    /// An append is on its way: from now on the log may hold more than this memory.
    fn sent(live: &Live, batch: &Arc<Batch>) {
        let mut own = live.lock();
        if own.head.epoch == batch.epoch {
            own.unsettled = true;
            if bugs::active(Bug::VisibleBeforeDurable) {
                own.push(batch.clone());
            }
        }
    }

    /// What a seal told. Dropping the watch makes every local follower read the end.
    fn sealed(
        &self,
        stream: MessageId,
        epoch: Epoch,
        seal: Arc<Seal>,
        result: &Result<(), LogError>,
    ) {
        let Some(live) = self.live(stream) else { return };
        let mut own = live.lock();
        if own.head.epoch != epoch {
            return;
        }
        if matches!(result, Err(LogError::Unavailable { .. })) {
            own.unsettled = true;
            own.bell.ring();
            return;
        }
        // Kept before the watch is dropped, so that nobody needs the log for the end.
        if result.is_ok() && !own.unsettled {
            let head = Head { seal: Some(seal), ..own.head.clone() };
            let (opening, batches) = (own.opening.clone(), own.batches.clone());
            self.finished.keep(Whole { opening, head, batches });
        }
        drop(own);
        self.let_go(stream, |own| own.head.epoch == epoch);
    }

    /// What an append told: the batch is in the log and the stream still ours, or it is not. An
    /// answer to an earlier epoch's append says nothing about what is held now.
    fn settle(
        &self,
        stream: MessageId,
        live: &Live,
        batch: Arc<Batch>,
        generation: Option<u64>,
        result: &Result<Appended, LogError>,
    ) {
        let epoch = batch.epoch;
        let mut own = live.lock();
        if own.head.epoch != epoch {
            return;
        }
        let usable = match result {
            Ok(_) => {
                own.unsettled = false;
                own.confirm(generation.filter(|_| !self.is_yielded(stream)));
                own.push(batch)
            }
            Err(LogError::Unavailable { .. }) => {
                // Its followers ask the log itself: they find the batch there, or that it is away.
                own.bell.ring();
                true
            }
            Err(_) => false,
        };
        drop(own);
        if !usable {
            self.let_go(stream, |own| own.head.epoch == epoch);
        }
    }

    /// An append whose answer is not there at once.
    async fn append_later(
        self: Arc<Self>,
        stream: MessageId,
        owner: Owner,
        sent: Sent,
        answer: BoxFuture<'static, Result<Appended, LogError>>,
    ) -> Result<Appended, LogError> {
        let Sent { batch, generation, live } = sent;
        let mut result = answer.await;
        if let Err(error) = &result {
            result = match self.mended(stream, batch.epoch, error).await {
                Ok(true) => self.inner.append(stream, &owner, batch.clone()).await,
                Ok(false) => result,
                Err(other) => Err(other),
            };
        }
        if let Some(live) = live {
            self.settle(stream, &live, batch, generation, &result);
        }
        result
    }
}

/// An append that was sent.
struct Sent {
    batch: Arc<Batch>,
    /// Taken before the call: an acknowledgement proves ownership only for the lease held then.
    generation: Option<u64>,
    /// What is held of its stream.
    live: Option<Arc<Live>>,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl StreamLog for Tiered {
    async fn open(&self, opening: Arc<Opening>, owner: &Owner) -> Result<Opened, LogError> {
        let generation = self.lease.certain();
        let opened = self.inner.open(opening.clone(), owner).await?;
        if let Opened::Yours(epoch) = opened {
            self.keep(opening, Head::opened(epoch), Vec::new(), generation);
        }
        Ok(opened)
    }

    fn append(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: Arc<Batch>,
    ) -> Answer<Result<Appended, LogError>> {
        let generation = self.lease.generation();
        let live = self.live(stream);
        if let Some(live) = &live {
            Self::sent(live, &batch);
        }
        let answer = match self.inner.append(stream, owner, batch.clone()) {
            Answer::Now(Some(Ok(done))) => {
                if let Some(live) = &live {
                    self.settle(stream, live, batch, generation, &Ok(done));
                }
                return Answer::now(Ok(done));
            }
            Answer::Later(answer) => answer,
            refused @ Answer::Now(_) => refused.boxed(),
        };
        let Some(this) = self.this.upgrade() else {
            return Answer::now(Err(LogError::Unavailable { retry: Duration::ZERO }));
        };
        let (owner, sent) = (owner.clone(), Sent { batch, generation, live });
        Answer::later(this.append_later(stream, owner, sent, answer))
    }

    async fn seal(
        &self,
        stream: MessageId,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<(), LogError> {
        let mut result = self.inner.seal(stream, owner, epoch, seal.clone()).await;
        if let Err(error) = &result {
            result = match self.mended(stream, epoch, error).await {
                Ok(true) => self.inner.seal(stream, owner, epoch, seal.clone()).await,
                Ok(false) => result,
                Err(other) => Err(other),
            };
        }
        self.sealed(stream, epoch, seal, &result);
        result
    }

    async fn read(&self, stream: MessageId, from: Index, limit: usize) -> Result<Page, LogError> {
        // A reader ahead of this memory saw an append whose acknowledgement is still on its way. One
        // at its end was woken, perhaps by the log, perhaps for that append: the log knows.
        let local = self.live(stream).and_then(|live| {
            live.reply(|own| {
                let tail = own.head.tail;
                (from < tail || (from == tail && !own.unsettled)).then(|| own.page(from, limit))
            })
        });
        if let Some(page) = local.or_else(|| self.finished.page(stream, from, limit)) {
            return Ok(page);
        }
        let page = self.missed(self.inner.read(stream, from, limit).await)?;
        self.was_read(&page);
        Ok(page)
    }

    async fn attach(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
    ) -> Result<(Page, TailWatch), LogError> {
        // At the end of this memory its own watch is enough: it wakes for every outcome of an append.
        let live = self.live(stream);
        let local = live.as_ref().and_then(|live| {
            live.reply(|own| {
                (from <= own.head.tail).then(|| (own.page(from, limit), own.watch(live)))
            })
        });
        if let Some(found) = local {
            return Ok(found);
        }
        if let Some(page) = self.finished.page(stream, from, limit) {
            // There is nothing to wait for.
            return Ok((page, TailWatch::new(Bell::default().listen())));
        }
        let own = self.live(stream).map(|live| (live.lock().bell.listen(), live.clone()));
        let (page, watch) = self.missed(self.inner.attach(stream, from, limit).await)?;
        self.was_read(&page);
        // Later reads may come from this memory, which learns of an append after the log does.
        Ok((page, own.into_iter().fold(watch, |watch, (bell, live)| watch.also(bell).beside(live))))
    }

    async fn trim(&self, stream: MessageId, before: Index) -> Result<(), LogError> {
        self.inner.trim(stream, before).await?;
        self.finished.forget(stream);
        Ok(())
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::{Faults, Op};
    use crate::conformance::Writer;
    use crate::conformance::scene::{PAGE, Scene, Stage, cursor};
    use crate::cursor::Cursor;
    use crate::directory::Keep;
    use std::time::Duration;
    use tokio::time::sleep;

    const TTL: Duration = Duration::from_secs(5);

    /// Whether a read here is answered while the log is away: from memory alone.
    async fn serves(node: &Stage, writer: &Writer, from: Index) -> bool {
        node.control.set(Faults::AWAY);
        let page = node.tiered.read(writer.stream, from, PAGE).await;
        let attached = node.tiered.attach(writer.stream, from, PAGE).await;
        node.control.set(Faults::NONE);
        assert_eq!(page.is_ok(), attached.is_ok());
        page.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_serves_from_memory_what_was_acknowledged() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        assert!(serves(&a, &writer, Index::ZERO).await, "nothing yet, and it knows");
        writer.append(3).await.unwrap();
        for from in 0..=3 {
            assert!(serves(&a, &writer, Index(from)).await);
        }
        assert!(!serves(&a, &writer, Index(4)).await, "beyond its tail the log is asked");
        assert!(!serves(&b, &writer, Index::ZERO).await, "it is not b's");
        let taken = b.take(&writer, Keep::Tail).await;
        assert!(serves(&b, &taken, Index::ZERO).await);
        taken.seal("stop").await.unwrap();
        b.lease.released();
        assert!(serves(&b, &taken, Index::ZERO).await, "what ended needs no lease");
        let c = scene.node("c");
        assert!(!serves(&c, &taken, Index::ZERO).await, "and is nobody else's");
        c.follow(&taken, Cursor::START).expect(&["attached 0", "batch 0..3", "sealed 3"]).await;
        assert!(serves(&c, &taken, Index::ZERO).await, "until it was read whole");
        c.tiered.clear_cache();
        assert!(!serves(&c, &taken, Index::ZERO).await);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_visible_before_it_is_acknowledged() {
        let scene = Scene::default();
        let a = scene.node("a");
        let mut writer = Writer::open(&a.handles()).await;
        let mut viewer = a.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0"]).await;
        let mut held = a.control.hold_next_append(false);
        let script = async {
            held.reached().await;
            viewer.expect(&["silent"]).await;
            held.release();
            viewer.expect(&["batch 0..1"]).await;
        };
        let (done, ()) = tokio::join!(writer.append(1), script);
        done.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_lapse_nothing_is_served_until_an_answer_under_the_new_lease() {
        let scene = Scene::default();
        let a = scene.node_without_lease("a");
        a.renew(TTL);
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(2).await.unwrap();
        sleep(TTL).await;
        assert!(!serves(&a, &writer, Index::ZERO).await, "lapsed");
        a.renew(TTL);
        assert!(!serves(&a, &writer, Index::ZERO).await, "not confirmed");
        writer.append(1).await.unwrap();
        assert!(serves(&a, &writer, Index::ZERO).await);
        // An append that was sent before the lapse proves nothing after it.
        let mut held = a.control.hold_next_append(true);
        let script = async {
            held.reached().await;
            sleep(TTL).await;
            a.renew(TTL);
            held.release();
        };
        let (done, ()) = tokio::join!(writer.append(1), script);
        done.unwrap();
        assert!(!serves(&a, &writer, Index::ZERO).await);
        a.tiered.shared_head(writer.stream).await.unwrap();
        assert!(serves(&a, &writer, Index::ZERO).await, "a look at the log confirms as well");
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_or_a_claim_answered_after_a_lapse_proves_nothing() {
        let scene = Scene::default();
        let (a, b) = (scene.node_without_lease("a"), scene.node_without_lease("b"));
        for (node, op) in [(&a, Op::Open), (&b, Op::Read)] {
            node.renew(TTL);
            let first = Writer::open(&scene.node("c").handles()).await;
            let mut held = node.control.hold_next(op, true);
            let late = async {
                held.reached().await;
                sleep(TTL).await;
                node.renew(TTL);
                held.release();
            };
            let work = async {
                match op {
                    Op::Open => Writer::open(&node.handles()).await,
                    _ => node.take(&first, Keep::Tail).await,
                }
            };
            let (mut writer, ()) = tokio::join!(work, late);
            assert!(!serves(node, &writer, Index::ZERO).await);
            writer.append(1).await.unwrap();
            assert!(serves(node, &writer, Index::ZERO).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_ahead_of_this_memory_is_not_told_to_start_over() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(2).await.unwrap();
        let mut elsewhere = b.follow(&writer, Cursor::START);
        elsewhere.expect(&["attached 0", "batch 0..2"]).await;
        let mut held = a.control.hold_next_append(true);
        let stream = writer.stream;
        let (batch, owner) = (writer.batch(3), a.owner.clone());
        let append = a.tiered.append(stream, &owner, batch.clone());
        let script = async {
            held.reached().await;
            // It saw an append whose acknowledgement is still on its way to the owner ...
            elsewhere.expect(&["batch 2..5"]).await;
            let ahead = cursor(&writer, &b, 5).await;
            let inside = cursor(&writer, &b, 4).await;
            // ... and comes to the owner's node.
            a.follow(&writer, ahead).expect(&["attached 5", "silent"]).await;
            a.follow(&writer, inside).expect(&["attached 4", "batch 4..5", "silent"]).await;
            let mut here = a.follow(&writer, ahead);
            here.expect(&["attached 5"]).await;
            held.release();
            here
        };
        let (done, mut here) = tokio::join!(append, script);
        done.unwrap();
        (writer.tail, writer.digest) = (batch.end(), batch.after);
        writer.append(1).await.unwrap();
        here.expect(&["batch 5..6"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_from_before_a_takeover_here_waits_for_no_sweep() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(1).await.unwrap();
        // Its watch is the log's, then b becomes the owner and answers its reads from memory.
        let mut viewer = b.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0", "batch 0..1"]).await;
        let mut taken = b.take(&writer, Keep::Tail).await;
        viewer.expect(&["taken over 2 1"]).await;
        b.control.set(Faults { delay_ack: Duration::from_millis(900), ..Faults::NONE });
        for at in 1..20 {
            let batch = format!("batch {at}..{}", at + 1);
            let expected = [batch.as_str()];
            let (done, ()) = tokio::join!(taken.append(1), viewer.expect(&expected));
            done.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_is_read_from_the_log_and_an_absent_log_is_told() {
        let scene = Scene::default();
        let a = scene.node("a");
        let mut writer = Writer::open(&a.handles()).await;
        let mut viewer = a.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0"]).await;
        let batch = writer.batch(1);
        a.control.set(Faults { lose_ack: 1.0, ..Faults::NONE });
        writer.send(batch.clone()).await.unwrap_err();
        a.control.set(Faults::NONE);
        viewer.expect(&["batch 0..1"]).await;
        a.control.set(Faults::AWAY);
        writer.send(batch.clone()).await.unwrap_err();
        viewer.expect(&["paused"]).await;
        a.control.set(Faults::NONE);
        writer.send(batch).await.unwrap();
        viewer.expect(&["live", "silent"]).await;
        a.control.set(Faults { lose_ack: 1.0, ..Faults::NONE });
        writer.seal("stop").await.unwrap_err();
        a.control.set(Faults::NONE);
        viewer.expect(&["sealed 1", "end"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_of_a_node_that_lost_the_stream_voids_nothing() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(5).await.unwrap();
        // b restarts it, while a's lease is alive and a knows nothing of it.
        let mut taken = b.take(&writer, Keep::Nothing).await;
        taken.append(3).await.unwrap();
        assert!(serves(&a, &writer, Index::ZERO).await, "which is why it must be told");
        let mut viewer = a.follow(&taken, cursor(&taken, &b, 2).await);
        viewer.expect(&["attached 2", "batch 2..3"]).await;
        assert!(!serves(&a, &writer, Index::ZERO).await, "now it knows");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_handed_over_is_served_from_the_log() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        let mut viewer = a.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0"]).await;
        a.tiered.hand_over(writer.stream);
        for at in 0..3 {
            writer.append(1).await.unwrap();
            assert!(!serves(&a, &writer, Index::ZERO).await);
            viewer.expect(&[&format!("batch {at}..{}", at + 1)]).await;
        }
        let mut taken = b.take(&writer, Keep::Nothing).await;
        viewer.expect(&["taken over 2 0", "reset Restarted"]).await;
        taken.append(1).await.unwrap();
        viewer.expect(&["batch 0..1"]).await;
        // Offered while it is only being claimed: it is not served either, until let go of.
        a.tiered.forget(writer.stream);
        a.tiered.hand_over(writer.stream);
        let back = a.take(&taken, Keep::Tail).await;
        assert!(!serves(&a, &back, Index::ZERO).await);
        a.tiered.forget(writer.stream);
        a.tiered.adopt(back.stream, back.epoch).await.unwrap();
        assert!(serves(&a, &back, Index::ZERO).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_to_an_earlier_epoch_touches_nothing() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(1).await.unwrap();
        for after_applied in [true, false] {
            let batch = writer.batch(1);
            let mut held = a.control.hold_next_append(after_applied);
            let append = a.tiered.append(writer.stream, &a.owner, batch);
            let script = async {
                held.reached().await;
                let other = b.take(&writer, Keep::Tail).await;
                let back = a.take(&other, Keep::Tail).await;
                held.release();
                back
            };
            let (done, back) = tokio::join!(append, script);
            assert_eq!(done.is_ok(), after_applied);
            writer = back;
            assert!(serves(&a, &writer, writer.tail).await);
            writer.append(2).await.unwrap();
            assert!(serves(&a, &writer, writer.tail).await, "and goes on");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_to_a_repeated_open_takes_nothing_back() {
        let scene = Scene::default();
        let a = scene.node("a");
        let mut writer = Writer::open(&a.handles()).await;
        let mut held = a.control.hold_next(Op::Open, true);
        let again = a.tiered.open(writer.opening.clone(), &a.owner);
        let script = async {
            held.reached().await;
            writer.append(2).await.unwrap();
            held.release();
        };
        let (opened, ()) = tokio::join!(again, script);
        assert_eq!(opened, Ok(Opened::Yours(Epoch::FIRST)));
        let page = a.tiered.read(writer.stream, Index::ZERO, PAGE).await.unwrap();
        assert_eq!(page.head.tail, Index(2));
        assert!(serves(&a, &writer, Index(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_was_overtaken_is_not_adopted() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let writer = Writer::open(&a.handles()).await;
        let first = writer.taken_by(&b.handles(), Keep::Tail).await.unwrap();
        a.take(&first, Keep::Tail).await;
        let refused = b.tiered.adopt(first.stream, first.epoch).await.map(drop);
        assert_eq!(refused, Err(LogError::Fenced { epoch: Epoch(3) }));
    }

    #[tokio::test(start_paused = true)]
    async fn fencing_ends_what_is_held_and_sends_its_followers_to_the_log() {
        let scene = Scene::default();
        let (a, b) = (scene.node("a"), scene.node("b"));
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(1).await.unwrap();
        let mut viewer = a.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0", "batch 0..1"]).await;
        let mut taken = b.take(&writer, Keep::Tail).await;
        taken.append(1).await.unwrap();
        assert_eq!(writer.append(1).await, Err(LogError::Fenced { epoch: Epoch(2) }));
        viewer.expect(&["taken over 2 1", "batch 1..2"]).await;
        taken.append(1).await.unwrap();
        viewer.expect(&["batch 2..3"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lapse_sends_followers_to_the_log_with_the_next_read() {
        let scene = Scene::default();
        let (a, b) = (scene.node_without_lease("a"), scene.node("b"));
        a.renew(TTL);
        let mut writer = Writer::open(&a.handles()).await;
        writer.append(1).await.unwrap();
        let mut viewer = a.follow(&writer, Cursor::START);
        viewer.expect(&["attached 0", "batch 0..1"]).await;
        // Frozen, as its owner is, until another node took the stream over.
        sleep(TTL).await;
        let mut taken = b.take(&writer, Keep::Nothing).await;
        assert_eq!(viewer.next_within(TTL).await, "taken over 2 0");
        viewer.expect(&["reset Restarted"]).await;
        for at in 0..3 {
            taken.append(1).await.unwrap();
            viewer.expect(&[&format!("batch {at}..{}", at + 1)]).await;
        }
    }
}
