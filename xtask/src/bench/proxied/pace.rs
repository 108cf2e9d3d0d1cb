//! The pace of the provider: a chunk of each stream in each period, each stream in a slot of its own,
//! so that at every moment exactly one chunk is due.

use super::clock::Clock;
use super::piece::Piece;
use super::upstream::{Order, STREAMS, Shared};
use crate::process::now;
use anyhow::Result;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

/// Chunks a second and stream.
pub(super) const RATE: u32 = 50;

/// An answer that is being written.
pub(super) struct Live {
    stream: TcpStream,
    order: Order,
    next: u32,
}

/// Writes the streams that are ordered, until nobody can order any more.
pub(super) fn pace(orders: &Receiver<Live>, shared: &Shared, clock: Clock) {
    let slot = Duration::from_secs(1) / RATE / STREAMS as u32;
    let mut streams: [Option<Live>; STREAMS] = [const { None }; STREAMS];
    let mut due = now();
    loop {
        if streams.iter().all(Option::is_none) {
            let Ok(live) = orders.recv() else { return };
            take(live, &mut streams);
            due = now();
        }
        for at in 0..STREAMS {
            // Late slots are written at once, none is left out.
            let wait = due.saturating_duration_since(now());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            due += slot;
            if let Ok(live) = orders.try_recv() {
                take(live, &mut streams);
            }
            // Whoever is measured may close whenever it likes: its client misses what it missed.
            if let Some(live) = &mut streams[at]
                && !matches!(live.write(shared, clock), Ok(true))
            {
                streams[at] = None;
            }
        }
    }
}

fn take(live: Live, streams: &mut [Option<Live>; STREAMS]) {
    if let Some(place) = streams.get_mut(live.order.stream as usize) {
        *place = Some(live);
    }
}

impl Live {
    /// Answers as a provider does before its first token.
    pub(super) fn begin(mut stream: TcpStream, order: Order) -> Result<Self> {
        stream.write_all(HEAD.as_bytes())?;
        stream.write_all(&in_chunk(&event(r#"{"role":"assistant","content":""}"#, "null")))?;
        Ok(Self { stream, order, next: 0 })
    }

    /// Writes what is next; whether there is more.
    fn write(&mut self, shared: &Shared, clock: Clock) -> Result<bool> {
        if self.next == self.order.chunks {
            let end = [in_chunk(&event("{}", r#""stop""#)), in_chunk(DONE), in_chunk("")];
            self.stream.write_all(&end.concat())?;
            return Ok(false);
        }
        let at = clock.nanos();
        if !shared.note(self.order, at) {
            return Ok(false);
        }
        let text = Piece { stream: self.order.stream, place: self.next, at }.text();
        self.next += 1;
        let delta = format!(r#"{{"content":"{text}"}}"#);
        self.stream.write_all(&in_chunk(&event(&delta, "null")))?;
        Ok(true)
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
const DONE: &str = "data: [DONE]\n\n";

/// As vLLM writes one.
fn event(delta: &str, finish_reason: &str) -> String {
    format!(
        r#"data: {{"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1767225600,"model":"bench","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}]}}"#
    ) + "\n\n"
}

/// A chunk of the body; an empty one is the last.
fn in_chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}
