//! What a node remembers of the streams that it follows or owns: who listens, the newest head that
//! was seen, where in the text its readers stand. All of it can be lost without harm.

use super::head::{Cold, Hot};
use super::meta::{Meta, State};
use super::told::Told;
use crate::batch::Batch;
use crate::bell::{Bell, Listener};
use crate::clock::Clock;
use crate::log::{Opening, Page};
use protocol::server_frame::Source;
use protocol::{Index, MessageId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Places in the text remembered for each stream: slow readers stand further back than fast ones.
const PLACES: usize = 8;
/// The lives of a stream's keys are prolonged at most this often.
const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// What nobody listens to and nobody writes is forgotten after this time.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Text that came with a hint is read within this time or not at all: a node that slept asks the
/// store before it tells anything.
const TOLD_FOR: Duration = Duration::from_secs(1);
/// Streams to be let go of that wait for a sweep; more are found by the store itself.
const MOST_STRANGERS: usize = 4_096;

/// See the module.
pub(super) struct Kept {
    clock: Clock,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    streams: HashMap<MessageId, Entry>,
    /// Streams that told this node something although nobody here listens.
    strangers: Vec<MessageId>,
}

struct Entry {
    known: Option<Hot>,
    cold: Option<Known>,
    places: VecDeque<Place>,
    told: Told,
    /// When the last of it was heard.
    told_at: Instant,
    bell: Bell,
    /// Attaches on their way: they will listen to what is told meanwhile.
    attaching: usize,
    /// Whether the stream tells this node, as far as is known here.
    listed: bool,
    own: Option<Own>,
    used: Instant,
}

struct Own {
    hot: Hot,
    refreshed: Instant,
}

/// The rarely written part of a stream, and when it is true.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) cold: Cold,
    pub(super) meta: Arc<Meta>,
    pub(super) opening: Arc<Opening>,
    pub(super) used_tools: bool,
}

impl Known {
    /// The stream whose head is this one, at no certain time.
    pub(super) fn state(&self, hot: Hot) -> State {
        let (meta, opening) = (self.meta.clone(), self.opening.clone());
        State { hot, meta, opening, used_tools: self.used_tools, now: 0 }
    }
}

/// Where an index stands in a text of one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) life: u32,
    pub(super) index: Index,
    pub(super) offset: usize,
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            known: None,
            cold: None,
            places: VecDeque::new(),
            told: Told::default(),
            told_at: now,
            bell: Bell::default(),
            attaching: 0,
            listed: false,
            own: None,
            used: now,
        }
    }

    fn is_followed(&self) -> bool {
        self.attaching > 0 || self.bell.is_heard()
    }

    fn remember(&mut self, place: Place) {
        if self.places.back() != Some(&place) {
            self.places.push_back(place);
            if self.places.len() > PLACES {
                self.places.pop_front();
            }
        }
    }

    /// `true` where it was news.
    fn learn(&mut self, hot: Hot) -> bool {
        let news = hot.is_news_after(self.known.as_ref());
        if news {
            self.known = Some(hot);
            self.bell.ring();
        }
        news
    }
}

/// An attach on its way.
pub(super) struct Attaching<'a> {
    kept: &'a Kept,
    stream: MessageId,
}

impl Attaching<'_> {
    /// Hears everything after what was read.
    pub(super) fn listen(self, read: &Hot) -> Listener {
        let now = self.kept.clock.now();
        let mut memory = self.kept.lock();
        let entry = memory.streams.entry(self.stream).or_insert_with(|| Entry::new(now));
        entry.learn(*read);
        entry.listed = true;
        let listener = entry.bell.listen();
        if entry.known.as_ref() != Some(read) {
            // Told while the page was on its way: this one has not heard it.
            entry.bell.ring();
        }
        listener
    }
}

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.kept.lock().streams.get_mut(&self.stream) {
            entry.attaching = entry.attaching.saturating_sub(1);
        }
    }
}

