//! WebSockets: upgrade, frames in and out, one task a socket. No decision is made here.
//!
//! Reading order: [`handshake`] → [`upgrade`](mod@upgrade) → [`task`] → [`wire`] → [`outbox`] →
//! [`encode`] → [`work`] → [`ask`] → [`registry`] → [`facts`] → [`sweep`](mod@sweep) → [`stream`].

pub mod ask;
pub mod encode;
pub mod facts;
pub mod handshake;
pub mod outbox;
pub mod registry;
pub mod stream;
pub mod sweep;
pub mod task;
pub mod upgrade;
pub mod wire;
pub mod work;

pub use registry::{Control, Followed, SocketHandle, Sockets};
pub use stream::{KillSwitch, NodeListener, NodeStream};
pub use sweep::sweep;
pub use upgrade::upgrade;
