//! One client of one stream: a WebSocket of ours, or an event stream of whatever stands between. It
//! keeps what came, and when, and fails where anything is missing, doubled, changed or out of order.

use super::super::websocket::{Socket, Target, Upgrade};
use super::clock::Clock;
use super::http::Response;
use super::piece::Piece;
use super::upstream::Order;
use crate::process::Stop;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How a client comes to its answer.
pub(super) enum Door {
    /// A node's WebSocket, as the owner of a token.
    WebSocket { target: Target, token: String },
    /// Whatever speaks as a provider does.
    Http(SocketAddr),
}

/// A chunk that came: when it was written and when it had been read, on the bench's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) written: u64,
    pub(super) read: u64,
}

/// What came on one stream.
pub(super) struct Log {
    pub(super) stream: u32,
    pub(super) seen: Vec<Seen>,
    /// Frames or events with a text.
    pub(super) frames: u64,
    pub(super) complete: bool,
}

enum Wire {
    WebSocket(Socket),
    Http { stream: TcpStream, response: Response },
}

/// See the module.
pub(super) struct Client {
    wire: Wire,
    pub(super) log: Log,
}

impl Client {
    /// Connects and asks.
    pub(super) fn ask(door: &Door, order: Order, stop: &Stop) -> Result<Self> {
        let wire = match door {
            Door::WebSocket { target, token } => {
                Wire::WebSocket(ask_node(target, token, order, stop)?)
            }
            Door::Http(address) => {
                let stream = ask_provider(*address, order)?;
                Wire::Http { stream, response: Response::new() }
            }
        };
        Ok(Self { wire, log: Log::new(order.stream) })
    }

    /// Reads everything that is there.
    pub(super) fn drain(&mut self, scratch: &mut [u8], clock: Clock) -> Result<()> {
        let log = &mut self.log;
        if log.complete {
            return Ok(());
        }
        let drained = match &mut self.wire {
            Wire::WebSocket(socket) => {
                socket.drain(scratch, |text, _| log.frame(text, clock.nanos()))
            }
            Wire::Http { stream, response } => read(stream, response, log, scratch, clock),
        };
        drained.with_context(|| format!("stream {}", self.log.stream))
    }

    /// Sleeps in the kernel until something came; at most for `time`.
    pub(super) fn wait(&mut self, time: Duration) -> Result<()> {
        match &mut self.wire {
            Wire::WebSocket(socket) => socket.wait(time),
            Wire::Http { stream, .. } => wait(stream, time),
        }
    }
}

impl Log {
    fn new(stream: u32) -> Self {
        Self { stream, seen: Vec::new(), frames: 0, complete: false }
    }

    /// A frame of a node.
    fn frame(&mut self, text: &[u8], at: u64) -> Result<()> {
        let frame: Frame<'_> = serde_json::from_slice(text)
            .with_context(|| format!("unexpected frame: {}", String::from_utf8_lossy(text)))?;
        let data = frame.data;
        let due = self.seen.len() as u64;
        match frame.kind {
            "CHUNK" | "CHUNKS" if data.index != Some(due) => {
                bail!("chunk {:?} came where {due} was due", data.index)
            }
            "CHUNK" => self.texts([data.content.unwrap_or_default()], at),
            "CHUNKS" => self.texts(data.chunks.into_iter().map(|chunk| chunk.content), at),
            "COMPLETE" if data.status == Some("completed") && data.total_chunks == Some(due) => {
                self.complete = true;
                Ok(())
            }
            "COMPLETE" | "ERROR" | "RESET" | "TAKEOVER" | "GOAWAY" => {
                bail!("{} after {due} chunks", String::from_utf8_lossy(text))
            }
            _ => Ok(()),
        }
    }

    /// The data of a provider's event.
    fn event(&mut self, data: &str, at: u64) -> Result<()> {
        if data == "[DONE]" {
            self.complete = true;
            return Ok(());
        }
        let event: Event<'_> =
            serde_json::from_str(data).with_context(|| format!("unexpected event: {data}"))?;
        let texts = event.choices.into_iter().filter_map(|choice| choice.delta.content);
        let texts: Vec<_> = texts.filter(|text| !text.is_empty()).collect();
        if texts.is_empty() { Ok(()) } else { self.texts(texts, at) }
    }

    fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>, at: u64) -> Result<()> {
        self.frames += 1;
        for text in texts {
            let due = self.seen.len();
            let piece = Piece::parse(text);
            let piece = piece
                .filter(|piece| piece.stream == self.stream && piece.place as usize == due)
                .with_context(|| format!("{text:?} came where piece {due} was due"))?;
            self.seen.push(Seen { written: piece.at, read: at });
        }
        Ok(())
    }
}

/// What of a frame is looked at.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(borrow)]
    data: FrameData<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FrameData<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    content: Option<&'a str>,
    #[serde(borrow, default)]
    chunks: Vec<Content<'a>>,
    #[serde(borrow, default)]
    status: Option<&'a str>,
    #[serde(default)]
    total_chunks: Option<u64>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    content: &'a str,
}