impl Kept {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, memory: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().streams.len()
    }

    /// To be called before the attach is sent: what is told from then on is not lost.
    pub(super) fn attaching(&self, stream: MessageId) -> Attaching<'_> {
        let now = self.clock.now();
        let mut memory = self.lock();
        let entry = memory.streams.entry(stream).or_insert_with(|| Entry::new(now));
        entry.attaching += 1;
        entry.used = now;
        drop(memory);
        Attaching { kept: self, stream }
    }

    /// A hint arrived, perhaps with the batch that it is about.
    pub(super) fn heard(&self, stream: MessageId, hot: Hot, batch: Option<Arc<Batch>>) {
        let now = self.clock.now();
        let mut memory = self.lock();
        let followed = memory.streams.get_mut(&stream).is_some_and(|entry| {
            if let Some(batch) = batch {
                entry.told_at = now;
                entry.told.push(&hot, batch);
                let offset = hot.size as usize;
                entry.remember(Place { life: hot.life, index: hot.tail, offset });
            }
            entry.learn(hot);
            entry.is_followed()
        });
        if !followed && memory.strangers.len() < MOST_STRANGERS {
            memory.strangers.push(stream);
        }
    }

    /// A head was seen in the store; `true` where that was news.
    pub(super) fn learn(&self, stream: MessageId, hot: Hot) -> bool {
        self.lock().streams.get_mut(&stream).is_some_and(|entry| entry.learn(hot))
    }

    /// The store has no such stream any more: whoever listens shall look.
    pub(super) fn lost(&self, stream: MessageId) -> bool {
        let mut memory = self.lock();
        let Some(entry) = memory.streams.get_mut(&stream) else { return false };
        entry.own = None;
        entry.bell.ring();
        entry.known.take().is_some()
    }

    /// Sends the listeners of one stream, or of all, to attach again.
    pub(super) fn close(&self, stream: Option<MessageId>) {
        let mut memory = self.lock();
        let entries =
            memory.streams.iter_mut().filter(|(id, _)| stream.is_none_or(|it| it == **id));
        for (_, entry) in entries {
            entry.bell = Bell::default();
            entry.listed = false;
        }
    }

    /// Whether the stream tells this node, as far as is known here.
    pub(super) fn is_listed(&self, stream: MessageId) -> bool {
        self.lock().streams.get(&stream).is_some_and(|entry| entry.listed)
    }

    pub(super) fn known(&self, stream: MessageId) -> Option<Known> {
        self.lock().streams.get(&stream)?.cold.clone()
    }

    /// Keeps what a read brought, where the stream is remembered at all.
    pub(super) fn keep(&self, state: &State) {
        let stream = state.opening.message;
        let cold = state.hot.cold();
        let mut memory = self.lock();
        let Some(entry) = memory.streams.get_mut(&stream) else { return };
        if entry.cold.as_ref().is_none_or(|known| known.cold != cold) {
            entry.cold = Some(Known {
                cold,
                meta: state.meta.clone(),
                opening: state.opening.clone(),
                used_tools: state.used_tools,
            });
        }
    }

    pub(super) fn place(&self, stream: MessageId, index: Index) -> Option<Place> {
        let memory = self.lock();
        let places = &memory.streams.get(&stream)?.places;
        places.iter().rev().find(|place| place.index == index).copied()
    }

    pub(super) fn remember(&self, stream: MessageId, place: Place) {
        if let Some(entry) = self.lock().streams.get_mut(&stream) {
            entry.remember(place);
        }
    }

    /// A page that hints brought: what was true when the last of them was sent, and only where that
    /// is news for a reader at `from`. Whoever wants to know what is true now asks from the tail on.
    pub(super) fn told(&self, stream: MessageId, from: Index, limit: usize) -> Option<Page> {
        let memory = self.lock();
        let entry = memory.streams.get(&stream).filter(|entry| entry.is_followed())?;
        let age = self.clock.now().saturating_duration_since(entry.told_at);
        if age > TOLD_FOR {
            return None;
        }
        let hot = entry.known?;
        let known = entry.cold.as_ref().filter(|known| known.cold == hot.cold())?;
        let (before, batches) = entry.told.page(&hot, from, limit)?;
        let (opening, head) = (known.opening.clone(), known.state(hot).head(true));
        Some(Page { opening, head, from, before: Some(before), batches, source: Source::Memory })
    }

    /// The head that this node's own last write left.
    pub(super) fn owned(&self, stream: MessageId) -> Option<Hot> {
        self.lock().streams.get(&stream)?.own.as_ref().map(|own| own.hot)
    }

    /// Whether the lives of the keys are to be prolonged now; the caller does it if so.
    pub(super) fn refresh_is_due(&self, stream: MessageId) -> bool {
        let now = self.clock.now();
        let mut memory = self.lock();
        let own = memory.streams.get_mut(&stream).and_then(|entry| entry.own.as_mut());
        own.is_none_or(|own| {
            let due = now.saturating_duration_since(own.refreshed) >= REFRESH_EVERY;
            if due {
                own.refreshed = now;
            }
            due
        })
    }

    /// This node wrote this head: it owns the stream.
    pub(super) fn own(&self, stream: MessageId, hot: Hot) {
        let now = self.clock.now();
        let mut memory = self.lock();
        let entry = memory.streams.entry(stream).or_insert_with(|| Entry::new(now));
        let refreshed = entry.own.as_ref().map_or(now, |own| own.refreshed);
        entry.own = Some(Own { hot, refreshed });
        entry.used = now;
        entry.learn(hot);
    }

    /// This node owns the stream no more, or does not know.
    pub(super) fn disown(&self, stream: MessageId) {
        if let Some(entry) = self.lock().streams.get_mut(&stream) {
            entry.own = None;
        }
    }

    /// Streams that somebody here follows and that may still change.
    pub(super) fn followed(&self) -> Vec<MessageId> {
        let memory = self.lock();
        let open = memory.streams.iter().filter(|(_, entry)| {
            entry.is_followed() && !entry.known.is_some_and(|known| known.sealed)
        });
        open.map(|(stream, _)| *stream).collect()
    }

    /// Forgets what nobody needs, and names the streams that need not tell this node any more.
    pub(super) fn tidy(&self) -> Vec<MessageId> {
        let now = self.clock.now();
        let mut memory = self.lock();
        let mut strangers = std::mem::take(&mut memory.strangers);
        strangers.retain(|stream| {
            memory.streams.get_mut(stream).is_none_or(|entry| {
                entry.listed &= entry.is_followed();
                !entry.is_followed()
            })
        });
        memory.streams.retain(|_, entry| {
            let ended = entry.own.is_none() && entry.known.is_some_and(|known| known.sealed);
            let idle = now.saturating_duration_since(entry.used) >= FORGET_AFTER;
            entry.is_followed() || !(ended || idle)
        });
        strangers.sort();
        strangers.dedup();
        strangers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Incarnation;
    use uuid::Uuid;

    fn hot(tail: u64) -> Hot {
        Hot { tail: Index(tail), ..Hot::opened(Incarnation(Uuid::from_u128(1)), 1) }
    }

    async fn silent(listener: &mut Listener) -> bool {
        tokio::time::timeout(Duration::from_secs(1), listener.rung()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_hears_what_came_after_its_read_and_nothing_before() {
        let (kept, stream) = (Kept::new(Clock::system()), MessageId(Uuid::from_u128(2)));
        let mut first = kept.attaching(stream).listen(&hot(3));
        kept.heard(stream, hot(3), None);
        kept.heard(stream, hot(2), None);
        assert!(silent(&mut first).await, "no news");
        kept.heard(stream, hot(4), None);
        first.rung().await.unwrap();
        let attaching = kept.attaching(stream);
        kept.heard(stream, hot(6), None);
        first.rung().await.unwrap();
        attaching.listen(&hot(5)).rung().await.expect("told while its page was on its way");
        assert!(kept.tidy().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_listen_is_a_stranger_and_forgotten() {
        let (kept, stream) = (Kept::new(Clock::system()), MessageId(Uuid::from_u128(2)));
        let listener = kept.attaching(stream).listen(&hot(3));
        assert_eq!(kept.followed(), [stream]);
        drop(listener);
        assert_eq!(kept.followed(), []);
        kept.heard(stream, hot(4), None);
        assert_eq!(kept.tidy(), [stream]);
        assert_eq!(kept.tidy(), []);
        tokio::time::sleep(FORGET_AFTER).await;
        assert_eq!((kept.tidy(), kept.len()), (Vec::new(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_sends_listeners_to_attach_again() {
        let (kept, stream) = (Kept::new(Clock::system()), MessageId(Uuid::from_u128(2)));
        let mut listener = kept.attaching(stream).listen(&hot(3));
        kept.close(None);
        assert!(listener.rung().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_prolonged_now_and_then() {
        let (kept, stream) = (Kept::new(Clock::system()), MessageId(Uuid::from_u128(2)));
        assert!(kept.refresh_is_due(stream), "nothing is known");
        kept.own(stream, hot(0));
        assert!(!kept.refresh_is_due(stream));
        tokio::time::sleep(REFRESH_EVERY).await;
        assert!(kept.refresh_is_due(stream) && !kept.refresh_is_due(stream));
        kept.own(stream, hot(1));
        assert!(!kept.refresh_is_due(stream));
    }
}
