//! Going away without anybody noticing: phases as a watch value, and who is told what when.
//!
//! Serving → Refusing (nothing new; sockets learn their slot) → HandingOver (live streams move) →
//! Flushing (the last sockets leave) → Done (the lease is given up).

use crate::node::Node;
use crate::socket::{Control, SocketHandle};
use crate::stream::lease;
use protocol::drain::{DrainPolicy, DrainRequest};
use protocol::{CloseCode, DrainPhase, DrainReport, ErrorCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use streamlog::{BusEvent, Mark, Target};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a draining node looks whether its streams and sockets are gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Marks that are set at once are repeated this often: a claim may have been refused for want of a
/// place.
const HINT_EVERY: Duration = Duration::from_millis(500);
/// Most of a deadline that is kept for the hand-over of what did not finish.
const HAND_OVER_SHARE: u32 = 5;
/// The least and the most of it.
const HAND_OVER_BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Where the node stands.
pub struct Drain {
    phase: watch::Sender<DrainPhase>,
    gave_up_lease: AtomicBool,
    accepted: Mutex<Accepted>,
}

/// The last accepted drain.
#[derive(Default)]
struct Accepted {
    epoch: u64,
    began: Option<Instant>,
    deadline: Option<Instant>,
    running: Option<CancellationToken>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(DrainPhase::Serving),
            gave_up_lease: AtomicBool::new(false),
            accepted: Mutex::default(),
        }
    }
}

impl Drain {
    /// The phase now.
    pub fn phase(&self) -> DrainPhase {
        *self.phase.borrow()
    }

    /// Whether new streams and sockets are accepted.
    pub fn is_serving(&self) -> bool {
        self.phase() == DrainPhase::Serving
    }

    /// Wakes on every change of the phase.
    pub fn watch(&self) -> watch::Receiver<DrainPhase> {
        self.phase.subscribe()
    }

    /// Whether the lease was given up for good.
    pub fn gave_up_lease(&self) -> bool {
        self.gave_up_lease.load(Ordering::Acquire)
    }

    /// When the running drain began.
    pub fn began(&self) -> Option<Instant> {
        self.lock().began
    }

    fn enter(&self, phase: DrainPhase) {
        self.phase.send_replace(phase);
    }

    fn lock(&self) -> MutexGuard<'_, Accepted> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Starts a drain; the phases follow. A repeat, or a new one while one runs, changes nothing
    /// but the epoch.
    ///
    /// # Errors
    /// STALE_EPOCH for a lower epoch than the last accepted.
    pub fn start_drain(self: &Arc<Self>, request: &DrainRequest) -> Result<(), ErrorCode> {
        let mut accepted = self.drain.lock();
        if request.epoch < accepted.epoch {
            return Err(ErrorCode::StaleEpoch);
        }
        accepted.epoch = request.epoch;
        if accepted.running.is_some() {
            return Ok(());
        }
        let budget =
            Duration::from_millis(request.deadline_ms.unwrap_or(self.settings.drain.deadline_ms));
        let now = self.clock.now();
        let running = self.stop.child_token();
        accepted.began = Some(now);
        accepted.deadline = Some(now + budget);
        accepted.running = Some(running.clone());
        self.drain.enter(DrainPhase::Refusing);
        let (node, policy) = (self.clone(), request.policy.unwrap_or_default());
        let work = async move { node.run_drain(policy, now, budget).await };
        self.tasks.spawn(async move {
            let _ = running.run_until_cancelled(work).await;
        });
        Ok(())
    }

    /// Calls a drain off while that is possible.
    ///
    /// # Errors
    /// STALE_EPOCH for a lower epoch than the last accepted; DRAINING when it is too late.
    pub fn cancel_drain(self: &Arc<Self>, epoch: u64) -> Result<(), ErrorCode> {
        let mut accepted = self.drain.lock();
        if epoch < accepted.epoch {
            return Err(ErrorCode::StaleEpoch);
        }
        accepted.epoch = epoch;
        if self.drain.phase() > DrainPhase::HandingOver {
            return Err(ErrorCode::Draining);
        }
        if let Some(running) = accepted.running.take() {
            running.cancel();
        }
        accepted.began = None;
        accepted.deadline = None;
        self.drain.enter(DrainPhase::Serving);
        Ok(())
    }

    /// The node's report about itself.
    pub fn drain_report(&self) -> DrainReport {
        let accepted = self.drain.lock();
        let now = self.clock.now();
        let left = |deadline: Instant| deadline.saturating_duration_since(now).as_millis() as u64;
        DrainReport {
            node: self.owner.node.to_string(),
            incarnation: self.owner.incarnation,
            phase: self.drain.phase(),
            epoch: accepted.epoch,
            sessions: self.sockets.len(),
            streams: self.streams.len(),
            remaining_ms: accepted.deadline.map(left),
        }
    }

