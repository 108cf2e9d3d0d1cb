//! Traces as a collector gets them: one from a socket to the provider, across a takeover, without a
//! word of what was said; and logs that lead to them. Collectors that hang or refuse delay nobody.

mod collector;

use crate::cluster::{Cluster, Seen, alice, request};
use crate::fixture::{Fixture, PATIENCE, Socket, texts};
use crate::hostile::Logs;
use crate::playground::eventually;
use crate::process::{Setup, yaml};
use collector::{Collector, Told};
use dataplane::node::Node;
use dataplane::telemetry::otlp::{Endpoint, Exporting};
use dataplane::telemetry::{self, TraceContext};
use protocol::sim::Directive;
use protocol::{Epoch, Index, ServerFrame};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

const SECRET: &str = "words-between-alice-and-the-model";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// OTLP's numbers of kinds.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

fn traceparent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

fn send_to(node: &Node, collector: &Collector) -> Exporting {
    Exporting::start(node, &Endpoint::OfSettings(collector.address.clone())).unwrap()
}

/// Sends what is left; the collector runs on this thread meanwhile.
async fn flush(exporting: Exporting) {
    tokio::task::spawn_blocking(move || exporting.end(PATIENCE)).await.unwrap();
}

/// A socket of alice whose upgrade is a part of the caller's trace, after its WELCOME.
async fn traced_socket(fixture: &Fixture) -> Socket {
    let uri = format!("ws://{}/ws/chat", fixture.address());
    let mut request = uri.into_client_request().unwrap();
    let token = fixture.token("alice", Duration::from_secs(600));
    for (name, value) in [
        ("authorization", format!("Bearer {token}")),
        ("sec-websocket-protocol", "chatcluster.v1".to_owned()),
        ("traceparent", traceparent()),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
    }
    let tcp = TcpStream::connect(fixture.address()).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async(request, tcp).await.unwrap();
    let mut socket = Socket { socket };
    assert!(matches!(socket.frame().await, ServerFrame::Welcome(_)));
    socket
}

/// Asks for an answer, and follows it to its end.
async fn ask(socket: &mut Socket, content: &str) -> Vec<ServerFrame> {
    let options = json!({"model": "tiny-1", "temperature": 0.5, "maxTokens": 100});
    socket.say(json!({"type": "CHAT_REQUEST", "content": content, "options": options})).await;
    socket.until_end().await
}

fn assert_child(child: &Told, parent: &Told) {
    assert_eq!((&child.trace, &child.parent), (&parent.trace, &parent.id), "{child:?}");
}

fn assert_attributes(span: &Told, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        let found = span.attributes.get(*key).map(String::as_str);
        assert_eq!(found, Some(*value), "{key} of {span:?}");
    }
}

#[tokio::test]
async fn an_answer_is_one_trace_from_the_socket_to_the_provider() {
    let collector = Collector::start().await;
    let fixture = Fixture::start().await;
    let exporting = send_to(&fixture.node, &collector);
    let mut socket = traced_socket(&fixture).await;
    let content = format!("[sim tokens=4 rate=1000] {SECRET}");
    let frames = ask(&mut socket, &content).await;
    assert_eq!(texts(&frames, 0).len(), 4);
    drop(socket);
    eventually(async || fixture.node.sockets.is_empty() && fixture.node.streams.is_empty()).await;
    flush(exporting).await;

    let upgrade = collector.span("GET /ws/chat");
    assert_eq!((upgrade.trace.as_str(), upgrade.parent.as_str()), (TRACE, CALLER));
    assert_eq!(upgrade.kind, SERVER);
    assert_attributes(&upgrade, &[("http.response.status_code", "101")]);
    let socket = collector.span("socket");
    assert_child(&socket, &upgrade);
    assert_attributes(&socket, &[("chatcluster.dialect", "v1")]);
    let asked = collector.span("CHAT_REQUEST");
    assert_child(&asked, &socket);
    assert_attributes(&asked, &[("chatcluster.duplicate", "false")]);
    let stream = collector.span("stream");
    assert_child(&stream, &asked);
    assert_attributes(
        &stream,
        &[("chatcluster.seal.status", "completed"), ("chatcluster.chunks", "4")],
    );
    assert_eq!(
        stream.attributes["chatcluster.message.id"],
        asked.attributes["chatcluster.message.id"]
    );
    let chat = collector.span("chat tiny-1");
    assert_child(&chat, &stream);
    assert!(chat.kind == CLIENT && stream.kind == INTERNAL && !chat.error);
    assert_attributes(
        &chat,
        &[
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "scripted"),
            ("gen_ai.request.model", "tiny-1"),
            ("gen_ai.request.max_tokens", "100"),
            ("gen_ai.response.model", "scripted"),
            ("gen_ai.response.finish_reasons", "stop"),
            ("gen_ai.usage.input_tokens", "1"),
            ("gen_ai.usage.output_tokens", "2"),
        ],
    );
    let first: f64 = chat.attributes["gen_ai.response.time_to_first_chunk"].parse().unwrap();
    assert!(first > 0.0 && first * 1e9 <= chat.nanos as f64 + 1e9, "{first} of {}", chat.nanos);
    assert_eq!(chat.resource["service.name"], "chatcluster-dataplane");
    assert_eq!(chat.resource["chatcluster.node"], "edge-1");
    assert_eq!(collector.spans().len(), 5, "nothing for a chunk: {:?}", collector.spans());
}

