//! One WebSocket: the library reads, checks UTF-8, joins fragments, answers pings and shakes hands
//! at the close; what is written goes through our own queue.

use super::outbox::Outbox;
use super::stream::NodeStream;
use bytes::Bytes;
use futures_util::task::ArcWake;
use protocol::{CloseCode, MAX_FRAME_BYTES};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, Role, WebSocketConfig, WebSocketContext,
};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Bytes read at once. The buffer is filled with zeros before every read, and an idle socket keeps
/// it: it is small on purpose.
const READ_BUFFER: usize = 512;
/// The library writes control frames only: one of at most 125 bytes at a time.
const CONTROL_BUFFER: usize = 1_024;
/// RFC 6455 section 7.4.1, protocol error.
const PROTOCOL_ERROR: u16 = 1002;

/// What was read.
#[derive(Debug)]
pub enum Heard {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary,
    /// A ping or a pong.
    Seen,
    /// The peer broke RFC 6455 or a limit; the close frame is on its way.
    Broken,
    /// It is over; nothing more can be read.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Our close frame was queued; the peer's is awaited.
    Closing,
    /// The peer cannot be understood any more. What it still sends is read and thrown away, because
    /// closing a socket with unread data would reset it and lose our close frame.
    Discarding {
        /// Our side was shut down.
        shut: bool,
    },
    /// Only the queue is left to be written.
    Over,
}

/// See the module.
pub struct Wire {
    stream: NodeStream,
    /// Apart: it is read when the client speaks, not for a chunk.
    context: Box<WebSocketContext>,
    outbox: Outbox,
    phase: Phase,
    /// The library may hold a whole message: it is asked before the socket is.
    pending: bool,
    /// Whether the socket may have something to read; made when it is first asked.
    readable: Option<(Arc<Readable>, Waker)>,
}

/// Tells the socket's readiness from everything else that wakes its task: a reader that is asked before
/// every chunk costs a lock and a waker each time.
struct Readable {
    flag: AtomicBool,
    task: Waker,
}

impl ArcWake for Readable {
    fn wake_by_ref(readable: &Arc<Self>) {
        readable.flag.store(true, Ordering::Release);
        readable.task.wake_by_ref();
    }
}

