//! One user of a load run.

use super::{CHUNKS_WITHIN, LoadOptions, MIN_CHUNKS, WELCOME_WITHIN};
use crate::recorder::Recorder;
use crate::session::{Event, Options, Session};
use crate::transcript::Allowed;
use protocol::sim::Directive;
use protocol::{ChatOptions, ChatRequest, MessageId, OnDisconnect};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What one user saw.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) welcome: Option<Duration>,
    pub(super) first_chunk: Option<Duration>,
    pub(super) complete: Option<Duration>,
    pub(super) chunks: u64,
    /// Why it was no success; few different texts, because they are counted.
    pub(super) failure: Option<String>,
}

pub(super) struct User {
    session: Session<Recorder>,
    request: ChatRequest,
    answer_within: Duration,
    outcome: Outcome,
    message: Option<MessageId>,
    asked: Option<Instant>,
}

impl User {
    pub(super) fn new(options: &LoadOptions, number: u64) -> Self {
        let mut connect = Options::new(options.urls.clone());
        connect.first = number as usize;
        connect.give_up_after = Some(WELCOME_WITHIN);
        let rng = SmallRng::seed_from_u64(options.seed.wrapping_mul(0x9E37_79B9) ^ number);
        let tokens = options.tokens.clone();
        Self {
            session: Session::new(connect, tokens, rng, Recorder::default()),
            request: ChatRequest {
                content: format!("{} user {number}", options.directive),
                conversation_id: None,
                request_id: None,
                options: ChatOptions::default(),
                on_disconnect: OnDisconnect::Cancel,
            },
            answer_within: options.answer_within,
            outcome: Outcome::default(),
            message: None,
            asked: None,
        }
    }

    pub(super) async fn run(mut self) -> Outcome {
        let failure = self.answer().await.err();
        let recorder = self.session.close().await;
        let mut outcome = self.outcome;
        let judged = self.message.and_then(|message| recorder.transcript(message));
        let verdict = judged.map(crate::transcript::Transcript::verdict).unwrap_or_default();
        outcome.failure = failure.or_else(|| {
            if outcome.chunks < MIN_CHUNKS {
                return Some(format!("fewer than {MIN_CHUNKS} chunks"));
            }
            let clean = verdict.is_clean(Allowed::default());
            (!clean).then(|| {
                let bad = verdict.violations().into_iter().find(|(_, count)| *count > 0);
                bad.map_or("failed", |(name, _)| name).to_owned()
            })
        });
        outcome
    }

    /// Connects, asks, and reads to the end, each in its time.
    async fn answer(&mut self) -> Result<(), String> {
        let simulated = Directive::parse(&self.request.content);
        let mut deadline = Instant::now() + WELCOME_WITHIN;
        let mut late = "no WELCOME in time";
        loop {
            let event = timeout_at(deadline, self.session.next()).await;
            let event = event.map_err(|_| late.to_owned())?.ok_or("the session ended")?;
            match event {
                Event::Connected { took, .. } if self.asked.is_none() => {
                    self.outcome.welcome = Some(took);
                    let now = Instant::now();
                    self.asked = Some(now);
                    let id = self.session.chat(self.request.clone());
                    if let (Some(id), Ok(directive)) = (id, &simulated) {
                        self.session.observer().expect_request(id, directive.clone());
                    }
                    (deadline, late) = (now + CHUNKS_WITHIN, "no ten chunks in time");
                }
                Event::Accepted(body) => self.message = Some(body.message_id),
                Event::Chunks { chunks, .. } => {
                    self.outcome.chunks += chunks.len() as u64;
                    let since = self.asked.map(|asked| asked.elapsed());
                    self.outcome.first_chunk = self.outcome.first_chunk.or(since);
                    if let Some(asked) = self.asked
                        && self.outcome.chunks >= MIN_CHUNKS
                    {
                        (deadline, late) = (asked + self.answer_within, "no end in time");
                    }
                }
                Event::Complete(_) => {
                    self.outcome.complete = self.asked.map(|asked| asked.elapsed());
                    return Ok(());
                }
                Event::Failed(body) => return Err(format!("refused: {}", body.code)),
                Event::Stopped(stop) => return Err(stop.to_string()),
                _ => {}
            }
        }
    }
}
