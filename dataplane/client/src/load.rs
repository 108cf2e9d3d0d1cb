//! Load: users that come at a ramping rate, ask one question each, read the whole answer and leave.
//! A user is a success only if its transcript is clean.

pub mod arrivals;
mod user;

use crate::token::TokenSource;
use arrivals::Arrivals;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use user::{Outcome, User};

/// Chunks an answer must have at least to count.
pub const MIN_CHUNKS: u64 = 10;
/// WELCOME must come within this time.
pub const WELCOME_WITHIN: Duration = Duration::from_secs(5);
/// The tenth chunk must come within this time after the request.
pub const CHUNKS_WITHIN: Duration = Duration::from_secs(30);
/// Largest number of users at a time; later ones wait, which is reported.
pub const MAX_AT_ONCE: usize = 5_000;

/// Longer times are recorded as this one, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Users that came.
    pub started: u64,
    /// Users that left.
    pub ended: u64,
    /// Of them those that failed.
    pub failed: u64,
    /// Chunks received.
    pub chunks: u64,
}

/// Told after every user.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What to run.
#[derive(Clone)]
pub struct LoadOptions {
    /// Base URLs of the nodes; users are spread over them.
    pub urls: Vec<String>,
    /// As whom; one token for all.
    pub tokens: TokenSource,
    /// So many users.
    pub users: u64,
    /// New users a second at the height.
    pub rate: f64,
    /// From the first user's arrival to the last one's; `None`: what `users` at `rate` takes.
    pub duration: Option<Duration>,
    /// The start of every prompt.
    pub directive: String,
    /// The end must come so long after the last chunk's planned time.
    pub answer_within: Duration,
    /// Of request ids and jitter.
    pub seed: u64,
    /// Told after every user.
    pub progress: Option<OnProgress>,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Percentiles {
    /// Half took less.
    pub p50: f64,
    /// Nine of ten took less.
    pub p90: f64,
    /// 99 of 100 took less.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadReport {
    /// Users that came.
    pub users: u64,
    /// Users whose answer was whole and in time.
    pub succeeded: u64,
    /// The same in per cent.
    pub success_percent: f64,
    /// How long it took.
    pub seconds: f64,
    /// Chunks received.
    pub chunks: u64,
    /// Chunks a second over the whole run.
    pub chunks_per_second: f64,
    /// Most users at a time.
    pub most_at_once: usize,
    /// Users that came more than 100 ms late because the generator itself was slow.
    pub late: u64,
    /// From dialling to WELCOME.
    pub welcome_ms: Percentiles,
    /// From the request to the first chunk.
    pub first_chunk_ms: Percentiles,
    /// From the request to COMPLETE.
    pub complete_ms: Percentiles,
    /// Why users failed, and how many.
    pub failures: BTreeMap<String, u64>,
}

struct Times {
    welcome: Option<Histogram<u64>>,
    first: Option<Histogram<u64>>,
    complete: Option<Histogram<u64>>,
}

/// Lets all users come and waits until the last one left.
pub async fn run(options: LoadOptions) -> LoadReport {
    let began = Instant::now();
    let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 3).ok();
    let mut times = Times { welcome: histogram(), first: histogram(), complete: histogram() };
    let mut report = LoadReport::default();
    let mut progress = Progress::default();
    let mut users = JoinSet::new();
    let arrivals = Arrivals::new(options.users, options.rate, options.duration);
    for (number, at) in arrivals.enumerate() {
        let due = began + at;
        loop {
            tokio::select! {
                biased;
                Some(ended) = users.join_next() => {
                    record(ended, &mut report, &mut progress, &mut times, &options);
                }
                () = sleep_until(due), if users.len() < MAX_AT_ONCE => break,
            }
        }
        report.late += u64::from(due.elapsed() > Duration::from_millis(100));
        users.spawn(Box::pin(User::new(&options, number as u64).run()));
        progress.started += 1;
        report.most_at_once = report.most_at_once.max(users.len());
    }
    while let Some(ended) = users.join_next().await {
        record(ended, &mut report, &mut progress, &mut times, &options);
    }
    report.users = progress.started;
    report.seconds = began.elapsed().as_secs_f64();
    report.chunks = progress.chunks;
    report.chunks_per_second = report.chunks as f64 / report.seconds.max(f64::EPSILON);
    report.success_percent = 100.0 * report.succeeded as f64 / (report.users.max(1)) as f64;
    report.welcome_ms = percentiles(times.welcome.as_ref());
    report.first_chunk_ms = percentiles(times.first.as_ref());
    report.complete_ms = percentiles(times.complete.as_ref());
    report
}

fn record(
    ended: Result<Outcome, tokio::task::JoinError>,
    report: &mut LoadReport,
    progress: &mut Progress,
    times: &mut Times,
    options: &LoadOptions,
) {
    let outcome = ended.unwrap_or_else(|error| Outcome {
        failure: Some(format!("the generator itself failed: {error}")),
        ..Outcome::default()
    });
    let add = |histogram: &mut Option<Histogram<u64>>, time: Option<Duration>| {
        if let Some((histogram, time)) = histogram.as_mut().zip(time) {
            histogram.saturating_record(time.as_micros() as u64);
        }
    };
    add(&mut times.welcome, outcome.welcome);
    add(&mut times.first, outcome.first_chunk);
    add(&mut times.complete, outcome.complete);
    progress.ended += 1;
    progress.chunks += outcome.chunks;
    match outcome.failure {
        None => report.succeeded += 1,
        Some(why) => {
            progress.failed += 1;
            *report.failures.entry(why).or_default() += 1;
        }
    }
    if let Some(told) = &options.progress {
        told(*progress);
    }
}

pub(crate) fn percentiles(histogram: Option<&Histogram<u64>>) -> Percentiles {
    let Some(histogram) = histogram else { return Percentiles::default() };
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    let max = histogram.max() as f64 / 1_000.0;
    Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), max }
}
