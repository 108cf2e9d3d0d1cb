//! Wakes everybody who listens, in the order in which they began to listen: with a fixed order a seed
//! repeats a run exactly, which a `tokio::sync::watch` with several receivers does not.
//!
//! A listener leaves its waker once and is woken by every ring from then on: to ring for five hundred
//! walks one row of wakers and touches nothing else of theirs. A wake-up that nobody waited for is
//! harmless, so a waker is only taken back when its listener goes.

use smallvec::SmallVec;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Rings; when it is dropped, everybody who listens is told that it is gone.
#[derive(Debug, Default)]
pub struct Bell {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    rung: AtomicU64,
    gone: AtomicBool,
    row: Mutex<Row>,
}

/// Whom to wake, first come first.
#[derive(Debug, Default)]
struct Row {
    wakers: SmallVec<[(u64, Waker); 1]>,
    next: u64,
}

impl Shared {
    fn rang_since(&self, heard: &mut u64) -> bool {
        let rung = self.rung.load(Ordering::Acquire);
        std::mem::replace(heard, rung) != rung
    }

    /// Never under the lock: a waker may drop what it wakes, and that may be a listener.
    fn wake_all(&self) {
        let row = self.lock();
        match &row.wakers[..] {
            [] => {}
            [(_, only)] => {
                let only = only.clone();
                drop(row);
                only.wake();
            }
            many => {
                let many: Vec<Waker> = many.iter().map(|(_, waker)| waker.clone()).collect();
                drop(row);
                many.into_iter().for_each(Waker::wake);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    /// Wakes everybody who listens.
    pub fn ring(&self) {
        self.shared.rung.fetch_add(1, Ordering::Release);
        self.shared.wake_all();
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        Arc::strong_count(&self.shared) - 1
    }

    /// Hears every ring after this call; several in a row may be heard as one.
    pub fn listen(&self) -> Listener {
        let heard = self.shared.rung.load(Ordering::Acquire);
        Listener { shared: self.shared.clone(), heard, place: None }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Release);
        self.shared.wake_all();
    }
}

/// The bell is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// One who listens.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    heard: u64,
    /// Its place in the row, and the waker it left there.
    place: Option<(u64, Waker)>,
}

impl Listener {
    /// Waits for the next ring since the last call. Dropping the future misses nothing.
    ///
    /// # Errors
    /// [`Gone`] when the bell was dropped.
    pub async fn rung(&mut self) -> Result<(), Gone> {
        poll_fn(|cx| self.poll_rung(cx)).await
    }

    /// As [`Self::rung`]. Pending: the task of `cx` is woken by the next ring, and by every later one.
    pub fn poll_rung(&mut self, cx: &Context<'_>) -> Poll<Result<(), Gone>> {
        if self.shared.rang_since(&mut self.heard) {
            return Poll::Ready(Ok(()));
        }
        if !self.place.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            self.stand_in_the_row(cx.waker());
            // No ring falls between the first look and taking the place.
            if self.shared.rang_since(&mut self.heard) {
                return Poll::Ready(Ok(()));
            }
        }
        if self.shared.gone.load(Ordering::Acquire) {
            return Poll::Ready(Err(Gone));
        }
        Poll::Pending
    }

    fn stand_in_the_row(&mut self, waker: &Waker) {
        let mut row = self.shared.lock();
        let known = self.place.as_ref().map(|(place, _)| *place);
        let place = known.unwrap_or(row.next);
        let old = match row.wakers.iter_mut().find(|(other, _)| *other == place) {
            Some(stands) => Some(std::mem::replace(&mut stands.1, waker.clone())),
            None => {
                row.next += 1;
                row.wakers.push((place, waker.clone()));
                None
            }
        };
        drop(row);
        drop(old);
        self.place = Some((place, waker.clone()));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some((place, _)) = &self.place else { return };
        let mut row = self.shared.lock();
        let stands = row.wakers.iter().position(|(other, _)| other == place);
        let waker = stands.map(|at| row.wakers.remove(at));
        drop(row);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    async fn silent(listener: &mut Listener) -> bool {
        tokio::time::timeout(Duration::from_secs(1), listener.rung()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn hears_what_rang_since_it_listens_once() {
        let bell = Bell::default();
        bell.ring();
        let mut listener = bell.listen();
        assert!(silent(&mut listener).await);
        bell.ring();
        bell.ring();
        assert_eq!(listener.rung().await, Ok(()));
        assert!(silent(&mut listener).await);
        bell.ring();
        drop(bell);
        assert_eq!(listener.rung().await, Ok(()), "the last ring is not lost");
        assert_eq!(listener.rung().await, Err(Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_in_the_order_of_waiting() {
        let (bell, order) = (Bell::default(), Mutex::new(Vec::new()));
        let waiting = (0..20).map(|name| {
            let mut listener = bell.listen();
            let order = &order;
            async move {
                listener.rung().await.unwrap();
                order.lock().unwrap().push(name);
            }
        });
        let ring = async {
            tokio::task::yield_now().await;
            bell.ring();
        };
        tokio::join!(futures_util::future::join_all(waiting), ring);
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn no_ring_is_lost_between_threads() {
        for _ in 0..200 {
            let bell = Bell::default();
            let mut listener = bell.listen();
            let ring = tokio::task::spawn_blocking(move || bell.ring());
            tokio::time::timeout(Duration::from_secs(5), listener.rung()).await.unwrap().unwrap();
            ring.await.unwrap();
        }
    }
}
