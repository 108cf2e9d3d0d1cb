//! Asks a node process on its admin port: one request, one connection, a bounded time.

use axum::body::{Body, Bytes, to_bytes};
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use protocol::DrainReport;
use protocol::drain::DrainRequest;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// Whether a probe of the process, `/livez` or `/readyz`, says yes.
pub(super) async fn says_yes(admin: SocketAddr, probe: &str, patience: Duration) -> bool {
    let asked = ask(admin, Method::GET, probe, Bytes::new(), patience).await;
    asked.is_ok_and(|(status, _)| status == StatusCode::OK)
}

/// The node's report about itself.
pub(super) async fn report(admin: SocketAddr, patience: Duration) -> io::Result<DrainReport> {
    let (_, body) = ask(admin, Method::GET, "/admin/drain", Bytes::new(), patience).await?;
    serde_json::from_slice(&body).map_err(io::Error::other)
}

/// Starts a drain.
pub(super) async fn drain(
    admin: SocketAddr,
    request: &DrainRequest,
    patience: Duration,
) -> io::Result<StatusCode> {
    let body = serde_json::to_vec(request).map_err(io::Error::other)?.into();
    ask(admin, Method::POST, "/admin/drain", body, patience).await.map(|(status, _)| status)
}

async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
    patience: Duration,
) -> io::Result<(StatusCode, Bytes)> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address.to_string())
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(io::Error::other)?;
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(patience, exchange(address, request)).await.map_err(late)?
}

async fn exchange(address: SocketAddr, request: Request<Body>) -> io::Result<(StatusCode, Bytes)> {
    let tcp = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(tcp)).await.map_err(io::Error::other)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let (parts, body) = response.into_parts();
        let body = to_bytes(Body::new(body), MAX_ANSWER).await.map_err(io::Error::other)?;
        Ok((parts.status, body))
    };
    // The connection moves the bytes and ends with the answer.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}
