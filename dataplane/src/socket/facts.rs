//! What this node tells the registry about its sockets: whose a session is, where it is, and which
//! answers somebody follows here. Best effort: while the store is away sockets stay.

use super::registry::SocketHandle;
use crate::node::Node;
use futures_util::StreamExt;
use jiff::Timestamp;
use protocol::{MessageId, NodeName, SessionId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use streamlog::{Key, Space};
use tokio::time::{interval, timeout};

/// A session belongs to the first user seen for this long after it was last seen.
pub const SESSION_TTL: Duration = Duration::from_secs(30 * 60);
/// A session is listed for this long after its node last said so.
pub const PLACE_TTL: Duration = Duration::from_secs(180);
/// How often a node says so.
const PLACE_EVERY: Duration = Duration::from_secs(60);
/// A node that does not repeat it follows no more.
pub const FOLLOWED_TTL: Duration = Duration::from_secs(10);
/// How often it is repeated.
const FOLLOWED_EVERY: Duration = Duration::from_secs(3);
/// Registry calls at once.
const AT_ONCE: usize = 16;
/// A registry that takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a session is: the value of the fact `Key::of(Space::Session, user, session)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPlace {
    /// The node that holds its socket.
    pub node: NodeName,
    /// Since when.
    pub connected_at: Timestamp,
}

/// Claims a session for a user. `false`: it is somebody else's. A store that is away decides
/// nothing: the user, not the session, is what everything is checked against.
pub(super) async fn claim(node: &Node, session: SessionId, user: &UserId) -> bool {
    let key = Key::global(Space::Session, session);
    let mine = user.as_str().as_bytes();
    let claim = node.registry.put_if_absent(&key, mine.to_vec(), SESSION_TTL);
    match timeout(PATIENCE, claim).await {
        Ok(Ok(Some(owner))) => owner == mine,
        _ => true,
    }
}

/// Says where a session is.
pub(super) async fn place(node: &Node, session: SessionId, user: &UserId, since: Timestamp) {
    let place = SessionPlace { node: node.owner.node.clone(), connected_at: since };
    let Ok(value) = serde_json::to_vec(&place) else { return };
    let key = Key::of(Space::Session, user, session);
    let _ = timeout(PATIENCE, node.registry.put(&key, value, PLACE_TTL)).await;
}

/// The session has no socket here any more.
pub(super) async fn leave(node: &Node, session: SessionId, user: &UserId) {
    if node.sockets.of_session(session).is_empty() {
        let key = Key::of(Space::Session, user, session);
        let _ = timeout(PATIENCE, node.registry.remove(&key)).await;
    }
}

/// Notes the newest answer of a session, so that CANCEL_STREAM without a name finds it.
pub(super) async fn note_newest(node: &Node, session: SessionId, message: MessageId) {
    let key = newest(session);
    let value = message.to_string().into_bytes();
    let _ = timeout(PATIENCE, node.registry.put(&key, value, SESSION_TTL)).await;
}

/// The newest answer of a session, wherever it was asked for.
pub(super) async fn find_newest(node: &Node, session: SessionId) -> Option<MessageId> {
    let key = newest(session);
    let value = timeout(PATIENCE, node.registry.get(&key)).await.ok()?.ok()??;
    MessageId::parse(std::str::from_utf8(&value).ok()?)
}

fn newest(session: SessionId) -> Key {
    Key::global(Space::Session, format_args!("{session}/newest"))
}

/// Repeats where sessions are.
pub(super) async fn keep_places(node: &Arc<Node>) {
    let mut every = interval(PLACE_EVERY);
    every.tick().await;
    loop {
        every.tick().await;
        place_all(node).await;
    }
}

/// Says where all sessions of this node are; several sockets of one session say it once.
pub(crate) async fn place_all(node: &Arc<Node>) {
    let handles: HashMap<SessionId, Arc<SocketHandle>> =
        node.sockets.all().into_iter().map(|handle| (handle.session, handle)).collect();
    futures_util::stream::iter(handles.into_values())
        .for_each_concurrent(AT_ONCE, async |handle| {
            let key = Key::global(Space::Session, handle.session);
            let mine = handle.user.as_str().as_bytes().to_vec();
            let _ = timeout(PATIENCE, node.registry.put(&key, mine, SESSION_TTL)).await;
            place(node, handle.session, &handle.user, handle.connected_at).await;
        })
        .await;
}

/// Repeats what is followed here.
pub(super) async fn keep_followed(node: &Arc<Node>) {
    let mut every = interval(FOLLOWED_EVERY);
    loop {
        every.tick().await;
        futures_util::stream::iter(node.sockets.followed_here())
            .for_each_concurrent(AT_ONCE, async |message| {
                let key = Key::global(Space::Followed, message);
                let value = node.owner.node.as_str().as_bytes().to_vec();
                let _ = timeout(PATIENCE, node.registry.put(&key, value, FOLLOWED_TTL)).await;
            })
            .await;
    }
}
