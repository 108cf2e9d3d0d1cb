//! Writes: appends that become due in the same moment leave in one pipeline; everything else reads
//! the stream, asks the rules of [`super::meta`] what may follow, and swaps.

use super::gather::Gather;
use super::head::{Hot, LENGTH};
use super::keys::Keys;
use super::link::{AWAY, Link};
use super::meta::{Swap, Text};
use super::reply;
use super::scripts::{Name, Scripts};
use crate::error::LogError;
use crate::log::Owner;
use crate::memory::{KEEP_META, KEEP_TEXT};
use protocol::{Epoch, Incarnation, MessageId};
use redis::Value;
use std::sync::Arc;
use std::time::Duration;

/// Appends of one pipeline.
const MOST_APPENDS: usize = 1_024;
/// Appends of one call of the script: beside the work itself a call costs about as much as an append,
/// and while it lasts Redis answers nobody. (A cluster would need one call for each slot.)
const APPENDS_A_CALL: usize = 64;
/// A live stream is kept so long after its last sign of life (protocol section 4, "Keeping").
const KEEP_LIVE: Duration = Duration::from_secs(60 * 60);

/// One append, ready to be sent.
pub(super) struct Record {
    pub(super) stream: MessageId,
    pub(super) expected: Hot,
    pub(super) next: Hot,
    pub(super) bytes: Vec<u8>,
    pub(super) refresh: bool,
    pub(super) index: Option<[u8; 12]>,
    pub(super) tools: bool,
}

impl Record {
    /// Whether the rarely written part changes with it.
    fn has_notes(&self) -> bool {
        self.refresh || self.index.is_some() || self.tools
    }
}

/// What a conditional write met.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wrote {
    Done,
    /// This head stands instead; `None` where there is no stream.
    Stands(Option<Hot>),
}

/// The writing side of an engine.
pub(super) struct Writing {
    parts: Arc<Parts>,
    appends: Gather<Record, Result<Wrote, LogError>>,
}

struct Parts {
    link: Arc<Link>,
    scripts: Scripts,
    keys: Keys,
    text_in_hints: usize,
}

impl Writing {
    pub(super) fn new(link: Arc<Link>, scripts: Scripts, keys: Keys, text_in_hints: usize) -> Self {
        let parts = Arc::new(Parts { link, scripts, keys, text_in_hints });
        Self { parts, appends: Gather::new(MOST_APPENDS) }
    }

    /// Appends together with everybody who is about to.
    pub(super) async fn append(&self, record: Record) -> Result<Wrote, LogError> {
        let parts = self.parts.clone();
        let send = |records| async move { parts.append_all(records).await };
        let (answer, _) = self.appends.ask(record, |_, _| false, send).await;
        answer.unwrap_or(Err(AWAY))
    }

    /// Applies a change if nothing happened since it was derived. `enlist` names who will own the
    /// stream: that is noted first.
    pub(super) async fn swap(
        &self,
        stream: MessageId,
        swap: &Swap,
        enlist: Option<&Owner>,
    ) -> Result<Wrote, LogError> {
        let parts = &self.parts;
        let mut pipeline = redis::Pipeline::new();
        if let Some(owner) = enlist {
            pipeline.add_command(parts.enlist(owner.incarnation, stream, swap.hot.epoch));
        }
        if swap.hot.hand_over {
            let (offered, member) = (parts.keys.offered(), member(stream, swap.hot.epoch));
            pipeline.cmd("SADD").arg(&offered).arg(member);
            pipeline.cmd("EXPIRE").arg(&offered).arg(KEEP_LIVE.as_secs());
        }
        pipeline.add_command(parts.swap(stream, swap)?);
        let answer = parts.link.send(&pipeline).await?.pop().ok_or(AWAY)?;
        wrote(answer)
    }
}

/// How the sets of owned and offered streams name a stream under one epoch.
pub(super) fn member(stream: MessageId, epoch: Epoch) -> String {
    format!("{stream}:{epoch}")
}

/// The opposite.
pub(super) fn of_member(member: &str) -> Option<(MessageId, Epoch)> {
    let (stream, epoch) = member.split_once(':')?;
    Some((MessageId::parse(stream)?, Epoch(epoch.parse().ok()?)))
}

