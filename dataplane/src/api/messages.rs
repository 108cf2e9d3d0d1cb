//! Asking, reading and cancelling answers.

use super::extract::{Body, Caller, ConversationName, MessageName};
use super::interface::RequestBody;
use super::interface::refusals::{OfMessage, OfRequest};
use super::{Refused, patiently};
use crate::node::Node;
use crate::telemetry::TraceContext;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::LOCATION;
use http::{HeaderName, StatusCode};
use protocol::http::{MessageStatus, MessageView};
use protocol::server_frame::{Accepted, Status};
use protocol::{ClientFrame, ErrorCode, Index, MessageId, Seal, SealStatus, UserId};
use std::sync::Arc;
use streamlog::{LogError, Page, StreamLog};

/// What no proxy and no browser may keep.
const NO_STORE: (HeaderName, &str) = (http::header::CACHE_CONTROL, "no-store");

/// Starts an answer.
#[utoipa::path(
    post, path = "/api/v1/conversations/{conversation}/messages", operation_id = "ask", tag = "answers",
    params(("conversation" = String, Path, description = "A UUID, or `new`")),
    request_body = RequestBody,
    responses(
        (status = 202, description = "Request and answer are in the log", body = Accepted,
            headers(("Location" = String, description = "Where to follow the answer"))),
        OfRequest,
    ),
    security(("token" = []), ("ticket" = []), ("tokenInQuery" = [])),
)]
pub(super) async fn ask(
    Caller(caller): Caller,
    State(node): State<Arc<Node>>,
    ConversationName(conversation): ConversationName,
    Extension(trace): Extension<TraceContext>,
    Body(body): Body,
) -> Result<Response, Refused> {
    let mut request = ClientFrame::parse_request_body(&body)?;
    request.conversation_id = conversation;
    let accepted = node.accept_in_trace(&caller.user, request, Some(&trace)).await?;
    let location = format!("/api/v1/messages/{}/stream", accepted.message_id);
    let headers = [NO_STORE, (LOCATION, location.as_str())];
    Ok((StatusCode::ACCEPTED, headers, Json(accepted)).into_response())
}

/// The answer as it stands, also while it grows.
#[utoipa::path(
    get, path = "/api/v1/messages/{message}", operation_id = "readMessage", tag = "answers",
    params(("message" = MessageId, Path, description = "Which message")),
    responses((status = 200, description = "The answer so far", body = MessageView), OfMessage),
    security(("token" = []), ("ticket" = []), ("tokenInQuery" = [])),
)]
pub(super) async fn view(
    Caller(caller): Caller,
    State(node): State<Arc<Node>>,
    MessageName(message): MessageName,
) -> Result<Response, Refused> {
    let page = read(&node, &caller.user, message, usize::MAX).await?;
    if page.head.first > Index::ZERO {
        return Err(ErrorCode::Expired.into());
    }
    Ok(([NO_STORE], Json(shown(&page))).into_response())
}

/// Asks the owner of a live answer, wherever it is, to stop.
#[utoipa::path(
    delete, path = "/api/v1/messages/{message}/stream", operation_id = "cancel", tag = "answers",
    params(("message" = MessageId, Path, description = "Which message")),
    responses((status = 200, description = "`cancelling`, or `sealed`: it had ended", body = Status), OfMessage),
    security(("token" = []), ("ticket" = []), ("tokenInQuery" = [])),
)]
pub(super) async fn cancel(
    Caller(caller): Caller,
    State(node): State<Arc<Node>>,
    MessageName(message_id): MessageName,
) -> Result<Response, Refused> {
    let state = node.cancel(&caller.user, message_id).await?;
    Ok(([NO_STORE], Json(Status { message_id, state, reason: None })).into_response())
}

/// One atomic read from the start, of the user's own message.
pub(super) async fn read(
    node: &Node,
    user: &UserId,
    message: MessageId,
    limit: usize,
) -> Result<Page, Refused> {
    let read = async { node.log.read(message, Index::ZERO, limit).await };
    let page = patiently(read).await?;
    if page.opening.user != *user {
        return Err(ErrorCode::NotFound.into());
    }
    Ok(page)
}

impl From<LogError> for Refused {
    fn from(error: LogError) -> Self {
        crate::stream::Refusal::from(error).into()
    }
}

fn shown(page: &Page) -> MessageView {
    let chunks = page.batches.iter().flat_map(|batch| &batch.chunks);
    let content = chunks.filter(|chunk| chunk.kind.is_content()).map(|chunk| &*chunk.content);
    MessageView {
        message_id: page.opening.message,
        conversation_id: page.opening.conversation,
        role: "assistant".to_owned(),
        status: status(page.head.seal.as_deref(), page.head.tail),
        content: content.collect(),
        total_chunks: page.head.tail,
        digest: page.head.digest,
        epoch: page.head.epoch,
    }
}

fn status(seal: Option<&Seal>, tail: Index) -> MessageStatus {
    match seal.map(|seal| seal.status) {
        None if tail == Index::ZERO => MessageStatus::Pending,
        None => MessageStatus::Streaming,
        Some(SealStatus::Completed) => MessageStatus::Completed,
        Some(SealStatus::Failed) => MessageStatus::Failed,
        Some(SealStatus::Cancelled) => MessageStatus::Cancelled,
    }
}
