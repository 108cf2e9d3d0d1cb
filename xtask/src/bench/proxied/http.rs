//! As much of HTTP/1.1 and of server-sent events as one streamed answer needs: a chunked body becomes
//! bytes, bytes become the data of events. Pure; whatever else comes is an error.

use anyhow::{Context as _, Result, bail};

/// Longest head of a message.
pub(super) const MAX_HEAD: usize = 16 * 1024;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Where the head of a message ends, once it is whole.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    Some(bytes.windows(END_OF_HEAD.len()).position(|end| end == END_OF_HEAD)? + END_OF_HEAD.len())
}

/// A header's value; names differ in case from program to program.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The body of a response as it comes in.
pub(super) struct Response {
    /// What came of the head, until it is whole.
    head: Option<Vec<u8>>,
    chunk: Chunk,
    /// Bytes of the body that are no whole event yet.
    events: Vec<u8>,
}

/// Where in a chunked body the next byte lies.
enum Chunk {
    /// In the line with its size.
    Size(Vec<u8>),
    /// In its data, and so many bytes of it are left.
    Data(usize),
    /// In the line break behind its data, and so many bytes of it are left.
    Break(usize),
    /// Behind the last one.
    End,
}

impl Response {
    pub(super) fn new() -> Self {
        Self { head: Some(Vec::new()), chunk: Chunk::Size(Vec::new()), events: Vec::new() }
    }

    /// Takes what came; `each` gets the data of every event that is whole now.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let Some(head) = &mut self.head else { return self.body(bytes, each) };
        head.extend_from_slice(bytes);
        let Some(end) = head_end(head) else {
            if head.len() > MAX_HEAD {
                bail!("a response whose head does not end");
            }
            return Ok(());
        };
        let body = head.split_off(end);
        accepted(&String::from_utf8_lossy(head))?;
        self.head = None;
        self.body(&body, each)
    }

    fn body(&mut self, bytes: &[u8], each: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        self.unchunk(bytes)?;
        let mut begin = 0;
        while let Some(length) = self.events[begin..].windows(2).position(|end| end == b"\n\n") {
            let event = std::str::from_utf8(&self.events[begin..begin + length])?;
            for line in event.lines() {
                if let Some(data) = line.strip_prefix("data:") {
                    each(data.trim_start())?;
                }
            }
            begin += length + 2;
        }
        self.events.drain(..begin);
        Ok(())
    }

    fn unchunk(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.chunk {
                Chunk::Size(line) => {
                    line.push(first);
                    bytes = rest;
                    if let Some(line) = line.strip_suffix(b"\r\n") {
                        let size = size(line)?;
                        self.chunk = if size == 0 { Chunk::End } else { Chunk::Data(size) };
                    }
                }
                Chunk::Data(left) => {
                    let (data, rest) = bytes.split_at((*left).min(bytes.len()));
                    self.events.extend_from_slice(data);
                    bytes = rest;
                    *left -= data.len();
                    if *left == 0 {
                        self.chunk = Chunk::Break(2);
                    }
                }
                Chunk::Break(left) => {
                    bytes = rest;
                    *left -= 1;
                    if *left == 0 {
                        self.chunk = Chunk::Size(Vec::new());
                    }
                }
                Chunk::End => return Ok(()),
            }
        }
        Ok(())
    }
}

fn size(line: &[u8]) -> Result<usize> {
    let text = std::str::from_utf8(line)?;
    let digits = text.split(';').next().unwrap_or_default().trim();
    usize::from_str_radix(digits, 16).with_context(|| format!("not the size of a chunk: {text:?}"))
}

fn accepted(head: &str) -> Result<()> {
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the request was refused: {status}");
    }
    let kind = header(head, "content-type").unwrap_or_default();
    let coding = header(head, "transfer-encoding").unwrap_or_default();
    if !kind.starts_with("text/event-stream") || !coding.eq_ignore_ascii_case("chunked") {
        bail!("no chunked event stream but {kind:?}, {coding:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
        transfer-encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n4;x=y\r\n: hi\r\n\
        A\r\n\n\ndata: b\n\r\n9\r\n\ndata:c\n\n\r\n0\r\n\r\n";

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>> {
        let (mut response, mut seen) = (Response::new(), Vec::new());
        for piece in pieces {
            response.take(piece, &mut |data| {
                seen.push(data.to_owned());
                Ok(())
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let wire = WIRE.as_bytes();
        assert_eq!(read(&[wire]).unwrap(), ["a", "b", "c"]);
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(read(&bytes).unwrap(), ["a", "b", "c"]);
        assert_eq!(read(&[&wire[..wire.len() - 30]]).unwrap(), ["a"]);
    }

    #[test]
    fn a_refusal_and_what_is_no_stream_are_errors() {
        let read = |head: &str| read(&[head.as_bytes()]).unwrap_err().to_string();
        let refused = read("HTTP/1.1 503 Busy\r\n\r\n");
        assert_eq!(refused, "the request was refused: HTTP/1.1 503 Busy");
        let json = read("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}");
        assert!(json.starts_with("no chunked event stream"), "{json}");
        assert!(read(&WIRE.replace("\r\n9\r\n", "\r\nx\r\n")).contains("size of a chunk"));
    }
}
