//! Calls that become due in the same moment travel together, in one pipeline and one write.
//!
//! The first caller opens a flight and lets everybody else who is ready run before it departs. No
//! task of its own: whoever waits drives it, so that it works without one and dies with the last.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use futures_util::task::{ArcWake, AtomicWaker};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// What is asked, and what is answered in the same order.
pub(super) struct Gather<Q, A> {
    open: Arc<Mutex<Option<Flight<Q, A>>>>,
    /// Most questions of one flight.
    most: usize,
}

struct Flight<Q, A> {
    asked: Arc<Mutex<Vec<Q>>>,
    lands: Lands<A>,
}

type Lands<A> = Shared<BoxFuture<'static, Arc<[A]>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<Q, A> Gather<Q, A>
where
    Q: Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    pub(super) fn new(most: usize) -> Self {
        Self { open: Arc::default(), most }
    }

    /// Asks with the next flight, which `send` carries if this call opens it. `same` tells which
    /// question that was asked already is good enough; the flag is true where there was one.
    pub(super) async fn ask<F>(
        &self,
        question: Q,
        same: impl Fn(&Q, &Q) -> bool,
        send: impl FnOnce(Vec<Q>) -> F + Send + 'static,
    ) -> (Option<A>, bool)
    where
        F: Future<Output = Vec<A>> + Send + 'static,
    {
        let (place, shared, lands) = {
            let mut open = lock(&self.open);
            let flight = open.take().filter(|flight| lock(&flight.asked).len() < self.most);
            let flight = flight.unwrap_or_else(|| self.flight(send));
            let (place, shared) = {
                let mut asked = lock(&flight.asked);
                let found = asked.iter().position(|other| same(other, &question));
                let place = found.unwrap_or(asked.len());
                if found.is_none() {
                    asked.push(question);
                }
                (place, found.is_some())
            };
            let lands = flight.lands.clone();
            *open = Some(flight);
            (place, shared, lands)
        };
        // Whoever runs first after this departs; everybody else who is ready has boarded by then.
        boarding().await;
        (lands.await.get(place).cloned(), shared)
    }

    fn flight<F>(&self, send: impl FnOnce(Vec<Q>) -> F + Send + 'static) -> Flight<Q, A>
    where
        F: Future<Output = Vec<A>> + Send + 'static,
    {
        let asked: Arc<Mutex<Vec<Q>>> = Arc::default();
        let (open, mine) = (self.open.clone(), asked.clone());
        let lands = async move {
            let questions = {
                let mut open = lock(&open);
                // Nobody boards any more.
                open.take_if(|flight| Arc::ptr_eq(&flight.asked, &mine));
                std::mem::take(&mut *lock(&mine))
            };
            send(questions).await.into()
        };
        Flight { asked, lands: lands.boxed().shared() }
    }
}

/// Whether the scheduler has been everywhere.
struct Turn {
    over: AtomicBool,
    task: AtomicWaker,
}

impl ArcWake for Turn {
    fn wake_by_ref(turn: &Arc<Self>) {
        turn.over.store(true, Ordering::Release);
        turn.task.wake();
    }
}

/// Waits until every task that is ready has run. `yield_now` alone is over when it is polled again, and
/// a caller that waits for something else beside this may do that at once.
async fn boarding() {
    let turn = Arc::new(Turn { over: AtomicBool::new(false), task: AtomicWaker::new() });
    let mut begun = false;
    poll_fn(|cx| {
        turn.task.register(cx.waker());
        if !std::mem::replace(&mut begun, true) {
            let waker = futures_util::task::waker(turn.clone());
            return pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
        }
        if turn.over.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    fn gather(most: usize) -> (Arc<Gather<u32, u32>>, Arc<AtomicUsize>) {
        (Arc::new(Gather::new(most)), Arc::default())
    }

    async fn ask(gather: &Gather<u32, u32>, flights: &Arc<AtomicUsize>, n: u32) -> (u32, bool) {
        let flights = flights.clone();
        let send = |all: Vec<u32>| async move {
            flights.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
            all.into_iter().map(|n| n * 2).collect()
        };
        let (answer, shared) = gather.ask(n, |a, b| a == b, send).await;
        (answer.unwrap(), shared)
    }

    #[tokio::test]
    async fn what_is_due_together_travels_together() {
        let (gather, flights) = gather(100);
        let answers = join_all((0..50).map(|n| ask(&gather, &flights, n))).await;
        assert_eq!(answers, (0..50).map(|n| (n * 2, false)).collect::<Vec<_>>());
        assert_eq!(flights.load(Ordering::SeqCst), 1);
        assert_eq!(ask(&gather, &flights, 7).await, (14, false), "a later one is asked anew");
        assert_eq!(flights.load(Ordering::SeqCst), 2);
    }

    /// As producers do: tasks of their own, all woken by one tick of the timer.
    #[tokio::test]
    async fn tasks_that_wake_at_the_same_moment_travel_together() {
        let (gather, flights) = gather(100);
        let at = tokio::time::Instant::now() + Duration::from_millis(20);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..50 {
            let (gather, flights) = (gather.clone(), flights.clone());
            tasks.spawn(async move {
                tokio::time::sleep_until(at).await;
                assert_eq!(ask(&gather, &flights, n).await, (n * 2, false));
            });
        }
        tasks.join_all().await;
        assert_eq!(flights.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn nobody_departs_early_by_asking_twice() {
        let (gather, flights) = gather(100);
        let mut calls: Vec<_> = (0..9).map(|n| Box::pin(ask(&gather, &flights, n))).collect();
        for call in &mut calls {
            assert!(futures_util::poll!(&mut *call).is_pending());
            assert!(futures_util::poll!(&mut *call).is_pending());
        }
        join_all(calls).await;
        assert_eq!(flights.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_same_question_is_asked_once() {
        let (gather, flights) = gather(100);
        let answers = join_all((0..20).map(|_| ask(&gather, &flights, 3))).await;
        assert_eq!(answers.iter().filter(|(_, shared)| !shared).count(), 1);
        assert!(answers.iter().all(|(answer, _)| *answer == 6));
    }

    #[tokio::test]
    async fn a_full_flight_departs_and_the_next_one_is_opened() {
        let (gather, flights) = gather(10);
        let answers = join_all((0..35).map(|n| ask(&gather, &flights, n))).await;
        assert_eq!(
            answers.iter().map(|(answer, _)| *answer).sum::<u32>(),
            (0..35).sum::<u32>() * 2
        );
        assert_eq!(flights.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn it_flies_on_without_those_who_gave_up() {
        let (gather, flights) = gather(100);
        let mut first = Box::pin(ask(&gather, &flights, 1));
        let mut second = Box::pin(ask(&gather, &flights, 2));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await, (4, false));
        let forgotten = Box::pin(ask(&gather, &flights, 1));
        drop(forgotten);
        assert_eq!(ask(&gather, &flights, 5).await, (10, false));
    }
}
