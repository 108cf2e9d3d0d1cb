//! Sessions that a dead node left in the registry are cleaned up by the others, once.

use crate::cluster::{Cluster, alice};
use dataplane::roster::{self, Entry};
use dataplane::socket::facts::SessionPlace;
use protocol::{Incarnation, NodeName, SessionId, Settings};
use std::time::Duration;
use streamlog::{Key, Owner, Space};
use uuid::Uuid;

const KEEP: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_left_is_removed_and_what_moved_on_stays() {
    let cluster = Cluster::start(2, Settings::default()).await;
    let node = cluster.node(0);
    let since = node.clock.wall();
    let dead =
        Owner { node: NodeName::new("node-9"), incarnation: Incarnation(Uuid::from_u128(99)) };
    let session = |n: u128| SessionId(Uuid::from_u128(n));
    let key = |n: u128| Key::of(Space::Session, &alice(), session(n));
    let place = async |n: u128, at: &str| {
        let place = SessionPlace { node: NodeName::new(at), connected_at: since };
        node.registry.put(&key(n), serde_json::to_vec(&place).unwrap(), KEEP).await.unwrap();
    };
    place(1, "node-9").await;
    place(2, "node-1").await;
    let entry = |n| Entry { session: session(n), user: alice(), since };
    roster::write(&*node.registry, &dead, &[entry(1), entry(2), entry(3)]).await.unwrap();
    let there = async |n| node.registry.get(&key(n)).await.unwrap().is_some();
    roster::clean(&node).await.unwrap();
    assert!(!there(1).await, "nobody holds it any more");
    assert!(there(2).await, "its user has come back elsewhere");
    // Its roster is gone as well: the next one finds nothing to do.
    place(1, "node-9").await;
    roster::clean(&cluster.node(1)).await.unwrap();
    assert!(there(1).await);
}

#[tokio::test(start_paused = true)]
async fn a_living_nodes_sessions_stay_and_nobody_distrusted_cleans_up() {
    let mut cluster = Cluster::start(2, Settings::default()).await;
    let (node, since) = (cluster.node(0), cluster.node(0).clock.wall());
    let session = SessionId(Uuid::from_u128(1));
    let place = SessionPlace { node: node.owner.node.clone(), connected_at: since };
    let key = Key::of(Space::Session, &alice(), session);
    node.registry.put(&key, serde_json::to_vec(&place).unwrap(), KEEP).await.unwrap();
    let entry = Entry { session, user: alice(), since };
    roster::write(&*node.registry, &node.owner, &[entry]).await.unwrap();
    roster::clean(&cluster.node(1)).await.unwrap();
    assert!(node.registry.get(&key).await.unwrap().is_some());
    cluster.members[0].kill();
    tokio::time::sleep(Duration::from_secs(6)).await;
    // Long enough for the lease to end, not for the newcomer to call anybody dead.
    let newcomer = cluster.join(true, |engines| engines);
    tokio::time::sleep(Duration::from_secs(1)).await;
    roster::clean(&newcomer).await.unwrap();
    assert!(newcomer.registry.get(&key).await.unwrap().is_some());
    roster::clean(&cluster.node(1)).await.unwrap();
    assert!(newcomer.registry.get(&key).await.unwrap().is_none());
}
