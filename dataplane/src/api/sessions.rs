//! A user's sessions on all nodes, and tickets to open one.

use super::interface::refusals::{OfTicket, OfUser};
use super::{Caller, Refused, patiently};
use crate::admit::{rate, ticket};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use jiff::Timestamp;
use protocol::SessionId;
use protocol::http::{SessionView, Ticket};
use serde::Deserialize;
use std::sync::Arc;
use streamlog::Space;

/// What a node notes of a session in the registry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    node: String,
    connected_at: Timestamp,
}

/// Makes a ticket for a client that can set no header.
#[utoipa::path(
    post, path = "/api/v1/tickets", operation_id = "makeTicket", tag = "sessions",
    responses((status = 200, description = "A ticket for 30 s", body = Ticket), OfTicket),
    security(("token" = []), ("ticket" = []), ("tokenInQuery" = [])),
)]
pub(super) async fn ticket(
    Caller(caller): Caller,
    State(node): State<Arc<Node>>,
) -> Result<Response, Refused> {
    patiently(rate::spend_ticket(&node, &caller.user)).await?;
    let ticket = patiently(ticket::issue(&node, &caller)).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(ticket)).into_response())
}

/// Lists the user's sessions, on all nodes.
#[utoipa::path(
    get, path = "/api/v1/sessions", operation_id = "listSessions", tag = "sessions",
    responses((status = 200, description = "The user's sessions, on all nodes", body = Vec<SessionView>), OfUser),
    security(("token" = []), ("ticket" = []), ("tokenInQuery" = [])),
)]
pub(super) async fn list(
    Caller(caller): Caller,
    State(node): State<Arc<Node>>,
) -> Result<Response, Refused> {
    let facts = patiently(node.registry.list(Space::Session, caller.user.as_str())).await?;
    let nodes = patiently(node.directory.nodes()).await?;
    let alive = |session: &SessionView| {
        nodes.iter().any(|node| node.alive && node.owner.node.as_str() == session.node)
    };
    let sessions = facts.iter().filter_map(|(name, value)| session(name, value));
    // A dead node's sessions are in the registry until somebody cleans up.
    let sessions: Vec<_> = sessions.filter(alive).collect();
    Ok(([(CACHE_CONTROL, "no-store")], Json(sessions)).into_response())
}

/// A fact of a later version that cannot be read here hides its own session only.
fn session(name: &str, value: &[u8]) -> Option<SessionView> {
    let session_id = SessionId::parse(name)?;
    let Place { node, connected_at } = serde_json::from_slice(value).ok()?;
    Some(SessionView { session_id, node, connected_at })
}
