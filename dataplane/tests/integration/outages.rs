//! Stores and nodes that stop answering for a while: streams pause and go on, nobody is called dead
//! who is not, and a zombie harms nobody.

use crate::cluster::{Cluster, Seen, ask};
use dataplane::node::Engines;
use protocol::{Epoch, Settings};
use std::sync::Arc;
use std::time::Duration;
use streamlog::chaos::{Chaos, ChaosControl, Faults, Op};
use streamlog::{Cursor, Event};

const LONG: &str = "[sim tokens=200 rate=20 seed=3 vary=epoch]";

/// The engines of a node behind one chaos decorator.
pub(crate) fn shaken(engines: Engines, control: &ChaosControl) -> Engines {
    Engines {
        log: Arc::new(Chaos::new(engines.log, control.clone())),
        directory: Arc::new(Chaos::new(engines.directory, control.clone())),
        registry: Arc::new(Chaos::new(engines.registry, control.clone())),
        bus: Arc::new(Chaos::new(engines.bus, control.clone())),
    }
}

async fn cluster(count: usize, settings: Settings) -> (Cluster, Vec<ChaosControl>) {
    let mut cluster = Cluster::start(0, settings).await;
    let controls: Vec<_> = (0..count as u64).map(ChaosControl::seeded).collect();
    for control in &controls {
        cluster.join(true, |engines| shaken(engines, control));
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    (cluster, controls)
}

fn refusing() -> Faults {
    Faults { refuse: 1.0, ..Faults::default() }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_pauses_streams_and_causes_no_takeover() {
    for stalls in [true, false] {
        let (cluster, controls) = cluster(3, Settings::default()).await;
        let accepted = ask(&cluster.node(0), LONG).await;
        let followers: Vec<_> = (0..3)
            .map(|at| {
                let node = cluster.node(at);
                tokio::spawn(async move { Seen::all(&node, accepted.message_id).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(2)).await;
        for control in &controls {
            if stalls { control.stall() } else { control.set(refusing()) }
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        for control in &controls {
            if stalls { control.resume() } else { control.set(Faults::default()) }
        }
        for follower in followers {
            let seen = follower.await.unwrap();
            seen.assert_completed(LONG);
            assert!(seen.takeovers.is_empty() && seen.resets.is_empty(), "{seen:?}");
            assert!(seen.longest_pause >= Duration::from_secs(19), "it did pause");
        }
        assert_eq!(cluster.calls_of(accepted.message_id).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn followers_are_told_that_the_log_is_away_and_back() {
    let (cluster, controls) = cluster(1, Settings::default()).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    let mut follower =
        cluster.node(0).follow(&crate::cluster::alice(), accepted.message_id, Cursor::START);
    let mut told = Vec::new();
    let control = controls[0].clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        control.set(refusing());
        tokio::time::sleep(Duration::from_secs(10)).await;
        control.set(Faults::default());
    });
    while let Some(event) = follower.next().await {
        match event.unwrap() {
            Event::Paused => told.push("paused"),
            Event::Live => told.push("live"),
            _ => {}
        }
    }
    assert_eq!(told, ["paused", "live"]);
}

#[tokio::test(start_paused = true)]
async fn a_zombie_is_fenced_and_stops_its_call() {
    let (cluster, controls) = cluster(2, Settings::default()).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    let node = cluster.node(0);
    let on_zombie = tokio::spawn(async move { Seen::all(&node, accepted.message_id).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    controls[0].stall();
    tokio::time::sleep(Duration::from_secs(15)).await;
    controls[0].resume();
    for seen in [on_zombie.await.unwrap(), Seen::all(&cluster.node(1), accepted.message_id).await] {
        seen.assert_completed(LONG);
        assert!(seen.resets.is_empty());
        assert_eq!(seen.chunks.last().unwrap().0, Epoch(2));
    }
    assert!(cluster.node(0).streams.is_empty(), "the zombie let go");
    assert_eq!(cluster.calls_of(accepted.message_id).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_are_lost_write_nothing_twice() {
    let (cluster, controls) = cluster(2, Settings::default()).await;
    for control in &controls {
        control.set(Faults {
            lose_ack: 0.3,
            refuse: 0.1,
            lose_wakeup: 0.3,
            delay_ack: Duration::from_millis(20),
            ..Faults::default()
        });
    }
    for n in 0..5 {
        let accepted = loop {
            let request = crate::cluster::request_named(LONG, &format!("lossy-{n}"));
            if let Ok(accepted) = cluster.node(0).accept(&crate::cluster::alice(), request).await {
                break accepted;
            }
        };
        let seen = Seen::all(&cluster.node(1), accepted.message_id).await;
        seen.assert_completed(LONG);
        assert_eq!(cluster.calls_of(accepted.message_id).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_an_answer_is_still_produced() {
    let (cluster, controls) = cluster(2, Settings::default()).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let claim = controls[1].hold_next(Op::Claim, true);
    cluster.members[0].kill();
    let mut claim = claim;
    claim.reached().await;
    claim.lose();
    let seen = Seen::all(&cluster.node(1), accepted.message_id).await;
    seen.assert_completed(LONG);
    assert!(seen.takeovers.len() <= 1);
    assert_eq!(seen.chunks.last().unwrap().0, Epoch(2));
}

/// Teeth: a seal that the store refused once and that is not tried again.
#[tokio::test(start_paused = true)]
async fn a_refused_seal_is_written_in_the_end() {
    assert!(sealed_after_a_refusal().await);
}

pub(crate) async fn sealed_after_a_refusal() -> bool {
    let (cluster, controls) = cluster(2, Settings::default()).await;
    let accepted = ask(&cluster.node(0), LONG).await;
    controls[0].refuse_next(Op::Seal, 1);
    let node = cluster.node(1);
    let ended = Seen::all(&node, accepted.message_id);
    tokio::time::timeout(Duration::from_secs(400), ended).await.is_ok()
}
