//! The one task that owns a stream: open or claim it, read the upstream, coalesce, append, seal.
//!
//! It talks to the log and the provider and to nobody else. Appends run beside the reading of the
//! upstream: while the log is away chunks wait in a bounded buffer, then the upstream is not read.

use super::Place;
use super::coalesce::Coalescer;
use super::outcome::Outcome;
use super::policy::Decision;
use crate::node::Node;
use crate::upstream::{Ask, Events, UpstreamError, UpstreamEvent};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use jiff::Timestamp;
use protocol::chunk::MAX_CHUNK_CHARS;
use protocol::server_frame::TakeoverMode;
use protocol::{Chunk, Digest, Epoch, ErrorCode, Index, SealStatus};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use streamlog::bugs::{self, Bug};
use streamlog::directory::Claim;
use streamlog::log::Appended;
use streamlog::{Batch, Keep, LogError, Opened, Opening, Orphan, StreamLog};
use tokio::sync::futures::Notified;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Longest wait between two tries of a write that the store did not acknowledge.
const MAX_RETRY: Duration = Duration::from_secs(1);

/// How a producer comes to its stream.
pub enum Start {
    /// A new request.
    Open {
        /// The request.
        opening: Arc<Opening>,
        /// Told as soon as the log answered.
        tell: oneshot::Sender<Opened>,
    },
    /// A stream without an owner.
    Claim {
        /// Which.
        orphan: Orphan,
        /// What to do with it.
        decision: Decision,
    },
}

/// Runs a stream to its seal, or until another node owns it. `place` is held until then.
pub async fn run(node: Arc<Node>, place: Place, start: Start) {
    let stop = node.stop.clone();
    let work = async {
        let producer = match start {
            Start::Open { opening, tell } => open(&node, opening, tell).await,
            Start::Claim { orphan, decision } => claim(&node, &orphan, decision).await,
        };
        if let Some((mut producer, ended)) = producer {
            let outcome = match ended {
                Some(outcome) => Some(outcome),
                None => producer.produce(&place).await,
            };
            if let Some(outcome) = outcome {
                producer.finish(outcome).await;
            }
            node.log.forget(producer.opening.message);
        }
    };
    // A node that stops leaves its streams to the others.
    let _ = stop.run_until_cancelled(work).await;
}

async fn open(
    node: &Arc<Node>,
    opening: Arc<Opening>,
    tell: oneshot::Sender<Opened>,
) -> Option<(Producer, Option<Outcome>)> {
    let opened = persist(node, || node.log.open(opening.clone(), &node.owner)).await.ok()?;
    let Opened::Yours(epoch) = opened else {
        let _ = tell.send(opened);
        return None;
    };
    node.metrics.streams_started.inc();
    let heard = tell.send(opened).is_ok();
    let mut producer = Producer::new(node.clone(), opening, epoch);
    producer.count_answer().await;
    // Nobody was told and nobody can ask again: an answer that no one will ever follow.
    let unwanted = !heard && producer.opening.request_id.is_none();
    Some((producer, unwanted.then_some(Outcome::Cancelled)))
}

async fn claim(
    node: &Arc<Node>,
    orphan: &Orphan,
    decision: Decision,
) -> Option<(Producer, Option<Outcome>)> {
    let (keep, mode, ended) = match decision {
        Decision::TakeOver { keep, mode } => (keep, mode, None),
        Decision::End { status: SealStatus::Cancelled, .. } => {
            (Keep::Tail, TakeoverMode::Finish, Some(Outcome::Cancelled))
        }
        Decision::End { code, .. } => {
            let code = code.unwrap_or(ErrorCode::Interrupted);
            (Keep::Tail, TakeoverMode::Fail, Some(Outcome::Failed(code)))
        }
    };
    let claim = Claim { stream: orphan.stream, expected: orphan.epoch, keep, mode };
    let claimed = persist(node, || node.directory.claim(&claim, &node.owner)).await.ok()?;
    node.metrics.took_over(mode);
    let epoch = claimed.head.epoch;
    let batches = persist(node, || node.log.adopt(orphan.stream, epoch)).await.ok()?;
    let mut producer = Producer::new(node.clone(), claimed.opening, epoch);
    producer.resume(&batches);
    Some((producer, ended))
}

