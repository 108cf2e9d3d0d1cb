//! The span of an HTTP request, in logs and in traces.

use super::trace_context::TraceContext;
use crate::node::Node;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;
use tracing::{Instrument, info_span};

/// Asked every few seconds, by machines, about nobody: no traces of these.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Puts each request into a span of its own, and logs how it was answered. Handlers find the
/// request's [`TraceContext`] among its extensions.
pub async fn trace_request(
    State(node): State<Arc<Node>>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    let parent = TraceContext::of_headers(request.headers());
    let (spans, method) = (&node.telemetry.spans, request.method().clone());
    let mut span = if PROBES.contains(&route) {
        spans.probe(parent.as_ref())
    } else {
        spans.request(parent.as_ref(), known(&method), route)
    };
    let context = span.context().clone();
    let log = info_span!(
        "request", trace_id = %context.trace_id(), span_id = %context.span_id(),
        node = %node.owner.node, %method, route,
    );
    request.extensions_mut().insert(context);
    let began = node.clock.now();
    async {
        let response = next.run(request).await;
        let status = response.status();
        span.answered(status);
        let ms = node.clock.now().saturating_duration_since(began).as_millis() as u64;
        // A node that drains or has no store says 503 to everybody, and says elsewhere why.
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(status = status.as_u16(), ms, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), ms, "answered");
        }
        response
    }
    .instrument(log)
    .await
}

/// Methods that HTTP knows; a client may invent others (OpenTelemetry: `_OTHER`).
fn known(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}
