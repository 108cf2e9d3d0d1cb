//! Keys come and go: who is in stays in until its token ends, who comes needs a key that is published.

use super::issuer::{KeyServer, Says, Signer, document};
use super::{claims, jwks, node_of, settings, token, until};
use crate::fixture::{Call, Fixture, texts};
use protocol::settings::Jwks;
use protocol::{ErrorCode, SealStatus, ServerFrame};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

#[tokio::test]
async fn a_key_that_is_rotated_away_ends_no_stream_and_opens_no_door() {
    let (old, new) = (Signer::p256("old"), Signer::rsa("new"));
    let server = KeyServer::start(&[&old]).await;
    let fixture = node_of(&server).await;
    let with = |signer: &Signer| Call { token: Some(token(&fixture, signer)), ..fixture.call() };
    let mut socket = with(&old).welcomed().await;
    let mut writer = fixture.writer().await;
    writer.append(&["a"]).await;
    socket.reconnect(writer.message, -1).await;
    assert!(matches!(socket.frame().await, ServerFrame::Recovery(_)));
    assert_eq!(texts(&[socket.frame().await], 0), ["a"]);

    server.publish(&[&new]);
    with(&new).welcomed().await;
    assert_eq!(server.reads(), 2, "an unknown key was asked for, once");
    let (status, body) = with(&old).connect().await.err().expect("its key left");
    assert_eq!((status, &body["code"]), (401, &json!("UNAUTHENTICATED")));

    writer.append(&["b"]).await;
    assert_eq!(texts(&[socket.frame().await], 1), ["b"], "the stream goes on");
    socket.say(json!({"type": "AUTH", "token": token(&fixture, &new)})).await;
    assert!(matches!(socket.frame().await, ServerFrame::Welcome(_)));
    writer.seal(SealStatus::Completed).await;
    assert!(matches!(socket.frame().await, ServerFrame::Complete(_)));
}

#[tokio::test]
async fn auth_with_a_key_that_is_not_known_yet_is_answered_before_what_comes_later() {
    let (old, new) = (Signer::p256("old"), Signer::ed25519("new"));
    let server = KeyServer::start(&[&old]).await;
    let fixture = node_of(&server).await;
    let mut socket = Call { token: Some(token(&fixture, &old)), ..fixture.call() }.welcomed().await;
    let told = Arc::new(Notify::new());
    server.say(Says::Held(document(&[old.jwk.clone(), new.jwk.clone()]), told.clone()));
    let bobs = new.sign(&claims(&fixture, &json!({"sub": "bob"})));
    socket.say(json!({"type": "AUTH", "token": token(&fixture, &new)})).await;
    socket.say(json!({"type": "HEARTBEAT", "t": 1})).await;
    socket.say(json!({"type": "AUTH", "token": bobs})).await;
    socket.say(json!({"type": "HEARTBEAT", "t": 2})).await;
    server.read(2).await;
    let early = tokio::time::timeout(Duration::from_millis(200), socket.next()).await;
    assert!(early.is_err(), "{early:?} overtook");
    told.notify_one();
    assert!(matches!(socket.frame().await, ServerFrame::Welcome(_)));
    assert!(matches!(socket.frame().await, ServerFrame::HeartbeatAck(_)));
    let ServerFrame::Error(error) = socket.frame().await else { panic!() };
    assert_eq!(error.code, ErrorCode::Forbidden, "another user");
    assert!(matches!(socket.frame().await, ServerFrame::HeartbeatAck(_)));
}

#[tokio::test]
async fn a_token_of_a_key_set_ends_in_both_dialects_and_over_sse() {
    let signer = Signer::p256("k");
    let server = KeyServer::start(&[&signer]).await;
    let mut settings = settings(jwks(&server.url()));
    settings.auth.leeway_ms = 200;
    let fixture = Fixture::with(settings).await;
    until(async || fixture.node.admit.public_keys() == Some(1)).await;
    let exp = fixture.node.clock.wall().as_second() + 2;
    let short = signer.sign(&claims(&fixture, &json!({"exp": exp})));
    let writer = fixture.writer().await;
    let call = Call { token: Some(short.clone()), ..fixture.call() };
    let mut v1 = call.welcomed().await;
    let mut basic = Call { protocols: None, ..call }.welcomed().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/v1/messages/{}/stream", fixture.address(), writer.message);
    let events = http.get(url).bearer_auth(&short).send().await.unwrap();
    assert_eq!(events.status(), 200);
    assert_eq!(v1.closed().await, 4001);
    assert_eq!(basic.closed().await, 4001);
    let text = events.text().await.unwrap();
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!((&error["code"], &error["final"]), (&json!("TOKEN_EXPIRED"), &json!(true)));
}

