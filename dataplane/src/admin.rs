//! The admin port.

use crate::node::Node;
use axum::Router;
use std::sync::Arc;

/// Every route of the admin port.
pub fn router(node: Arc<Node>) -> Router {
    Router::new().with_state(node)
}
