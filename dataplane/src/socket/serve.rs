//! A node's HTTP/1.1 server: one task a connection, a bound on the time a request's head may take,
//! and an end with the node.
//!
//! Ours in place of `axum::serve`, which gives hyper no timer: without one a head that comes a byte
//! at a time is waited for without end (slowloris).

use super::stream::{NodeListener, NodeStream};
use axum::Router;
use axum::serve::Listener as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request's head must be complete this long after its connection began to wait for one; an idle
/// connection is closed by the same rule. Above `timeout http-request` of `docs/haproxy.cfg`, which says 408 first.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(20);
/// Answers that are being written when the node stops may take this long.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves every connection of `listener` until `stop`, each in a task of `tasks`.
pub async fn serve(
    mut listener: NodeListener,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let stream = tokio::select! {
            (stream, _) = listener.accept() => stream,
            () = stop.cancelled() => return,
        };
        tasks.spawn(connection(stream, router.clone(), stop.clone()));
    }
}

/// One connection, until it closes, is upgraded, or the node stops.
async fn connection(stream: NodeStream, router: Router, stop: CancellationToken) {
    let killed = stream.kill_switch();
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut served = pin!(served);
    // What fails here is the peer's: it went, or spoke no HTTP.
    tokio::select! {
        _ = served.as_mut() => return,
        () = stop.cancelled() => {}
    }
    if !killed.is_set() {
        served.as_mut().graceful_shutdown();
        let _ = timeout(FAREWELL, served).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::KillSwitch;
    use axum::routing::get;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;
    use tokio::time::Instant;

    struct Served {
        address: SocketAddr,
        /// A request for `/never` has come.
        busy: Arc<Notify>,
        tasks: TaskTracker,
        stop: CancellationToken,
    }

    async fn served() -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let busy = Arc::<Notify>::default();
        let told = busy.clone();
        let never = async move || {
            told.notify_one();
            std::future::pending::<()>().await
        };
        let router = Router::new().route("/", get(async || "here")).route("/never", get(never));
        let listener = NodeListener::new(listener, KillSwitch::default());
        tasks.spawn(serve(listener, router, tasks.clone(), stop.clone()));
        Served { address, busy, tasks, stop }
    }

    async fn read_to_the_end(mut stream: TcpStream) -> String {
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_ends_is_not_waited_for() {
        let served = served().await;
        let begun = Instant::now();
        let mut slow = TcpStream::connect(served.address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-a: ").await.unwrap();
        assert!(!read_to_the_end(slow).await.contains("200"));
        let waited = begun.elapsed();
        assert!(waited >= HEAD_PATIENCE && waited < 2 * HEAD_PATIENCE, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_trickle_do_not_prolong_it() {
        let served = served().await;
        let begun = Instant::now();
        let stream = TcpStream::connect(served.address).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        write.write_all(b"GET / HTTP/1.1\r\nx-a: ").await.unwrap();
        let mut said = Vec::new();
        loop {
            tokio::select! {
                _ = read.read_to_end(&mut said) => break,
                () = tokio::time::sleep(Duration::from_secs(3)) => {
                    // Refused once the connection is closed, which the reading side tells.
                    let _ = write.write_all(b"a").await;
                }
            }
            assert!(begun.elapsed() < 2 * HEAD_PATIENCE, "still waited for");
        }
    }

    #[tokio::test]
    async fn the_end_of_the_node_ends_idle_and_busy_connections() {
        let served = served().await;
        let mut idle = TcpStream::connect(served.address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        idle.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut busy = TcpStream::connect(served.address).await.unwrap();
        busy.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        served.busy.notified().await;
        served.stop.cancel();
        served.tasks.close();
        timeout(Duration::from_secs(10), served.tasks.wait()).await.unwrap();
        assert!(read_to_the_end(idle).await.ends_with("here"));
        assert_eq!(read_to_the_end(busy).await, "");
    }
}
