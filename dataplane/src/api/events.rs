//! `GET /api/v1/messages/{id}/stream`: the one follower behind server-sent events.
//!
//! The response pulls from the follower: no queue and no task stands between them, so that a slow
//! reader costs one batch of memory. Positions are event ids, `<epoch>.<index>`.

mod places;
mod position;

pub(super) use places::Places;

use super::extract::{Caller, MessageName};
use super::interface::refusals::OfStream;
use super::{PATIENCE, Refused, messages};
use crate::admit::Identity;
use crate::metrics::Via;
use crate::node::Node;
use crate::socket::{Followed, Sockets};
use axum::extract::State;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, response::sse};
use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue, StatusCode};
use places::Place;
use position::{Position, PositionOfRequest};
use protocol::server_frame::{Complete, ErrorData, RecoveryStatus, Reset, Status, StreamState};
use protocol::{Chunk, ChunkType, DrainPhase, Epoch, ErrorCode, Index, MessageId, OnDisconnect};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use streamlog::{Cursor, Event, FollowError, Follower, Opening, Slice};
use tokio::sync::watch;
use tokio::time::Instant;

/// A comment this often keeps proxies from calling a silent response dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Follows an answer from the request's position.
#[utoipa::path(
    get, path = "/api/v1/messages/{message}/stream", operation_id = "follow", tag = "answers",
    params(
        ("message" = MessageId, Path, description = "Which message"),
        ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event received, \
            `<epoch>.<index>`, or a bare index; counts before `after`"),
        ("after" = Option<String>, Query, description = "As `Last-Event-ID`; -1: from the start"),
    ),
    responses(
        (status = 200, description = "Server-sent events; `data` is JSON on one line: `chunk` \
            (ChunkData, id `<epoch>.<index>`), `complete` (Complete, id `<epoch>.end`, the last one), \
            `reset` (Reset), `status` (Status), `error` (ErrorData, the last one)",
            body = String, content_type = "text/event-stream"),
        (status = 204, description = "`<epoch>.end` was given: there is nothing more"),
        OfStream,
    ),
    security(("token" = []), ("ticket" = []), ("tokenInQuery" = [])),
)]
pub(super) async fn follow(
    Caller(caller): Caller,
    State(node): State<Arc<Node>>,
    Extension(places): Extension<Arc<Places>>,
    MessageName(message): MessageName,
    PositionOfRequest(position): PositionOfRequest,
) -> Result<Response, Refused> {
    let cursor = match position {
        Position::After(cursor) => cursor,
        Position::End => {
            // Only of the user's own message: a stranger's is not found, at any position.
            messages::read(&node, &caller.user, message, 1).await?;
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    };
    let place = places.take(&caller.user, node.hot.now().limits.sockets_per_user);
    let place = place.ok_or(ErrorCode::RateLimited)?;
    let mut follower = node.follow(&caller.user, message, cursor);
    let recovers = cursor != Cursor::START;
    let first = match tokio::time::timeout(PATIENCE, follower.next()).await {
        Ok(Some(Ok(Event::Attached(found)))) => {
            if recovers {
                let ended = found.head.seal.is_some();
                let status =
                    if ended { RecoveryStatus::Completed } else { RecoveryStatus::Recovered };
                node.metrics.recovered(status, Some(found.source));
            }
            (found.opening, found.head.epoch)
        }
        Ok(Some(Err(error))) => {
            if recovers {
                node.metrics.recovered(status_of(error), None);
            }
            return Err(code(error).into());
        }
        // Whose it is cannot be known while the log is away.
        Ok(_) | Err(_) => return Err(ErrorCode::StoreUnavailable.into()),
    };
    let events = Events::new(node, place, follower, &caller, first);
    let events = futures_util::stream::unfold(events, Events::step);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would hold the events back until its buffer is full.
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

const fn code(error: FollowError) -> ErrorCode {
    match error {
        FollowError::NotFound => ErrorCode::NotFound,
        FollowError::Expired => ErrorCode::Expired,
    }
}

const fn status_of(error: FollowError) -> RecoveryStatus {
    match error {
        FollowError::NotFound => RecoveryStatus::NotFound,
        FollowError::Expired => RecoveryStatus::Expired,
    }
}

/// One response: a follower, and what ends it early.
struct Events {
    node: Arc<Node>,
    follower: Follower,
    opening: Arc<Opening>,
    epoch: Epoch,
    ready: VecDeque<sse::Event>,
    phase: watch::Receiver<DrainPhase>,
    token_ends: Instant,
    /// When the upstream's silence is told next; `None` while the log is away.
    waiting: Option<Instant>,
    ended: bool,
    _place: Place,
    /// `onDisconnect: cancel` counts this response as a follower.
    _followed: Option<Followed>,
}

/// What happens next.
enum Next {
    Told(Option<Result<Event, FollowError>>),
    Silence,
    TokenExpired,
    Draining,
    Stopped,
}

impl Events {
    fn new(
        node: Arc<Node>,
        place: Place,
        follower: Follower,
        caller: &Identity,
        (opening, epoch): (Arc<Opening>, Epoch),
    ) -> Self {
        let now = node.clock.now();
        // Bytes on the wire at once: the client sees that it is connected.
        let hello = sse::Event::default().comment("following");
        let counts = opening.on_disconnect == OnDisconnect::Cancel;
        let mut events = Self {
            _followed: counts.then(|| Sockets::follows(&node, opening.message)),
            token_ends: now + node.admit.time_left(caller),
            phase: node.drain.watch(),
            node,
            follower,
            opening,
            epoch,
            ready: VecDeque::from([hello]),
            waiting: None,
            ended: false,
            _place: place,
        };
        events.heard();
        events
    }

    /// The next event of the response; `None` ends it.
    async fn step(mut self) -> Option<(Result<sse::Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if self.ended {
                return None;
            }
            match self.next().await {
                Next::Told(Some(Ok(event))) => self.told(event),
                Next::Told(Some(Err(error))) => self.end_with(code(error)),
                Next::Told(None) | Next::Stopped => self.ended = true,
                Next::Silence => {
                    self.heard();
                    self.say_status(StreamState::Waiting, None);
                }
                Next::TokenExpired => self.end_with(ErrorCode::TokenExpired),
                Next::Draining => self.end_with(ErrorCode::Draining),
            }
        }
    }

    async fn next(&mut self) -> Next {
        let silence = async {
            match self.waiting {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.node.stop.cancelled() => Next::Stopped,
            () = tokio::time::sleep_until(self.token_ends) => Next::TokenExpired,
            // Streams are gone by then: whatever is missing is followed on another node.
            _ = self.phase.wait_for(|phase| *phase >= DrainPhase::Flushing) => Next::Draining,
            event = self.follower.next() => Next::Told(event),
            () = silence => Next::Silence,
        }
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Attached(found) => self.epoch = found.head.epoch,
            Event::TakenOver { epoch, .. } => self.epoch = epoch,
            Event::Batch(slice) => self.say_chunks(&slice),
            Event::Reset { reason, epoch } => {
                self.epoch = epoch;
                self.node.metrics.told_reset(reason);
                let message_id = self.message();
                let reset = Reset { message_id, reason, truncate_to: Index::ZERO, epoch };
                self.say("reset", None, &reset);
            }
            Event::Paused => {
                self.waiting = None;
                self.say_status(StreamState::Paused, Some(ErrorCode::StoreUnavailable));
            }
            Event::Live => {
                self.heard();
                self.say_status(StreamState::Live, None);
            }
            Event::Sealed { seal, tail, digest } => {
                let conversation = self.opening.conversation;
                let complete = Complete::new(self.message(), conversation, tail, digest, &seal);
                self.say("complete", Some(format!("{}.end", self.epoch)), &complete);
                self.ended = true;
            }
        }
    }

    fn say_chunks(&mut self, slice: &Slice) {
        self.heard();
        let epoch = slice.batch().epoch;
        self.epoch = self.epoch.max(epoch);
        let message_id = self.message();
        let mut bytes = 0;
        for (index, chunk) in (slice.first().0..).map(Index).zip(slice.chunks()) {
            let data = ChunkEvent::new(message_id, index, epoch, chunk);
            bytes += self.say("chunk", Some(format!("{epoch}.{index}")), &data);
        }
        self.node.metrics.chunks_delivered(Via::Sse, slice.chunks().len(), bytes);
    }

    fn say_status(&mut self, state: StreamState, reason: Option<ErrorCode>) {
        let status = Status { message_id: self.message(), state, reason };
        self.say("status", None, &status);
    }

    fn end_with(&mut self, code: ErrorCode) {
        let message_id = Some(self.message());
        let error = ErrorData { message_id, last: true, ..ErrorData::new(code) };
        self.say("error", None, &error);
        self.ended = true;
    }

    /// Queues one event; returns the length of its data.
    fn say(&mut self, name: &str, id: Option<String>, data: &impl Serialize) -> usize {
        let Ok(data) = serde_json::to_string(data) else { return 0 };
        let data = one_line(data);
        let event = sse::Event::default().event(name);
        let event = id.into_iter().fold(event, sse::Event::id);
        self.ready.push_back(event.data(&data));
        data.len()
    }

    /// The upstream spoke: its silence is counted from now.
    fn heard(&mut self) {
        let patience = Duration::from_millis(self.node.settings.stream.waiting_ms);
        self.waiting = Some(self.node.clock.now() + patience);
    }

    fn message(&self) -> MessageId {
        self.opening.message
    }
}

/// `data` of a CHUNK, borrowed from the log.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChunkEvent<'a> {
    message_id: MessageId,
    index: Index,
    #[serde(rename = "type")]
    kind: ChunkType,
    content: &'a str,
    epoch: Epoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

impl<'a> ChunkEvent<'a> {
    fn new(message_id: MessageId, index: Index, epoch: Epoch, chunk: &'a Chunk) -> Self {
        let (kind, content) = (chunk.kind, &*chunk.content);
        let metadata = chunk.metadata.as_deref();
        Self { message_id, index, kind, content, epoch, metadata }
    }
}

/// JSON may stand on several lines where it was given as such, and readers of lines often split at
/// more than LF. Inside of strings an escape means the same; outside a space does.
fn one_line(json: String) -> String {
    const BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
    if !json.contains(BREAKS) {
        return json;
    }
    let mut line = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            '\n' | '\r' => line.push(' '),
            '\u{85}' => line.push_str("\\u0085"),
            '\u{2028}' => line.push_str("\\u2028"),
            '\u{2029}' => line.push_str("\\u2029"),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_one_line_and_means_the_same() {
        let metadata = RawValue::from_string("{\n \"name\":\r\n \"a\u{2028}b\" }".to_owned());
        let mut chunk = Chunk::new(ChunkType::ToolUse, "x\n\u{85}\u{2028}\u{2029}y\r");
        chunk.metadata = Some(Arc::from(metadata.unwrap()));
        let message = MessageId(uuid::Uuid::nil());
        let event = ChunkEvent::new(message, Index(3), Epoch(2), &chunk);
        let line = one_line(serde_json::to_string(&event).unwrap());
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains(['\u{85}', '\u{2028}', '\u{2029}']));
        let read: protocol::server_frame::ChunkData = serde_json::from_str(&line).unwrap();
        assert_eq!((read.index, read.epoch), (Index(3), Epoch(2)));
        assert_eq!(read.chunk.content, chunk.content);
        assert_eq!(read.chunk.metadata.unwrap()["name"], "a\u{2028}b");
    }
}
