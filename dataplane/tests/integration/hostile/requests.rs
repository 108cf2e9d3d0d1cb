//! Bad URLs, methods, positions and bodies, all with a good token.

use super::wire::{Case, Connection, request, run};
use super::{SAID, Target};
use protocol::ErrorCode;
use std::time::Duration;

const NEW: &str = "/api/v1/conversations/new/messages";
const NOBODYS: &str = "018f4d5e-0000-7000-8000-00000000dead";

struct Alice(String);

impl Alice {
    fn at(target: &Target) -> Self {
        Self(format!("Bearer {}", target.fixture.token("alice", Duration::from_secs(600))))
    }

    fn get(&self, path: &str) -> Vec<u8> {
        self.send("GET", path, b"")
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        request(method, path, &[("authorization", &self.0)], body)
    }

    fn with(&self, path: &str, name: &str, value: &str) -> Vec<u8> {
        request("GET", path, &[("authorization", &self.0), (name, value)], b"")
    }
}

#[tokio::test]
async fn bad_urls_and_methods() {
    use ErrorCode::{InvalidMessage, NotFound};
    let target = Target::start().await;
    let alice = Alice::at(&target);
    let wrong = |name: &str, bytes| Case::new(name, bytes, InvalidMessage).status(405);
    let unknown = |name: &str, path: &str| Case::new(name, alice.get(path), NotFound);
    let invalid = |name: &str, path: &str| Case::new(name, alice.get(path), InvalidMessage);
    let cases = [
        unknown("no such path", "/api/v2/sessions"),
        unknown("a slash more", "/api/v1/sessions/"),
        unknown("two slashes", "//api/v1/sessions"),
        unknown("upwards", "/api/v1/messages/../../../etc/passwd"),
        unknown("upwards, escaped", "/api/v1/messages/..%2f..%2fetc%2fpasswd/x"),
        unknown("the admin port's path", "/admin/nodes"),
        unknown("the metrics", "/metrics"),
        unknown("another case", "/API/v1/sessions"),
        wrong("PUT", alice.send("PUT", "/api/v1/sessions", b"")),
        wrong("DELETE of a list", alice.send("DELETE", "/api/v1/sessions", b"")),
        wrong("GET of tickets", alice.get("/api/v1/tickets")),
        wrong("PATCH", alice.send("PATCH", &format!("/api/v1/messages/{NOBODYS}"), b"")),
        wrong("POST to a stream", alice.send("POST", "/api/v1/messages/x/stream", b"")),
        wrong("POST to the socket", alice.send("POST", "/ws/chat", b"")),
        wrong("an unknown method", alice.send("BREW", "/api/v1/sessions", b"")),
        invalid("no UUID", "/api/v1/messages/42"),
        invalid("no UUID to follow", "/api/v1/messages/42/stream"),
        invalid("no text", "/api/v1/messages/%ff%fe"),
        invalid("a NUL", "/api/v1/messages/%00"),
        invalid("a UUID and more", &format!("/api/v1/messages/{NOBODYS}x")),
        unknown("nobody's message", &format!("/api/v1/messages/{NOBODYS}")),
        unknown("nobody's stream", &format!("/api/v1/messages/{NOBODYS}/stream")),
        unknown("the nil UUID", &format!("/api/v1/messages/{}", uuid::Uuid::nil())),
    ];
    run(&target, &cases, &alice.get("/api/v1/sessions")).await;
    target.assert_discreet(&[alice.0]);
}

