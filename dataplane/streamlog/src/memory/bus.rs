//! [`Bus`] over a broadcast channel.

use super::MemoryHandle;
use crate::bus::{Bus, BusEvent, Hint, Target};
use crate::error::LogError;
use async_trait::async_trait;
use tokio::sync::broadcast;

#[async_trait]
impl Bus for MemoryHandle {
    async fn publish(&self, to: Target, event: BusEvent) -> Result<(), LogError> {
        let hint = Hint { from: self.owner.node.clone(), to, event };
        // Nobody listening is no failure: hints may be lost.
        self.with(|_, _| drop(self.shared.hints.send(hint))).await;
        Ok(())
    }

    fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.shared.hints.subscribe()
    }
}
