//! The chaos driver: answers with several devices each, over a playground whose nodes are killed,
//! frozen and drained meanwhile, driven only through `/dev` and the public interfaces. Every device
//! is judged by its transcript.

mod answer;
mod device;
mod nodes;
mod report;
pub mod schedule;

pub use report::ChaosReport;
pub use schedule::Fault;

use crate::api::{ApiError, Dev, http_client};
use crate::token::TokenSource;
use answer::{Field, Judged};
use hdrhistogram::Histogram;
use protocol::MessageId;
use protocol::dev::UpstreamCall;
use protocol::settings::TakeoverPolicy;
use schedule::{AnswerPlan, NodeFaults, Shape};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Users that the answers are spread over, so that no limit of one user is met.
const USERS: u64 = 16;
/// Tokens are asked for again after this time; the playground's last longer.
const TOKEN_AGE: Duration = Duration::from_secs(600);

/// Longer pauses are recorded as this one, in milliseconds: an hour.
const LONGEST_MS: u64 = 3_600_000;

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Answers that have ended.
    pub ended: u64,
    /// Answers under way.
    pub running: u64,
    /// Answers with something wrong.
    pub bad: u64,
    /// Chunks received.
    pub chunks: u64,
}

/// Told after every answer.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What to run.
#[derive(Clone)]
pub struct ChaosOptions {
    /// The playground's front, `http://host:port`.
    pub front: String,
    /// So many answers; `None`: as many as fit into `duration`.
    pub answers: Option<u64>,
    /// Start no answer after this time.
    pub duration: Option<Duration>,
    /// Devices an answer.
    pub devices: usize,
    /// Of every decision.
    pub seed: u64,
    /// Answers at a time.
    pub concurrency: usize,
    /// What may happen.
    pub faults: BTreeSet<Fault>,
    /// The playground's policy after a crash.
    pub policy: TakeoverPolicy,
    /// Longest planned time of an answer.
    pub longest: Duration,
    /// Added to an answer's planned time; later it counts as without end.
    pub slack: Duration,
    /// Told after every answer.
    pub progress: Option<OnProgress>,
}

impl ChaosOptions {
    /// 100 answers with all faults.
    pub fn new(front: &str) -> Self {
        Self {
            front: front.to_owned(),
            answers: Some(100),
            duration: None,
            devices: 3,
            seed: 1,
            concurrency: 16,
            faults: Fault::ALL.into(),
            policy: TakeoverPolicy::Continue,
            longest: Duration::from_secs(15),
            slack: Duration::from_secs(45),
            progress: None,
        }
    }
}

struct Tally {
    report: ChaosReport,
    progress: Progress,
    pauses: Option<Histogram<u64>>,
    messages: HashSet<MessageId>,
}

/// Runs the chaos and judges it.
///
/// # Errors
/// Where the playground cannot be reached before the run, or says nothing of its provider after it.
/// Everything that goes wrong in between is the report's.
pub async fn run(options: ChaosOptions) -> Result<ChaosReport, ApiError> {
    let began = Instant::now();
    let http = http_client()?;
    let dev = Dev::new(http.clone(), &options.front);
    let nodes = dev.nodes().await?;
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let urls = nodes.iter().map(|node| node.base_url.clone()).collect();
    // Ids are kept for a day, so that a second run with the same seed must not meet the first.
    let run = u64::from(std::process::id()) ^ (dev.upstream_calls().await?.len() as u64) << 32;
    let field = Field {
        http,
        urls,
        tokens: TokenSource::Fixed(String::new()),
        run: run ^ options.seed << 24,
        slack: options.slack,
    };
    let shape = Shape {
        seed: options.seed,
        devices: options.devices,
        nodes: names.len(),
        faults: options.faults.clone(),
        longest: options.longest,
        tools: options.policy != TakeoverPolicy::Restart,
    };
    let stop = CancellationToken::new();
    let schedule = NodeFaults::new(options.seed, names.len(), &options.faults);
    let mut driver = JoinSet::new();
    driver.spawn(nodes::run(dev.clone(), names, schedule, stop.clone()));
    let mut tally = Tally {
        report: ChaosReport::new(options.seed, options.policy),
        progress: Progress::default(),
        pauses: Histogram::new_with_bounds(1, LONGEST_MS, 3).ok(),
        messages: HashSet::new(),
    };
    all_answers(&options, &dev, &field, &shape, began, &mut tally).await;
    stop.cancel();
    while let Some(done) = driver.join_next().await {
        let done = done.unwrap_or_default();
        done.faults.into_iter().for_each(|(fault, times)| tally.report.count(fault, times));
        tally.report.faults_skipped = done.skipped;
    }
    check_upstream(&dev.upstream_calls().await?, &mut tally);
    Ok(tally.conclude(began))
}

