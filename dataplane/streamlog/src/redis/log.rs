//! [`StreamLog`] over Redis.

use super::RedisEngine;
use super::TRIES;
use super::head::Hot;
use super::link::AWAY;
use super::meta::{self, Verdict, index_entry, judge};
use super::packing::pack;
use super::reading::{Ask, Found};
use super::stats::add;
use super::writing::{Record, Wrote};
use crate::answer::Answer;
use crate::batch::Batch;
use crate::bugs::{self, Bug};
use crate::error::LogError;
use crate::log::{Appended, Guarantees, Opened, Opening, Owner, Page, StreamLog, TailWatch};
use async_trait::async_trait;
use protocol::{ChunkType, Epoch, Index, MessageId, Seal};
use std::sync::Arc;

/// An append that met a head, and what came of it.
enum Appending {
    Done(Appended),
    /// Look at this one; `None`: at what the store has.
    Again(Option<Hot>),
}

impl RedisEngine {
    async fn fetch(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
        follow: bool,
    ) -> Result<Arc<Found>, LogError> {
        let kept = &self.inner.kept;
        let (known, place) = (kept.known(stream), kept.place(stream, from));
        let listed = kept.is_listed(stream);
        let ask = Ask { stream, from, limit, follow, listed, known, place };
        let found = self.inner.reading.read(ask).await;
        match &found {
            Ok(found) => {
                kept.keep(&found.state);
                if let Some(place) = found.place {
                    kept.remember(stream, place);
                }
            }
            Err(LogError::NotFound) => {
                let _ = kept.lost(stream);
                return Err(self.absent_stream(stream));
            }
            Err(_) => {}
        }
        found
    }

    /// One look at the head, and the write it allows. What is not `fresh` may be out of date and
    /// refuses nothing.
    async fn append_at(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: &Batch,
        stands: Hot,
        fresh: bool,
    ) -> Result<Appending, LogError> {
        match judge(&stands, owner, batch) {
            Verdict::Write => {}
            _ if !fresh => return Ok(Appending::Again(None)),
            Verdict::Compare(refusal) => {
                return self.compare(stream, owner, batch, refusal).await.map(Appending::Done);
            }
            Verdict::Refuse(refusal) => return Err(refusal),
        }
        let mut bytes = Vec::with_capacity(batch.weight() + 16 * (batch.chunks.len() + 2));
        pack(batch, &mut bytes);
        let next = stands.with(batch, bytes.len());
        let record = Record {
            stream,
            expected: stands,
            next,
            bytes,
            refresh: self.inner.kept.refresh_is_due(stream),
            index: index_entry(&stands, &next),
            tools: batch.chunks.iter().any(|chunk| chunk.kind == ChunkType::ToolUse),
        };
        match self.inner.writing.append(record).await? {
            Wrote::Done => {
                self.inner.kept.own(stream, next);
                Ok(Appending::Done(Appended { cancel: stands.cancel }))
            }
            Wrote::Stands(None) => Err(LogError::Gap { tail: Index::ZERO }),
            Wrote::Stands(hot) => Ok(Appending::Again(hot)),
        }
    }

    /// A batch that begins before the tail: acknowledged if the very same stands there.
    async fn compare(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: &Batch,
        refusal: LogError,
    ) -> Result<Appended, LogError> {
        let found = self.fetch(stream, batch.first, 1, false).await?;
        let hot = &found.state.hot;
        meta::fence(hot, owner, batch.epoch)?;
        let same = found.page.batches.first().is_some_and(|stored| stored.same_bytes(batch));
        if !same {
            return Err(refusal);
        }
        self.inner.kept.own(stream, *hot);
        Ok(Appended { cancel: hot.cancel })
    }

    async fn append_somehow(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: &Batch,
    ) -> Result<Appended, LogError> {
        let (mut stands, mut fresh) = (self.inner.kept.owned(stream), false);
        for _ in 0..TRIES {
            let hot = match stands {
                Some(hot) => hot,
                None => {
                    fresh = true;
                    let absent = LogError::Gap { tail: Index::ZERO };
                    self.peek(stream).await?.ok_or(absent)?.hot
                }
            };
            match self.append_at(stream, owner, batch, hot, fresh).await? {
                Appending::Done(done) => return Ok(done),
                Appending::Again(hot) => (stands, fresh) = (hot, hot.is_some()),
            }
        }
        Err(AWAY)
    }