#[tokio::test]
async fn no_span_holds_a_word_of_what_was_said_or_a_token_or_a_user() {
    let collector = Collector::start().await;
    let fixture = Fixture::start().await;
    let exporting = send_to(&fixture.node, &collector);
    let mut socket = traced_socket(&fixture).await;
    let completed = format!("[sim tokens=4 rate=0 seed=4] {SECRET}");
    ask(&mut socket, &completed).await;
    ask(&mut socket, &format!("[sim tokens=4 rate=0 fail=2] {SECRET}")).await;
    // A directive that is none: the provider refuses, and quotes what it was asked.
    ask(&mut socket, &format!("[sim tokens={SECRET}]")).await;
    let token = fixture.token("alice", Duration::from_secs(600));
    let alice = crate::api::Caller::new(&fixture, "alice");
    alice.read_all(alice.ask(&completed).await.message_id).await;
    drop(socket);
    eventually(async || fixture.node.sockets.is_empty() && fixture.node.streams.is_empty()).await;
    flush(exporting).await;

    let errors: Vec<_> = collector.spans().into_iter().filter(|span| span.error).collect();
    let mut types: Vec<_> = errors.iter().map(|span| &*span.attributes["error.type"]).collect();
    types.sort_unstable();
    assert_eq!(types, ["UPSTREAM_ERROR", "UPSTREAM_UNAVAILABLE", "refused", "unavailable"]);
    let asked = "POST /api/v1/conversations/{conversation}/messages";
    let streams = collector.spans().into_iter().filter(|span| span.name == "stream");
    assert!(streams.into_iter().any(|stream| stream.parent == collector.span(asked).id));
    let directive = Directive::parse(&completed).unwrap();
    let words = (0..4).map(|at| directive.chunk(Index(at), Epoch(1)).content);
    // Some words of the simulated provider are words of ours.
    let strange = |word: &str| matches!(word, "ledger" | "copper" | "garden" | "paper");
    let answer = words.map(|word| word.trim().to_owned()).find(|word| strange(word)).unwrap();
    let (signature, tag) = (token.rsplit('.').next().unwrap(), "enduser.pseudo.id");
    for secret in [SECRET, "[sim", &answer, "Bearer", signature, "alice", "as asked"] {
        assert!(!collector.holds(secret), "{secret:?} was sent");
    }
    assert_eq!(collector.span("socket").attributes[tag].len(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_successor_goes_on_in_the_trace_of_the_request() {
    const LONG: &str = "[sim tokens=60 rate=20]";
    let collector = Collector::start().await;
    let cluster = Cluster::start(2, dataplane::playground::settings()).await;
    let exporting = send_to(&cluster.node(1), &collector);
    let trace = TraceContext::parse(&traceparent()).unwrap();
    let node = cluster.node(0);
    let accepted = node.accept_in_trace(&alice(), request(LONG), Some(&trace)).await.unwrap();
    Seen::until(&cluster.node(1), accepted.message_id, 20).await.unwrap();
    cluster.members[0].kill();
    Seen::all(&cluster.node(1), accepted.message_id).await.assert_completed(LONG);
    // The producer says so a moment after its followers know.
    eventually(async || cluster.node(1).streams.is_empty()).await;
    flush(exporting).await;
    let stream = collector.span("stream");
    assert_eq!((stream.trace.as_str(), stream.parent.as_str()), (TRACE, CALLER));
    let message = accepted.message_id.to_string();
    assert_attributes(
        &stream,
        &[
            ("chatcluster.epoch", "2"),
            ("chatcluster.takeover.mode", "continue"),
            ("chatcluster.message.id", &message),
            ("chatcluster.chunks", "60"),
        ],
    );
    assert_child(&collector.span("chat"), &stream);
}

/// The first log line with this message.
fn line(logs: &Logs, message: &str) -> Value {
    let lines = logs.text();
    let read = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut found = read.filter(|line| line["message"] == message);
    found.next().unwrap_or_else(|| panic!("no {message:?} in\n{lines}"))
}

#[tokio::test]
async fn log_lines_name_trace_span_session_user_and_message() {
    let logs = Logs::default();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(true, logs.clone(), false));
    let fixture = Fixture::start().await;
    let mut socket = traced_socket(&fixture).await;
    let frames = ask(&mut socket, &format!("[sim tokens=4 rate=0 fail=2] {SECRET}")).await;
    let Some(ServerFrame::Complete(complete)) = frames.last() else { panic!("{frames:?}") };
    drop(socket);
    eventually(async || fixture.node.sockets.is_empty()).await;
    eventually(async || logs.text().contains("socket ended")).await;
    let (upstream, ended) = (line(&logs, "upstream"), line(&logs, "socket ended"));
    assert_eq!(upstream["level"], "WARN");
    assert_eq!(upstream["span"]["message_id"], complete.message_id.to_string());
    let user = upstream["span"]["user"].as_str().unwrap();
    assert!(user.len() == 16 && user.bytes().all(|b| b.is_ascii_hexdigit()), "{user}");
    assert_eq!(ended["span"]["user"], user);
    assert!(protocol::SessionId::parse(ended["span"]["session_id"].as_str().unwrap()).is_some());
    for told in [&upstream, &ended] {
        assert_eq!(told["span"]["trace_id"], TRACE, "{told}");
        assert_eq!(told["span"]["span_id"].as_str().unwrap().len(), 16, "{told}");
        assert_eq!(told["span"]["node"], "edge-1", "{told}");
        assert!(told["timestamp"].as_str().unwrap().ends_with('Z'), "{told}");
    }
    assert_ne!(upstream["span"]["span_id"], ended["span"]["span_id"]);
    for secret in [SECRET, "\"alice\"", "Bearer"] {
        assert!(!logs.text().contains(secret), "{secret}");
    }
}

/// Twenty answers of a node whose spans go to an address, every 50 ms. Its metrics as soon as they are
/// `enough`, and how long it took to end after SIGTERM.
async fn run_against(address: &str, enough: impl Fn(&str) -> bool) -> (String, Duration) {
    let mut setup = Setup::new(&yaml("drain:\n  lingerMs: 100\n"));
    setup.set("OTEL_EXPORTER_OTLP_ENDPOINT", address);
    setup.set("OTEL_BSP_SCHEDULE_DELAY", "50");
    let mut running = setup.run();
    eventually(async || running.ready().await == 200).await;
    let mut socket = running.call().welcomed().await;
    for _ in 0..20 {
        let began = Instant::now();
        let frames = ask(&mut socket, "[sim tokens=20 rate=0]").await;
        assert_eq!(texts(&frames, 0).len(), 20);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    drop(socket);
    let url = format!("http://{}/metrics", running.admin);
    let metrics = async || reqwest::get(&url).await.unwrap().text().await.unwrap();
    eventually(async || enough(&metrics().await)).await;
    let text = metrics().await;
    running.signal("TERM");
    let (code, took) = running.ends().await;
    assert_eq!(code, Some(0));
    (text, took)
}

const NONE_FAILED: &str = "chatcluster_trace_exports_total{outcome=\"failed\"} 0";
const NONE_TAKEN: &str = "chatcluster_trace_exports_total{outcome=\"ok\"} 0";

#[tokio::test]
async fn a_collector_that_hangs_slows_no_answer_and_no_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    // Taken, read by nobody, and never answered.
    let hanging = tokio::spawn({
        let taken = taken.clone();
        async move {
            let mut held = Vec::new();
            loop {
                held.push(listener.accept().await.unwrap());
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let (metrics, took) = run_against(&address, |_| taken.load(Ordering::Relaxed) > 0).await;
    hanging.abort();
    assert!(metrics.contains(NONE_TAKEN) && metrics.contains(NONE_FAILED), "it hangs");
    // Its drain has nothing to do; what is left is the bound of the last spans.
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_counted_and_one_that_is_gets_the_spans() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failed = |metrics: &str| !metrics.contains(NONE_FAILED);
    let (metrics, took) = run_against(&format!("http://{free}"), failed).await;
    assert!(metrics.contains(NONE_TAKEN), "{metrics}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    let collector = Collector::start().await;
    let sent = |metrics: &str| !metrics.contains(NONE_TAKEN);
    let (metrics, _) = run_against(&collector.address, sent).await;
    assert!(metrics.contains(NONE_FAILED), "{metrics}");
    let calls = collector.spans().into_iter().filter(|span| span.name == "chat tiny-1");
    let calls: Vec<_> = calls.collect();
    assert_eq!(calls.len(), 20, "the last ones were sent on the way out");
    assert_attributes(&calls[0], &[("gen_ai.provider.name", "simulated")]);
    assert_eq!(collector.spans().iter().filter(|span| span.name == "socket").count(), 1);
}

#[tokio::test]
async fn the_standard_sampler_decides_what_is_sent() {
    let collector = Collector::start().await;
    let mut setup = Setup::new(&yaml("drain:\n  lingerMs: 100\n"));
    setup.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address);
    setup.set("OTEL_TRACES_SAMPLER", "always_off");
    let mut running = setup.run();
    eventually(async || running.ready().await == 200).await;
    let mut socket = running.call().welcomed().await;
    ask(&mut socket, "[sim tokens=5 rate=0]").await;
    drop(socket);
    running.signal("TERM");
    assert_eq!(running.ends().await.0, Some(0));
    assert_eq!(collector.spans().len(), 0);
}