#[tokio::test]
async fn keys_are_read_again_without_being_asked_for() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let server = KeyServer::start(&[&old]).await;
    let jwks = Jwks { refresh_ms: 100, ..jwks(&server.url()) };
    let fixture = Fixture::with(settings(jwks)).await;
    until(async || fixture.node.admit.public_keys() == Some(1)).await;
    assert!(fixture.node.admit.verify(&token(&fixture, &old)).is_ok());
    server.publish(&[&new]);
    let gone = async || fixture.node.admit.verify(&token(&fixture, &old)).is_err();
    until(gone).await;
    assert!(fixture.node.admit.verify(&token(&fixture, &new)).is_ok());
}

#[tokio::test]
async fn a_crowd_with_unknown_keys_asks_the_issuer_once_and_then_not_for_a_while() {
    let (known, new) = (Signer::p256("known"), Signer::p256("new"));
    let server = KeyServer::start(&[&known]).await;
    let jwks = Jwks { min_interval_ms: 1_500, ..jwks(&server.url()) };
    let fixture = Fixture::with(settings(jwks)).await;
    until(async || fixture.node.admit.public_keys() == Some(1)).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    server.publish(&[&known, &new]);
    let token = token(&fixture, &new);
    let crowd = (0..200).map(|_| fixture.node.admit.verify_patiently(&token));
    for verdict in futures_util::future::join_all(crowd).await {
        assert!(verdict.is_ok(), "{verdict:?}");
    }
    assert_eq!(server.reads(), 2, "one flight for all of them");
    for n in 0..200 {
        let stranger = Signer::p256(&format!("s-{n}"));
        let verdict = fixture.node.admit.verify_patiently(&super::token(&fixture, &stranger)).await;
        assert_eq!(verdict, Err(ErrorCode::Unauthenticated));
    }
    assert!(server.reads() <= 3, "{} reads", server.reads());
}

#[tokio::test]
async fn a_mounted_file_is_read_again_when_it_changes() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, document(std::slice::from_ref(&old.jwk))).unwrap();
    let file = Some(path.to_str().unwrap().to_owned());
    let fixture = Fixture::with(settings(Jwks { url: None, file, ..jwks("") })).await;
    until(async || fixture.node.admit.public_keys() == Some(1)).await;
    assert!(fixture.node.admit.verify_patiently(&token(&fixture, &old)).await.is_ok());
    std::fs::write(&path, document(std::slice::from_ref(&new.jwk))).unwrap();
    let comes = async || fixture.node.admit.verify_patiently(&token(&fixture, &new)).await.is_ok();
    until(comes).await;
    let gone = fixture.node.admit.verify_patiently(&token(&fixture, &old)).await;
    assert_eq!(gone, Err(ErrorCode::Unauthenticated));
    std::fs::write(&path, "x").unwrap();
    let stranger = Signer::p256("stranger");
    let unknown = async || {
        fixture.node.admit.verify_patiently(&token(&fixture, &stranger)).await
            == Err(ErrorCode::StoreUnavailable)
    };
    until(unknown).await;
    assert!(fixture.node.admit.verify(&token(&fixture, &new)).is_ok());
}

#[tokio::test]
async fn a_key_that_is_not_published_any_more_is_gone_even_if_the_rest_is_broken() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let server = KeyServer::start(&[&old]).await;
    let fixture = node_of(&server).await;
    server.say(Says::Document(document(&[json!({"kty": "RSA"}), json!(7), new.jwk.clone()])));
    assert!(fixture.node.admit.verify_patiently(&token(&fixture, &new)).await.is_ok());
    assert!(fixture.node.admit.verify(&token(&fixture, &old)).is_err());
}
