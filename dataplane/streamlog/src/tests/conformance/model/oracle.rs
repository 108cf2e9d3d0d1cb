//! What a log is, in the most naive terms, and an engine that is compared with it at every call.

use crate::answer::Answer;
use crate::batch::Batch;
use crate::directory::{
    Claim, Claimed, Directory, Keep, Mark, NodeRecord, NodeStats, Orphan, Renewal, Restore,
};
use crate::error::LogError;
use crate::log::{Appended, Guarantees, Head, Opened, Opening, Owner, Page, StreamLog, TailWatch};
use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use protocol::{Chunk, Digest, Epoch, Incarnation, Index, MessageId, Seal};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Chunks and the epochs they were appended under.
pub type Text = Vec<(Epoch, Chunk)>;

/// Digest of a text.
pub fn digest(text: &[(Epoch, Chunk)]) -> Digest {
    Digest::EMPTY.with_all(text.iter().map(|(_, chunk)| chunk))
}

/// The one stream of a run as it must be.
#[derive(Default)]
pub struct Oracle {
    pub owner: Option<Owner>,
    pub epoch: Epoch,
    /// The text from each restart to the next; the last one is the log.
    pub lives: Vec<Text>,
    pub seal: Option<Arc<Seal>>,
    pub sealed_at: Option<Instant>,
    /// Ends of trimmed batches at most.
    pub first: Index,
    opening: Option<Arc<Opening>>,
    batches: Vec<(Index, Index)>,
    cancel: bool,
    marked: bool,
    leases: BTreeMap<Incarnation, Instant>,
}

impl Oracle {
    pub fn log(&self) -> &[(Epoch, Chunk)] {
        self.lives.last().map(Vec::as_slice).unwrap_or_default()
    }

    pub fn tail(&self) -> Index {
        Index(self.log().len() as u64)
    }

    fn fence(&self, owner: &Owner, epoch: Epoch) -> Result<(), LogError> {
        let mine = self.owner.as_ref() == Some(owner) && self.epoch == epoch;
        if mine { Ok(()) } else { Err(LogError::Fenced { epoch: self.epoch }) }
    }

    fn open(&mut self, opening: &Arc<Opening>, owner: &Owner) -> Opened {
        if let (Some(known), Some(by)) = (&self.opening, &self.owner) {
            let untouched = self.epoch == Epoch::FIRST && self.tail() == Index::ZERO;
            if by == owner && untouched && self.seal.is_none() {
                return Opened::Yours(Epoch::FIRST);
            }
            return Opened::Exists(by.clone(), known.clone());
        }
        (self.opening, self.owner) = (Some(opening.clone()), Some(owner.clone()));
        (self.epoch, self.lives) = (Epoch::FIRST, vec![Vec::new()]);
        Opened::Yours(Epoch::FIRST)
    }

    fn append(&mut self, owner: &Owner, batch: &Batch) -> Result<Appended, LogError> {
        self.fence(owner, batch.epoch)?;
        let (first, end) = (batch.first, batch.end());
        let added = || batch.chunks.iter().map(|chunk| (batch.epoch, chunk.clone()));
        let known = self.batches.contains(&(first, end))
            && self.log()[first.0 as usize..end.0 as usize]
                .iter()
                .map(|(_, chunk)| chunk)
                .eq(&batch.chunks);
        if !known {
            if self.seal.is_some() {
                return Err(LogError::Sealed);
            }
            if first != self.tail() {
                return Err(LogError::Gap { tail: self.tail() });
            }
            self.batches.push((first, end));
            self.lives.last_mut().expect("opened").extend(added());
        }
        Ok(Appended { cancel: self.cancel })
    }

    fn seal(&mut self, owner: &Owner, epoch: Epoch, seal: &Arc<Seal>) -> Result<(), LogError> {
        self.fence(owner, epoch)?;
        match &self.seal {
            Some(written) if written == seal => Ok(()),
            Some(_) => Err(LogError::Sealed),
            None => {
                (self.seal, self.sealed_at) = (Some(seal.clone()), Some(Instant::now()));
                Ok(())
            }
        }
    }

    fn claim(&mut self, claim: &Claim, by: &Owner) -> Result<(), LogError> {
        if self.seal.is_some() {
            return Err(LogError::Sealed);
        }
        if self.epoch == claim.expected.next() && self.owner.as_ref() == Some(by) {
            return Ok(());
        }
        if self.epoch != claim.expected {
            return Err(LogError::Fenced { epoch: self.epoch });
        }
        (self.epoch, self.owner, self.marked) = (self.epoch.next(), Some(by.clone()), false);
        if claim.keep == Keep::Nothing {
            self.lives.push(Vec::new());
            self.batches.clear();
        }
        Ok(())
    }

    fn trim(&mut self, before: Index) {
        if self.seal.is_some() {
            let kept = self.batches.iter().find(|(_, end)| *end > before);
            self.first = self.first.max(kept.map_or(self.tail(), |(first, _)| *first));
        }
    }

