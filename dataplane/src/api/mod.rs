//! The data port's HTTP interface.

mod problem;

pub use problem::{PROBLEM_JSON, Refused, problem, wrong_method};

use crate::node::Node;
use axum::Router;
use std::sync::Arc;

/// Every route of the data port, the WebSocket's included.
pub fn router(node: Arc<Node>) -> Router {
    Router::new().route("/ws/chat", axum::routing::get(crate::socket::upgrade)).with_state(node)
}
