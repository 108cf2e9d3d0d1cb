//! The load generator: a crowd of followers, drained by one thread with a nap in between, so that the
//! server is not charged for waking a reader. It counts chunks and checks their order; how they are
//! timed and compared is the business of the measures.

use super::websocket::{SCRATCH_BYTES, Socket, Target, Upgrade};
use crate::process::{LOOK, Stop, now};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::time::{Duration, Instant};

/// Between two drains. The figures in docs/performance.md are comparable only with this value.
pub(super) const NAP: Duration = Duration::from_millis(5);

/// What of a frame the generator looks at.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow, default)]
    message_id: Option<&'a str>,
    #[serde(default)]
    index: u64,
    /// Elements without size: counting them allocates nothing.
    #[serde(default)]
    chunks: Vec<IgnoredAny>,
    #[serde(default)]
    from: u64,
    #[serde(default)]
    tail: u64,
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    total_chunks: u64,
    #[serde(borrow, default)]
    session_id: Option<&'a str>,
    #[serde(borrow, default)]
    resume_token: Option<&'a str>,
    #[serde(borrow, default)]
    status: Option<&'a str>,
    #[serde(borrow, default)]
    code: Option<&'a str>,
}

/// What came, over all followers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) chunks: u64,
    /// CHUNK and CHUNKS frames.
    pub(super) frames: u64,
    /// Frames with exactly one chunk, and their bytes on the wire.
    pub(super) single_frames: u64,
    pub(super) single_bytes: u64,
}

/// What a client keeps to come back with after its connection broke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) session: String,
    pub(super) resume_token: String,
    pub(super) message: String,
    /// First index that did not come.
    pub(super) next: u64,
    /// Of the last chunk that came.
    pub(super) epoch: u64,
}

/// Where one socket is in the answer it follows.
#[derive(Default)]
struct State {
    /// Frames of the floor carry no position.
    unordered: bool,
    /// Another owner is what is measured, no failure.
    survives: bool,
    welcomed: bool,
    session: String,
    resume_token: String,
    /// Heartbeats that were answered.
    acks: u64,
    message: Option<String>,
    following: bool,
    next: u64,
    epoch: u64,
    /// Of the log when a RECONNECT was answered.
    tail: u64,
    first_at: Option<Instant>,
    caught_up_at: Option<Instant>,
    taken_over_at: Option<Instant>,
    complete: bool,
}

impl State {
    /// Of the same socket, before it follows another answer.
    fn anew(&mut self) -> Self {
        Self {
            survives: self.survives,
            welcomed: self.welcomed,
            session: std::mem::take(&mut self.session),
            resume_token: std::mem::take(&mut self.resume_token),
            acks: self.acks,
            ..Self::default()
        }
    }

    fn on_text(&mut self, text: &[u8], bytes: usize, tally: &mut Tally) -> Result<()> {
        let at = now();
        let frame: Frame<'_> = serde_json::from_slice(text)
            .with_context(|| format!("unexpected frame: {}", String::from_utf8_lossy(text)))?;
        let data = frame.data;
        match frame.kind {
            "CHUNK" => {
                self.epoch = data.epoch;
                self.on_chunks(data.index, 1, bytes, tally)?;
                self.came(at);
            }
            "CHUNKS" => {
                self.epoch = data.epoch;
                self.on_chunks(data.index, data.chunks.len() as u64, bytes, tally)?;
                self.came(at);
            }
            "HEARTBEAT_ACK" => self.acks += 1,
            "WELCOME" => self.on_welcome(&data),
            "ACCEPTED" => {
                self.message = data.message_id.map(str::to_owned);
                self.following = true;
            }
            "RECOVERY" => self.on_recovery(&data, at)?,
            "TAKEOVER" if self.survives => self.taken_over_at = Some(at),
            "COMPLETE" => {
                if data.status != Some("completed") || data.total_chunks != self.next {
                    let (status, total) = (data.status, data.total_chunks);
                    bail!("COMPLETE {status:?} of {total} chunks, received {}", self.next);
                }
                self.complete = true;
            }
            "ERROR" | "RESET" | "TAKEOVER" | "GOAWAY" => bail!("{} {:?}", frame.kind, data.code),
            _ => {}
        }
        Ok(())
    }

    fn on_welcome(&mut self, data: &Data<'_>) {
        self.welcomed = true;
        data.session_id.unwrap_or_default().clone_into(&mut self.session);
        data.resume_token.unwrap_or_default().clone_into(&mut self.resume_token);
    }

