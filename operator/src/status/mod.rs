//! What the operator says of a cluster. Pure: the time comes from the caller, and nothing changes without a
//! reason. The third edge is [`crate::controller`], which writes it if it changed.

mod conditions;

use crate::finding::Finding;
use crate::observe::{Observed, PodFacts, Set};
use crate::validate::{GRACE_SECONDS, Validated};
use conditions::Conditions;
use crds::names;
use crds::status::{
    Change, ChatClusterStatus, Effective, GatewayStatus, KeyRotation, Phase, RolloutStatus,
    Sessions,
};
use crds::{ChatCluster, ConditionType, Reason};
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
    /// Pods that there should be; `None`: the spec cannot be carried out.
    pub wanted: Option<i64>,
    /// While pods are exchanged, come or go.
    pub rollout: Option<&'a RolloutStatus>,
    /// While keys are exchanged.
    pub key_rotation: Option<&'a KeyRotation>,
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
                ("gateway", "active") if !pod.terminating() => pods.active.push(pod),
                ("gateway", _) => pods.draining += 1,
                _ => {}
            }
        }
        pods
    }

    fn ready(&self) -> usize {
        self.active.iter().filter(|pod| pod.ready()).count()
    }

    fn accepting(&self) -> usize {
        self.active.iter().filter(|pod| pod.accepts()).count()
    }
}

/// The status after a pass.
pub fn status(pass: &Pass<'_>, now: Time) -> ChatClusterStatus {
    let fleet = current(pass);
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
        sessions: sessions(pass),
        rollout: pass.rollout.cloned(),
        key_rotation: pass.key_rotation.cloned(),
        effective: pass
            .validated
            .map(|validated| effective(validated, fleet.as_ref(), desired(pass, fleet.as_ref()))),
        conditions,
    }
}

/// The revision that most of the serving pods have; without pods, the one that would have them.
fn current(pass: &Pass<'_>) -> Option<Set> {
    let serving = |set: &Set| {
        let pods = pass.observed.pods.iter().filter(|pod| pod.is_active() && pod.ready());
        pods.filter(|pod| pod.revision == set.revision).count()
    };
    // The last of several equal ones wins, and the newest comes first.
    let most = pass.observed.sets().into_iter().rev().max_by_key(serving);
    most.filter(|set| serving(set) > 0).or_else(|| pass.observed.carrier())
}

fn change(current: Option<String>, target: Option<String>) -> Option<Change> {
    let shown = match (&current, &target) {
        (Some(current), Some(target)) if current != target => format!("{current}->{target}"),
        (Some(one), _) | (None, Some(one)) => one.clone(),
        (None, None) => return None,
    };
    Some(Change { current, target, shown: Some(shown) })
}

/// To two digits: a status that told each session would never rest.
pub fn rounded(number: u64) -> i32 {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    i32::try_from((number + unit / 2) / unit * unit).unwrap_or(i32::MAX)
}

/// What the pods say together; nothing where none is there.
fn sessions(pass: &Pass<'_>) -> Option<Sessions> {
    let pods: Vec<_> = pass.observed.pods.iter().filter(|pod| pod.component == "gateway").collect();
    let reports: Vec<_> = pods.iter().filter_map(|pod| pod.report.as_ref()).collect();
    if reports.is_empty() {
        return None;
    }
    let capacity: usize = reports.iter().filter(|one| one.accepting).map(|one| one.capacity).sum();
    Some(Sessions {
        active: rounded(reports.iter().map(|one| one.sessions as u64).sum()),
        streams: rounded(reports.iter().map(|one| one.streams as u64).sum()),
        capacity: i32::try_from(capacity).unwrap_or(i32::MAX),
        unknown: count(pods.len() - reports.len()),
        resets: total(reports.iter().map(|one| one.harm.resets)),
        interruptions: total(reports.iter().map(|one| one.harm.interruptions)),
        index_conflicts: total(reports.iter().map(|one| one.harm.index_conflicts)),
    })
}

fn total(counts: impl Iterator<Item = u64>) -> i32 {
    i32::try_from(counts.sum::<u64>()).unwrap_or(i32::MAX)
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
fn desired(pass: &Pass<'_>, fleet: Option<&Set>) -> i32 {
    let wanted = pass.wanted.or_else(|| fleet.map(|fleet| fleet.replicas)).unwrap_or(0);
    i32::try_from(wanted).unwrap_or(i32::MAX)
}

fn gateway(pass: &Pass<'_>, pods: &Pods<'_>, fleet: Option<&Set>) -> GatewayStatus {
    let (ready, replicas) = (count(pods.ready()), count(pods.active.len()));
    let name = pass.cluster.name_any();
    GatewayStatus {
        desired: desired(pass, fleet),
        replicas,
        ready,
        accepting: count(pods.accepting()),
        draining: count(pods.draining),
        selector: format!(
            "{}={name},{}=gateway,{}=active",
            names::CLUSTER,
            names::COMPONENT,
            names::POOL
        ),
    }
}

fn effective(validated: &Validated, fleet: Option<&Set>, wanted: i32) -> Effective {
    let cluster = &validated.cluster;
    let image = fleet.map_or(cluster.image.clone(), |fleet| fleet.image.clone());
    Effective {
        replicas: wanted,
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
    } else if is(ConditionType::Degraded) || is_rolled_back(conditions) {
        Phase::Degraded
    } else if rolls_out(conditions) {
        Phase::RollingOut
    } else {
        Phase::Progressing
    }
}

fn is_rolled_back(
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
) -> bool {
    conditions.iter().any(|one| one.reason == Reason::RolledBack.as_str())
}

fn rolls_out(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> bool {
    let reasons = [Reason::RollingOut, Reason::CapacityHeld].map(Reason::as_str);
    conditions.iter().any(|one| {
        one.type_ == ConditionType::Progressing.as_str() && reasons.contains(&one.reason.as_str())
    })
}

#[cfg(test)]
mod tests;
