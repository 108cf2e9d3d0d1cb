//! Every engine trait, forwarded through the chaos.

use super::{Chaos, Loss, Op};
use crate::answer::Answer;
use crate::batch::Batch;
use crate::bus::{Bus, BusEvent, Hint, Target};
use crate::directory::{
    Claim, Claimed, Directory, Mark, NodeRecord, NodeStats, Orphan, Renewal, Restore,
};
use crate::error::LogError;
use crate::log::{Appended, Guarantees, Opened, Opening, Owner, Page, StreamLog, TailWatch};
use crate::registry::{Key, Rate, Registry, Space};
use async_trait::async_trait;
use protocol::{Epoch, Index, MessageId, Seal};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

#[async_trait]
impl<E: StreamLog + ?Sized> StreamLog for Chaos<E> {
    async fn open(&self, opening: Arc<Opening>, owner: &Owner) -> Result<Opened, LogError> {
        self.control.through(Op::Open, self.inner.open(opening, owner)).await
    }

    fn append(
        &self,
        stream: MessageId,
        owner: &Owner,
        batch: Arc<Batch>,
    ) -> Answer<Result<Appended, LogError>> {
        let (inner, owner) = (self.inner.clone(), owner.clone());
        let control = self.control.clone();
        Answer::later(async move {
            // Only what the chaos lets through is applied.
            let append = async { inner.append(stream, &owner, batch).await };
            control.through(Op::Append, append).await
        })
    }

    async fn seal(
        &self,
        stream: MessageId,
        owner: &Owner,
        epoch: Epoch,
        seal: Arc<Seal>,
    ) -> Result<(), LogError> {
        self.control.through(Op::Seal, self.inner.seal(stream, owner, epoch, seal)).await
    }

    async fn read(&self, stream: MessageId, from: Index, limit: usize) -> Result<Page, LogError> {
        self.control.through(Op::Read, self.inner.read(stream, from, limit)).await
    }

    async fn attach(
        &self,
        stream: MessageId,
        from: Index,
        limit: usize,
    ) -> Result<(Page, TailWatch), LogError> {
        let attach = self.inner.attach(stream, from, limit);
        let (page, mut watch) = self.control.through(Op::Attach, attach).await?;
        watch.lossy = Some(Loss { control: self.control.clone() });
        // Every read goes through the chaos.
        watch.near = None;
        Ok((page, watch))
    }

    async fn trim(&self, stream: MessageId, before: Index) -> Result<(), LogError> {
        self.control.through(Op::Trim, self.inner.trim(stream, before)).await
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }
}

#[async_trait]
impl<E: Directory + ?Sized> Directory for Chaos<E> {
    async fn renew(
        &self,
        owner: &Owner,
        ttl: Duration,
        stats: &NodeStats,
    ) -> Result<Renewal, LogError> {
        self.control.through(Op::Renew, self.inner.renew(owner, ttl, stats)).await
    }

    async fn release(&self, owner: &Owner) -> Result<(), LogError> {
        self.control.through(Op::Release, self.inner.release(owner)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, LogError> {
        self.control.through(Op::Nodes, self.inner.nodes()).await
    }

    async fn claim(&self, claim: &Claim, by: &Owner) -> Result<Claimed, LogError> {
        self.control.through(Op::Claim, self.inner.claim(claim, by)).await
    }

    async fn mark(&self, stream: MessageId, mark: Mark) -> Result<(), LogError> {
        self.control.through(Op::Mark, self.inner.mark(stream, mark)).await
    }

    async fn orphans(&self, limit: usize) -> Result<Vec<Orphan>, LogError> {
        self.control.through(Op::Orphans, self.inner.orphans(limit)).await
    }

    async fn restore(&self, restore: &Restore, owner: &Owner) -> Result<(), LogError> {
        self.control.through(Op::Restore, self.inner.restore(restore, owner)).await
    }
}

#[async_trait]
impl<E: Registry + ?Sized> Registry for Chaos<E> {
    async fn put_if_absent(
        &self,
        key: &Key,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<Option<Vec<u8>>, LogError> {
        self.control.through(Op::PutIfAbsent, self.inner.put_if_absent(key, value, ttl)).await
    }

    async fn put(&self, key: &Key, value: Vec<u8>, ttl: Duration) -> Result<(), LogError> {
        self.control.through(Op::Put, self.inner.put(key, value, ttl)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, LogError> {
        self.control.through(Op::Get, self.inner.get(key)).await
    }

    async fn take(&self, key: &Key) -> Result<Option<Vec<u8>>, LogError> {
        self.control.through(Op::Take, self.inner.take(key)).await
    }

    async fn remove(&self, key: &Key) -> Result<(), LogError> {
        self.control.through(Op::Remove, self.inner.remove(key)).await
    }

    async fn list(&self, space: Space, user: &str) -> Result<Vec<(String, Vec<u8>)>, LogError> {
        self.control.through(Op::List, self.inner.list(space, user)).await
    }

    async fn spend(&self, key: &Key, n: u32, rate: Rate) -> Result<Result<(), Duration>, LogError> {
        self.control.through(Op::Spend, self.inner.spend(key, n, rate)).await
    }
}

#[async_trait]
impl<E: Bus + ?Sized> Bus for Chaos<E> {
    async fn publish(&self, to: Target, event: BusEvent) -> Result<(), LogError> {
        let swallowed = self.control.loses_wakeup();
        let publish =
            async { if swallowed { Ok(()) } else { self.inner.publish(to, event).await } };
        self.control.through(Op::Publish, publish).await
    }

    fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.inner.subscribe()
    }
}
