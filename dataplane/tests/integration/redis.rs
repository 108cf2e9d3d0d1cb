//! Node processes over a real Redis that is disturbed as well: chaos, a long absence, a loss of
//! everything.

use crate::chaos::watch;
use client::chaos::{ChaosOptions, Fault, run};
use dataplane::playground::{Fleet, FleetOptions, Kind};
use futures_util::future::join_all;
use protocol::{Epoch, ErrorCode};
use std::time::Duration;
use tokio::time::sleep;

async fn fleet() -> Fleet {
    client::token::install_crypto();
    let kind = Kind::Processes { program: env!("CARGO_BIN_EXE_dataplane").into(), redis: true };
    let fleet = Fleet::start(FleetOptions { kind, ..FleetOptions::default() }).await.unwrap();
    // One lease and a bit: then every node is trusted with takeovers.
    sleep(Duration::from_secs(6)).await;
    fleet
}

async fn disturb(fleet: &Fleet, fault: &str, body: &'static str) {
    let url = format!("{}/dev/redis/{fault}", fleet.front_url());
    let post = client::api::http_client().unwrap().post(url).body(body);
    assert_eq!(post.send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn ninety_seconds_of_chaos_lose_nothing() {
    let fleet = fleet().await;
    let options = ChaosOptions {
        answers: None,
        duration: Some(Duration::from_secs(90)),
        seed: 21,
        concurrency: 8,
        faults: Fault::ALL.into_iter().chain(Fault::STORE).collect(),
        ..ChaosOptions::new(&fleet.front_url())
    };
    let report = run(options).await.unwrap();
    assert!(report.green, "{report:#?}");
    assert!(report.verdict.chunks > 10_000, "{report:#?}");
    assert!(report.verdict.takeovers > 0, "the chaos did something: {report:#?}");
    let of_store = |fault: &Fault| Fault::STORE.contains(fault);
    assert!(report.faults.keys().any(of_store), "{report:#?}");
}

#[tokio::test]
async fn redis_away_for_20_seconds_causes_no_takeover_and_loses_nothing() {
    let fleet = fleet().await;
    let text = "[sim tokens=500 rate=20 seed=5 vary=epoch]";
    let devices = (0..9).map(|number| watch(&fleet, number as usize % 3, number, text.to_owned()));
    let away = async {
        sleep(Duration::from_secs(3)).await;
        disturb(&fleet, "pause", "{\"ms\":20000}").await;
    };
    let (seen, ()) = tokio::join!(join_all(devices), away);
    assert!(seen.iter().all(|watched| watched.clean && watched.failed.is_none()), "{seen:#?}");
    let longest = seen.iter().map(|watched| watched.longest_pause).max().unwrap_or_default();
    assert!(longest > Duration::from_secs(15), "it was away: {longest:?}");
    let calls = fleet.calls();
    assert!(calls.iter().all(|call| call.epoch == Epoch::FIRST), "a takeover: {calls:#?}");
    assert_eq!(calls.len(), 9);
}

#[tokio::test]
async fn redis_comes_back_empty_and_the_owners_lose_nothing() {
    let fleet = fleet().await;
    let text = "[sim tokens=240 rate=20 seed=6 vary=epoch]";
    let devices = (0..9).map(|number| watch(&fleet, number as usize % 3, number, text.to_owned()));
    let loss = async {
        for _ in 0..2 {
            sleep(Duration::from_secs(4)).await;
            disturb(&fleet, "restart", "").await;
        }
    };
    let (seen, ()) = tokio::join!(join_all(devices), loss);
    assert!(seen.iter().all(|watched| watched.clean && watched.failed.is_none()), "{seen:#?}");
    let calls = fleet.calls();
    assert!(calls.iter().all(|call| call.epoch == Epoch::FIRST), "a takeover: {calls:#?}");
}

#[tokio::test]
async fn what_is_lost_with_its_owner_is_told_to_everybody() {
    let fleet = fleet().await;
    let text = "[sim tokens=2000 rate=20 seed=7 vary=epoch]";
    let devices = (0..6).map(|number| watch(&fleet, 0, number, text.to_owned()));
    let loss = async {
        sleep(Duration::from_secs(3)).await;
        tokio::join!(fleet.kill(0), disturb(&fleet, "restart", ""));
    };
    let told = async { tokio::join!(join_all(devices), loss) };
    let (seen, ()) = tokio::time::timeout(Duration::from_secs(40), told).await.expect("not told");
    for watched in seen {
        let known = [ErrorCode::NotFound, ErrorCode::Interrupted, ErrorCode::Reset];
        assert!(watched.failed.is_some_and(|code| known.contains(&code)), "{:?}", watched.failed);
    }
}

#[tokio::test]
async fn chaos_that_loses_owners_tells_every_device() {
    let fleet = fleet().await;
    let options = ChaosOptions {
        answers: None,
        duration: Some(Duration::from_secs(9)),
        seed: 3,
        concurrency: 12,
        faults: [Fault::Cut, Fault::Dup, Fault::StoreLoss].into(),
        longest: Duration::from_secs(5),
        ..ChaosOptions::new(&fleet.front_url())
    };
    let report = run(options).await.unwrap();
    assert!(report.green, "{report:#?}");
    let lost = report.lost_with_owner.unwrap();
    assert!(lost.not_found + lost.interrupted + lost.reset > 0, "{report:#?}");
    assert!(report.verdict.completed > 0, "the others are whole: {report:#?}");
}

#[tokio::test]
async fn owners_cannot_be_lost_where_there_is_no_redis() {
    client::token::install_crypto();
    let fleet = Fleet::start(FleetOptions::default()).await.unwrap();
    let options =
        ChaosOptions { faults: [Fault::StoreLoss].into(), ..ChaosOptions::new(&fleet.front_url()) };
    let refused = run(options).await.unwrap_err().to_string();
    assert!(refused.contains("STORES=redis"), "{refused}");
}