    fn on_recovery(&mut self, data: &Data<'_>, at: Instant) -> Result<()> {
        if !matches!(data.status, Some("RECOVERED" | "COMPLETED")) {
            bail!("RECOVERY {:?} {:?}", data.status, data.code);
        }
        if data.from != self.next {
            bail!("RECOVERY from {} where {} was due", data.from, self.next);
        }
        (self.tail, self.epoch) = (data.tail, data.epoch);
        self.following = true;
        self.caught_up_at = (self.next >= self.tail).then_some(at);
        Ok(())
    }

    /// Chunks came at that moment.
    fn came(&mut self, at: Instant) {
        self.first_at.get_or_insert(at);
        if self.next >= self.tail {
            self.caught_up_at.get_or_insert(at);
        }
    }

    fn on_chunks(&mut self, index: u64, count: u64, bytes: usize, tally: &mut Tally) -> Result<()> {
        if index != self.next && !self.unordered {
            bail!("chunk {index} came where {} was due", self.next);
        }
        self.next += count;
        tally.chunks += count;
        tally.frames += 1;
        if count == 1 {
            tally.single_frames += 1;
            tally.single_bytes += bytes as u64;
        }
        Ok(())
    }
}

/// One socket and its place.
pub(super) struct Follower {
    socket: Socket,
    state: State,
}

impl Follower {
    /// A connection of the floor program.
    pub(super) fn of_floor(socket: Socket) -> Self {
        Self { socket, state: State { unordered: true, ..State::default() } }
    }

    /// Connects as the owner of `token`; waits for as long as the server is full.
    pub(super) fn connect(target: &Target, token: &str, stop: &Stop) -> Result<Self> {
        loop {
            match Socket::upgrade(target, token)? {
                Upgrade::Open(socket) => return Ok(Self { socket, state: State::default() }),
                Upgrade::Refused(wait) => stop.sleep(wait)?,
            }
        }
    }

