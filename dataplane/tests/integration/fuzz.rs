//! Property tests of the parser of client frames, the only way in. `make fuzz` runs them long.

use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};
use proptest::test_runner::Config;
use protocol::client_frame::BadFrame;
use protocol::{
    ChatOptions, ChatRequest, ClientFrame, ConversationId, Digest, Epoch, ErrorCode, Index,
    MessageId, OnDisconnect, Reconnect, RequestId,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Cases of each property; `PROPTEST_CASES` wins.
const CASES: u32 = 50_000;

const TYPES: [&str; 8] = [
    "CHAT_REQUEST",
    "RECONNECT",
    "UNFOLLOW",
    "CANCEL_STREAM",
    "TOOL_RESULT",
    "AUTH",
    "HEARTBEAT",
    "REBOOT",
];
const FIELDS: [&str; 20] = [
    "type",
    "data",
    "content",
    "conversationId",
    "requestId",
    "options",
    "model",
    "temperature",
    "maxTokens",
    "onDisconnect",
    "messageId",
    "lastChunkIndex",
    "epoch",
    "digest",
    "sessionId",
    "callId",
    "output",
    "token",
    "t",
    "x",
];

fn config() -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    Config { cases: cases.unwrap_or(CASES), failure_persistence: None, ..Config::default() }
}

/// One of the three codes; a field exactly for INVALID_MESSAGE.
fn assert_refusal(bad: &BadFrame) {
    match bad.code {
        ErrorCode::InvalidMessage => assert!(bad.field.is_some(), "{bad:?}"),
        ErrorCode::InvalidJson | ErrorCode::UnknownType => assert!(bad.field.is_none(), "{bad:?}"),
        code => panic!("{code}"),
    }
}

/// Reads it in both ways; what is read is within the protocol's bounds.
fn read(bytes: &[u8]) {
    match ClientFrame::parse(&String::from_utf8_lossy(bytes)) {
        Ok(ClientFrame::ChatRequest(request)) => assert_bounds(&request),
        Ok(ClientFrame::Reconnect(wanted)) => assert!(wanted.from.0 <= Index::MAX_WIRE + 1),
        Ok(_) => {}
        Err(bad) => assert_refusal(&bad),
    }
    match ClientFrame::parse_request_body(bytes) {
        Ok(request) => assert_bounds(&request),
        Err(bad) => {
            assert_refusal(&bad);
            assert_ne!(bad.code, ErrorCode::UnknownType);
        }
    }
}

fn assert_bounds(request: &ChatRequest) {
    let chars = request.content.chars().count();
    assert!((1..=protocol::MAX_CONTENT_CHARS).contains(&chars));
    assert_eq!(request.content.trim(), request.content);
    assert!(request.options.temperature.is_none_or(|t| (0.0..=2.0).contains(&t)));
    assert!(request.options.max_tokens != Some(0));
}

/// Values that often mean something here, and others.
fn leaf() -> impl Strategy<Value = Value> {
    let id = any::<u128>().prop_map(|n| Uuid::from_u128(n).to_string());
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(&TYPES[..]).prop_map(Value::from),
        id.prop_map(Value::from),
        "[0-9a-f]{8}".prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ]
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let field = (select(&FIELDS[..]), value).prop_map(|(name, value)| (name.to_owned(), value));
    proptest::collection::vec(field, 0..8)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn any_json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 24, 8, |inner| {
        prop_oneof![
            object(inner.clone()),
            proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
        ]
    })
}

/// An object with a known type, so that the fields behind it are read.
fn typed_json() -> impl Strategy<Value = Value> {
    (select(&TYPES[..]), object(any_json())).prop_map(|(kind, mut frame)| {
        frame["type"] = Value::from(kind);
        frame
    })
}

fn request_id() -> impl Strategy<Value = RequestId> {
    "[!-~]{1,64}".prop_map(|text| RequestId::parse(&text).unwrap())
}

fn message_id() -> impl Strategy<Value = MessageId> {
    any::<u128>().prop_map(|n| MessageId(Uuid::from_u128(n)))
}

prop_compose! {
    fn options()(
        model in proptest::option::of(".{1,40}"),
        // Sixteenths are exact in binary.
        temperature in proptest::option::of((0_u8..=32).prop_map(|n| f64::from(n) / 16.0)),
        max_tokens in proptest::option::of(1_u64..1_000_000),
    ) -> ChatOptions {
        ChatOptions { model, temperature, max_tokens }
    }
}

prop_compose! {
    fn chat_request()(
        content in "\\S(.{0,60}\\S)?",
        conversation in proptest::option::of(any::<u128>()),
        request_id in proptest::option::of(request_id()),
        options in options(),
        cancel in any::<bool>(),
    ) -> ClientFrame {
        ClientFrame::ChatRequest(ChatRequest {
            content,
            conversation_id: conversation.map(|n| ConversationId(Uuid::from_u128(n))),
            request_id,
            options,
            on_disconnect: if cancel { OnDisconnect::Cancel } else { OnDisconnect::Continue },
        })
    }
}

prop_compose! {
    fn reconnect()(
        message_id in message_id(),
        from in 0..=Index::MAX_WIRE + 1,
        epoch in proptest::option::of((0..=Index::MAX_WIRE).prop_map(Epoch)),
        digest in proptest::option::of("[0-9a-f]{8}"),
    ) -> ClientFrame {
        let digest = digest.map(|text| Digest::parse(&text).unwrap());
        ClientFrame::Reconnect(Reconnect { message_id, from: Index(from), epoch, digest })
    }
}

