//! Going away without anybody noticing: phases as a watch value, and who is told what when.
//!
//! Serving → Refusing (nothing new; sockets learn their slot) → HandingOver (live streams move) →
//! Flushing (the last sockets leave) → Done (the lease is given up).

use crate::broadcast::{self, Kind};
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
/// A store that is away keeps nobody from going: the lease then ends by itself. The second is for
/// a node in a hurry.
const RELEASE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(300));
/// What a second SIGTERM leaves for the hand-over; the process is gone within 3 s of it.
const AT_ONCE: Duration = Duration::from_millis(2_400);

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
    /// The process ends after it: it can no longer be called off.
    for_good: bool,
}

/// How a process that was told to end goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// Within the budget of the settings, live answers first.
    Gently,
    /// Everything is handed over at once.
    AtOnce,
}

/// Who leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Sockets that follow nothing: the others may end in peace.
    IdleFirst,
    /// Sockets that follow live answers: whoever ends the process may not wait.
    LiveFirst,
}

/// The times of one run of the phases.
#[derive(Clone, Copy, Debug)]
struct Plan {
    began: Instant,
    /// Until then live answers may end by themselves; then they are handed over.
    finish_until: Instant,
    /// Then the lease is given up, whoever took them.
    hand_over_until: Instant,
    /// Whatever nobody took is waited for until then: its producer stops at the first claim.
    streams_until: Instant,
    /// Then the sockets that are left are closed.
    sockets_until: Instant,
    /// Not done before: until then somebody may come who does not know yet.
    linger_until: Instant,
    /// How long the store may take to hear that the lease is given up.
    release: Duration,
    order: Order,
}

impl Plan {
    /// Of an operator.
    fn operator(began: Instant, budget: Duration, policy: DrainPolicy) -> Self {
        let deadline = began + budget;
        let finish_until = match policy {
            DrainPolicy::Finish => deadline - share(budget),
            DrainPolicy::Continue => began,
        };
        Self {
            began,
            finish_until,
            hand_over_until: deadline,
            streams_until: deadline + HAND_OVER_BOUNDS.1,
            sockets_until: deadline,
            linger_until: began,
            release: RELEASE.0,
            order: Order::IdleFirst,
        }
    }

    /// Of SIGTERM: the budget bounds everything.
    fn gently(began: Instant, budget: Duration, linger: Duration) -> Self {
        let deadline = began + budget;
        Self {
            began,
            finish_until: began,
            hand_over_until: deadline - share(budget),
            streams_until: deadline,
            sockets_until: deadline,
            linger_until: began + linger.min(budget),
            release: RELEASE.0,
            order: Order::LiveFirst,
        }
    }

    /// Of a second SIGTERM.
    fn at_once(began: Instant) -> Self {
        Self {
            began,
            finish_until: began,
            hand_over_until: began + AT_ONCE - share(AT_ONCE),
            streams_until: began + AT_ONCE,
            sockets_until: began,
            linger_until: began,
            release: RELEASE.1,
            order: Order::LiveFirst,
        }
    }
}

