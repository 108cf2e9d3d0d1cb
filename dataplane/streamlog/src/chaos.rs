//! A decorator that makes any engine misbehave within its contract, from a seed: late, refused and
//! lost answers, lost wake-ups, calls that hang, and calls held exactly between "sent", "applied"
//! and "acknowledged".
//!
//! One [`ChaosControl`] steers one or more [`Chaos`] wrappers while a test runs.

mod forward;

use crate::error::LogError;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// When a refused caller should try again.
pub const RETRY: Duration = Duration::from_millis(50);

/// A call of one of the engine traits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // Each is the trait's method of that name.
pub enum Op {
    Open,
    Append,
    Seal,
    Read,
    Attach,
    Trim,
    Renew,
    Release,
    Nodes,
    Claim,
    Mark,
    Orphans,
    Restore,
    PutIfAbsent,
    Put,
    Get,
    Take,
    Remove,
    List,
    Spend,
    Publish,
}

/// What goes wrong, for every call alike. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// A call waits up to this long before it is applied.
    pub delay_call: Duration,
    /// An answer waits up to this long after the call was applied: a late acknowledgement.
    pub delay_ack: Duration,
    /// Probability of `Unavailable` instead of being applied.
    pub refuse: f64,
    /// Probability of `Unavailable` after it was applied.
    pub lose_ack: f64,
    /// Probability that a wake-up is swallowed, and that a hint of the bus is.
    pub lose_wakeup: f64,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        delay_call: Duration::ZERO,
        delay_ack: Duration::ZERO,
        refuse: 0.0,
        lose_ack: 0.0,
        lose_wakeup: 0.0,
    };

    /// The store is away: every call is refused.
    pub const AWAY: Self = Self { refuse: 1.0, ..Self::NONE };
}

/// Steers the chaos while a test runs. Clones steer the same.
#[derive(Clone)]
pub struct ChaosControl {
    shared: Arc<Shared>,
}

struct Shared {
    plan: Mutex<Plan>,
    resumed: Notify,
}

struct Plan {
    rng: SmallRng,
    faults: Faults,
    refuse_next: BTreeMap<Op, usize>,
    holds: Vec<Hold>,
    stalled: bool,
}

struct Hold {
    op: Op,
    after_applied: bool,
    reached: oneshot::Sender<()>,
    go_on: oneshot::Receiver<Answer>,
}

enum Answer {
    True,
    Lost,
}

/// What was rolled for one call.
struct Roll {
    delay_call: Duration,
    delay_ack: Duration,
    refused: bool,
    ack_lost: bool,
    hold: Option<Hold>,
}

