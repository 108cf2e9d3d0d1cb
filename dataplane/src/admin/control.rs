//! What an operator tells a node: drain, move or close a session, broadcast.

use crate::api::interface::refusals::{OfBroadcast, OfCallOff, OfDrain, OfOperator, OfSession};
use crate::api::{Body, Refused, patiently};
use crate::broadcast::{self, Kind};
use crate::node::Node;
use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use protocol::drain::DrainRequest;
use protocol::{CloseCode, DrainReport, ErrorCode, SessionId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;
use streamlog::{BusEvent, Key, LogError, Space, Target};
use utoipa::ToSchema;

/// Close codes an operator may send.
const CLOSE_CODES: [CloseCode; 9] = [
    CloseCode::Normal,
    CloseCode::Restart,
    CloseCode::Overloaded,
    CloseCode::Drained,
    CloseCode::TokenExpired,
    CloseCode::Rebalanced,
    CloseCode::Unauthenticated,
    CloseCode::Forbidden,
    CloseCode::Abuse,
];

/// The close code of a number, where an operator may send it.
pub(super) fn close_code(number: u16) -> Option<CloseCode> {
    CLOSE_CODES.into_iter().find(|code| code.number() == number)
}

/// Says where the node stands between serving and gone.
#[utoipa::path(
    get, path = "/admin/drain", operation_id = "drainReport", tag = "admin",
    responses((status = 200, description = "Where the node stands", body = DrainReport), OfOperator),
    security((), ("adminKey" = [])),
)]
pub(super) async fn report(State(node): State<Arc<Node>>) -> Json<DrainReport> {
    Json(node.drain_report())
}

/// Begins a drain: the phases follow, the report says how far they are.
#[utoipa::path(
    post, path = "/admin/drain", operation_id = "drain", tag = "admin",
    request_body(content = Option<DrainRequest>, description = "Absent: the defaults"),
    responses((status = 202, description = "It began, or goes on", body = DrainReport), OfDrain),
    security((), ("adminKey" = [])),
)]
pub(super) async fn drain(
    State(node): State<Arc<Node>>,
    Body(body): Body,
) -> Result<Response, Refused> {
    let request: DrainRequest = parse(&body)?.unwrap_or_default();
    node.start_drain(&request)?;
    Ok((StatusCode::ACCEPTED, Json(node.drain_report())).into_response())
}

/// Calls a drain off: back to serving, where that is still possible.
#[utoipa::path(
    delete, path = "/admin/drain", operation_id = "callDrainOff", tag = "admin",
    params(("epoch" = Option<u64>, Query, description = "At least that of the drain; absent: 0")),
    responses((status = 200, description = "The node serves again", body = DrainReport), OfCallOff),
    security((), ("adminKey" = [])),
)]
pub(super) async fn call_off(
    State(node): State<Arc<Node>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<DrainReport>, Refused> {
    let epoch = match pairs.iter().find(|(name, _)| name == "epoch") {
        None => 0,
        Some((_, text)) => text.parse().map_err(|_| Refused::field("epoch"))?,
    };
    node.cancel_drain(epoch)?;
    Ok(Json(node.drain_report()))
}

/// The session of the path, where some node knows it.
pub(super) struct KnownSession(SessionId);

impl FromRequestParts<Arc<Node>> for KnownSession {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Refused> {
        let path = Path::<String>::from_request_parts(parts, node).await.ok();
        let session = path.and_then(|Path(text)| SessionId::parse(&text));
        let session = session.ok_or_else(|| Refused::field("sessionId"))?;
        let known = patiently(node.registry.get(&Key::global(Space::Session, session))).await?;
        known.map(|_| Self(session)).ok_or_else(|| ErrorCode::NotFound.into())
    }
}

/// Moves the sockets of a session to other nodes.
#[utoipa::path(
    post, path = "/admin/sessions/{session}/goaway", operation_id = "moveSession", tag = "admin",
    params(("session" = SessionId, Path, description = "On any node")),
    responses((status = 202, description = "Its sockets are told"), OfSession),
    security((), ("adminKey" = [])),
)]
pub(super) async fn goaway(
    State(node): State<Arc<Node>>,
    KnownSession(session): KnownSession,
) -> Result<StatusCode, Refused> {
    publish(&node, BusEvent::Goaway(session)).await
}

/// How to close the sockets of a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CloseRequest)]
struct Close {
    code: u16,
}

/// Closes the sockets of a session, with 1000 if no code is given.
#[utoipa::path(
    post, path = "/admin/sessions/{session}/close", operation_id = "closeSession", tag = "admin",
    params(("session" = SessionId, Path, description = "On any node")),
    request_body(content = Option<Close>, description = "Absent: 1000"),
    responses((status = 202, description = "Its sockets are told"), OfSession),
    security((), ("adminKey" = [])),
)]
pub(super) async fn close(
    State(node): State<Arc<Node>>,
    KnownSession(session): KnownSession,
    Body(body): Body,
) -> Result<StatusCode, Refused> {
    let close: Option<Close> = parse(&body)?;
    let number = close.map_or(CloseCode::Normal.number(), |close| close.code);
    close_code(number).ok_or_else(|| Refused::field("code"))?;
    publish(&node, BusEvent::Close(session, number)).await
}

/// What to tell the other nodes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BroadcastRequest)]
struct Broadcast {
    r#type: Kind,
}

/// Tells every other node something.
#[utoipa::path(
    post, path = "/admin/broadcast", operation_id = "broadcast", tag = "admin",
    request_body = Broadcast,
    responses((status = 202, description = "The other nodes are told"), OfBroadcast),
    security((), ("adminKey" = [])),
)]
pub(super) async fn broadcast(
    State(node): State<Arc<Node>>,
    Body(body): Body,
) -> Result<StatusCode, Refused> {
    let asked: Option<Broadcast> = parse(&body)?;
    let Broadcast { r#type } = asked.ok_or_else(|| Refused::field("type"))?;
    broadcast::publish(&node, r#type).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn publish(node: &Node, event: BusEvent) -> Result<StatusCode, Refused> {
    let published: Result<(), LogError> = node.bus.publish(Target::All, event).await;
    published?;
    Ok(StatusCode::ACCEPTED)
}

/// An empty body is none. It must be an object: the library would also read the fields of an array.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<Option<T>, Refused> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let fields = serde_json::from_slice::<Map<String, Value>>(body);
    let read = fields.and_then(|fields| T::deserialize(Value::Object(fields)));
    read.map(Some).map_err(|error| {
        let code = if error.is_data() { ErrorCode::InvalidMessage } else { ErrorCode::InvalidJson };
        Refused(code.into(), Some(format!("{}: {error}", code.text())))
    })
}
