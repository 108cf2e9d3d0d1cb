//! Reads: a page is one round trip, and readers that want the same at the same moment share it.

use super::gather::Gather;
use super::head::{Hot, LENGTH, is_absent};
use super::kept::{Known, Place};
use super::keys::Keys;
use super::link::{AWAY, Link};
use super::meta::{Meta, State, offset_of};
use super::packing::{Corrupt, unpack};
use super::reply;
use super::scripts::{Name, Scripts};
use super::stats::{Counters, add};
use crate::error::LogError;
use crate::log::{BEYOND, Opening, Page};
use protocol::server_frame::Source;
use protocol::{Digest, Incarnation, Index, MessageId};
use redis::Value;
use std::sync::Arc;

/// Reads of one pipeline.
const MOST_READS: usize = 256;
/// A read asks for at least so many bytes of text, and for at most so many.
const LEAST_BYTES: usize = 4 * 1024;
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Where an index stands is not known before the first look: so much is read from the start.
const GUESSED_BYTES: usize = 64 * 1024;
/// From an entry of the index to the next one lie about 64 KiB and a batch.
const INDEXED_BYTES: usize = 2 * 64 * 1024;
/// Commands of one read.
const MOST_COMMANDS: usize = 8;
/// Names of followers where there is no stream are kept this long, in seconds.
const ABSENT_SECONDS: u64 = 60;
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
    /// It is registered already, as far as is known here.
    pub(super) listed: bool,
    pub(super) known: Option<Known>,
    pub(super) place: Option<Place>,
}

