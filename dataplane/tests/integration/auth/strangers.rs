//! Another user's conversation is reached by no route and no frame. Routes and frames are those of the
//! documents: a new one fails here until somebody says how a stranger is kept out of it.

use super::until;
use crate::api::Caller;
use crate::fixture::{Call, Fixture, Socket, texts};
use crate::interface::{Operation, operations};
use dataplane::api::interface::client_frame_schemas;
use protocol::http::SessionView;
use protocol::{ConversationId, MessageId, ServerFrame, SessionId};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

const SECRET: &str = "alices-secret-words";

/// What alice has, and a stranger with a good token.
struct Stage {
    fixture: Fixture,
    message: MessageId,
    conversation: ConversationId,
    session: SessionId,
    alice: Socket,
    http: reqwest::Client,
    bob: String,
}

impl Stage {
    async fn set() -> Self {
        let settings = dataplane::playground::settings();
        let fixture = Fixture::guarded(settings, Some("the operator's key")).await;
        let session = SessionId(fixture.node.ids.uuid());
        let query = format!("?sessionId={session}");
        let mut alice = Call { query, ..fixture.call() }.welcomed().await;
        let content = format!("[sim tokens=1000000 rate=20 seed=1] {SECRET}");
        let ask = json!({"type": "CHAT_REQUEST", "content": content, "requestId": "r-1"});
        alice.say(ask).await;
        let ServerFrame::Accepted(accepted) = alice.frame().await else { panic!() };
        let listed = Caller::new(&fixture, "alice");
        until(async || !listed.sessions().await.is_empty()).await;
        Self {
            message: accepted.message_id,
            conversation: accepted.conversation_id,
            session,
            alice,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            bob: fixture.token("bob", Duration::from_secs(600)),
            fixture,
        }
    }

