//! One WebSocket of the load generator: the upgrade, masked text out, frames read in place. Non-blocking,
//! and no more of RFC 6455 than a benchmark of our own server needs; anything else is an error.

use anyhow::{Context as _, Result, bail};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The example of RFC 6455 section 1.3, so that the answer is known without a hash.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Of the upgrade.
const ANSWER: Duration = Duration::from_secs(10);
/// Larger than any frame the server sends: a replay page is 256 KiB.
pub(super) const SCRATCH_BYTES: usize = 1024 * 1024;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Where and as whom to connect.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) path: String,
}

impl Target {
    /// Reads `ws://host:port/path`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let parts = url.strip_prefix("ws://").and_then(|rest| rest.split_once('/'));
        let (host, path) = parts.with_context(|| format!("not a ws:// address: {url}"))?;
        let address = host.parse().with_context(|| format!("not a ws:// address: {url}"))?;
        Ok(Self { address, path: format!("/{path}") })
    }
}

/// What came of an upgrade.
pub(super) enum Upgrade {
    Open(Socket),
    /// 503: try again after this time.
    Refused(Duration),
}

/// An upgrade that was asked for.
pub(super) struct Handshake {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Handshake {
    /// Connects and asks for dialect v1; whoever was here before offers its resume token.
    pub(super) fn begin(target: &Target, token: &str, resume: Option<&str>) -> Result<Self> {
        let mut stream = TcpStream::connect(target.address).context("connecting")?;
        let resume = resume.map(|resume| format!(", resume.{resume}")).unwrap_or_default();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Protocol: chatcluster.v1, bearer.{token}{resume}\r\n\r\n",
            target.path, target.address
        );
        stream.write_all(request.as_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Reads what is there: where the head of the answer ends, once it is whole.
    pub(super) fn poll(&mut self) -> Result<Option<usize>> {
        let mut part = [0; 2048];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => bail!("closed during the upgrade"),
                Ok(count) => self.answer.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("reading the answer to the upgrade"),
            }
            if let Some(at) = self.answer.windows(4).position(|end| end == b"\r\n\r\n") {
                return Ok(Some(at + 4));
            }
        }
    }

    /// What came of it; `body` is what [`Self::poll`] gave.
    pub(super) fn finish(mut self, body: usize) -> Result<Upgrade> {
        if let Some(wait) = refusal(&String::from_utf8_lossy(&self.answer[..body]))? {
            return Ok(Upgrade::Refused(wait));
        }
        let mut socket = Socket::raw(self.stream)?;
        // Frames may have come along with the answer.
        socket.rest = self.answer.split_off(body);
        Ok(Upgrade::Open(socket))
    }
}

/// An open socket.
pub(super) struct Socket {
    stream: TcpStream,
    /// The begin of a frame whose end has not come yet.
    rest: Vec<u8>,
}

impl Socket {
    /// A stream that already speaks frames, as the floor program does.
    pub(super) fn raw(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, rest: Vec::new() })
    }

    /// Connects and upgrades in dialect v1.
    pub(super) fn upgrade(target: &Target, token: &str) -> Result<Upgrade> {
        let mut handshake = Handshake::begin(target, token, None)?;
        handshake.stream.set_nonblocking(false)?;
        handshake.stream.set_read_timeout(Some(ANSWER))?;
        match handshake.poll()? {
            Some(body) => handshake.finish(body),
            None => bail!("no answer to the upgrade in {ANSWER:?}"),
        }
    }

    /// Sleeps in the kernel until something came, or the server closed; at most for `time`.
    pub(super) fn wait(&mut self, time: Duration) -> Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(time))?;
        let came = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(true)?;
        match came {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error).context("waiting"),
            _ => Ok(()),
        }
    }

    /// Sends one text message. It always fits: the bench never sends more than the server reads.
    pub(super) fn send(&mut self, text: &str) -> Result<()> {
        self.write(TEXT, text.as_bytes())
    }

    fn write(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        let length =
            u16::try_from(payload.len()).context("a longer message than the bench sends")?;
        let mut frame = vec![0x80 | opcode];
        if length < 126 {
            frame.push(0x80 | length as u8);
        } else {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        // A mask of zeros is a mask, and leaves the payload as it is.
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).context("sending")
    }

    /// Reads everything that is there; `each` gets every text message and its bytes on the wire.
    pub(super) fn drain(
        &mut self,
        scratch: &mut [u8],
        mut each: impl FnMut(&[u8], usize) -> Result<()>,
    ) -> Result<()> {
        loop {
            let kept = self.rest.len();
            scratch[..kept].copy_from_slice(&self.rest);
            let room = scratch.len() - kept;
            let came = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(came) => came,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error).context("reading"),
            };
            let bytes = &scratch[..kept + came];
            if bytes.is_empty() {
                return Ok(());
            }
            let read = self.frames(bytes, &mut each)?;
            self.rest.clear();
            self.rest.extend_from_slice(&bytes[read..]);
            // Less than there was room for: the socket is empty, which saves asking again.
            if came < room {
                return Ok(());
            }
        }
    }

    /// Handles all whole frames and returns how many bytes they were.
    fn frames(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(&[u8], usize) -> Result<()>,
    ) -> Result<usize> {
        let mut at = 0;
        while let Some(frame) = Frame::read(&bytes[at..])? {
            match frame.opcode {
                TEXT => each(frame.payload, frame.bytes)?,
                PING => self.write(PONG, frame.payload)?,
                PONG => {}
                CLOSE => bail!("the server sent close {}", close_code(frame.payload)),
                other => bail!("unexpected opcode {other}"),
            }
            at += frame.bytes;
        }
        Ok(at)
    }
}