/// What of a provider's event is looked at.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a str>,
}

fn ask_node(target: &Target, token: &str, order: Order, stop: &Stop) -> Result<Socket> {
    let mut socket = loop {
        match Socket::upgrade(target, token)? {
            Upgrade::Open(socket) => break socket,
            Upgrade::Refused(wait) => stop.sleep(wait)?,
        }
    };
    socket.send(&format!(r#"{{"type":"CHAT_REQUEST","content":"{}"}}"#, order.text()))?;
    Ok(socket)
}

fn ask_provider(address: SocketAddr, order: Order) -> Result<TcpStream> {
    let text = order.text();
    let body = format!(
        r#"{{"model":"bench","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    let mut stream = TcpStream::connect(address).context("connecting")?;
    stream.set_nodelay(true)?;
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Accept: text/event-stream\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn read(
    stream: &mut TcpStream,
    response: &mut Response,
    log: &mut Log,
    scratch: &mut [u8],
    clock: Clock,
) -> Result<()> {
    loop {
        let came = match stream.read(scratch) {
            Ok(0) => bail!("closed after {} chunks", log.seen.len()),
            Ok(came) => came,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("reading"),
        };
        let at = clock.nanos();
        response.take(&scratch[..came], &mut |data| log.event(data, at))?;
        // Less than there was room for: there is no more.
        if came < scratch.len() || log.complete {
            return Ok(());
        }
    }
}

/// As [`Socket::wait`], which it is compared with.
fn wait(stream: &TcpStream, time: Duration) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(time))?;
    let came = stream.peek(&mut [0]);
    stream.set_nonblocking(true)?;
    match came {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error).context("waiting"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(place: u32, at: u64) -> String {
        Piece { stream: 3, place, at }.text()
    }

    fn chunk(index: u32, text: &str) -> String {
        format!(r#"{{"type":"CHUNK","data":{{"index":{index},"type":"TEXT","content":"{text}"}}}}"#)
    }

    fn log(frames: &[String]) -> Result<Log> {
        let mut log = Log::new(3);
        for (frame, at) in frames.iter().zip(100..) {
            log.frame(frame.as_bytes(), at)?;
        }
        Ok(log)
    }

    #[test]
    fn frames_are_read_one_by_one_or_together_to_the_end() {
        let both = format!(
            r#"{{"type":"CHUNKS","data":{{"index":1,"chunks":[{{"type":"TEXT","content":"{}"}},{{"content":"{}"}}]}}}}"#,
            text(1, 11),
            text(2, 12)
        );
        let welcome = r#"{"type":"WELCOME","data":{"sessionId":"x"}}"#.to_owned();
        let complete =
            r#"{"type":"COMPLETE","data":{"status":"completed","totalChunks":3}}"#.to_owned();
        let log = log(&[welcome, chunk(0, &text(0, 10)), both, complete]).unwrap();
        let seen = [(10, 101), (11, 102), (12, 102)];
        assert_eq!(log.seen, seen.map(|(written, read)| Seen { written, read }));
        assert!(log.complete && log.frames == 2);
    }

    #[test]
    fn what_is_missing_doubled_changed_or_of_another_stream_is_an_error() {
        let first = chunk(0, &text(0, 10));
        let wrong = |frame: String| log(&[first.clone(), frame]).err().unwrap().to_string();
        assert!(wrong(chunk(2, &text(2, 12))).contains("came where 1 was due"));
        assert!(wrong(first.clone()).contains("came where 1 was due"));
        assert!(wrong(chunk(1, &text(2, 12))).contains("came where piece 1 was due"));
        assert!(wrong(chunk(1, "changed")).contains("came where piece 1 was due"));
        let other = Piece { stream: 4, place: 1, at: 11 }.text();
        assert!(wrong(chunk(1, &other)).contains("came where piece 1 was due"));
        let short = r#"{"type":"COMPLETE","data":{"status":"completed","totalChunks":2}}"#;
        assert!(wrong(short.to_owned()).contains("after 1 chunks"));
    }

    #[test]
    fn events_without_a_text_count_for_nothing() {
        let mut log = Log::new(3);
        let event = |delta: &str| format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
        log.event(&event(r#"{"role":"assistant","content":""}"#), 1).unwrap();
        log.event(&event(&format!(r#"{{"content":"{}"}}"#, text(0, 5))), 7).unwrap();
        log.event(&event("{}"), 8).unwrap();
        log.event(r#"{"choices":[],"usage":{}}"#, 8).unwrap();
        log.event("[DONE]", 9).unwrap();
        assert_eq!((log.seen.as_slice(), log.frames), (&[Seen { written: 5, read: 7 }][..], 1));
        assert!(log.complete);
        assert!(log.event(&event(&format!(r#"{{"content":"{}"}}"#, text(0, 5))), 9).is_err());
    }
}
