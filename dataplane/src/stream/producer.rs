//! The one task that owns a stream: it comes to it ([`super::start`]), reads the upstream, coalesces,
//! appends and seals.
//!
//! It talks to the log and the provider and to nobody else. Appends run beside the reading of the
//! upstream: while the log is away chunks wait in a bounded buffer, then the upstream is not read.

use super::Place;
use super::coalesce::Coalescer;
use super::outcome::Outcome;
use super::start::{self, Start, persist};
use super::watched::Watched;
use crate::node::Node;
use crate::telemetry::provider;
use crate::upstream::{Ask, Events, UpstreamError, UpstreamEvent};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use protocol::chunk::MAX_CHUNK_CHARS;
use protocol::{Chunk, Digest, Epoch, ErrorCode, Index};
use std::sync::Arc;
use std::time::Duration;
use streamlog::bugs::{self, Bug};
use streamlog::log::Appended;
use streamlog::{Answer, Batch, LogError, Opening, StreamLog};
use tokio::time::Instant;

/// Runs a stream to its seal, or until another node owns it. `place` is held until then.
pub async fn run(node: Arc<Node>, mut place: Place, begin: Start) {
    // A node that stops leaves its streams to the others. Looking at that for every chunk would cost
    // more than the chunk; while it produces, whoever calls owners says so.
    let stop = node.stop.clone();
    let start = async {
        match begin {
            Start::Open { opening, tell } => start::open(&node, opening, tell).await,
            Start::Claim { orphan, decision } => start::claim(&node, &orphan, decision).await,
        }
    };
    let Some(Some((mut producer, ended))) = stop.run_until_cancelled(start).await else { return };
    let outcome = match ended {
        Some(outcome) => Some(outcome),
        None => match stop.run_until_cancelled(producer.ask()).await {
            Some(Ok(events)) => producer.produce(events, &mut place).await,
            Some(Err(outcome)) => Some(outcome),
            None => return,
        },
    };
    let end = async {
        if let Some(outcome) = outcome {
            producer.finish(outcome).await;
        }
    };
    if stop.run_until_cancelled(end).await.is_some() && !stop.is_cancelled() {
        node.log.forget(producer.opening.message);
    }
}

/// What the upstream said.
type Heard = Result<UpstreamEvent, UpstreamError>;

/// What an append that is on its way will answer.
type Inflight = BoxFuture<'static, Result<Appended, LogError>>;

pub(super) struct Producer {
    pub(super) node: Arc<Node>,
    pub(super) opening: Arc<Opening>,
    epoch: Epoch,
    /// End and digest of the log as far as it was acknowledged or is on its way.
    tail: Index,
    digest: Digest,
    bytes: usize,
    first_chunk: Option<Timestamp>,
    coalescer: Coalescer,
    inflight: Option<Inflight>,
    /// What came before a takeover.
    prefix: Vec<Chunk>,
    /// When the upstream last said something, or was last asked.
    heard: Instant,
    /// The upstream had more to say than fits into a batch.
    flooded: bool,
    /// See [`crate::upstream::Upstream::is_fed`].
    fed: bool,
    /// Whether the upstream said anything in this epoch.
    spoke: bool,
    /// When the last batch was taken, in the coalescer's time.
    appended_at: u64,
    /// When the log last answered.
    acknowledged: Instant,
    /// When somebody was last seen to follow.
    pub(super) followed: Instant,
    /// Not looked at for a chunk: elsewhere in memory.
    watched: Box<Watched>,
}

/// A reading of the clock.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    /// The coalescer's time: since the node started.
    ms: u64,
}

/// What a producer waited for.
enum Next {
    Answered(Result<Appended, LogError>),
    Heard(Option<Heard>),
    /// The end of a window.
    Due,
    /// Something that does not come by itself may have changed.
    Called,
}

/// Why the loop of a producer ended.
pub(super) enum Step {
    Continue,
    End(Outcome),
    /// Another node owns the stream, or this one stops.
    Lost,
}

