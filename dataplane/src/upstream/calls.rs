//! What a provider was asked: kept in memory, and where asked for as lines of a file, which outlive
//! a process that is killed. [`Recorded`] stands around any provider.

use super::{Ask, Continues, Events, ProviderStatistics, Upstream, UpstreamError, UpstreamEvent};
use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use protocol::NodeName;
use protocol::dev::UpstreamCall;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use streamlog::{Clock, Opening};
use tokio::time::Instant;

/// Calls remembered; the oldest are forgotten first.
pub const MAX_CALLS: usize = 10_000;
/// How often a running call is written down: at most so much of its progress dies with its process.
pub const NOTE_EVERY: Duration = Duration::from_millis(100);

/// What a provider was asked, by any node of the process, oldest first.
#[derive(Default)]
pub struct CallLog {
    records: Mutex<VecDeque<Arc<Record>>>,
    file: Option<Arc<File>>,
    begun: AtomicU64,
}

/// One line of the file. A later line of the same call replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Which call of this file, from 0.
    pub call: u64,
    /// How it stood.
    #[serde(flatten)]
    pub view: UpstreamCall,
}

impl CallLog {
    /// Also appends a line at the beginning and the end of each call, and now and then between.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file: Some(Arc::new(file)), ..Self::default() })
    }

    /// The calls still remembered, at most [`MAX_CALLS`].
    pub fn list(&self) -> Vec<UpstreamCall> {
        self.lock().iter().map(|record| record.view()).collect()
    }

    fn begin(&self, ask: &Ask, node: &NodeName, started_at: Timestamp) -> Running {
        let record = Arc::new(Record {
            call: self.begun.fetch_add(1, Ordering::Relaxed),
            file: self.file.clone(),
            begun: UpstreamCall {
                message_id: ask.opening.message,
                epoch: ask.epoch,
                request_id: ask.opening.request_id.clone(),
                node: node.to_string(),
                from: ask.from,
                chunks: 0,
                started_at,
                end: None,
            },
            chunks: AtomicU64::new(0),
            end: OnceLock::new(),
        });
        let mut records = self.lock();
        if records.len() >= MAX_CALLS {
            records.pop_front();
        }
        records.push_back(record.clone());
        record.note();
        Running(record)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Record>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Record {
    call: u64,
    file: Option<Arc<File>>,
    begun: UpstreamCall,
    chunks: AtomicU64,
    end: OnceLock<&'static str>,
}

impl Record {
    fn view(&self) -> UpstreamCall {
        UpstreamCall {
            chunks: self.chunks.load(Ordering::Relaxed),
            end: self.end.get().map(|end| (*end).to_owned()),
            ..self.begun.clone()
        }
    }

    /// One write, so that a process that dies leaves whole lines. What cannot be written is missed
    /// by whoever reads the file, and by no user.
    fn note(&self) {
        let Some(file) = &self.file else { return };
        let Ok(mut line) = serde_json::to_vec(&Line { call: self.call, view: self.view() }) else {
            return;
        };
        line.push(b'\n');
        if let Err(error) = (&**file).write_all(&line) {
            tracing::warn!(%error, "a call of the provider was not written down");
        }
    }
}

/// A call that runs: let go of before its end, it was dropped.
struct Running(Arc<Record>);

impl Running {
    /// Whether its progress is written down.
    fn is_noted(&self) -> bool {
        self.0.file.is_some()
    }

    /// So many chunks were handed out. One writer, and nobody orders anything by this number.
    fn sent(&self, chunks: u64) {
        self.0.chunks.store(chunks, Ordering::Relaxed);
    }

    /// Writes down how far it is.
    fn note(&self) {
        self.0.note();
    }

    /// Only the first end counts.
    fn end(&self, end: &'static str) {
        if self.0.end.set(end).is_ok() {
            self.0.note();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end("dropped");
    }
}

/// A provider whose calls are written down.
pub struct Recorded {
    provider: Arc<dyn Upstream>,
    calls: Arc<CallLog>,
    clock: Clock,
    node: NodeName,
}

impl Recorded {
    /// For one node; all nodes of a playground share the log of calls.
    pub fn new(
        provider: Arc<dyn Upstream>,
        calls: Arc<CallLog>,
        clock: Clock,
        node: NodeName,
    ) -> Self {
        Self { provider, calls, clock, node }
    }
}

#[async_trait]
impl Upstream for Recorded {
    async fn call(&self, ask: Ask) -> Result<Events, UpstreamError> {
        let record = self.calls.begin(&ask, &self.node, self.clock.wall());
        let events = self.provider.call(ask).await.inspect_err(|_| record.end("error"))?;
        let clock = self.clock.clone();
        Ok(Box::pin(RecordedEvents { events, chunks: 0, note_at: clock.now(), clock, record }))
    }

    fn continues(&self, opening: &Opening) -> Continues {
        self.provider.continues(opening)
    }

    fn is_fed(&self) -> bool {
        self.provider.is_fed()
    }

    fn statistics(&self) -> Vec<ProviderStatistics> {
        self.provider.statistics()
    }
}

/// Counts on the way.
struct RecordedEvents {
    events: Events,
    chunks: u64,
    clock: Clock,
    /// When its progress is written down next, where it is.
    note_at: Instant,
    record: Running,
}

impl RecordedEvents {
    fn sent(&mut self) {
        self.chunks += 1;
        self.record.sent(self.chunks);
        if self.record.is_noted() && self.clock.now() >= self.note_at {
            self.note_at = self.clock.now() + NOTE_EVERY;
            self.record.note();
        }
    }
}

impl Stream for RecordedEvents {
    type Item = Result<UpstreamEvent, UpstreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = ready!(self.events.poll_next_unpin(cx));
        match &event {
            Some(Ok(UpstreamEvent::Chunk(_))) => self.sent(),
            Some(Ok(UpstreamEvent::Finished { reason, .. })) => self.record.end(known(reason)),
            Some(Err(_)) | None => self.record.end("error"),
        }
        Poll::Ready(event)
    }
}

/// The reasons to end that a seal knows.
fn known(reason: &str) -> &'static str {
    ["length", "tool_use", "content_filter"].into_iter().find(|r| *r == reason).unwrap_or("stop")
}
