//! A live stream that this node owns, in its memory: what is known of it, and when it may be shown.

use super::finished;
use crate::batch::Batch;
use crate::bell::Bell;
use crate::bugs::{self, Bug};
use crate::lease::Lease;
use crate::log::{Head, Near, Nearby, Opening, Page, TailWatch};
use protocol::{Digest, Epoch, Index};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many of a live stream's last batches keep their encoded forms, for whoever is a little late.
const KEEP_FRAMES: usize = 16;

/// See the module. Its followers hold on to it and ask it before the log ([`Near`]).
#[derive(Debug)]
pub(super) struct Live {
    lease: Arc<Lease>,
    reads: Arc<AtomicU64>,
    own: Mutex<Own>,
}

/// What is known of it.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) opening: Arc<Opening>,
    pub(super) head: Head,
    pub(super) batches: Vec<Arc<Batch>>,
    /// Lease generation under which ownership was last confirmed; without one nothing is served.
    confirmed: Option<u64>,
    /// An append was sent whose outcome is not known here: the log may hold more.
    pub(super) unsettled: bool,
    /// Let go of: sealed, lost or superseded. Nothing is shown any more, whatever is confirmed.
    closed: bool,
    pub(super) bell: Bell,
    /// Batches that may keep their encoded forms.
    shared: VecDeque<Arc<Batch>>,
}

impl Live {
    /// `confirmed` is the generation of the lease from before the call that proved the ownership was
    /// sent. `reads` counts what was answered from here.
    pub(super) fn new(
        opening: Arc<Opening>,
        head: Head,
        batches: Vec<Arc<Batch>>,
        confirmed: Option<u64>,
        lease: Arc<Lease>,
        reads: Arc<AtomicU64>,
    ) -> Self {
        let own = Own {
            opening,
            head,
            batches,
            confirmed,
            unsettled: false,
            closed: false,
            bell: Bell::default(),
            shared: VecDeque::new(),
        };
        Self { lease, reads, own: Mutex::new(own) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers from this memory, where it can; the lease is checked after the reply is built.
    pub(super) fn reply<T>(&self, build: impl FnOnce(&mut Own) -> Option<T>) -> Option<T> {
        let mut own = self.lock();
        if own.closed {
            return None;
        }
        let built = build(&mut own);
        if bugs::active(Bug::ZombieReads) || self.is_confirmed(&own) {
            if built.is_some() {
                self.reads.fetch_add(1, Ordering::Relaxed);
            }
            return built;
        }
        own.lapse();
        None
    }

    /// Whether what is known may be shown at this moment.
    fn is_confirmed(&self, own: &Own) -> bool {
        own.confirmed.is_some() && self.lease.certain() == own.confirmed
    }
}

impl Near for Live {
    fn next(&self, from: Index, before: Digest, epoch: Epoch) -> Nearby {
        let nearby = self.reply(|own| {
            if own.head.epoch != epoch || own.head.seal.is_some() {
                return None;
            }
            if from == own.head.tail {
                let settled = !own.unsettled && own.head.digest == before;
                return settled.then_some(Nearby::Nothing);
            }
            let at = crate::batch::position(&own.batches, from);
            let batch = own.batches.get(at)?;
            let more = at + 1 < own.batches.len();
            let follows = batch.first == from && batch.before == before;
            follows.then(|| Nearby::Next { batch: batch.clone(), more })
        });
        nearby.unwrap_or(Nearby::Unknown)
    }
}

impl Own {
    /// Takes over what the log holds; `false` where this memory lacks something before it.
    pub(super) fn push(&mut self, batch: Arc<Batch>) -> bool {
        if batch.first != self.head.tail {
            return batch.end() <= self.head.tail;
        }
        self.head.tail = batch.end();
        self.head.digest = batch.after;
        if self.bell.listeners() > 1 {
            self.remember_shared(&batch);
        }
        self.batches.push(batch);
        self.bell.ring();
        true
    }

    /// Several will want its encoded form, and it is kept for a while.
    fn remember_shared(&mut self, batch: &Arc<Batch>) {
        self.shared.push_back(batch.clone());
        if self.shared.len() > KEEP_FRAMES
            && let Some(late) = self.shared.pop_front()
        {
            late.forget_frames();
        }
    }

    /// Confirmed as ours by an answer to a call that was sent under this lease generation.
    pub(super) fn confirm(&mut self, generation: Option<u64>) {
        self.confirmed = self.confirmed.max(generation);
    }

    /// Stops serving until confirmed again. Closing the watch sends its followers to the log, whose
    /// own watch they need now.
    pub(super) fn lapse(&mut self) {
        if self.confirmed.take().is_some() {
            self.bell = Bell::default();
        }
    }

    /// Stops serving for good.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.bell = Bell::default();
    }

    pub(super) fn page(&self, from: Index, limit: usize) -> Page {
        finished::page(&self.opening, &self.head, &self.batches, from, limit)
    }

    /// Wakes for every outcome of an append.
    pub(super) fn watch(&self, live: &Arc<Live>) -> TailWatch {
        TailWatch::new(self.bell.listen()).beside(live.clone())
    }
}
