//! The node's own memory over the shared log: an owner serves its live streams from here.
//!
//! A `Tiered` is itself a [`StreamLog`]. Nothing is visible here before the inner log acknowledged
//! it (invariant 1), and nothing is served from here unless this node's lease is certainly alive by
//! its own clock when the reply is complete (invariant 2b); otherwise the inner log is read.

use crate::batch::Batch;
use crate::bugs::{self, Bug};
use crate::error::LogError;
use crate::lease::Lease;
use crate::log::{
    Appended, BEYOND, Guarantees, Head, Opened, Opening, Owner, Page, StreamLog, TailWatch,
};
use async_trait::async_trait;
use protocol::{Digest, Epoch, Index, MessageId, Seal};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// See the module.
pub struct Tiered {
    inner: Arc<dyn StreamLog>,
    lease: Arc<Lease>,
    own: Mutex<HashMap<MessageId, Own>>,
}

/// One live stream that this node owns.
struct Own {
    opening: Arc<Opening>,
    head: Head,
    batches: Vec<Arc<Batch>>,
    /// Lease generation under which ownership was last confirmed; without one nothing is served.
    confirmed: Option<u64>,
    /// An append was sent whose outcome is not known here: the log may hold more.
    unsettled: bool,
    version: watch::Sender<u64>,
}

impl Own {
    fn wake(&self) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Takes over what the log holds; `false` where this memory lacks something before it.
    fn push(&mut self, batch: Arc<Batch>) -> bool {
        if batch.first != self.head.tail {
            return batch.end() <= self.head.tail;
        }
        self.head.tail = batch.end();
        self.head.digest = batch.after;
        self.batches.push(batch);
        self.wake();
        true
    }

    /// Confirmed as ours by an answer to a call that was sent under this lease generation.
    fn confirm(&mut self, generation: Option<u64>) {
        self.confirmed = self.confirmed.max(generation);
    }

    /// Stops serving until confirmed again. Closing the watch sends its followers to the log, whose
    /// own watch they need now.
    fn lapse(&mut self) {
        if self.confirmed.take().is_some() {
            self.version = watch::Sender::new(0);
        }
    }

    fn page(&self, from: Index, limit: usize) -> Page {
        let at = self.batches.partition_point(|batch| batch.end() <= from);
        let rest = self.batches.get(at..).unwrap_or_default();
        let before = match rest.first() {
            _ if from == self.head.tail => Some(self.head.digest),
            _ if from == Index::ZERO => Some(Digest::EMPTY),
            Some(batch) => batch.digest_before(from),
            None => None,
        };
        let mut bytes = 0;
        let fits = rest.iter().enumerate().take_while(|(at, batch)| {
            let room = *at == 0 || bytes < limit;
            bytes += batch.weight();
            room
        });
        let batches = fits.map(|(_, batch)| batch.clone()).collect();
        Page { opening: self.opening.clone(), head: self.head.clone(), from, before, batches }
    }
}

impl Tiered {
    /// Over `inner`, for the node that holds `lease`.
    pub fn new(inner: Arc<dyn StreamLog>, lease: Arc<Lease>) -> Self {
        Self { inner, lease, own: Mutex::new(HashMap::new()) }
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
        let head = self.inner.read(stream, BEYOND, 0).await?.head;
        self.learn(stream, &head);
        if let Some(own) = self.lock().get_mut(&stream).filter(|own| own.head.epoch == head.epoch) {
            own.head.cancel = head.cancel;
            own.confirm(generation);
        }
        Ok(head)
    }

    /// Lets go of a stream: sealed here, lost to another node, or about to be handed over. After a
    /// mark other nodes may claim while this node's lease is alive, so its owner must call this
    /// *before* it sets one: no lease protects what is served from here then.
    pub fn forget(&self, stream: MessageId) {
        self.lock().remove(&stream);
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
        if streams.get(&stream).is_none_or(|own| own.head.epoch < head.epoch) {
            let version = watch::Sender::new(0);
            let confirmed = generation;
            let own = Own { opening, head, batches, confirmed, unsettled: false, version };
            streams.insert(stream, own);
        }
    }