    fn orphaned(&self) -> bool {
        let alive = |owner: &Owner| {
            self.leases.get(&owner.incarnation).is_some_and(|until| *until > Instant::now())
        };
        self.seal.is_none() && (self.marked || !self.owner.as_ref().is_some_and(alive))
    }

    /// Whether the owner's lease ends about now, for one of two clocks.
    fn is_blurred(&self) -> bool {
        let owner = self.owner.as_ref().and_then(|owner| self.leases.get(&owner.incarnation));
        let now = Instant::now();
        owner.is_some_and(|until| *until < now + BLUR && now < *until + BLUR)
    }

    fn check_head(&self, head: &Head) {
        let want =
            (self.epoch, self.tail(), digest(self.log()), &self.seal, self.first, self.cancel);
        let is = (head.epoch, head.tail, head.digest, &head.seal, head.first, head.cancel);
        assert_eq!(is, want, "epoch, tail, digest, seal, first, cancel of the head");
    }

    fn check_page(&self, page: &Page) {
        self.check_head(&page.head);
        let from = page.from.max(self.first);
        let mut at = from.0 as usize;
        for batch in &page.batches {
            let skip = Index(at as u64).since(batch.first);
            for chunk in &batch.chunks[skip..] {
                assert_eq!(Some(&(batch.epoch, chunk.clone())), self.log().get(at), "chunk {at}");
                at += 1;
            }
        }
        assert!(at > from.0 as usize || from >= self.tail(), "a page without progress");
        if page.from >= self.first {
            let before = self.log().get(..page.from.0.min(1 << 32) as usize).map(digest);
            assert_eq!(page.before, before, "digest before {}", page.from);
        }
    }
}

/// One incarnation's way to the store of a run.
pub trait Engine: Send + Sync + 'static {
    fn log(&self) -> &dyn StreamLog;

    fn directory(&self) -> &dyn Directory;

    /// As SIGKILL: no later call is applied.
    fn cut(&self);

    fn is_cut(&self) -> bool;

    fn owner(&self) -> &Owner;

    /// What must run beside the calls, as long as the incarnation lives.
    fn background(&self) -> Option<BoxFuture<'static, ()>>;
}

impl Engine for crate::memory::MemoryHandle {
    fn log(&self) -> &dyn StreamLog {
        self
    }

    fn directory(&self) -> &dyn Directory {
        self
    }

    fn cut(&self) {
        Self::cut(self);
    }

    fn is_cut(&self) -> bool {
        Self::is_cut(self)
    }

    fn owner(&self) -> &Owner {
        Self::owner(self)
    }

