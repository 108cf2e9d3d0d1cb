//! [`Bus`] over Redis: one channel for all, one for each incarnation; hints in JSON.

use super::RedisEngine;
use super::link::AWAY;
use crate::bus::{Bus, BusEvent, Hint, Target};
use crate::error::LogError;
use async_trait::async_trait;
use tokio::sync::broadcast;

#[async_trait]
impl Bus for RedisEngine {
    async fn publish(&self, to: Target, event: BusEvent) -> Result<(), LogError> {
        let hint = Hint { from: self.inner.owner.node.clone(), to, event };
        let channel = match to {
            Target::All => self.inner.keys.bus(None),
            Target::Node(node) => self.inner.keys.bus(Some(node)),
        };
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(channel).arg(serde_json::to_vec(&hint).map_err(|_| AWAY)?);
        self.inner.writes.ask_once(cmd).await.map(drop)
    }

    fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.inner.hints.subscribe()
    }
}
