//! The part of a stream's meta that is written rarely, and the rules of everything but append: what
//! may follow from what. Pure; the script `swap` applies a [`Swap`] if nothing changed meanwhile.

use super::head::Hot;
use super::packing::pack;
use crate::batch::Batch;
use crate::bugs::{self, Bug};
use crate::directory::{Claim, Keep, Restore};
use crate::error::LogError;
use crate::log::{Cut, Head, Opening, Owner, TakenOver};
use protocol::server_frame::ResetReason;
use protocol::{Digest, Epoch, Index, NodeName, Seal};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// The index has an entry for about so many bytes of text.
const INDEX_EVERY: u32 = 64 * 1024;

/// As stored, in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The owner's name.
    pub(super) node: NodeName,
    /// Run of the store in which it was opened, claimed or restored last.
    pub(super) run: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seal: Option<Arc<Seal>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) cuts: Vec<Cut>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) taken_over: Option<TakenOver>,
    /// Claims in a row at `claimed_at`: they count as long as the tail stands there.
    pub(super) barren: u32,
    pub(super) claimed_at: Index,
    /// First index of the text that is kept.
    pub(super) first: Index,
    /// When it was marked to be handed over, by the store's clock, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hand_over: Option<u64>,
}

/// A stream as one atomic step found it, without its text.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) hot: Hot,
    pub(super) meta: Arc<Meta>,
    pub(super) opening: Arc<Opening>,
    pub(super) used_tools: bool,
    /// The store's clock, in milliseconds.
    pub(super) now: u64,
}

/// What becomes of the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Text {
    Keep,
    Drop,
    /// The text and its index.
    Set((Vec<u8>, Vec<u8>)),
}

/// A change to be applied if the head is still the expected one.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    pub(super) expected: Option<Hot>,
    pub(super) hot: Hot,
    pub(super) meta: Meta,
    pub(super) opening: Option<Arc<Opening>>,
    pub(super) text: Text,
    pub(super) used_tools: Option<bool>,
    pub(super) tell: bool,
}

impl Meta {
    fn new(owner: &Owner, run: Uuid) -> Self {
        Self {
            node: owner.node.clone(),
            run,
            seal: None,
            cuts: Vec::new(),
            taken_over: None,
            barren: 0,
            claimed_at: Index::ZERO,
            first: Index::ZERO,
            hand_over: None,
        }
    }

    /// A pair with an equal or larger `keep` is redundant from now on.
    fn cut(&mut self, epoch: Epoch, keep: Index, reason: ResetReason) {
        self.cuts.retain(|cut| cut.keep < keep);
        self.cuts.push(Cut { epoch, keep, reason });
    }
}

/// Whether owner and epoch are the stream's.
pub(super) fn fence(hot: &Hot, owner: &Owner, epoch: Epoch) -> Result<(), LogError> {
    let mine = hot.epoch == epoch && hot.owner == owner.incarnation;
    if mine || bugs::active(Bug::NoFence) {
        return Ok(());
    }
    Err(LogError::Fenced { epoch: hot.epoch })
}

/// What an append meets.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It lands.
    Write,
    /// It begins before the tail: acknowledged if the text there is the same, refused otherwise.
    Compare(LogError),
    Refuse(LogError),
}

/// The rule of `append`.
pub(super) fn judge(hot: &Hot, owner: &Owner, batch: &Batch) -> Verdict {
    if let Err(fenced) = fence(hot, owner, batch.epoch) {
        return Verdict::Refuse(fenced);
    }
    let gap = LogError::Gap { tail: hot.tail };
    let refusal = if hot.sealed { LogError::Sealed } else { gap };
    match () {
        () if batch.first < hot.tail => Verdict::Compare(refusal),
        () if hot.sealed || batch.first != hot.tail || batch.before != hot.digest => {
            Verdict::Refuse(refusal)
        }
        () => Verdict::Write,
    }
}

/// The entry of the index for the next record, where one is due after this append.
pub(super) fn index_entry(before: &Hot, after: &Hot) -> Option<[u8; 12]> {
    (after.size / INDEX_EVERY > before.size / INDEX_EVERY).then(|| entry(after.tail, after.size))
}

fn entry(first: Index, offset: u32) -> [u8; 12] {
    let mut entry = [0; 12];
    let bytes = first.0.to_be_bytes().into_iter().chain(offset.to_be_bytes());
    entry.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    entry
}

