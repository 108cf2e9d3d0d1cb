//! The provider: an OpenAI-compatible server that takes requests and remembers what it wrote. Threads
//! of the bench itself, so that their CPU counts for nobody measured and their clock is the clients'.

use super::clock::Clock;
use super::http::{self, MAX_HEAD, head_end};
use super::pace::{Live, pace};
use anyhow::{Context as _, Result, bail};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Streams at once.
pub(super) const STREAMS: usize = 20;
/// Whoever connects has this long for its request, and the kernel for a chunk.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of a request.
const MAX_BODY: usize = 64 * 1024;

/// What stands in the text of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Streams of an earlier one are not served any more.
    pub(super) run: u32,
    pub(super) stream: u32,
    pub(super) chunks: u32,
}

impl Order {
    pub(super) fn text(self) -> String {
        let Self { run, stream, chunks } = self;
        format!("[bench run={run} stream={stream} chunks={chunks}]")
    }

    fn find(body: &str) -> Option<Self> {
        let text = body.split_once("[bench ")?.1.split_once(']')?.0;
        let mut values = text.split(' ').map(|part| part.split_once('=')?.1.parse().ok());
        let mut value = || values.next().flatten();
        Some(Self { run: value()?, stream: value()?, chunks: value()? })
    }
}

/// What was written since the run began.
#[derive(Default)]
struct Sent {
    run: u32,
    /// When each chunk was, a list a stream.
    times: [Vec<u64>; STREAMS],
}

/// What the threads of a provider share.
#[derive(Default)]
pub(super) struct Shared {
    sent: Mutex<Sent>,
    closed: AtomicBool,
}

impl Shared {
    /// Notes that a chunk is written now; whether its run still is the present one.
    pub(super) fn note(&self, order: Order, at: u64) -> bool {
        let mut sent = self.sent();
        let times = sent.times.get_mut(order.stream as usize);
        times.map(|times| times.push(at)).is_some() && sent.run == order.run
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running provider; dropping it ends its threads.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Upstream {
    pub(super) fn start(clock: Clock) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the provider")?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let (live, orders) = sync_channel(STREAMS);
        let (pacing, listening) = (shared.clone(), shared.clone());
        let threads = vec![
            thread::Builder::new()
                .name("provider-pace".to_owned())
                .spawn(move || pace(&orders, &pacing, clock))?,
            thread::Builder::new()
                .name("provider".to_owned())
                .spawn(move || listen(&listener, &live, &listening))?,
        ];
        Ok(Self { address, shared, threads })
    }

    /// Begins another run: what is left of earlier ones ends, what was written is forgotten.
    pub(super) fn begin(&self) -> u32 {
        let mut sent = self.shared.sent();
        let run = sent.run + 1;
        *sent = Sent { run, ..Sent::default() };
        run
    }

    /// When each chunk of a stream was written in this run.
    pub(super) fn times(&self, stream: u32) -> Vec<u64> {
        self.shared.sent().times.get(stream as usize).cloned().unwrap_or_default()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes it; then it sees that it is closed.
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Serves one request a connection, one after the other: nobody is measured by that.
fn listen(listener: &TcpListener, live: &SyncSender<Live>, shared: &Shared) {
    for stream in listener.incoming() {
        if shared.closed.load(Ordering::Relaxed) {
            return;
        }
        let served = stream.map_err(Into::into).and_then(|stream| serve(stream, live));
        if let Err(error) = served {
            eprintln!("bench: the provider: {error:#}");
        }
    }
}

fn serve(mut stream: TcpStream, live: &SyncSender<Live>) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some((head, body)) = request(&mut stream)? else { return Ok(()) };
    if head.starts_with("GET ") {
        // Whether it is well, and what it has: this answers both.
        return Ok(stream.write_all(models().as_bytes())?);
    }
    let order = Order::find(&body).context("a request of somebody else")?;
    if order.stream as usize >= STREAMS {
        bail!("there is no stream {}", order.stream);
    }
    live.send(Live::begin(stream, order)?).context("the provider has ended")
}

fn models() -> String {
    let body = r#"{"object":"list","data":[{"id":"bench","object":"model"}]}"#;
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// Head and body; `None`: whoever connected has closed again.
fn request(stream: &mut TcpStream) -> Result<Option<(String, String)>> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = head_end(&bytes) {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = http::header(&head, "content-length").unwrap_or("0");
            let length: usize = length.parse().context("Content-Length")?;
            if length > MAX_BODY {
                bail!("a request of {length} bytes");
            }
            if bytes.len() >= end + length {
                let body = String::from_utf8_lossy(&bytes[end..end + length]).into_owned();
                return Ok(Some((head, body)));
            }
        } else if bytes.len() > MAX_HEAD {
            bail!("a request whose head does not end");
        }
        match stream.read(&mut part).context("reading a request")? {
            0 if bytes.is_empty() => return Ok(None),
            0 => bail!("half a request"),
            count => bytes.extend_from_slice(&part[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::Response;
    use super::super::piece::Piece;
    use super::*;

    fn ask(upstream: &Upstream, order: Order) -> TcpStream {
        let body = format!("{{\"messages\":[{{\"content\":\"{}\"}}]}}", order.text());
        let mut stream = TcpStream::connect(upstream.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        stream
    }

    fn events(mut stream: TcpStream) -> Vec<String> {
        let (mut bytes, mut seen) = (Vec::new(), Vec::new());
        stream.read_to_end(&mut bytes).unwrap();
        let mut each = |data: &str| {
            seen.push(data.to_owned());
            Ok(())
        };
        Response::new().take(&bytes, &mut each).unwrap();
        seen
    }

    #[test]
    fn an_answer_is_what_was_ordered_and_is_remembered() {
        let upstream = Upstream::start(Clock::new()).unwrap();
        let run = upstream.begin();
        let orders = [3, 4].map(|stream| Order { run, stream, chunks: 5 });
        let streams = orders.map(|order| ask(&upstream, order));
        for (stream, order) in streams.into_iter().zip(orders) {
            let seen = events(stream);
            assert_eq!(seen.len(), 1 + 5 + 2, "{seen:?}");
            assert_eq!(seen.last().map(String::as_str), Some("[DONE]"));
            let times = upstream.times(order.stream);
            assert_eq!(times.len(), 5);
            for (place, (event, at)) in (0..).zip(seen[1..6].iter().zip(times)) {
                let text = Piece { stream: order.stream, place, at }.text();
                assert!(event.contains(&format!("\"content\":\"{text}\"")), "{event}");
            }
        }
        upstream.begin();
        assert!(upstream.times(3).is_empty());
    }

    #[test]
    fn a_stream_of_an_earlier_run_is_cut_off() {
        let upstream = Upstream::start(Clock::new()).unwrap();
        let run = upstream.begin();
        let stream = ask(&upstream, Order { run, stream: 0, chunks: 9_999 });
        upstream.begin();
        assert!(!events(stream).iter().any(|data| data == "[DONE]"));
    }

    #[test]
    fn an_order_is_found_in_any_request() {
        let order = Order { run: 3, stream: 7, chunks: 525 };
        let body = format!("{{\"content\":\"{}\"}}", order.text());
        assert_eq!(Order::find(&body), Some(order));
        assert_eq!(Order::find("[bench run=3 stream=x chunks=1]"), None);
        assert_eq!(Order::find("[bench run=3 stream=4]"), None);
    }
}
