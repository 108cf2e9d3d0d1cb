//! Tokens that are none, in every place where one may stand.

use super::Target;
use super::wire::{Case, request, run};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use protocol::{ErrorCode, SessionId};
use serde_json::{Value, json};
use std::time::Duration;

const SESSIONS: &str = "/api/v1/sessions";

fn signed(algorithm: Algorithm, key: &[u8], claims: &Value) -> String {
    let key = EncodingKey::from_secret(key);
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

/// Signed with the node's own key.
pub(super) fn ours(claims: &Value) -> String {
    signed(Algorithm::HS256, crate::fixture::KEY, claims)
}

fn with_header(header: &Value, good: &str) -> String {
    let (_, rest) = good.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

fn with_claims(claims: &[u8], good: &str) -> String {
    let parts: Vec<&str> = good.split('.').collect();
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims), parts[2])
}

/// Name, token, whether its time is all that is wrong.
fn bad_tokens(target: &Target) -> Vec<(&'static str, String, bool)> {
    let now = target.fixture.node.clock.wall().as_second();
    let good = target.fixture.token("alice", Duration::from_secs(600));
    let ours = |claims: Value| ours(&claims);
    let theirs = |claims: Value| signed(Algorithm::HS256, b"another key", &claims);
    let payload = good.split('.').nth(1).unwrap();
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let full = json!({"sub": "alice", "exp": now + 600});
    vec![
        ("garbage", "garbage".to_owned(), false),
        ("two dots", "..".to_owned(), false),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned(), false),
        ("four parts", format!("{good}.x"), false),
        ("no signature", format!("{}.", good.rsplit_once('.').unwrap().0), false),
        ("a longer signature", format!("{good}AA"), false),
        ("alg none, unsigned", format!("{unsigned}.{payload}."), false),
        ("alg none", with_header(&json!({"alg": "none"}), &good), false),
        ("alg RS256 over our key", with_header(&json!({"alg": "RS256"}), &good), false),
        ("alg of another case", with_header(&json!({"alg": "hs256"}), &good), false),
        ("no alg", with_header(&json!({"typ": "JWT"}), &good), false),
        ("HS384 with our key", signed(Algorithm::HS384, crate::fixture::KEY, &full), false),
        ("another key", theirs(full.clone()), false),
        ("other claims", with_claims(br#"{"sub":"bob","exp":99999999999}"#, &good), false),
        ("claims that are no JSON", with_claims(b"\xff\xfe", &good), false),
        ("expired", ours(json!({"sub": "alice", "exp": now - 60})), true),
        ("expired, another key", theirs(json!({"sub": "alice", "exp": now - 60})), false),
        ("not yet", ours(json!({"sub": "alice", "exp": now + 600, "nbf": now + 60})), false),
        ("no exp", ours(json!({"sub": "alice"})), false),
        ("exp as text", ours(json!({"sub": "alice", "exp": "later"})), false),
        ("no sub", ours(json!({"exp": now + 600})), false),
        ("an empty sub", ours(json!({"sub": "", "exp": now + 600})), false),
        ("a number for a sub", ours(json!({"sub": 7, "exp": now + 600})), false),
        ("a long sub", ours(json!({"sub": "x".repeat(257), "exp": now + 600})), false),
        ("a sub of two lines", ours(json!({"sub": "alice\nbob", "exp": now + 600})), false),
        ("20 KiB", ours(json!({"sub": "a", "exp": now + 600, "x": "y".repeat(20_000)})), false),
    ]
}

#[tokio::test]
async fn bad_tokens_open_nothing() {
    let target = Target::start().await;
    let tokens = bad_tokens(&target);
    let good = target.fixture.token("alice", Duration::from_secs(600));
    let good_header = format!("Bearer {good}");
    let mut cases = Vec::new();
    for (name, token, expired) in &tokens {
        let code = if *expired { ErrorCode::TokenExpired } else { ErrorCode::Unauthenticated };
        let header = format!("Bearer {token}");
        let bytes = request("GET", SESSIONS, &[("authorization", &header)], b"");
        cases.push(Case::new(&format!("header: {name}"), bytes, code));
        let bytes = request("GET", &format!("{SESSIONS}?token={token}"), &[], b"");
        cases.push(Case::new(&format!("query: {name}"), bytes, code));
    }
    cases.extend(misplaced(&target, &good));
    let again = request("GET", SESSIONS, &[("authorization", &good_header)], b"");
    run(&target, &cases, &again).await;
    let mut secrets: Vec<String> = tokens.into_iter().map(|(_, token, _)| token).collect();
    // Too short to tell anything by being found.
    secrets.retain(|token| token.len() > 7);
    secrets.push(good);
    target.assert_discreet(&secrets);
}

/// Good tokens where they do not count, and other things in a token's place.
fn misplaced(target: &Target, good: &str) -> Vec<Case> {
    let identity = target.fixture.node.admit.verify(good).unwrap();
    let session = SessionId(target.fixture.node.ids.uuid());
    let resume = target.fixture.node.admit.issue_resume(&identity, session, 0);
    let resume = format!("Bearer {resume}");
    let bearer = format!("Bearer {good}");
    let double = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    let offer = format!("chatcluster.v1, bearer.{good}");
    let offered = [("sec-websocket-protocol", offer.as_str())];
    let header = |value: &str| request("GET", SESSIONS, &[("authorization", value)], b"");
    let target = |query: &str| request("GET", &format!("{SESSIONS}{query}"), &[], b"");
    let rescued = format!("{SESSIONS}?token={good}");
    let basic = [("authorization", "Basic YWxpY2U6cHc=")];
    let case = |name: &str, bytes| Case::new(name, bytes, ErrorCode::Unauthenticated);
    vec![
        case("no token at all", request("GET", SESSIONS, &[], b"")),
        case("an empty header", header("")),
        case("Bearer and nothing", header("Bearer ")),
        case("another scheme", header(&format!("Token {good}"))),
        case("a bad header, a good query", request("GET", &rescued, &basic, b"")),
        case("two headers", request("GET", SESSIONS, &double, b"")),
        case("a resume token", header(&resume)),
        case("a subprotocol without an upgrade", request("GET", SESSIONS, &offered, b"")),
        case("an unknown ticket", target("?ticket=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        case("an empty ticket", target("?ticket=")),
        case("a ticket that is a token", target(&format!("?ticket={good}"))),
        case("a bad ticket, a good token", target(&format!("?ticket=x&token={good}"))),
        case("an empty token", target("?token=")),
        case("NUL", target("?token=%00")),
        case("no text", target("?token=%ff%fe")),
        case("another name", target(&format!("?Token={good}"))),
    ]
}

#[tokio::test]
async fn a_token_that_never_ends_breaks_no_clock() {
    let target = Target::start().await;
    for exp in [json!(253_402_300_799_i64), json!(u64::MAX), json!(1e18)] {
        let token = ours(&json!({"sub": "alice", "exp": exp}));
        let call = crate::fixture::Call { token: Some(token.clone()), ..target.fixture.call() };
        let mut socket = call.connect().await.unwrap();
        let frame = socket.frame().await;
        if let protocol::ServerFrame::Welcome(welcome) = &frame {
            let ends = welcome.v1.as_ref().unwrap().token_expires_at;
            assert!(ends > target.fixture.node.clock.wall(), "{exp}: {ends}");
        } else {
            panic!("{exp}: {frame:?}");
        }
        let message = target.fixture.writer().await.message;
        let header = format!("Bearer {token}");
        let path = format!("/api/v1/messages/{message}/stream");
        let bytes = request("GET", &path, &[("authorization", &header)], b"");
        let mut connection = super::wire::Connection::open(target.fixture.address()).await;
        assert_eq!(connection.send(&bytes).await.status, 200, "{exp}");
    }
    target.assert_discreet(&[]);
}
