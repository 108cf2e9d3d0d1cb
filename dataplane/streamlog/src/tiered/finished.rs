//! Answers that have ended, in memory. They never change, so no lease protects them.
//!
//! Those this node sealed itself are kept as long as the store keeps them, to be written back where
//! the store loses them; those that were read from elsewhere are a cache.

use crate::batch::{self, Batch};
use crate::clock::Clock;
use crate::log::{Head, Opening, Page};
use crate::memory::KEEP_TEXT;
use protocol::server_frame::Source;
use protocol::{Digest, Index, MessageId};
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory for answers this node sealed; beyond it the oldest go first.
const OWN_BYTES: usize = 256 << 20;
/// Memory for answers of other nodes; beyond it the least useful go first.
const CACHE_BYTES: u64 = 64 << 20;
/// Answers the cache is laid out for.
const CACHE_ITEMS: usize = 4_096;
/// What a batch and a chunk take beside their text, in bytes.
const BATCH_BYTES: usize = 160;
const CHUNK_BYTES: usize = 64;

/// A sealed answer with its whole text.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) opening: Arc<Opening>,
    pub(super) head: Head,
    pub(super) batches: Vec<Arc<Batch>>,
}

impl Whole {
    /// `None` where the page is not the whole text of a sealed answer.
    pub(super) fn of(page: &Page) -> Option<Self> {
        let (first, last) = (page.batches.first(), page.batches.last());
        let begins = first.map_or(page.head.tail, |batch| batch.first) == Index::ZERO;
        let ends = last.map_or(Index::ZERO, |batch| batch.end()) == page.head.tail;
        (page.head.seal.is_some() && page.head.first == Index::ZERO && begins && ends).then(|| {
            let (opening, head) = (page.opening.clone(), page.head.clone());
            Self { opening, head, batches: page.batches.clone() }
        })
    }

    fn weight(&self) -> usize {
        let of =
            |batch: &Arc<Batch>| batch.weight() + BATCH_BYTES + batch.chunks.len() * CHUNK_BYTES;
        self.opening.content.len() + BATCH_BYTES + self.batches.iter().map(of).sum::<usize>()
    }

    /// Whether the store still has the text, were it never lost.
    fn is_fresh(&self, clock: &Clock) -> bool {
        let answered = self.head.seal.as_ref().map_or(0, |seal| seal.latency_ms);
        let age = clock.wall().duration_since(self.opening.started_at);
        let since = age.as_millis() - i128::from(answered);
        since < KEEP_TEXT.as_millis() as i128
    }

    fn page(&self, from: Index, limit: usize) -> Page {
        page(&self.opening, &self.head, &self.batches, from, limit)
    }
}

/// The batches that overlap `from..`, about `limit` bytes of them, as one read.
pub(super) fn page(
    opening: &Arc<Opening>,
    head: &Head,
    batches: &[Arc<Batch>],
    from: Index,
    limit: usize,
) -> Page {
    let rest = batches.get(batch::position(batches, from)..).unwrap_or_default();
    let before = match rest.first() {
        _ if from == head.tail => Some(head.digest),
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
    let (opening, head, source) = (opening.clone(), head.clone(), Source::Memory);
    Page { opening, head, from, before, batches, source }
}

/// See the module.
pub(super) struct Finished {
    clock: Clock,
    own: Mutex<Own>,
    read: Cache<MessageId, Arc<Whole>, ByBytes, DefaultHashBuilder, CountEvicted>,
    counts: Arc<Counts>,
}

/// What was found, and what had to go for want of room.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) own: AtomicU64,
    pub(super) cached: AtomicU64,
    pub(super) own_evicted: AtomicU64,
    pub(super) cached_evicted: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Clone)]
struct CountEvicted(Arc<Counts>);

impl Lifecycle<MessageId, Arc<Whole>> for CountEvicted {
    type RequestState = ();

    fn begin_request(&self) -> Self::RequestState {}

    fn on_evict(&self, (): &mut (), _: MessageId, _: Arc<Whole>) {
        count(&self.0.cached_evicted);
    }
}

#[derive(Default)]
struct Own {
    oldest: VecDeque<MessageId>,
    answers: HashMap<MessageId, Arc<Whole>>,
    bytes: usize,
}

