//! Asking, reading and cancelling answers.

use super::extract::{Body, Caller, ConversationName, MessageName};
use super::{Refused, patiently};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderName, StatusCode};
use protocol::http::{MessageStatus, MessageView};
use protocol::server_frame::Status;
use protocol::{ClientFrame, ErrorCode, Index, MessageId, Seal, SealStatus, UserId};
use std::sync::Arc;
use streamlog::{LogError, Page, StreamLog};

/// What no proxy and no browser may keep.
const NO_STORE: (HeaderName, &str) = (http::header::CACHE_CONTROL, "no-store");

/// `POST /api/v1/conversations/{id}/messages`: starts an answer.
pub(super) async fn ask(
    Caller(caller): Caller,
    State(node): State<Arc<Node>>,
    ConversationName(conversation): ConversationName,
    Body(body): Body,
) -> Result<Response, Refused> {
    let mut request = ClientFrame::parse_request_body(&body)?;
    request.conversation_id = conversation;
    let accepted = node.accept(&caller.user, request).await?;
    let location = format!("/api/v1/messages/{}/stream", accepted.message_id);
    let headers = [NO_STORE, (LOCATION, location.as_str())];
    Ok((StatusCode::ACCEPTED, headers, Json(accepted)).into_response())
}

/// `GET /api/v1/messages/{id}`: the answer as it stands, also while it grows.
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

/// `DELETE /api/v1/messages/{id}/stream`: asks the owner, wherever it is, to stop.
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
