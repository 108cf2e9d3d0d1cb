//! Which sessions a node holds, written down once a minute, so that the others can clean up what a
//! dead node left in the registry long before it expires there.

use crate::node::Node;
use crate::socket::facts::SessionPlace;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use protocol::{Incarnation, NodeName, SessionId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use streamlog::{Key, LogError, Owner, Registry, Space};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often a roster is written, and looked for that of a dead node (requirements, row 7).
pub const EVERY: Duration = Duration::from_secs(60);
/// A roster that nobody cleaned up goes by itself.
const KEEP: Duration = Duration::from_secs(30 * 60);
/// Most sessions in one roster; the others expire in the registry.
const MOST: usize = 20_000;
/// Registry calls at once.
const AT_ONCE: usize = 16;
/// A registry that takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(1);
/// Not the name of any user: those hold no control characters.
const NODES: &str = "\u{1}nodes";
const ROSTERS: &str = "\u{1}rosters";

/// One session of a roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The session.
    pub session: SessionId,
    /// Whose.
    pub user: UserId,
    /// Since when its socket is open: a later one is not this one.
    pub since: Timestamp,
}

/// Writes and cleans up until the node stops.
pub async fn keep(node: Arc<Node>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = node.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if node.drain.gave_up_lease() {
            return;
        }
        // While the store is away both are left for the next minute.
        let _ = write(&*node.registry, &node.owner, &entries(&node)).await;
        let _ = clean(&node).await;
    }
}

fn entries(node: &Node) -> Vec<Entry> {
    let sockets = node.sockets.all().into_iter();
    // Several sockets of one session are one entry.
    let sessions: HashMap<_, _> = sockets.map(|socket| (socket.session, socket)).collect();
    let entry = |(session, socket): (SessionId, Arc<crate::socket::SocketHandle>)| Entry {
        session,
        user: socket.user.clone(),
        since: socket.connected_at,
    };
    sessions.into_iter().take(MOST).map(entry).collect()
}

/// Writes the roster of one incarnation.
///
/// # Errors
/// `Unavailable`.
pub async fn write(
    registry: &dyn Registry,
    owner: &Owner,
    entries: &[Entry],
) -> Result<(), LogError> {
    let value = serde_json::to_vec(entries).unwrap_or_default();
    let name = owner.node.as_str().as_bytes().to_vec();
    patiently(registry.put(&key(ROSTERS, owner.incarnation), value, KEEP)).await?;
    patiently(registry.put(&key(NODES, owner.incarnation), name, KEEP)).await
}

/// Removes what dead nodes left of their sessions. Of several nodes one does it.
///
/// # Errors
/// `Unavailable`; what is not done yet is done by a later call, of any node.
pub async fn clean(node: &Node) -> Result<(), LogError> {
    // Only who may call a node dead may clean up after it.
    let lease = Duration::from_millis(node.settings.ownership.lease_ms);
    if !node.contact().is_trusted(node.clock.now(), lease) {
        return Ok(());
    }
    let written = patiently(node.registry.list(Space::Session, NODES)).await?;
    let nodes = patiently(node.directory.nodes()).await?;
    let alive: HashSet<_> =
        nodes.iter().filter(|node| node.alive).map(|node| node.owner.incarnation).collect();
    for (incarnation, name) in written {
        let Some(incarnation) = Incarnation::parse(&incarnation) else { continue };
        if alive.contains(&incarnation) || incarnation == node.owner.incarnation {
            continue;
        }
        let name = NodeName::new(&String::from_utf8_lossy(&name));
        clean_up_after(node, incarnation, &name).await?;
    }
    Ok(())
}

async fn clean_up_after(node: &Node, dead: Incarnation, name: &NodeName) -> Result<(), LogError> {
    // Whoever takes the roster does the work.
    let taken = patiently(node.registry.take(&key(ROSTERS, dead))).await?;
    patiently(node.registry.remove(&key(NODES, dead))).await?;
    let entries = taken.and_then(|bytes| serde_json::from_slice::<Vec<Entry>>(&bytes).ok());
    let Some(entries) = entries else { return Ok(()) };
    let removed = futures_util::stream::iter(entries)
        .map(async |entry| remove(node, name, &entry).await.unwrap_or(false))
        .buffer_unordered(AT_ONCE)
        .filter(|removed| std::future::ready(*removed))
        .count()
        .await;
    tracing::info!(node = %node.owner.node, dead = %name, removed, "cleaned up sessions");
    node.metrics.sessions_orphaned(removed);
    Ok(())
}

/// Unless the session has a newer socket somewhere.
async fn remove(node: &Node, dead: &NodeName, entry: &Entry) -> Result<bool, LogError> {
    let key = Key::of(Space::Session, &entry.user, entry.session);
    let Some(value) = patiently(node.registry.get(&key)).await? else { return Ok(false) };
    let Ok(place) = serde_json::from_slice::<SessionPlace>(&value) else { return Ok(false) };
    let same = place.node == *dead && place.connected_at == entry.since;
    if same {
        patiently(node.registry.remove(&key)).await?;
    }
    Ok(same)
}

fn key(list: &str, incarnation: Incarnation) -> Key {
    Key { space: Space::Session, user: list.to_owned(), name: incarnation.to_string() }
}

async fn patiently<T>(answer: impl Future<Output = Result<T, LogError>>) -> Result<T, LogError> {
    timeout(PATIENCE, answer).await.unwrap_or(Err(LogError::Unavailable { retry: PATIENCE }))
}
