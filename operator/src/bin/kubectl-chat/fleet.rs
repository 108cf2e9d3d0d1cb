//! What is there, as the operator reads it, with what pods tell through the API server's proxy; and the few
//! changes that a person may ask for.

use anyhow::{Context as _, Result, bail};
use crds::{ChatCluster, names};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use operator::observe::{Failed, Observed, reader};
use protocol::{DrainPhase, DrainReport};
use serde_json::json;
use std::time::Duration;

/// Pods that are asked at once.
const CONCURRENCY: usize = 16;
/// A pod that says nothing for so long counts as full.
const PATIENCE: Duration = Duration::from_secs(3);
/// As whom it writes.
const MANAGER: &str = "kubectl-chat";

/// A cluster and all that follows from it.
pub(super) struct Fleet {
    pub(super) name: String,
    pub(super) cluster: ChatCluster,
    pub(super) observed: Observed,
}

impl Fleet {
    /// The cluster as it would be with the spec of a manifest.
    pub(super) fn replace_spec(&mut self, manifest: &str) -> Result<()> {
        let other: ChatCluster = serde_saphyr::from_str(manifest).context("no ChatCluster")?;
        self.cluster.spec = other.spec;
        let generation = &mut self.cluster.metadata.generation;
        *generation = generation.map(|generation| generation + 1);
        Ok(())
    }
}

/// Reads all of it.
pub(super) async fn read(client: &Client, namespace: &str, name: String) -> Result<Fleet> {
    let clusters = Api::<ChatCluster>::namespaced(client.clone(), namespace);
    let Some(cluster) = clusters.get_opt(&name).await? else {
        bail!("there is no ChatCluster {name} in namespace {namespace}: kubectl get chat -A");
    };
    let mut observed = reader::read(client, &cluster).await?;
    let pods = observed.pods.iter().enumerate().filter(|(_, pod)| pod.component == "gateway");
    let asked: Vec<_> = pods.map(|(at, pod)| (at, pod.name.clone())).collect();
    let reports =
        stream::iter(asked).map(async |(at, pod)| (at, report(client, namespace, &pod).await));
    let reports: Vec<_> = reports.buffer_unordered(CONCURRENCY).collect().await;
    for (at, report) in reports {
        observed.pods[at].report = report;
    }
    Ok(Fleet { name, cluster, observed })
}

/// What a pod's metrics say; nothing where the proxy may not be used or the pod does not answer.
async fn report(client: &Client, namespace: &str, pod: &str) -> Option<DrainReport> {
    let port = names::ADMIN_PORT;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics");
    let request = http::Request::get(path).body(Vec::new()).ok()?;
    let text = tokio::time::timeout(PATIENCE, client.request_text(request)).await.ok()?.ok()?;
    of_metrics(pod, &text)
}

/// A report of the few metrics that a plan is made of.
fn of_metrics(pod: &str, text: &str) -> Option<DrainReport> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.trim().parse::<f64>().ok().map(|value| value as u64)
    };
    let phases = [
        DrainPhase::Serving,
        DrainPhase::Refusing,
        DrainPhase::HandingOver,
        DrainPhase::Flushing,
        DrainPhase::Done,
    ];
    let phase = phases.into_iter().find(|phase| {
        value(&format!("chatcluster_drain_phase{{phase=\"{}\"}}", phase.as_str())) == Some(1)
    })?;
    serde_json::from_value(json!({
        "node": pod, "incarnation": "00000000-0000-4000-8000-000000000000", "phase": phase, "epoch": 0,
        "sessions": value("chatcluster_sessions")?, "streams": value("chatcluster_streams")?,
        "accepting": phase == DrainPhase::Serving,
    }))
    .ok()
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// By its label: the operator does the rest.
pub(super) async fn drain(client: &Client, namespace: &str, pod: &str) -> Result<()> {
    let patch = json!({"metadata": {"labels": {names::POOL: "draining"}}});
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    pods.patch(pod, &parameters(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// `operation.paused`.
pub(super) async fn pause(
    client: &Client,
    namespace: &str,
    name: &str,
    paused: bool,
) -> Result<()> {
    let patch = json!({"spec": {"operation": {"paused": paused}}});
    let clusters = Api::<ChatCluster>::namespaced(client.clone(), namespace);
    clusters.patch(name, &parameters(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// `operation.rotateKeys`, named by the time.
pub(super) async fn rotate(client: &Client, namespace: &str, fleet: &Fleet) -> Result<()> {
    let status = fleet.cluster.status.as_ref();
    if let Some(running) = status.and_then(|status| status.key_rotation.as_ref()) {
        bail!("an exchange is under way ({:?}), it waits for {}", running.step, running.waits_for);
    }
    let asked = operator::clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = json!({"spec": {"operation": {"rotateKeys": asked}}});
    let clusters = Api::<ChatCluster>::namespaced(client.clone(), namespace);
    clusters.patch(&fleet.name, &parameters(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Notes the revision that comes as failed: the operator goes back to the one before.
pub(super) async fn abort(client: &Client, namespace: &str, fleet: &Fleet) -> Result<String> {
    let revision = fleet.cluster.status.as_ref().and_then(|status| status.revision.clone());
    let (Some(current), Some(target)) =
        revision.map_or((None, None), |one| (one.current, one.target))
    else {
        bail!("{} has no revision yet", fleet.name);
    };
    let others =
        fleet.observed.sets().into_iter().any(|set| set.revision != target && set.has_pods());
    if !others {
        bail!("no rollout is under way: all pods have revision {target}");
    }
    let failed = Failed {
        message: "it was called off by kubectl chat rollout abort".to_owned(),
        generation: fleet.cluster.metadata.generation.unwrap_or_default(),
        retry: fleet.cluster.spec.operation.retry.clone(),
    };
    let text = serde_json::to_string(&failed)?;
    let patch = json!({"metadata": {"annotations": {names::FAILED: text}}});
    let sets = Api::<ReplicaSet>::namespaced(client.clone(), namespace);
    let set = names::replica_set(&fleet.name, &target);
    sets.patch(&set, &parameters(), &Patch::Merge(patch)).await?;
    let back = if current == target { "the one before".to_owned() } else { current };
    Ok(format!(
        "revision {target} is called off, {back} serves; set operation.retry to another text to try it again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_made_of_metrics() {
        let text = "# TYPE chatcluster_sessions gauge\nchatcluster_sessions 12\nchatcluster_streams 3\n\
            chatcluster_drain_phase{phase=\"serving\"} 0\nchatcluster_drain_phase{phase=\"refusing\"} 1\n";
        let report = of_metrics("p", text).unwrap();
        assert_eq!((report.sessions, report.streams, report.phase), (12, 3, DrainPhase::Refusing));
        assert!(!report.accepting && of_metrics("p", "").is_none());
    }
}
