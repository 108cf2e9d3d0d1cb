//! The sockets of a node: who is here, what they follow, and a way to tell them something.

use super::stream::KillSwitch;
use crate::node::Node;
use crate::session::Rules;
use jiff::Timestamp;
use protocol::{Dialect, MessageId, SessionId, UserId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

pub use crate::session::Control;

/// Most things a socket's task is told and has not yet done; the oldest gives way.
const MOST_CONTROLS: usize = 16;

/// One open socket.
pub struct SocketHandle {
    /// Its session.
    pub session: SessionId,
    /// Whose.
    pub user: UserId,
    /// Since when.
    pub connected_at: Timestamp,
    dialect: Dialect,
    /// Of its task; a task has one for its whole life.
    waker: OnceLock<Waker>,
    told: AtomicBool,
    ended: AtomicBool,
    live: AtomicUsize,
    due_ms: AtomicU64,
    queued: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    controls: Vec<Control>,
    newest: Option<MessageId>,
}

impl SocketHandle {
    fn new(session: SessionId, user: UserId, dialect: Dialect, connected_at: Timestamp) -> Self {
        Self {
            session,
            user,
            connected_at,
            dialect,
            waker: OnceLock::new(),
            told: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            live: AtomicUsize::new(0),
            due_ms: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            inner: Mutex::default(),
        }
    }

    /// Live answers it follows.
    pub fn live_follows(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Bytes that wait because the client does not read.
    pub fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// The newest live answer it follows.
    pub fn newest_live(&self) -> Option<MessageId> {
        self.lock().newest
    }

    /// Whether it speaks v1.
    pub fn understands_goaway(&self) -> bool {
        self.dialect == Dialect::V1
    }

    /// Tells its task something, soon.
    pub fn tell(&self, control: Control) {
        let mut inner = self.lock();
        if inner.controls.len() >= MOST_CONTROLS {
            inner.controls.remove(0);
        }
        inner.controls.push(control);
        drop(inner);
        self.told.store(true, Ordering::Release);
        self.wake();
    }

    /// What its task was told since the last call.
    pub(super) fn controls(&self) -> Vec<Control> {
        if !self.told.load(Ordering::Acquire) || !self.told.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut self.lock().controls)
    }

    pub(super) fn set_live(&self, live: usize, newest: Option<MessageId>) {
        self.live.store(live, Ordering::Relaxed);
        self.lock().newest = newest;
    }

    /// When its task wants to be woken at the latest, and what waits to be written.
    pub(super) fn note(&self, due_ms: u64, queued: usize) {
        self.due_ms.store(due_ms, Ordering::Relaxed);
        self.queued.store(queued, Ordering::Relaxed);
    }

    /// Once, by its task.
    pub(super) fn wake_with(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether it must end at once, without a word.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sockets of a node.
#[derive(Default)]
pub struct Sockets {
    open: Mutex<Open>,
    kill: KillSwitch,
    rules: OnceLock<Arc<Rules>>,
    followed: Mutex<HashMap<MessageId, usize>>,
}

#[derive(Default)]
struct Open {
    ended: bool,
    count: usize,
    sessions: HashMap<SessionId, Vec<Arc<SocketHandle>>>,
    of_user: HashMap<UserId, usize>,
}

impl Open {
    fn handles(&self) -> impl Iterator<Item = &Arc<SocketHandle>> {
        self.sessions.values().flatten()
    }

    fn is_full_for(&self, session: SessionId, most: usize) -> bool {
        self.sessions.len() >= most && !self.sessions.contains_key(&session)
    }
}

/// Why a socket is not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The user has too many.
    User,
    /// The node has as many sessions as it carries.
    Node,
    /// The node has ended.
    Ended,
}

impl Sockets {
    /// How many.
    pub fn len(&self) -> usize {
        self.lock().count
    }

    /// Whether none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sessions have one.
    pub fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Whether a socket of this session would be one session more than the node carries. What is let in
    /// at the same moment is not counted: [`Sockets::enter`] has the last word.
    pub(super) fn is_full_for(&self, session: SessionId, most: usize) -> bool {
        self.lock().is_full_for(session, most)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<SocketHandle>> {
        self.lock().handles().cloned().collect()
    }

    /// Those of one session.
    pub fn of_session(&self, session: SessionId) -> Vec<Arc<SocketHandle>> {
        self.lock().sessions.get(&session).cloned().unwrap_or_default()
    }

    /// The switch that every stream of the node obeys.
    pub fn kill_switch(&self) -> KillSwitch {
        self.kill.clone()
    }

    /// Resets every socket, as a killed process would: the peers see RST.
    pub fn reset(&self) {
        self.kill.set();
        self.end();
    }

    /// Ends every socket at once and lets no other in.
    pub(super) fn end(&self) {
        let mut open = self.lock();
        open.ended = true;
        open.handles().for_each(|handle| handle.end());
    }

    /// Wakes every task that wants to look at the clock.
    pub(super) fn wake_due(&self, now_ms: u64) {
        let open = self.lock();
        for handle in open.handles() {
            if handle.due_ms.load(Ordering::Relaxed) <= now_ms {
                handle.wake();
            }
        }
    }

    /// What all sessions here have in common.
    pub(super) fn rules(&self, node: &Node) -> Arc<Rules> {
        let rules = || Arc::new(Rules::new(node.owner.node.clone(), &node.settings));
        self.rules.get_or_init(rules).clone()
    }

    /// Somebody here follows this answer while the guard lives, a socket or an SSE response: the
    /// node says so in the registry (`onDisconnect: cancel`).
    pub fn follows(node: &Arc<Node>, message: MessageId) -> Followed {
        *node.sockets.followed().entry(message).or_insert(0) += 1;
        Followed { node: node.clone(), message }
    }

    /// Answers that somebody here follows, of those that care.
    pub(super) fn followed_here(&self) -> Vec<MessageId> {
        self.followed().keys().copied().collect()
    }

    /// Enters a socket; it leaves with the guard.
    pub(super) fn enter(
        node: &Arc<Node>,
        session: SessionId,
        user: &UserId,
        dialect: Dialect,
    ) -> Result<Entered, Full> {
        let limits = &node.hot.now().limits;
        let mut open = node.sockets.lock();
        if open.ended {
            return Err(Full::Ended);
        }
        if open.is_full_for(session, limits.sessions) {
            return Err(Full::Node);
        }
        let of_user = open.of_user.entry(user.clone()).or_insert(0);
        if *of_user >= limits.sockets_per_user {
            return Err(Full::User);
        }
        *of_user += 1;
        open.count += 1;
        let handle = SocketHandle::new(session, user.clone(), dialect, node.clock.wall());
        let handle = Arc::new(handle);
        let of_session = open.sessions.entry(session).or_insert_with(|| Vec::with_capacity(1));
        of_session.push(handle.clone());
        drop(open);
        Ok(Entered { node: node.clone(), handle })
    }

    fn leave(&self, handle: &Arc<SocketHandle>) {
        let mut open = self.lock();
        if let Some(of_session) = open.sessions.get_mut(&handle.session) {
            of_session.retain(|one| !Arc::ptr_eq(one, handle));
            if of_session.is_empty() {
                open.sessions.remove(&handle.session);
            }
            open.count -= 1;
        }
        if let Some(of_user) = open.of_user.get_mut(&handle.user) {
            *of_user -= 1;
            if *of_user == 0 {
                open.of_user.remove(&handle.user);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<MessageId, usize>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in [`Sockets`].
pub(super) struct Entered {
    pub(super) node: Arc<Node>,
    pub(super) handle: Arc<SocketHandle>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.node.sockets.leave(&self.handle);
    }
}

/// See [`Sockets::follows`].
pub struct Followed {
    node: Arc<Node>,
    message: MessageId,
}

impl Drop for Followed {
    fn drop(&mut self) {
        let mut followed = self.node.sockets.followed();
        if let Some(count) = followed.get_mut(&self.message) {
            *count -= 1;
            if *count == 0 {
                followed.remove(&self.message);
            }
        }
    }
}