impl ChaosControl {
    /// No faults yet; everything random comes from `seed`.
    pub fn seeded(seed: u64) -> Self {
        let plan = Plan {
            rng: SmallRng::seed_from_u64(seed),
            faults: Faults::NONE,
            refuse_next: BTreeMap::new(),
            holds: Vec::new(),
            stalled: false,
        };
        let shared = Shared { plan: Mutex::new(plan), resumed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Changes what goes wrong with calls that begin from now on.
    pub fn set(&self, faults: Faults) {
        self.plan().faults = faults;
    }

    /// Every call hangs, before it is applied or before its answer arrives, until [`Self::resume`].
    pub fn stall(&self) {
        self.plan().stalled = true;
    }

    /// Lets hanging calls go on.
    pub fn resume(&self) {
        self.plan().stalled = false;
        self.shared.resumed.notify_waiters();
    }

    /// Refuses the next `n` calls of `op` with `Unavailable`; they are not applied.
    pub fn refuse_next(&self, op: Op, n: usize) {
        self.plan().refuse_next.insert(op, n);
    }

    /// Holds the next append: before it is applied, or applied but not acknowledged.
    pub fn hold_next_append(&self, after_applied: bool) -> HeldCall {
        self.hold_next(Op::Append, after_applied)
    }

    /// Holds the next call of `op`: before it is applied, or applied but not acknowledged. Several
    /// holds of one operation take its calls in turn.
    pub fn hold_next(&self, op: Op, after_applied: bool) -> HeldCall {
        let (reached, held) = oneshot::channel();
        let (release, go_on) = oneshot::channel();
        self.plan().holds.push(Hold { op, after_applied, reached, go_on });
        HeldCall { held: Some(held), release }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn not_stalled(&self) {
        loop {
            let mut resumed = std::pin::pin!(self.shared.resumed.notified());
            // Enlisted before the look, so that no resumption falls between.
            resumed.as_mut().enable();
            if !self.plan().stalled {
                return;
            }
            resumed.await;
        }
    }

    fn loses_wakeup(&self) -> bool {
        let mut plan = self.plan();
        let chance = plan.faults.lose_wakeup;
        plan.happens(chance)
    }

    /// Runs one call through everything that may go wrong with it.
    async fn through<T>(
        &self,
        op: Op,
        call: impl Future<Output = Result<T, LogError>> + Send,
    ) -> Result<T, LogError> {
        let mut roll = self.plan().roll(op);
        pause(roll.delay_call).await;
        self.not_stalled().await;
        if roll.refused {
            return Err(LogError::Unavailable { retry: RETRY });
        }
        if let Some(hold) = roll.hold.take_if(|hold| !hold.after_applied) {
            hold.pass().await?;
        }
        let answer = call.await;
        if let Some(hold) = roll.hold {
            hold.pass().await?;
        }
        pause(roll.delay_ack).await;
        self.not_stalled().await;
        if roll.ack_lost {
            return Err(LogError::Unavailable { retry: RETRY });
        }
        answer
    }
}

impl fmt::Debug for ChaosControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosControl").field("faults", &self.plan().faults).finish()
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

impl Plan {
    fn roll(&mut self, op: Op) -> Roll {
        let faults = self.faults;
        let hold = self.holds.iter().position(|hold| hold.op == op).map(|at| self.holds.remove(at));
        Roll {
            delay_call: self.up_to(faults.delay_call),
            delay_ack: self.up_to(faults.delay_ack),
            refused: self.refuses_by_order(op) || self.happens(faults.refuse),
            ack_lost: self.happens(faults.lose_ack),
            hold,
        }
    }

    fn refuses_by_order(&mut self, op: Op) -> bool {
        match self.refuse_next.get_mut(&op) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            return Duration::ZERO;
        }
        Duration::from_millis(self.rng.random_range(0..=most.as_millis() as u64))
    }

    fn happens(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.rng.random_bool(chance.min(1.0))
    }
}

impl Hold {
    async fn pass(self) -> Result<(), LogError> {
        let _ = self.reached.send(());
        match self.go_on.await {
            Ok(Answer::Lost) => Err(LogError::Unavailable { retry: RETRY }),
            // A dropped handle holds nothing.
            Ok(Answer::True) | Err(_) => Ok(()),
        }
    }
}

/// A call that is or will be held. Dropping it lets the call go on.
#[derive(Debug)]
pub struct HeldCall {
    held: Option<oneshot::Receiver<()>>,
    release: oneshot::Sender<Answer>,
}

impl HeldCall {
    /// Completes when the call is held (at once, if it is).
    pub async fn reached(&mut self) {
        if let Some(held) = &mut self.held {
            // An error says that the call, or the chaos, was dropped: nothing is held any more.
            let _ = held.await;
            self.held = None;
        }
    }

    /// Lets the call go on to its true answer.
    pub fn release(self) {
        let _ = self.release.send(Answer::True);
    }

    /// Lets the call end with `Unavailable`: held before it was applied, it never is.
    pub fn lose(self) {
        let _ = self.release.send(Answer::Lost);
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::True => "True",
            Self::Lost => "Lost",
        })
    }
}

/// Swallows wake-ups of one watch.
#[derive(Debug)]
pub struct Loss {
    control: ChaosControl,
}