    fn request(&self, operation: &Operation) -> reqwest::RequestBuilder {
        let port =
            if operation.admin { self.fixture.running.admin } else { self.fixture.address() };
        let path = operation
            .path
            .replace("{message}", &self.message.to_string())
            .replace("{conversation}", &self.conversation.to_string())
            .replace("{session}", &self.session.to_string());
        assert!(!path.contains('{'), "{path}: what does a stranger know to put there?");
        let request = self.http.request(operation.method.clone(), format!("http://{port}{path}"));
        request.bearer_auth(&self.bob).body(r#"{"content": "hi", "requestId": "r-1"}"#)
    }

    fn assert_discreet(&self, name: &str, text: &str) {
        let (message, conversation) = (self.message.to_string(), self.conversation.to_string());
        for secret in [SECRET, "alice", &message, &conversation, &self.session.to_string()] {
            assert!(!text.contains(secret), "{name} tells {secret:?}: {text}");
        }
    }
}

/// What a stranger gets, who names alice's ids wherever the route takes some.
fn expected(operation: &Operation) -> u16 {
    match operation.id() {
        "ask" | "readMessage" | "follow" | "cancel" => 404,
        // The answer is about the caller: alice's is not in it.
        "listSessions" | "makeTicket" => 200,
        // Public, and about nobody.
        "getOpenapi" | "getAsyncapi" | "live" | "ready" | "metrics" => 200,
        // Needs the operator's key, and a user's token is none.
        "drainReport" | "drain" | "callDrainOff" | "liveStreams" | "nodes" | "moveSession"
        | "closeSession" | "broadcast" => 401,
        // An upgrade; see the sockets below.
        "openSocket" => 426,
        new => panic!("{new} is a new route: how is a stranger kept out of it?"),
    }
}

#[tokio::test]
async fn no_route_leads_to_what_is_somebody_elses() {
    let mut stage = Stage::set().await;
    for operation in operations() {
        let answer = stage.request(&operation).send().await.unwrap();
        let (name, status) = (operation.id(), answer.status().as_u16());
        assert_eq!(status, expected(&operation), "{name}");
        let text = answer.text().await.unwrap();
        stage.assert_discreet(name, &text);
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        operation.assert_documented(status, &body);
        match name {
            "listSessions" => assert_eq!(body, json!([])),
            "makeTicket" => {
                let ticket = body["ticket"].as_str().unwrap();
                let url =
                    format!("http://{}/api/v1/sessions?ticket={ticket}", stage.fixture.address());
                let sessions = stage.http.get(url).send().await.unwrap();
                assert_eq!(sessions.json::<Vec<SessionView>>().await.unwrap(), []);
            }
            _ => {}
        }
    }
    at_any_position(&stage).await;
    goes_on(&mut stage).await;
}

/// Whatever a stranger says to have received.
async fn at_any_position(stage: &Stage) {
    let url =
        format!("http://{}/api/v1/messages/{}/stream", stage.fixture.address(), stage.message);
    for after in ["-1", "0", "1.0", "1.999999", "1.end", "7.end"] {
        let by_query = stage.http.get(format!("{url}?after={after}"));
        let by_header = stage.http.get(&url).header("last-event-id", after);
        for request in [by_query, by_header] {
            let answer = request.bearer_auth(&stage.bob).send().await.unwrap();
            assert_eq!(answer.status(), 404, "{after}");
            stage.assert_discreet(after, &answer.text().await.unwrap());
        }
    }
}

/// Nobody cancelled it, closed its socket or moved it.
async fn goes_on(stage: &mut Stage) {
    let mut seen = 0;
    while seen < 3 {
        let frame = [stage.alice.frame().await];
        let first = match &frame {
            [ServerFrame::Chunk(chunk)] => chunk.index,
            [ServerFrame::Chunks(chunks)] => chunks.index,
            [other] => panic!("{other:?}"),
        };
        seen += texts(&frame, first.0).len();
    }
}

#[tokio::test]
async fn no_frame_leads_to_what_is_somebody_elses() {
    let mut stage = Stage::set().await;
    let alices = stage.fixture.token("alice", Duration::from_secs(600));
    for protocols in [Some("chatcluster.v1".to_owned()), None] {
        let token = Some(stage.bob.clone());
        let v1 = protocols.is_some();
        let mut socket = Call { token, protocols, ..stage.fixture.call() }.welcomed().await;
        for schema in client_frame_schemas(&mut Vec::new()) {
            let mut frame = schema.example;
            frame["messageId"] = json!(stage.message);
            frame["conversationId"] = json!(stage.conversation);
            frame["sessionId"] = json!(stage.session);
            frame["token"] = json!(alices);
            frame.as_object_mut().unwrap().remove("t");
            let (name, answers) = (schema.name, answers(&mut socket, &frame).await);
            stage.assert_discreet(
                name,
                &answers
                    .iter()
                    .map(Value::to_string)
                    .collect::<String>()
                    .replace(&stage.message.to_string(), "(it was named)"),
            );
            let codes: Vec<_> = answers
                .iter()
                .map(|answer| answer["data"]["code"].as_str().unwrap_or("-"))
                .collect();
            let expected: &[&str] = match name {
                "RECONNECT" if v1 => &["-", "NOT_FOUND"],
                "CHAT_REQUEST" | "RECONNECT" | "CANCEL_STREAM" | "TOOL_RESULT" => &["NOT_FOUND"],
                "AUTH" => &["FORBIDDEN"],
                "UNFOLLOW" | "HEARTBEAT" => &[],
                new => panic!("{new} is a new frame: how is a stranger kept out of it?"),
            };
            assert_eq!(codes, expected, "{name}: {answers:?}");
        }
        // The newest live answer of a session that is not his.
        let newest = json!({"type": "CANCEL_STREAM", "sessionId": stage.session});
        let newest = answers(&mut socket, &newest).await;
        assert_eq!(newest[0]["data"]["code"], "NOT_FOUND");
    }
    goes_on(&mut stage).await;
}

/// What comes before the echo of a HEARTBEAT that is sent when the look-ups are done.
async fn answers(socket: &mut Socket, frame: &Value) -> Vec<Value> {
    socket.say(frame.clone()).await;
    let expects_one = !matches!(frame["type"].as_str(), Some("UNFOLLOW" | "HEARTBEAT"));
    let mut answers: Vec<Value> = Vec::new();
    if !expects_one {
        socket.say(json!({"type": "HEARTBEAT", "t": "done"})).await;
    }
    loop {
        let Some(Ok(message)) = socket.next().await else { panic!("closed after {frame}") };
        let Message::Text(text) = message else { continue };
        let answer: Value = serde_json::from_str(&text).unwrap();
        if answer["type"] == "HEARTBEAT_ACK" {
            if answer["data"]["t"] == "done" {
                return answers;
            }
            continue;
        }
        let last = answer["type"] == "ERROR" || answer["type"] == "STATUS";
        answers.push(answer);
        if expects_one && last {
            socket.say(json!({"type": "HEARTBEAT", "t": "done"})).await;
        }
    }
}

#[tokio::test]
async fn somebody_elses_session_cannot_be_taken_and_a_request_id_is_each_users_own() {
    let mut stage = Stage::set().await;
    let token = Some(stage.bob.clone());
    for protocols in [Some("chatcluster.v1".to_owned()), None] {
        let query = format!("?sessionId={}", stage.session);
        let call = Call { token: token.clone(), protocols, query, ..stage.fixture.call() };
        assert_eq!(call.connect().await.unwrap().closed().await, 4501);
    }
    let mut socket = Call { token, ..stage.fixture.call() }.welcomed().await;
    let content = "[sim tokens=1 rate=0]";
    socket.say(json!({"type": "CHAT_REQUEST", "content": content, "requestId": "r-1"})).await;
    let ServerFrame::Accepted(accepted) = socket.frame().await else { panic!() };
    assert!(!accepted.duplicate && accepted.message_id != stage.message);
    goes_on(&mut stage).await;
}