fn wrote(answer: Value) -> Result<Wrote, LogError> {
    match answer {
        Value::Int(_) => Ok(Wrote::Done),
        Value::Nil => Ok(Wrote::Stands(None)),
        other => match reply::bytes(other).ok_or(AWAY)? {
            none if none.is_empty() => Ok(Wrote::Stands(None)),
            head => Hot::parse(&head).map(|hot| Wrote::Stands(Some(hot))).ok_or(AWAY),
        },
    }
}

impl Parts {
    async fn append_all(&self, records: Vec<Record>) -> Vec<Result<Wrote, LogError>> {
        let mut pipeline = redis::Pipeline::new();
        for together in records.chunks(APPENDS_A_CALL) {
            pipeline.add_command(self.append(together));
        }
        let answers = match self.link.send(&pipeline).await {
            Ok(answers) => answers,
            Err(error) => return vec![Err(error); records.len()],
        };
        let calls = records.chunks(APPENDS_A_CALL).zip(answers);
        let each = calls.flat_map(|(together, answer)| {
            let mut answers = reply::items(answer).into_iter();
            together.iter().map(move |_| answers.next().ok_or(AWAY).and_then(wrote))
        });
        each.collect()
    }

    /// What only some appends carry stands behind the others: each argument costs Redis as much as a
    /// twentieth of an append.
    fn append(&self, together: &[Record]) -> redis::Cmd {
        let mut keys = Vec::with_capacity(together.len() * 2 + 1);
        let mut notes = Vec::new();
        for (at, record) in together.iter().enumerate() {
            let [head, text, meta] = self.keys.stream(record.stream);
            keys.extend([head, text]);
            if record.has_notes() {
                notes.push((at + 1, record, meta));
            }
        }
        keys.extend(notes.iter_mut().map(|(_, _, meta)| std::mem::take(meta)));
        let mut cmd = self.scripts.call(Name::Append, &keys);
        cmd.arg(together.len()).arg(self.keys.inboxes()).arg(self.text_in_hints);
        for record in together {
            cmd.arg(&record.expected.bytes()[..]).arg(&record.next.bytes()[..]);
            cmd.arg(&record.bytes[..]).arg(record.next.size);
        }
        for (which, record, _) in notes {
            cmd.arg(which);
            match record.refresh {
                true => cmd.arg(KEEP_LIVE.as_secs()),
                false => cmd.arg(""),
            };
            cmd.arg(record.index.as_ref().map_or(&[][..], |entry| &entry[..]));
            cmd.arg(if record.tools { "1" } else { "" });
        }
        cmd
    }

    fn enlist(&self, owner: Incarnation, stream: MessageId, epoch: Epoch) -> redis::Cmd {
        let name = owner.to_string();
        let keys = [self.keys.owners(), self.keys.owned_by(&name)];
        let mut cmd = self.scripts.call(Name::Enlist, &keys);
        cmd.arg(name).arg(member(stream, epoch)).arg(KEEP_META.as_secs());
        cmd
    }

    fn swap(&self, stream: MessageId, swap: &Swap) -> Result<redis::Cmd, LogError> {
        let meta = serde_json::to_vec(&swap.meta).map_err(|_| AWAY)?;
        let opening = swap.opening.as_ref().map(serde_json::to_vec).transpose();
        let opening = opening.map_err(|_| AWAY)?.unwrap_or_default();
        let expected: Option<[u8; LENGTH]> = swap.expected.map(|hot| hot.bytes());
        let empty = (Vec::new(), Vec::new());
        let (what, (text, index)) = match &swap.text {
            Text::Keep => ("keep", &empty),
            Text::Drop => ("drop", &empty),
            Text::Set(text) => ("set", text),
        };
        let live = [KEEP_LIVE, KEEP_LIVE];
        let [meta_life, text_life] = if swap.hot.sealed { [KEEP_META, KEEP_TEXT] } else { live };
        let mut cmd = self.scripts.call(Name::Swap, &self.keys.stream(stream));
        cmd.arg(expected.as_ref().map_or(&[][..], |head| &head[..]));
        cmd.arg(&swap.hot.bytes()[..]).arg(meta).arg(opening);
        cmd.arg(what).arg(&text[..]).arg(&index[..]);
        cmd.arg(meta_life.as_secs()).arg(text_life.as_secs());
        cmd.arg(if swap.tell { self.keys.inboxes() } else { String::new() });
        cmd.arg(match swap.used_tools {
            None => "",
            Some(true) => "1",
            Some(false) => "0",
        });
        Ok(cmd)
    }
}
