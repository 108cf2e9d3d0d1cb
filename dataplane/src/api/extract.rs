//! Who asks, and about what. Extractors run in the order of a handler's arguments: the caller comes
//! first, so that a stranger learns nothing from the other errors.

use super::{MAX_BODY_BYTES, Refused};
use crate::admit::credentials::CANNOT_CHECK;
use crate::admit::{Identity, authenticate};
use crate::node::Node;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use protocol::{ConversationId, ErrorCode, MessageId};
use std::sync::Arc;
use std::time::Duration;

/// A body that takes longer is not waited for.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// The user of a good token.
pub struct Caller(pub Identity);

impl FromRequestParts<Arc<Node>> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Refused> {
        let identity = super::patiently(authenticate(node, parts)).await;
        identity.map(Self).map_err(|refused| match refused.0.code {
            ErrorCode::StoreUnavailable => Refused(refused.0, Some(CANNOT_CHECK.to_owned())),
            _ => refused,
        })
    }
}

/// The message of the path.
pub(super) struct MessageName(pub(super) MessageId);

impl<S: Send + Sync> FromRequestParts<S> for MessageName {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Refused::field("messageId"))?;
        MessageId::parse(&text).map(Self).ok_or_else(|| Refused::field("messageId"))
    }
}

/// The conversation of the path; `None` for `new`.
pub(super) struct ConversationName(pub(super) Option<ConversationId>);

impl<S: Send + Sync> FromRequestParts<S> for ConversationName {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Refused::field("conversationId"))?;
        if text == "new" {
            return Ok(Self(None));
        }
        let id = ConversationId::parse(&text).ok_or_else(|| Refused::field("conversationId"))?;
        Ok(Self(Some(id)))
    }
}

/// The whole body, at most [`MAX_BODY_BYTES`].
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        // Said to be too large: refused before it is sent.
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > MAX_BODY_BYTES) {
            return Err(ErrorCode::PayloadTooLarge.into());
        }
        let body = Bytes::from_request(request, state);
        match tokio::time::timeout(BODY_PATIENCE, body).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(refused)) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ErrorCode::PayloadTooLarge.into())
            }
            Ok(Err(_)) | Err(_) => Err(Refused::field("the body did not arrive")),
        }
    }
}
