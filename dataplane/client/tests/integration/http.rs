//! The HTTP side against canned answers.

use client::api::{Api, ApiError, http_client};
use client::token::install_crypto;
use protocol::{ErrorCode, MessageId, ServerFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Answers every request with the same text.
async fn canned(status: &str, kind: &str, body: String) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n");
    let answer = format!("{head}connection: close\r\n\r\n{body}");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
                if stream.read_buf(&mut seen).await.unwrap() == 0 {
                    break;
                }
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, tasks)
}

fn id() -> MessageId {
    MessageId::parse("018f4d5e-0000-7000-8000-000000000001").unwrap()
}

#[tokio::test]
async fn sse_gives_frames_with_their_ids() {
    install_crypto();
    let data =
        format!(r#"{{"messageId":"{}","index":0,"type":"TEXT","content":"hi","epoch":1}}"#, id());
    let body = format!(": hello\n\nevent: chunk\nid: 1.0\ndata: {data}\n\n");
    let (url, _tasks) = canned("200 OK", "text/event-stream", body).await;
    let api = Api::new(http_client().unwrap(), &url, "t");
    let mut follow = api.follow(id(), Some("1.0")).await.unwrap();
    let event = follow.next().await.unwrap().unwrap();
    assert_eq!(event.id.as_deref(), Some("1.0"));
    assert!(matches!(event.frame, ServerFrame::Chunk(body) if &*body.chunk.content == "hi"));
    assert!(follow.next().await.unwrap().is_none());
}

#[tokio::test]
async fn problems_are_typed() {
    install_crypto();
    let problem = protocol::http::Problem::new(ErrorCode::NotFound);
    let body = serde_json::to_string(&problem).unwrap();
    let (url, _tasks) = canned("404 Not Found", "application/problem+json", body).await;
    let api = Api::new(http_client().unwrap(), &url, "t");
    let error = api.message(id()).await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    assert!(!error.is_passing());
    let ApiError::Refused { problem: Some(problem), .. } = error else { panic!("{error}") };
    assert_eq!(problem.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn nobody_there_is_told_apart() {
    install_crypto();
    let url = crate::node::Node::nowhere().await;
    let error = Api::new(http_client().unwrap(), &url, "t").sessions().await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable { .. }) && error.is_passing());
}
