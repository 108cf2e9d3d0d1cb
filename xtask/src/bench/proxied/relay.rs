//! The relay: what it costs to pass a provider's bytes on without looking at them. A connection to the
//! provider for each of a client, and bytes copied in both directions, on one thread. A process of its
//! own, so that its CPU time is read like the node's.

use super::super::floor::LISTENING;
use anyhow::Result;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Where the provider listens
    #[arg(long)]
    pub(crate) upstream: SocketAddr,
}

/// The program; it runs until it is ended.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{LISTENING}{}", listener.local_addr()?.port());
        serve(&listener, args.upstream).await
    })
}

/// Relays every connection until accepting fails.
async fn serve(listener: &TcpListener, upstream: SocketAddr) -> Result<()> {
    let mut relays = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (near, _) = accepted?;
                relays.spawn(relay(near, upstream));
            }
            // How a connection ended is for its client to judge.
            Some(_) = relays.join_next() => {}
        }
    }
}

async fn relay(mut near: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    near.set_nodelay(true)?;
    let mut far = TcpStream::connect(upstream).await?;
    far.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn bytes_go_both_ways_and_an_end_is_passed_on() {
        let provider = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let upstream = provider.local_addr().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = async {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"ask").await.unwrap();
            let (mut far, _) = provider.accept().await.unwrap();
            let mut asked = [0; 3];
            far.read_exact(&mut asked).await.unwrap();
            far.write_all(b"answer").await.unwrap();
            drop(far);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            (asked, answer)
        };
        tokio::select! {
            end = serve(&listener, upstream) => panic!("{end:?}"),
            (asked, answer) = client => {
                assert_eq!((&asked, answer.as_slice()), (b"ask", &b"answer"[..]));
            }
        }
    }
}
