//! `GET /ws/chat`: who may have a socket (protocol section 1), and the way from an HTTP request to
//! the raw stream.

use super::handshake::{NoHandshake, NoUuid, Offer, session_of};
use super::stream::NodeStream;
use super::task::SocketTask;
use super::wire::Wire;
use super::{encode, facts};
use crate::admit::{Identity, credentials};
use crate::api::interface::refusals::OfUpgrade;
use crate::api::problem;
use crate::metrics::{Limited, SocketRefusal};
use crate::node::Node;
use crate::telemetry::{Span, TraceContext};
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
use protocol::http::Problem;
use protocol::server_frame::ErrorData;
use protocol::{CloseCode, Dialect, ErrorCode, SUBPROTOCOL, ServerFrame, SessionId};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

/// An upgrade that takes longer is given up.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(10);
/// After this long somebody may have left a node that was full.
const FULL_FOR: Duration = Duration::from_secs(5);
/// A socket that is only told why it is closed may take this long to listen.
const GOODBYE: Duration = Duration::from_secs(5);

/// What becomes of a request that is upgraded.
enum Verdict {
    /// A socket.
    Serve { dialect: Dialect, session: SessionId, identity: Identity },
    /// Upgraded only to be told why not.
    Refuse { reason: SocketRefusal, error: Option<ErrorCode>, close: CloseCode },
}

/// Why a request is not upgraded.
struct Refused {
    reason: SocketRefusal,
    code: ErrorCode,
    detail: Option<&'static str>,
    retry: Option<Duration>,
}

impl Refused {
    fn new(reason: SocketRefusal, code: ErrorCode) -> Self {
        Self { reason, code, detail: None, retry: None }
    }
}

/// Opens a WebSocket.
#[utoipa::path(
    get, path = "/ws/chat", operation_id = "openSocket", tag = "sessions",
    description = "An upgrade to WebSocket (RFC 6455); its frames are in `/asyncapi.json`.",
    params(
        ("sessionId" = Option<SessionId>, Query, description = "Absent: the server makes one"),
        ("Sec-WebSocket-Protocol" = Option<String>, Header, description = "`chatcluster.v1`, beside \
            it `bearer.<jwt>` and `resume.<token>`; without the header: dialect basic"),
    ),
    responses(
        (status = 101, description = "A socket. Dialect basic is told of a bad token on it, with close 4500"),
        (status = 426, description = "INVALID_MESSAGE: no upgrade to WebSocket version 13 was asked for",
            body = Problem, content_type = "application/problem+json"),
        OfUpgrade,
    ),
    security(("token" = []), ("ticket" = []), ("tokenInQuery" = [])),
)]
pub async fn upgrade(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let offer = match Offer::read(&parts) {
        Ok(offer) => offer,
        Err(why) => {
            node.metrics.socket_refused(SocketRefusal::Malformed);
            return no_handshake(why);
        }
    };
    let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return no_handshake(NoHandshake::Malformed("HTTP version"));
    };
    match judge(&node, &parts, &offer).await {
        Ok(verdict) => {
            let trace = parts.extensions.get::<TraceContext>().cloned();
            node.tasks.spawn(run(node.clone(), on_upgrade, verdict, trace));
            switching(&offer.accept, offer.dialect == Some(Dialect::V1))
        }
        Err(Refused { reason, code, detail, retry }) => {
            node.metrics.socket_refused(reason);
            problem(code, detail, retry)
        }
    }
}