/// Where to begin to read for this index, by the index of the text.
pub(super) fn offset_of(index: &[u8], from: Index) -> usize {
    let entries = index.chunks_exact(12).map_while(|entry| {
        let (first, offset) = (entry.first_chunk::<8>()?, entry.last_chunk::<4>()?);
        Some((u64::from_be_bytes(*first), u32::from_be_bytes(*offset) as usize))
    });
    entries.take_while(|(first, _)| *first <= from.0).last().map_or(0, |(_, offset)| offset)
}

/// A whole text and its index.
fn packed(batches: &[Arc<Batch>]) -> (Vec<u8>, Vec<u8>) {
    let (mut text, mut index) = (Vec::new(), Vec::new());
    for batch in batches {
        let before = text.len() as u32 / INDEX_EVERY;
        pack(batch, &mut text);
        if text.len() as u32 / INDEX_EVERY > before {
            index.extend(entry(batch.end(), text.len() as u32));
        }
    }
    (text, index)
}

/// A new stream. `over` is what stands there, for the bug that starts an existing one over.
pub(super) fn open(
    opening: Arc<Opening>,
    owner: &Owner,
    run: Uuid,
    life: u32,
    over: Option<Hot>,
) -> Swap {
    Swap {
        expected: over,
        hot: Hot::opened(owner.incarnation, life),
        meta: Meta::new(owner, run),
        opening: Some(opening),
        text: Text::Drop,
        used_tools: Some(false),
        tell: false,
    }
}

impl State {
    pub(super) fn owner(&self) -> Owner {
        Owner { node: self.meta.node.clone(), incarnation: self.hot.owner }
    }

    /// The head; `text_is_there` is false where its time is over.
    pub(super) fn head(&self, text_is_there: bool) -> Head {
        let (hot, meta) = (&self.hot, &self.meta);
        Head {
            epoch: hot.epoch,
            first: if text_is_there { meta.first } else { hot.tail },
            tail: hot.tail,
            digest: hot.digest,
            seal: meta.seal.clone(),
            cuts: meta.cuts.clone().into(),
            taken_over: meta.taken_over,
            cancel: hot.cancel,
        }
    }

    pub(super) fn barren(&self) -> u32 {
        if self.meta.claimed_at == self.hot.tail { self.meta.barren } else { 0 }
    }

    /// Whether an open by `owner` can only be a repeat: it wrote nothing, nobody took it over.
    pub(super) fn is_untouched_since_opened_by(&self, owner: &Owner) -> bool {
        let hot = &self.hot;
        let untouched = hot.epoch == Epoch::FIRST && hot.tail == Index::ZERO && !hot.sealed;
        untouched && hot.owner == owner.incarnation
    }

    /// The stream again, without a change of its text.
    fn again(&self) -> Swap {
        Swap {
            expected: Some(self.hot),
            hot: self.hot,
            meta: Meta::clone(&self.meta),
            opening: None,
            text: Text::Keep,
            used_tools: None,
            tell: true,
        }
    }

