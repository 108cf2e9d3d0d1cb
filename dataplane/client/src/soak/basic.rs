//! One socket of dialect basic, by a client that knows nothing but its few frames: it reads chunks and the end,
//! and when the socket is closed it opens another one and asks for what it lacks.

use super::{Pace, Place, Told};
use crate::transcript::Verdict;
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::{Chunk, ChunkType, Digest};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longest time from dialling to the upgrade.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Without any frame for so long the socket is dead: longer than a node takes to answer a heartbeat.
const SILENT: Duration = Duration::from_secs(30);
/// A heartbeat after so much silence.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Between two tries, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One answer as far as it came.
struct Answer {
    request: String,
    message: Option<String>,
    next: u64,
    digest: Digest,
    verdict: Verdict,
    pace: Pace,
}

/// What a frame means for the answer.
#[derive(PartialEq)]
enum Heard {
    Nothing,
    End,
    /// Ask again, on this socket, after a moment.
    Again(String),
}

/// Asks until the run ends.
pub(super) async fn run(place: Place) {
    let mut rng = SmallRng::seed_from_u64(place.seed());
    let mut socket = None;
    while !place.is_ending() {
        let mut answer = Answer {
            request: format!("{:016x}", rng.random::<u64>()),
            message: None,
            next: 0,
            digest: Digest::default(),
            verdict: Verdict::default(),
            pace: Pace::default(),
        };
        let deadline = Instant::now() + place.options.answer_within;
        let hung = timeout_at(deadline, answer.read(&place, &mut socket, &mut rng)).await.is_err();
        if hung {
            // The answer may still come on this one.
            socket = None;
        }
        let Answer { verdict, pace, .. } = answer;
        let verdict = Box::new(verdict);
        place.tell(Told::Answer { basic: true, verdict, hung, gaps: pace.longest }).await;
    }
}