#[tokio::test]
async fn what_is_bobs_is_not_found() {
    let target = Target::start().await;
    let alice = Alice::at(&target);
    let path = format!("/api/v1/messages/{}", target.bobs_message);
    let stream = format!("{path}/stream");
    let ask = format!("/api/v1/conversations/{}/messages", target.bobs_conversation);
    let body = br#"{"content":"what did bob say?"}"#;
    let case = |name: &str, bytes| Case::new(name, bytes, ErrorCode::NotFound);
    let cases = [
        case("to read", alice.get(&path)),
        case("to follow", alice.get(&stream)),
        case("to follow from a place", alice.get(&format!("{stream}?after=1.3"))),
        case("to follow from beyond", alice.get(&format!("{stream}?after=1.999999"))),
        case("to hear of the end", alice.with(&stream, "last-event-id", "1.end")),
        case("to cancel", alice.send("DELETE", &stream, b"")),
        case("to go on with", alice.send("POST", &ask, body)),
    ];
    run(&target, &cases, &alice.get("/api/v1/sessions")).await;
    assert!(target.fixture.node.streams.has(target.bobs_message), "bob's answer goes on");
    target.assert_discreet(&[alice.0]);
}

#[tokio::test]
async fn bad_positions() {
    let target = Target::start().await;
    let alice = Alice::at(&target);
    let stream = format!("/api/v1/messages/{}/stream", target.bobs_message);
    let mut cases = Vec::new();
    for bad in
        ["", "x", "-2", "1.", ".1", "1.2.3", "1.x", "end", "+1", "0x10", "1e3", "9007199254740993"]
    {
        let code = ErrorCode::InvalidMessage;
        let query = alice.get(&format!("{stream}?after={bad}"));
        cases.push(Case::new(&format!("after={bad}"), query, code));
        let header = alice.with(&stream, "last-event-id", bad);
        cases.push(Case::new(&format!("Last-Event-ID: {bad}"), header, code));
    }
    let bytes = alice.with(&stream, "last-event-id", "ä");
    cases.push(Case::new("Last-Event-ID: no ASCII", bytes, ErrorCode::InvalidMessage));
    run(&target, &cases, &alice.get("/api/v1/sessions")).await;
}