    /// `None` where the same seal stands.
    pub(super) fn seal(
        &self,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<Option<Swap>, LogError> {
        fence(&self.hot, owner, epoch)?;
        if self.hot.sealed {
            let same = self.meta.seal.as_ref() == Some(&seal);
            return if same { Ok(None) } else { Err(LogError::Sealed) };
        }
        let mut swap = self.again();
        swap.hot.sealed = true;
        swap.meta.seal = Some(seal);
        Ok(Some(swap))
    }

    /// `None` where it was granted before.
    pub(super) fn claim(
        &self,
        claim: &Claim,
        by: &Owner,
        run: Uuid,
        life: u32,
    ) -> Result<Option<Swap>, LogError> {
        let hot = &self.hot;
        if hot.sealed {
            return Err(LogError::Sealed);
        }
        if hot.epoch == claim.expected.next() && hot.owner == by.incarnation {
            return Ok(None);
        }
        if hot.epoch != claim.expected {
            return Err(LogError::Fenced { epoch: hot.epoch });
        }
        let mut swap = self.again();
        let epoch = claim.expected.next();
        (swap.hot.epoch, swap.hot.owner, swap.hot.hand_over) = (epoch, by.incarnation, false);
        let meta = &mut swap.meta;
        (meta.node, meta.run, meta.hand_over) = (by.node.clone(), run, None);
        if claim.keep == Keep::Nothing && hot.tail > Index::ZERO {
            meta.cut(epoch, Index::ZERO, ResetReason::Restarted);
            (swap.hot.tail, swap.hot.digest) = (Index::ZERO, Digest::EMPTY);
            (swap.hot.size, swap.hot.life) = (0, life);
            swap.text = Text::Drop;
        } else if self.meta.run != run {
            // Nobody knows what else the other run held: cursors beyond the tail are void.
            meta.cut(epoch, hot.tail, ResetReason::RolledBack);
        }
        meta.barren = self.barren() + 1;
        meta.claimed_at = swap.hot.tail;
        meta.taken_over = Some(TakenOver { from: swap.hot.tail, mode: claim.mode });
        Ok(Some(swap))
    }

    /// `None` where it was marked before.
    pub(super) fn cancel(&self) -> Result<Option<Swap>, LogError> {
        if self.hot.sealed {
            return Err(LogError::Sealed);
        }
        let mut swap = self.again();
        swap.hot.cancel = true;
        Ok((!self.hot.cancel).then_some(swap))
    }

    /// `None` where it was marked before.
    pub(super) fn hand_over(&self, by: &Owner) -> Result<Option<Swap>, LogError> {
        if self.hot.sealed {
            return Err(LogError::Sealed);
        }
        if self.hot.owner != by.incarnation {
            // Late, after another node's claim: it is not theirs to offer any more.
            return Ok(None);
        }
        let mut swap = self.again();
        swap.hot.hand_over = true;
        swap.meta.hand_over = Some(self.now);
        swap.tell = false;
        Ok((!self.hot.hand_over).then_some(swap))
    }

    /// Forgets the text before the first of `kept`, which is all of it that is to stay.
    pub(super) fn trim(&self, kept: &[Arc<Batch>], life: u32) -> Swap {
        let mut swap = self.again();
        let packed = packed(kept);
        swap.meta.first = kept.first().map_or(self.hot.tail, |batch| batch.first);
        (swap.hot.size, swap.hot.life) = (packed.0.len() as u32, life);
        swap.text = Text::Set(packed);
        swap.tell = false;
        swap
    }
}

/// The rule of `restore` over what stands there, if anything does.
pub(super) fn restore(
    stands: Option<&State>,
    restore: &Restore,
    owner: &Owner,
    run: Uuid,
    life: u32,
) -> Result<Swap, LogError> {
    let epoch = restore.head.epoch;
    if let Some(state) = stands {
        may_replace(state, restore, owner)?;
    }
    let packed = packed(&restore.batches);
    let head = &restore.head;
    let marks = stands.map(|state| (&state.hot, &state.meta));
    let handed = marks.filter(|(hot, _)| hot.epoch == epoch && hot.hand_over);
    Ok(Swap {
        expected: stands.map(|state| state.hot),
        hot: Hot {
            epoch,
            owner: owner.incarnation,
            cancel: head.cancel || marks.is_some_and(|(hot, _)| hot.cancel),
            hand_over: handed.is_some(),
            sealed: head.seal.is_some(),
            tail: head.tail,
            digest: head.digest,
            size: packed.0.len() as u32,
            life,
        },
        meta: Meta {
            seal: head.seal.clone(),
            cuts: head.cuts.to_vec(),
            taken_over: head.taken_over,
            barren: restore.barren,
            claimed_at: head.tail,
            first: restore.first(),
            hand_over: handed.and_then(|(_, meta)| meta.hand_over),
            ..Meta::new(owner, run)
        },
        opening: Some(restore.opening.clone()),
        text: Text::Set(packed),
        used_tools: Some(restore.used_tools),
        tell: true,
    })
}

fn may_replace(state: &State, restore: &Restore, owner: &Owner) -> Result<(), LogError> {
    let (hot, epoch) = (&state.hot, restore.head.epoch);
    if hot.epoch > epoch || (hot.epoch == epoch && hot.owner != owner.incarnation) {
        return Err(LogError::Fenced { epoch: hot.epoch });
    }
    if hot.sealed && state.meta.seal != restore.head.seal {
        return Err(LogError::Sealed);
    }
    let prefix =
        hot.tail <= restore.head.tail && restore.digest_before(hot.tail) == Some(hot.digest);
    if hot.epoch == epoch && !prefix {
        return Err(LogError::Gap { tail: hot.tail });
    }
    Ok(())
}