impl Answer {
    /// To its end, over as many sockets as it takes.
    async fn read(&mut self, place: &Place, socket: &mut Option<Socket>, rng: &mut SmallRng) {
        let mut wait = BACKOFF.0;
        for dials in place.number.. {
            if socket.is_none() {
                match dial(place, dials).await {
                    Ok(open) => *socket = Some(open),
                    Err(why) => place.tell(Told::Refused(why)).await,
                }
            }
            let why = match socket {
                Some(open) => self.listen(place, open).await,
                None => Err(None),
            };
            match why {
                Ok(()) => return,
                Err(Some(code)) => place.tell(Told::Refused(code)).await,
                Err(None) => {
                    if socket.take().is_some() {
                        place.tell(Told::Reconnect).await;
                        // A closed socket is opened anew at once; only the second try waits.
                        wait = BACKOFF.0;
                        continue;
                    }
                }
            }
            sleep(wait.mul_f64(rng.random_range(0.5..1.0))).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    /// Asks on this socket and reads. `Err(None)`: it is closed; otherwise the code of a refusal.
    async fn listen(&mut self, place: &Place, socket: &mut Socket) -> Result<(), Option<String>> {
        let ask = match &self.message {
            Some(message) => json!({
                "type": "RECONNECT", "messageId": message,
                "lastChunkIndex": i64::try_from(self.next).unwrap_or(i64::MAX) - 1,
            }),
            None => json!({
                "type": "CHAT_REQUEST", "requestId": self.request, "content": place.prompt(),
            }),
        };
        say(socket, &ask).await?;
        let mut silent = Duration::ZERO;
        loop {
            let frame = match timeout(HEARTBEAT, socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return Err(None),
                Ok(Some(Ok(_))) => continue,
                Err(_) if silent + HEARTBEAT >= SILENT => return Err(None),
                Err(_) => {
                    silent += HEARTBEAT;
                    say(socket, &json!({"type": "HEARTBEAT"})).await?;
                    continue;
                }
            };
            silent = Duration::ZERO;
            let frame: Value = serde_json::from_str(&frame).unwrap_or_default();
            match self.hear(&frame, place) {
                Heard::Nothing => {}
                Heard::End => return Ok(()),
                Heard::Again(code) => return Err(Some(code)),
            }
        }
    }

    fn hear(&mut self, frame: &Value, place: &Place) -> Heard {
        let data = &frame["data"];
        let about = data["messageId"].as_str();
        if self.message.is_some() && about.is_some() && about != self.message.as_deref() {
            // After an answer that hangs there is another socket: nothing of it can come here.
            self.verdict.phantom += 1;
            let frame = frame["type"].clone();
            self.verdict.note(|| format!("{frame} of another answer"));
            return Heard::Nothing;
        }
        match frame["type"].as_str() {
            Some("CHUNK") => {
                self.message = self.message.take().or_else(|| about.map(str::to_owned));
                self.chunk(data, place);
                Heard::Nothing
            }
            Some("COMPLETE") => {
                self.end(data, place);
                Heard::End
            }
            Some("ERROR") => self.error(data),
            Some("WELCOME" | "HEARTBEAT_ACK") => Heard::Nothing,
            other => {
                self.verdict.malformed += 1;
                self.verdict.note(|| format!("a frame {other:?} in dialect basic"));
                Heard::Nothing
            }
        }
    }

    /// Each exactly once, in order: a client of this dialect drops nothing.
    fn chunk(&mut self, data: &Value, place: &Place) {
        let Some(index) = data["index"].as_u64() else {
            self.verdict.malformed += 1;
            self.verdict.note(|| "a chunk without an index".to_owned());
            return;
        };
        let next = self.next;
        if index < next {
            self.verdict.twice += 1;
            self.verdict.note(|| format!("chunk {index} came again, {next} was next"));
            return;
        }
        if index > next {
            self.verdict.lost += index - next;
            self.verdict.note(|| format!("chunk {index} came, {next} was next"));
        }
        let kind = serde_json::from_value::<ChunkType>(data["type"].clone());
        let content = data["content"].as_str().unwrap_or_default();
        self.digest = self.digest.with(&Chunk::new(kind.unwrap_or(ChunkType::Text), content));
        self.next = index.saturating_add(1);
        self.verdict.chunks += 1;
        self.pace.beat(place.phase());
    }

    fn end(&mut self, data: &Value, place: &Place) {
        let (total, planned) = (data["totalChunks"].as_u64(), place.options.directive.tokens);
        if total != Some(self.next) || self.next != planned {
            self.verdict.lost += planned.saturating_sub(self.next).max(1);
            let next = self.next;
            self.verdict
                .note(|| format!("the end at {total:?}, {next} were received, {planned} planned"));
        }
        if data["digest"].as_str() != Some(self.digest.to_string().as_str()) {
            self.verdict.digest_mismatch += 1;
            self.verdict.note(|| "the digest of the end does not fit".to_owned());
        }
        self.verdict.completed += 1;
    }

    fn error(&mut self, data: &Value) -> Heard {
        let code = data["code"].as_str().unwrap_or_default().to_owned();
        if code == "RESET" {
            // What was seen is void: the answer is read from its beginning.
            self.verdict.resets_rolled_back += 1;
            (self.next, self.digest) = (0, Digest::default());
            return Heard::Again(code);
        }
        if code == "INTERRUPTED" {
            self.verdict.interrupted += 1;
            return Heard::End;
        }
        if data["retryable"] == true {
            return Heard::Again(code);
        }
        self.verdict.failed += 1;
        self.verdict.note(|| format!("it failed with {code}"));
        Heard::End
    }
}

async fn say(socket: &mut Socket, frame: &Value) -> Result<(), Option<String>> {
    socket.send(Message::text(frame.to_string())).await.map_err(|_| None)
}

/// A socket without a subprotocol; each try is at the next URL.
async fn dial(place: &Place, at: usize) -> Result<Socket, String> {
    let urls = &place.options.urls;
    let url = urls.get(at % urls.len().max(1)).cloned().unwrap_or_default();
    let url = format!("{}/ws/chat", url.replacen("http://", "ws://", 1).trim_end_matches('/'));
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    let token = place.options.tokens.token().await.map_err(|error| error.to_string())?;
    let mut bearer =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| error.to_string())?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, bearer);
    match timeout(CONNECT_WITHIN, connect_async(request)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(answer))) => Err(format!("HTTP {}", answer.status().as_u16())),
        Ok(Err(_)) => Err("unreachable".to_owned()),
        Err(_) => Err("no answer to the upgrade".to_owned()),
    }
}
