//! The admin port (protocol section 6): probes, metrics, and what an operator tells a node.
//!
//! [`control`] is drains, sessions and broadcasts, [`state`] what can be read, [`hints`] how a hint
//! about a session reaches its sockets on this node.

mod control;
mod hints;
mod state;

pub use hints::listen;

use crate::api::interface::refusals::OfReadiness;
use crate::api::{Refused, with_problems};
use crate::metrics::{Gauges, OPENMETRICS};
use crate::node::Node;
use crate::telemetry;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use protocol::ErrorCode;
use std::fmt::Write as _;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Every route of the admin port.
pub fn router(node: Arc<Node>) -> Router {
    let (router, _) = routes().split_for_parts();
    with_problems(router.with_state(node.clone()))
        .layer(from_fn_with_state(node.clone(), admins_only))
        .layer(from_fn_with_state(node, telemetry::trace_request))
}

/// The routes, each with its documentation. Paths and methods stand beside the handlers.
pub(crate) fn routes() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(metrics))
        .routes(routes!(control::report, control::drain, control::call_off))
        .routes(routes!(state::streams))
        .routes(routes!(state::nodes))
        .routes(routes!(control::goaway))
        .routes(routes!(control::close))
        .routes(routes!(control::broadcast))
}

/// Nobody else learns whether a path below `/admin` exists.
async fn admins_only(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let guarded = path == "/admin" || path.starts_with("/admin/");
    if guarded && !node.admit.is_admin(request.headers()) {
        return Refused::from(ErrorCode::Unauthenticated).into_response();
    }
    next.run(request).await
}

/// The process runs.
#[utoipa::path(
    get, path = "/livez", operation_id = "live", tag = "admin",
    responses((status = 200, description = "`ok`", body = String, content_type = "text/plain")),
)]
async fn live() -> &'static str {
    "ok"
}

/// Ready: new sockets and streams are welcome here. `?verbose` lists the checks.
#[utoipa::path(
    get, path = "/readyz", operation_id = "ready", tag = "admin",
    params(("verbose" = Option<String>, Query, description = "Present: the checks, one a line")),
    responses((status = 200, description = "`ok`", body = String, content_type = "text/plain"), OfReadiness),
)]
async fn ready(State(node): State<Arc<Node>>, query: Query<Vec<(String, String)>>) -> Response {
    let serving = node.drain.is_serving();
    let certain = node.lease.certain().is_some();
    // A node that never saw the issuer's keys lets nobody in.
    let keys = node.admit.public_keys();
    let good = serving && certain && keys != Some(0);
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.iter().any(|(name, _)| name == "verbose");
    if !verbose && status == StatusCode::OK {
        return "ok".into_response();
    }
    if !verbose {
        let code = if serving { ErrorCode::StoreUnavailable } else { ErrorCode::Draining };
        return Refused::from(code).into_response();
    }
    let sign = |good| if good { '+' } else { '-' };
    let phase = node.drain.phase().as_str();
    let lease = if certain { "certain" } else { "not certain: the store is away, or was" };
    let mut text =
        format!("[{}] phase: {phase}\n[{}] lease: {lease}\n", sign(serving), sign(certain));
    if let Some(count) = keys {
        let _ = writeln!(text, "[{}] key set: {count} keys", sign(count > 0));
    }
    (status, [(CACHE_CONTROL, "no-store")], text).into_response()
}

/// What the node counts.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "admin",
    responses((status = 200, description = "OpenMetrics 1.0", body = String,
        content_type = "application/openmetrics-text")),
)]
async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let text = node.metrics.scrape(Gauges {
        sockets: node.sockets.len(),
        sessions: node.sockets.sessions(),
        streams: node.streams.len(),
        phase: node.drain.phase(),
        lease: node.lease.certain().is_some(),
        reads: node.log.read_counts(),
        // The simulated one has no breaker.
        providers: node.upstream.statistics(),
    });
    ([(CONTENT_TYPE, OPENMETRICS)], text).into_response()
}
