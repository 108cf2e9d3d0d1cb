//! An issuer that is away or broken: known keys stay good, what cannot be decided is retryable and
//! never a wrong "no", and everything recovers by itself.

use super::issuer::{KeyServer, Says, Signer};
use super::{jwks, node_of, settings, token, until};
use crate::fixture::{Call, Fixture};
use protocol::settings::Jwks;
use protocol::{ErrorCode, ServerFrame};
use serde_json::{Value, json};

/// Every door says: later.
async fn assert_undecided(fixture: &Fixture, token: &str) {
    let v1 = Call { token: Some(token.to_owned()), ..fixture.call() };
    for call in [Call { protocols: None, ..v1.clone() }, v1] {
        let (status, body) = call.connect().await.err().expect("nobody knows its key");
        assert_eq!((status, &body["code"]), (503, &json!("STORE_UNAVAILABLE")), "{body}");
        assert_eq!(body["retryable"], true);
        assert!(body["detail"].as_str().unwrap().contains("cannot be checked"), "{body}");
    }
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/v1/sessions", fixture.address());
    let answer = http.get(url).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    let body: Value = answer.json().await.unwrap();
    assert!(body["detail"].as_str().unwrap().contains("cannot be checked"), "{body}");
}

async fn opens(fixture: &Fixture, token: &str) -> bool {
    let call = Call { token: Some(token.to_owned()), ..fixture.call() };
    call.connect().await.is_ok()
}

#[tokio::test]
async fn an_issuer_that_goes_away_locks_nobody_out_and_its_return_is_noticed() {
    let (known, new) = (Signer::p256("known"), Signer::p256("new"));
    let mut server = KeyServer::start(&[&known]).await;
    let fixture = node_of(&server).await;
    let (known_token, new_token) = (token(&fixture, &known), token(&fixture, &new));
    let mut socket = Call { token: Some(known_token.clone()), ..fixture.call() }.welcomed().await;
    server.stop();
    server.publish(&[&known, &new]);
    until(async || {
        fixture.node.admit.verify_patiently(&new_token).await == Err(ErrorCode::StoreUnavailable)
    })
    .await;
    assert_undecided(&fixture, &new_token).await;
    assert!(opens(&fixture, &known_token).await, "known keys work");
    socket.say(json!({"type": "AUTH", "token": new_token})).await;
    let ServerFrame::Error(error) = socket.frame().await else { panic!() };
    assert_eq!((error.code, error.retryable), (ErrorCode::StoreUnavailable, true));
    socket.say(json!({"type": "AUTH", "token": known_token})).await;
    assert!(matches!(socket.frame().await, ServerFrame::Welcome(_)), "the socket lives on");
    server.go_on().await;
    until(async || opens(&fixture, &new_token).await).await;
}

#[tokio::test]
async fn a_node_that_never_saw_the_keys_is_not_ready_and_says_later() {
    let signer = Signer::p256("k");
    let mut server = KeyServer::start(&[&signer]).await;
    server.stop();
    until(async || tokio::net::TcpStream::connect(server.address).await.is_err()).await;
    let fixture = Fixture::with(settings(jwks(&server.url()))).await;
    let good = token(&fixture, &signer);
    let ready = async |query: &str| {
        let url = format!("http://{}/readyz{query}", fixture.running.admin);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_undecided(&fixture, &good).await;
    let (status, text) = ready("?verbose").await;
    assert!(status == 503 && text.contains("[-] key set: 0 keys"), "{text}");
    assert_eq!(ready("").await.0, 503);
    server.go_on().await;
    until(async || opens(&fixture, &good).await).await;
    let (status, text) = ready("?verbose").await;
    assert!(status == 200 && text.contains("[+] key set: 1 keys"), "{text}");
}

#[tokio::test]
async fn bad_documents_replace_nothing() {
    let (known, new) = (Signer::p256("known"), Signer::p256("new"));
    let server = KeyServer::start(&[&known]).await;
    let jwks = Jwks { timeout_ms: 300, max_bytes: 4_096, ..jwks(&server.url()) };
    let fixture = Fixture::with(settings(jwks)).await;
    until(async || fixture.node.admit.public_keys() == Some(1)).await;
    let (known_token, new_token) = (token(&fixture, &known), token(&fixture, &new));
    let padded = json!({"keys": [new.jwk], "padding": "x".repeat(4_096)}).to_string();
    let elsewhere = KeyServer::start(&[&new]).await;
    for (name, says) in [
        ("an error", Says::Status(500)),
        ("not found", Says::Status(404)),
        ("an empty body", Says::Document(Vec::new())),
        ("HTML", Says::Document(b"<html>".to_vec())),
        ("no keys", Says::Document(br#"{"keys":[]}"#.to_vec())),
        ("a large document", Says::Document(padded.into_bytes())),
        ("a redirect", Says::Redirect(elsewhere.url())),
        ("silence", Says::Nothing),
    ] {
        server.say(says);
        let reads = server.reads();
        // A read that was under way may still have seen what was said before.
        until(async || {
            let verdict = fixture.node.admit.verify_patiently(&new_token).await;
            verdict == Err(ErrorCode::StoreUnavailable) && server.reads() > reads
        })
        .await;
        assert!(fixture.node.admit.verify(&known_token).is_ok(), "{name}");
    }
    assert_eq!(elsewhere.reads(), 0, "a redirect is not followed");
    server.publish(&[&new]);
    until(async || fixture.node.admit.verify_patiently(&new_token).await.is_ok()).await;
    assert!(fixture.node.admit.verify(&known_token).is_err(), "and a good one does");
}

#[tokio::test]
async fn a_failed_read_is_repeated_without_being_asked_for() {
    let signer = Signer::p256("k");
    let server = KeyServer::start(&[&signer]).await;
    server.say(Says::Status(503));
    let fixture = Fixture::with(settings(jwks(&server.url()))).await;
    server.read(3).await;
    assert_eq!(fixture.node.admit.public_keys(), Some(0));
    server.publish(&[&signer]);
    until(async || fixture.node.admit.public_keys() == Some(1)).await;
    let reads = server.reads();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(server.reads(), reads, "once it is read, it is left in peace");
}
