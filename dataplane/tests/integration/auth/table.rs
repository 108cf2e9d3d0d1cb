//! The table of tokens: each is tried at every door, and refused there exactly as the protocol says.

use super::issuer::{KeyServer, Signer};
use super::{claims, node_of, token};
use crate::fixture::{Call, Fixture, Socket};
use crate::interface::operations;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use protocol::server_frame::Welcome;
use protocol::{ErrorCode, ServerFrame};
use serde_json::{Value, json};
use std::time::Duration;

/// Two good keys of different types, and the node that knows them.
struct Stage {
    rsa: Signer,
    ec: Signer,
    encrypts: Signer,
    fixture: Fixture,
    _server: KeyServer,
}

const SYMMETRIC: &str = "a symmetric key that somebody published";

impl Stage {
    async fn set() -> Self {
        let (rsa, ec, encrypts) =
            (Signer::rsa("rsa-1"), Signer::p256("ec-1"), Signer::p256("enc-1"));
        let server = KeyServer::start(&[]).await;
        let oct = json!({"kty": "oct", "kid": "oct-1", "alg": "HS256", "use": "sig",
            "k": URL_SAFE_NO_PAD.encode(SYMMETRIC)});
        let keys =
            [oct, encrypts.published(&json!({"use": "enc"})), rsa.jwk.clone(), ec.jwk.clone()];
        server.say(super::issuer::Says::Document(super::issuer::document(&keys)));
        let fixture = node_of(&server).await;
        Self { rsa, ec, encrypts, fixture, _server: server }
    }

    fn claims(&self, changes: Value) -> Value {
        claims(&self.fixture, &changes)
    }

    /// Name, token, and the code that refuses it.
    fn bad_tokens(&self) -> Vec<(&'static str, String, ErrorCode)> {
        let now = self.fixture.node.clock.wall().as_second();
        let mut bad = self.bad_signatures();
        let says = |changes| self.rsa.sign(&self.claims(changes));
        let wrong = [
            ("not yet valid", json!({"nbf": now + 60})),
            ("another audience", json!({"aud": "mail"})),
            ("other audiences", json!({"aud": ["mail", "calendar"]})),
            ("an empty list of audiences", json!({"aud": []})),
            ("no audience", json!({"aud": null})),
            ("another issuer", json!({"iss": "https://evil.example"})),
            ("a longer issuer", json!({"iss": "https://login.example.evil.example"})),
            ("no issuer", json!({"iss": null})),
            ("no sub", json!({"sub": null})),
            ("an empty sub", json!({"sub": ""})),
            ("no exp", json!({"exp": null})),
            ("expired and of another audience", json!({"exp": now - 60, "aud": "mail"})),
        ];
        bad.extend(wrong.map(|(name, claims)| (name, says(claims), ErrorCode::Unauthenticated)));
        bad.push(("expired", says(json!({"exp": now - 60})), ErrorCode::TokenExpired));
        bad
    }

    /// Good claims, and a signature that says nothing.
    fn bad_signatures(&self) -> Vec<(&'static str, String, ErrorCode)> {
        let good = self.claims(json!({}));
        let header = |kid: &str, alg| Header { kid: Some(kid.to_owned()), ..Header::new(alg) };
        let rsa = |alg| self.rsa.sign_with(&header("rsa-1", alg), &good);
        let hmac = |kid: &str, key: &[u8]| {
            let key = EncodingKey::from_secret(key);
            jsonwebtoken::encode(&header(kid, Algorithm::HS256), &good, &key).unwrap()
        };
        let (_, rest) = token(&self.fixture, &self.rsa)
            .split_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let headed =
            |header: Value| format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
        let payload = rest.split('.').next().unwrap();
        let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"rsa-1"}"#);
        let (n, own) = (self.rsa.jwk["n"].as_str().unwrap(), Signer::p256("mine"));
        let mut embedded = own.header();
        embedded.jwk = Some(serde_json::from_value(own.jwk.clone()).unwrap());
        let public = spki(&URL_SAFE_NO_PAD.decode(n).unwrap());
        [
            ("another key of the same name", Signer::p256("ec-1").sign(&good)),
            ("a key of another name", Signer::p256("ec-2").sign(&good)),
            ("its own key, in its header", own.sign_with(&embedded, &good)),
            ("the other key's name", self.rsa.sign_with(&header("ec-1", Algorithm::RS256), &good)),
            ("an encryption key", self.encrypts.sign(&good)),
            ("RS384 by a key for RS256", rsa(Algorithm::RS384)),
            ("PS256 by a key for RS256", rsa(Algorithm::PS256)),
            ("HS256 with the public key, as PEM", hmac("rsa-1", public.as_bytes())),
            ("HS256 with the public key, its modulus", hmac("rsa-1", n.as_bytes())),
            ("HS256 with the document", hmac("rsa-1", self.rsa.jwk.to_string().as_bytes())),
            ("HS256 with a published symmetric key", hmac("oct-1", SYMMETRIC.as_bytes())),
            ("HS256 with nothing", hmac("rsa-1", b"")),
            ("none, without a signature", format!("{unsigned}.{payload}.")),
            ("none, with a signature", headed(json!({"alg": "none", "kid": "rsa-1"}))),
            ("ES256 over an RSA signature", headed(json!({"alg": "ES256", "kid": "rsa-1"}))),
            (
                "an extension",
                headed(json!({"alg": "RS256", "kid": "rsa-1", "crit": ["x"], "x": 1})),
            ),
        ]
        .map(|(name, token)| (name, token, ErrorCode::Unauthenticated))
        .into()
    }
}

