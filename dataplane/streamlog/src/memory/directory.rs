//! [`Directory`] over the shared state: leases by the store's clock.

use super::stream::Stored;
use super::{MemoryHandle, State};
use crate::directory::{
    Claim, Claimed, Directory, Mark, NodeRecord, NodeStats, Orphan, OrphanCause, Renewal, Restore,
};
use crate::error::LogError;
use crate::log::Owner;
use async_trait::async_trait;
use protocol::MessageId;
use std::time::Duration;
use tokio::time::Instant;

/// A dead node is still listed this long.
const REMEMBER_DEAD: Duration = Duration::from_secs(60);

pub(super) struct LeaseEntry {
    owner: Owner,
    until: Instant,
    stats: NodeStats,
}

impl State {
    /// How long ago the lease of an owner ended; `None` while it is alive.
    fn dead_for(&self, owner: &Owner, now: Instant) -> Option<Duration> {
        match self.leases.get(&owner.incarnation) {
            Some(lease) if lease.until > now => None,
            Some(lease) => Some(now.saturating_duration_since(lease.until)),
            None => Some(REMEMBER_DEAD),
        }
    }

    fn orphan(&self, stream: MessageId, now: Instant) -> Option<Orphan> {
        let stored = self.streams.get(&stream)?;
        let dead = self.dead_for(&stored.owner, now).map(|since| (OrphanCause::Dead, since));
        let marked =
            stored.hand_over.map(|at| (OrphanCause::HandOver, now.saturating_duration_since(at)));
        let (cause, since) = dead.or(marked)?;
        let head = stored.head();
        Some(Orphan {
            stream,
            opening: stored.opening.clone(),
            epoch: head.epoch,
            owner: stored.owner.clone(),
            cause,
            since,
            barren: stored.barren,
            cancel: head.cancel,
            used_tools: stored.used_tools,
        })
    }
}

#[async_trait]
impl Directory for MemoryHandle {
    async fn renew(
        &self,
        owner: &Owner,
        ttl: Duration,
        stats: &NodeStats,
    ) -> Result<Renewal, LogError> {
        self.with(|state, now| {
            state.leases.retain(|_, lease| lease.until + REMEMBER_DEAD > now);
            let entry = LeaseEntry { owner: owner.clone(), until: now + ttl, stats: stats.clone() };
            state.leases.insert(owner.incarnation, entry);
            Ok(Renewal { run: state.run })
        })
        .await
    }

    async fn release(&self, owner: &Owner) -> Result<(), LogError> {
        self.with(|state, now| {
            if let Some(lease) = state.leases.get_mut(&owner.incarnation) {
                lease.until = now;
            }
            Ok(())
        })
        .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, LogError> {
        self.with(|state, now| {
            let mut nodes: Vec<_> = state
                .leases
                .values()
                .map(|lease| NodeRecord {
                    owner: lease.owner.clone(),
                    alive: lease.until > now,
                    stats: lease.stats.clone(),
                })
                .collect();
            nodes.sort_by(|a, b| {
                let (a, b) = (&a.owner, &b.owner);
                (&a.node, a.incarnation).cmp(&(&b.node, b.incarnation))
            });
            Ok(nodes)
        })
        .await
    }

    async fn claim(&self, claim: &Claim, by: &Owner) -> Result<Claimed, LogError> {
        self.with(|state, now| {
            let absent = state.absent(now);
            let stored = state.streams.get_mut(&claim.stream).ok_or(absent)?;
            stored.claim(claim, by, state.run)?;
            Ok(Claimed { head: stored.head().clone(), opening: stored.opening.clone() })
        })
        .await
    }

    async fn mark(&self, stream: MessageId, mark: Mark) -> Result<(), LogError> {
        self.with(|state, now| {
            let absent = state.absent(now);
            let stored = state.streams.get_mut(&stream).ok_or(absent)?;
            match mark {
                Mark::Cancel => stored.cancel()?,
                Mark::HandOver if stored.head().seal.is_some() => return Err(LogError::Sealed),
                // Late, after another node's claim: it is not theirs to offer any more.
                Mark::HandOver if stored.owner != self.owner => {}
                Mark::HandOver => stored.hand_over = stored.hand_over.or(Some(now)),
            }
            Ok(())
        })
        .await
    }

    async fn orphans(&self, limit: usize) -> Result<Vec<Orphan>, LogError> {
        self.with(|state, now| {
            state.is_settled(now)?;
            let found = state.live.iter().filter_map(|stream| state.orphan(*stream, now));
            Ok(found.take(limit).collect())
        })
        .await
    }

    async fn restore(&self, restore: &Restore, owner: &Owner) -> Result<(), LogError> {
        self.with(|state, now| {
            let stream = restore.opening.message;
            let run = state.run;
            match state.streams.get_mut(&stream) {
                Some(stored) => stored.restore(restore, owner, run, now)?,
                None => {
                    let mut stored = Stored::new(restore.opening.clone(), owner.clone(), run);
                    stored.write_back(restore, owner, run, now);
                    state.streams.insert(stream, stored);
                }
            }
            match restore.head.seal {
                Some(_) => state.live.remove(&stream),
                None => state.live.insert(stream),
            };
            Ok(())
        })
        .await
    }
}
