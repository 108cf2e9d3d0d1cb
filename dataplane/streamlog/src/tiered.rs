//! The node's own memory over the shared log: an owner serves its live streams from here.
//!
//! A `Tiered` is itself a [`StreamLog`]. Nothing is visible here before the inner log acknowledged
//! it (invariant 1), and nothing is served from here unless this node's lease is certainly alive by
//! its own clock when the reply is complete (invariant 2b); otherwise the inner log is read.

use crate::batch::Batch;
use crate::bugs::{self, Bug};
use crate::error::LogError;
use crate::lease::Lease;
use crate::log::{Appended, Guarantees, Head, Opened, Opening, Owner, Page, StreamLog, TailWatch};
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
    /// Lease generation under which ownership was last confirmed.
    confirmed: u64,
    version: watch::Sender<u64>,
}

impl Own {
    fn wake(&self) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn push(&mut self, batch: Arc<Batch>) {
        if batch.first == self.head.tail {
            self.head.tail = batch.end();
            self.head.digest = batch.after;
            self.batches.push(batch);
            self.wake();
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
        let fits = rest.iter().take_while(|batch| {
            let room = bytes < limit;
            bytes += batch.weight();
            room
        });
        let batches = fits.cloned().collect();
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
    /// `NotFound`, `Unavailable` of the inner log.
    pub async fn adopt(
        &self,
        stream: MessageId,
        epoch: Epoch,
    ) -> Result<Vec<Arc<Batch>>, LogError> {
        let page = self.inner.read(stream, Index::ZERO, usize::MAX).await?;
        if page.head.epoch != epoch {
            return Err(LogError::Fenced { epoch: page.head.epoch });
        }
        let batches = page.batches.clone();
        self.keep(page.opening, page.head, page.batches);
        Ok(batches)
    }

    /// The stream as the shared log has it, never as this memory has it: marks and epoch included.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable` of the inner log.
    pub async fn shared_head(&self, stream: MessageId) -> Result<Head, LogError> {
        Ok(self.inner.read(stream, Index(u64::MAX), 0).await?.head)
    }

    /// Lets go of a stream: sealed here, or lost to another node.
    pub fn forget(&self, stream: MessageId) {
        self.lock().remove(&stream);
    }

    fn keep(&self, opening: Arc<Opening>, head: Head, batches: Vec<Arc<Batch>>) {
        let Some(confirmed) = self.lease.certain() else { return };
        let stream = opening.message;
        let version = watch::Sender::new(0);
        let own = Own { opening, head, batches, confirmed, version };
        self.lock().insert(stream, own);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MessageId, Own>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what was confirmed in that generation may be served at this moment.
    fn may_serve(&self, confirmed: u64) -> bool {
        bugs::active(Bug::ZombieReads) || self.lease.certain() == Some(confirmed)
    }

    /// Answers from memory; the lease is checked after the reply is built. A reader ahead of this
    /// memory (it saw an append whose acknowledgement is still on its way) must ask the log.
    fn local<T>(&self, stream: MessageId, from: Index, reply: impl FnOnce(&Own) -> T) -> Option<T> {
        let own = self.lock();
        let own = own.get(&stream).filter(|own| from <= own.head.tail)?;
        let built = reply(own);
        self.may_serve(own.confirmed).then_some(built)
    }

    /// What an append told: the batch is in the log and the stream still ours, or it is not.
    /// Both become visible in one step, so that no reader finds less here than the log told it.
    fn settle(
        &self,
        batch: Arc<Batch>,
        stream: MessageId,
        generation: Option<u64>,
        result: Result<Appended, LogError>,
    ) -> Result<Appended, LogError> {
        let mut streams = self.lock();
        match &result {
            Ok(_) => {
                if let Some(own) = streams.get_mut(&stream) {
                    own.confirmed = generation.unwrap_or(own.confirmed);
                    own.push(batch);
                }
            }
            Err(LogError::Unavailable { .. }) => {}
            Err(_) => drop(streams.remove(&stream)),
        }
        result
    }
}

#[async_trait]
impl StreamLog for Tiered {
    async fn open(&self, opening: Arc<Opening>, owner: &Owner) -> Result<Opened, LogError> {
        let opened = self.inner.open(opening.clone(), owner).await?;
        if let Opened::Yours(epoch) = opened {
            self.keep(opening, Head::opened(epoch), Vec::new());
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
        if bugs::active(Bug::VisibleBeforeDurable)
            && let Some(own) = self.lock().get_mut(&stream)
        {
            own.push(batch.clone());
        }
        let result = self.inner.append(stream, owner, batch.clone()).await;
        self.settle(batch, stream, generation, result)
    }

    async fn seal(
        &self,
        stream: MessageId,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<(), LogError> {
        let result = self.inner.seal(stream, owner, epoch, seal).await;
        if !matches!(result, Err(LogError::Unavailable { .. })) {
            // Dropping the watch makes every local follower read the end from the log.
            self.forget(stream);
        }
        result
    }

    async fn read(&self, stream: MessageId, from: Index, limit: usize) -> Result<Page, LogError> {
        if let Some(page) = self.local(stream, from, |own| own.page(from, limit)) {
            return Ok(page);
        }
        self.inner.read(stream, from, limit).await
    }

    async fn attach(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
    ) -> Result<(Page, TailWatch), LogError> {
        let local = self.local(stream, from, |own| {
            (own.page(from, limit), TailWatch::new(own.version.subscribe()))
        });
        if let Some(found) = local {
            return Ok(found);
        }
        let own = self.lock().get(&stream).map(|own| own.version.subscribe());
        let (page, watch) = self.inner.attach(stream, from, limit).await?;
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