impl Ask {
    /// The stream without text.
    pub(super) fn peek(stream: MessageId) -> Self {
        let (known, place) = (None, None);
        Self { stream, from: BEYOND, limit: 0, follow: false, listed: false, known, place }
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

/// What became of one read.
enum Outcome {
    Done(Answer),
    /// Something changed meanwhile, or what was asked for was not enough.
    Again(Plan),
}

/// What is asked of the store for one read.
#[derive(Clone, Copy, Debug)]
struct Plan {
    register: bool,
    /// The rarely written part, and the index.
    cold: bool,
    /// Where the text is read from, and how much of it.
    text: Option<(usize, usize)>,
    /// That is where the index stands, or the best that is known of it.
    sure: bool,
}

impl Plan {
    fn of(ask: &Ask) -> Self {
        let bytes = ask.limit.clamp(LEAST_BYTES, MOST_BYTES);
        let plan = Self { register: ask.follow && !ask.listed, ..Self::guess() };
        let cold = ask.known.is_none();
        let plan = Self { cold, ..plan };
        match ask.place {
            _ if ask.from == BEYOND => Self { text: None, sure: true, ..plan },
            Some(place) => Self { text: Some((place.offset, bytes)), sure: true, ..plan },
            None if ask.from == Index::ZERO => Self { text: Some((0, bytes)), sure: true, ..plan },
            None => plan,
        }
    }

    /// Who asks for nothing else may want to know when that was.
    fn needs_time(&self) -> bool {
        self.cold && self.text.is_none()
    }

    /// Text read from its start is there or not; from elsewhere it may just end before.
    fn needs_existence(&self) -> bool {
        self.text.is_none_or(|(offset, _)| offset > 0)
    }

    /// Most texts are shorter than this; of a longer one the index says where to look.
    fn guess() -> Self {
        Self { register: false, cold: true, text: Some((0, GUESSED_BYTES)), sure: false }
    }
}

/// A read on its way.
struct Pending {
    at: usize,
    ask: Ask,
    plan: Plan,
}

impl Parts {
    async fn read_all(&self, asks: Vec<Ask>) -> Vec<Answer> {
        let mut answers = vec![Err(AWAY); asks.len()];
        let pending = asks.into_iter().enumerate();
        let mut pending: Vec<_> =
            pending.map(|(at, ask)| Pending { at, plan: Plan::of(&ask), ask }).collect();
        let mut named_twice = Vec::new();
        for _ in 0..ROUNDS {
            if pending.is_empty() {
                break;
            }
            let mut pipeline = redis::Pipeline::with_capacity(pending.len() * MOST_COMMANDS);
            for read in &pending {
                self.commands(read, &mut pipeline);
            }
            let Ok(values) = self.link.send(&pipeline).await else { break };
            let (mut values, mut again) = (values.into_iter(), Vec::new());
            for read in pending {
                match self.taken_apart(&read, &mut values, &mut named_twice) {
                    Outcome::Done(answer) => {
                        if let Some(place) = answers.get_mut(read.at) {
                            *place = answer;
                        }
                    }
                    Outcome::Again(plan) => again.push(Pending { plan, ..read }),
                }
            }
            pending = again;
        }
        if !named_twice.is_empty() {
            self.name_once(&named_twice).await;
        }
        answers
    }

    /// Takes this node's name out of these heads, once each.
    async fn name_once(&self, streams: &[MessageId]) {
        let mut pipeline = redis::Pipeline::with_capacity(streams.len());
        for stream in streams {
            let [head, ..] = self.keys.stream(*stream);
            let mut unfollow = self.scripts.call(Name::Unfollow, &[head]);
            unfollow.arg(&self.follower);
            pipeline.add_command(unfollow);
        }
        // A name too many costs a hint too many, until the next read that sees it.
        let _ = self.link.send(&pipeline).await;
    }

    /// Plain commands cost the store a fourth of what a script does that reads the same. The head is
    /// read before and after everything else: if it is the same, all of it is one moment's truth.
    fn commands(&self, read: &Pending, pipeline: &mut redis::Pipeline) {
        let [head, text, meta] = self.keys.stream(read.ask.stream);
        let plan = &read.plan;
        if plan.register {
            // Plain commands again. They name this node twice where it was named and had forgotten
            // it, and leave a name where there is no stream: both are told apart, and neither lasts.
            pipeline.cmd("APPEND").arg(&head).arg(&self.follower);
            pipeline.cmd("EXPIRE").arg(&head).arg(ABSENT_SECONDS).arg("NX");
        }
        pipeline.cmd("GET").arg(&head);
        if plan.cold {
            pipeline.cmd("HMGET").arg(meta).arg(&["meta", "opening", "tools", "index"]);
        }
        if plan.needs_time() {
            pipeline.cmd("TIME");
        }
        if plan.needs_existence() {
            pipeline.cmd("EXISTS").arg(&text);
        }
        if let Some((offset, bytes)) = plan.text {
            pipeline.cmd("GETRANGE").arg(text).arg(offset).arg(offset + bytes - 1);
        }
        pipeline.cmd("GETRANGE").arg(head).arg(0).arg(LENGTH - 1);
    }

    /// Takes one read's answers from the pipeline's, all of them whatever they are.
    fn taken_apart(
        &self,
        read: &Pending,
        values: &mut impl Iterator<Item = Value>,
        named_twice: &mut Vec<MessageId>,
    ) -> Outcome {
        let (ask, plan) = (&read.ask, &read.plan);
        let mut next = || values.next().unwrap_or_default();
        let _registered = plan.register.then(|| (next(), next()));
        let head = reply::bytes(next()).filter(|head| !is_absent(head));
        let cold = plan.cold.then(|| reply::items(next()));
        let now = plan.needs_time().then(&mut next).and_then(reply::milliseconds);
        let there = plan.needs_existence().then(&mut next).and_then(reply::number);
        let text = plan.text.map(|_| next()).and_then(reply::bytes).unwrap_or_default();
        let after = reply::bytes(next()).unwrap_or_default();
        let Some(head) = head else { return Outcome::Done(Err(LogError::NotFound)) };
        let (fixed, followers) = head.split_at(LENGTH.min(head.len()));
        let Some(hot) = Hot::parse(fixed) else { return Outcome::Done(Err(AWAY)) };
        let me = self.follower.as_bytes();
        let names = followers.windows(me.len()).filter(|name| *name == me).count();
        if names > 1 && plan.register {
            named_twice.push(ask.stream);
        }
        let register = ask.follow && !hot.sealed && names == 0;
        if fixed != after.as_slice() || register {
            return Outcome::Again(Plan { register, ..*plan });
        }
        let (state, index) = match cold {
            Some(fields) => match from_fields(hot, fields, now.unwrap_or_default()) {
                Some(state) => state,
                None => return Outcome::Done(Err(AWAY)),
            },
            None => match ask.known.as_ref().filter(|known| known.cold == hot.cold()) {
                Some(known) => (known.state(hot), Vec::new()),
                None => return Outcome::Again(Plan { cold: true, ..*plan }),
            },
        };
        // A text of no bytes has no key; the text of a live stream comes back with its owner.
        let there = there.map_or(!text.is_empty(), |there| there == 1);
        let there = there || hot.size == 0 || !hot.sealed;
        paged(read, Raw { state, index, text, there })
    }
}

/// What was read in one moment.
struct Raw {
    state: State,
    index: Vec<u8>,
    text: Vec<u8>,
    there: bool,
}

/// The stream, and the index of its text.
fn from_fields(hot: Hot, fields: Vec<Value>, now: u64) -> Option<(State, Vec<u8>)> {
    let mut fields = fields.into_iter();
    let meta: Meta = serde_json::from_slice(&reply::bytes(fields.next()?)?).ok()?;
    let opening: Opening = serde_json::from_slice(&reply::bytes(fields.next()?)?).ok()?;
    let used_tools = fields.next().and_then(reply::number) == Some(1);
    let index = fields.next().and_then(reply::bytes).unwrap_or_default();
    let state = State { hot, meta: Arc::new(meta), opening: Arc::new(opening), used_tools, now };
    Some((state, index))
}

fn paged(read: &Pending, raw: Raw) -> Outcome {
    let (ask, plan, hot) = (&read.ask, &read.plan, &raw.state.hot);
    let (offset, bytes) = plan.text.unwrap_or_default();
    let anew = || Outcome::Again(Plan { register: plan.register, ..Plan::guess() });
    // A place of another life means nothing.
    let stray = plan.sure
        && ask.place.is_some_and(|place| place.life != hot.life && place.offset == offset);
    let unpacked = match unpack(&raw.text, ask.from, ask.limit) {
        _ if stray && offset > 0 => return anew(),
        Err(Corrupt) if offset > 0 => return anew(),
        Err(Corrupt) => return Outcome::Done(Err(AWAY)),
        Ok(unpacked) => unpacked,
    };
    let first = unpacked.batches.first().map(|batch| batch.first);
    // Text that begins after the index is right only where what lies before was trimmed.
    let hole = first.is_some_and(|first| first > ask.from.max(raw.state.meta.first));
    let none = first.is_none() && ask.from < hot.tail && raw.there;
    if none && !plan.sure && !plan.cold {
        return anew();
    }
    if none && !plan.sure {
        let bytes = ask.limit.clamp(LEAST_BYTES, MOST_BYTES) + INDEXED_BYTES;
        let text = Some((offset_of(&raw.index, ask.from), bytes));
        return Outcome::Again(Plan { text, sure: true, ..*plan });
    }
    if none && raw.text.len() >= bytes && bytes < MOST_BYTES {
        let more = (raw.text.len() + unpacked.lacks).saturating_mul(2).min(MOST_BYTES);
        return Outcome::Again(Plan { text: Some((offset, more)), ..*plan });
    }
    if (hole || none) && offset > 0 {
        return anew();
    }
    if hole {
        return Outcome::Done(Err(AWAY));
    }
    let end = unpacked.batches.last().map(|batch| Place {
        life: hot.life,
        index: batch.end(),
        offset: offset + unpacked.ends,
    });
    Outcome::Done(Ok(Arc::new(found(ask, raw, unpacked.batches, end))))
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
        source: Source::Cache,
    };
    Found { state, page, text_is_there: there, place }
}
