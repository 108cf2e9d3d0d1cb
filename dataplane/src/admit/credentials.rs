//! Where a request carries its token: header, subprotocol, ticket, query (protocol section 1).

use super::Identity;
use crate::node::Node;
use protocol::ErrorCode;

/// Finds and checks the token of an HTTP request or an upgrade.
///
/// # Errors
/// UNAUTHENTICATED, TOKEN_EXPIRED or STORE_UNAVAILABLE.
pub async fn authenticate(
    node: &Node,
    parts: &http::request::Parts,
) -> Result<Identity, ErrorCode> {
    let _ = (node, parts);
    Err(ErrorCode::Unauthenticated)
}
