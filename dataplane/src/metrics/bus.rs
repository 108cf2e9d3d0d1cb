//! A bus that counts what is published on it.

use super::labels::{Bus as Outcome, ByBus, Hinted};
use async_trait::async_trait;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::sync::Arc;
use streamlog::bus::Hint;
use streamlog::{Bus, BusEvent, LogError, Target};
use tokio::sync::broadcast;

pub(super) struct CountedBus {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) events: Family<ByBus, Counter>,
}

#[async_trait]
impl Bus for CountedBus {
    async fn publish(&self, to: Target, event: BusEvent) -> Result<(), LogError> {
        let kind = Hinted::from(&event);
        let published = self.bus.publish(to, event).await;
        let outcome = if published.is_ok() { Outcome::Published } else { Outcome::Failed };
        self.events.get_or_create(&ByBus::of(kind, outcome)).inc();
        published
    }

    fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.bus.subscribe()
    }
}
