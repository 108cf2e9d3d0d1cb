//! What one socket waits for beside its client: followers, and answers of the node.
//!
//! A follower's driver runs as far as it can and puts its events into the inlet; the socket's task
//! takes them out together. So a page of two hundred batches is one poll and one write.

use super::registry::Followed;
use crate::session::{FollowId, Input};
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::{FuturesUnordered, Stream};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use streamlog::{Event, FollowError, Follower};

/// Text in the inlet after which drivers wait until it was taken out.
const INLET_BYTES: usize = 64 * 1024;
/// Events in the inlet after which drivers wait.
const INLET_EVENTS: usize = 1_024;

/// Room for this many events is kept between two polls.
const KEEP_EVENTS: usize = 8;

/// An event and whose.
pub type Told = (FollowId, Result<Event, FollowError>);

/// An answer of the node, or nothing (a driver that ended).
pub type Answer = Option<Input<'static>>;

#[derive(Default)]
struct Inlet(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    events: Vec<Told>,
    bytes: usize,
    drivers: Vec<Waker>,
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.bytes < INLET_BYTES && self.events.len() < INLET_EVENTS
    }
}

impl Inlet {
    /// `false`: it is full now.
    fn put(&self, told: Told) -> bool {
        let mut waiting = self.lock();
        if let Ok(Event::Batch(slice)) = &told.1 {
            waiting.bytes += slice.batch().weight();
        }
        waiting.events.push(told);
        waiting.has_room()
    }

    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        if waiting.has_room() {
            return Poll::Ready(());
        }
        waiting.drivers.push(cx.waker().clone());
        Poll::Pending
    }

    /// Takes all events and leaves `empty` for the next.
    fn exchange(&self, empty: Vec<Told>) -> Vec<Told> {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        waiting.drivers.drain(..).for_each(Waker::wake);
        std::mem::replace(&mut waiting.events, empty)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drive(mut follower: Follower, id: FollowId, inlet: Arc<Inlet>) -> Answer {
    while let Some(event) = follower.next().await {
        if !inlet.put((id, event)) {
            poll_fn(|cx| inlet.poll_room(cx)).await;
        }
    }
    None
}

struct Driven {
    id: FollowId,
    /// Where it is one of many.
    abort: Option<AbortHandle>,
    followed: Option<Followed>,
}

/// Futures that are polled whenever the socket is: most sockets follow one answer, and a set with a
/// waker for each member costs more than it saves there.
const FEW: usize = 4;

/// What is waited for.
#[derive(Default)]
struct Futures {
    few: Vec<Waited>,
    many: FuturesUnordered<BoxFuture<'static, Answer>>,
}

struct Waited {
    future: BoxFuture<'static, Answer>,
    /// Whose driver it is.
    driver: Option<FollowId>,
}

impl Futures {
    /// `Some`: among many it can only be aborted by this handle.
    fn push(
        &mut self,
        future: BoxFuture<'static, Answer>,
        driver: Option<FollowId>,
    ) -> Option<AbortHandle> {
        if self.few.len() < FEW {
            self.few.push(Waited { future, driver });
            return None;
        }
        let (handle, registration) = AbortHandle::new_pair();
        // Aborted or at its end: either way there is nothing more to tell.
        let abortable = Abortable::new(future, registration).map(|end| end.ok().flatten());
        self.many.push(Box::pin(abortable));
        Some(handle)
    }

    fn drop_driver(&mut self, id: FollowId) {
        self.few.retain(|waited| waited.driver != Some(id));
    }

    fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    /// Polls all; the answers of those that ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Vec<Input<'static>> {
        let mut answers = Vec::new();
        self.few.retain_mut(|waited| match waited.future.as_mut().poll(cx) {
            Poll::Ready(answer) => {
                answers.extend(answer);
                false
            }
            Poll::Pending => true,
        });
        if !self.many.is_empty() {
            while let Poll::Ready(Some(answer)) = Pin::new(&mut self.many).poll_next(cx) {
                answers.extend(answer);
            }
        }
        answers
    }
}

/// See the module. Made when it is first needed: an idle socket has none.
#[derive(Default)]
pub struct Work {
    futures: Futures,
    inlet: Arc<Inlet>,
    /// The inlet's other buffer: a chunk costs no allocation here.
    spare: Vec<Told>,
    driven: Vec<Driven>,
    /// Something was added and not polled yet: nobody else wakes it.
    fresh: bool,
}

impl Work {
    /// Starts a follower.
    pub fn follow(&mut self, id: FollowId, follower: Follower) {
        let driver = drive(follower, id, self.inlet.clone());
        let abort = self.futures.push(Box::pin(driver), Some(id));
        self.fresh = true;
        self.driven.push(Driven { id, abort, followed: None });
    }

    /// Drops a follower.
    pub fn unfollow(&mut self, id: FollowId) {
        if let Some(at) = self.driven.iter().position(|driven| driven.id == id) {
            match self.driven.swap_remove(at).abort {
                Some(abort) => abort.abort(),
                None => self.futures.drop_driver(id),
            }
        }
    }

    /// Keeps the guard as long as the follow.
    pub fn keep(&mut self, id: FollowId, followed: Followed) {
        if let Some(driven) = self.driven.iter_mut().find(|driven| driven.id == id) {
            driven.followed = Some(followed);
        }
    }

    /// Waits for an answer of the node.
    pub fn ask(&mut self, answer: BoxFuture<'static, Answer>) {
        self.futures.push(answer, None);
        self.fresh = true;
    }

    /// Runs everything as far as it goes; answers come first, then what followers told.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> (Vec<Input<'static>>, Vec<Told>) {
        self.fresh = false;
        let answers = self.futures.poll(cx);
        (answers, self.inlet.exchange(std::mem::take(&mut self.spare)))
    }

    /// Gives the buffer of [`Self::poll`] back, unless it grew for a long replay.
    pub fn give_back(&mut self, mut told: Vec<Told>) {
        told.clear();
        if told.capacity() <= KEEP_EVENTS {
            self.spare = told;
        }
    }

    /// Whether it must be polled although nothing woke it.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether it may be dropped.
    pub fn is_idle(&self) -> bool {
        self.futures.is_empty() && self.inlet.lock().events.is_empty()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Drivers hold wakers of this very set; they go with it.
        self.inlet.lock().drivers.clear();
    }
}