impl Producer {
    pub(super) fn new(
        node: Arc<Node>,
        opening: Arc<Opening>,
        epoch: Epoch,
        watched: Watched,
    ) -> Self {
        let (now, fed) = (node.clock.now(), node.upstream.is_fed());
        Self {
            coalescer: Coalescer::new(node.settings.stream.coalesce_ms),
            node,
            opening,
            epoch,
            tail: Index::ZERO,
            digest: Digest::EMPTY,
            bytes: 0,
            first_chunk: None,
            inflight: None,
            prefix: Vec::new(),
            heard: now,
            flooded: false,
            fed,
            spoke: false,
            appended_at: 0,
            acknowledged: now,
            followed: now,
            watched: Box::new(watched),
        }
    }

    /// Stands at the end of what earlier owners wrote.
    pub(super) fn resume(&mut self, batches: &[Arc<Batch>]) {
        for batch in batches {
            self.first_chunk = self.first_chunk.or(Some(batch.at));
            self.tail = batch.end();
            self.digest = batch.after;
            self.bytes += batch.weight();
            self.prefix.extend_from_slice(&batch.chunks);
        }
    }

    /// Asks the upstream.
    async fn ask(&mut self) -> Result<Events, Outcome> {
        let ask = Ask {
            opening: self.opening.clone(),
            epoch: self.epoch,
            from: self.tail,
            prefix: std::mem::take(&mut self.prefix),
        };
        let upstream = self.node.upstream.clone();
        let (call, provider) = provider::told_by_whom(upstream.call(ask));
        self.watched.asked(self.node.clock.now(), provider);
        let patience = Duration::from_millis(self.node.settings.stream.first_token_ms);
        let refused = match tokio::time::timeout(patience, call).await {
            Ok(Ok(events)) => return Ok(events),
            Ok(Err(error)) => self.refused(&error),
            Err(_) => Outcome::Failed(ErrorCode::StreamTimeout),
        };
        self.watched.call_ended(Some(&refused));
        Err(refused)
    }

    /// Reads the upstream into the log. `None`: another node owns the stream, or this one stops.
    async fn produce(&mut self, mut events: Events, place: &mut Place) -> Option<Outcome> {
        let mut now = self.moment();
        let outcome = loop {
            match self.step(&mut events, place, &mut now).await {
                Step::Continue => {}
                Step::End(outcome) => break Some(outcome),
                Step::Lost => break None,
            }
        };
        self.watched.call_ended(outcome.as_ref());
        outcome
    }

    /// Waits for one thing and does it; `now` is when the last one came, and then when this one did.
    async fn step(&mut self, events: &mut Events, place: &mut Place, now: &mut Moment) -> Step {
        if let Some(step) = self.flush_due(*now) {
            return step;
        }
        let next = self.wait(events, place, *now).await;
        *now = self.moment();
        match next {
            Next::Answered(answer) => self.appended(answer, *now),
            Next::Heard(event) => {
                self.heard = now.at;
                self.gather(event, events).await
            }
            Next::Due => Step::Continue,
            Next::Called => {
                let stop = self.node.stop.clone();
                if stop.is_cancelled() {
                    return Step::Lost;
                }
                let look = self.look(self.has_room(), place.take_nudge(), now.at);
                stop.run_until_cancelled(look).await.unwrap_or(Step::Lost)
            }
        }
    }

    fn has_room(&self) -> bool {
        self.coalescer.bytes() < self.node.settings.stream.buffer_bytes
    }

    async fn wait(&mut self, events: &mut Events, place: &mut Place, now: Moment) -> Next {
        // In a closed window the upstream is not even looked at: one wake-up a window, not one a
        // chunk. After a full batch there is more to read at once.
        let closed = self.coalescer.closed_until(now.ms);
        let reads = self.has_room() && (self.flooded || closed.is_none());
        // With an append in flight nothing but the end of the window is waited for by the clock.
        let due = closed.or(self.coalescer.due().filter(|_| self.inflight.is_none()));
        let until = until(due.map(|ms| self.node.started + Duration::from_millis(ms)));
        tokio::select! {
            biased;
            answer = answered(&mut self.inflight) => Next::Answered(answer),
            event = events.next(), if reads => Next::Heard(event),
            () = until => Next::Due,
            () = place.called() => Next::Called,
        }
    }

    /// Takes what the upstream has ready into one batch.
    async fn gather(&mut self, first: Option<Heard>, events: &mut Events) -> Step {
        let mut step = self.heard(first);
        self.flooded = false;
        while matches!(step, Step::Continue) && self.coalescer.gathers() {
            let ready = match events.next().now_or_never() {
                None if self.fed => after_a_turn(events).await,
                ready => ready,
            };
            match ready {
                Some(event) => step = self.heard(event),
                None => return Step::Continue,
            }
        }
        self.flooded = true;
        step
    }

