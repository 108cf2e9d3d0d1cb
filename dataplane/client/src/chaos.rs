//! The chaos driver: answers with several devices each, over a playground whose nodes are killed,
//! frozen and drained meanwhile, driven only through `/dev` and the public interfaces. Every device
//! is judged by its transcript.

mod answer;
mod device;
mod losses;
mod nodes;
mod report;
pub mod schedule;
mod tally;

pub use losses::Lost;
pub use report::ChaosReport;
pub use schedule::Fault;

use crate::api::{ApiError, Dev, http_client};
use crate::token::TokenSource;
use answer::Field;
use jiff::Timestamp;
use losses::Losses;
use protocol::settings::TakeoverPolicy;
use schedule::{AnswerPlan, NodeFaults, Shape};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Users that the answers are spread over, so that no limit of one user is met.
const USERS: u64 = 16;
/// Tokens are asked for again after this time; the playground's last longer.
const TOKEN_AGE: Duration = Duration::from_secs(600);

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
    /// What may happen. With [`Fault::StoreLoss`] answers that are lost with their owner may end as
    /// NOT_FOUND, INTERRUPTED or after a RESET; every other answer must be whole as ever.
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

/// Wall time that only goes forward: what was done is compared with the provider's records.
#[derive(Clone, Copy, Debug)]
struct Wall {
    at: Timestamp,
    began: Instant,
}

impl Wall {
    fn started() -> Self {
        // The records of other processes carry their wall time.
        #[allow(clippy::disallowed_methods)]
        let at = Timestamp::now();
        Self { at, began: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        self.at.saturating_add(self.began.elapsed()).unwrap_or(self.at)
    }
}

/// Runs the chaos and judges it.
///
/// # Errors
/// Where the playground cannot be reached before the run, has no Redis to lose owners with, or says
/// nothing of its provider after it. Everything that goes wrong in between is the report's.
pub async fn run(options: ChaosOptions) -> Result<ChaosReport, ApiError> {
    let began = Instant::now();
    let http = http_client()?;
    let dev = Dev::new(http.clone(), &options.front);
    let nodes = dev.nodes().await?;
    let loses = options.faults.contains(&Fault::StoreLoss);
    if loses {
        // Harmless, and refused where there is no Redis.
        dev.kill_pubsub().await?;
    }
    let wall = Wall::started();
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
        wall,
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
    driver.spawn(nodes::run(dev.clone(), names, schedule, wall, stop.clone()));
    let mut tally = Tally::new(ChaosReport::new(options.seed, options.policy), loses);
    all_answers(&options, &dev, &field, &shape, began, &mut tally).await;
    stop.cancel();
    let mut losses = Losses::default();
    while let Some(done) = driver.join_next().await {
        let done = done.unwrap_or_default();
        losses = done.losses;
        done.faults.into_iter().for_each(|(fault, times)| tally.report.count(fault, times));
        tally.report.faults_skipped = done.skipped;
    }
    Ok(tally.conclude(&losses, &dev.upstream_calls().await?, began.elapsed()))
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
            Ok(judged) => tally.add(judged),
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
