//! Questions of a socket to its node, as futures that end in the session's input.

use super::facts;
use super::work::Answer;
use crate::node::Node;
use crate::session::{FollowId, Input};
use crate::telemetry::TraceContext;
use futures_util::future::BoxFuture;
use protocol::{ChatRequest, ErrorCode, MessageId, SessionId, UserId};
use std::sync::Arc;
use streamlog::{Cursor, Event, FollowError, Follower};

/// Accepts a request that came on a socket of this trace.
pub fn accept(
    node: Arc<Node>,
    user: UserId,
    request: Box<ChatRequest>,
    trace: TraceContext,
) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let mut span = node.telemetry.spans.chat_request(Some(&trace));
        let context = span.context().clone();
        let accepted = node.accept_in_trace(&user, *request, Some(&context)).await;
        span.decided(accepted.as_ref().map_err(|refusal| refusal.code));
        Some(Input::Accepted(accepted))
    })
}

/// Checks a token whose key is not here yet.
pub fn verify(node: Arc<Node>, token: String) -> BoxFuture<'static, Answer> {
    Box::pin(async move { Some(Input::Authenticated(node.admit.verify_patiently(&token).await)) })
}

/// Cancels a message, or the session's newest live one.
pub fn cancel(
    node: Arc<Node>,
    user: UserId,
    session: SessionId,
    message: Option<MessageId>,
) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let message = match message {
            Some(message) => Some(message),
            None => newest(&node, session, &user).await,
        };
        let result = match message {
            Some(message) => node.cancel(&user, message).await,
            None => Err(ErrorCode::NotFound.into()),
        };
        Some(Input::Cancelled { message, result })
    })
}

/// The newest live answer of a session: of its other sockets here, or the last it asked for.
async fn newest(node: &Node, session: SessionId, user: &UserId) -> Option<MessageId> {
    let here = node.sockets.of_session(session).into_iter();
    let here = here.filter(|handle| handle.user == *user).filter_map(|h| h.newest_live()).max();
    match here {
        Some(message) => Some(message),
        None => facts::find_newest(node, session).await,
    }
}

/// Reads the whole text of a sealed message.
pub fn content(
    node: &Node,
    user: &UserId,
    follow: FollowId,
    message: MessageId,
) -> BoxFuture<'static, Answer> {
    let follower = node.follow(user, message, Cursor::START);
    Box::pin(async move { Some(Input::Content { follow, text: read(follower).await }) })
}

async fn read(mut follower: Follower) -> Result<String, FollowError> {
    let mut content = String::new();
    while let Some(event) = follower.next().await {
        match event? {
            Event::Batch(slice) => {
                let chunks = slice.chunks().iter().filter(|chunk| chunk.kind.is_content());
                chunks.for_each(|chunk| content.push_str(&chunk.content));
            }
            Event::Reset { .. } => content.clear(),
            Event::Sealed { .. } => return Ok(content),
            _ => {}
        }
    }
    Err(FollowError::NotFound)
}
