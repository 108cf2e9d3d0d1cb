//! The admin port over real sockets: probes, metrics, drains, sessions on any node.

use crate::api::Caller;
use crate::fixture::{Fixture, PATIENCE};
use dataplane::broadcast::{Broadcast, Kind};
use protocol::http::Problem;
use protocol::{DrainPhase, DrainReport, ErrorCode, ServerFrame, SessionId};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// An operator's way to one node.
struct Operator {
    http: Client,
    base: String,
    key: Option<&'static str>,
}

impl Operator {
    fn of(fixture: &Fixture) -> Self {
        let http = Client::builder().no_proxy().build().unwrap();
        Self { http, base: format!("http://{}", fixture.running.admin), key: None }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Response {
        self.request(Method::POST, path).json(&body).send().await.unwrap()
    }

    async fn report(&self) -> DrainReport {
        self.get("/admin/drain").await.json().await.unwrap()
    }
}

async fn code(answer: Response) -> (u16, ErrorCode) {
    let status = answer.status().as_u16();
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!(problem.status, status);
    (status, problem.code)
}

#[tokio::test]
async fn probes_tell_alive_from_ready() {
    let fixture = Fixture::start().await;
    let operator = Operator::of(&fixture);
    assert_eq!(operator.get("/livez").await.text().await.unwrap(), "ok");
    assert_eq!(operator.get("/readyz").await.status(), 200);
    let text = operator.get("/readyz?verbose").await.text().await.unwrap();
    assert_eq!(text, "[+] phase: serving\n[+] lease: certain\n");
    let _socket = fixture.v1().await;
    fixture.node.start_drain(&serde_json::from_value(json!({"epoch": 1})).unwrap()).unwrap();
    assert_eq!(code(operator.get("/readyz").await).await, (503, ErrorCode::Draining));
    let verbose = operator.get("/readyz?verbose").await;
    assert_eq!(verbose.status(), 503);
    assert!(verbose.text().await.unwrap().starts_with("[-] phase: "));
    assert_eq!(operator.get("/livez").await.status(), 200);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    alice.read_all(alice.ask("[sim tokens=5 rate=0]").await.message_id).await;
    let answer = Operator::of(&fixture).get("/metrics").await;
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text().await.unwrap();
    for line in [
        "chatcluster_sockets 0",
        "chatcluster_streams_started_total 1",
        "chatcluster_streams_sealed_total{status=\"completed\",code=\"none\"} 1",
        "chatcluster_chunks_delivered_total{via=\"sse\"} 5",
        "chatcluster_auth_attempts_total{outcome=\"ok\"} 2",
        "chatcluster_drain_phase{phase=\"serving\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
    }
    for secret in ["alice", "[sim", &fixture.node.owner.incarnation.to_string()] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn drains_obey_their_epoch() {
    let fixture = Fixture::start().await;
    let operator = Operator::of(&fixture);
    let _socket = fixture.v1().await;
    let begun = operator.post("/admin/drain", json!({"deadlineMs": 20_000, "epoch": 4})).await;
    assert_eq!(begun.status(), 202);
    let report: DrainReport = begun.json().await.unwrap();
    assert_eq!((report.epoch, report.sessions, report.node.as_str()), (4, 1, "edge-1"));
    assert!(report.phase > DrainPhase::Serving);
    let older = operator.post("/admin/drain", json!({"epoch": 3})).await;
    assert_eq!(code(older).await, (409, ErrorCode::StaleEpoch));
    let call_off = async |query: &str| {
        let request = operator.request(Method::DELETE, &format!("/admin/drain{query}"));
        request.send().await.unwrap()
    };
    assert_eq!(code(call_off("?epoch=3").await).await, (409, ErrorCode::StaleEpoch));
    assert_eq!(code(call_off("").await).await, (409, ErrorCode::StaleEpoch));
    assert_eq!(code(call_off("?epoch=x").await).await, (400, ErrorCode::InvalidMessage));
    assert_eq!(call_off("?epoch=5").await.status(), 200);
    let report = operator.report().await;
    assert_eq!((report.phase, report.epoch, report.remaining_ms), (DrainPhase::Serving, 5, None));
}

#[tokio::test]
async fn a_drain_without_a_body_takes_the_defaults() {
    let fixture = Fixture::start().await;
    let operator = Operator::of(&fixture);
    let _socket = fixture.v1().await;
    let begun = operator.request(Method::POST, "/admin/drain").send().await.unwrap();
    assert_eq!(begun.status(), 202);
    let left = operator.report().await.remaining_ms.unwrap();
    assert!((25_000..=30_000).contains(&left), "{left}");
    for (body, refusal) in [
        ("{", ErrorCode::InvalidJson),
        ("[]", ErrorCode::InvalidMessage),
        (r#"{"deadline": 1}"#, ErrorCode::InvalidMessage),
        (r#"{"epoch": -1}"#, ErrorCode::InvalidMessage),
        (r#"{"policy": "later"}"#, ErrorCode::InvalidMessage),
    ] {
        let answer = operator.request(Method::POST, "/admin/drain").body(body).send().await;
        assert_eq!(code(answer.unwrap()).await, (400, refusal), "{body}");
    }
}

#[tokio::test]
async fn streams_and_nodes_are_listed_without_content() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let message = alice.ask("[sim tokens=100000 rate=50] secret").await.message_id;
    let operator = Operator::of(&fixture);
    let text = operator.get("/admin/streams").await.text().await.unwrap();
    let streams: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(streams[0]["messageId"], json!(message));
    assert_eq!(streams[0]["epoch"], 1);
    assert!(streams[0]["tail"].is_u64() && !text.contains("secret"), "{text}");
    let nodes: Value = operator.get("/admin/nodes").await.json().await.unwrap();
    assert_eq!(nodes[0]["name"], "edge-1");
    assert_eq!((&nodes[0]["alive"], &nodes[0]["accepting"]), (&json!(true), &json!(true)));
    assert_eq!(nodes[0]["incarnation"], json!(fixture.node.owner.incarnation));
}

#[tokio::test]
async fn a_session_is_moved_and_closed_from_any_node() {
    let mut settings = dataplane::playground::settings();
    settings.drain.ignore_ms = 300;
    let fixture = Fixture::with(settings).await;
    let beside = fixture.beside().await;
    let operator = Operator::of(&beside);
    let (mut stays, session) = welcomed(&fixture).await;
    let moved = operator.post(&format!("/admin/sessions/{session}/goaway"), json!({})).await;
    assert_eq!(moved.status(), 202);
    let ServerFrame::Goaway(goaway) = stays.frame().await else { panic!("no GOAWAY") };
    assert_eq!((goaway.reason.as_str(), goaway.deadline_ms), ("rebalance", 300));
    assert_eq!(stays.closed().await, 4002);
    let (mut closed, session) = welcomed(&fixture).await;
    let path = format!("/admin/sessions/{session}/close");
    for bad in [json!({"code": 1006}), json!({"code": 99_999}), json!({"code": "x"}), json!([])] {
        let answer = operator.post(&path, bad).await;
        assert_eq!(code(answer).await, (400, ErrorCode::InvalidMessage));
    }
    assert_eq!(operator.post(&path, json!({"code": 4501})).await.status(), 202);
    assert_eq!(closed.closed().await, 4501);
}

#[tokio::test]
async fn an_unknown_session_is_not_found() {
    let fixture = Fixture::start().await;
    let operator = Operator::of(&fixture);
    let nobody = SessionId(fixture.node.ids.uuid());
    for what in ["goaway", "close"] {
        let answer = operator.post(&format!("/admin/sessions/{nobody}/{what}"), json!({})).await;
        assert_eq!(code(answer).await, (404, ErrorCode::NotFound));
        let answer = operator.post(&format!("/admin/sessions/nobody/{what}"), json!({})).await;
        assert_eq!(code(answer).await, (400, ErrorCode::InvalidMessage));
    }
}

#[tokio::test]
async fn broadcasts_are_a_closed_set() {
    let fixture = Fixture::start().await;
    let operator = Operator::of(&fixture);
    for bad in [json!({"type": "REBOOT"}), json!({}), json!({"type": 7})] {
        let answer = operator.post("/admin/broadcast", bad).await;
        assert_eq!(code(answer).await, (400, ErrorCode::InvalidMessage));
    }
    for kind in ["NODE_STARTUP", "NODE_SHUTDOWN", "CACHE_INVALIDATE", "CONFIG_UPDATE"] {
        assert_eq!(operator.post("/admin/broadcast", json!({"type": kind})).await.status(), 202);
    }
}

#[tokio::test]
async fn a_broadcast_says_what_who_and_when_and_is_heeded_by_the_others_only() {
    let fixture = Fixture::start().await;
    let beside = fixture.beside().await;
    let mut hints = fixture.node.bus.subscribe();
    let operator = Operator::of(&fixture);
    assert_eq!(
        operator.post("/admin/broadcast", json!({"type": "HEALTH_CHECK"})).await.status(),
        202
    );
    let told = loop {
        let hint = timeout(PATIENCE, hints.recv()).await.unwrap().unwrap();
        let streamlog::BusEvent::Broadcast(text) = hint.event else { panic!("{hint:?}") };
        let told: Broadcast = serde_json::from_str(&text).unwrap();
        if told.kind == Kind::HealthCheck {
            break told;
        }
    };
    let owner = &fixture.node.owner;
    assert_eq!((&told.node, told.incarnation), (&owner.node, owner.incarnation));
    assert!(told.time <= fixture.node.clock.wall());
    let line = |outcome: &str| {
        format!("chatcluster_broadcasts_total{{event=\"HEALTH_CHECK\",outcome=\"{outcome}\"}} 1")
    };
    let metrics = async |of: &Fixture| Operator::of(of).get("/metrics").await.text().await.unwrap();
    crate::playground::eventually(async || metrics(&beside).await.contains(&line("received")))
        .await;
    let own = metrics(&fixture).await;
    assert!(own.contains(&line("published")) && !own.contains(&line("received")), "{own}");
}

#[tokio::test]
async fn the_admin_key_guards_everything_below_admin_and_nothing_else() {
    let fixture = Fixture::guarded(dataplane::playground::settings(), Some("let me in")).await;
    let mut operator = Operator::of(&fixture);
    for key in [None, Some("let me"), Some("let me in!"), Some("")] {
        operator.key = key;
        for path in ["/admin/drain", "/admin/nodes", "/admin/nothing", "/admin"] {
            let answer = operator.get(path).await;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            assert_eq!(code(answer).await, (401, ErrorCode::Unauthenticated), "{key:?} {path}");
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(operator.get(path).await.status(), 200, "{path}");
        }
    }
    operator.key = Some("let me in");
    assert_eq!(operator.get("/admin/drain").await.status(), 200);
    assert_eq!(code(operator.get("/admin/nothing").await).await, (404, ErrorCode::NotFound));
    let wrong = operator.request(Method::PUT, "/admin/nodes").send().await.unwrap();
    assert_eq!(wrong.headers()["allow"], "GET,HEAD");
    assert_eq!(code(wrong).await, (405, ErrorCode::InvalidMessage));
}

async fn welcomed(fixture: &Fixture) -> (crate::fixture::Socket, SessionId) {
    let session = SessionId(fixture.node.ids.uuid());
    let mut call = fixture.call();
    call.query = format!("?sessionId={session}");
    let socket = timeout(Duration::from_secs(5), call.welcomed()).await.unwrap();
    (socket, session)
}
