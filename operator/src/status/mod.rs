//! What the operator says of a cluster. Pure: the time comes from the caller, and nothing changes without a
//! reason. The third edge is [`crate::controller`], which writes it if it changed.

mod conditions;

use crate::finding::Finding;
use crate::observe::{Fleet, Observed, PodFacts};
use crate::validate::{GRACE_SECONDS, Validated};
use conditions::Conditions;
use crds::names;
use crds::status::{Change, ChatClusterStatus, Effective, GatewayStatus, Phase};
use crds::{ChatCluster, ConditionType};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

/// What one pass came to.
pub struct Pass<'a> {
    /// The resource, with the status that it has now.
    pub cluster: &'a ChatCluster,
    /// What was there when the pass began.
    pub observed: &'a Observed,
    /// Absent: the spec cannot be carried out.
    pub validated: Option<&'a Validated>,
    /// The revision that the spec asks for.
    pub revision: Option<&'a str>,
    /// All that the steps had to say.
    pub findings: &'a [Finding],
}

/// The pods that serve, as a status counts them.
struct Pods<'a> {
    active: Vec<&'a PodFacts>,
    draining: usize,
    redis: Vec<&'a PodFacts>,
}

impl<'a> Pods<'a> {
    fn of(observed: &'a Observed) -> Self {
        let mut pods = Self { active: Vec::new(), draining: 0, redis: Vec::new() };
        for pod in &observed.pods {
            match (pod.component.as_str(), pod.pool.as_str()) {
                ("redis", _) => pods.redis.push(pod),
                ("gateway", "active") if !pod.terminating => pods.active.push(pod),
                ("gateway", _) => pods.draining += 1,
                _ => {}
            }
        }
        pods
    }

    fn ready(&self) -> usize {
        self.active.iter().filter(|pod| pod.ready).count()
    }
}

/// The status after a pass.
pub fn status(pass: &Pass<'_>, now: Time) -> ChatClusterStatus {
    let fleet = pass.observed.fleet();
    let pods = Pods::of(pass.observed);
    let conditions = Conditions { pass, pods: &pods, fleet: fleet.as_ref() }.all(now);
    let phase = phase(pass, &conditions);
    let target = pass.validated.map(|validated| validated.cluster.image.as_str());
    let current = fleet.as_ref().map(|fleet| fleet.image.as_str());
    ChatClusterStatus {
        observed_generation: pass.cluster.metadata.generation,
        phase: Some(phase),
        version: change(current.map(version), target.map(version)),
        revision: change(
            fleet.as_ref().map(|fleet| fleet.revision.clone()),
            pass.revision.map(str::to_owned),
        ),
        gateway: Some(gateway(pass, &pods, fleet.as_ref())),
        effective: pass.validated.map(|validated| effective(validated, fleet.as_ref())),
        conditions,
    }
}

fn change(current: Option<String>, target: Option<String>) -> Option<Change> {
    (current.is_some() || target.is_some()).then_some(Change { current, target })
}

/// Tag, or the beginning of a digest.
fn version(image: &str) -> String {
    match image.split_once('@') {
        Some((_, digest)) => digest.chars().take("sha256:".len() + 12).collect(),
        None => image
            .rsplit('/')
            .next()
            .and_then(|name| name.split_once(':'))
            .map_or("latest", |(_, tag)| tag)
            .to_owned(),
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// How many pods there should be.
fn desired(pass: &Pass<'_>, fleet: Option<&Fleet>) -> i32 {
    use crate::validate::Scale::{Elsewhere, Fixed};
    match pass.validated.map(|validated| validated.cluster.scale) {
        Some(Fixed(replicas)) => replicas,
        Some(Elsewhere { first }) => {
            fleet.map_or(first, |fleet| count(usize::try_from(fleet.replicas).unwrap_or(0)))
        }
        None => fleet.map_or(0, |fleet| count(usize::try_from(fleet.replicas).unwrap_or(0))),
    }
}

fn gateway(pass: &Pass<'_>, pods: &Pods<'_>, fleet: Option<&Fleet>) -> GatewayStatus {
    let (ready, replicas) = (count(pods.ready()), count(pods.active.len()));
    let name = pass.cluster.name_any();
    GatewayStatus {
        desired: desired(pass, fleet),
        replicas,
        ready,
        accepting: ready,
        draining: count(pods.draining),
        selector: format!(
            "{}={name},{}=gateway,{}=active",
            names::CLUSTER,
            names::COMPONENT,
            names::POOL
        ),
    }
}

fn effective(validated: &Validated, fleet: Option<&Fleet>) -> Effective {
    let cluster = &validated.cluster;
    let image = fleet.map_or(cluster.image.clone(), |fleet| fleet.image.clone());
    Effective {
        replicas: cluster.scale.first(),
        image,
        termination_grace_period_seconds: GRACE_SECONDS,
        pdb_max_unavailable: (cluster.scale.first() >= 2).then_some(1),
    }
}

fn phase(
    pass: &Pass<'_>,
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
) -> Phase {
    let is = |condition: ConditionType| {
        conditions.iter().any(|one| one.type_ == condition.as_str() && one.status == "True")
    };
    let operation = &pass.cluster.spec.operation;
    if pass.cluster.metadata.deletion_timestamp.is_some() {
        Phase::Deleting
    } else if pass.validated.is_none() {
        Phase::Invalid
    } else if operation.paused {
        Phase::Paused
    } else if operation.hibernated {
        Phase::Hibernated
    } else if is(ConditionType::Ready) {
        Phase::Running
    } else if is(ConditionType::Degraded) {
        Phase::Degraded
    } else {
        Phase::Progressing
    }
}

#[cfg(test)]
mod tests;
