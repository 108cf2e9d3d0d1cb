//! Single-use tickets for clients that can set no header: `?ticket=`, 30 s.

use super::Identity;
use crate::node::Node;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use protocol::http::Ticket;
use protocol::{ErrorCode, UserId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use streamlog::{Key, Space};

/// How long a ticket may be redeemed (protocol section 1).
pub const TICKET_LIFE: Duration = Duration::from_secs(30);
const TICKET_BYTES: usize = 32;
/// Longest ticket that is looked up.
const MAX_TICKET_CHARS: usize = 64;

/// Whom a ticket stands for.
#[derive(Serialize, Deserialize)]
struct Fact {
    user: UserId,
    expires_at: Timestamp,
}

/// Makes a ticket that any node redeems once.
///
/// # Errors
/// STORE_UNAVAILABLE; INTERNAL where the machine has no randomness.
pub async fn issue(node: &Node, identity: &Identity) -> Result<Ticket, ErrorCode> {
    let mut secret = [0; TICKET_BYTES];
    // Not from `Ids`: its generator is fast and seedable, and may be guessed from the ids it made.
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| ErrorCode::Internal)?;
    let ticket = URL_SAFE_NO_PAD.encode(secret);
    let fact = Fact { user: identity.user.clone(), expires_at: identity.expires_at };
    let value = serde_json::to_vec(&fact).map_err(|_| ErrorCode::Internal)?;
    let expires_at = node.clock.wall().checked_add(TICKET_LIFE).unwrap_or(Timestamp::MAX);
    let put = node.registry.put(&key(&ticket), value, TICKET_LIFE).await;
    put.map_err(|_| ErrorCode::StoreUnavailable)?;
    Ok(Ticket { ticket, expires_at })
}

/// Takes a ticket: only its first use gets the identity.
///
/// # Errors
/// UNAUTHENTICATED, TOKEN_EXPIRED (of the token it was made with), STORE_UNAVAILABLE.
pub async fn redeem(node: &Node, ticket: &str) -> Result<Identity, ErrorCode> {
    if ticket.is_empty() || ticket.len() > MAX_TICKET_CHARS {
        return Err(ErrorCode::Unauthenticated);
    }
    let taken = node.registry.take(&key(ticket)).await;
    let value = taken.map_err(|_| ErrorCode::StoreUnavailable)?;
    let fact = value.and_then(|value| serde_json::from_slice::<Fact>(&value).ok());
    let Fact { user, expires_at } = fact.ok_or(ErrorCode::Unauthenticated)?;
    node.admit.still_good(Identity { user, expires_at })
}

/// The store knows a ticket's hash only: reading the store does not open a door.
fn key(ticket: &str) -> Key {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, ticket.as_bytes());
    Key::global(Space::Ticket, URL_SAFE_NO_PAD.encode(hash))
}
