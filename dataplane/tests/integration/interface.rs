//! The documents of the interface: what lies in `docs/` is what is served, and what is served is true
//! of the program: every route, every frame in both directions, every refusal that tests provoke.

pub(crate) mod schema;

use crate::api::Caller;
use crate::fixture::{Call, Fixture};
use dataplane::api::interface::{asyncapi, client_frame_schemas, openapi, text};
use protocol::server_frame::{
    Accepted, Complete, ErrorData, Goaway, HeartbeatAck, Recovery, RecoveryStatus, Reset,
    ResetReason, Source, Status, StreamState, Takeover, TakeoverMode, TokenExpiring, Welcome,
    WelcomeV1,
};
use protocol::{
    Chunk, ChunkType, ClientFrame, CloseCode, ConversationId, Digest, Epoch, ErrorCode, Index,
    MessageId, RequestId, SealStatus, ServerFrame, SessionId, Usage, UserId,
};
use schema::Schema;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

static OPENAPI: LazyLock<Value> = LazyLock::new(openapi::document);
static ASYNCAPI: LazyLock<Value> = LazyLock::new(asyncapi::document);
const MINUTE: Duration = Duration::from_secs(60);
const NOW: &str = "2026-01-01T00:00:00Z";

/// Compares with the file in `docs/`, or writes it.
fn assert_committed(name: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let now = text(document);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let line = committed.lines().zip(now.lines()).position(|(old, new)| old != new);
    assert!(
        committed == now,
        "docs/{name} is not what the program speaks, from line {} on. Look at the change, and write it: \
         UPDATE_DOCS=1 cargo test --workspace --test integration interface",
        line.unwrap_or(0) + 1
    );
}

#[test]
fn the_committed_documents_are_the_programs() {
    assert_committed("openapi.json", &openapi::document());
    assert_committed("asyncapi.json", &asyncapi::document());
}

