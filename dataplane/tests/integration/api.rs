//! The HTTP interface over real sockets: asking, reading, following, who may.

use crate::fixture::{Fixture, PATIENCE};
use protocol::http::{MessageStatus, MessageView, Problem, SessionView, Ticket};
use protocol::server_frame::{Accepted, ChunkData, Complete, ErrorData, Reset, ResetReason};
use protocol::server_frame::{Status, StreamState};
use protocol::{Digest, ErrorCode, Index, MessageId, SealStatus, Settings};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const HOUR: Duration = Duration::from_secs(3_600);

/// A user's way to a node.
pub(crate) struct Caller {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Caller {
    pub(crate) fn new(fixture: &Fixture, user: &str) -> Self {
        let base = format!("http://{}", fixture.address());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, base, token: fixture.token(user, HOUR) }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    fn delete(&self, path: &str) -> RequestBuilder {
        self.http.delete(format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    pub(crate) async fn ask(&self, content: &str) -> Accepted {
        let path = "/api/v1/conversations/new/messages";
        let answer = self.post(path).json(&json!({"content": content})).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        answer.json().await.unwrap()
    }

    pub(crate) async fn sessions(&self) -> Vec<SessionView> {
        self.get("/api/v1/sessions").send().await.unwrap().json().await.unwrap()
    }

    fn stream(&self, message: MessageId) -> RequestBuilder {
        self.get(&format!("/api/v1/messages/{message}/stream"))
    }

    /// Follows to the end.
    pub(crate) async fn read_all(&self, message: MessageId) {
        Reader::open(self.stream(message)).await.rest().await;
    }

    /// Follows what comes after this index to the end.
    pub(crate) async fn read_all_after(&self, message: MessageId, index: u64) {
        let request = self.get(&format!("/api/v1/messages/{message}/stream?after={index}"));
        Reader::open(request).await.rest().await;
    }

    async fn view(&self, message: MessageId) -> MessageView {
        let answer = self.get(&format!("/api/v1/messages/{message}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }
}

async fn refused(request: RequestBuilder) -> (u16, ErrorCode, Response) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let headers = answer.headers().clone();
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!(problem.status, status);
    let mut kept = http::Response::new("");
    *kept.headers_mut() = headers;
    (status, problem.code, kept.into())
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq)]
struct Sent {
    name: String,
    id: Option<String>,
    data: Vec<String>,
}

impl Sent {
    fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        assert_eq!(self.data.len(), 1, "one line of data");
        serde_json::from_str(&self.data[0]).unwrap()
    }
}

/// Reads events as they come.
struct Reader {
    answer: Response,
    text: String,
}

impl Reader {
    async fn open(request: RequestBuilder) -> Self {
        let answer = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        Self { answer, text: String::new() }
    }

    /// The next event with a name; `None` at the end.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let sent = parse(block);
                self.text = rest.to_owned();
                if !sent.name.is_empty() {
                    return Some(sent);
                }
            }
            let bytes = timeout(PATIENCE, self.answer.chunk()).await.expect("nothing came");
            self.text.push_str(std::str::from_utf8(&bytes.unwrap()?).unwrap());
        }
    }

    async fn rest(&mut self) -> Vec<Sent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn parse(block: &str) -> Sent {
    let mut sent = Sent::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("event", name)) => sent.name = name.to_owned(),
            Some(("id", id)) => sent.id = Some(id.to_owned()),
            Some(("data", data)) => sent.data.push(data.to_owned()),
            _ => assert!(line.starts_with(':'), "a comment: {line}"),
        }
    }
    sent
}

/// Ids and texts of chunk events.
fn chunks(events: &[Sent]) -> Vec<(String, String)> {
    let chunks = events.iter().filter(|event| event.name == "chunk");
    let read = |event: &Sent| {
        let data: ChunkData = event.json();
        let id = event.id.clone().unwrap();
        assert_eq!(id, format!("{}.{}", data.epoch, data.index));
        (id, data.chunk.content.to_string())
    };
    chunks.map(read).collect()
}

fn pairs(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect()
}

#[tokio::test]
async fn ask_follow_and_read() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let accepted = alice.ask("[sim tokens=20 rate=500 seed=3]").await;
    assert!(!accepted.duplicate);
    let events = Reader::open(alice.stream(accepted.message_id)).await.rest().await;
    assert_eq!(events.len(), 21);
    let complete: Complete = events[20].json();
    assert_eq!((events[20].name.as_str(), events[20].id.as_deref()), ("complete", Some("1.end")));
    assert_eq!((complete.status, complete.total_chunks), (SealStatus::Completed, Index(20)));
    let view = alice.view(accepted.message_id).await;
    let texts: String = chunks(&events).into_iter().map(|(_, text)| text).collect();
    assert_eq!((view.status, view.role.as_str()), (MessageStatus::Completed, "assistant"));
    assert_eq!((view.content, view.digest), (texts, complete.digest));
    assert_eq!(view.conversation_id, accepted.conversation_id);
}

