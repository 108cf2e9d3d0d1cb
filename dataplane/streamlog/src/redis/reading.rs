//! Reads: a page is one script call, and readers that want the same at the same moment share it.

use super::gather::Gather;
use super::head::Hot;
use super::kept::{Known, Place};
use super::keys::Keys;
use super::link::{AWAY, Link};
use super::meta::{Meta, State};
use super::packing::{Corrupt, unpack};
use super::reply;
use super::scripts::{Name, Scripts};
use super::stats::{Counters, add};
use crate::error::LogError;
use crate::log::{BEYOND, Opening, Page};
use protocol::{Digest, Incarnation, Index, MessageId};
use redis::Value;
use std::sync::Arc;

/// Reads of one pipeline.
const MOST_READS: usize = 256;
/// A read asks for at least so many bytes of text, and for at most so many.
const LEAST_BYTES: usize = 4 * 1024;
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// A page that did not fit is asked for again, larger, at most so often.
const ROUNDS: usize = 8;

/// One read. Two are the same if they want the same.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) stream: MessageId,
    pub(super) from: Index,
    pub(super) limit: usize,
    /// Registers this node among the followers.
    pub(super) follow: bool,
    pub(super) known: Option<Known>,
    pub(super) place: Option<Place>,
}

impl Ask {
    /// The stream without text.
    pub(super) fn peek(stream: MessageId) -> Self {
        Self { stream, from: BEYOND, limit: 0, follow: false, known: None, place: None }
    }

    fn is_same(&self, other: &Self) -> bool {
        let wants = |ask: &Self| (ask.stream, ask.from, ask.limit, ask.follow);
        wants(self) == wants(other)
    }
}

/// What a read found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) state: State,
    pub(super) page: Page,
    /// Whether the text of the stream is still kept.
    pub(super) text_is_there: bool,
    /// Where the page ends.
    pub(super) place: Option<Place>,
}

type Answer = Result<Arc<Found>, LogError>;

/// The reading side of an engine.
pub(super) struct Reading {
    parts: Arc<Parts>,
    gather: Gather<Ask, Answer>,
    counters: Arc<Counters>,
}

struct Parts {
    link: Arc<Link>,
    scripts: Scripts,
    keys: Keys,
    follower: String,
}

impl Reading {
    pub(super) fn new(
        link: Arc<Link>,
        scripts: Scripts,
        keys: Keys,
        node: Incarnation,
        counters: Arc<Counters>,
    ) -> Self {
        let parts = Parts { link, scripts, keys, follower: Keys::follower(node) };
        Self { parts: Arc::new(parts), gather: Gather::new(MOST_READS), counters }
    }

    /// Reads together with everybody who is about to.
    pub(super) async fn read(&self, ask: Ask) -> Answer {
        let parts = self.parts.clone();
        let send = |asks| async move { parts.read_all(asks).await };
        let (answer, shared) = self.gather.ask(ask, Ask::is_same, send).await;
        if shared {
            add(&self.counters.shared_reads, 1);
        }
        answer.unwrap_or(Err(AWAY))
    }

    /// Many streams without their text, in order; `None` where there is none.
    pub(super) async fn peek_all(
        &self,
        streams: &[MessageId],
    ) -> Result<Vec<Option<State>>, LogError> {
        let mut states = Vec::with_capacity(streams.len());
        for part in streams.chunks(MOST_READS) {
            let asks = part.iter().map(|stream| Ask::peek(*stream)).collect();
            for answer in self.parts.read_all(asks).await {
                states.push(match answer {
                    Ok(found) => Some(found.state.clone()),
                    Err(LogError::NotFound) => None,
                    Err(error) => return Err(error),
                });
            }
        }
        Ok(states)
    }
}

/// What became of one call.
enum Outcome {
    Done(Answer),
    /// Ask again: with more bytes, or without the place.
    Again {
        place: Option<Place>,
        bytes: usize,
    },
}

/// A read on its way.
struct Pending {
    at: usize,
    ask: Ask,
    bytes: usize,
}

impl Parts {
    async fn read_all(&self, asks: Vec<Ask>) -> Vec<Answer> {
        let mut answers = vec![Err(AWAY); asks.len()];
        let pending = asks.into_iter().enumerate().map(|(at, ask)| {
            let bytes = ask.limit.clamp(LEAST_BYTES, MOST_BYTES);
            Pending { at, ask, bytes }
        });
        let mut pending: Vec<_> = pending.collect();
        for _ in 0..ROUNDS {
            if pending.is_empty() {
                break;
            }
            let mut pipeline = redis::Pipeline::with_capacity(pending.len());
            for read in &pending {
                pipeline.add_command(self.command(read));
            }
            let Ok(values) = self.link.send(&pipeline).await else { break };
            let mut again = Vec::new();
            for (read, value) in pending.into_iter().zip(values) {
                match taken_apart(&read, value) {
                    Outcome::Done(answer) => {
                        if let Some(place) = answers.get_mut(read.at) {
                            *place = answer;
                        }
                    }
                    Outcome::Again { place, bytes } => {
                        again.push(Pending { ask: Ask { place, ..read.ask }, bytes, ..read });
                    }
                }
            }
            pending = again;
        }
        answers
    }

