//! What the operator counts, in base units and without ids of objects that come and go by the thousand.

use crds::{ChatCluster, ChatClusterStatus};
use kube::ResourceExt as _;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

type Labels = Vec<(&'static str, String)>;

/// All of them.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Labels, Counter>,
    seconds: Histogram,
    writes: Family<Labels, Counter>,
    leader: Gauge,
    ready: Family<Labels, Gauge>,
    sessions: Family<Labels, Gauge>,
    streams: Family<Labels, Gauge>,
    draining: Family<Labels, Gauge>,
    missing: Gauge,
    phases: Mutex<std::collections::BTreeMap<(String, String), String>>,
    clusters: Family<Labels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("chatcluster_operator");
        let buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let metrics = Self {
            reconciles: Family::default(),
            seconds: Histogram::new(buckets),
            writes: Family::default(),
            leader: Gauge::default(),
            ready: Family::default(),
            sessions: Family::default(),
            streams: Family::default(),
            draining: Family::default(),
            missing: Gauge::default(),
            phases: Mutex::default(),
            clusters: Family::default(),
            registry: Registry::default(),
        };
        registry.register(
            "reconciles",
            "Passes over one cluster, by result",
            metrics.reconciles.clone(),
        );
        registry.register("reconcile_seconds", "How long a pass takes", metrics.seconds.clone());
        registry.register(
            "writes",
            "Writes to the API server, by kind and verb",
            metrics.writes.clone(),
        );
        registry.register("leader", "1 on the replica that writes", metrics.leader.clone());
        registry.register(
            "cluster_ready",
            "1 where the condition Ready is True",
            metrics.ready.clone(),
        );
        registry.register(
            "cluster_sessions",
            "Open sessions of a cluster's pods that say it, to two digits",
            metrics.sessions.clone(),
        );
        registry.register(
            "cluster_streams",
            "Live answers of a cluster's pods that say it, to two digits",
            metrics.streams.clone(),
        );
        registry.register(
            "cluster_draining_pods",
            "Pods of a cluster that are on their way out",
            metrics.draining.clone(),
        );
        registry.register("clusters", "ChatClusters, by phase", metrics.clusters.clone());
        registry.register(
            "crd_missing_fields",
            "Fields that the installed definition drops; apply the chart chatcluster-crds",
            metrics.missing.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The text format of Prometheus (OpenMetrics 1.0).
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// One pass is over.
    pub fn reconciled(&self, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&vec![("result", result.to_owned())]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// One write was made.
    pub fn wrote(&self, verb: &'static str, kind: &'static str) {
        let labels = vec![("kind", kind.to_owned()), ("verb", verb.to_owned())];
        self.writes.get_or_create(&labels).inc();
    }

    /// Whether this replica writes.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Fields that the installed definition lacks.
    pub fn missing(&self, fields: usize) {
        self.missing.set(i64::try_from(fields).unwrap_or(i64::MAX));
    }

    /// Where a cluster stands.
    pub fn stands(&self, cluster: &ChatCluster, status: &ChatClusterStatus, ready: bool) {
        let id = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        let labels = vec![("namespace", id.0.clone()), ("name", id.1.clone())];
        self.ready.get_or_create(&labels).set(i64::from(ready));
        let sessions = status.sessions.clone().unwrap_or_default();
        let draining = status.gateway.as_ref().map_or(0, |gateway| gateway.draining);
        self.sessions.get_or_create(&labels).set(i64::from(sessions.active));
        self.streams.get_or_create(&labels).set(i64::from(sessions.streams));
        self.draining.get_or_create(&labels).set(i64::from(draining));
        self.phase(id, status.phase.map(|phase| format!("{phase:?}")));
    }

    /// A cluster is gone.
    pub fn gone(&self, namespace: &str, name: &str) {
        let labels = vec![("namespace", namespace.to_owned()), ("name", name.to_owned())];
        for family in [&self.ready, &self.sessions, &self.streams, &self.draining] {
            family.remove(&labels);
        }
        self.phase((namespace.to_owned(), name.to_owned()), None);
    }

    fn phase(&self, id: (String, String), phase: Option<String>) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &phase {
            Some(phase) => phases.insert(id, phase.clone()),
            None => phases.remove(&id),
        };
        if before == phase {
            return;
        }
        if let Some(before) = before {
            self.clusters.get_or_create(&vec![("phase", before)]).dec();
        }
        if let Some(phase) = phase {
            self.clusters.get_or_create(&vec![("phase", phase)]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::status::Phase;

    #[test]
    fn a_cluster_is_counted_in_one_phase_and_leaves_when_it_is_gone() {
        let metrics = Metrics::default();
        let cluster = ChatCluster::new("a", crds::ChatClusterSpec::default());
        let stands = |phase| ChatClusterStatus { phase: Some(phase), ..Default::default() };
        metrics.stands(&cluster, &stands(Phase::Progressing), false);
        metrics.stands(&cluster, &stands(Phase::Running), true);
        let text = metrics.text();
        assert!(text.contains("chatcluster_operator_clusters{phase=\"Progressing\"} 0"), "{text}");
        assert!(text.contains("chatcluster_operator_clusters{phase=\"Running\"} 1"), "{text}");
        metrics.gone("", "a");
        let text = metrics.text();
        assert!(text.contains("chatcluster_operator_clusters{phase=\"Running\"} 0"), "{text}");
        assert!(!text.contains("cluster_ready{"), "{text}");
    }
}