/// The public key as everybody who reads the document can write it (RFC 5280 section 4.1.2.7).
fn spki(modulus: &[u8]) -> String {
    let tagged = |tag: u8, body: &[u8]| {
        let length = match body.len() {
            n @ 0..128 => vec![n as u8],
            n => vec![0x82, (n >> 8) as u8, n as u8],
        };
        [&[tag][..], &length, body].concat()
    };
    let numbers = [tagged(2, &[&[0], modulus].concat()), tagged(2, &[1, 0, 1])].concat();
    let algorithm = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let key = tagged(3, &[&[0], &tagged(0x30, &numbers)[..]].concat());
    let der = tagged(0x30, &[&algorithm[..], &key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

#[tokio::test]
async fn bad_tokens_open_no_door() {
    let stage = Stage::set().await;
    let fixture = &stage.fixture;
    let good = token(fixture, &stage.ec);
    let mut open = Call { token: Some(good.clone()), ..fixture.call() }.welcomed().await;
    let bad = stage.bad_tokens();
    assert!(bad.len() > 25, "{}", bad.len());
    for (name, token, code) in bad {
        at_the_upgrade(fixture, name, &token, code).await;
        at_every_route(fixture, name, &token, code).await;
        in_place(&mut open, name, &token, code).await;
    }
    open.say(json!({"type": "AUTH", "token": good})).await;
    assert!(matches!(open.frame().await, ServerFrame::Welcome(_)), "the good one still counts");
}

/// 401 before the upgrade in v1; after it an ERROR and close 4500 in basic.
async fn at_the_upgrade(fixture: &Fixture, name: &str, token: &str, code: ErrorCode) {
    let header = Call { token: Some(token.to_owned()), ..fixture.call() };
    let entry = Some(format!("chatcluster.v1, bearer.{token}"));
    let subprotocol = Call { token: None, protocols: entry, ..header.clone() };
    let query = Call { token: None, query: format!("?token={token}"), ..header.clone() };
    for call in [&header, &subprotocol, &query] {
        let (status, body) = call.connect().await.err().unwrap_or_else(|| panic!("{name}: opens"));
        assert_eq!((status, &body["code"]), (401, &json!(code)), "{name}: {body}");
        assert_eq!(body["retryable"], code.retryable(), "{name}");
    }
    for call in [header, query] {
        let mut socket = Call { protocols: None, ..call }.connect().await.unwrap();
        let ServerFrame::Error(error) = socket.frame().await else { panic!("{name}: no error") };
        assert_eq!((error.error.as_str(), error.code), ("Authentication failed", code), "{name}");
        assert_eq!(socket.closed().await, 4500, "{name}");
    }
}

/// 401 problem+json, SSE and tickets included: whatever asks who the user is.
async fn at_every_route(fixture: &Fixture, name: &str, token: &str, code: ErrorCode) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut doors = 0;
    for operation in operations().iter().filter(|o| o.knows_its_user() && o.id() != "openSocket") {
        let id = uuid::Uuid::from_u128(7).to_string();
        let path = operation.path.replace("{message}", &id).replace("{conversation}", "new");
        let request =
            http.request(operation.method.clone(), format!("http://{}{path}", fixture.address()));
        let answer = request.bearer_auth(token).body(r#"{"content":"hi"}"#).send().await.unwrap();
        let name = format!("{name}: {}", operation.id());
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{name}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{name}");
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        assert_eq!((status, &body["code"]), (401, &json!(code)), "{name}");
        operation.assert_documented(status, &body);
        doors += 1;
    }
    assert!(doors >= 6, "{doors}");
}

/// AUTH on an open socket: an ERROR, and the old token stays.
async fn in_place(socket: &mut Socket, name: &str, token: &str, code: ErrorCode) {
    socket.say(json!({"type": "AUTH", "token": token})).await;
    let ServerFrame::Error(error) = socket.frame().await else { panic!("{name}: no error") };
    assert_eq!((error.code, error.last), (code, false), "{name}");
    socket.say(json!({"type": "HEARTBEAT"})).await;
    assert!(matches!(socket.frame().await, ServerFrame::HeartbeatAck(_)), "{name}");
}

#[tokio::test]
async fn good_tokens_open_every_door() {
    let stage = Stage::set().await;
    let fixture = &stage.fixture;
    let now = fixture.node.clock.wall().as_second();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let secret = EncodingKey::from_secret(crate::fixture::KEY);
    let shared = |claims: &Value| {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &secret).unwrap()
    };
    for (name, token) in [
        ("RS256", stage.rsa.sign(&stage.claims(json!({})))),
        ("ES256", stage.ec.sign(&stage.claims(json!({})))),
        (
            "no key named",
            stage.ec.sign_with(&Header::new(Algorithm::ES256), &stage.claims(json!({}))),
        ),
        ("the shared secret beside the keys", shared(&stage.claims(json!({})))),
        (
            "one of several audiences",
            stage.ec.sign(&stage.claims(json!({"aud": ["mail", "chat"]}))),
        ),
        ("valid in 4 s", stage.ec.sign(&stage.claims(json!({"nbf": now + 4})))),
        ("expired 3 s ago", stage.ec.sign(&stage.claims(json!({"exp": now - 3})))),
    ] {
        let call = Call { token: Some(token.clone()), ..fixture.call() };
        let mut socket = call.connect().await.unwrap_or_else(|_| panic!("{name}"));
        let ServerFrame::Welcome(Welcome { user_id, .. }) = socket.frame().await else { panic!() };
        assert_eq!(user_id.as_str(), "alice", "{name}");
        Call { protocols: None, ..call }.welcomed().await;
        let url = format!("http://{}/api/v1/sessions", fixture.address());
        let answer = http.get(url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
    }
}

#[tokio::test]
async fn a_foreign_origin_is_refused_before_the_upgrade_however_good_the_token() {
    let mut settings = dataplane::playground::settings();
    settings.auth.allowed_origins = vec!["https://chat.example".to_owned()];
    let fixture = Fixture::with(settings).await;
    for protocols in [None, Some("chatcluster.v1".to_owned())] {
        for origin in
            ["https://evil.example", "http://chat.example", "https://chat.example:8443", "null"]
        {
            let origin = Some(origin.to_owned());
            let call = Call { protocols: protocols.clone(), origin, ..fixture.call() };
            let (status, body) = call.connect().await.err().unwrap();
            assert_eq!((status, &body["code"]), (403, &json!("FORBIDDEN")));
        }
    }
}

#[tokio::test]
async fn a_foreign_resume_token_is_ignored_and_gains_no_place() {
    let mut settings = dataplane::playground::settings();
    (settings.limits.accepts_per_second, settings.limits.accept_burst) = (1, 1);
    let fixture = Fixture::with(settings).await;
    let session = fixture.node.ids.uuid();
    let query = format!("?sessionId={session}");
    let mut alices = Call { query: query.clone(), ..fixture.call() }.connect().await.unwrap();
    let ServerFrame::Welcome(welcome) = alices.frame().await else { panic!() };
    let resume = welcome.v1.unwrap().resume_token;
    let protocols = Some(format!("chatcluster.v1, resume.{resume}"));
    let resuming = Call { query, protocols, ..fixture.call() };
    let bob = Some(fixture.token("bob", Duration::from_secs(60)));
    let another = format!("?sessionId={}", fixture.node.ids.uuid());
    let forged = Some(format!("chatcluster.v1, resume.{}x", &resume[..resume.len() - 1]));
    for call in [
        Call { token: bob, ..resuming.clone() },
        Call { query: another, ..resuming.clone() },
        Call { protocols: forged, ..resuming.clone() },
    ] {
        let (status, body) = call.connect().await.err().expect("no place for it");
        assert_eq!((status, &body["code"]), (503, &json!("AT_CAPACITY")));
    }
    let alone = Call { token: None, ..resuming.clone() };
    let (status, body) = alone.connect().await.err().expect("never instead of a token");
    assert_eq!((status, &body["code"]), (401, &json!("UNAUTHENTICATED")));
    resuming.welcomed().await;
}