/// Repeats a write until the store answers, with growing, jittered waits.
async fn persist<T, F>(node: &Node, mut write: impl FnMut() -> F) -> Result<T, LogError>
where
    F: Future<Output = Result<T, LogError>>,
{
    let mut wait = Duration::from_millis(20);
    loop {
        match write().await {
            Err(LogError::Unavailable { retry }) => {
                tokio::time::sleep(node.ids.jitter(wait.max(retry))).await;
                wait = (wait * 2).min(MAX_RETRY);
            }
            answer => return answer,
        }
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
    /// Whether the upstream said anything in this epoch.
    spoke: bool,
    /// When the last batch was taken, in the coalescer's time.
    appended_at: u64,
    /// When the log last answered.
    acknowledged: Instant,
    /// When somebody was last seen to follow.
    pub(super) followed: Instant,
}

/// Why the loop of a producer ended.
pub(super) enum Step {
    Continue,
    End(Outcome),
    /// Another node owns the stream.
    Lost,
}

impl Producer {
    fn new(node: Arc<Node>, opening: Arc<Opening>, epoch: Epoch) -> Self {
        let now = node.clock.now();
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
            spoke: false,
            appended_at: 0,
            acknowledged: now,
            followed: now,
        }
    }

    /// Stands at the end of what earlier owners wrote.
    fn resume(&mut self, batches: &[Arc<Batch>]) {
        for batch in batches {
            self.first_chunk = self.first_chunk.or(Some(batch.at));
            self.tail = batch.end();
            self.digest = batch.after;
            self.bytes += batch.weight();
            self.prefix.extend_from_slice(&batch.chunks);
        }
    }

    /// Reads the upstream into the log. `None`: another node owns the stream.
    async fn produce(&mut self, place: &Place) -> Option<Outcome> {
        let ask = Ask {
            opening: self.opening.clone(),
            epoch: self.epoch,
            from: self.tail,
            prefix: std::mem::take(&mut self.prefix),
        };
        let upstream = self.node.upstream.clone();
        let call = upstream.call(ask);
        let patience = Duration::from_millis(self.node.settings.stream.first_token_ms);
        let mut events = match tokio::time::timeout(patience, call).await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return Some(self.refused(&error)),
            Err(_) => return Some(Outcome::Failed(ErrorCode::StreamTimeout)),
        };
        let mut called = pin!(place.called());
        loop {
            match self.step(&mut events, place, called.as_mut()).await {
                Step::Continue => {}
                Step::End(outcome) => return Some(outcome),
                Step::Lost => return None,
            }
        }
    }

    async fn step<'a>(
        &mut self,
        events: &mut Events,
        place: &'a Place,
        mut called: Pin<&mut Notified<'a>>,
    ) -> Step {
        let now = self.node.clock.now();
        if let Some(step) = self.flush_due(now) {
            return step;
        }
        let due = self.wake_at(now).filter(|_| self.inflight.is_none());
        let room = self.coalescer.bytes() < self.node.settings.stream.buffer_bytes;
        // In a closed window the upstream is not even looked at: one wake-up a window, not one a
        // chunk. After a full batch there is more to read at once.
        let reads = room && (self.flooded || due.is_none_or(|at| at <= now));
        tokio::select! {
            biased;
            answer = answered(&mut self.inflight) => self.appended(answer),
            event = events.next(), if reads => self.gather(event, events),
            () = until(due) => Step::Continue,
            () = called.as_mut() => {
                called.set(place.called());
                self.look(room, place.take_nudge()).await
            }
        }
    }

    /// When something must be done without being asked: the end of a window.
    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let at = self.coalescer.closed_until(self.millis(now)).or(self.coalescer.due())?;
        Some(self.started() + Duration::from_millis(at))
    }

    /// Takes what the upstream has ready into one batch.
    fn gather(&mut self, first: Option<Heard>, events: &mut Events) -> Step {
        let mut step = self.heard(first);
        self.flooded = false;
        while matches!(step, Step::Continue) && self.coalescer.gathers() {
            match events.next().now_or_never() {
                Some(event) => step = self.heard(event),
                None => return Step::Continue,
            }
        }
        self.flooded = true;
        step
    }

    /// The coalescer's time: milliseconds since the request was taken up here.
    fn started(&self) -> Instant {
        self.node.started
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started()).as_millis() as u64
    }

    /// Starts the next append if one is due; most engines answer at once.
    fn flush_due(&mut self, now: Instant) -> Option<Step> {
        let now = self.millis(now);
        while self.inflight.is_none() {
            if self.coalescer.due().is_none_or(|due| due > now) {
                break;
            }
            let mut append = self.append(now);
            match (&mut append).now_or_never() {
                Some(answer) => match self.appended(answer) {
                    Step::Continue => {}
                    step => return Some(step),
                },
                None => self.inflight = Some(append),
            }
        }
        None
    }

    fn append(&mut self, now_ms: u64) -> Inflight {
        let chunks = self.coalescer.take(now_ms);
        let at = self.node.clock.wall();
        let batch = Arc::new(Batch::new(self.epoch, self.tail, at, self.digest, chunks));
        self.first_chunk = self.first_chunk.or(Some(at));
        self.tail = batch.end();
        self.digest = batch.after;
        let (node, stream) = (self.node.clone(), self.opening.message);
        let gap = std::mem::replace(&mut self.appended_at, now_ms);
        let gap =
            (batch.first > Index::ZERO).then(|| Duration::from_millis(now_ms.saturating_sub(gap)));
        Box::pin(async move {
            let answer =
                persist(&node, || node.log.append(stream, &node.owner, batch.clone())).await?;
            node.metrics.chunks_appended(batch.chunks.len(), batch.weight(), gap);
            Ok(answer)
        })
    }

    fn appended(&mut self, answer: Result<Appended, LogError>) -> Step {
        self.acknowledged = self.node.clock.now();
        match answer {
            Ok(Appended { cancel: true }) => Step::End(Outcome::Cancelled),
            Ok(_) => Step::Continue,
            Err(LogError::Fenced { epoch }) => self.fenced(epoch),
            Err(error) => {
                tracing::error!(stream = %self.opening.message, %error, "append refused");
                Step::End(Outcome::Failed(ErrorCode::Internal))
            }
        }
    }

    fn fenced(&self, epoch: Epoch) -> Step {
        tracing::info!(stream = %self.opening.message, %epoch, "another node owns the stream");
        Step::Lost
    }

    fn refused(&self, error: &UpstreamError) -> Outcome {
        tracing::warn!(stream = %self.opening.message, epoch = %self.epoch, %error, "upstream");
        Outcome::from(error)
    }

    fn heard(&mut self, event: Option<Heard>) -> Step {
        self.heard = self.node.clock.now();
        self.spoke = true;
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
    async fn look(&mut self, reading: bool, nudged: bool) -> Step {
        let now = self.node.clock.now();
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
            Ok(()) => node.metrics.stream_sealed(&seal),
            Err(error) => tracing::info!(%stream, %error, "not sealed here"),
        }
        self.uncount_answer().await;
    }

    /// Whether everything is in the log and still ours.
    async fn drain_buffer(&mut self) -> bool {
        loop {
            if let Some(append) = self.inflight.take() {
                match append.await {
                    Ok(_) => {}
                    Err(LogError::Fenced { .. } | LogError::Sealed) => return false,
                    Err(error) => {
                        tracing::error!(stream = %self.opening.message, %error, "text lost");
                        return true;
                    }
                }
            }
            if self.coalescer.is_empty() {
                return true;
            }
            let now = self.millis(self.node.clock.now());
            self.inflight = Some(self.append(now));
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

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