    fn moment(&self) -> Moment {
        let at = self.node.clock.now();
        let ms = at.saturating_duration_since(self.node.started).as_millis() as u64;
        Moment { at, ms }
    }

    /// Starts the next append if one is due; most engines answer at once.
    fn flush_due(&mut self, now: Moment) -> Option<Step> {
        while self.inflight.is_none() && self.coalescer.due().is_some_and(|due| due <= now.ms) {
            let Some(answer) = self.append(now) else { break };
            match self.appended(answer, now) {
                Step::Continue => {}
                step => return Some(step),
            }
        }
        None
    }

    /// Hands the next batch to the log: its answer, or `None` where that is in flight.
    fn append(&mut self, now: Moment) -> Option<Result<Appended, LogError>> {
        let chunks = self.coalescer.take(now.ms);
        let at = self.node.clock.wall_at(now.at);
        let batch = Arc::new(Batch::new(self.epoch, self.tail, at, self.digest, chunks));
        self.first_chunk = self.first_chunk.or(Some(at));
        self.tail = batch.end();
        self.digest = batch.after;
        let last = std::mem::replace(&mut self.appended_at, now.ms);
        let gap = Duration::from_millis(now.ms.saturating_sub(last));
        let gap = (batch.first > Index::ZERO).then_some(gap);
        let (node, stream) = (&self.node, self.opening.message);
        let (chunks, bytes) = (batch.chunks.len(), batch.weight());
        let first = match node.log.append(stream, &node.owner, batch.clone()) {
            Answer::Now(Some(Ok(answer))) => {
                node.metrics.chunks_appended(chunks, bytes, gap);
                return Some(Ok(answer));
            }
            first => first,
        };
        let node = node.clone();
        self.inflight = Some(Box::pin(async move {
            let mut first = Some(first);
            let again = || node.log.append(stream, &node.owner, batch.clone());
            let answer = persist(&node, || first.take().unwrap_or_else(again)).await?;
            node.metrics.chunks_appended(chunks, bytes, gap);
            Ok(answer)
        }));
        None
    }

    fn appended(&mut self, answer: Result<Appended, LogError>, now: Moment) -> Step {
        self.acknowledged = now.at;
        match answer {
            Ok(Appended { cancel: true }) => Step::End(Outcome::Cancelled),
            Ok(_) => Step::Continue,
            Err(LogError::Fenced { epoch }) => self.fenced(epoch),
            Err(error) => self.conflicts(&error),
        }
    }

    /// The log does not take what its owner writes.
    fn conflicts(&self, error: &LogError) -> Step {
        tracing::error!(parent: &self.watched.log, %error, "append refused");
        if matches!(error, LogError::Gap { .. }) {
            self.node.metrics.index_conflict();
        }
        Step::End(Outcome::Failed(ErrorCode::Internal))
    }

    fn fenced(&self, epoch: Epoch) -> Step {
        let by = epoch.0;
        tracing::info!(parent: &self.watched.log, by_epoch = by, "another node owns the stream");
        Step::Lost
    }

    fn refused(&self, error: &UpstreamError) -> Outcome {
        tracing::warn!(parent: &self.watched.log, %error, "upstream");
        Outcome::from(error)
    }

    fn heard(&mut self, event: Option<Heard>) -> Step {
        if !self.spoke {
            self.spoke = true;
            if let Some(Ok(UpstreamEvent::Chunk(_))) = event {
                self.watched.spoke(self.heard);
            }
        }
        match event {
            Some(Ok(UpstreamEvent::Chunk(chunk))) => self.keep(chunk),
            Some(Ok(UpstreamEvent::Finished { reason, model, usage })) => {
                Step::End(Outcome::Completed { reason, model: Some(model), usage: Some(usage) })
            }
            Some(Err(error)) => Step::End(self.refused(&error)),
            None => {
                let broken = UpstreamError::Unavailable(
                    "the connection ended without a finish reason".to_owned(),
                );
                Step::End(self.refused(&broken))
            }
        }
    }

