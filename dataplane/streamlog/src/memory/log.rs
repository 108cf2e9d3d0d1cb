//! [`StreamLog`] over the shared state.

use super::MemoryHandle;
use super::stream::Stored;
use crate::answer::Answer;
use crate::batch::Batch;
use crate::bugs::{self, Bug};
use crate::error::LogError;
use crate::log::{Appended, Guarantees, Opened, Opening, Owner, Page, StreamLog, TailWatch};
use async_trait::async_trait;
use protocol::{Epoch, Index, MessageId, Seal};
use std::sync::Arc;

#[async_trait]
impl StreamLog for MemoryHandle {
    async fn open(&self, opening: Arc<Opening>, owner: &Owner) -> Result<Opened, LogError> {
        self.with(|state, _| {
            let stream = opening.message;
            if let Some(stored) = state.streams.get(&stream) {
                if stored.is_untouched_since_opened_by(owner) {
                    return Ok(Opened::Yours(Epoch::FIRST));
                }
                if !bugs::active(Bug::ReusedId) {
                    return Ok(Opened::Exists(stored.owner.clone(), stored.opening.clone()));
                }
            }
            state.streams.insert(stream, Stored::new(opening, owner.clone(), state.run));
            state.live.insert(stream);
            Ok(Opened::Yours(Epoch::FIRST))
        })
        .await
    }

    fn append(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: Arc<Batch>,
    ) -> Answer<Result<Appended, LogError>> {
        let done = self.unless_cut(|state| {
            let absent = LogError::Gap { tail: Index::ZERO };
            state.streams.get_mut(&stream).ok_or(absent)?.append(owner, batch)
        });
        done.map_or_else(|| Answer::later(std::future::pending()), Answer::now)
    }

    async fn seal(
        &self,
        stream: MessageId,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<(), LogError> {
        self.with(|state, now| {
            let stored = state.streams.get_mut(&stream).ok_or(LogError::NotFound)?;
            stored.seal(owner, epoch, seal, now)?;
            state.live.remove(&stream);
            Ok(())
        })
        .await
    }

    async fn read(&self, stream: MessageId, from: Index, limit: usize) -> Result<Page, LogError> {
        self.timeless(|state| {
            let Some(stored) = state.streams.get(&stream) else {
                return Err(state.absent(self.clock().now()));
            };
            Ok(stored.page(from, limit))
        })
        .await
    }

    async fn attach(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
    ) -> Result<(Page, TailWatch), LogError> {
        self.timeless(|state| {
            let Some(stored) = state.streams.get(&stream) else {
                return Err(state.absent(self.clock().now()));
            };
            Ok((stored.page(from, limit), stored.watch()))
        })
        .await
    }

    async fn trim(&self, stream: MessageId, before: Index) -> Result<(), LogError> {
        self.with(|state, _| {
            let stored = state.streams.get_mut(&stream).ok_or(LogError::NotFound)?;
            stored.trim(before);
            Ok(())
        })
        .await
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { atomic_attach: true, durable: false }
    }
}
