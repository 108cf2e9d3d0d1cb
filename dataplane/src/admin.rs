//! The admin port (protocol section 6): probes, metrics, and what an operator tells a node.
//!
//! [`control`] is drains, sessions and broadcasts, [`state`] what can be read, [`hints`] how a hint
//! about a session reaches its sockets on this node.

mod control;
mod hints;
mod state;

pub use hints::listen;

use crate::api::{Refused, with_problems};
use crate::metrics::{Gauges, OPENMETRICS};
use crate::node::Node;
use crate::telemetry;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use protocol::ErrorCode;
use std::sync::Arc;

/// Every route of the admin port.
pub fn router(node: Arc<Node>) -> Router {
    let drain = get(control::report).post(control::drain).delete(control::call_off);
    let router = Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/admin/drain", drain)
        .route("/admin/streams", get(state::streams))
        .route("/admin/nodes", get(state::nodes))
        .route("/admin/sessions/{session}/goaway", post(control::goaway))
        .route("/admin/sessions/{session}/close", post(control::close))
        .route("/admin/broadcast", post(control::broadcast))
        .with_state(node.clone());
    with_problems(router)
        .layer(from_fn_with_state(node.clone(), admins_only))
        .layer(from_fn_with_state(node, telemetry::trace_request))
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

/// Ready: new sockets and streams are welcome here. `?verbose` lists the checks.
async fn ready(State(node): State<Arc<Node>>, query: Query<Vec<(String, String)>>) -> Response {
    let serving = node.drain.is_serving();
    let certain = node.lease.certain().is_some();
    let status = if serving && certain { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
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
    let text = format!("[{}] phase: {phase}\n[{}] lease: {lease}\n", sign(serving), sign(certain));
    (status, [(CACHE_CONTROL, "no-store")], text).into_response()
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let text = node.metrics.scrape(Gauges {
        sockets: node.sockets.len(),
        streams: node.streams.len(),
        phase: node.drain.phase(),
        lease: node.lease.certain().is_some(),
        reads: node.log.read_counts(),
    });
    ([(CONTENT_TYPE, OPENMETRICS)], text).into_response()
}