/// Every check of protocol section 1.
async fn judge(node: &Arc<Node>, parts: &Parts, offer: &Offer) -> Result<Verdict, Refused> {
    if is_gone(node) {
        return Err(Refused::new(SocketRefusal::Draining, ErrorCode::Draining));
    }
    let session = session_of(parts).map_err(|NoUuid| Refused {
        detail: Some("sessionId must be a UUID, or absent"),
        ..Refused::new(SocketRefusal::Malformed, ErrorCode::InvalidMessage)
    })?;
    if !offer.may_come(&node.settings.auth.allowed_origins) {
        let detail = Some("this Origin is not in auth.allowedOrigins");
        let refused = Refused::new(SocketRefusal::Origin, ErrorCode::Forbidden);
        return Err(Refused { detail, ..refused });
    }
    let Some(dialect) = offer.dialect else {
        enter(node, false)?;
        let (reason, close) = (SocketRefusal::Version, CloseCode::UnsupportedVersion);
        return Ok(Verdict::Refuse { reason, error: None, close });
    };
    let session = session.unwrap_or_else(|| SessionId(node.ids.uuid()));
    let identity = match credentials::authenticate(node, parts).await {
        Ok(identity) => identity,
        Err(code) => return unauthenticated(node, dialect, code),
    };
    if node.sockets.is_full_for(session, node.hot.now().limits.sessions) {
        let refused = Refused::new(SocketRefusal::Capacity, ErrorCode::AtCapacity);
        let detail =
            Some("this node carries as many sessions as it may; another one may have room");
        return Err(Refused { detail, retry: Some(FULL_FOR), ..refused });
    }
    let resume = offer.resume.as_deref();
    enter(node, resume.is_some_and(|t| node.admit.is_resume(t, &identity.user, session)))?;
    if !facts::claim(node, session, &identity.user).await {
        let (reason, close) = (SocketRefusal::Session, CloseCode::Forbidden);
        return Ok(Verdict::Refuse { reason, error: None, close });
    }
    Ok(Verdict::Serve { dialect, session, identity })
}

/// v1 is refused before the upgrade, basic after it; a ticket or a key that could not be looked up is
/// no matter of the dialect.
fn unauthenticated(node: &Node, dialect: Dialect, code: ErrorCode) -> Result<Verdict, Refused> {
    let reason = match code {
        ErrorCode::StoreUnavailable => SocketRefusal::Store,
        ErrorCode::TokenExpired => SocketRefusal::TokenExpired,
        _ => SocketRefusal::Unauthenticated,
    };
    if dialect == Dialect::V1 || code == ErrorCode::StoreUnavailable {
        let detail = (code == ErrorCode::StoreUnavailable).then_some(credentials::CANNOT_CHECK);
        return Err(Refused { detail, ..Refused::new(reason, code) });
    }
    enter(node, false)?;
    Ok(Verdict::Refuse { reason, error: Some(code), close: CloseCode::Unauthenticated })
}

/// Whether the node drains for so long that no socket is accepted any more.
fn is_gone(node: &Node) -> bool {
    let lingers = |began: Instant| {
        let since = node.clock.now().saturating_duration_since(began);
        since < Duration::from_millis(node.settings.drain.linger_ms)
    };
    !node.drain.is_serving() && !node.drain.began().is_some_and(lingers)
}

/// Takes a place in one of the accept buckets.
fn enter(node: &Node, resuming: bool) -> Result<(), Refused> {
    node.admit.enter(resuming).map_err(|retry| {
        node.metrics.limited(if resuming { Limited::Resumes } else { Limited::Accepts });
        let retry = Some(retry);
        Refused { retry, ..Refused::new(SocketRefusal::Capacity, ErrorCode::AtCapacity) }
    })
}

/// `trace` is the request's.
async fn run(
    node: Arc<Node>,
    on_upgrade: OnUpgrade,
    verdict: Verdict,
    trace: Option<TraceContext>,
) {
    // The handshake's own state is gone before the socket's long life begins.
    let Some(wire) = Box::pin(take_over(on_upgrade)).await else { return };
    match verdict {
        Verdict::Serve { dialect, session, identity } => {
            let user = node.telemetry.user(&identity.user);
            let span = node.telemetry.spans.socket(trace.as_ref(), dialect, session, &user);
            let log = log_span(&node, &span, session, &user);
            let serving = SocketTask::serve(node, wire, dialect, session, identity, span);
            Box::pin(serving).instrument(log).await;
        }
        Verdict::Refuse { reason, error, close } => {
            node.metrics.socket_refused(reason);
            Box::pin(refuse(&node, wire, error, close)).await;
        }
    }
}

/// What every log line of a socket shows.
fn log_span(node: &Node, span: &Span, session: SessionId, user: &str) -> tracing::Span {
    let context = span.context();
    tracing::info_span!(
        "socket", trace_id = %context.trace_id(), span_id = %context.span_id(),
        node = %node.owner.node, session_id = %session, user,
    )
}

/// Takes the raw stream out of the HTTP machinery.
async fn take_over(on_upgrade: OnUpgrade) -> Option<Wire> {
    let upgraded = timeout(UPGRADE_PATIENCE, on_upgrade).await.ok()?.ok()?;
    match upgraded.downcast::<TokioIo<NodeStream>>() {
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
