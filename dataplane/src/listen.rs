//! Listening: the one way in which a node opens a port, whoever starts it.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A bound socket that does not listen: its port is given to nobody else meanwhile. SO_REUSEADDR
/// lets it, one listener and connections of a dead process share the port.
///
/// # Errors
/// What the operating system refuses, `AddrInUse` above all.
pub fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Listens, until the listener is dropped. Ready for tokio.
///
/// # Errors
/// What the operating system refuses, `AddrInUse` above all.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
