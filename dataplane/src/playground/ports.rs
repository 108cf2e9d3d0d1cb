//! Ports that survive their node: reserved for the fleet's whole life, listened on by one
//! incarnation at a time.

use crate::listen;
use socket2::Socket;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A port of this machine that nobody else is given while this value lives. Connections are refused
/// unless somebody listens.
pub(super) struct Port {
    address: SocketAddr,
    /// Bound but not listening: the kernel hands the port to no outgoing connection meanwhile.
    _reserved: Socket,
}

impl Port {
    /// Reserves a port of 127.0.0.1; 0: any free one.
    pub(super) fn reserve(port: u16) -> io::Result<Self> {
        let reserved = listen::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let address = reserved.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("an address without a port"))?;
        Ok(Self { address, _reserved: reserved })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, until the listener is dropped.
    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        listen::listen(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::TcpStream;

    #[test]
    fn a_port_refuses_without_a_listener_and_can_be_listened_on_again() {
        let port = Port::reserve(0).unwrap();
        for _ in 0..3 {
            let refused = TcpStream::connect(port.address()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let listener = port.listen().unwrap();
            listener.set_nonblocking(false).unwrap();
            let client = TcpStream::connect(port.address()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            // The server's side closes first: its end of the connection stays in TIME_WAIT.
            drop((accepted, listener, client));
        }
    }

    #[test]
    fn a_port_somebody_listens_on_cannot_be_reserved() {
        let port = Port::reserve(0).unwrap();
        let _listener = port.listen().unwrap();
        let busy = Port::reserve(port.address().port()).err().unwrap();
        assert_eq!(busy.kind(), ErrorKind::AddrInUse);
    }
}