/// What of a budget is kept for the end.
fn share(budget: Duration) -> Duration {
    let (least, most) = HAND_OVER_BOUNDS;
    (budget / HAND_OVER_SHARE).clamp(least, most).min(budget)
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

    /// Forwards only: a drain that replaces another one repeats its phases.
    fn enter(&self, phase: DrainPhase) {
        self.phase.send_if_modified(|now| {
            let forwards = phase > *now;
            *now = phase.max(*now);
            forwards
        });
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
            Duration::from_millis(request.deadline_ms.unwrap_or(self.hot.now().drain.deadline_ms));
        let policy = request.policy.unwrap_or_default();
        self.begin(&mut accepted, Plan::operator(self.clock.now(), budget, policy));
        Ok(())
    }

    /// Drains for good, because the process ends. Replaces a drain that runs, but never gives it
    /// more time than it had.
    pub fn terminate(self: &Arc<Self>, how: Termination) {
        let mut accepted = self.drain.lock();
        accepted.for_good = true;
        if self.drain.phase() == DrainPhase::Done {
            return;
        }
        let now = self.clock.now();
        let plan = match how {
            Termination::AtOnce => Plan::at_once(now),
            Termination::Gently => {
                let settings = &self.settings.drain;
                let budget = Duration::from_millis(settings.sigterm_ms);
                let left =
                    accepted.deadline.map(|deadline| deadline.saturating_duration_since(now));
                let budget = left.map_or(budget, |left| left.min(budget));
                Plan::gently(now, budget, Duration::from_millis(settings.linger_ms))
            }
        };
        if let Some(running) = accepted.running.take() {
            running.cancel();
        }
        self.begin(&mut accepted, plan);
    }

    fn begin(self: &Arc<Self>, accepted: &mut Accepted, plan: Plan) {
        let running = self.stop.child_token();
        accepted.began = accepted.began.or(Some(plan.began));
        accepted.deadline = Some(plan.sockets_until);
        accepted.running = Some(running.clone());
        self.drain.enter(DrainPhase::Refusing);
        let node = self.clone();
        self.tasks.spawn(async move {
            let _ = running.run_until_cancelled(node.run_drain(plan)).await;
        });
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
        if accepted.for_good || self.drain.phase() > DrainPhase::HandingOver {
            return Err(ErrorCode::Draining);
        }
        if let Some(running) = accepted.running.take() {
            running.cancel();
        }
        accepted.began = None;
        accepted.deadline = None;
        self.drain.phase.send_replace(DrainPhase::Serving);
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
            sessions: self.sockets.sessions(),
            streams: self.streams.len(),
            remaining_ms: accepted.deadline.map(left),
            accepting: self.drain.is_serving() && self.lease.certain().is_some(),
            capacity: self.hot.now().limits.sessions,
            settings_generation: self.hot.now().generation,
            key_ids: self.admit.key_ids(),
            harm: self.metrics.harm(),
        }
    }

    async fn run_drain(self: &Arc<Self>, plan: Plan) {
        let budget = plan.sockets_until.saturating_duration_since(plan.began);
        tracing::info!(node = %self.owner.node, ?budget, order = ?plan.order, "draining");
        let streams = async {
            self.wait_for_streams(plan.finish_until).await;
            self.hand_over(plan.hand_over_until).await;
        };
        tokio::join!(self.move_sockets(plan, budget), streams);
        self.flush(plan).await;
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
    async fn move_sockets(self: &Arc<Self>, plan: Plan, budget: Duration) {
        let settings = &self.hot.now().drain;
        let sockets = self.sockets.all();
        let slots = slots(sockets, settings.goaways_per_second, budget, plan.order);
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
            // One that has left need not be waited for.
            while socket.strong_count() > 0 && self.clock.now() < plan.began + at {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            if let Some(socket) = socket.upgrade() {
                socket.tell(Control::Close(CloseCode::Drained));
            }
        }
    }

    /// Gives the lease up, waits for the last streams and sockets, and ends both at their bounds.
    async fn flush(self: &Arc<Self>, plan: Plan) {
        self.drain.enter(DrainPhase::Flushing);
        self.drain.gave_up_lease.store(true, Ordering::Release);
        let released = tokio::time::timeout(plan.release, lease::release(self)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!(node = %self.owner.node, "lease not given up; it ends by itself");
        }
        let told = broadcast::tell(self, Kind::NodeShutdown);
        let _ = tokio::time::timeout(plan.release, told).await;
        // What nobody took until now is an orphan; its producer stops at the first claim.
        self.wait_for_streams(plan.streams_until).await;
        while !self.sockets.is_empty() || self.clock.now() < plan.linger_until {
            if self.clock.now() >= plan.sockets_until {
                for socket in self.sockets.all() {
                    socket.tell(Control::Close(CloseCode::Drained));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Who leaves when: in this order, `per_second` of them, or more if half the budget would not
/// suffice.
fn slots(
    sockets: Vec<Arc<SocketHandle>>,
    per_second: u32,
    budget: Duration,
    order: Order,
) -> Vec<(Arc<SocketHandle>, Duration)> {
    let mut queue: Vec<_> =
        sockets.into_iter().map(|socket| (socket.live_follows(), socket)).collect();
    queue.sort_by_key(|(live, _)| *live);
    if order == Order::LiveFirst {
        queue.reverse();
    }
    let paced = Duration::from_secs(1) / per_second.max(1);
    let fits = budget / 2 / queue.len().max(1) as u32;
    let step = paced.min(fits);
    queue.into_iter().zip(0u32..).map(|((_, socket), n)| (socket, step * n)).collect()
}
