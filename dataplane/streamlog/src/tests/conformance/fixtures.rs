//! The memory engine alone, behind chaos without faults, and under a node's own memory.

use super::{Fixture, Handles, owner};
use crate::chaos::{Chaos, ChaosControl};
use crate::clock::{Clock, Ids};
use crate::lease::Lease;
use crate::memory::{MemoryHandle, MemoryStore};
use crate::tiered::Tiered;
use async_trait::async_trait;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

struct Memory {
    clock: Clock,
    ids: Ids,
    store: MemoryStore,
}

impl Memory {
    fn empty() -> Self {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        let ids = Ids::seeded(clock.clone(), 1);
        let store = MemoryStore::new(clock.clone(), ids.uuid());
        Self { clock, ids, store }
    }

    fn handle(&self, node: &str) -> Arc<MemoryHandle> {
        Arc::new(self.store.handle(owner(&self.ids, node)))
    }
}

fn handles(engine: Arc<MemoryHandle>) -> Handles {
    Handles {
        owner: engine.owner().clone(),
        log: engine.clone(),
        directory: engine.clone(),
        registry: engine.clone(),
        bus: engine,
    }
}

#[async_trait]
impl Fixture for Memory {
    async fn new() -> Self {
        Self::empty()
    }
    async fn incarnation(&self, node: &str) -> Handles {
        handles(self.handle(node))
    }
    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

struct Chaotic(Memory);

#[async_trait]
impl Fixture for Chaotic {
    async fn new() -> Self {
        Self(Memory::empty())
    }
    async fn incarnation(&self, node: &str) -> Handles {
        let inner = self.0.handle(node);
        let engine = Arc::new(Chaos::new(inner.clone(), ChaosControl::seeded(1)));
        Handles {
            owner: inner.owner().clone(),
            log: engine.clone(),
            directory: engine.clone(),
            registry: engine.clone(),
            bus: engine,
        }
    }
    async fn advance(&self, by: Duration) {
        self.0.advance(by).await;
    }
}

/// Each incarnation has a memory of its own, and a lease that lasts.
struct InTiers(Memory);

#[async_trait]
impl Fixture for InTiers {
    async fn new() -> Self {
        Self(Memory::empty())
    }
    async fn incarnation(&self, node: &str) -> Handles {
        let plain = handles(self.0.handle(node));
        let lease = Arc::new(Lease::new(self.0.clock.clone()));
        lease.renewed(self.0.clock.now(), Duration::from_secs(86_400));
        let (log, directory) = (plain.log.clone(), plain.directory.clone());
        let clock = self.0.clock.clone();
        let tiered = Tiered::new(log, directory, plain.owner.clone(), lease, clock);
        Handles { log: tiered, ..plain }
    }
    async fn advance(&self, by: Duration) {
        self.0.advance(by).await;
    }
}

crate::conformance_suite!(memory, Memory, (start_paused = true));
crate::conformance_suite!(chaos, Chaotic, (start_paused = true));
crate::conformance_suite!(tiered, InTiers, (start_paused = true));