/// Keeps `concurrency` answers under way until all were started and have ended.
async fn all_answers(
    options: &ChaosOptions,
    dev: &Dev,
    field: &Field,
    shape: &Shape,
    began: Instant,
    tally: &mut Tally,
) {
    let mut users = Users { dev: dev.clone(), run: field.run, tokens: HashMap::new() };
    let mut running = JoinSet::new();
    let mut number = 0;
    loop {
        let wanted = options.answers.is_none_or(|answers| number < answers)
            && options.duration.is_none_or(|time| began.elapsed() < time)
            && (options.answers.is_some() || options.duration.is_some());
        if wanted && running.len() < options.concurrency.max(1) {
            let plan = AnswerPlan::new(shape, number);
            let tokens = users.token(number).await;
            running.spawn(Box::pin(answer::run(Field { tokens, ..field.clone() }, plan)));
            number += 1;
            continue;
        }
        let Some(ended) = running.join_next().await else { break };
        tally.progress.running = running.len() as u64;
        match ended {
            Ok(judged) => tally.add(&judged),
            Err(error) => {
                tally.report.verdict.malformed += 1;
                tally.report.verdict.note(|| format!("the driver itself failed: {error}"));
            }
        }
        if let Some(progress) = &options.progress {
            progress(tally.progress);
        }
    }
    tally.report.answers = number;
}

/// One token for each of [`USERS`] users, renewed in time.
struct Users {
    dev: Dev,
    run: u64,
    tokens: HashMap<u64, (Instant, TokenSource)>,
}

impl Users {
    async fn token(&mut self, number: u64) -> TokenSource {
        let user = number % USERS;
        if let Some((since, token)) = self.tokens.get(&user)
            && since.elapsed() < TOKEN_AGE
        {
            return token.clone();
        }
        let name = format!("chaos-{:x}-{user}", self.run);
        let source = TokenSource::Playground { dev: self.dev.clone(), user: name };
        let token = source.token().await.map(TokenSource::Fixed).unwrap_or(source);
        self.tokens.insert(user, (Instant::now(), token.clone()));
        token
    }
}

impl Tally {
    fn add(&mut self, judged: &Judged) {
        let report = &mut self.report;
        let before = report.verdict.problems.len();
        report.verdict.merge(&judged.verdict);
        report.accepted += u64::from(judged.message.is_some());
        report.unaccepted += judged.unaccepted;
        report.answered_twice += judged.answered_twice;
        report.wrong_end += judged.wrong_end;
        report.unread += judged.unread;
        report.reconnects += judged.reconnects;
        report.count(Fault::Cut, judged.cuts);
        report.count(Fault::Stall, judged.stalls);
        report.count(Fault::Dup, judged.duplicates);
        report.count(Fault::Cancel, judged.cancels);
        self.messages.extend(judged.message);
        if let Some(pauses) = &mut self.pauses {
            for pause in &judged.pauses {
                pauses.saturating_record(pause.as_millis() as u64);
            }
        }
        self.progress.ended += 1;
        self.progress.chunks = report.verdict.chunks;
        self.progress.bad += u64::from(report.verdict.problems.len() > before);
    }

    fn conclude(mut self, began: Instant) -> ChaosReport {
        let report = &mut self.report;
        report.seconds = began.elapsed().as_secs_f64();
        if let Some(pauses) = &self.pauses {
            report.longest_pause_ms = pauses.max();
            report.p99_pause_ms = pauses.value_at_quantile(0.99);
            report.p50_pause_ms = pauses.value_at_quantile(0.5);
        }
        report.conclude();
        self.report
    }
}

/// One call for a message and an epoch; one message for a request id.
fn check_upstream(calls: &[UpstreamCall], tally: &mut Tally) {
    let mut seen = HashSet::new();
    let mut requests = HashMap::new();
    let report = &mut tally.report;
    for call in calls.iter().filter(|call| tally.messages.contains(&call.message_id)) {
        report.upstream_calls += 1;
        let (message, epoch) = (call.message_id, call.epoch);
        if !seen.insert((message, epoch)) {
            report.upstream_repeated += 1;
            let node = &call.node;
            report.verdict.note(|| format!("{message}: asked again in epoch {epoch} by {node}"));
        }
    }
    for call in calls {
        let Some(request) = &call.request_id else { continue };
        let first = *requests.entry(request).or_insert(call.message_id);
        if first != call.message_id {
            report.answered_twice += 1;
            let (other, id) = (call.message_id, request.as_str());
            report.verdict.note(|| format!("{first} and {other}: both for request {id}"));
        }
    }
}