    /// Takes text over into the buffer, within the bounds of an answer.
    fn keep(&mut self, chunk: Chunk) -> Step {
        // No longer in bytes than in characters: almost every chunk goes on as it is.
        if (1..=MAX_CHUNK_CHARS).contains(&chunk.content.len()) {
            return self.push(chunk);
        }
        for part in Chunk::split(chunk.kind, &chunk.content, chunk.metadata) {
            match self.push(part) {
                Step::Continue => {}
                step => return step,
            }
        }
        Step::Continue
    }

    fn push(&mut self, part: Chunk) -> Step {
        let limits = &self.node.settings.stream;
        let index = self.tail.plus(self.coalescer.len());
        self.bytes += part.weight();
        if self.bytes > limits.max_bytes || index.0 >= limits.max_chunks {
            return Step::End(Outcome::length());
        }
        self.coalescer.push(part);
        Step::Continue
    }

    /// Looks at everything that does not come by itself: timeouts, marks, followers.
    async fn look(&mut self, reading: bool, nudged: bool, now: Instant) -> Step {
        if !reading {
            // Not its fault: the log is away and the buffer full.
            self.heard = now;
        }
        if self.timed_out(now) {
            return Step::End(Outcome::Failed(ErrorCode::StreamTimeout));
        }
        let every = Duration::from_millis(self.node.settings.ownership.look_ms);
        let quiet = now.saturating_duration_since(self.acknowledged) >= every;
        if self.inflight.is_some() || !(quiet || nudged) {
            return self.look_for_followers(now).await;
        }
        match self.node.log.shared_head(self.opening.message).await {
            Ok(head) if head.epoch != self.epoch => self.fenced(head.epoch),
            Ok(head) if head.cancel => Step::End(Outcome::Cancelled),
            Ok(_) => {
                self.acknowledged = now;
                self.look_for_followers(now).await
            }
            Err(_) => {
                self.followed = now;
                Step::Continue
            }
        }
    }

    fn timed_out(&self, now: Instant) -> bool {
        let limits = &self.node.settings.stream;
        let silence = if self.spoke { limits.silence_ms } else { limits.first_token_ms };
        let age = self.node.clock.wall().duration_since(self.opening.started_at);
        now.saturating_duration_since(self.heard) >= Duration::from_millis(silence)
            || age.as_millis() >= i128::from(limits.total_ms)
    }

    /// Ends the answer; what is still in the buffer goes into the log first.
    async fn finish(&mut self, outcome: Outcome) {
        if !self.drain_buffer().await {
            return;
        }
        let now = self.node.clock.wall();
        let completed = matches!(outcome, Outcome::Completed { .. });
        let seal = Arc::new(outcome.seal(&self.opening, self.tail.0, self.first_chunk, now));
        if completed {
            self.remember_answer().await;
        }
        let (node, stream) = (&self.node, self.opening.message);
        let write = || node.log.seal(stream, &node.owner, self.epoch, seal.clone());
        let sealed =
            if bugs::active(Bug::LostSeal) { write().await } else { persist(node, write).await };
        match sealed {
            Ok(()) => self.watched.sealed(&seal, self.tail.0),
            Err(error) => tracing::info!(parent: &self.watched.log, %error, "not sealed here"),
        }
        self.uncount_answer().await;
    }

    /// Whether everything is in the log and still ours.
    async fn drain_buffer(&mut self) -> bool {
        loop {
            let answer = match self.inflight.take() {
                Some(append) => Some(append.await),
                None if self.coalescer.is_empty() => None,
                None => {
                    let now = self.moment();
                    self.append(now)
                }
            };
            if let Some(answer) = answer {
                match answer {
                    Ok(_) => {}
                    Err(LogError::Fenced { .. } | LogError::Sealed) => return false,
                    Err(error) => {
                        self.conflicts(&error);
                        return true;
                    }
                }
            }
            if self.inflight.is_none() && self.coalescer.is_empty() {
                return true;
            }
        }
    }
}

async fn answered(inflight: &mut Option<Inflight>) -> Result<Appended, LogError> {
    match inflight {
        Some(append) => {
            let answer = append.await;
            *inflight = None;
            answer
        }
        None => std::future::pending().await,
    }
}

/// What is ready once every task that can run had its turn, whoever reads the connection among them.
async fn after_a_turn(events: &mut Events) -> Option<Option<Heard>> {
    tokio::select! {
        biased;
        event = events.next() => Some(event),
        () = tokio::task::yield_now() => None,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
