//! Soak: sockets that stay, each with one answer after the other, judged one by one and counted by phases
//! that somebody names while it runs. For rollouts and faults of a real cluster, which it knows nothing of.

mod basic;
mod report;
mod v1;

pub use report::{Gaps, PhaseReport, SoakReport};

use crate::token::TokenSource;
use crate::transcript::Verdict;
use protocol::sim::Directive;
use report::Collected;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Sockets may be ahead of whoever counts by so many things to tell.
const TOLD: usize = 4_096;
/// Phases beyond this many are counted in the last one.
pub const MAX_PHASES: usize = 200;

/// What to run.
#[derive(Clone)]
pub struct SoakOptions {
    /// Base URLs; a Service is one.
    pub urls: Vec<String>,
    /// As whom; one token for all.
    pub tokens: TokenSource,
    /// So many sockets.
    pub sockets: usize,
    /// Of a hundred so many speak dialect basic, the others v1.
    pub basic_percent: usize,
    /// Sockets that begin in a second.
    pub rate: f64,
    /// The prompt's beginning: what the simulated provider writes.
    pub directive: Directive,
    /// The same as text.
    pub prompt: String,
    /// An answer that has not ended after this time hangs.
    pub answer_within: Duration,
    /// Of request ids and jitter.
    pub seed: u64,
    /// Told once a second.
    pub progress: Option<OnProgress>,
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// The phase.
    pub phase: String,
    /// Answers that have ended, in all.
    pub answers: u64,
    /// Of these such that are lost, doubled, reordered, wrong or hung.
    pub bad: u64,
    /// Reconnects, in all.
    pub reconnects: u64,
}

/// Told once a second.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What somebody says while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A new phase begins.
    Phase(String),
    /// Nothing more is asked; what runs may end.
    End,
}

/// Where the run is, for sockets.
#[derive(Clone, Copy, Debug, Default)]
struct Stage {
    phase: usize,
    ending: bool,
}

/// One thing that happened to a socket.
#[derive(Debug)]
enum Told {
    /// An answer ended, or hangs. Its longest gaps, by the phase in which they ended.
    Answer {
        basic: bool,
        verdict: Box<Verdict>,
        hung: bool,
        gaps: Vec<(usize, Duration)>,
    },
    /// What came after the end of an answer, and should not have.
    Stray(Box<Verdict>),
    Reconnect,
    Goaway,
    Refused(String),
}

/// What a socket works with.
struct Place {
    options: SoakOptions,
    number: usize,
    stage: watch::Receiver<Stage>,
    told: mpsc::Sender<Told>,
}

impl Place {
    fn phase(&self) -> usize {
        self.stage.borrow().phase
    }

    fn is_ending(&self) -> bool {
        self.stage.borrow().ending
    }

    fn prompt(&self) -> String {
        format!("{} socket {}", self.options.prompt, self.number)
    }

    fn seed(&self) -> u64 {
        self.options.seed.wrapping_mul(0x9E37_79B9) ^ self.number as u64
    }

    async fn tell(&self, told: Told) {
        // Whoever counts is gone only when the run is over.
        let _ = self.told.send(told).await;
    }
}

/// Times between chunks of one answer.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    longest: Vec<(usize, Duration)>,
}

impl Pace {
    /// Something came.
    fn beat(&mut self, phase: usize) {
        let now = Instant::now();
        let Some(last) = self.last.replace(now) else { return };
        let gap = now - last;
        match self.longest.iter_mut().find(|(of, _)| *of == phase) {
            Some((_, longest)) => *longest = gap.max(*longest),
            None => self.longest.push((phase, gap)),
        }
    }
}

/// Runs until it is told to end, or `commands` has ended; then what runs may end.
pub async fn run(options: SoakOptions, mut commands: mpsc::Receiver<Command>) -> SoakReport {
    let (stage, _) = watch::channel(Stage::default());
    let (told, mut heard) = mpsc::channel(TOLD);
    let mut sockets = JoinSet::new();
    let mut collected = Collected::new("begin");
    let every = Duration::from_secs_f64(1.0 / options.rate.max(0.1));
    let mut due = Instant::now();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let (mut begun, mut open) = (0, true);
    loop {
        let more = begun < options.sockets && open;
        tokio::select! {
            () = sleep(due.saturating_duration_since(Instant::now())), if more => {
                let basic = (begun + 1) * options.basic_percent / 100 > begun * options.basic_percent / 100;
                let place = Place {
                    options: options.clone(), number: begun, stage: stage.subscribe(), told: told.clone(),
                };
                if basic { sockets.spawn(Box::pin(basic::run(place))) } else { sockets.spawn(Box::pin(v1::run(place))) };
                (begun, due) = (begun + 1, due + every);
            }
            Some(one) = heard.recv() => collected.add(one, stage.borrow().phase),
            command = commands.recv(), if open => match command {
                Some(Command::Phase(name)) => {
                    let phase = collected.begin(&name);
                    stage.send_modify(|stage| stage.phase = phase);
                }
                Some(Command::End) | None => {
                    open = false;
                    stage.send_modify(|stage| stage.ending = true);
                }
            },
            _ = second.tick() => {
                if let Some(told) = &options.progress { told(collected.progress()) }
            }
            ended = sockets.join_next(), if !open => {
                let Some(ended) = ended else { break };
                if let Err(error) = ended { collected.failed(&error.to_string()) }
            }
        }
    }
    while let Ok(one) = heard.try_recv() {
        collected.add(one, stage.borrow().phase);
    }
    collected.report()
}