/// One frame of the server.
#[derive(Debug, PartialEq)]
struct Frame<'a> {
    opcode: u8,
    payload: &'a [u8],
    /// Header included.
    bytes: usize,
}

impl<'a> Frame<'a> {
    /// The first frame; `None` while it is not whole.
    fn read(bytes: &'a [u8]) -> Result<Option<Self>> {
        let [first, second, ..] = bytes else { return Ok(None) };
        if first & 0xF0 != 0x80 || second & 0x80 != 0 {
            bail!("a fragmented, extended or masked frame: {first:#04x} {second:#04x}");
        }
        let (length, header) = match second & 0x7F {
            126 => {
                let Some(length) = bytes.get(2..4) else { return Ok(None) };
                (usize::from(u16::from_be_bytes([length[0], length[1]])), 4)
            }
            127 => {
                let Some(length) = bytes.get(2..10) else { return Ok(None) };
                (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), 10)
            }
            short => (usize::from(short), 2),
        };
        let Some(payload) = bytes.get(header..header + length) else { return Ok(None) };
        Ok(Some(Self { opcode: first & 0x0F, payload, bytes: header + length }))
    }
}

fn close_code(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("{code} {}", String::from_utf8_lossy(reason))
        }
        _ => "without a code".to_owned(),
    }
}

/// `None` if upgraded; how long to wait if there is no room now; else an error.
fn refusal(head: &str) -> Result<Option<Duration>> {
    let status = head.lines().next().unwrap_or_default();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    match status.split(' ').nth(1) {
        Some("101") if header("sec-websocket-accept") == Some(ACCEPT) => Ok(None),
        Some("101") => bail!("upgraded with a wrong Sec-WebSocket-Accept"),
        Some("503") => {
            let seconds = header("retry-after").and_then(|seconds| seconds.parse().ok());
            Ok(Some(Duration::from_secs(seconds.unwrap_or(1))))
        }
        _ => bail!("the upgrade was refused: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Socket::raw(near).unwrap(), listener.accept().unwrap().0)
    }

    /// Drains until `count` messages came.
    fn messages(socket: &mut Socket, count: usize) -> Result<Vec<(usize, usize)>> {
        let mut seen = Vec::new();
        let mut scratch = vec![0; SCRATCH_BYTES];
        while seen.len() < count {
            socket.drain(&mut scratch, |text, bytes| {
                seen.push((text.len(), bytes));
                Ok(())
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn frames_of_every_length_are_read_however_they_are_cut() {
        let (mut socket, mut server) = pair();
        let mut wire = vec![0x81, 5];
        wire.extend_from_slice(b"hello");
        wire.extend_from_slice(&[0x81, 126, 1, 0]);
        wire.extend_from_slice(&[b'x'; 256]);
        wire.extend_from_slice(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 1]);
        wire.extend_from_slice(&[b'y'; 65_537]);
        let (first, second) = wire.split_at(3);
        server.write_all(first).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let mut scratch = vec![0; SCRATCH_BYTES];
        socket.drain(&mut scratch, |_, _| bail!("nothing is whole yet")).unwrap();
        server.write_all(second).unwrap();
        let seen = messages(&mut socket, 3).unwrap();
        assert_eq!(seen, [(5, 7), (256, 260), (65_537, 65_547)]);
    }

    #[test]
    fn a_message_is_masked_and_a_ping_is_answered() {
        let (mut socket, mut server) = pair();
        socket.send("hi").unwrap();
        server.write_all(&[0x89, 1, b'p', 0x81, 1, b't']).unwrap();
        messages(&mut socket, 1).unwrap();
        let mut came = [0; 15];
        server.read_exact(&mut came).unwrap();
        assert_eq!(came, *b"\x81\x82\0\0\0\0hi\x8a\x81\0\0\0\0p");
    }

    #[test]
    fn a_close_and_a_broken_frame_are_errors() {
        let (mut socket, mut server) = pair();
        server.write_all(&[0x88, 3, 0x0F, 0xA1, b'x']).unwrap();
        let error = messages(&mut socket, 1).unwrap_err().to_string();
        assert_eq!(error, "the server sent close 4001 x");
        assert!(Frame::read(&[0x01, 0]).is_err(), "a fragment");
        assert!(Frame::read(&[0x81, 0x80, 0, 0, 0, 0]).is_err(), "a masked frame");
        assert_eq!(Frame::read(&[0x81]).unwrap(), None);
    }

    #[test]
    fn an_answer_to_the_upgrade_opens_waits_or_fails() {
        let good =
            format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {ACCEPT}\r\n");
        assert_eq!(refusal(&good).unwrap(), None);
        assert!(refusal("HTTP/1.1 101 x\r\nSec-WebSocket-Accept: other\r\n").is_err());
        let full = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\n";
        assert_eq!(refusal(full).unwrap(), Some(Duration::from_secs(3)));
        assert!(refusal("HTTP/1.1 401 Unauthorized\r\n").is_err());
    }

    #[test]
    fn an_address_is_read() {
        let target = Target::parse("ws://127.0.0.1:81/ws/chat").unwrap();
        assert_eq!((target.address.port(), target.path.as_str()), (81, "/ws/chat"));
        assert!(Target::parse("http://127.0.0.1:81/ws/chat").is_err());
    }
}
