//! From a request to a stream in the log.

use super::producer;
use super::start::Start;
use crate::admit::rate;
use crate::metrics::Limited;
use crate::node::Node;
use crate::telemetry::TraceContext;
use protocol::server_frame::{Accepted, StreamState};
use protocol::{ChatRequest, ConversationId, ErrorCode, Index, MessageId, UserId};
use std::sync::Arc;
use std::time::Duration;
use streamlog::bugs::{self, Bug};
use streamlog::{BusEvent, Key, LogError, Mark, Opened, Opening, Space, StreamLog, Target};
use tokio::sync::oneshot;

/// How long a request id is known.
pub(super) const KEEP_REQUEST: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a request waits for the log before it is answered STORE_UNAVAILABLE.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a request looks whether its twin has opened the stream; bounded by `PATIENCE`.
const TWIN_LOOK: Duration = Duration::from_millis(5);
/// How long a refused client should wait where nothing better is known.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, retry_after: code.retryable().then_some(RETRY_AFTER) }
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        match error {
            LogError::NotFound => ErrorCode::NotFound.into(),
            LogError::Unavailable { retry } => {
                // A client's patience is counted in tries: an outage takes seconds, not milliseconds.
                let retry_after = Some(retry.max(RETRY_AFTER));
                Self { code: ErrorCode::StoreUnavailable, retry_after }
            }
            LogError::Fenced { .. }
            | LogError::Gap { .. }
            | LogError::Sealed
            | LogError::Trimmed { .. } => ErrorCode::Internal.into(),
        }
    }
}

impl Node {
    /// Accepts a request: when this returns, request and stream are in the log. The caller follows
    /// `message_id` from 0. A known request id starts nothing.
    ///
    /// # Errors
    /// RATE_LIMITED, AT_CAPACITY, DRAINING, NOT_FOUND (conversation), STORE_UNAVAILABLE.
    pub async fn accept(
        self: &Arc<Self>,
        user: &UserId,
        request: ChatRequest,
    ) -> Result<Accepted, Refusal> {
        self.accept_in_trace(user, request, None).await
    }

    /// As [`Self::accept`]; the stream is a child of `trace`, on whatever node it is produced.
    ///
    /// # Errors
    /// As there.
    pub async fn accept_in_trace(
        self: &Arc<Self>,
        user: &UserId,
        request: ChatRequest,
        trace: Option<&TraceContext>,
    ) -> Result<Accepted, Refusal> {
        let accepting = self.accept_in_log(user, request, trace);
        match tokio::time::timeout(PATIENCE, accepting).await {
            Ok(result) => result,
            Err(_) => Err(ErrorCode::StoreUnavailable.into()),
        }
    }

    async fn accept_in_log(
        self: &Arc<Self>,
        user: &UserId,
        request: ChatRequest,
        trace: Option<&TraceContext>,
    ) -> Result<Accepted, Refusal> {
        if let Some(known) = self.known_request(user, &request).await? {
            return self.join(known).await;
        }
        self.may_start(user).await?;
        let opening = self.opening(user, request, trace).await?;
        let first = self.remember_request(&opening).await?;
        if first.message != opening.message {
            return self.join(first).await;
        }
        self.start(opening, false).await
    }

