//! What other nodes tell this one: a connection of its own in RESP3, whose pushes are handled where
//! they are read. Nothing queues between the socket and a bell, so that nothing can overflow there.

use super::Inner;
use super::head::{Hot, LENGTH};
use super::link::AWAY;
use super::reply;
use super::stats::add;
use super::told;
use crate::error::LogError;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind};
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Waits between attempts to subscribe.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A silent connection is asked whether it is still there this often.
const PING_EVERY: Duration = Duration::from_secs(2);

/// Keeps the node subscribed. Never returns.
pub(super) async fn run(inner: &Arc<Inner>) {
    let waits = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times();
    let mut wait = waits.build();
    loop {
        let lost = Arc::new(Notify::new());
        if let Ok(connection) = subscribe(inner, &lost).await {
            wait = waits.build();
            inner.shore.counters.subscribed.store(true, Ordering::Relaxed);
            add(&inner.shore.counters.subscriptions, 1);
            // Nobody knows what was told meanwhile, and the owners may have struck this node off
            // their lists: everybody attaches again.
            inner.kept.close(None);
            until_lost(connection, &lost).await;
            inner.shore.counters.subscribed.store(false, Ordering::Relaxed);
        }
        tokio::time::sleep(wait.next().unwrap_or(LONGEST_WAIT)).await;
    }
}

async fn subscribe(
    inner: &Arc<Inner>,
    lost: &Arc<Notify>,
) -> Result<MultiplexedConnection, LogError> {
    let (told, gone) = (Arc::downgrade(inner), lost.clone());
    let take = move |push: PushInfo| -> Result<(), Infallible> {
        match push.kind {
            PushKind::Message => drop(heard(&told, push)),
            // Without our asking: a subscription that the server ended is as good as lost.
            PushKind::Disconnection | PushKind::Unsubscribe => gone.notify_one(),
            _ => {}
        }
        Ok(())
    };
    let config = inner.shore.connection_config().set_push_sender(take);
    let connect = inner.shore.client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connect.await.map_err(|_| AWAY)?;
    let me = inner.owner.incarnation;
    let keys = &inner.keys;
    for channel in [keys.inbox(me), keys.bus(None), keys.bus(Some(me))] {
        connection.subscribe(channel).await.map_err(|_| AWAY)?;
    }
    Ok(connection)
}

async fn until_lost(mut connection: MultiplexedConnection, lost: &Notify) {
    loop {
        tokio::select! {
            () = lost.notified() => return,
            () = tokio::time::sleep(PING_EVERY) => {}
        }
        // A server that is slow to answer has not forgotten the subscription: only a connection that
        // broke is made anew. Data on its way lets the kernel notice a peer that is gone.
        let ping = connection.send_packed_command(&redis::cmd("PING")).await;
        if ping.is_err_and(|error| error.is_unrecoverable_error()) {
            return;
        }
    }
}

/// One hint: the stream's name, its head, and perhaps what was appended.
fn told(inner: &Inner, hint: &[u8]) -> Option<()> {
    add(&inner.shore.counters.hints, 1);
    let (name, rest) = hint.split_at_checked(inner.keys.head_length())?;
    let (hot, record) = rest.split_at_checked(LENGTH)?;
    let stream = inner.keys.stream_of(std::str::from_utf8(name).ok()?)?;
    inner.kept.heard(stream, Hot::parse(hot)?, told::unpacked(record));
    Some(())
}

/// Hints about streams, or one of the bus. `None` where it is neither.
fn heard(inner: &Weak<Inner>, push: PushInfo) -> Option<()> {
    let inner = inner.upgrade()?;
    let mut data = push.data.into_iter();
    let channel = reply::text(data.next()?)?;
    let payload = reply::bytes(data.next()?)?;
    if channel.starts_with(&inner.keys.inboxes()) {
        let mut rest = &payload[..];
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let (hint, more) = more.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            told(&inner, hint)?;
            rest = more;
        }
    } else {
        // Nobody listening is no failure: hints may be lost.
        let _ = inner.hints.send(serde_json::from_slice(&payload).ok()?);
    }
    Some(())
}