#[tokio::test]
async fn the_same_request_again_names_the_first_answer() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let path = "/api/v1/conversations/new/messages";
    let body = json!({"content": "[sim tokens=3 rate=0]", "requestId": "r-1"});
    let first = alice.post(path).json(&body).send().await.unwrap();
    let place = first.headers()["location"].to_str().unwrap().to_owned();
    let first: Accepted = first.json().await.unwrap();
    assert_eq!(place, format!("/api/v1/messages/{}/stream", first.message_id));
    let again: Accepted = alice.post(path).json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!((again.message_id, again.duplicate), (first.message_id, true));
}

#[tokio::test]
async fn a_message_is_readable_while_it_grows() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let mut writer = fixture.writer().await;
    assert_eq!(alice.view(writer.message).await.status, MessageStatus::Pending);
    writer.append(&["Hel", "lo"]).await;
    let view = alice.view(writer.message).await;
    assert_eq!((view.status, view.content.as_str()), (MessageStatus::Streaming, "Hello"));
    assert_eq!((view.total_chunks, view.digest), (writer.tail, writer.digest));
    writer.seal(SealStatus::Cancelled).await;
    assert_eq!(alice.view(writer.message).await.status, MessageStatus::Cancelled);
}

#[tokio::test]
async fn chunks_arrive_while_the_answer_grows() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let mut writer = fixture.writer().await;
    let mut reader = Reader::open(alice.stream(writer.message)).await;
    for text in ["a", "b", "c"] {
        writer.append(&[text]).await;
        let data: ChunkData = reader.next().await.unwrap().json();
        assert_eq!(&*data.chunk.content, text);
    }
    writer.seal(SealStatus::Failed).await;
    let end = reader.next().await.unwrap();
    let complete: Complete = end.json();
    assert_eq!((end.name.as_str(), complete.status), ("complete", SealStatus::Failed));
    assert_eq!(complete.code, Some(ErrorCode::UpstreamUnavailable));
    assert_eq!(complete.retryable, Some(true));
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_position_goes_on_after_it() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let mut writer = fixture.writer().await;
    writer.append(&["a", "b", "c"]).await;
    writer.seal(SealStatus::Completed).await;
    let all = pairs(&[("1.0", "a"), ("1.1", "b"), ("1.2", "c")]);
    for (query, header, skipped) in [
        ("", None, 0),
        ("?after=-1", None, 0),
        ("?after=0", None, 1),
        ("?after=1.0", None, 1),
        ("", Some("1.1"), 2),
        ("?after=1.0", Some("1.2"), 3),
        ("?after=nonsense", Some("1.0"), 1),
    ] {
        let path = format!("/api/v1/messages/{}/stream{query}", writer.message);
        let mut request = alice.get(&path);
        if let Some(last) = header {
            request = request.header("Last-Event-ID", last);
        }
        let events = Reader::open(request).await.rest().await;
        assert_eq!(chunks(&events), all[skipped..], "{query} {header:?}");
        assert_eq!(events.last().unwrap().id.as_deref(), Some("1.end"));
    }
    let over = alice.stream(writer.message).header("Last-Event-ID", "1.end").send().await.unwrap();
    assert_eq!(over.status(), 204);
    assert_eq!(over.text().await.unwrap(), "");
}

#[tokio::test]
async fn a_position_that_does_not_fit_is_reset() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let mut writer = fixture.writer().await;
    writer.append(&["a", "b"]).await;
    let request = alice.stream(writer.message).header("Last-Event-ID", "1.7");
    let mut reader = Reader::open(request).await;
    let reset = reader.next().await.unwrap();
    assert_eq!((reset.name.as_str(), reset.id.as_deref()), ("reset", None));
    let data: Reset = reset.json();
    assert_eq!((data.truncate_to, data.reason), (Index::ZERO, ResetReason::RolledBack));
    writer.seal(SealStatus::Completed).await;
    assert_eq!(chunks(&reader.rest().await), pairs(&[("1.0", "a"), ("1.1", "b")]));
}

#[tokio::test]
async fn nothing_of_somebody_elses_is_there() {
    let fixture = Fixture::start().await;
    let bob = Caller::new(&fixture, "bob");
    let mut writer = fixture.writer().await;
    writer.append(&["secret"]).await;
    let message = writer.message;
    let view = format!("/api/v1/messages/{message}");
    let stream = format!("{view}/stream");
    for request in [
        bob.get(&view),
        bob.get(&stream),
        bob.get(&format!("{stream}?after=1.end")),
        bob.get(&format!("{stream}?after=1.99")),
        bob.delete(&stream),
    ] {
        let (status, code, _) = refused(request).await;
        assert_eq!((status, code), (404, ErrorCode::NotFound));
    }
    let accepted = Caller::new(&fixture, "alice").ask("[sim tokens=1 rate=0]").await;
    let alices = format!("/api/v1/conversations/{}/messages", accepted.conversation_id);
    let (status, code, _) = refused(bob.post(&alices).json(&json!({"content": "hi"}))).await;
    assert_eq!((status, code), (404, ErrorCode::NotFound));
}

