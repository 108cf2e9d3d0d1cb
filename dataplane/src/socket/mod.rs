//! WebSockets: upgrade, frames in and out, one task a socket. No decision is made here.

pub mod registry;

use crate::node::Node;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

pub use registry::{Control, SocketHandle, Sockets};

/// `GET /ws/chat`.
pub async fn upgrade(State(node): State<Arc<Node>>, request: Request) -> Response {
    let _ = (node, request);
    http::StatusCode::NOT_IMPLEMENTED.into_response()
}

/// Idleness, token expiry and heartbeats of all sockets: one timer a node, not one a socket.
pub async fn sweep(node: Arc<Node>) {
    node.stop.cancelled().await;
}
