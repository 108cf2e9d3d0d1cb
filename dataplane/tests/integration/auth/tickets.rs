//! Tickets: one use, 30 s, one user.

use crate::fixture::{Call, Fixture};
use protocol::ServerFrame;
use protocol::http::Ticket;
use serde_json::{Value, json};
use std::time::Duration;

async fn ticket(fixture: &Fixture, user: &str) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/v1/tickets", fixture.address());
    let token = fixture.token(user, Duration::from_secs(600));
    let answer = http.post(url).bearer_auth(token).send().await.unwrap();
    answer.json::<Ticket>().await.unwrap().ticket
}

fn with(fixture: &Fixture, ticket: &str) -> Call {
    Call { token: None, query: format!("?ticket={ticket}"), ..fixture.call() }
}

#[tokio::test]
async fn a_ticket_is_good_once_on_whichever_node_and_door_comes_first() {
    let fixture = Fixture::start().await;
    let beside = fixture.beside().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let rest = async |ticket: &str| -> (u16, Value) {
        let url = format!("http://{}/api/v1/sessions?ticket={ticket}", fixture.address());
        let answer = http.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let first = ticket(&fixture, "bob").await;
    let mut socket = with(&beside, &first).connect().await.unwrap();
    let ServerFrame::Welcome(welcome) = socket.frame().await else { panic!() };
    assert_eq!(welcome.user_id.as_str(), "bob");
    for node in [&fixture, &beside] {
        let (status, body) = with(node, &first).connect().await.err().expect("replayed");
        assert_eq!((status, &body["code"]), (401, &json!("UNAUTHENTICATED")));
    }
    let (status, body) = rest(&first).await;
    assert_eq!((status, &body["code"]), (401, &json!("UNAUTHENTICATED")));
    let second = ticket(&fixture, "bob").await;
    assert_eq!(rest(&second).await.0, 200);
    let mut late = Call { protocols: None, ..with(&fixture, &second) }.connect().await.unwrap();
    let ServerFrame::Error(error) = late.frame().await else { panic!() };
    assert_eq!(error.error, "Authentication failed");
    assert_eq!(late.closed().await, 4500);
}

#[tokio::test]
async fn a_ticket_ends_after_thirty_seconds() {
    let fixture = Fixture::start().await;
    let (in_time, late) = (ticket(&fixture, "bob").await, ticket(&fixture, "bob").await);
    pass(Duration::from_secs(29)).await;
    with(&fixture, &in_time).welcomed().await;
    pass(Duration::from_secs(2)).await;
    let (status, body) = with(&fixture, &late).connect().await.err().expect("too late");
    assert_eq!((status, &body["code"]), (401, &json!("UNAUTHENTICATED")));
}

/// The clocks jump; what is due then happens.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn no_ticket_is_made_with_a_ticket_that_was_used() {
    let fixture = Fixture::start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let first = ticket(&fixture, "bob").await;
    let url = format!("http://{}/api/v1/tickets?ticket={first}", fixture.address());
    let second: Ticket = http.post(&url).send().await.unwrap().json().await.unwrap();
    assert_ne!(second.ticket, first);
    assert_eq!(http.post(&url).send().await.unwrap().status(), 401);
}
