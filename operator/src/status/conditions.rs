//! One function a condition: what it is, why, and what to do.

use super::{Pass, Pods, desired};
use crate::finding::Finding;
use crate::observe::{Kind, ObjectKey, PodFacts, Set};
use crds::gateway::ExposureType;
use crds::{ConditionType, Reason, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;
use serde_json::Value;

pub(super) struct Conditions<'a> {
    pub(super) pass: &'a Pass<'a>,
    pub(super) pods: &'a Pods<'a>,
    pub(super) fleet: Option<&'a Set>,
}

/// True or false, why, and in words.
struct Said {
    is: bool,
    reason: Reason,
    message: String,
}

fn said(is: bool, reason: Reason, message: impl Into<String>) -> Said {
    Said { is, reason, message: message.into() }
}

impl Conditions<'_> {
    /// All of them, in the order of [`ConditionType::ALL`]. A condition keeps its time while it stays what
    /// it is.
    pub(super) fn all(&self, now: Time) -> Vec<Condition> {
        let all = ConditionType::ALL.iter().map(|condition| (*condition, self.of(*condition)));
        all.map(|(condition, said)| self.condition(condition, said, &now)).collect()
    }

    fn of(&self, condition: ConditionType) -> Said {
        match condition {
            ConditionType::Ready => self.ready(),
            ConditionType::Available => self.available(),
            ConditionType::Progressing => self.progressing(),
            ConditionType::Degraded => self.degraded(),
            ConditionType::RedisReady => self.redis(),
            ConditionType::SecretsReady => self.secrets(),
            ConditionType::ExposureReady => self.exposure(),
            ConditionType::DrainBlocked => self.drain_blocked(),
            ConditionType::ConfigurationWarning => self.warnings(),
            ConditionType::Paused => self.paused(),
        }
    }

    fn condition(&self, condition: ConditionType, said: Said, now: &Time) -> Condition {
        let status = if said.is { "True" } else { "False" };
        let before = self.pass.cluster.status.iter().flat_map(|status| &status.conditions);
        let same = before
            .filter(|old| old.type_ == condition.as_str() && old.status == status)
            .map(|old| old.last_transition_time.clone())
            .next();
        Condition {
            type_: condition.as_str().to_owned(),
            status: status.to_owned(),
            reason: said.reason.as_str().to_owned(),
            message: said.message,
            observed_generation: self.pass.cluster.metadata.generation,
            last_transition_time: same.unwrap_or_else(|| now.clone()),
        }
    }

    fn findings(&self, condition: ConditionType) -> Vec<&Finding> {
        self.pass.findings.iter().filter(|finding| finding.condition == condition).collect()
    }

    /// What the findings of a condition come to; their first one gives the reason.
    fn found(&self, condition: ConditionType, is: bool) -> Option<Said> {
        let findings = self.findings(condition);
        let first = findings.first()?;
        let messages: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
        Some(said(is, first.reason, messages.join("; ")))
    }

    /// Names the first thing that stands in the way.
    fn ready(&self) -> Said {
        let invalid = self.found(ConditionType::Ready, false);
        let blockers = [
            invalid,
            Some(self.secrets()),
            Some(self.degraded()).map(|said| Said { is: !said.is, ..said }),
            Some(self.redis()),
            self.hibernated(true),
            Some(self.available()),
            self.pods_missing(),
            self.found(ConditionType::Progressing, false),
            Some(self.exposure()),
        ];
        let hibernated = self.pass.cluster.spec.operation.hibernated;
        for blocker in blockers.into_iter().flatten() {
            if !blocker.is || (hibernated && blocker.reason == Reason::HibernatedBySpec) {
                return blocker;
            }
        }
        let ready = self.pods.ready();
        said(true, Reason::AsSpecified, format!("{ready} of {ready} pods are ready"))
    }

    fn hibernated(&self, is: bool) -> Option<Said> {
        let hibernated = self.pass.cluster.spec.operation.hibernated;
        hibernated
            .then(|| said(is, Reason::HibernatedBySpec, "operation.hibernated is set: no pods run"))
    }

    fn available(&self) -> Said {
        if let Some(said) = self.hibernated(false) {
            return said;
        }
        match self.pods.ready() {
            0 => {
                let (reason, why) = self.trouble(&self.pods.active, Reason::NoPodReady);
                said(false, reason, format!("no pod is ready{why}"))
            }
            ready => said(true, Reason::PodsReady, format!("{ready} pods are ready")),
        }
    }

    fn pods_missing(&self) -> Option<Said> {
        let (ready, wanted) = (self.pods.ready(), desired(self.pass, self.fleet));
        (i32::try_from(ready).unwrap_or(i32::MAX) < wanted).then(|| {
            let (reason, why) = self.trouble(&self.pods.active, Reason::PodsNotReady);
            said(false, reason, format!("{ready} of {wanted} pods are ready{why}"))
        })
    }

    /// Why a pod does not start, where one says so.
    fn trouble(&self, pods: &[&PodFacts], otherwise: Reason) -> (Reason, String) {
        let troubled = pods.iter().find_map(|pod| Some((&pod.name, pod.trouble.as_ref()?)));
        match troubled {
            Some((pod, why)) => (Reason::PodFailing, format!("; pod {pod}: {why}")),
            None => (otherwise, String::new()),
        }
    }

    fn progressing(&self) -> Said {
        if let Some(said) = self.found(ConditionType::Progressing, true) {
            let stays = said.reason == Reason::ProgressDeadlineExceeded;
            return Said { is: !stays, ..said };
        }
        let wanted = desired(self.pass, self.fleet);
        let (ready, there) = (self.pods.ready(), self.pods.active.len());
        let wanted_count = usize::try_from(wanted).unwrap_or(0);
        match () {
            () if self.fleet.is_none() && wanted > 0 && self.pass.validated.is_some() => {
                said(true, Reason::Creating, "the first pods are being made")
            }
            () if there != wanted_count => {
                said(true, Reason::Scaling, format!("from {there} to {wanted} pods"))
            }
            () if ready < wanted_count => {
                said(true, Reason::PodsNotReady, format!("{ready} of {wanted} pods are ready"))
            }
            () => said(false, Reason::AsSpecified, "nothing is under way"),
        }
    }

    fn degraded(&self) -> Said {
        let found = self.found(ConditionType::Degraded, true);
        found.unwrap_or_else(|| said(false, Reason::Fine, "nothing is wrong"))
    }

    fn drain_blocked(&self) -> Said {
        let found = self.found(ConditionType::DrainBlocked, true);
        found.unwrap_or_else(|| said(false, Reason::Fine, "every drain comes to its end"))
    }

    fn redis(&self) -> Said {
        if self.pass.cluster.spec.redis.embedded.is_none() {
            return said(
                true,
                Reason::Configured,
                "an external Redis is configured; nodes tell of it in their metrics",
            );
        }
        if let Some(said) = self.hibernated(true) {
            return said;
        }
        if self.pods.redis.iter().any(|pod| pod.ready()) {
            return said(true, Reason::EmbeddedReady, "the embedded Redis is ready");
        }
        let (reason, why) = self.trouble(&self.pods.redis, Reason::EmbeddedNotReady);
        said(false, reason, format!("the embedded Redis is not ready{why}"))
    }

    fn secrets(&self) -> Said {
        let missing = self.found(ConditionType::SecretsReady, false);
        missing.unwrap_or_else(|| {
            said(true, Reason::SecretsFound, "every Secret that is named is there")
        })
    }

    fn exposure(&self) -> Said {
        if let Some(said) = self.found(ConditionType::ExposureReady, false) {
            return said;
        }
        let name = self.pass.cluster.name_any();
        match self.pass.cluster.spec.exposure.kind {
            ExposureType::LoadBalancer if !self.has_address(&name) => said(
                false,
                Reason::AddressPending,
                format!(
                    "Service {name} has no address yet: the cluster's load balancer gives it one"
                ),
            ),
            ExposureType::HTTPRoute if !self.is_accepted(&name) => said(
                false,
                Reason::RouteNotAccepted,
                format!("no Gateway has accepted HTTPRoute {name} yet: look at its status"),
            ),
            _ => said(
                true,
                Reason::Exposed,
                format!("clients come in by Service {}", names::service(&name)),
            ),
        }
    }

    fn live(&self, kind: Kind, name: &str, path: &str) -> Option<&Value> {
        self.pass.observed.objects.get(&ObjectKey::new(kind, name))?.object.pointer(path)
    }

    fn has_address(&self, name: &str) -> bool {
        let addresses = self.live(Kind::Service, name, "/status/loadBalancer/ingress");
        addresses.and_then(Value::as_array).is_some_and(|all| !all.is_empty())
    }

    fn is_accepted(&self, name: &str) -> bool {
        let parents = self.live(Kind::HttpRoute, name, "/status/parents").and_then(Value::as_array);
        let conditions =
            parents.into_iter().flatten().filter_map(|parent| parent["conditions"].as_array());
        conditions.flatten().any(|one| one["type"] == "Accepted" && one["status"] == "True")
    }

    fn warnings(&self) -> Said {
        let warnings = self.findings(ConditionType::ConfigurationWarning);
        let mut found = self.found(ConditionType::ConfigurationWarning, true);
        if warnings.len() > 1
            && let Some(found) = &mut found
        {
            found.reason = Reason::SeveralWarnings;
        }
        found.unwrap_or_else(|| said(false, Reason::Fine, "nothing to warn of"))
    }

    fn paused(&self) -> Said {
        if self.pass.cluster.spec.operation.paused {
            said(true, Reason::PausedBySpec, "operation.paused is set: nothing is changed")
        } else {
            said(false, Reason::Fine, "not paused")
        }
    }
}