    /// A newer epoch or a seal in the log ends what is held here.
    fn learn(&self, stream: MessageId, head: &Head) {
        let mut streams = self.lock();
        let over = |own: &Own| own.head.epoch < head.epoch || head.seal.is_some();
        if streams.get(&stream).is_some_and(over) {
            streams.remove(&stream);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MessageId, Own>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what was confirmed in that generation may be served at this moment.
    fn may_serve(&self, confirmed: Option<u64>) -> bool {
        bugs::active(Bug::ZombieReads) || (confirmed.is_some() && self.lease.certain() == confirmed)
    }

    /// Answers from memory, where that can; the lease is checked after the reply is built.
    fn local<T>(&self, stream: MessageId, reply: impl FnOnce(&mut Own) -> Option<T>) -> Option<T> {
        let mut streams = self.lock();
        let own = streams.get_mut(&stream)?;
        let built = reply(own);
        if self.may_serve(own.confirmed) {
            return built;
        }
        own.lapse();
        None
    }

    /// An append is on its way: from now on the log may hold more than this memory.
    fn sent(&self, stream: MessageId, batch: &Arc<Batch>) {
        if let Some(own) = self.lock().get_mut(&stream).filter(|own| own.head.epoch == batch.epoch)
        {
            own.unsettled = true;
            if bugs::active(Bug::VisibleBeforeDurable) {
                own.push(batch.clone());
            }
        }
    }

    /// What an append told: the batch is in the log and the stream still ours, or it is not. An
    /// answer to an earlier epoch's append says nothing about what is held now.
    fn settle(
        &self,
        stream: MessageId,
        batch: Arc<Batch>,
        generation: Option<u64>,
        result: &Result<Appended, LogError>,
    ) {
        let mut streams = self.lock();
        let own = streams.get_mut(&stream).filter(|own| own.head.epoch == batch.epoch);
        let Some(own) = own else { return };
        let usable = match result {
            Ok(_) => {
                own.unsettled = false;
                own.confirm(generation);
                own.push(batch)
            }
            Err(LogError::Unavailable { .. }) => {
                // Its followers ask the log itself: they find the batch there, or that it is away.
                own.wake();
                true
            }
            Err(_) => false,
        };
        if !usable {
            streams.remove(&stream);
        }
    }
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

    async fn append(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: Arc<Batch>,
    ) -> Result<Appended, LogError> {
        // Taken before the call: an acknowledgement proves ownership only for the lease held then.
        let generation = self.lease.certain();
        self.sent(stream, &batch);
        let result = self.inner.append(stream, owner, batch.clone()).await;
        self.settle(stream, batch, generation, &result);
        result
    }

    async fn seal(
        &self,
        stream: MessageId,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<(), LogError> {
        let result = self.inner.seal(stream, owner, epoch, seal).await;
        let mut streams = self.lock();
        if let Some(own) = streams.get_mut(&stream).filter(|own| own.head.epoch == epoch) {
            if matches!(result, Err(LogError::Unavailable { .. })) {
                own.unsettled = true;
                own.wake();
            } else {
                // Dropping the watch makes every local follower read the end from the log.
                streams.remove(&stream);
            }
        }
        result
    }

    async fn read(&self, stream: MessageId, from: Index, limit: usize) -> Result<Page, LogError> {
        // A reader ahead of this memory saw an append whose acknowledgement is still on its way. One
        // at its end was woken, perhaps by the log, perhaps for that append: the log knows.
        let local = self.local(stream, |own| {
            let tail = own.head.tail;
            (from < tail || (from == tail && !own.unsettled)).then(|| own.page(from, limit))
        });
        if let Some(page) = local {
            return Ok(page);
        }
        let page = self.inner.read(stream, from, limit).await?;
        self.learn(stream, &page.head);
        Ok(page)
    }

    async fn attach(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
    ) -> Result<(Page, TailWatch), LogError> {
        // At the end of this memory its own watch is enough: it wakes for every outcome of an append.
        let local = self.local(stream, |own| {
            let watch = || TailWatch::new(own.version.subscribe());
            (from <= own.head.tail).then(|| (own.page(from, limit), watch()))
        });
        if let Some(found) = local {
            return Ok(found);
        }
        let own = self.lock().get(&stream).map(|own| own.version.subscribe());
        let (page, watch) = self.inner.attach(stream, from, limit).await?;
        self.learn(stream, &page.head);
        // Later reads may come from this memory, which learns of an append after the log does.
        Ok((page, own.into_iter().fold(watch, TailWatch::also)))
    }

    async fn trim(&self, stream: MessageId, before: Index) -> Result<(), LogError> {
        self.inner.trim(stream, before).await
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }
}
