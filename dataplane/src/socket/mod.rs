//! WebSockets: upgrade, frames in and out, one task a socket. No decision is made here.
//!
//! Reading order: [`handshake`] → [`upgrade`](mod@upgrade) → [`task`] → [`wire`] → [`outbox`] →
//! [`encode`] → [`work`] → [`ask`] → [`registry`] → [`facts`] → [`sweep`](mod@sweep) →
//! [`serve`](mod@serve) → [`stream`].

pub mod ask;
pub mod encode;
pub mod facts;
pub mod handshake;
pub mod outbox;
pub mod registry;
pub mod serve;
pub mod stream;
pub mod sweep;
pub mod task;
pub mod upgrade;
pub mod wire;
pub mod work;

pub(crate) use facts::place_all;
pub use registry::{Control, Followed, SocketHandle, Sockets};
pub use serve::serve;
pub use stream::{KillSwitch, NodeListener, NodeStream};
pub use sweep::sweep;
pub use upgrade::upgrade;
pub(crate) use wire::reason as close_reason;

use crate::node::Node;
use crate::session::Now;

/// The moment, as sessions count it.
fn now(node: &Node) -> Now {
    let now = node.clock.now();
    let mono_ms = now.saturating_duration_since(node.started).as_millis() as u64;
    Now { mono_ms, wall: node.clock.wall_at(now) }
}
