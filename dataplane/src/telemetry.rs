//! Logs and traces: JSON lines with trace ids, and spans for a collector. No content, no token, no
//! user's name in either.
//!
//! [`trace_context`] is a place in a trace, [`spans`] are all spans with their names, [`request`] puts
//! each HTTP request into one, [`provider`] is who takes a call, [`otlp`] sends them, [`user_tags`]
//! names users without naming them.
//!
//! A request's span carries its trace id, method and route: the route as it was declared, never the
//! path or the query a client sent. A panic's message may quote what a user wrote, so that only its
//! place is logged.

pub mod otlp;
pub mod provider;
pub mod request;
pub mod spans;
pub mod trace_context;
pub mod user_tags;

pub use request::trace_request;
pub use spans::{Span, Spans};
pub use trace_context::TraceContext;
pub use tracing_subscriber::filter::LevelFilter;

use protocol::UserId;
use std::io::IsTerminal;
use streamlog::Ids;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};
use user_tags::UserTags;

/// What a node tells about its work.
pub struct Telemetry {
    /// Where its spans are made.
    pub spans: Spans,
    users: UserTags,
}

impl Telemetry {
    /// `key` names users, see [`UserTags`].
    pub fn new(ids: Ids, key: &[u8]) -> Self {
        Self { spans: Spans::new(ids), users: UserTags::new(key) }
    }

    /// A user's name in logs and spans.
    pub fn user(&self, user: &UserId) -> String {
        self.users.tag(user)
    }
}

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