    /// What an open meets that came second.
    async fn open_existing(
        &self,
        opening: &Arc<Opening>,
        owner: &Owner,
    ) -> Result<Option<Opened>, LogError> {
        let stream = opening.message;
        let Some(state) = self.peek(stream).await? else { return Ok(None) };
        if state.is_untouched_since_opened_by(owner) {
            self.inner.kept.own(stream, state.hot);
            return Ok(Some(Opened::Yours(Epoch::FIRST)));
        }
        if bugs::active(Bug::ReusedId) {
            let (run, life) = (self.run_of_store().await?, self.life(stream));
            let swap = meta::open(opening.clone(), owner, run, life, Some(state.hot));
            let wrote = self.inner.writing.swap(stream, &swap, Some(owner)).await?;
            return Ok((wrote == Wrote::Done).then_some(Opened::Yours(Epoch::FIRST)));
        }
        if (state.hot.epoch, state.hot.owner) != (Epoch::FIRST, owner.incarnation) {
            self.leave(owner.incarnation, stream, Epoch::FIRST);
        }
        Ok(Some(Opened::Exists(state.owner(), state.opening)))
    }
}

#[async_trait]
impl StreamLog for RedisEngine {
    async fn open(&self, opening: Arc<Opening>, owner: &Owner) -> Result<Opened, LogError> {
        let stream = opening.message;
        for _ in 0..TRIES {
            let run = self.run_of_store().await?;
            let swap = meta::open(opening.clone(), owner, run, self.life(stream), None);
            if self.inner.writing.swap(stream, &swap, Some(owner)).await? == Wrote::Done {
                self.inner.kept.own(stream, swap.hot);
                return Ok(Opened::Yours(Epoch::FIRST));
            }
            if let Some(opened) = self.open_existing(&opening, owner).await? {
                return Ok(opened);
            }
        }
        Err(AWAY)
    }

    fn append(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: Arc<Batch>,
    ) -> Answer<Result<Appended, LogError>> {
        let (engine, owner) = (self.clone(), owner.clone());
        Answer::later(async move {
            let done = engine.append_somehow(stream, &owner, &batch).await;
            if let Err(error) = &done {
                engine.inner.kept.disown(stream);
                if matches!(error, LogError::Fenced { epoch } if *epoch > batch.epoch) {
                    engine.leave(owner.incarnation, stream, batch.epoch);
                }
            }
            done
        })
    }

    async fn seal(
        &self,
        stream: MessageId,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<(), LogError> {
        let rule = |state: &meta::State, _| state.seal(owner, epoch, seal.clone());
        self.change(stream, None, rule).await?;
        self.inner.kept.disown(stream);
        self.leave(owner.incarnation, stream, epoch);
        Ok(())
    }

    async fn read(&self, stream: MessageId, from: Index, limit: usize) -> Result<Page, LogError> {
        if let Some(page) = self.inner.kept.told(stream, from, limit) {
            add(&self.inner.shore.counters.told_reads, 1);
            return Ok(page);
        }
        let found = self.fetch(stream, from, limit, false).await?;
        self.inner.kept.learn(stream, found.state.hot);
        Ok(found.page.clone())
    }

    async fn attach(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
    ) -> Result<(Page, TailWatch), LogError> {
        let attaching = self.inner.kept.attaching(stream);
        let found = self.fetch(stream, from, limit, true).await?;
        let listener = attaching.listen(&found.state.hot);
        // Only now is the stream remembered here.
        self.inner.kept.keep(&found.state);
        Ok((found.page.clone(), TailWatch::new(listener)))
    }

    async fn trim(&self, stream: MessageId, before: Index) -> Result<(), LogError> {
        for _ in 0..TRIES {
            let found = self.fetch(stream, before, usize::MAX, false).await?;
            let (state, kept) = (&found.state, &found.page.batches);
            let first = kept.first().map_or(state.hot.tail, |batch| batch.first);
            if !state.hot.sealed || !found.text_is_there || first <= state.meta.first {
                return Ok(());
            }
            let swap = state.trim(kept, self.life(stream));
            if self.inner.writing.swap(stream, &swap, None).await? == Wrote::Done {
                return Ok(());
            }
        }
        Err(AWAY)
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { atomic_attach: true, durable: false }
    }
}