fn valid() -> impl Strategy<Value = ClientFrame> {
    prop_oneof![
        4 => chat_request(),
        4 => reconnect(),
        1 => message_id().prop_map(|message_id| ClientFrame::Unfollow { message_id }),
        1 => proptest::option::of(message_id())
            .prop_map(|message_id| ClientFrame::CancelStream { message_id }),
        1 => message_id().prop_map(|message_id| ClientFrame::ToolResult { message_id }),
        1 => ".{1,80}".prop_map(|token| ClientFrame::Auth { token }),
        1 => (-5_i64..5).prop_map(|n| ClientFrame::Heartbeat { t: Some(Value::from(n)) }),
        1 => Just(ClientFrame::Heartbeat { t: None }),
    ]
}

/// The type and the fields of a frame; what is absent is left out or null.
fn fields(frame: &ClientFrame) -> (&'static str, Value) {
    match frame {
        ClientFrame::ChatRequest(r) => {
            let end = if r.on_disconnect == OnDisconnect::Cancel { "cancel" } else { "continue" };
            let fields = json!({
                "content": format!(" \n{}\t", r.content),
                "conversationId": r.conversation_id,
                "requestId": r.request_id,
                "options": r.options,
                "onDisconnect": end,
            });
            ("CHAT_REQUEST", fields)
        }
        ClientFrame::Reconnect(r) => {
            let last = r.from.0 as i64 - 1;
            let fields = json!({
                "messageId": r.message_id,
                "lastChunkIndex": last,
                "epoch": r.epoch,
                "digest": r.digest,
            });
            ("RECONNECT", fields)
        }
        ClientFrame::Unfollow { message_id } => ("UNFOLLOW", json!({"messageId": message_id})),
        ClientFrame::CancelStream { message_id } => {
            ("CANCEL_STREAM", json!({"messageId": message_id}))
        }
        ClientFrame::ToolResult { message_id } => {
            ("TOOL_RESULT", json!({"messageId": message_id, "callId": "c", "output": 1}))
        }
        ClientFrame::Auth { token } => ("AUTH", json!({"token": token})),
        ClientFrame::Heartbeat { t } => ("HEARTBEAT", json!({"t": t})),
    }
}

/// Each field at top level or under `data`, as the bits of `places` say; what stands at top level
/// wins over nonsense under `data`.
fn encode(frame: &ClientFrame, places: u32) -> String {
    let (kind, fields) = fields(frame);
    let mut top = Map::from_iter([("type".to_owned(), Value::from(kind))]);
    let mut data = Map::from_iter([("unknown".to_owned(), json!([1, {"deep": null}]))]);
    for (at, (name, value)) in fields.as_object().unwrap().iter().enumerate() {
        // A null at top level hides what is under `data`: absent stays absent only there.
        if places >> at & 1 == 0 && !value.is_null() {
            top.insert(name.clone(), value.clone());
            data.insert(name.clone(), Value::from(7));
        } else {
            data.insert(name.clone(), value.clone());
        }
    }
    top.insert("data".to_owned(), Value::Object(data));
    top.insert("clientInfo".to_owned(), json!({"agent": "fuzz"}));
    Value::Object(top).to_string()
}

/// A change of a text, at a place.
#[derive(Clone, Debug)]
enum Change {
    Replace(Pick, u8),
    Insert(Pick, u8),
    Remove(Pick),
    Cut(Pick),
    Repeat(Pick, Pick),
}

fn change() -> impl Strategy<Value = Change> {
    let pick = any::<Pick>;
    let byte = || prop_oneof![any::<u8>(), select(&b"{}[]\",:\\0-9.eE+null"[..])];
    prop_oneof![
        (pick(), byte()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        (pick(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        pick().prop_map(Change::Remove),
        pick().prop_map(Change::Cut),
        (pick(), pick()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let at = |pick: &Pick| pick.index(bytes.len());
    match change {
        Change::Replace(pick, byte) => {
            let at = at(pick);
            bytes[at] = *byte;
        }
        Change::Insert(pick, byte) => bytes.insert(at(pick), *byte),
        Change::Remove(pick) => drop(bytes.remove(at(pick))),
        Change::Cut(pick) => bytes.truncate(at(pick)),
        Change::Repeat(one, other) => {
            let (from, to) = (at(one).min(at(other)), at(one).max(at(other)));
            let copy = bytes[from..to].to_vec();
            bytes.splice(to..to, copy);
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn fuzz_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        read(&bytes);
    }

    #[test]
    fn fuzz_json(value in prop_oneof![any_json(), typed_json()]) {
        read(value.to_string().as_bytes());
    }

    #[test]
    fn fuzz_changed_frames(
        frame in valid(),
        places in any::<u32>(),
        changes in proptest::collection::vec(change(), 1..6),
    ) {
        let mut bytes = encode(&frame, places).into_bytes();
        changes.iter().for_each(|change| apply(&mut bytes, change));
        read(&bytes);
    }

    #[test]
    fn fuzz_valid_frames(frame in valid(), places in any::<u32>()) {
        let text = encode(&frame, places);
        prop_assert_eq!(ClientFrame::parse(&text), Ok(frame), "{}", text);
    }
}