impl Own {
    fn remove(&mut self, stream: MessageId) {
        if let Some(gone) = self.answers.remove(&stream) {
            self.bytes -= gone.weight();
            self.oldest.retain(|other| *other != stream);
        }
    }

    /// Oldest first, until everything is fresh and fits.
    fn prune(&mut self, clock: &Clock, counts: &Counts) {
        while let Some(oldest) = self.oldest.front().copied() {
            let fresh = self.answers.get(&oldest).is_some_and(|whole| whole.is_fresh(clock));
            if fresh && self.bytes <= OWN_BYTES {
                return;
            }
            if fresh {
                count(&counts.own_evicted);
            }
            self.remove(oldest);
        }
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<MessageId, Arc<Whole>> for ByBytes {
    fn weight(&self, _: &MessageId, whole: &Arc<Whole>) -> u64 {
        whole.weight() as u64
    }
}

impl Finished {
    pub(super) fn new(clock: Clock) -> Self {
        let counts = Arc::<Counts>::default();
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), CountEvicted(counts.clone()));
        let read = Cache::with(CACHE_ITEMS, CACHE_BYTES, ByBytes, hasher, lifecycle);
        Self { clock, own: Mutex::default(), read, counts }
    }

    /// What was found here so far, and what went.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Keeps an answer that this node sealed.
    pub(super) fn keep(&self, whole: Whole) {
        let stream = whole.opening.message;
        let mut own = self.own();
        own.remove(stream);
        own.bytes += whole.weight();
        own.oldest.push_back(stream);
        own.answers.insert(stream, Arc::new(whole));
        own.prune(&self.clock, &self.counts);
    }

    /// Remembers what was read, where it is a whole answer.
    pub(super) fn remember(&self, page: &Page) {
        let stream = page.opening.message;
        if page.head.seal.is_some()
            && page.from == Index::ZERO
            && !self.own().answers.contains_key(&stream)
            && let Some(whole) = Whole::of(page)
        {
            self.read.insert(stream, Arc::new(whole));
        }
    }

    /// A read of an answer that is here.
    pub(super) fn page(&self, stream: MessageId, from: Index, limit: usize) -> Option<Page> {
        let (whole, hits) = self.find(stream)?;
        (from <= whole.head.tail).then(|| {
            count(hits);
            whole.page(from, limit)
        })
    }

    /// With the counter of where it was.
    fn find(&self, stream: MessageId) -> Option<(Arc<Whole>, &AtomicU64)> {
        let own = self.own().answers.get(&stream).cloned();
        let (whole, hits) = match own {
            Some(own) => (own, &self.counts.own),
            None => (self.read.get(&stream)?, &self.counts.cached),
        };
        if whole.is_fresh(&self.clock) {
            return Some((whole, hits));
        }
        self.forget(stream);
        None
    }

    /// An answer that this node sealed.
    pub(super) fn own_answer(&self, stream: MessageId) -> Option<Arc<Whole>> {
        self.own().answers.get(&stream).cloned()
    }

    /// What this node sealed and still keeps, the newest first.
    pub(super) fn own_openings(&self) -> Vec<Arc<Opening>> {
        let mut own = self.own();
        own.prune(&self.clock, &self.counts);
        let newest = own.oldest.iter().rev().filter_map(|stream| own.answers.get(stream));
        newest.map(|whole| whole.opening.clone()).collect()
    }

    /// The shared log says something else of it.
    pub(super) fn learn(&self, stream: MessageId, head: &Head) {
        let other = |whole: &Arc<Whole>| {
            let mine = &whole.head;
            (head.epoch, head.digest, &head.seal) != (mine.epoch, mine.digest, &mine.seal)
                || head.first > mine.first
        };
        let known = self.own_answer(stream).or_else(|| self.read.peek(&stream));
        if known.as_ref().is_some_and(other) {
            self.forget(stream);
        }
    }

    pub(super) fn forget(&self, stream: MessageId) {
        self.own().remove(stream);
        self.read.remove(&stream);
    }

    /// Forgets what was only read; what this node must be able to write back is kept.
    pub(super) fn clear_cache(&self) {
        self.read.clear();
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
