//! Owners that die, freeze or are cut off: who goes on, and what followers see.

use crate::cluster::{Cluster, Seen, alice, ask, request_named};
use protocol::server_frame::{ResetReason, TakeoverMode};
use protocol::settings::TakeoverPolicy;
use protocol::{Epoch, ErrorCode, Settings};
use std::time::Duration;

const LONG: &str = "[sim tokens=200 rate=20 seed=3 vary=epoch]";

fn policy(takeover: TakeoverPolicy) -> Settings {
    let mut settings = Settings::default();
    settings.ownership.takeover = takeover;
    settings
}

#[tokio::test(start_paused = true)]
async fn a_dead_owners_answer_goes_on_within_six_seconds() {
    let cluster = Cluster::start(3, policy(TakeoverPolicy::Continue)).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    let follower = {
        let node = cluster.node(1);
        tokio::spawn(async move { Seen::all(&node, accepted.message_id).await })
    };
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.members[0].kill();
    let seen = follower.await.unwrap();
    seen.assert_completed(LONG);
    assert_eq!(seen.takeovers, [TakeoverMode::Continue]);
    assert!(seen.resets.is_empty());
    assert!(seen.longest_pause <= Duration::from_secs(6), "{:?}", seen.longest_pause);
    let epochs: Vec<u64> = seen.chunks.iter().map(|(epoch, _)| epoch.0).collect();
    assert!(epochs.is_sorted() && epochs.first() == Some(&1) && epochs.last() == Some(&2));
    let calls = cluster.calls_of(accepted.message_id);
    assert_eq!(calls.len(), 2, "one owner after the other: {calls:?}");
    assert_eq!(calls[1].1.0 as usize, epochs.iter().filter(|e| **e == 1).count());
}

#[tokio::test(start_paused = true)]
async fn restart_resets_every_follower_and_fail_keeps_the_text() {
    let cluster = Cluster::start(2, policy(TakeoverPolicy::Restart)).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    let node = cluster.node(1);
    let follower = tokio::spawn(async move { Seen::all(&node, accepted.message_id).await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.members[0].kill();
    let seen = follower.await.unwrap();
    seen.assert_completed(LONG);
    assert_eq!(seen.resets, [ResetReason::Restarted]);
    assert!(seen.chunks.iter().all(|(epoch, _)| *epoch == Epoch(2)));

    let cluster = Cluster::start(2, policy(TakeoverPolicy::Fail)).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.members[0].kill();
    let seen = Seen::all(&cluster.node(1), accepted.message_id).await;
    seen.assert_failed(ErrorCode::Interrupted);
    seen.assert_text(LONG);
    assert!(seen.chunks.len() >= 55, "the partial text is kept: {}", seen.chunks.len());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_orphan_is_sealed_cancelled() {
    let cluster = Cluster::start(2, Settings::default()).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.members[0].kill();
    cluster.node(1).cancel(&alice(), accepted.message_id).await.unwrap();
    let seen = Seen::all(&cluster.node(1), accepted.message_id).await;
    assert_eq!(seen.seal.unwrap().status, protocol::SealStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_kills_its_owners_ends_as_interrupted() {
    let mut settings = Settings::default();
    settings.stream.first_token_ms = 200_000;
    let mut cluster = Cluster::start(4, settings).await;
    let silent = "[sim tokens=10 stall=0]";
    let accepted = ask(&cluster.node(0), silent).await;
    for _ in 0..3 {
        let owner = cluster.members.iter().position(|m| !m.node.streams.is_empty()).unwrap();
        cluster.members[owner].kill();
        cluster.members.remove(owner);
        tokio::time::sleep(Duration::from_secs(8)).await;
    }
    let seen = Seen::all(&cluster.node(0), accepted.message_id).await;
    seen.assert_failed(ErrorCode::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_request_survives_its_first_node() {
    let cluster = Cluster::start(2, Settings::default()).await;
    let first = cluster.node(0).accept(&alice(), request_named(LONG, "r1")).await.unwrap();
    cluster.members[0].kill();
    let again = cluster.node(1).accept(&alice(), request_named(LONG, "r1")).await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.message_id, first.message_id);
    Seen::all(&cluster.node(1), first.message_id).await.assert_completed(LONG);
}

#[tokio::test(start_paused = true)]
async fn takeovers_share_the_work_and_end_with_the_last_node() {
    let cluster = Cluster::start(3, Settings::default()).await;
    let mut accepted = Vec::new();
    for _ in 0..20 {
        accepted.push(ask(&cluster.node(0), LONG).await.message_id);
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    cluster.members[0].kill();
    tokio::time::sleep(Duration::from_secs(6)).await;
    cluster.members[1].kill();
    for message in accepted {
        Seen::all(&cluster.node(2), message).await.assert_completed(LONG);
    }
}
