//! What `chatctl soak` does, over real sockets: green while nodes go, red when something is wrong.

use client::soak::{Command, SoakOptions, SoakReport, run};
use client::token::TokenSource;
use dataplane::playground::{Fleet, FleetOptions};
use protocol::drain::DrainRequest;
use protocol::sim::Directive;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

async fn fleet() -> Fleet {
    client::token::install_crypto();
    let settings = dataplane::playground::settings();
    Fleet::start(FleetOptions { settings, ..FleetOptions::default() }).await.unwrap()
}

/// Asks with `prompt`, and judges by `expected`.
async fn soak(
    fleet: &Fleet,
    prompt: &str,
    expected: &str,
    meanwhile: impl AsyncFnOnce(mpsc::Sender<Command>),
) -> SoakReport {
    let options = SoakOptions {
        urls: fleet.node_urls(),
        tokens: TokenSource::Fixed(fleet.token("alice")),
        sockets: 20,
        basic_percent: 50,
        rate: 100.0,
        directive: Directive::parse(expected).unwrap(),
        prompt: prompt.to_owned(),
        answer_within: Duration::from_secs(30),
        seed: 1,
        progress: None,
    };
    let (commands, heard) = mpsc::channel(4);
    tokio::join!(run(options, heard), meanwhile(commands)).0
}

#[tokio::test]
async fn nothing_is_lost_while_one_node_drains_and_another_one_is_killed() {
    let fleet = fleet().await;
    // One lease and a bit: then every node is trusted with takeovers.
    sleep(Duration::from_secs(6)).await;
    let text = "[sim tokens=40 rate=20]";
    let report = soak(&fleet, text, text, async |commands| {
        sleep(Duration::from_secs(3)).await;
        commands.send(Command::Phase("moving".to_owned())).await.unwrap();
        fleet.drain(0, DrainRequest { deadline_ms: Some(4_000), ..DrainRequest::default() }).await;
        sleep(Duration::from_secs(2)).await;
        fleet.kill(1).await;
        sleep(Duration::from_secs(3)).await;
        commands.send(Command::End).await.unwrap();
    })
    .await;
    assert!(report.total.is_clean(), "{report:#?}");
    let names: Vec<_> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, ["begin", "moving"]);
    let (calm, moving) = (&report.phases[0], &report.phases[1]);
    assert!(calm.completed > 0 && calm.reconnects == 0, "{calm:#?}");
    assert!(moving.completed > 0 && moving.reconnects > 0 && moving.goaways > 0, "{moving:#?}");
    // Half of them speak each dialect; a dead node's answers wait for its lease to end.
    for gaps in [moving.gap_ms.v1, moving.gap_ms.basic] {
        assert!(gaps.max > 1_000.0 && gaps.p50 > 10.0, "{gaps:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_found_in_both_dialects() {
    let fleet = fleet().await;
    let once = async |commands: mpsc::Sender<Command>| {
        sleep(Duration::from_secs(2)).await;
        drop(commands);
    };
    let longer = soak(&fleet, "[sim tokens=10 rate=0]", "[sim tokens=12 rate=0]", once).await;
    assert!(longer.total.lost > 0, "basic misses two chunks: {longer:#?}");
    let other = soak(&fleet, "[sim tokens=10 rate=0]", "[sim tokens=10 rate=0 seed=2]", once).await;
    assert!(other.total.wrong > 0, "v1 sees another text: {other:#?}");
}