    async fn run_drain(self: &Arc<Self>, policy: DrainPolicy, began: Instant, budget: Duration) {
        tracing::info!(node = %self.owner.node, ?policy, ?budget, "draining");
        let deadline = began + budget;
        let (least, most) = HAND_OVER_BOUNDS;
        let share = (budget / HAND_OVER_SHARE).clamp(least, most).min(budget);
        let patience = match policy {
            DrainPolicy::Finish => budget - share,
            DrainPolicy::Continue => Duration::ZERO,
        };
        let sockets = self.move_sockets(began, budget);
        let streams = async {
            self.wait_for_streams(began + patience).await;
            self.hand_over(deadline).await;
        };
        tokio::join!(sockets, streams);
        self.flush(deadline).await;
        self.drain.enter(DrainPhase::Done);
        tracing::info!(node = %self.owner.node, "drained");
    }

    async fn wait_for_streams(&self, until: Instant) {
        while !self.streams.is_empty() && self.clock.now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Marks every live stream and goes on appending until somebody else's claim fences it. At the
    /// deadline the lease is given up: then the streams are orphans like a dead node's.
    async fn hand_over(self: &Arc<Self>, deadline: Instant) {
        self.drain.enter(DrainPhase::HandingOver);
        let mut hinted: Option<Instant> = None;
        while !self.streams.is_empty() && self.clock.now() < deadline {
            let now = self.clock.now();
            if hinted.is_none_or(|at| now.saturating_duration_since(at) >= HINT_EVERY) {
                hinted = Some(now);
                for stream in self.streams.ids() {
                    // From the mark on another node may own it while this lease is alive.
                    self.log.hand_over(stream);
                    // A stream that just ended needs no new owner; an unreachable log no mark.
                    let _ = self.directory.mark(stream, Mark::HandOver).await;
                }
                let _ = self.bus.publish(Target::All, BusEvent::HandOver).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells every socket its own slot, and closes those that ignore it.
    async fn move_sockets(self: &Arc<Self>, began: Instant, budget: Duration) {
        let sockets = self.sockets.all();
        let settings = &self.settings.drain;
        let slots = slots(&sockets, settings.goaways_per_second, budget);
        let ignore = Duration::from_millis(settings.ignore_ms);
        let mut closing = Vec::with_capacity(slots.len());
        for (socket, slot) in slots {
            let close_after = (slot + ignore).min(budget);
            socket.tell(Control::Goaway {
                reason: "drain",
                deadline_ms: close_after.as_millis() as u64,
                reconnect_after_ms: slot.as_millis() as u64,
            });
            // A basic socket understands no GOAWAY: its slot is when it is closed.
            let at = if socket.understands_goaway() { close_after } else { slot };
            closing.push((at, Arc::downgrade(&socket)));
        }
        closing.sort_by_key(|(at, _)| *at);
        for (at, socket) in closing {
            tokio::time::sleep_until(began + at).await;
            if let Some(socket) = socket.upgrade() {
                socket.tell(Control::Close(CloseCode::Drained));
            }
        }
    }

    /// Gives the lease up, waits for the last streams and sockets, and ends both at their bounds.
    async fn flush(self: &Arc<Self>, deadline: Instant) {
        self.drain.enter(DrainPhase::Flushing);
        self.drain.gave_up_lease.store(true, Ordering::Release);
        if let Err(error) = lease::release(self).await {
            tracing::warn!(%error, "lease not given up; it ends by itself");
        }
        // What nobody took until now is an orphan; its producer stops at the first claim.
        self.wait_for_streams(deadline.max(self.clock.now()) + HAND_OVER_BOUNDS.1).await;
        while !self.sockets.is_empty() {
            if self.clock.now() >= deadline {
                for socket in self.sockets.all() {
                    socket.tell(Control::Close(CloseCode::Drained));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Who leaves when: idle sockets first, those with live answers last, `per_second` of them, or more
/// if half the budget would not suffice.
fn slots(
    sockets: &[Arc<SocketHandle>],
    per_second: u32,
    budget: Duration,
) -> Vec<(Arc<SocketHandle>, Duration)> {
    let mut order: Vec<_> =
        sockets.iter().map(|socket| (socket.live_follows(), socket.clone())).collect();
    order.sort_by_key(|(live, _)| *live);
    let paced = Duration::from_secs(1) / per_second.max(1);
    let fits = budget / 2 / order.len().max(1) as u32;
    let step = paced.min(fits);
    order.into_iter().zip(0u32..).map(|((_, socket), n)| (socket, step * n)).collect()
}
