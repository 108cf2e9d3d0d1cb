//! Bad upgrades: refused before, or closed right after (protocol sections 1 and 5).

use super::wire::{Case, request, run};
use super::{SECRET, Target};
use crate::fixture::Call;
use protocol::{ErrorCode, SessionId};
use std::time::Duration;

const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
const V1: (&str, &str) = ("sec-websocket-protocol", "chatcluster.v1");

/// A v1 upgrade without a token, some headers replaced; an empty value leaves one out.
fn upgrade(target: &str, changes: &[(&str, &str)]) -> Vec<u8> {
    let base = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        KEY,
        V1,
    ];
    let kept = base.iter().filter(|(name, _)| changes.iter().all(|(other, _)| other != name));
    let headers: Vec<_> =
        kept.chain(changes).filter(|(_, value)| !value.is_empty()).copied().collect();
    request("GET", target, &headers, b"")
}

#[tokio::test]
async fn refused_before_the_upgrade() {
    use ErrorCode::{Forbidden, InvalidMessage, TokenExpired, Unauthenticated};
    let target = Target::start().await;
    let token = target.fixture.token("alice", Duration::from_secs(600));
    let good = format!("Bearer {token}");
    let expired = target.fixture.token("alice", Duration::ZERO);
    let identity = target.fixture.node.admit.verify(&token).unwrap();
    let session = SessionId(target.fixture.node.ids.uuid());
    let resume = target.fixture.node.admit.issue_resume(&identity, session, 0);
    let resume = format!("chatcluster.v1, resume.{resume}");
    let bad_entry = "chatcluster.v1, bearer.garbage";
    let alice = ("authorization", good.as_str());
    let case = |name: &str, bytes, code| Case::new(name, bytes, code);
    let chat = |changes: &[(&str, &str)]| upgrade("/ws/chat", changes);
    let protocol = "sec-websocket-protocol";
    // Signed long ago, and good otherwise.
    let now = target.fixture.node.clock.wall().as_second();
    let old = super::tokens::ours(&serde_json::json!({"sub": "alice", "exp": now - 60}));
    let old_header = format!("Bearer {old}");
    let cases = [
        case("no token", chat(&[]), Unauthenticated),
        case("garbage", chat(&[("authorization", "Bearer x")]), Unauthenticated),
        case("an expired token", chat(&[("authorization", &old_header)]), TokenExpired),
        case("a bad entry", chat(&[(protocol, bad_entry)]), Unauthenticated),
        case("a resume token alone", chat(&[(protocol, &resume)]), Unauthenticated),
        case("a bad query", upgrade("/ws/chat?token=x", &[]), Unauthenticated),
        case("a bad ticket", upgrade("/ws/chat?ticket=x", &[]), Unauthenticated),
        case("a session of text", upgrade("/ws/chat?sessionId=me", &[alice]), InvalidMessage),
        case("an empty session", upgrade("/ws/chat?sessionId=", &[alice]), InvalidMessage),
        case("an origin", chat(&[alice, ("origin", "https://evil.example")]), Forbidden),
        case("a null origin", chat(&[alice, ("origin", "null")]), Forbidden),
        case("a longer origin", chat(&[alice, ("origin", "https://good.example.evil")]), Forbidden),
        case("a key that is none", chat(&[alice, ("sec-websocket-key", "x")]), InvalidMessage),
        case("no key", chat(&[alice, ("sec-websocket-key", "")]), InvalidMessage),
        case("no connection", chat(&[alice, ("connection", "close, x")]), InvalidMessage).closes(),
        case("no upgrade", chat(&[alice, ("upgrade", "")]), InvalidMessage).status(426),
        case("another upgrade", chat(&[alice, ("upgrade", "h2c")]), InvalidMessage).status(426),
        case("an old version", chat(&[alice, ("sec-websocket-version", "8")]), InvalidMessage)
            .status(426),
    ];
    let again = request("GET", "/api/v1/sessions", &[alice], b"");
    run(&target, &cases, &again).await;
    target.assert_discreet(&[token, expired, old, resume]);
}

#[tokio::test]
async fn closed_right_after_the_upgrade() {
    let target = Target::start().await;
    let fixture = &target.fixture;
    let basic = || Call { protocols: None, ..fixture.call() };
    let session = SessionId(fixture.node.ids.uuid());
    let query = format!("?sessionId={session}");
    let bobs_token = Some(fixture.token("bob", Duration::from_secs(600)));
    let _bob = Call { token: bobs_token, query: query.clone(), ..fixture.call() }.welcomed().await;
    for (name, call, error, close) in [
        ("basic without a token", Call { token: None, ..basic() }, true, 4500),
        ("basic with a bad one", Call { token: Some("x.y.z".into()), ..basic() }, true, 4500),
        ("bob's session", Call { query: query.clone(), ..fixture.call() }, false, 4501),
        ("bob's session, basic", Call { query, ..basic() }, false, 4501),
    ] {
        let mut socket = call.connect().await.expect(name);
        if error {
            let protocol::ServerFrame::Error(error) = socket.frame().await else {
                panic!("{name}: no error")
            };
            assert_eq!(error.error, "Authentication failed", "{name}");
            assert_eq!(error.code, ErrorCode::Unauthenticated, "{name}");
        }
        assert_eq!(socket.closed().await, close, "{name}");
        fixture.v1().await;
    }
    assert!(!target.logs.text().contains(SECRET));
}