    async fn known_request(
        &self,
        user: &UserId,
        request: &ChatRequest,
    ) -> Result<Option<Arc<Opening>>, Refusal> {
        let Some(id) = &request.request_id else { return Ok(None) };
        let bytes = self.registry.get(&Key::of(Space::Request, user, id.as_str())).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).map(Arc::new))
    }

    /// The request is known: its stream exists, or whoever remembered it died before opening it and
    /// this node opens it under the same id.
    async fn join(self: &Arc<Self>, known: Arc<Opening>) -> Result<Accepted, Refusal> {
        if bugs::active(Bug::ReusedId) {
            return self.start(known, true).await;
        }
        match self.log.read(known.message, Index::ZERO, 1).await {
            Ok(_) => Ok(accepted(&known, true)),
            Err(LogError::NotFound) => {
                self.may_own()?;
                self.start(known, true).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this node may own a new stream at all.
    fn may_own(&self) -> Result<(), Refusal> {
        if !self.drain.is_serving() {
            return Err(ErrorCode::Draining.into());
        }
        if self.lease.certain().is_none() {
            return Err(ErrorCode::StoreUnavailable.into());
        }
        if !self.streams.has_place() {
            return Err(ErrorCode::AtCapacity.into());
        }
        Ok(())
    }

    async fn may_start(&self, user: &UserId) -> Result<(), Refusal> {
        self.may_own()?;
        rate::spend_request(self, user).await?;
        let live = self.registry.list(Space::Answer, user.as_str()).await?;
        if live.len() >= self.hot.now().limits.answers_per_user {
            self.metrics.limited(Limited::Answers);
            return Err(ErrorCode::RateLimited.into());
        }
        Ok(())
    }

    async fn opening(
        &self,
        user: &UserId,
        request: ChatRequest,
        trace: Option<&TraceContext>,
    ) -> Result<Arc<Opening>, Refusal> {
        let conversation =
            request.conversation_id.unwrap_or_else(|| ConversationId(self.ids.uuid()));
        let known = self.conversation(user, conversation).await?;
        Ok(Arc::new(Opening {
            message: MessageId(self.ids.uuid()),
            user: user.clone(),
            conversation,
            user_message: MessageId(self.ids.uuid()),
            request_id: request.request_id,
            content: request.content,
            options: request.options,
            on_disconnect: request.on_disconnect,
            context: known.turns,
            started_at: self.clock.wall(),
            trace: trace.map(TraceContext::header),
        }))
    }

    /// Names the request's stream, once: whoever comes second gets the first one's.
    async fn remember_request(&self, opening: &Arc<Opening>) -> Result<Arc<Opening>, Refusal> {
        let Some(id) = &opening.request_id else { return Ok(opening.clone()) };
        let key = Key::of(Space::Request, &opening.user, id.as_str());
        let bytes = serde_json::to_vec(&**opening).map_err(|_| ErrorCode::Internal)?;
        let first = self.registry.put_if_absent(&key, bytes, KEEP_REQUEST).await?;
        match first.map(|bytes| serde_json::from_slice(&bytes)) {
            None => Ok(opening.clone()),
            Some(Ok(first)) => Ok(Arc::new(first)),
            Some(Err(_)) => Err(ErrorCode::Internal.into()),
        }
    }

    /// Hands the opening to its own task, which goes on whatever becomes of the caller.
    async fn start(
        self: &Arc<Self>,
        opening: Arc<Opening>,
        duplicate: bool,
    ) -> Result<Accepted, Refusal> {
        if self.streams.has(opening.message) {
            return self.wait_for_twin(&opening).await;
        }
        let Some(place) = self.streams.reserve(opening.message) else {
            return Err(ErrorCode::AtCapacity.into());
        };
        let (tell, opened) = oneshot::channel();
        let start = Start::Open { opening: opening.clone(), tell };
        self.tasks.spawn(producer::run(self.clone(), place, start));
        match opened.await {
            Ok(Opened::Yours(_)) => Ok(accepted(&opening, duplicate)),
            Ok(Opened::Exists(_, existing)) => Ok(accepted(&existing, duplicate)),
            Err(_) => Err(ErrorCode::StoreUnavailable.into()),
        }
    }

    /// The same request is being opened here at this moment: its stream will be there soon.
    async fn wait_for_twin(&self, opening: &Opening) -> Result<Accepted, Refusal> {
        loop {
            match self.log.read(opening.message, Index::ZERO, 1).await {
                Ok(_) => return Ok(accepted(opening, true)),
                Err(LogError::NotFound) => tokio::time::sleep(TWIN_LOOK).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks the owner of a message, wherever it is, to stop: `Cancelling`, or `Sealed` if it had
    /// ended. Idempotent.
    ///
    /// # Errors
    /// NOT_FOUND (also: somebody else's), STORE_UNAVAILABLE.
    pub async fn cancel(&self, user: &UserId, message: MessageId) -> Result<StreamState, Refusal> {
        let cancelling = self.cancel_in_log(user, message);
        match tokio::time::timeout(PATIENCE, cancelling).await {
            Ok(result) => result,
            Err(_) => Err(ErrorCode::StoreUnavailable.into()),
        }
    }

    async fn cancel_in_log(
        &self,
        user: &UserId,
        message: MessageId,
    ) -> Result<StreamState, Refusal> {
        let page = self.log.read(message, Index::ZERO, 1).await?;
        if page.opening.user != *user {
            return Err(ErrorCode::NotFound.into());
        }
        match self.directory.mark(message, Mark::Cancel).await {
            Ok(()) => {}
            Err(LogError::Sealed) => return Ok(StreamState::Sealed),
            Err(error) => return Err(error.into()),
        }
        // Only a hint: without it the owner looks within half a second.
        let _ = self.bus.publish(Target::All, BusEvent::Cancel(message)).await;
        Ok(StreamState::Cancelling)
    }
}

fn accepted(opening: &Opening, duplicate: bool) -> Accepted {
    Accepted {
        request_id: opening.request_id.clone(),
        conversation_id: opening.conversation,
        user_message_id: opening.user_message,
        message_id: opening.message,
        duplicate,
    }
}
