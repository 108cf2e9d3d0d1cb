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

    fn take(&self) -> Vec<Told> {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        waiting.drivers.drain(..).for_each(Waker::wake);
        std::mem::take(&mut waiting.events)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drive(mut follower: Follower, id: FollowId, inlet: Arc<Inlet>) {
    while let Some(event) = follower.next().await {
        if !inlet.put((id, event)) {
            poll_fn(|cx| inlet.poll_room(cx)).await;
        }
    }
}

struct Driven {
    id: FollowId,
    driver: AbortHandle,
    followed: Option<Followed>,
}

/// Futures that are polled whenever the socket is: most sockets follow one answer, and a set with a
/// waker for each member costs more than it saves there.
const FEW: usize = 4;

/// What is waited for.
#[derive(Default)]
struct Futures {
    few: Vec<BoxFuture<'static, Answer>>,
    many: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl Futures {
    fn push(&mut self, future: BoxFuture<'static, Answer>) {
        if self.few.len() < FEW {
            self.few.push(future);
        } else {
            self.many.push(future);
        }
    }

    fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    /// Polls all; the answers of those that ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Vec<Input<'static>> {
        let mut answers = Vec::new();
        self.few.retain_mut(|future| match future.as_mut().poll(cx) {
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
    driven: Vec<Driven>,
    /// Something was added and not polled yet: nobody else wakes it.
    fresh: bool,
}

impl Work {
    /// Starts a follower.
    pub fn follow(&mut self, id: FollowId, follower: Follower) {
        let (driver, registration) = AbortHandle::new_pair();
        let drive = Abortable::new(drive(follower, id, self.inlet.clone()), registration);
        // Aborted or at its end: either way there is nothing more to tell.
        self.futures.push(Box::pin(drive.map(|_| None)));
        self.fresh = true;
        self.driven.push(Driven { id, driver, followed: None });
    }

    /// Drops a follower.
    pub fn unfollow(&mut self, id: FollowId) {
        if let Some(at) = self.driven.iter().position(|driven| driven.id == id) {
            self.driven.swap_remove(at).driver.abort();
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
        self.futures.push(answer);
        self.fresh = true;
    }

    /// Runs everything as far as it goes; answers come first, then what followers told.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> (Vec<Input<'static>>, Vec<Told>) {
        self.fresh = false;
        let answers = self.futures.poll(cx);
        (answers, self.inlet.take())
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
