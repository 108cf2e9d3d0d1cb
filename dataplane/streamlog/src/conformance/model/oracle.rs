//! What a log is, in the most naive terms, and an engine that is compared with it at every call.

use crate::batch::Batch;
use crate::directory::{
    Claim, Claimed, Directory, Keep, Mark, NodeRecord, NodeStats, Orphan, Renewal,
};
use crate::error::LogError;
use crate::log::{Appended, Guarantees, Head, Opened, Opening, Owner, Page, StreamLog, TailWatch};
use crate::memory::MemoryHandle;
use async_trait::async_trait;
use protocol::{Chunk, Digest, Epoch, Incarnation, Index, MessageId, Seal};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
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

/// The memory engine, compared with the oracle at every call.
pub struct Checked {
    pub inner: MemoryHandle,
    pub oracle: Arc<Mutex<Oracle>>,
}

impl Checked {
    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StreamLog for Checked {
    async fn open(&self, opening: Arc<Opening>, owner: &Owner) -> Result<Opened, LogError> {
        let opened = self.inner.open(opening.clone(), owner).await;
        assert_eq!(opened, Ok(self.oracle().open(&opening, owner)), "open");
        opened
    }

    async fn append(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: Arc<Batch>,
    ) -> Result<Appended, LogError> {
        let done = self.inner.append(stream, owner, batch.clone()).await;
        assert_eq!(done, self.oracle().append(owner, &batch), "append under epoch {}", batch.epoch);
        done
    }

    async fn seal(
        &self,
        stream: MessageId,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<(), LogError> {
        let done = self.inner.seal(stream, owner, epoch, seal.clone()).await;
        assert_eq!(done, self.oracle().seal(owner, epoch, &seal), "seal under epoch {epoch}");
        done
    }

    async fn read(&self, stream: MessageId, from: Index, limit: usize) -> Result<Page, LogError> {
        let page = self.inner.read(stream, from, limit).await?;
        self.oracle().check_page(&page);
        Ok(page)
    }

    async fn attach(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
    ) -> Result<(Page, TailWatch), LogError> {
        let (page, watch) = self.inner.attach(stream, from, limit).await?;
        self.oracle().check_page(&page);
        Ok((page, watch))
    }

    async fn trim(&self, stream: MessageId, before: Index) -> Result<(), LogError> {
        self.inner.trim(stream, before).await?;
        self.oracle().trim(before);
        Ok(())
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
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
        let renewal = self.inner.renew(owner, ttl, stats).await?;
        self.oracle().leases.insert(owner.incarnation, Instant::now() + ttl);
        Ok(renewal)
    }

    async fn release(&self, owner: &Owner) -> Result<(), LogError> {
        self.inner.release(owner).await?;
        self.oracle().leases.remove(&owner.incarnation);
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, LogError> {
        self.inner.nodes().await
    }

    async fn claim(&self, claim: &Claim, by: &Owner) -> Result<Claimed, LogError> {
        let claimed = self.inner.claim(claim, by).await;
        let mut oracle = self.oracle();
        let want = oracle.claim(claim, by);
        assert_eq!(claimed.as_ref().map(|_| ()), want.as_ref().copied(), "claim");
        if let Ok(claimed) = &claimed {
            oracle.check_head(&claimed.head);
        }
        claimed
    }

    async fn mark(&self, stream: MessageId, mark: Mark) -> Result<(), LogError> {
        let done = self.inner.mark(stream, mark).await;
        let mut oracle = self.oracle();
        assert_eq!(done.is_ok(), oracle.seal.is_none(), "{mark:?}");
        match mark {
            Mark::Cancel => oracle.cancel |= done.is_ok(),
            Mark::HandOver => oracle.marked |= done.is_ok(),
        }
        done
    }

    async fn orphans(&self, limit: usize) -> Result<Vec<Orphan>, LogError> {
        let orphans = self.inner.orphans(limit).await?;
        let oracle = self.oracle();
        assert_eq!(!orphans.is_empty(), oracle.orphaned(), "orphaned");
        for orphan in &orphans {
            assert_eq!((orphan.epoch, Some(&orphan.owner)), (oracle.epoch, oracle.owner.as_ref()));
        }
        Ok(orphans)
    }
}