    /// A client that comes back on a new connection and goes on where it was.
    pub(super) fn come_back(socket: Socket, cursor: &Cursor) -> Result<Self> {
        let (message, next) = (cursor.message.clone(), cursor.next);
        let state = State { survives: true, message: Some(message), next, ..State::default() };
        let mut follower = Self { socket, state };
        let last = if next == 0 {
            String::new()
        } else {
            format!(r#","lastChunkIndex":{},"epoch":{}"#, next - 1, cursor.epoch)
        };
        let message = &cursor.message;
        follower
            .socket
            .send(&format!(r#"{{"type":"RECONNECT","messageId":"{message}"{last}}}"#))?;
        Ok(follower)
    }

    /// What it would come back with.
    pub(super) fn cursor(&self) -> Cursor {
        let State { session, resume_token, next, epoch, .. } = &self.state;
        Cursor {
            session: session.clone(),
            resume_token: resume_token.clone(),
            message: self.state.message.clone().unwrap_or_default(),
            next: *next,
            epoch: *epoch,
        }
    }

    /// From now on another owner is no failure.
    pub(super) fn survives(&mut self) {
        self.state.survives = true;
    }

    /// Asks for an answer of the simulated provider.
    pub(super) fn ask(&mut self, directive: &str) -> Result<()> {
        self.state = self.state.anew();
        self.socket.send(&format!(r#"{{"type":"CHAT_REQUEST","content":"{directive}"}}"#))
    }

    /// Follows an answer from its begin.
    pub(super) fn follow(&mut self, message: &str) -> Result<()> {
        self.state = State { message: Some(message.to_owned()), ..self.state.anew() };
        self.socket
            .send(&format!(r#"{{"type":"RECONNECT","messageId":"{message}","lastChunkIndex":-1}}"#))
    }

    /// Follows nothing any more; the answer goes on.
    pub(super) fn unfollow(&mut self) -> Result<()> {
        let message = self.state.message.as_deref().unwrap_or_default();
        self.socket.send(&format!(r#"{{"type":"UNFOLLOW","messageId":"{message}"}}"#))
    }

    pub(super) fn heartbeat(&mut self) -> Result<()> {
        self.socket.send(r#"{"type":"HEARTBEAT"}"#)
    }

    /// Heartbeats answered so far.
    pub(super) fn acks(&self) -> u64 {
        self.state.acks
    }
    pub(super) fn welcomed(&self) -> bool {
        self.state.welcomed
    }
    pub(super) fn following(&self) -> bool {
        self.state.following
    }
    pub(super) fn complete(&self) -> bool {
        self.state.complete
    }
    /// Chunks received of the answer followed now.
    pub(super) fn received(&self) -> u64 {
        self.state.next
    }
    /// End of the log when the last RECONNECT was answered.
    pub(super) fn tail(&self) -> u64 {
        self.state.tail
    }
    /// Of the last chunk, or of the last RECOVERY where none came since.
    pub(super) fn epoch(&self) -> u64 {
        self.state.epoch
    }
    /// When the first chunk came.
    pub(super) fn first_at(&self) -> Option<Instant> {
        self.state.first_at
    }
    /// When everything had come that was in the log when RECONNECT was answered.
    pub(super) fn caught_up_at(&self) -> Option<Instant> {
        self.state.caught_up_at
    }
    /// When another owner was told.
    pub(super) fn taken_over_at(&self) -> Option<Instant> {
        self.state.taken_over_at
    }
    /// The id of the answer asked for, or followed.
    pub(super) fn message(&self) -> Option<&str> {
        self.state.message.as_deref()
    }
}

/// All followers of one measure.
pub(super) struct Crowd {
    pub(super) followers: Vec<Follower>,
    pub(super) tally: Tally,
    scratch: Vec<u8>,
}

impl Crowd {
    pub(super) fn new(followers: Vec<Follower>) -> Self {
        Self { followers, tally: Tally::default(), scratch: vec![0; SCRATCH_BYTES] }
    }

    /// Reads everything that is there on every socket.
    pub(super) fn drain(&mut self) -> Result<()> {
        for (number, follower) in self.followers.iter_mut().enumerate() {
            read(follower, number, &mut self.scratch, &mut self.tally)?;
        }
        Ok(())
    }

    /// Reads everything that is there for a follower that is not in the crowd.
    pub(super) fn drain_one(&mut self, number: usize, follower: &mut Follower) -> Result<()> {
        read(follower, number, &mut self.scratch, &mut self.tally)
    }

    /// As [`Self::until`] without naps: the reader is woken by what comes, for measures of latency.
    pub(super) fn wait(
        &mut self,
        what: &str,
        within: Duration,
        stop: &Stop,
        there: impl Fn(&Follower) -> bool,
    ) -> Result<()> {
        let deadline = now() + within;
        while let Some(follower) = self.followers.iter_mut().find(|follower| !there(follower)) {
            stop.check()?;
            if now() > deadline {
                bail!("not {what} in {within:?}");
            }
            follower.socket.wait(LOOK)?;
            self.drain()?;
        }
        Ok(())
    }

    /// As [`Self::wait`] for one follower; nobody else is looked at.
    pub(super) fn wait_for(
        &mut self,
        number: usize,
        what: &str,
        within: Duration,
        stop: &Stop,
        there: impl Fn(&Follower) -> bool,
    ) -> Result<()> {
        let follower = self.followers.get_mut(number).context("no such follower")?;
        let deadline = now() + within;
        while !there(follower) {
            stop.check()?;
            if now() > deadline {
                bail!("socket {number}: not {what} in {within:?}");
            }
            follower.socket.wait(LOOK)?;
            read(follower, number, &mut self.scratch, &mut self.tally)?;
        }
        Ok(())
    }

    /// Drains for a time.
    pub(super) fn drain_for(&mut self, time: Duration, stop: &Stop) -> Result<()> {
        let end = now() + time;
        while now() < end {
            stop.check()?;
            self.drain()?;
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// Drains until every follower is `there`; `what` names it where they are not in time.
    pub(super) fn until(
        &mut self,
        what: &str,
        within: Duration,
        stop: &Stop,
        there: impl Fn(&Follower) -> bool,
    ) -> Result<()> {
        let deadline = now() + within;
        loop {
            stop.check()?;
            self.drain()?;
            let missing = self.followers.iter().filter(|follower| !there(follower)).count();
            if missing == 0 {
                return Ok(());
            }
            if now() > deadline {
                bail!("{missing} of {} sockets not {what} in {within:?}", self.followers.len());
            }
            std::thread::sleep(NAP);
        }
    }
}

fn read(
    follower: &mut Follower,
    number: usize,
    scratch: &mut [u8],
    tally: &mut Tally,
) -> Result<()> {
    let state = &mut follower.state;
    follower
        .socket
        .drain(scratch, |text, bytes| state.on_text(text, bytes, tally))
        .with_context(|| format!("socket {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    fn feed(state: &mut State, texts: &[&str]) -> Result<Tally> {
        let mut tally = Tally::default();
        for text in texts {
            state.on_text(text.as_bytes(), text.len() + 4, &mut tally)?;
        }
        Ok(tally)
    }

    const ACCEPTED: &str = r#"{"type":"ACCEPTED","timestamp":"t","data":{"messageId":"m"}}"#;
    const CHUNK_0: &str =
        r#"{"type":"CHUNK","data":{"index":0,"type":"TEXT","content":"a\"","epoch":1}}"#;
    const CHUNKS_1: &str =
        r#"{"type":"CHUNKS","data":{"index":1,"chunks":[{"type":"TEXT","content":"b"},{}]}}"#;
    const COMPLETE: &str = r#"{"type":"COMPLETE","data":{"status":"completed","totalChunks":3}}"#;

    #[test]
    fn chunks_are_counted_one_by_one_and_in_order() {
        let mut state = State::default();
        let tally = feed(&mut state, &[ACCEPTED, CHUNK_0, CHUNKS_1, COMPLETE]).unwrap();
        let single_bytes = CHUNK_0.len() as u64 + 4;
        assert_eq!(tally, Tally { chunks: 3, frames: 2, single_frames: 1, single_bytes });
        assert!(state.complete && state.message.as_deref() == Some("m"));
    }

    #[test]
    fn a_hole_a_repeat_and_a_short_answer_are_errors() {
        for bad in [
            &[CHUNKS_1][..],
            &[CHUNK_0, CHUNK_0],
            &[CHUNK_0, COMPLETE],
            &[r#"{"type":"ERROR","error":"x","data":{"code":"RATE_LIMITED"}}"#],
            &[r#"{"type":"RECOVERY","data":{"status":"NOT_FOUND"}}"#],
            &["[]"],
        ] {
            assert!(feed(&mut State::default(), bad).is_err(), "{bad:?}");
        }
    }

    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\r\n";
    const OPEN: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\
        \x81\x1c{\"type\":\"WELCOME\",\"data\":{}}";

    #[test]
    fn a_full_server_is_asked_again_and_a_welcome_may_come_at_once() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            [FULL, OPEN].map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                stream.write_all(answer).unwrap();
                (stream, String::from_utf8(request).unwrap())
            })
        });
        let target = Target { address, path: "/ws/chat".to_owned() };
        let follower = Follower::connect(&target, "jwt", &Stop::default()).unwrap();
        let mut crowd = Crowd::new(vec![follower]);
        crowd.until("welcomed", NAP * 100, &Stop::default(), Follower::welcomed).unwrap();
        let [_, (_open, request)] = server.join().unwrap();
        assert!(request.contains("Sec-WebSocket-Protocol: chatcluster.v1, bearer.jwt\r\n"));
    }

    #[test]
    fn a_recovery_says_where_to_go_on() {
        let recovery = r#"{"type":"RECOVERY","data":{"status":"RECOVERED","from":1,"tail":1}}"#;
        let mut state = State { next: 1, ..State::default() };
        assert_eq!(feed(&mut state, &[recovery]).unwrap().chunks, 0);
        assert!(state.caught_up_at.is_some(), "nothing was missed");
        assert_eq!(feed(&mut state, &[CHUNKS_1, COMPLETE]).unwrap().chunks, 2);
        assert!(state.following && state.complete);
        assert!(feed(&mut State::default(), &[recovery]).is_err(), "a hole");
    }

    #[test]
    fn caught_up_is_who_has_what_was_there_at_the_recovery() {
        let recovery = r#"{"type":"RECOVERY","data":{"status":"RECOVERED","from":0,"tail":3}}"#;
        let mut state = State { survives: true, ..State::default() };
        feed(&mut state, &[recovery, CHUNK_0]).unwrap();
        assert!(state.first_at.is_some() && state.caught_up_at.is_none());
        let takeover = r#"{"type":"TAKEOVER","data":{"messageId":"m","epoch":2}}"#;
        feed(&mut state, &[takeover, CHUNKS_1]).unwrap();
        assert!(state.caught_up_at.is_some() && state.taken_over_at.is_some());
        assert!(feed(&mut State::default(), &[takeover]).is_err(), "where nobody died");
    }
}