impl Loss {
    /// Whether this wake-up is lost.
    pub fn swallows(&mut self) -> bool {
        self.control.loses_wakeup()
    }
}

/// An engine behind chaos: every engine trait that the inner one has. Cheap to clone.
pub struct Chaos<E: ?Sized> {
    inner: Arc<E>,
    control: ChaosControl,
}

impl<E: ?Sized> Chaos<E> {
    /// Wraps an engine; `control` may steer other wrappers as well.
    pub fn new(inner: Arc<E>, control: ChaosControl) -> Self {
        Self { inner, control }
    }

    /// What steers it.
    pub fn control(&self) -> &ChaosControl {
        &self.control
    }

    /// The engine without chaos.
    pub fn inner(&self) -> &Arc<E> {
        &self.inner
    }
}

impl<E: ?Sized> Clone for Chaos<E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), control: self.control.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts how often it was applied.
    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Calls {
        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
        async fn call(&self, control: &ChaosControl) -> Result<usize, LogError> {
            let apply = async { Ok(self.0.fetch_add(1, Ordering::SeqCst)) };
            control.through(Op::Append, apply).await
        }
    }

    const AWAY: Result<usize, LogError> = Err(LogError::Unavailable { retry: RETRY });

    #[tokio::test(start_paused = true)]
    async fn a_refused_call_is_not_applied_and_a_lost_answer_was() {
        let (calls, control) = (Calls::default(), ChaosControl::seeded(1));
        control.set(Faults::AWAY);
        assert_eq!((calls.call(&control).await, calls.count()), (AWAY, 0));
        control.set(Faults { lose_ack: 1.0, ..Faults::NONE });
        assert_eq!((calls.call(&control).await, calls.count()), (AWAY, 1));
        control.set(Faults::NONE);
        control.refuse_next(Op::Append, 1);
        assert_eq!((calls.call(&control).await, calls.count()), (AWAY, 1));
        assert_eq!((calls.call(&control).await, calls.count()), (Ok(1), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_held_on_either_side_of_being_applied() {
        for (after_applied, lost) in [(false, false), (true, false), (false, true), (true, true)] {
            let (calls, control) = (Calls::default(), ChaosControl::seeded(1));
            let mut held = control.hold_next_append(after_applied);
            let call = calls.call(&control);
            let script = async {
                held.reached().await;
                assert_eq!(calls.count(), usize::from(after_applied));
                if lost { held.lose() } else { held.release() }
            };
            let (answer, ()) = tokio::join!(call, script);
            assert_eq!(answer, if lost { AWAY } else { Ok(0) });
            assert_eq!(calls.count(), usize::from(after_applied || !lost));
            assert_eq!(calls.call(&control).await, Ok(calls.count() - 1), "one hold, one call");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_call_hangs_until_resumed() {
        let (calls, control) = (Calls::default(), ChaosControl::seeded(1));
        control.stall();
        let mut call = std::pin::pin!(calls.call(&control));
        let hour = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(hour, call.as_mut()).await.is_err());
        assert_eq!(calls.count(), 0);
        control.resume();
        assert_eq!(call.await, Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_seed_repeats_the_same_misfortunes() {
        let run = async |seed: u64| {
            let (calls, control) = (Calls::default(), ChaosControl::seeded(seed));
            let most = Duration::from_millis(40);
            control.set(Faults {
                delay_call: most,
                delay_ack: most,
                refuse: 0.3,
                lose_ack: 0.3,
                lose_wakeup: 0.5,
            });
            let start = tokio::time::Instant::now();
            let mut trace = Vec::new();
            for _ in 0..50 {
                let answer = calls.call(&control).await.ok();
                trace.push((answer, control.loses_wakeup(), start.elapsed()));
            }
            trace
        };
        assert_eq!(run(7).await, run(7).await);
        assert_ne!(run(7).await, run(8).await);
    }
}