    fn command(&self, read: &Pending) -> redis::Cmd {
        let ask = &read.ask;
        let mut cmd = self.scripts.call(Name::Fetch, &self.keys.stream(ask.stream));
        cmd.arg(ask.from.0);
        cmd.arg(ask.known.as_ref().map(|known| known.cold.to_vec()).unwrap_or_default());
        cmd.arg(read.bytes);
        match ask.place {
            Some(place) => cmd.arg(&place.life.to_be_bytes()).arg(place.offset),
            None => cmd.arg("").arg(0),
        };
        cmd.arg(if ask.follow { &self.follower } else { "" });
        cmd
    }
}

/// The script's answer, checked as far as that goes.
struct Raw {
    state: State,
    text: Vec<u8>,
    offset: usize,
    there: bool,
}

fn raw(ask: &Ask, items: Vec<Value>) -> Option<Raw> {
    let mut items = items.into_iter();
    let hot = Hot::parse(&reply::bytes(items.next()?)?)?;
    let meta = items.next()?;
    let text = reply::bytes(items.next()?)?;
    let offset = reply::number(items.next()?)? as usize;
    let there = reply::number(items.next()?)? == 1;
    let (seconds, micros) = (reply::number(items.next()?)?, reply::number(items.next()?)?);
    let now = seconds * 1_000 + micros / 1_000;
    let state = match meta {
        Value::Array(fields) => {
            let mut fields = fields.into_iter();
            let meta: Meta = serde_json::from_slice(&reply::bytes(fields.next()?)?).ok()?;
            let opening: Opening = serde_json::from_slice(&reply::bytes(fields.next()?)?).ok()?;
            let used_tools = fields.next().and_then(reply::number) == Some(1);
            State { hot, meta: Arc::new(meta), opening: Arc::new(opening), used_tools, now }
        }
        _ => {
            let known = ask.known.as_ref().filter(|known| known.cold == hot.cold())?;
            let (meta, opening) = (known.meta.clone(), known.opening.clone());
            State { hot, meta, opening, used_tools: known.used_tools, now }
        }
    };
    Some(Raw { state, text, offset, there })
}

fn taken_apart(read: &Pending, value: Value) -> Outcome {
    let ask = &read.ask;
    let items = match value {
        Value::Nil => return Outcome::Done(Err(LogError::NotFound)),
        Value::Array(items) => items,
        _ => return Outcome::Done(Err(AWAY)),
    };
    let Some(raw) = raw(ask, items) else { return Outcome::Done(Err(AWAY)) };
    let retry = Outcome::Again { place: None, bytes: read.bytes };
    match unpack(&raw.text, ask.from, ask.limit) {
        Err(Corrupt) if ask.place.is_some() => retry,
        Err(Corrupt) => Outcome::Done(Err(AWAY)),
        Ok(unpacked) => {
            let first = unpacked.batches.first().map(|batch| batch.first);
            // Text that begins after the index is right only where what lies before was trimmed.
            let hole = first.is_some_and(|first| first > ask.from.max(raw.state.meta.first));
            let none = first.is_none() && ask.from < raw.state.hot.tail;
            if none && raw.text.len() >= read.bytes && read.bytes < MOST_BYTES {
                let bytes = (raw.text.len() + unpacked.lacks).saturating_mul(2).min(MOST_BYTES);
                return Outcome::Again { place: ask.place, bytes };
            }
            if (hole || none) && ask.place.is_some() {
                return retry;
            }
            if hole {
                return Outcome::Done(Err(AWAY));
            }
            let end = unpacked.batches.last().map(|batch| Place {
                life: raw.state.hot.life,
                index: batch.end(),
                offset: raw.offset + unpacked.ends,
            });
            Outcome::Done(Ok(Arc::new(found(ask, raw, unpacked.batches, end))))
        }
    }
}

fn found(ask: &Ask, raw: Raw, batches: Vec<Arc<crate::Batch>>, place: Option<Place>) -> Found {
    let Raw { state, there, .. } = raw;
    let before = match batches.first() {
        _ if ask.from == state.hot.tail => Some(state.hot.digest),
        _ if ask.from == Index::ZERO => Some(Digest::EMPTY),
        Some(first) => first.digest_before(ask.from),
        None => None,
    };
    let page = Page {
        opening: state.opening.clone(),
        head: state.head(there),
        from: ask.from,
        before,
        batches,
    };
    Found { state, page, text_is_there: there, place }
}
