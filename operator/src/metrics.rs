//! What the operator counts, in base units and without ids of objects that come and go by the thousand.

use crds::{ChatCluster, ChatClusterStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

type Labels = Vec<(&'static str, String)>;
/// Namespace and name.
type Id = (String, String);

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
    accepting: Family<Labels, Gauge>,
    resets: Family<Labels, Gauge>,
    interruptions: Family<Labels, Gauge>,
    conflicts: Family<Labels, Gauge>,
    /// Labels of what each cluster's conditions say.
    said: Mutex<BTreeMap<Id, Vec<Labels>>>,
    conditions: Family<Labels, Gauge>,
    missing: Gauge,
    phases: Mutex<BTreeMap<Id, String>>,
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
            accepting: Family::default(),
            resets: Family::default(),
            interruptions: Family::default(),
            conflicts: Family::default(),
            said: Mutex::default(),
            conditions: Family::default(),
            missing: Gauge::default(),
            phases: Mutex::default(),
            clusters: Family::default(),
            registry: Registry::default(),
        };
        metrics.register_work(&mut registry);
        metrics.register_clusters(&mut registry);
        Self { registry, ..metrics }
    }
}

impl Metrics {
    fn register_work(&self, registry: &mut Registry) {
        registry.register(
            "reconciles",
            "Passes over one cluster, by result",
            self.reconciles.clone(),
        );
        registry.register("reconcile_seconds", "How long a pass takes", self.seconds.clone());
        registry.register(
            "writes",
            "Writes to the API server, by kind and verb",
            self.writes.clone(),
        );
        registry.register("leader", "1 on the replica that writes", self.leader.clone());
        registry.register(
            "crd_missing_fields",
            "Fields that the installed definition drops; apply the chart chatcluster-crds",
            self.missing.clone(),
        );
    }

    fn register_clusters(&self, registry: &mut Registry) {
        registry.register(
            "cluster_ready",
            "1 where the condition Ready is True",
            self.ready.clone(),
        );
        registry.register(
            "cluster_sessions",
            "Open sessions of a cluster's pods that say it, to two digits",
            self.sessions.clone(),
        );
        registry.register(
            "cluster_streams",
            "Live answers of a cluster's pods that say it, to two digits",
            self.streams.clone(),
        );
        registry.register(
            "cluster_draining_pods",
            "Pods of a cluster that are on their way out",
            self.draining.clone(),
        );
        registry.register("clusters", "ChatClusters, by phase", self.clusters.clone());
        registry.register(
            "cluster_accepting_pods",
            "Pods of a cluster that take new sessions",
            self.accepting.clone(),
        );
        registry.register(
            "cluster_resets",
            "RESETs that clients were told since the boots of a cluster's pods",
            self.resets.clone(),
        );
        registry.register(
            "cluster_interruptions",
            "Answers that ended INTERRUPTED since the boots of a cluster's pods",
            self.interruptions.clone(),
        );
        registry.register(
            "cluster_index_conflicts",
            "Appends that the log refused since the boots of a cluster's pods; 0, or something is wrong",
            self.conflicts.clone(),
        );
        registry.register(
            "cluster_condition",
            "1 for what a condition of a cluster says now",
            self.conditions.clone(),
        );
    }

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
        let gateway = status.gateway.clone().unwrap_or_default();
        self.accepting.get_or_create(&labels).set(i64::from(gateway.accepting));
        self.resets.get_or_create(&labels).set(i64::from(sessions.resets));
        self.interruptions.get_or_create(&labels).set(i64::from(sessions.interruptions));
        self.conflicts.get_or_create(&labels).set(i64::from(sessions.index_conflicts));
        self.say(&id, &labels, &status.conditions);
        self.phase(id, status.phase.map(|phase| format!("{phase:?}")));
    }

    /// A cluster is gone.
    pub fn gone(&self, namespace: &str, name: &str) {
        let labels = vec![("namespace", namespace.to_owned()), ("name", name.to_owned())];
        for family in [
            &self.ready,
            &self.sessions,
            &self.streams,
            &self.draining,
            &self.accepting,
            &self.resets,
            &self.interruptions,
            &self.conflicts,
        ] {
            family.remove(&labels);
        }
        self.say(&(namespace.to_owned(), name.to_owned()), &labels, &[]);
        self.phase((namespace.to_owned(), name.to_owned()), None);
    }

    /// One series for each condition: what it says now, and nothing of before.
    fn say(&self, id: &Id, labels: &Labels, conditions: &[Condition]) {
        let of = |one: &Condition| {
            let said = [("type", &one.type_), ("status", &one.status), ("reason", &one.reason)];
            let said = said.map(|(label, value)| (label, value.clone()));
            labels.iter().cloned().chain(said).collect::<Labels>()
        };
        let now: Vec<_> = conditions.iter().map(of).collect();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for old in said.remove(id).unwrap_or_default() {
            if !now.contains(&old) {
                self.conditions.remove(&old);
            }
        }
        for one in &now {
            self.conditions.get_or_create(one).set(1);
        }
        if !now.is_empty() {
            said.insert(id.clone(), now);
        }
    }

    fn phase(&self, id: Id, phase: Option<String>) {
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

    #[test]
    fn a_condition_has_one_series_which_says_what_it_says_now() {
        let metrics = Metrics::default();
        let cluster = ChatCluster::new("a", crds::ChatClusterSpec::default());
        let says = |reason: &str| {
            let condition = serde_json::from_value(serde_json::json!({
                "type": "Ready", "status": "False", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }));
            ChatClusterStatus { conditions: vec![condition.unwrap()], ..Default::default() }
        };
        metrics.stands(&cluster, &says("RolledBack"), false);
        metrics.stands(&cluster, &says("NoPodReady"), false);
        let text = metrics.text();
        let lines: Vec<_> = text.lines().filter(|one| one.contains("condition{")).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(lines[0].contains("reason=\"NoPodReady\"") && lines[0].ends_with("} 1"), "{text}");
        metrics.gone("", "a");
        assert!(!metrics.text().contains("condition{"));
    }
}
