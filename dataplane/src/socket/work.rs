//! What one socket waits for beside its client: followers, and answers of the node.
//!
//! A follower runs as far as it can, up to the bounds of one round; what the followers told is taken
//! out together. So a page of two hundred batches is one poll and one write.

use super::registry::Followed;
use crate::session::{FollowId, Input, Output};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use futures_util::task::ArcWake;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use streamlog::{Event, FollowError, Follower};

/// Text of one round, after which followers wait until it was taken out.
const ROUND_BYTES: usize = 64 * 1024;
/// Events of one round.
const ROUND_EVENTS: usize = 1_024;
/// Followers that are polled whenever the socket is: most sockets follow one answer, and to know which
/// one of a few woke it costs more than to ask them all.
const FEW: usize = 4;

/// An event and whose.
pub type Told = (FollowId, Result<Event, FollowError>);

thread_local! {
    /// Room for a round of whichever socket runs: memory that every socket uses is never cold.
    static ROOM: Cell<Room> = const { Cell::new(Room { told: Vec::new(), outputs: Vec::new() }) };
}

/// What one round needs and leaves empty.
#[derive(Default)]
pub struct Room {
    /// What followers told.
    pub told: Vec<Told>,
    /// What the session says to it.
    pub outputs: Vec<Output>,
}

impl Room {
    /// The thread's; another one where that is in use.
    pub fn take() -> Self {
        ROOM.take()
    }

    /// Gives it back; what it still holds is dropped.
    pub fn give_back(mut self) {
        self.told.clear();
        self.outputs.clear();
        ROOM.set(self);
    }
}

/// An answer of the node, or nothing (a note that needed none).
pub type Answer = Option<Input<'static>>;

/// One of many followers: whether it has something to do.
struct Woken {
    flag: AtomicBool,
    socket: Waker,
}

impl ArcWake for Woken {
    fn wake_by_ref(woken: &Arc<Self>) {
        woken.flag.store(true, Ordering::Release);
        woken.socket.wake_by_ref();
    }
}

struct Driven {
    id: FollowId,
    follower: Follower,
    followed: Option<Followed>,
    /// Where it is one of many; made when it is first polled.
    woken: Option<(Arc<Woken>, Waker)>,
    alone: bool,
}

/// How far a follower came in this round.
enum Ran {
    /// It waits.
    Waits,
    /// The round is full and it may have more.
    Full,
    /// It told its end.
    Ended,
}

impl Driven {
    fn run(&mut self, cx: &mut Context<'_>, round: &mut Round<'_>) -> Ran {
        if self.alone {
            return self.run_with(cx, round);
        }
        let socket = cx.waker();
        let (woken, waker) = self.woken.get_or_insert_with(|| {
            let flag = AtomicBool::new(true);
            let woken = Arc::new(Woken { flag, socket: socket.clone() });
            (woken.clone(), futures_util::task::waker(woken))
        });
        if !woken.flag.swap(false, Ordering::AcqRel) {
            return Ran::Waits;
        }
        let (woken, waker) = (woken.clone(), waker.clone());
        let ran = self.run_with(&mut Context::from_waker(&waker), round);
        if matches!(ran, Ran::Full) {
            woken.flag.store(true, Ordering::Release);
        }
        ran
    }

    fn run_with(&mut self, cx: &mut Context<'_>, round: &mut Round<'_>) -> Ran {
        while round.has_room() {
            match self.follower.poll_next(cx) {
                Poll::Ready(Some(event)) => round.put(self.id, event),
                Poll::Ready(None) => return Ran::Ended,
                Poll::Pending => return Ran::Waits,
            }
        }
        Ran::Full
    }
}

/// What followers told in one round.
struct Round<'a> {
    told: &'a mut Vec<Told>,
    bytes: usize,
}

impl Round<'_> {
    fn has_room(&self) -> bool {
        self.bytes < ROUND_BYTES && self.told.len() < ROUND_EVENTS
    }

    fn put(&mut self, id: FollowId, event: Result<Event, FollowError>) {
        if let Ok(Event::Batch(slice)) = &event {
            self.bytes += slice.batch().weight();
        }
        self.told.push((id, event));
    }
}

/// See the module. Made when it is first needed: an idle socket has none.
#[derive(Default)]
pub struct Work {
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    driven: Vec<Driven>,
    /// There is something to poll that nobody will wake it for.
    fresh: bool,
}

impl Work {
    /// Starts a follower.
    pub fn follow(&mut self, id: FollowId, follower: Follower) {
        let alone = self.driven.len() < FEW;
        let follower = follower.swept_from_outside();
        self.driven.reserve_exact(1);
        self.driven.push(Driven { id, follower, followed: None, woken: None, alone });
        self.fresh = true;
    }

    /// Makes every follower look at the log: a lost wake-up delays, and never loses.
    pub fn sweep(&mut self) {
        for driven in &mut self.driven {
            driven.follower.sweep();
            if let Some((woken, _)) = &driven.woken {
                woken.flag.store(true, Ordering::Release);
            }
        }
    }

    /// Whether there is anything to sweep.
    pub fn follows(&self) -> bool {
        !self.driven.is_empty()
    }

    /// Drops a follower.
    pub fn unfollow(&mut self, id: FollowId) {
        self.driven.retain(|driven| driven.id != id);
    }

    /// Keeps the guard as long as the follow.
    pub fn keep(&mut self, id: FollowId, followed: Followed) {
        if let Some(driven) = self.driven.iter_mut().find(|driven| driven.id == id) {
            driven.followed = Some(followed);
        }
    }

    /// Waits for an answer of the node.
    pub fn ask(&mut self, answer: BoxFuture<'static, Answer>) {
        self.answers.push(answer);
        self.fresh = true;
    }

    /// Runs everything as far as one round goes; answers come first, then what followers told.
    pub fn poll(&mut self, cx: &mut Context<'_>, told: &mut Vec<Told>) -> Vec<Input<'static>> {
        self.fresh = false;
        let mut answers = Vec::new();
        if !self.answers.is_empty() {
            while let Poll::Ready(Some(answer)) = Pin::new(&mut self.answers).poll_next(cx) {
                answers.extend(answer);
            }
        }
        let mut round = Round { told, bytes: 0 };
        let fresh = &mut self.fresh;
        self.driven.retain_mut(|driven| match driven.run(cx, &mut round) {
            Ran::Waits => true,
            Ran::Full => {
                *fresh = true;
                true
            }
            Ran::Ended => false,
        });
        answers
    }

    /// Whether it must be polled although nothing woke it.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether it may be dropped.
    pub fn is_idle(&self) -> bool {
        self.driven.is_empty() && self.answers.is_empty()
    }
}
