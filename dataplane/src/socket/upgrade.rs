//! `GET /ws/chat`: who may have a socket (protocol section 1), and the way from an HTTP request to
//! the raw stream.

use super::handshake::{NoHandshake, NoUuid, Offer, session_of};
use super::stream::NodeStream;
use super::task::SocketTask;
use super::wire::Wire;
use super::{encode, facts};
use crate::admit::{Identity, credentials};
use crate::api::problem;
use crate::node::Node;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use protocol::http::Problem;
use protocol::server_frame::ErrorData;
use protocol::{CloseCode, Dialect, ErrorCode, SUBPROTOCOL, ServerFrame, SessionId};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// An upgrade that takes longer is given up.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(10);
/// A socket that is only told why it is closed may take this long to listen.
const GOODBYE: Duration = Duration::from_secs(5);

/// What becomes of a request that is upgraded.
enum Verdict {
    /// A socket.
    Serve { dialect: Dialect, session: SessionId, identity: Identity },
    /// Upgraded only to be told why not.
    Refuse { selected: Option<Dialect>, error: Option<ErrorCode>, close: CloseCode },
}

/// `GET /ws/chat`.
pub async fn upgrade(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let offer = match Offer::read(&parts) {
        Ok(offer) => offer,
        Err(why) => return no_handshake(why),
    };
    let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return no_handshake(NoHandshake::Malformed("HTTP version"));
    };
    let verdict = match judge(&node, &parts, &offer).await {
        Ok(verdict) => verdict,
        Err(response) => return *response,
    };
    let selected = match &verdict {
        Verdict::Serve { dialect, .. } => Some(*dialect),
        Verdict::Refuse { selected, .. } => *selected,
    };
    node.tasks.spawn(run(node.clone(), on_upgrade, verdict));
    switching(&offer.accept, selected == Some(Dialect::V1))
}

/// Every check of protocol section 1, in order.
async fn judge(node: &Arc<Node>, parts: &Parts, offer: &Offer) -> Result<Verdict, Box<Response>> {
    if is_gone(node) {
        return Err(refused(ErrorCode::Draining, None, None));
    }
    let session = session_of(parts).map_err(|NoUuid| {
        refused(ErrorCode::InvalidMessage, Some("sessionId must be a UUID, or absent"), None)
    })?;
    if !offer.may_come(&node.settings.auth.allowed_origins) {
        let detail = "this Origin is not in auth.allowedOrigins";
        return Err(refused(ErrorCode::Forbidden, Some(detail), None));
    }
    let Some(dialect) = offer.dialect else {
        enter(node, false)?;
        let close = CloseCode::UnsupportedVersion;
        return Ok(Verdict::Refuse { selected: None, error: None, close });
    };
    let session = session.unwrap_or_else(|| SessionId(node.ids.uuid()));
    let identity = match credentials::authenticate(node, parts).await {
        Ok(identity) => identity,
        Err(ErrorCode::StoreUnavailable) => {
            return Err(refused(ErrorCode::StoreUnavailable, None, None));
        }
        Err(code) if dialect == Dialect::V1 => return Err(refused(code, None, None)),
        Err(code) => {
            enter(node, false)?;
            let (selected, close) = (Some(dialect), CloseCode::Unauthenticated);
            return Ok(Verdict::Refuse { selected, error: Some(code), close });
        }
    };
    let resume = offer.resume.as_deref();
    enter(node, resume.is_some_and(|t| node.admit.is_resume(t, &identity.user, session)))?;
    if !facts::claim(node, session, &identity.user).await {
        let (selected, close) = (Some(dialect), CloseCode::Forbidden);
        return Ok(Verdict::Refuse { selected, error: None, close });
    }
    Ok(Verdict::Serve { dialect, session, identity })
}

/// Whether the node drains for so long that no socket is accepted any more.
fn is_gone(node: &Node) -> bool {
    let lingers = |began: Instant| {
        let since = node.clock.now().saturating_duration_since(began);
        since < Duration::from_millis(node.settings.drain.linger_ms)
    };
    !node.drain.is_serving() && !node.drain.began().is_some_and(lingers)
}

fn enter(node: &Node, resuming: bool) -> Result<(), Box<Response>> {
    node.admit.enter(resuming).map_err(|retry| refused(ErrorCode::AtCapacity, None, Some(retry)))
}

async fn run(node: Arc<Node>, on_upgrade: OnUpgrade, verdict: Verdict) {
    // The handshake's own state is gone before the socket's long life begins.
    let Some(wire) = Box::pin(take_over(on_upgrade)).await else { return };
    match verdict {
        Verdict::Serve { dialect, session, identity } => {
            Box::pin(SocketTask::serve(node, wire, dialect, session, identity)).await;
        }
        Verdict::Refuse { error, close, .. } => {
            Box::pin(refuse(&node, wire, error, close)).await;
        }
    }
}

/// Takes the raw stream out of the HTTP machinery.
async fn take_over(on_upgrade: OnUpgrade) -> Option<Wire> {
    let upgraded = timeout(UPGRADE_PATIENCE, on_upgrade).await.ok()?.ok()?;
    match downcast::<TokioIo<NodeStream>>(upgraded) {
        Ok(parts) => Some(Wire::new(parts.io.into_inner(), &parts.read_buf)),
        Err(_) => {
            tracing::error!("an upgraded stream is none of the node's listener; it is dropped");
            None
        }
    }
}

/// Says why, and closes.
pub(super) async fn refuse(
    node: &Node,
    mut wire: Wire,
    error: Option<ErrorCode>,
    close: CloseCode,
) {
    if let Some(code) = error {
        let text = ErrorCode::Unauthenticated.text().to_owned();
        let frame = ServerFrame::Error(ErrorData { error: text, ..ErrorData::new(code) });
        wire.push(encode::frame(&frame, node.clock.wall()));
    }
    wire.close(close);
    tokio::select! {
        () = node.stop.cancelled() => {}
        _ = timeout(GOODBYE, poll_fn(|cx| wire.poll_finish(cx))) => {}
    }
}

fn switching(accept: &str, v1: bool) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if v1 {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

/// 400 or 426 (RFC 6455 sections 4.2.2 and 4.4, RFC 9110 section 15.5.22).
fn no_handshake(why: NoHandshake) -> Response {
    let detail = match why {
        NoHandshake::NotAsked => "this is a WebSocket: send Upgrade: websocket".to_owned(),
        NoHandshake::Version => "Sec-WebSocket-Version must be 13".to_owned(),
        NoHandshake::Malformed(what) => format!("{what} does not fit RFC 6455"),
    };
    if let NoHandshake::Malformed(_) = why {
        return problem(ErrorCode::InvalidMessage, Some(&detail), None);
    }
    let status = StatusCode::UPGRADE_REQUIRED;
    let mut response = problem(ErrorCode::InvalidMessage, None, None);
    let code = Problem::new(ErrorCode::InvalidMessage);
    let body = Problem { status: status.as_u16(), detail: Some(detail), ..code };
    *response.body_mut() = Body::from(serde_json::to_vec(&body).unwrap_or_default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn refused(code: ErrorCode, detail: Option<&str>, retry: Option<Duration>) -> Box<Response> {
    Box::new(problem(code, detail, retry))
}
