//! Chaos, load and verify against the small cluster: green where it keeps its promises, red for
//! every promise that it breaks.

use crate::cluster::{Bug, Cluster};
use client::api::http_client;
use client::chaos::{self, ChaosOptions, ChaosReport, Fault};
use client::load::{self, LoadOptions};
use client::session::{Event, Options, Session};
use client::token::{TokenSource, install_crypto};
use client::verify;
use protocol::{ChatOptions, ChatRequest, MessageId, OnDisconnect};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::time::Duration;

async fn chaos(bug: Bug) -> ChaosReport {
    install_crypto();
    let cluster = Cluster::start(bug).await;
    let mut options = ChaosOptions::new(&cluster.front);
    options.answers = Some(24);
    options.concurrency = 8;
    options.longest = Duration::from_secs(2);
    options.slack = Duration::from_secs(2);
    if bug == Bug::NoSeal {
        options.answers = Some(2);
    }
    chaos::run(options).await.unwrap()
}

#[tokio::test]
async fn chaos_is_green_on_a_sound_cluster_and_really_did_something() {
    let report = chaos(Bug::None).await;
    assert!(report.green, "{report:#?}");
    assert_eq!((report.answers, report.accepted), (24, 24));
    assert!(report.verdict.transcripts >= 72 && report.verdict.chunks > 1_000, "{report:#?}");
    for fault in [Fault::Cut, Fault::Dup, Fault::Cancel, Fault::Stall] {
        assert!(report.faults[&fault] > 0, "{fault}: {report:#?}");
    }
    let of_nodes = [Fault::Kill, Fault::Drain, Fault::Pause];
    assert!(of_nodes.iter().any(|fault| report.faults.contains_key(fault)), "{report:#?}");
    assert!(report.reconnects > 0 && report.longest_pause_ms > 0);
}

type Found = fn(&ChaosReport) -> u64;

/// What each broken promise must be found as.
const BROKEN: [(Bug, Found); 8] = [
    (Bug::Skip, |report| report.verdict.lost),
    (Bug::Repeat, |report| report.verdict.twice),
    (Bug::Relabel, |report| report.verdict.phantom),
    (Bug::NoSeal, |report| report.verdict.without_end),
    (Bug::TwoAnswers, |report| report.answered_twice),
    (Bug::AskTwice, |report| report.upstream_repeated),
    (Bug::OtherText, |report| report.verdict.disagree),
    (Bug::Babble, |report| report.verdict.after_end),
];

#[tokio::test]
async fn every_broken_promise_turns_it_red() {
    // Side by side: a run mostly waits.
    let runs = BROKEN.map(|(bug, found)| async move { (bug, found, chaos(bug).await) });
    for (bug, found, report) in futures_util::future::join_all(runs).await {
        assert!(found(&report) > 0 && !report.green, "{bug:?}: {report:#?}");
    }
}

fn load(cluster: &Cluster) -> LoadOptions {
    LoadOptions {
        urls: cluster.urls.clone(),
        tokens: TokenSource::Fixed("t".into()),
        users: 40,
        rate: 40.0,
        duration: None,
        directive: "[sim tokens=20 rate=40]".into(),
        answer_within: Duration::from_secs(5),
        seed: 1,
        progress: None,
    }
}

#[tokio::test]
async fn load_counts_whole_answers() {
    let cluster = Cluster::start(Bug::None).await;
    let report = load::run(load(&cluster)).await;
    assert_eq!((report.users, report.succeeded, report.chunks), (40, 40, 800), "{report:#?}");
    assert!(report.complete_ms.p50 >= 450.0 && report.welcome_ms.max > 0.0, "{report:#?}");
    assert!(report.most_at_once > 1);
}

#[tokio::test]
async fn load_counts_failures_by_reason() {
    let cluster = Cluster::start(Bug::None).await;
    let few = LoadOptions { directive: "[sim tokens=3 rate=0]".into(), ..load(&cluster) };
    let report = load::run(few).await;
    assert_eq!((report.succeeded, report.failures["fewer than 10 chunks"]), (0, 40));
}

async fn answered(cluster: &Cluster) -> MessageId {
    let tokens = TokenSource::Fixed("t".into());
    let options = Options::new(cluster.urls.clone());
    let mut session = Session::new(options, tokens, SmallRng::seed_from_u64(1), ());
    session.chat(ChatRequest {
        content: "[sim tokens=30 rate=0 types=thinking,text]".into(),
        conversation_id: None,
        request_id: None,
        options: ChatOptions::default(),
        on_disconnect: OnDisconnect::Continue,
    });
    loop {
        if let Some(Event::Complete(body)) = session.next().await {
            return body.message_id;
        }
    }
}

#[tokio::test]
async fn verify_compares_every_way_on_every_node() {
    install_crypto();
    for (bug, green) in [(Bug::None, true), (Bug::OtherText, false)] {
        let cluster = Cluster::start(bug).await;
        let message = answered(&cluster).await;
        let tokens = TokenSource::Fixed("t".into());
        let limit = Duration::from_secs(5);
        let http = http_client().unwrap();
        let verified = verify::run(&http, &cluster.urls, &tokens, message, limit).await.unwrap();
        assert_eq!(verified.green, green, "{verified:#?}");
        assert_eq!(verified.readings.len(), 9);
        assert!(verified.readings.iter().all(|reading| reading.chunks == 30), "{verified:#?}");
    }
}
