//! One stored stream: the rules of append, seal, claim and trim, without locks or clocks.

use crate::batch::{self, Batch};
use crate::bell::Bell;
use crate::bugs::{self, Bug};
use crate::directory::{Claim, Keep, Restore};
use crate::error::LogError;
use crate::log::{Appended, Cut, Head, Opening, Owner, Page, TailWatch, TakenOver};
use protocol::server_frame::{ResetReason, Source};
use protocol::{ChunkType, Digest, Epoch, Index, Seal};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

pub(super) struct Stored {
    pub(super) opening: Arc<Opening>,
    pub(super) owner: Owner,
    pub(super) hand_over: Option<Instant>,
    pub(super) barren: u32,
    pub(super) used_tools: bool,
    /// Run of the store in which it was opened, claimed or restored last.
    run: Uuid,
    head: Head,
    batches: Vec<Arc<Batch>>,
    sealed_at: Option<Instant>,
    bell: Bell,
}

impl Stored {
    pub(super) fn new(opening: Arc<Opening>, owner: Owner, run: Uuid) -> Self {
        Self {
            opening,
            owner,
            hand_over: None,
            barren: 0,
            used_tools: false,
            run,
            head: Head::opened(Epoch::FIRST),
            batches: Vec::new(),
            sealed_at: None,
            bell: Bell::default(),
        }
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Whether an open by `owner` can only be a repeat: it wrote nothing, nobody took it over.
    pub(super) fn is_untouched_since_opened_by(&self, owner: &Owner) -> bool {
        let head = &self.head;
        self.owner == *owner
            && head.epoch == Epoch::FIRST
            && head.tail == Index::ZERO
            && head.seal.is_none()
    }

    pub(super) fn sealed_for(&self, now: Instant) -> Option<Duration> {
        self.sealed_at.map(|at| now.saturating_duration_since(at))
    }

    fn fence(&self, owner: &Owner, epoch: Epoch) -> Result<(), LogError> {
        let mine = self.head.epoch == epoch && self.owner == *owner;
        if mine || bugs::active(Bug::NoFence) {
            return Ok(());
        }
        Err(LogError::Fenced { epoch: self.head.epoch })
    }

    pub(super) fn append(
        &mut self,
        owner: &Owner,
        batch: Arc<Batch>,
    ) -> Result<Appended, LogError> {
        self.fence(owner, batch.epoch)?;
        let done = Appended { cancel: self.head.cancel };
        if self.repeats(&batch) {
            return Ok(done);
        }
        if self.head.seal.is_some() {
            return Err(LogError::Sealed);
        }
        if batch.first != self.head.tail || batch.before != self.head.digest {
            return Err(LogError::Gap { tail: self.head.tail });
        }
        self.head.tail = batch.end();
        self.head.digest = batch.after;
        self.barren = 0;
        self.used_tools |= batch.chunks.iter().any(|chunk| chunk.kind == ChunkType::ToolUse);
        self.batches.push(batch);
        self.bell.ring();
        Ok(done)
    }

    /// The same bytes at the same place, acknowledged before: a repeat after a lost answer.
    fn repeats(&self, batch: &Batch) -> bool {
        batch.first < self.head.tail
            && self
                .batches
                .get(self.position(batch.first))
                .is_some_and(|stored| stored.same_bytes(batch))
    }

    pub(super) fn seal(
        &mut self,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
        now: Instant,
    ) -> Result<(), LogError> {
        self.fence(owner, epoch)?;
        if let Some(written) = &self.head.seal {
            return if *written == seal { Ok(()) } else { Err(LogError::Sealed) };
        }
        self.head.seal = Some(seal);
        self.sealed_at = Some(now);
        self.bell.ring();
        Ok(())
    }

    pub(super) fn claim(&mut self, claim: &Claim, by: &Owner, run: Uuid) -> Result<(), LogError> {
        let repeated = self.head.epoch == claim.expected.next() && self.owner == *by;
        if self.head.seal.is_some() {
            return Err(LogError::Sealed);
        }
        if self.head.epoch != claim.expected && !repeated {
            return Err(LogError::Fenced { epoch: self.head.epoch });
        }
        if !repeated {
            self.head.epoch = claim.expected.next();
            self.owner = by.clone();
            self.hand_over = None;
            self.barren += 1;
            let lost = std::mem::replace(&mut self.run, run) != run;
            if claim.keep == Keep::Nothing && self.head.tail > Index::ZERO {
                self.restart();
            } else if lost {
                // Nobody knows what else the other run held: cursors beyond the tail are void.
                self.cut(self.head.tail, ResetReason::RolledBack);
            }
            self.head.taken_over = Some(TakenOver { from: self.head.tail, mode: claim.mode });
            self.bell.ring();
        }
        Ok(())
    }

    /// A pair with an equal or larger `keep` is redundant from now on.
    fn cut(&mut self, keep: Index, reason: ResetReason) {
        let kept = self.head.cuts.iter().copied().filter(|cut| cut.keep < keep);
        let cut = Cut { epoch: self.head.epoch, keep, reason };
        self.head.cuts = kept.chain([cut]).collect();
    }

    fn restart(&mut self) {
        self.cut(Index::ZERO, ResetReason::Restarted);
        self.batches.clear();
        self.head.tail = Index::ZERO;
        self.head.digest = Digest::EMPTY;
    }

    pub(super) fn restore(
        &mut self,
        restore: &Restore,
        owner: &Owner,
        run: Uuid,
        now: Instant,
    ) -> Result<(), LogError> {
        let (stands, epoch) = (&self.head, restore.head.epoch);
        if stands.epoch > epoch || (stands.epoch == epoch && self.owner != *owner) {
            return Err(LogError::Fenced { epoch: stands.epoch });
        }
        if stands.seal.is_some() && stands.seal != restore.head.seal {
            return Err(LogError::Sealed);
        }
        let prefix = stands.tail <= restore.head.tail
            && restore.digest_before(stands.tail) == Some(stands.digest);
        if stands.epoch == epoch && !prefix {
            return Err(LogError::Gap { tail: stands.tail });
        }
        if stands.epoch < epoch {
            self.hand_over = None;
        }
        self.write_back(restore, owner, run, now);
        Ok(())
    }

    /// Replaces what is stored, marks excepted.
    pub(super) fn write_back(&mut self, restore: &Restore, owner: &Owner, run: Uuid, now: Instant) {
        let cancel = self.head.cancel || restore.head.cancel;
        self.head = Head { first: restore.first(), cancel, ..restore.head.clone() };
        self.batches.clone_from(&restore.batches);
        self.owner = owner.clone();
        self.opening = restore.opening.clone();
        (self.barren, self.used_tools) = (restore.barren, restore.used_tools);
        self.run = run;
        self.sealed_at = restore.head.seal.is_some().then(|| self.sealed_at.unwrap_or(now));
        self.bell.ring();
    }

    pub(super) fn cancel(&mut self) -> Result<(), LogError> {
        if self.head.seal.is_some() {
            return Err(LogError::Sealed);
        }
        if !self.head.cancel {
            self.head.cancel = true;
            self.bell.ring();
        }
        Ok(())
    }

    pub(super) fn trim(&mut self, before: Index) {
        if self.head.seal.is_none() {
            return;
        }
        self.batches.retain(|batch| batch.end() > before);
        self.head.first = self.batches.first().map_or(self.head.tail, |batch| batch.first);
    }

    /// Which batch holds `index`, or would.
    fn position(&self, index: Index) -> usize {
        batch::position(&self.batches, index)
    }

    pub(super) fn page(&self, from: Index, limit: usize) -> Page {
        let mut batches = Vec::new();
        let mut bytes = 0;
        for batch in self.batches.get(self.position(from)..).unwrap_or_default() {
            if !batches.is_empty() && bytes >= limit {
                break;
            }
            bytes += batch.weight();
            batches.push(batch.clone());
        }
        Page {
            opening: self.opening.clone(),
            head: self.head.clone(),
            from,
            before: self.digest_before(from),
            batches,
            source: Source::Memory,
        }
    }

    fn digest_before(&self, from: Index) -> Option<Digest> {
        if from == self.head.tail {
            return Some(self.head.digest);
        }
        if from == Index::ZERO {
            return Some(Digest::EMPTY);
        }
        self.batches.get(self.position(from)).and_then(|batch| batch.digest_before(from))
    }

    pub(super) fn watch(&self) -> TailWatch {
        TailWatch::new(self.bell.listen())
    }
}