    fn background(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

/// Calls that go on although their callers are gone: a store that is far away has applied them. The
/// permit lets one call at a time to the store, so that the oracle learns of them in their order.
pub struct Far {
    /// Whether a read gives what is true at that moment, or may be a little behind.
    pub exact: bool,
    pub turn: Semaphore,
    pub calls: Mutex<JoinSet<()>>,
}

/// An engine, compared with the oracle at every call.
#[derive(Clone)]
pub struct Checked {
    pub inner: Arc<dyn Engine>,
    pub oracle: Arc<Mutex<Oracle>>,
    /// `None` where a call is applied and answered in one step.
    pub far: Option<Arc<Far>>,
}

/// A lease that ends within this time of now may count as either: two clocks look at it.
const BLUR: Duration = Duration::from_millis(300);

impl Checked {
    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call and its comparison, as one step for everybody else.
    async fn step<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> T {
        let Some(far) = &self.far else { return call.await };
        let (answer, answered) = oneshot::channel();
        let (inner, shared) = (self.inner.clone(), far.clone());
        let step = async move {
            let turn = shared.turn.acquire().await.expect("never closed");
            if inner.is_cut() {
                drop(turn);
                return std::future::pending().await;
            }
            let done = AssertUnwindSafe(call).catch_unwind().await;
            drop(turn);
            // The caller may be gone; a failed check must not be.
            if let Err(Err(panic)) = answer.send(done) {
                std::panic::resume_unwind(panic);
            }
        };
        far.calls.lock().unwrap_or_else(PoisonError::into_inner).spawn(step);
        match answered.await {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl StreamLog for Checked {
    async fn open(&self, opening: Arc<Opening>, owner: &Owner) -> Result<Opened, LogError> {
        let (me, owner) = (self.clone(), owner.clone());
        self.step(async move {
            let opened = me.inner.log().open(opening.clone(), &owner).await;
            assert_eq!(opened, Ok(me.oracle().open(&opening, &owner)), "open");
            opened
        })
        .await
    }

    fn append(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: Arc<Batch>,
    ) -> Answer<Result<Appended, LogError>> {
        let (me, owner) = (self.clone(), owner.clone());
        let step = async move {
            let done = me.inner.log().append(stream, &owner, batch.clone()).await;
            let want = me.oracle().append(&owner, &batch);
            assert_eq!(done, want, "append under epoch {}", batch.epoch);
            done
        };
        let me = self.clone();
        Answer::later(async move { me.step(step).await })
    }

    async fn seal(
        &self,
        stream: MessageId,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<(), LogError> {
        let (me, owner) = (self.clone(), owner.clone());
        self.step(async move {
            let done = me.inner.log().seal(stream, &owner, epoch, seal.clone()).await;
            let want = me.oracle().seal(&owner, epoch, &seal);
            assert_eq!(done, want, "seal under epoch {epoch}");
            done
        })
        .await
    }

    async fn read(&self, stream: MessageId, from: Index, limit: usize) -> Result<Page, LogError> {
        let me = self.clone();
        self.step(async move {
            let page = me.inner.log().read(stream, from, limit).await?;
            // Readers check what they are told in any case.
            if me.far.as_ref().is_none_or(|far| far.exact || from >= me.oracle().tail()) {
                me.oracle().check_page(&page);
            }
            Ok(page)
        })
        .await
    }

    async fn attach(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
    ) -> Result<(Page, TailWatch), LogError> {
        let me = self.clone();
        self.step(async move {
            let (page, watch) = me.inner.log().attach(stream, from, limit).await?;
            me.oracle().check_page(&page);
            Ok((page, watch))
        })
        .await
    }

    async fn trim(&self, stream: MessageId, before: Index) -> Result<(), LogError> {
        let me = self.clone();
        self.step(async move {
            me.inner.log().trim(stream, before).await?;
            me.oracle().trim(before);
            Ok(())
        })
        .await
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.log().guarantees()
    }
}

#[async_trait]
impl Directory for Checked {
    async fn renew(
        &self,
        owner: &Owner,
        ttl: Duration,
        stats: &NodeStats,
    ) -> Result<Renewal, LogError> {
        let (me, owner, stats) = (self.clone(), owner.clone(), stats.clone());
        self.step(async move {
            let renewal = me.inner.directory().renew(&owner, ttl, &stats).await?;
            me.oracle().leases.insert(owner.incarnation, Instant::now() + ttl);
            Ok(renewal)
        })
        .await
    }

    async fn release(&self, owner: &Owner) -> Result<(), LogError> {
        let (me, owner) = (self.clone(), owner.clone());
        self.step(async move {
            me.inner.directory().release(&owner).await?;
            me.oracle().leases.remove(&owner.incarnation);
            Ok(())
        })
        .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, LogError> {
        self.inner.directory().nodes().await
    }

    async fn claim(&self, claim: &Claim, by: &Owner) -> Result<Claimed, LogError> {
        let (me, claim, by) = (self.clone(), claim.clone(), by.clone());
        self.step(async move {
            let claimed = me.inner.directory().claim(&claim, &by).await;
            let mut oracle = me.oracle();
            let want = oracle.claim(&claim, &by);
            assert_eq!(claimed.as_ref().map(|_| ()), want.as_ref().copied(), "claim");
            if let Ok(claimed) = &claimed {
                oracle.check_head(&claimed.head);
            }
            claimed
        })
        .await
    }

    async fn mark(&self, stream: MessageId, mark: Mark) -> Result<(), LogError> {
        let me = self.clone();
        self.step(async move {
            let done = me.inner.directory().mark(stream, mark).await;
            let mut oracle = me.oracle();
            assert_eq!(done.is_ok(), oracle.seal.is_none(), "{mark:?}");
            match mark {
                Mark::Cancel => oracle.cancel |= done.is_ok(),
                Mark::HandOver => {
                    let is_theirs = oracle.owner.as_ref() == Some(me.inner.owner());
                    oracle.marked |= done.is_ok() && is_theirs;
                }
            }
            done
        })
        .await
    }

    async fn orphans(&self, limit: usize) -> Result<Vec<Orphan>, LogError> {
        let me = self.clone();
        self.step(async move {
            let orphans = me.inner.directory().orphans(limit).await?;
            let oracle = me.oracle();
            if me.far.is_none() || !oracle.is_blurred() {
                assert_eq!(!orphans.is_empty(), oracle.orphaned(), "orphaned");
            }
            for orphan in &orphans {
                let want = (oracle.epoch, oracle.owner.as_ref());
                assert_eq!((orphan.epoch, Some(&orphan.owner)), want);
            }
            Ok(orphans)
        })
        .await
    }

    async fn restore(&self, restore: &Restore, owner: &Owner) -> Result<(), LogError> {
        let (me, restore, owner) = (self.clone(), restore.clone(), owner.clone());
        self.step(async move {
            // The store of a run loses nothing: an owner that repairs it changes nothing.
            let done = me.inner.directory().restore(&restore, &owner).await;
            let oracle = me.oracle();
            if done.is_ok() {
                let want = (oracle.epoch, oracle.owner.as_ref(), oracle.tail());
                assert_eq!((restore.head.epoch, Some(&owner), restore.head.tail), want);
            }
            done
        })
        .await
    }
}