#[tokio::test]
async fn cancelling_twice_says_what_it_found() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let message = alice.ask("[sim tokens=1000 rate=20]").await.message_id;
    let path = format!("/api/v1/messages/{message}/stream");
    let cancel = async || -> Status {
        let answer = alice.delete(&path).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    };
    assert_eq!(cancel().await.state, StreamState::Cancelling);
    let events = Reader::open(alice.stream(message)).await.rest().await;
    let complete: Complete = events.last().unwrap().json();
    assert_eq!(complete.status, SealStatus::Cancelled);
    assert_eq!(cancel().await.state, StreamState::Sealed);
}

#[tokio::test]
async fn a_ticket_opens_one_door_once() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let ticket: Ticket = alice.post("/api/v1/tickets").send().await.unwrap().json().await.unwrap();
    let life = ticket.expires_at.duration_since(fixture.node.clock.wall());
    assert!((20..=30).contains(&life.as_secs()), "{life:?}");
    let url = format!("{}/api/v1/sessions?ticket={}", alice.base, ticket.ticket);
    assert_eq!(alice.http.get(&url).send().await.unwrap().status(), 200);
    let (status, code, _) = refused(alice.http.get(&url)).await;
    assert_eq!((status, code), (401, ErrorCode::Unauthenticated));
}