fn bad_bodies() -> Vec<(&'static str, Vec<u8>, ErrorCode)> {
    use ErrorCode::{InvalidJson, InvalidMessage, PayloadTooLarge};
    let said = |rest: &str| format!(r#"{{"content":"{SAID}"{rest}}}"#).into_bytes();
    let long = format!(r#"{{"content":"{}"}}"#, "ä".repeat(10_001)).into_bytes();
    vec![
        ("nothing", Vec::new(), InvalidJson),
        ("no JSON", b"content=hi".to_vec(), InvalidJson),
        ("half of it", br#"{"content":"hi""#.to_vec(), InvalidJson),
        ("more than one", br#"{"content":"hi"}{}"#.to_vec(), InvalidJson),
        ("no UTF-8", b"{\"content\":\"\xff\"}".to_vec(), InvalidJson),
        ("half of a character", br#"{"content":"\ud83d"}"#.to_vec(), InvalidJson),
        ("deep", [vec![b'['; 10_000], vec![b']'; 10_000]].concat(), InvalidJson),
        ("NaN", said(r#","options":{"temperature":NaN}"#), InvalidJson),
        ("an array", b"[]".to_vec(), InvalidMessage),
        ("a text", br#""hi""#.to_vec(), InvalidMessage),
        ("null", b"null".to_vec(), InvalidMessage),
        ("no content", b"{}".to_vec(), InvalidMessage),
        ("blank content", br#"{"content":" \t\n "}"#.to_vec(), InvalidMessage),
        ("content that is a number", br#"{"content":7}"#.to_vec(), InvalidMessage),
        ("content that is an object", br#"{"content":{"$ne":""}}"#.to_vec(), InvalidMessage),
        ("long content", long, InvalidMessage),
        ("a request id with a space", said(r#","requestId":"a b""#), InvalidMessage),
        ("an empty request id", said(r#","requestId":"""#), InvalidMessage),
        ("a number as request id", said(r#","requestId":5"#), InvalidMessage),
        ("options as a list", said(r#","options":[]"#), InvalidMessage),
        ("too hot", said(r#","options":{"temperature":2.1}"#), InvalidMessage),
        ("too cold", said(r#","options":{"temperature":-0.1}"#), InvalidMessage),
        ("infinitely hot", said(r#","options":{"temperature":1e999}"#), InvalidJson),
        ("no tokens", said(r#","options":{"maxTokens":0}"#), InvalidMessage),
        ("half a token", said(r#","options":{"maxTokens":1.5}"#), InvalidMessage),
        ("a model as a number", said(r#","options":{"model":4}"#), InvalidMessage),
        (
            "a long model",
            said(&format!(r#","options":{{"model":"{}"}}"#, "m".repeat(129))),
            InvalidMessage,
        ),
        ("another end", said(r#","onDisconnect":"explode""#), InvalidMessage),
        ("too large", vec![b' '; 256 * 1024 + 1], PayloadTooLarge),
    ]
}

#[tokio::test]
async fn bad_bodies_start_nothing() {
    let target = Target::start().await;
    let alice = Alice::at(&target);
    let mut cases: Vec<Case> = bad_bodies()
        .into_iter()
        .map(|(name, body, code)| Case::new(name, alice.send("POST", NEW, &body), code))
        .map(|case| if case.status == 413 { case.closes() } else { case })
        .collect();
    let place = "/api/v1/conversations/mine/messages";
    let bytes = alice.send("POST", place, br#"{"content":"hi"}"#);
    cases.push(Case::new("a conversation that is no UUID", bytes, ErrorCode::InvalidMessage));
    let mut chunked =
        request("POST", NEW, &[("authorization", &alice.0), ("transfer-encoding", "chunked")], b"");
    // The builder's own length would contradict the chunks.
    let text = String::from_utf8(chunked).unwrap().replace("content-length: 0\r\n", "");
    chunked = text.into_bytes();
    chunked.extend_from_slice(format!("{:x}\r\n", 256 * 1024 + 1).as_bytes());
    chunked.extend(std::iter::repeat_n(b' ', 256 * 1024 + 1));
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let large = ErrorCode::PayloadTooLarge;
    cases.push(Case::new("too large, without saying so", chunked, large).closes());
    run(&target, &cases, &alice.get("/api/v1/sessions")).await;
    assert_eq!(target.fixture.node.streams.len(), 1, "bob's, and no other");
    target.assert_discreet(&[alice.0]);
}

#[tokio::test]
async fn what_is_no_http() {
    let target = Target::start().await;
    let alice = Alice::at(&target);
    // More than the library buffers, however much it reads at once.
    let long = "x".repeat(2_000_000);
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let cases = [
        Case::unparsed(
            "noise",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            400,
        ),
        Case::unparsed("no version", b"GET /\r\n\r\n".to_vec(), 400),
        Case::unparsed("another version", b"GET / HTTP/9.9\r\n\r\n".to_vec(), 400),
        Case::unparsed("a header without a name", b"GET / HTTP/1.1\r\n: x\r\n\r\n".to_vec(), 400),
        Case::unparsed("a header with a NUL", b"GET / HTTP/1.1\r\na: \0\r\n\r\n".to_vec(), 400),
        Case::unparsed(
            "a bad length",
            b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_vec(),
            400,
        ),
        Case::unparsed(
            "two lengths",
            b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(),
            400,
        ),
        Case::unparsed("many headers", format!("GET / HTTP/1.1\r\n{many}\r\n").into_bytes(), 431),
        Case::unparsed(
            "a long URL",
            format!("GET /{} HTTP/1.1\r\n\r\n", &long[..70_000]).into_bytes(),
            414,
        ),
        Case::unparsed(
            "a long header",
            format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n").into_bytes(),
            431,
        ),
    ];
    run(&target, &cases, &alice.get("/api/v1/sessions")).await;
    // A header that never ends: the node does not wait for it with anything but one socket.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Connection::open(target.fixture.address()).await);
    }
    let mut good = Connection::open(target.fixture.address()).await;
    assert_eq!(good.send(&alice.get("/api/v1/sessions")).await.status, 200);
}
