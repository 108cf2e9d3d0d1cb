//! The whole ring over real sockets: a minute of chaos, a drain under 500 followed answers, a kill.
//! Every device is judged by its transcript.

use client::chaos::{ChaosOptions, ChaosReport, run};
use client::recorder::Recorder;
use client::session::{Event, Options, Session};
use client::token::TokenSource;
use dataplane::playground::{Fleet, FleetOptions};
use protocol::dev::NodePhase;
use protocol::drain::{DrainPolicy, DrainRequest};
use protocol::settings::TakeoverPolicy;
use protocol::sim::Directive;
use protocol::{ErrorCode, Settings};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::time::Duration;
use tokio::time::Instant;

async fn fleet(settings: Settings) -> Fleet {
    client::token::install_crypto();
    let fleet = Fleet::start(FleetOptions { settings, ..FleetOptions::default() }).await.unwrap();
    // One lease and a bit: then every node is trusted with takeovers.
    tokio::time::sleep(Duration::from_secs(6)).await;
    fleet
}

async fn chaos(policy: TakeoverPolicy, seconds: u64, seed: u64) -> ChaosReport {
    let mut settings = dataplane::playground::settings();
    settings.ownership.takeover = policy;
    let fleet = fleet(settings).await;
    let options = ChaosOptions {
        answers: None,
        duration: Some(Duration::from_secs(seconds)),
        seed,
        concurrency: 12,
        policy,
        ..ChaosOptions::new(&fleet.front_url())
    };
    run(options).await.unwrap()
}

#[tokio::test]
async fn a_minute_of_chaos_loses_nothing() {
    let report = chaos(TakeoverPolicy::Continue, 60, 11).await;
    assert!(report.green, "{report:#?}");
    assert!(report.verdict.chunks > 10_000, "{report:#?}");
    assert!(report.verdict.takeovers > 0, "the chaos did something: {report:#?}");
    assert!(report.faults.values().all(|times| *times > 0), "every fault happened: {report:#?}");
}

#[tokio::test]
async fn chaos_under_restart_resets_and_under_fail_interrupts_and_nothing_else() {
    let (restart, fail) =
        tokio::join!(chaos(TakeoverPolicy::Restart, 20, 12), chaos(TakeoverPolicy::Fail, 20, 13),);
    assert!(restart.green && restart.verdict.interrupted == 0, "{restart:#?}");
    assert!(fail.green && fail.verdict.resets_restarted == 0, "{fail:#?}");
}

/// What one device saw of its answer.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) longest_pause: Duration,
    pub(crate) clean: bool,
    pub(crate) failed: Option<ErrorCode>,
    /// What is wrong, in words.
    pub(crate) problems: Vec<String>,
    goaways: usize,
}

/// Asks one question at node `at` and reads the answer to its end.
pub(crate) async fn watch(fleet: &Fleet, at: usize, number: u64, text: String) -> Watched {
    let user = TokenSource::Fixed(fleet.token(&format!("user-{}", number % 8)));
    let options = Options { first: at, ..Options::new(fleet.node_urls()) };
    let rng = SmallRng::seed_from_u64(number);
    let mut device = Session::new(options, user, rng, Recorder::default());
    let request = crate::cluster::request_named(&text, &format!("watch-{number}"));
    let directive = Directive::parse(&text).unwrap();
    device.observer().expect_request(request.request_id.clone().unwrap(), directive);
    device.chat(request);
    let (mut last, mut message) = (None::<Instant>, None);
    let mut seen = Watched::default();
    while let Some(event) = device.next().await {
        match event {
            Event::Accepted(accepted) => message = Some(accepted.message_id),
            Event::Chunks { .. } => {
                let pause = last.replace(Instant::now()).map(|at| at.elapsed());
                seen.longest_pause = seen.longest_pause.max(pause.unwrap_or_default());
            }
            Event::Goaway(_) => seen.goaways += 1,
            Event::Failed(error) => {
                seen.failed = Some(error.code);
                break;
            }
            Event::Complete(_) | Event::Stopped(_) => break,
            _ => {}
        }
    }
    let mut recorder = device.close().await;
    let verdict = recorder.take(message.unwrap()).verdict();
    seen.clean = verdict.is_clean(client::transcript::Allowed::default());
    seen.problems = verdict.problems;
    seen
}

async fn watch_all(fleet: &Fleet, at: usize, count: u64, text: &str) -> Vec<Watched> {
    let devices = (0..count).map(|number| async move {
        // Not all in the same millisecond, as people do.
        tokio::time::sleep(Duration::from_millis(number * 4)).await;
        watch(fleet, at, number, format!("{text} {number}")).await
    });
    futures_util::future::join_all(devices).await
}

fn longest(seen: &[Watched]) -> Duration {
    seen.iter().map(|watched| watched.longest_pause).max().unwrap_or_default()
}

#[tokio::test]
async fn draining_a_node_with_500_followed_answers_makes_nobody_wait() {
    let fleet = fleet(dataplane::playground::settings()).await;
    let text = "[sim tokens=48 rate=4 seed=3 vary=epoch]";
    let drain = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let policy = Some(DrainPolicy::Continue);
        fleet.drain(0, DrainRequest { deadline_ms: Some(8_000), epoch: 0, policy }).await;
    };
    let (seen, ()) = tokio::join!(watch_all(&fleet, 0, 500, text), drain);
    assert!(seen.iter().all(|watched| watched.clean));
    let told = seen.iter().filter(|watched| watched.goaways > 0).count();
    assert_eq!(told, 500, "everybody got a slot");
    // 250 ms between two chunks of an undisturbed answer.
    let longest = longest(&seen);
    println!("longest pause of 500 followed answers in a drain: {longest:?}");
    assert!(longest <= Duration::from_millis(500), "{longest:?}");
    let phase = fleet.nodes().await[0].phase;
    assert_eq!(phase, NodePhase::Done);
}

#[tokio::test]
async fn a_killed_nodes_answers_go_on_within_six_seconds() {
    let fleet = fleet(dataplane::playground::settings()).await;
    let text = "[sim tokens=120 rate=10 seed=3 vary=epoch]";
    let kill = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        fleet.kill(0).await;
    };
    let (seen, ()) = tokio::join!(watch_all(&fleet, 0, 50, text), kill);
    assert!(seen.iter().all(|watched| watched.clean));
    let longest = longest(&seen);
    println!("longest pause of 50 answers whose node was killed: {longest:?}");
    assert!(longest <= Duration::from_secs(6), "{longest:?}");
}
