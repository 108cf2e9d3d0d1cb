//! What an engine answers to a call that happens for every chunk: most engines answer most of them at
//! once, and an answer that is there costs no allocation and no second look.

use futures_util::future::BoxFuture;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future that may be ready when it is made: the call was made then, whether it is polled or not.
pub enum Answer<T> {
    /// There at once; `None` once it was taken.
    Now(Option<T>),
    /// On its way. Dropping it leaves open whether the call happens.
    Later(BoxFuture<'static, T>),
}

impl<T> Answer<T> {
    /// Is there.
    pub fn now(value: T) -> Self {
        Self::Now(Some(value))
    }

    /// As a future that forgets whether it was there.
    pub fn boxed(self) -> BoxFuture<'static, T>
    where
        T: Send + Unpin + 'static,
    {
        match self {
            Self::Later(future) => future,
            now => Box::pin(now),
        }
    }

    /// Comes.
    pub fn later(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<T: Unpin> Future for Answer<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            Self::Now(value) => value.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(future) => future.as_mut().poll(cx),
        }
    }
}