#[tokio::test]
async fn the_documents_are_served_to_everybody() {
    let fixture = Fixture::start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, expected) in
        [("openapi.json", openapi::document()), ("asyncapi.json", asyncapi::document())]
    {
        let url = format!("http://{}/{path}", fixture.address());
        let answer = http.get(url).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.json::<Value>().await.unwrap(), expected);
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_name_is_used_once() {
    for document in [openapi::document(), asyncapi::document()] {
        let mut references = Vec::new();
        collect(&document, "$ref", &mut references);
        assert!(references.len() > 30, "{}", references.len());
        for reference in references {
            let pointer = reference.strip_prefix('#').expect("of this document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        assert!(!document.to_string().contains("[`"), "a link of rustdoc");
        let mut ids = Vec::new();
        collect(&document, "operationId", &mut ids);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    }
}

fn collect(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect(field, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, key, found)),
        _ => {}
    }
}

/// A route of `openapi.json`.
pub(crate) struct Operation {
    pub(crate) method: reqwest::Method,
    pub(crate) path: String,
    pub(crate) admin: bool,
    pub(crate) documented: Value,
}

impl Operation {
    /// Its name.
    pub(crate) fn id(&self) -> &str {
        self.documented["operationId"].as_str().unwrap()
    }

    /// Whether it asks who the user is.
    pub(crate) fn knows_its_user(&self) -> bool {
        let needs = self.documented["security"].as_array().into_iter().flatten();
        needs.into_iter().any(|need| need.get("token").is_some())
    }

    /// Panics where an answer is none of those that are documented.
    pub(crate) fn assert_documented(&self, status: u16, body: &Value) {
        let name = format!("{} {} answers {status}: {body}", self.method, self.path);
        let response = &self.documented["responses"][status.to_string()];
        assert!(response.is_object(), "{name}, which is not documented");
        if status >= 400 {
            let schema = &response["content"]["application/problem+json"]["schema"];
            Schema::new(&OPENAPI).assert_valid(schema, body, &name);
        }
    }
}

/// All of them.
pub(crate) fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in OPENAPI["paths"].as_object().unwrap() {
        for (method, documented) in item.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<reqwest::Method>() else { continue };
            if documented.get("operationId").is_none() {
                continue;
            }
            let admin = item.get("servers").is_some();
            let (path, documented) = (path.clone(), documented.clone());
            operations.push(Operation { method, path, admin, documented });
        }
    }
    assert!(operations.len() >= 18, "{}", operations.len());
    operations
}

/// The path with a fresh id for each parameter.
fn with_ids(path: &str) -> String {
    let fresh = |part: &str| {
        if part.starts_with('{') { Uuid::from_u128(7).to_string() } else { part.to_owned() }
    };
    path.split('/').map(fresh).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_documented_route_is_there_and_nothing_else_is() {
    let fixture = Fixture::start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |operation: &Operation| {
        let port = if operation.admin { fixture.running.admin } else { fixture.address() };
        format!("http://{port}{}", with_ids(&operation.path))
    };
    let operations = operations();
    for operation in &operations {
        let body = if operation.method == "POST" { "{" } else { "" };
        let request = http.request(operation.method.clone(), url(operation)).body(body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert_ne!(status, 405, "{} {}", operation.method, operation.path);
        if status >= 400 {
            let body: Value = answer.json().await.unwrap();
            let detail = body["detail"].as_str().unwrap_or_default();
            assert_ne!(detail, "no such path", "{} {}", operation.method, operation.path);
            operation.assert_documented(status, &body);
        }
        let known: Vec<_> = operations
            .iter()
            .filter(|other| other.path == operation.path)
            .map(|other| other.method.as_str())
            .collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if known.contains(&method) {
                continue;
            }
            let request = http.request(method.parse().unwrap(), url(operation));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 405, "{method} {}", operation.path);
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            assert!(answer.headers().contains_key("allow"), "{method} {}", operation.path);
            assert_eq!(answer.json::<Value>().await.unwrap()["code"], "INVALID_MESSAGE");
        }
    }
}

/// A route that is declared in another way would be in no document, and in no table of tests.
#[test]
fn routes_are_declared_with_their_documentation_only() {
    for (name, source) in [
        ("api/mod.rs", include_str!("../../src/api/mod.rs")),
        ("admin.rs", include_str!("../../src/admin.rs")),
    ] {
        for way in [".route(", ".nest(", ".route_service(", ".nest_service("] {
            assert!(!source.contains(way), "{name}: {way} has no documentation; use `routes!`");
        }
    }
}

#[tokio::test]
async fn whatever_is_refused_on_either_port_is_a_problem() {
    let fixture = Fixture::guarded(dataplane::playground::settings(), Some("the key")).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ports = [
        ("data", fixture.address(), fixture.token("alice", MINUTE)),
        ("admin", fixture.running.admin, "the key".to_owned()),
    ];
    let large = "x".repeat(256 * 1024 + 1);
    let cases = [
        ("data", "GET", "/api/v1/nothing", "", 404),
        ("data", "GET", "/api/v1/messages/%ff", "", 400),
        ("data", "GET", "/api/v1/messages/%ff/stream", "", 400),
        ("data", "POST", "/api/v1/conversations/%ff/messages", "{}", 400),
        ("data", "POST", "/api/v1/conversations/new/messages", "{", 400),
        ("data", "POST", "/api/v1/conversations/new/messages", &large, 413),
        ("data", "PUT", "/api/v1/sessions", "", 405),
        ("data", "POST", "/openapi.json", "", 405),
        ("data", "GET", "/ws/chat", "", 426),
        ("admin", "GET", "/nothing", "", 404),
        ("admin", "GET", "/admin/nothing", "", 404),
        ("admin", "POST", "/livez", "", 405),
        ("admin", "PATCH", "/admin/drain", "", 405),
        ("admin", "POST", "/admin/drain", "{", 400),
        ("admin", "POST", "/admin/drain", &large, 413),
        ("admin", "DELETE", "/admin/drain?epoch=%ff", "", 400),
        ("admin", "POST", "/admin/sessions/%ff/close", "", 400),
        ("admin", "POST", "/admin/sessions/018f4d5e-0000-7000-8000-000000000001/close", "", 404),
        ("admin", "POST", "/admin/broadcast", "7", 400),
    ];
    let document: &Value = &OPENAPI;
    for (port, method, path, body, status) in cases {
        let (_, address, key) = ports.iter().find(|(name, ..)| *name == port).unwrap();
        let request = http.request(method.parse().unwrap(), format!("http://{address}{path}"));
        let answer = request.bearer_auth(key).body(body.to_owned()).send().await.unwrap();
        let name = format!("{method} {path} on the {port} port");
        assert_eq!(answer.status(), status, "{name}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{name}");
        assert_eq!(answer.headers()["cache-control"], "no-store", "{name}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], status, "{name}");
        let schema = &document["components"]["schemas"]["Problem"];
        Schema::strict(document).assert_valid(schema, &problem, &name);
    }
}

#[tokio::test]
async fn bodies_of_answers_are_as_documented() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let accepted = alice.ask("[sim tokens=3 rate=500]").await;
    alice.read_all(accepted.message_id).await;
    let _socket = fixture.v1().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let document: &Value = &OPENAPI;
    let mut seen = 0;
    for operation in operations().iter().filter(|o| o.method == "GET" && o.id() != "follow") {
        let port = if operation.admin { fixture.running.admin } else { fixture.address() };
        let path = operation.path.replace("{message}", &accepted.message_id.to_string());
        let token = fixture.token("alice", MINUTE);
        let request = http.get(format!("http://{port}{path}")).bearer_auth(token);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16().to_string();
        let documented = &operation.documented["responses"][&status];
        assert!(documented.is_object(), "{path}: {status}");
        let Some(schema) = documented["content"].get("application/json") else { continue };
        let body: Value = answer.json().await.unwrap();
        Schema::strict(document).assert_valid(&schema["schema"], &body, &path);
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}

fn message_id() -> MessageId {
    MessageId(Uuid::from_u128(1))
}

/// Each kind of frame that the server has, with every field that it may carry.
fn full_frames() -> Vec<ServerFrame> {
    let mut frames = frames_of_a_session();
    frames.extend(frames_of_an_answer());
    frames
}

fn frames_of_a_session() -> Vec<ServerFrame> {
    let at: jiff::Timestamp = NOW.parse().unwrap();
    let v1 = WelcomeV1 {
        protocol: "chatcluster.v1".into(),
        node: "n".into(),
        heartbeat_ms: 1,
        max_content_chars: 2,
        coalesce_ms: 3,
        token_expires_at: at,
        resume_token: "r".into(),
    };
    let session_id = SessionId(Uuid::from_u128(3));
    let welcome = Welcome { session_id, user_id: UserId::new("u"), server_time: at, v1: Some(v1) };
    let error = ErrorData {
        retry_after_ms: Some(1),
        request_id: RequestId::parse("r-1"),
        status: Some(RecoveryStatus::Expired),
        should_reconnect: Some(false),
        ..ErrorData::last(ErrorCode::Expired, message_id())
    };
    let goaway = Goaway {
        reason: "drain".into(),
        deadline_ms: 1,
        reconnect_after_ms: 2,
        resume_token: "r".into(),
    };
    vec![
        ServerFrame::Welcome(Welcome { v1: None, ..welcome.clone() }),
        ServerFrame::Welcome(welcome),
        ServerFrame::Goaway(goaway),
        ServerFrame::TokenExpiring(TokenExpiring { expires_at: at }),
        ServerFrame::HeartbeatAck(HeartbeatAck::default()),
        ServerFrame::HeartbeatAck(HeartbeatAck { t: Some(json!({"a": [1]})) }),
        ServerFrame::Error(error),
        ServerFrame::Error(ErrorData::new(ErrorCode::InvalidJson)),
    ]
}

fn frames_of_an_answer() -> Vec<ServerFrame> {
    let (message_id, epoch, index) = (message_id(), Epoch(2), Index(3));
    let conversation_id = ConversationId(Uuid::from_u128(2));
    let seal = protocol::Seal {
        status: SealStatus::Failed,
        finish_reason: "error".into(),
        model: "m".into(),
        usage: Usage::default(),
        latency_ms: 1,
        first_token_ms: None,
        code: Some(ErrorCode::Interrupted),
    };
    let complete = Complete::new(message_id, conversation_id, index, Digest::EMPTY, &seal);
    let accepted = Accepted {
        request_id: RequestId::parse("r-1"),
        conversation_id,
        user_message_id: message_id,
        message_id,
        duplicate: false,
    };
    let recovery = Recovery {
        message_id,
        status: RecoveryStatus::Recovered,
        from: index,
        tail: index,
        epoch,
        live: true,
        digest: Digest::EMPTY,
        source: Source::Memory,
    };
    let reason = ResetReason::RolledBack;
    let (mode, state) = (TakeoverMode::ProviderResume, StreamState::Paused);
    let away = Some(ErrorCode::StoreUnavailable);
    vec![
        ServerFrame::Accepted(accepted),
        ServerFrame::Complete(Complete { first_token_ms: Some(3), ..complete.clone() }),
        ServerFrame::Complete(Complete { content: Some("x".into()), ..complete }),
        ServerFrame::Recovery(recovery),
        ServerFrame::Reset(Reset { message_id, reason, truncate_to: index, epoch }),
        ServerFrame::Takeover(Takeover { message_id, epoch, from: index, mode }),
        ServerFrame::Status(Status { message_id, state, reason: away }),
    ]
}

/// As they leave the two encoders: frames, and chunks, which have their own.
fn encoded() -> Vec<Value> {
    use protocol::server_frame::{ChunkData, ChunksData};
    let at = NOW.parse().unwrap();
    let mut texts: Vec<String> = full_frames().iter().map(|frame| frame.encode(at)).collect();
    let mut tool = Chunk::new(ChunkType::ToolUse, "{}");
    tool.metadata = Some(
        serde_json::value::RawValue::from_string(r#"{"callId":"c","name":"n"}"#.to_owned())
            .map(std::sync::Arc::from)
            .unwrap(),
    );
    let chunks = [Chunk::new(ChunkType::Text, "a"), tool];
    for chunk in &chunks {
        let mut out = Vec::new();
        ChunkData::encode(&mut out, NOW, message_id(), Epoch(1), Index(4), chunk);
        texts.push(String::from_utf8(out).unwrap());
    }
    let mut out = Vec::new();
    ChunksData::encode(&mut out, NOW, message_id(), Epoch(1), Index(4), &chunks);
    texts.push(String::from_utf8(out).unwrap());
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn assert_frame(document: &Value, frame: &Value) {
    let kind = frame["type"].as_str().unwrap();
    let message = &document["components"]["messages"][kind];
    Schema::strict(document).assert_valid(&message["payload"], frame, kind);
}

#[test]
fn whatever_the_encoders_write_is_as_documented_and_nothing_is_missing() {
    let document: &Value = &ASYNCAPI;
    let frames = encoded();
    for frame in &frames {
        assert_frame(document, frame);
    }
    let written: BTreeSet<_> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    let said = document["operations"]["say"]["messages"].as_array().unwrap().iter();
    let said: BTreeSet<_> =
        said.map(|message| message["$ref"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(written, said);
}

#[test]
fn a_frame_that_is_not_as_documented_is_noticed() {
    let document: &Value = &ASYNCAPI;
    let strict = Schema::strict(document);
    for frame in encoded() {
        let kind = frame["type"].as_str().unwrap();
        let schema = &document["components"]["messages"][kind]["payload"];
        let data = frame["data"].as_object().unwrap();
        let mut changed = vec![json!({"more": 1}), json!({"messageId": 7}), json!({"epoch": "x"})];
        changed.retain(|change| {
            let (name, _) = change.as_object().unwrap().iter().next().unwrap();
            name == "more" || data.contains_key(name)
        });
        for change in changed {
            let mut wrong = frame.clone();
            let fields = change.as_object().unwrap().clone();
            wrong["data"].as_object_mut().unwrap().extend(fields);
            assert!(strict.check(schema, &wrong).is_err(), "{wrong}");
        }
        let mut headless = frame.clone();
        headless.as_object_mut().unwrap().remove("timestamp");
        assert!(strict.check(schema, &headless).is_err(), "{headless}");
    }
}

#[tokio::test]
async fn what_real_sockets_are_sent_is_as_documented_for_their_dialect() {
    let fixture = Fixture::start().await;
    let document: &Value = &ASYNCAPI;
    for (dialect, protocols) in [("v1", Some("chatcluster.v1".to_owned())), ("basic", None)] {
        let mut socket = Call { protocols, ..fixture.call() }.connect().await.unwrap();
        socket.say(json!({"type": "HEARTBEAT", "t": 1})).await;
        socket.raw(Message::text("{")).await;
        socket.say(json!({"type": "RECONNECT", "messageId": Uuid::from_u128(9)})).await;
        let content = "[sim tokens=20 rate=500 types=text,thinking,code]";
        socket.say(json!({"type": "CHAT_REQUEST", "content": content, "requestId": dialect})).await;
        loop {
            let Some(Ok(message)) = socket.next().await else { panic!("closed") };
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            assert_frame(document, &frame);
            let kind = frame["type"].as_str().unwrap();
            let dialects = &document["components"]["messages"][kind]["x-dialects"];
            assert!(dialects.as_array().unwrap().contains(&json!(dialect)), "{dialect}: {frame}");
            if kind == "COMPLETE" {
                break;
            }
        }
    }
}

/// A new variant needs a schema: this does not compile without it.
fn name(frame: &ClientFrame) -> &'static str {
    match frame {
        ClientFrame::ChatRequest(_) => "CHAT_REQUEST",
        ClientFrame::Reconnect(_) => "RECONNECT",
        ClientFrame::Unfollow { .. } => "UNFOLLOW",
        ClientFrame::CancelStream { .. } => "CANCEL_STREAM",
        ClientFrame::ToolResult { .. } => "TOOL_RESULT",
        ClientFrame::Auth { .. } => "AUTH",
        ClientFrame::Heartbeat { .. } => "HEARTBEAT",
    }
}

#[test]
fn every_example_of_a_client_frame_is_accepted_as_what_it_is() {
    let frames = client_frame_schemas(&mut Vec::new());
    assert_eq!(frames.len(), 7);
    for frame in frames {
        let parsed = ClientFrame::parse(&frame.example.to_string());
        let parsed = parsed.unwrap_or_else(|bad| panic!("{}: {bad}", frame.example));
        assert_eq!(name(&parsed), frame.name);
    }
}

#[test]
fn the_parser_accepts_what_the_schemas_of_client_frames_accept() {
    let document: &Value = &ASYNCAPI;
    let schema = Schema::new(document);
    let mut refused = 0;
    for frame in client_frame_schemas(&mut Vec::new()) {
        let fields = frame.schema["properties"].as_object().unwrap();
        for field in fields.keys() {
            let mut candidates: Vec<Option<Value>> = values().into_iter().map(Some).collect();
            candidates.push(None);
            for candidate in candidates {
                let mut changed = frame.example.clone();
                let map = changed.as_object_mut().unwrap();
                match candidate {
                    Some(value) => drop(map.insert(field.clone(), value)),
                    None => drop(map.remove(field)),
                }
                let documented = schema.check(&frame.schema, &changed);
                let parsed = ClientFrame::parse(&changed.to_string());
                // Another type's name is that frame's matter.
                let parsed = parsed.ok().filter(|parsed| name(parsed) == frame.name);
                if field == "sessionId" {
                    assert!(parsed.is_some(), "informative: documented, and not looked at");
                    continue;
                }
                refused += usize::from(parsed.is_none());
                assert_eq!(documented.is_ok(), parsed.is_some(), "{changed}: {documented:?}");
            }
        }
    }
    assert!(refused > 200, "{refused}");
}

/// Good and bad for one field or another.
fn values() -> Vec<Value> {
    let id = Uuid::from_u128(5).to_string();
    let options = |name: &str, value: Value| {
        let mut options = json!({});
        options[name] = value;
        options
    };
    let mut values = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(-2),
        json!(0.5),
        json!(41),
        json!(9_007_199_254_740_992_u64),
        json!(9_007_199_254_740_993_u64),
        json!(""),
        json!(" "),
        json!("a"),
        json!(" a "),
        json!("a b"),
        json!("ä"),
        json!("x".repeat(64)),
        json!("x".repeat(65)),
        json!("x".repeat(16_384)),
        json!("00000000"),
        json!("0000000g"),
        json!("continue"),
        json!("cancel"),
        json!("Continue"),
        json!(id),
        json!("HEARTBEAT"),
        json!([]),
        json!([1]),
        json!({}),
        json!({"unknown": 1}),
    ];
    for temperature in [json!(0), json!(2), json!(0.7), json!(2.1), json!(-0.1), json!("1")] {
        values.push(options("temperature", temperature));
    }
    for tokens in [json!(1), json!(0), json!(-1), json!(1.5), json!("1"), json!(null)] {
        values.push(options("maxTokens", tokens));
    }
    for model in [json!("m"), json!(""), json!("m".repeat(128)), json!("m".repeat(129)), json!(1)] {
        values.push(options("model", model));
    }
    values
}

#[test]
fn every_code_is_documented_with_what_it_means() {
    let document: &Value = &ASYNCAPI;
    let closes = document["x-closeCodes"].as_array().unwrap();
    let numbers: BTreeSet<_> = closes.iter().map(|close| close["code"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), CloseCode::ALL.len());
    assert_eq!(closes.iter().filter(|close| close["text"] == "").count(), 0);
    let codes = document["components"]["schemas"]["ErrorCode"]["x-errorCodes"].as_array().unwrap();
    for (documented, code) in codes.iter().zip(ErrorCode::ALL) {
        assert_eq!(documented["code"], code.as_str());
        assert_eq!(documented["http"], code.http_status());
        assert_eq!(documented["retryable"], code.retryable());
    }
    assert_eq!(codes.len(), ErrorCode::ALL.len());
}
