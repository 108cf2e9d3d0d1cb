//! Every metric, in one place: names, units, labels.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of one node. No label carries an id.
#[derive(Default)]
pub struct Metrics {
    /// Open sockets.
    pub sockets: Gauge,
    /// Streams accepted.
    pub streams_started: Counter,
}

impl Metrics {
    /// Registers every metric.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("chatcluster_sockets", "Open sockets", self.sockets.clone());
        registry.register(
            "chatcluster_streams_started",
            "Streams accepted",
            self.streams_started.clone(),
        );
    }

    /// A stream got its terminal record here.
    pub fn stream_sealed(&self, seal: &protocol::Seal) {
        let _ = seal;
    }
}
