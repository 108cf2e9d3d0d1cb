//! Bad frames: each has its code, and the socket goes on, or its close code (protocol sections 2
//! and 5).

use super::{SAID, SECRET, Target};
use crate::fixture::Socket;
use protocol::{ErrorCode, ServerFrame};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

const NOBODYS: &str = "018f4d5e-0000-7000-8000-00000000dead";

/// Name, frame, the code of its ERROR.
type Bad = (&'static str, Value, ErrorCode);

fn texts() -> Vec<(&'static str, String, ErrorCode)> {
    use ErrorCode::{InvalidJson, InvalidMessage, UnknownType};
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let raw = |name, text: &str, code| (name, text.to_owned(), code);
    vec![
        raw("nothing", "", InvalidJson),
        raw("a space", " ", InvalidJson),
        raw("half an object", "{", InvalidJson),
        raw("two objects", r#"{"type":"HEARTBEAT"}{}"#, InvalidJson),
        raw("single quotes", "{'type':'HEARTBEAT'}", InvalidJson),
        raw("a comma too many", r#"{"type":"HEARTBEAT",}"#, InvalidJson),
        raw("a raw line break", "{\"type\":\"HEART\nBEAT\"}", InvalidJson),
        raw("half a character", r#"{"type":"\ud800"}"#, InvalidJson),
        raw("a number too large", r#"{"type":"HEARTBEAT","t":1e999}"#, InvalidJson),
        raw("XML", "<type>HEARTBEAT</type>", InvalidJson),
        ("a deep one", deep, InvalidJson),
        raw("null", "null", InvalidMessage),
        raw("an array", "[]", InvalidMessage),
        raw("a number", "42", InvalidMessage),
        raw("a text", r#""HEARTBEAT""#, InvalidMessage),
        raw("no type", "{}", InvalidMessage),
        raw("a number as type", r#"{"type":1}"#, InvalidMessage),
        raw("the type under data", r#"{"data":{"type":"HEARTBEAT"}}"#, InvalidMessage),
        raw("data as text", r#"{"type":"HEARTBEAT","data":"x"}"#, InvalidMessage),
        raw("an unknown type", r#"{"type":"REBOOT"}"#, UnknownType),
        raw("another case", r#"{"type":"heartbeat"}"#, UnknownType),
        raw("an empty type", r#"{"type":""}"#, UnknownType),
        raw("a server's type", r#"{"type":"WELCOME"}"#, UnknownType),
    ]
}

/// A good frame, some fields replaced by bad ones.
fn spoiled(good: &Value, changes: &[(&'static str, Value)]) -> Vec<Bad> {
    let spoil = |(name, change): &(&'static str, Value)| {
        let mut frame = good.clone();
        frame.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        (*name, frame, ErrorCode::InvalidMessage)
    };
    changes.iter().map(spoil).collect()
}

fn spoiled_requests() -> Vec<Bad> {
    let good = json!({"type": "CHAT_REQUEST", "content": SAID});
    spoiled(
        &good,
        &[
            ("no content", json!({"content": null})),
            ("blank content", json!({"content": " \n\t "})),
            ("content as a list", json!({"content": ["hi"]})),
            ("long content", json!({"content": "x".repeat(10_001)})),
            ("a conversation of text", json!({"conversationId": "ours"})),
            ("a long request id", json!({"requestId": "r".repeat(65)})),
            ("a request id of two words", json!({"requestId": "a b"})),
            ("a request id beyond ASCII", json!({"requestId": "ä"})),
            ("options as text", json!({"options": "hot"})),
            ("too hot", json!({"options": {"temperature": 3}})),
            ("heat as text", json!({"options": {"temperature": "1"}})),
            ("no tokens", json!({"options": {"maxTokens": 0}})),
            ("negative tokens", json!({"options": {"maxTokens": -5}})),
            ("a model of numbers", json!({"options": {"model": [1]}})),
            ("another end", json!({"onDisconnect": "never"})),
            ("the end as a truth", json!({"onDisconnect": true})),
        ],
    )
}

fn spoiled_follows() -> Vec<Bad> {
    let good = json!({"type": "RECONNECT", "messageId": NOBODYS});
    spoiled(
        &good,
        &[
            ("no message", json!({"messageId": null})),
            ("a message of text", json!({"messageId": "mine"})),
            ("an index below none", json!({"lastChunkIndex": -2})),
            ("an index beyond", json!({"lastChunkIndex": 9_007_199_254_740_993_u64})),
            ("half an index", json!({"lastChunkIndex": 1.5})),
            ("an index as text", json!({"lastChunkIndex": "3"})),
            ("an epoch below none", json!({"epoch": -1})),
            ("an epoch as text", json!({"epoch": "1"})),
            ("a short digest", json!({"digest": "abc"})),
            ("a digest of no digits", json!({"digest": "zzzzzzzz"})),
        ],
    )
}

fn frames(target: &Target) -> Vec<Bad> {
    use ErrorCode::{Forbidden, InvalidMessage, NotFound, TokenExpired, Unauthenticated};
    let bobs = target.bobs_message;
    let clock = target.fixture.node.clock.wall().as_second();
    let old = super::tokens::ours(&json!({"sub": "alice", "exp": clock - 60}));
    let bobs_token = target.fixture.token("bob", Duration::from_secs(600));
    let others = vec![
        ("nobody's message", json!({"type": "RECONNECT", "messageId": NOBODYS}), NotFound),
        ("bob's message", json!({"type": "RECONNECT", "messageId": bobs}), NotFound),
        (
            "bob's message, from beyond",
            json!({"type": "RECONNECT", "messageId": bobs, "lastChunkIndex": 1_000_000}),
            NotFound,
        ),
        (
            "bob's conversation",
            json!({"type": "CHAT_REQUEST", "content": SAID, "conversationId": target.bobs_conversation}),
            NotFound,
        ),
        ("to cancel bob's", json!({"type": "CANCEL_STREAM", "messageId": bobs}), NotFound),
        ("to cancel text", json!({"type": "CANCEL_STREAM", "messageId": "x"}), InvalidMessage),
        ("to cancel nothing", json!({"type": "CANCEL_STREAM"}), NotFound),
        ("to leave nothing", json!({"type": "UNFOLLOW"}), InvalidMessage),
        ("to leave text", json!({"type": "UNFOLLOW", "messageId": 7}), InvalidMessage),
        (
            "a tool without a call",
            json!({"type": "TOOL_RESULT", "messageId": bobs}),
            InvalidMessage,
        ),
        (
            "a tool of bob's",
            json!({"type": "TOOL_RESULT", "messageId": bobs, "callId": "c", "output": SAID}),
            NotFound,
        ),
        ("no new token", json!({"type": "AUTH"}), InvalidMessage),
        ("an empty token", json!({"type": "AUTH", "token": ""}), InvalidMessage),
        ("a huge token", json!({"type": "AUTH", "token": "x".repeat(16_385)}), InvalidMessage),
        ("a bad token", json!({"type": "AUTH", "token": "x.y.z"}), Unauthenticated),
        ("an old token", json!({"type": "AUTH", "token": old}), TokenExpired),
        ("bob's token", json!({"type": "AUTH", "token": bobs_token}), Forbidden),
    ];
    [spoiled_requests(), spoiled_follows(), others].concat()
}

/// The next ERROR, whatever comes before it; nothing of bob's is among it.
async fn error(socket: &mut Socket, name: &str) -> protocol::server_frame::ErrorData {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                assert!(!text.contains(SECRET), "{name}: {text}");
                match ServerFrame::parse(&text).unwrap().0 {
                    ServerFrame::Error(error) => return error,
                    ServerFrame::Chunk(_) | ServerFrame::Chunks(_) => panic!("{name}: {text}"),
                    _ => {}
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("{name}: no error but {other:?}"),
        }
    }
}

/// The socket still answers.
async fn assert_lives(socket: &mut Socket, name: &str) {
    socket.say(json!({"type": "HEARTBEAT", "t": name})).await;
    let ServerFrame::HeartbeatAck(ack) = socket.frame().await else { panic!("{name}: no ack") };
    assert_eq!(ack.t, Some(json!(name)));
}

#[tokio::test]
async fn bad_frames_are_answered_and_the_socket_lives_on() {
    let target = Target::start().await;
    let mut cases: Vec<(&str, Message, ErrorCode)> = Vec::new();
    cases.extend(texts().into_iter().map(|(name, text, code)| (name, Message::text(text), code)));
    let frames = frames(&target);
    let told = |value: &Value| Message::text(value.to_string());
    cases.extend(frames.iter().map(|(name, value, code)| (*name, told(value), *code)));
    cases.push(("bytes", Message::binary(vec![1, 2, 3]), ErrorCode::InvalidMessage));
    cases.push(("no bytes", Message::binary(Vec::new()), ErrorCode::InvalidMessage));
    for (name, message, code) in cases {
        // A socket each: more than twenty would be abuse.
        let mut socket = target.fixture.v1().await;
        socket.raw(message).await;
        let error = error(&mut socket, name).await;
        assert_eq!((error.code, error.retryable), (code, code.retryable()), "{name}");
        assert!(!error.error.contains(SAID), "{name}: {}", error.error);
        assert_lives(&mut socket, name).await;
    }
    assert_eq!(target.fixture.node.streams.len(), 1, "bob's, and no other");
    let tokens = frames.iter().filter_map(|(_, frame, _)| frame["token"].as_str());
    let secrets: Vec<String> = tokens.filter(|t| t.len() > 7).map(str::to_owned).collect();
    target.assert_discreet(&secrets);
}

fn raw_frame(header: FrameHeader, payload: &[u8]) -> Message {
    Message::Frame(Frame::from_payload(header, payload.to_vec().into()))
}

#[tokio::test]
async fn what_closes_a_socket() {
    let target = Target::start().await;
    let large = Message::text("x".repeat(protocol::MAX_FRAME_BYTES + 1));
    let (text, ping) = (OpCode::Data(Data::Text), OpCode::Control(Control::Ping));
    let header = |opcode| FrameHeader { opcode, ..FrameHeader::default() };
    let frame = |opcode, payload: &[u8]| raw_frame(header(opcode), payload);
    let open_ping = FrameHeader { is_final: false, ..header(ping) };
    let reserved_bit = FrameHeader { rsv1: true, ..header(text) };
    let cases = [
        ("too large", large, 1009),
        ("no UTF-8", frame(text, b"\xff\xfe"), 1007),
        ("half a character", frame(text, b"\xc3"), 1007),
        ("more of nothing", frame(OpCode::Data(Data::Continue), b"x"), 1002),
        ("a reserved code of data", frame(OpCode::Data(Data::Reserved(3)), b"x"), 1002),
        ("a reserved code of control", frame(OpCode::Control(Control::Reserved(11)), b"x"), 1002),
        ("a reserved bit", raw_frame(reserved_bit, b"{}"), 1002),
        ("half a ping", raw_frame(open_ping, b"x"), 1002),
        ("a long ping", frame(ping, &[0; 126]), 1002),
    ];
    for (name, message, close) in cases {
        let mut socket = target.fixture.v1().await;
        socket.raw(message).await;
        assert_eq!(socket.closed().await, close, "{name}");
        assert_lives(&mut target.fixture.v1().await, name).await;
    }
}

#[tokio::test]
async fn abuse_closes_4502_and_less_does_not() {
    let target = Target::start().await;
    let mut socket = target.fixture.v1().await;
    for _ in 0..20 {
        socket.raw(Message::text("{")).await;
        assert_eq!(error(&mut socket, "abuse").await.code, ErrorCode::InvalidJson);
    }
    assert_lives(&mut socket, "twenty").await;
    socket.raw(Message::text("{")).await;
    assert_eq!(socket.closed().await, 4502);
    assert_lives(&mut target.fixture.v1().await, "afterwards").await;
}