#[tokio::test]
async fn the_query_carries_a_token_only_where_it_may() {
    let open = Fixture::start().await;
    let alice = Caller::new(&open, "alice");
    let url = format!("{}/api/v1/sessions?token={}", alice.base, alice.token);
    assert_eq!(alice.http.get(&url).send().await.unwrap().status(), 200);
    let closed = Fixture::with(Settings::default()).await;
    let alice = Caller::new(&closed, "alice");
    let url = format!("{}/api/v1/sessions?token={}", alice.base, alice.token);
    assert_eq!(refused(alice.http.get(&url)).await.1, ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn sessions_are_listed_to_their_user() {
    let fixture = Fixture::start().await;
    let _socket = fixture.v1().await;
    let list = async |user: &str| -> Vec<SessionView> {
        let caller = Caller::new(&fixture, user);
        caller.get("/api/v1/sessions").send().await.unwrap().json().await.unwrap()
    };
    let sessions = timeout(PATIENCE, async {
        loop {
            let sessions = list("alice").await;
            if !sessions.is_empty() {
                return sessions;
            }
        }
    });
    let sessions = sessions.await.unwrap();
    assert_eq!(sessions[0].node, "edge-1");
    assert!(list("bob").await.is_empty());
}

#[tokio::test]
async fn an_expired_token_ends_the_response_and_not_the_answer() {
    let mut settings = dataplane::playground::settings();
    settings.auth.leeway_ms = 200;
    let fixture = Fixture::with(settings).await;
    let mut alice = Caller::new(&fixture, "alice");
    let mut writer = fixture.writer().await;
    alice.token = fixture.token("alice", Duration::from_secs(1));
    let mut reader = Reader::open(alice.stream(writer.message)).await;
    let end = reader.next().await.unwrap();
    let error: ErrorData = end.json();
    assert_eq!((end.name.as_str(), error.code), ("error", ErrorCode::TokenExpired));
    assert_eq!((error.retryable, error.last), (true, true));
    assert_eq!(error.message_id, Some(writer.message));
    assert_eq!(reader.next().await, None);
    let (status, code, _) = refused(alice.stream(writer.message)).await;
    assert_eq!((status, code), (401, ErrorCode::TokenExpired));
    writer.append(&["it goes on"]).await;
}

#[tokio::test]
async fn silence_is_told() {
    let mut settings = dataplane::playground::settings();
    settings.stream.waiting_ms = 50;
    let fixture = Fixture::with(settings).await;
    let writer = fixture.writer().await;
    let alice = Caller::new(&fixture, "alice");
    let mut reader = Reader::open(alice.stream(writer.message)).await;
    for _ in 0..2 {
        let event = reader.next().await.unwrap();
        let status: Status = event.json();
        assert_eq!((event.name.as_str(), event.id.as_deref()), ("status", None));
        assert_eq!(status.state, StreamState::Waiting);
    }
}

#[tokio::test]
async fn limits_say_when_to_come_again() {
    let mut settings = Settings::default();
    settings.limits.requests_per_minute = 30;
    settings.limits.request_burst = 1;
    settings.limits.sockets_per_user = 1;
    let fixture = Fixture::with(settings).await;
    let alice = Caller::new(&fixture, "alice");
    let message = alice.ask("[sim tokens=1000 rate=1]").await.message_id;
    let ask = alice.post("/api/v1/conversations/new/messages").json(&json!({"content": "hi"}));
    let (status, code, answer) = refused(ask).await;
    assert_eq!((status, code), (429, ErrorCode::RateLimited));
    assert_eq!(answer.headers()["retry-after"], "2");
    let bob = Caller::new(&fixture, "bob");
    bob.ask("[sim tokens=1 rate=0]").await;
    assert!(alice.post("/api/v1/tickets").send().await.unwrap().status().is_success());
    assert_eq!(refused(alice.post("/api/v1/tickets")).await.1, ErrorCode::RateLimited);
    let first = Reader::open(alice.stream(message)).await;
    assert_eq!(refused(alice.stream(message)).await.1, ErrorCode::RateLimited);
    drop(first);
    let free = async {
        while alice.stream(message).send().await.unwrap().status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, free).await.expect("the place came back");
}

#[tokio::test]
async fn a_draining_node_sends_its_readers_on() {
    let fixture = Fixture::start().await;
    let alice = Caller::new(&fixture, "alice");
    let mut writer = fixture.writer().await;
    let mut reader = Reader::open(alice.stream(writer.message)).await;
    writer.append(&["a"]).await;
    let drain = json!({"deadlineMs": 200, "epoch": 1});
    fixture.node.start_drain(&serde_json::from_value(drain).unwrap()).unwrap();
    let ask = alice.post("/api/v1/conversations/new/messages").json(&json!({"content": "hi"}));
    let (status, code, answer) = refused(ask).await;
    assert_eq!((status, code), (503, ErrorCode::Draining));
    assert_eq!(answer.headers()["retry-after"], "1");
    let events = reader.rest().await;
    assert_eq!(chunks(&events), pairs(&[("1.0", "a")]));
    let error: ErrorData = events.last().unwrap().json();
    assert_eq!((error.code, error.last), (ErrorCode::Draining, true));
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read() {
    let mut settings = dataplane::playground::settings();
    settings.auth.allowed_origins = vec!["http://127.0.0.1:8080".to_owned()];
    let fixture = Fixture::with(settings).await;
    let alice = Caller::new(&fixture, "alice");
    let url = format!("{}/api/v1/messages/x/stream", alice.base);
    let preflight = |origin: &str| {
        let request = alice.http.request(http::Method::OPTIONS, &url);
        request
            .header("origin", origin.to_owned())
            .header("access-control-request-method", "DELETE")
            .header("access-control-request-headers", "authorization,last-event-id")
            .send()
    };
    let allowed = preflight("http://127.0.0.1:8080").await.unwrap();
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "http://127.0.0.1:8080");
    let headers = allowed.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(headers.contains("last-event-id") && headers.contains("authorization"), "{headers}");
    let stranger = preflight("http://evil.example").await.unwrap();
    assert!(!stranger.headers().contains_key("access-control-allow-origin"));
    let page = alice.http.get(&url).header("origin", "http://127.0.0.1:8080");
    let error = page.send().await.unwrap();
    assert_eq!(error.status(), 401);
    assert_eq!(error.headers()["access-control-allow-origin"], "http://127.0.0.1:8080");
}

#[tokio::test]
async fn whoever_reads_over_sse_is_a_follower() {
    let mut settings = dataplane::playground::settings();
    settings.stream.abandoned_ms = 4_000;
    let fixture = Fixture::with(settings).await;
    let alice = Caller::new(&fixture, "alice");
    let body = json!({"content": "[sim tokens=1000 rate=20]", "onDisconnect": "cancel"});
    let path = "/api/v1/conversations/new/messages";
    let accepted = alice.post(path).json(&body).send().await.unwrap();
    let message = accepted.json::<Accepted>().await.unwrap().message_id;
    let mut reader = Reader::open(alice.stream(message)).await;
    for _ in 0..100 {
        assert_eq!(reader.next().await.unwrap().name, "chunk", "five seconds, and it goes on");
    }
}

#[tokio::test]
async fn the_digest_of_an_empty_answer_is_the_empty_digest() {
    let fixture = Fixture::start().await;
    let writer = fixture.writer().await;
    writer.seal(SealStatus::Cancelled).await;
    let view = Caller::new(&fixture, "alice").view(writer.message).await;
    assert_eq!((view.digest, view.total_chunks), (Digest::EMPTY, Index::ZERO));
    let value: Value = serde_json::to_value(&view).unwrap();
    assert_eq!(value["digest"], "00000000");
}
