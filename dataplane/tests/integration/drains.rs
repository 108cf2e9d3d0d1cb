//! A node that goes away: nothing new, nothing lost, nobody waits.

use crate::cluster::{Cluster, Seen, alice, ask, request};
use dataplane::drain::Termination;
use protocol::drain::{DrainPolicy, DrainRequest};
use protocol::{DrainPhase, ErrorCode, Settings};
use std::sync::Arc;
use std::time::Duration;

const LONG: &str = "[sim tokens=200 rate=20 seed=3 vary=epoch]";

fn drain(deadline_ms: u64, policy: DrainPolicy) -> DrainRequest {
    DrainRequest { deadline_ms: Some(deadline_ms), epoch: 1, policy: Some(policy) }
}

async fn done(node: &Arc<dataplane::Node>) {
    node.drain.watch().wait_for(|phase| *phase == DrainPhase::Done).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn continue_moves_live_answers_at_once_and_nobody_waits() {
    let cluster = Cluster::start(2, Settings::default()).await;
    let mut followers = Vec::new();
    for _ in 0..20 {
        let accepted = ask(&cluster.node(0), LONG).await;
        let node = cluster.node(1);
        followers.push(tokio::spawn(async move { Seen::all(&node, accepted.message_id).await }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = tokio::time::Instant::now();
    cluster.node(0).start_drain(&drain(10_000, DrainPolicy::Continue)).unwrap();
    let refused = cluster.node(0).accept(&alice(), request(LONG)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Draining);
    done(&cluster.node(0)).await;
    assert!(before.elapsed() <= Duration::from_millis(500), "{:?}", before.elapsed());
    for follower in followers {
        let seen = follower.await.unwrap();
        seen.assert_completed(LONG);
        assert_eq!(seen.takeovers.len(), 1);
        assert!(seen.longest_pause <= Duration::from_millis(500), "{:?}", seen.longest_pause);
    }
}

#[tokio::test(start_paused = true)]
async fn finish_lets_answers_end_by_themselves() {
    let cluster = Cluster::start(2, Settings::default()).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    cluster.node(0).start_drain(&drain(30_000, DrainPolicy::Finish)).unwrap();
    let seen = Seen::all(&cluster.node(1), accepted.message_id).await;
    seen.assert_completed(LONG);
    assert!(seen.takeovers.is_empty());
    done(&cluster.node(0)).await;
    assert_eq!(cluster.calls_of(accepted.message_id).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_is_handed_over_before_the_deadline() {
    let cluster = Cluster::start(2, Settings::default()).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    let node = cluster.node(1);
    let follower = tokio::spawn(async move { Seen::all(&node, accepted.message_id).await });
    let before = tokio::time::Instant::now();
    cluster.node(0).start_drain(&drain(5_000, DrainPolicy::Finish)).unwrap();
    done(&cluster.node(0)).await;
    assert!(before.elapsed() <= Duration::from_secs(5), "{:?}", before.elapsed());
    let seen = follower.await.unwrap();
    seen.assert_completed(LONG);
    assert_eq!(seen.takeovers.len(), 1);
    assert!(seen.longest_pause <= Duration::from_millis(500), "{:?}", seen.longest_pause);
}

#[tokio::test(start_paused = true)]
async fn the_last_node_gives_its_lease_up_and_a_later_one_goes_on() {
    let mut cluster = Cluster::start(1, Settings::default()).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.node(0).start_drain(&drain(1_000, DrainPolicy::Continue)).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let late = cluster.join(true, |engines| engines);
    let seen = Seen::all(&late, accepted.message_id).await;
    seen.assert_completed(LONG);
    done(&cluster.node(0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_can_be_called_off_and_stale_epochs_are_refused() {
    let cluster = Cluster::start(2, Settings::default()).await;
    let node = cluster.node(0);
    let accepted = ask(&node, LONG).await;
    node.start_drain(&DrainRequest { epoch: 5, ..DrainRequest::default() }).unwrap();
    let stale = DrainRequest { epoch: 4, ..DrainRequest::default() };
    assert_eq!(node.start_drain(&stale), Err(ErrorCode::StaleEpoch));
    assert_eq!(node.cancel_drain(4), Err(ErrorCode::StaleEpoch));
    assert_eq!(node.drain_report().phase, DrainPhase::Refusing);
    node.cancel_drain(6).unwrap();
    assert_eq!(node.drain_report().phase, DrainPhase::Serving);
    ask(&node, LONG).await;
    Seen::all(&cluster.node(1), accepted.message_id).await.assert_completed(LONG);
}

#[tokio::test(start_paused = true)]
async fn a_drain_for_good_shortens_a_longer_one_and_cannot_be_called_off() {
    let cluster = Cluster::start(2, Settings::default()).await;
    let node = cluster.node(0);
    let accepted = ask(&node, LONG).await;
    node.start_drain(&drain(600_000, DrainPolicy::Finish)).unwrap();
    let before = tokio::time::Instant::now();
    node.terminate(Termination::Gently);
    assert_eq!(node.cancel_drain(9), Err(ErrorCode::Draining));
    done(&node).await;
    // Nobody may find the door shut for the first 3 s; then nothing keeps it.
    let took = before.elapsed();
    assert!((3_000..3_500).contains(&took.as_millis()), "{took:?}");
    Seen::all(&cluster.node(1), accepted.message_id).await.assert_completed(LONG);
    assert_eq!(cluster.calls_of(accepted.message_id).len(), 2, "it was handed over");
}

#[tokio::test(start_paused = true)]
async fn a_hurried_drain_ends_although_nobody_takes_its_answers() {
    let cluster = Cluster::start(1, Settings::default()).await;
    let node = cluster.node(0);
    ask(&node, LONG).await;
    node.terminate(Termination::Gently);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.drain_report().phase, DrainPhase::HandingOver);
    let before = tokio::time::Instant::now();
    node.terminate(Termination::AtOnce);
    done(&node).await;
    assert!(before.elapsed() <= Duration::from_millis(2_500), "{:?}", before.elapsed());
}
