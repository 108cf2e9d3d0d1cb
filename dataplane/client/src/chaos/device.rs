//! One simulated device: a session with its recorder, cut and stalled as planned.

use super::schedule::{Act, DevicePlan};
use crate::recorder::Recorder;
use crate::session::{Event, Options, Session};
use crate::token::TokenSource;
use crate::transcript::{Transcript, Verdict};
use protocol::sim::Directive;
use protocol::{ChatRequest, Index, MessageId};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// After the end a device listens on so long for frames that must not come.
const LISTEN_ON: Duration = Duration::from_millis(150);
/// Receive buffer of a device that stalls, in bytes.
const SMALL_BUFFER: u32 = 4 * 1024;

/// What a device is there for.
pub(super) enum Role {
    /// Sends the request.
    Ask(Box<ChatRequest>),
    /// Follows what another device asked for.
    Join,
}

/// Everything a device needs.
pub(super) struct Device {
    pub(super) plan: DevicePlan,
    pub(super) role: Role,
    pub(super) directive: Directive,
    pub(super) urls: Vec<String>,
    pub(super) tokens: TokenSource,
    /// When the answer began.
    pub(super) began: Instant,
    /// When it must have ended.
    pub(super) deadline: Instant,
}

/// What became of a device.
pub(super) struct Seen {
    /// The message that ACCEPTED named, or that was joined.
    pub(super) message: Option<MessageId>,
    pub(super) transcript: Option<Transcript>,
    pub(super) stray: Verdict,
    pub(super) longest_pause: Duration,
    pub(super) cuts: u64,
    pub(super) stalls: u64,
    pub(super) reconnects: u64,
    /// Why its session stopped or its request was refused.
    pub(super) failure: Option<String>,
}

struct Run {
    session: Session<Recorder>,
    acts: VecDeque<(Instant, Act)>,
    last_chunk: Option<Instant>,
    seen: Seen,
}

impl Device {
    /// Runs until the answer ended for this device or its deadline passed. The first device tells
    /// the others through `message`.
    pub(super) async fn run(self, message: &watch::Sender<Option<MessageId>>) -> Seen {
        let mut run = self.prepare();
        sleep_until(self.began + self.plan.join).await;
        match &self.role {
            Role::Ask(request) => {
                let id = run.session.chat((**request).clone());
                if let Some(id) = id {
                    run.session.observer().expect_request(id, self.directive.clone());
                }
            }
            Role::Join => {
                let mut told = message.subscribe();
                let told = told.wait_for(Option::is_some);
                let waited = tokio::time::timeout_at(self.deadline, told).await;
                let Some(id) = waited.ok().and_then(Result::ok).and_then(|id| *id) else {
                    // Nobody was accepted, which the asking device reports.
                    return run.seen;
                };
                run.seen.message = Some(id);
                run.session.observer().expect_message(id, self.directive.clone());
                run.session.follow(id, Index::ZERO);
            }
        }
        run.until_end(self.deadline, message).await;
        run.finish().await
    }

    fn prepare(&self) -> Run {
        let mut options = Options::new(self.urls.clone());
        options.first = self.plan.node;
        options.give_up_after = None;
        options.receive_buffer = self.plan.small_buffer.then_some(SMALL_BUFFER);
        let rng = SmallRng::seed_from_u64(self.plan.seed);
        let recorder = Recorder::default();
        let acts = self.plan.acts.iter().map(|(at, act)| (self.began + *at, *act));
        Run {
            session: Session::new(options, self.tokens.clone(), rng, recorder),
            acts: acts.collect(),
            last_chunk: None,
            seen: Seen {
                message: None,
                transcript: None,
                stray: Verdict::default(),
                longest_pause: Duration::ZERO,
                cuts: 0,
                stalls: 0,
                reconnects: 0,
                failure: None,
            },
        }
    }
}

impl Run {
    async fn until_end(&mut self, deadline: Instant, message: &watch::Sender<Option<MessageId>>) {
        loop {
            let act_at = self.acts.front().map_or(deadline, |act| act.0);
            tokio::select! {
                biased;
                () = sleep_until(deadline) => return,
                () = sleep_until(act_at) => self.act().await,
                event = self.session.next() => match event {
                    Some(event) => if self.on_event(event, message) { return },
                    None => return,
                },
            }
        }
    }

    async fn act(&mut self) {
        match self.acts.pop_front() {
            Some((_, Act::Cut)) => {
                self.seen.cuts += u64::from(self.session.is_connected());
                self.session.cut();
            }
            Some((_, Act::Stall(time))) => {
                self.seen.stalls += 1;
                sleep(time).await;
                // Its own fault is no pause of the server.
                self.last_chunk = None;
            }
            None => {}
        }
    }

    /// `true`: the answer has ended for this device.
    fn on_event(&mut self, event: Event, message: &watch::Sender<Option<MessageId>>) -> bool {
        match event {
            Event::Accepted(body) => {
                self.seen.message = Some(body.message_id);
                message.send_if_modified(|told| {
                    let first = told.is_none();
                    told.get_or_insert(body.message_id);
                    first
                });
            }
            Event::Chunks { .. } => {
                let now = Instant::now();
                if let Some(before) = self.last_chunk.replace(now) {
                    self.seen.longest_pause = self.seen.longest_pause.max(now - before);
                }
            }
            Event::Complete(_) => return true,
            Event::Failed(body) => {
                self.seen.failure = Some(format!("{}: {}", body.code, body.error));
                return true;
            }
            Event::Stopped(stop) => {
                self.seen.failure = Some(stop.to_string());
                return true;
            }
            _ => {}
        }
        false
    }

    async fn finish(mut self) -> Seen {
        let listening = async { while self.session.next().await.is_some() {} };
        // It ends by this time-out: nothing more is expected.
        let _ = timeout(LISTEN_ON, listening).await;
        self.seen.reconnects = u64::from(self.session.reconnects());
        let mut recorder = self.session.close().await;
        self.seen.stray = recorder.stray().clone();
        self.seen.transcript = self.seen.message.map(|message| recorder.take(message));
        self.seen
    }
}