impl Wire {
    /// After the upgrade; `early` was read behind the request.
    pub fn new(stream: NodeStream, early: &Bytes) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(CONTROL_BUFFER)
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let part = early.to_vec();
        let context = WebSocketContext::from_partially_read(part, Role::Server, Some(config));
        let context = Box::new(context);
        Self {
            stream,
            context,
            outbox: Outbox::default(),
            phase: Phase::Open,
            pending: !early.is_empty(),
            readable: None,
        }
    }

    /// As the socket's own, without looking at it while nothing woke the reader.
    fn poll_readable(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let known = self.readable.take().filter(|(known, _)| known.task.will_wake(cx.waker()));
        let (readable, waker) = self.readable.insert(known.unwrap_or_else(|| {
            let task = cx.waker().clone();
            let readable = Arc::new(Readable { flag: AtomicBool::new(true), task });
            (readable.clone(), futures_util::task::waker(readable))
        }));
        if !readable.flag.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let ready = ready!(self.stream.tcp().poll_read_ready(&mut Context::from_waker(waker)));
        readable.flag.store(true, Ordering::Release);
        Poll::Ready(ready)
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.outbox.bytes()
    }

    /// Gives room back that an idle socket does not need.
    pub fn shrink(&mut self) {
        self.outbox.shrink();
    }

    /// Whether messages may still be sent.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the node was killed: drop it at once.
    pub fn is_killed(&self) -> bool {
        self.stream.is_killed()
    }

    /// Queues whole frames; dropped once the socket closes.
    pub fn push(&mut self, frames: Bytes) {
        if self.is_open() {
            self.outbox.push(frames);
        }
    }

    /// Queues a ping.
    pub fn ping(&mut self) {
        if self.is_open() {
            let mut io = Io { tcp: self.stream.tcp(), outbox: &mut self.outbox };
            // It goes into our queue, which takes everything.
            let _ = self.context.write(&mut io, Message::Ping(Bytes::new()));
        }
    }

    /// Starts the closing handshake.
    pub fn close(&mut self, code: CloseCode) {
        self.close_with(code.number(), reason(code));
    }

    fn close_with(&mut self, code: u16, reason: &'static str) {
        if !self.is_open() {
            return;
        }
        self.phase = Phase::Closing;
        let frame = CloseFrame { code: code.into(), reason: Utf8Bytes::from_static(reason) };
        let mut io = Io { tcp: self.stream.tcp(), outbox: &mut self.outbox };
        let _ = self.context.close(&mut io, Some(frame));
    }

    /// Reads one message.
    pub fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        loop {
            match self.phase {
                Phase::Over => return Poll::Ready(Heard::Over),
                Phase::Discarding { .. } => return self.poll_discard(cx),
                Phase::Open | Phase::Closing => {}
            }
            if !self.pending && ready!(self.poll_readable(cx)).is_err() {
                return Poll::Ready(self.over());
            }
            let mut io = Io { tcp: self.stream.tcp(), outbox: &mut self.outbox };
            let heard = self.context.read(&mut io);
            self.pending = !matches!(&heard, Err(Error::Io(e)) if is_blocked(e));
            match heard {
                Ok(Message::Text(text)) => return Poll::Ready(Heard::Text(text)),
                Ok(Message::Binary(_)) => return Poll::Ready(Heard::Binary),
                Ok(_) => return Poll::Ready(Heard::Seen),
                Err(Error::Io(error)) if is_blocked(&error) => {}
                Err(error) => return Poll::Ready(self.broken(&error)),
            }
        }
    }

    fn over(&mut self) -> Heard {
        self.phase = Phase::Over;
        Heard::Over
    }

    fn broken(&mut self, error: &Error) -> Heard {
        use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        let (code, reason) = match error {
            Error::Utf8(_) => (CloseCode::InvalidUtf8.number(), "invalid UTF-8"),
            Error::Capacity(_) => (CloseCode::TooBig.number(), "frame too big"),
            Error::Protocol(ResetWithoutClosingHandshake) => return self.over(),
            Error::Protocol(_) => (PROTOCOL_ERROR, "protocol error"),
            _ => return self.over(),
        };
        self.close_with(code, reason);
        self.phase = Phase::Discarding { shut: false };
        Heard::Broken
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        let mut waste = [0; 4_096];
        loop {
            if ready!(self.stream.tcp().poll_read_ready(cx)).is_err() {
                return Poll::Ready(self.over());
            }
            match self.stream.tcp().try_read(&mut waste) {
                Ok(0) => return Poll::Ready(self.over()),
                Ok(_) => {}
                Err(error) if is_blocked(&error) => {}
                Err(_) => return Poll::Ready(self.over()),
            }
        }
    }

    /// Writes what waits. `Ready` when nothing waits any more.
    ///
    /// # Errors
    /// The connection's end.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let tcp = self.stream.tcp();
            match self.outbox.flush(|slices| match slices {
                [one] => tcp.try_write(one),
                more => tcp.try_write_vectored(more),
            }) {
                Ok(()) => break,
                Err(error) if is_blocked(&error) => {
                    ready!(self.stream.tcp().poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if let Phase::Discarding { shut: shut @ false } = &mut self.phase {
            *shut = true;
            // The peer sees our close frame and the end; then it ends its side.
            socket2::SockRef::from(self.stream.tcp()).shutdown(std::net::Shutdown::Write)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the connection has nothing more to do.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Over && self.outbox.is_empty()
    }

    /// Finishes a closing socket without a session.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_killed() {
            return Poll::Ready(());
        }
        while !matches!(self.poll_hear(cx), Poll::Pending | Poll::Ready(Heard::Over)) {}
        match self.poll_flush(cx) {
            Poll::Ready(Ok(())) if !self.is_done() => Poll::Pending,
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(()),
        }
    }
}

fn is_blocked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// The text of a close frame: for people who look at the wire.
pub(crate) const fn reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Normal => "done",
        CloseCode::Away => "no frame for too long",
        CloseCode::InvalidUtf8 => "invalid UTF-8",
        CloseCode::TooBig => "frame too big",
        CloseCode::Restart => "restart, reconnect",
        CloseCode::Overloaded => "overloaded",
        CloseCode::Drained => "drained, reconnect",
        CloseCode::TokenExpired => "token expired, get a new one",
        CloseCode::Rebalanced => "rebalanced, reconnect",
        CloseCode::SlowHandshake => "slow handshake",
        CloseCode::Unauthenticated => "authentication failed",
        CloseCode::Forbidden => "session of another user",
        CloseCode::Abuse => "too many bad frames",
        CloseCode::UnsupportedVersion => "offer chatcluster.v1",
        CloseCode::TooManySockets => "too many connections of this user",
    }
}

/// What the library reads from and writes to: never blocks, and its writes go into our queue.
struct Io<'a> {
    tcp: &'a TcpStream,
    outbox: &'a mut Outbox,
}

impl Read for Io<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.tcp.try_read(buf)
    }
}

impl Write for Io<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.outbox.push(Bytes::copy_from_slice(buf));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
