//! A collector of our own: it takes OTLP over HTTP, decodes it, and keeps every span.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

#[derive(Default)]
struct Kept {
    spans: Vec<Told>,
    /// Every body as it came.
    bodies: Vec<Bytes>,
}

/// A span as it was told, attributes as text.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) kind: i32,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) resource: BTreeMap<String, String>,
    pub(super) error: bool,
    pub(super) nanos: u64,
}

pub(super) struct Collector {
    pub(super) address: String,
    kept: Arc<Mutex<Kept>>,
    server: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let kept = Arc::<Mutex<Kept>>::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(kept.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, kept, server }
    }

    pub(super) fn spans(&self) -> Vec<Told> {
        self.kept.lock().unwrap().spans.clone()
    }

    /// The only span of this name.
    pub(super) fn span(&self, name: &str) -> Told {
        let mut found = self.spans().into_iter().filter(|span| span.name == name);
        let names = || self.spans().into_iter().map(|span| span.name).collect::<Vec<_>>();
        let first = found.next().unwrap_or_else(|| panic!("no {name} among {:?}", names()));
        assert!(found.next().is_none(), "one {name} among {:?}", names());
        first
    }

    /// Whether these bytes stand anywhere in what was sent.
    pub(super) fn holds(&self, text: &str) -> bool {
        let kept = self.kept.lock().unwrap();
        kept.bodies.iter().any(|body| body.windows(text.len()).any(|at| at == text.as_bytes()))
    }
}

async fn take(
    State(kept): State<Arc<Mutex<Kept>>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let mut kept = kept.lock().unwrap();
    kept.bodies.push(body);
    for resource_spans in request.resource_spans {
        let resource = texts(resource_spans.resource.unwrap().attributes);
        let spans = resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
        kept.spans.extend(spans.map(|span| told(span, &resource)));
    }
    (StatusCode::OK, Bytes::new())
}

fn told(span: Span, resource: &BTreeMap<String, String>) -> Told {
    assert!(span.events.is_empty(), "log lines stay in the log: {:?}", span.events);
    Told {
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: span.kind,
        attributes: texts(span.attributes),
        resource: resource.clone(),
        error: span.status.is_some_and(|status| status.code == 2),
        nanos: span.end_time_unix_nano - span.start_time_unix_nano,
    }
}

fn texts(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, text(pair.value.unwrap()))).collect()
}

fn text(value: AnyValue) -> String {
    match value.value.unwrap() {
        Value::StringValue(text) => text,
        Value::BoolValue(is) => is.to_string(),
        Value::IntValue(n) => n.to_string(),
        Value::DoubleValue(n) => n.to_string(),
        Value::ArrayValue(list) => list.values.into_iter().map(text).collect::<Vec<_>>().join(","),
        other => panic!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
