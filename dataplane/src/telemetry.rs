//! Logs: JSON lines with trace ids, no content, no token.
//!
//! A request's span carries its trace id, method and route: the route as it was declared, never the
//! path or the query a client sent. A panic's message may quote what a user wrote, so that only its
//! place is logged.

use crate::node::Node;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use std::io::IsTerminal;
use std::sync::Arc;
use streamlog::Ids;
use tracing::{Instrument, Subscriber, info_span};
use tracing_subscriber::filter::EnvFilter;
pub use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Starts logging to standard error: JSON for machines, or lines for people. `RUST_LOG` chooses the
/// level, `info` if it is not set. Once a process; a later call changes nothing.
pub fn init(json: bool) {
    init_at(json, LevelFilter::INFO);
}

/// As [`init`], with another level where `RUST_LOG` is not set.
pub fn init_at(json: bool, level: LevelFilter) {
    let filter = EnvFilter::builder().with_default_directive(level.into());
    let subscriber = subscriber(json, std::io::stderr, std::io::stderr().is_terminal());
    if subscriber.with(filter.from_env_lossy()).try_init().is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// What [`init`] installs, writing elsewhere. Times are RFC 3339 UTC.
pub fn subscriber<W>(json: bool, writer: W, ansi: bool) -> impl Subscriber + SubscriberInitExt
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if json {
        Box::new(lines.json().flatten_event(true).with_span_list(false))
    } else {
        Box::new(lines.with_ansi(ansi))
    };
    tracing_subscriber::registry().with(lines)
}

fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    // A literal is ours; whatever was formatted may quote a user.
    let what = info.payload().downcast_ref::<&str>().copied().unwrap_or("(not logged)");
    tracing::error!(place, what, "panic");
}

/// Puts each request into a span of its own, and logs how it was answered. Whatever an upgrade
/// spawns should be instrumented with the current span to keep the trace id.
pub async fn trace_request(
    State(node): State<Arc<Node>>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    let trace_id = trace_id(request.headers(), &node.ids);
    let span = info_span!(
        "request", %trace_id, node = %node.owner.node, method = %request.method(), route,
    );
    let began = node.clock.now();
    async {
        let response = next.run(request).await;
        let status = response.status();
        let ms = node.clock.now().saturating_duration_since(began).as_millis() as u64;
        // A node that drains or has no store says 503 to everybody, and says elsewhere why.
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(status = status.as_u16(), ms, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), ms, "answered");
        }
        response
    }
    .instrument(span)
    .await
}

/// The caller's trace id (W3C Trace Context, `traceparent`), or a new one: 32 hexadecimal digits.
pub fn trace_id(headers: &HeaderMap, ids: &Ids) -> String {
    let given = headers.get("traceparent").and_then(|value| parent(value.to_str().ok()?));
    let random = || format!("{:016x}{:016x}", ids.below(u64::MAX), ids.below(u64::MAX));
    given.map_or_else(random, str::to_owned)
}

/// The trace id of `00-<32 digits>-<16 digits>-<2 digits>`. Later versions may append fields.
fn parent(text: &str) -> Option<&str> {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut fields = text.split('-');
    let (version, trace) = (fields.next()?, fields.next()?);
    let (span, flags) = (fields.next()?, fields.next()?);
    let known = hex(version, 2) && version != "ff" && (version != "00" || fields.next().is_none());
    let good = known && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    let is_zero = |text: &str| text.bytes().all(|b| b == b'0');
    (good && !is_zero(trace) && !is_zero(span)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamlog::Clock;

    #[test]
    fn a_callers_trace_goes_on_and_a_malformed_one_is_replaced() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let good = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(parent(&good), Some(trace));
        assert_eq!(parent(&format!("01-{trace}-00f067aa0ba902b7-01-more")), Some(trace));
        for bad in [
            "",
            "00",
            &format!("ff-{trace}-00f067aa0ba902b7-01"),
            &format!("00-{trace}-00f067aa0ba902b7-01-more"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{trace}-0000000000000000-01"),
            &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            &format!("00-{}\n-00f067aa0ba902b7-01", &trace[1..]),
        ] {
            assert_eq!(parent(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_new_trace_id_has_the_form_of_one() {
        let ids = Ids::seeded(Clock::system(), 1);
        let id = trace_id(&HeaderMap::new(), &ids);
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert_ne!(trace_id(&HeaderMap::new(), &ids), id);
    }
}
