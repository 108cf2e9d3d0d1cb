//! Wakes everybody who waits, in the order in which they began to wait: with a fixed order a seed
//! repeats a run exactly, which a `tokio::sync::watch` with several receivers does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

impl Shared {
    fn rang_since(&self, heard: &mut u64) -> bool {
        let rung = self.rung.load(Ordering::Acquire);
        std::mem::replace(heard, rung) != rung
    }
}

/// Rings; when it is dropped, everybody who listens is told that it is gone.
#[derive(Debug, Default)]
pub struct Bell {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    rung: AtomicU64,
    gone: AtomicBool,
    notify: Notify,
}

impl Bell {
    /// Wakes everybody who listens.
    pub fn ring(&self) {
        self.shared.rung.fetch_add(1, Ordering::Release);
        self.shared.notify.notify_waiters();
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Hears every ring after this call; several in a row may be heard as one.
    pub fn listen(&self) -> Listener {
        let heard = self.shared.rung.load(Ordering::Acquire);
        Listener { shared: self.shared.clone(), heard }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Release);
        self.shared.notify.notify_waiters();
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
}

impl Listener {
    /// Waits for the next ring since the last call. Dropping the future misses nothing.
    ///
    /// # Errors
    /// [`Gone`] when the bell was dropped.
    pub async fn rung(&mut self) -> Result<(), Gone> {
        let Self { shared, heard } = self;
        loop {
            if shared.rang_since(heard) {
                return Ok(());
            }
            let next = shared.notify.notified();
            let mut next = std::pin::pin!(next);
            // Enlisted before the second look, so that no ring falls between.
            next.as_mut().enable();
            if shared.rang_since(heard) {
                return Ok(());
            }
            if shared.gone.load(Ordering::Acquire) {
                return Err(Gone);
            }
            next.await;
        }
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
