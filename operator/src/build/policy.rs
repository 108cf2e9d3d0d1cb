//! How the fleet may move: what the spec says about rollouts and drains, in numbers.

use crate::validate::{Scale, ValidatedCluster};
use crds::operations::Rollback;
use crds::quantity::Span;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;

/// How the fleet may move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who says how many pods there are.
    pub scale: Scale,
    /// Pods above the wanted number while pods are exchanged.
    pub max_surge: IntOrString,
    /// Pods that drain at once.
    pub max_draining: i64,
    /// Without progress for so long, with pods that are not ready, a revision has failed.
    pub progress_deadline: Duration,
    /// Back to the revision before, then.
    pub rolls_back: bool,
    /// ReplicaSets without pods that are kept.
    pub history: usize,
    /// The longest a drain may take.
    pub drain_deadline: Duration,
    /// Sessions that a pod takes; what nobody knows counts as so many.
    pub sessions_per_pod: u64,
    /// Of the spec.
    pub generation: i64,
    /// `operation.retry`.
    pub retry: Option<String>,
}

impl Policy {
    /// Pods above `wanted` while pods are exchanged. A single pod never goes before another one serves.
    pub fn surge(&self, wanted: i64) -> i64 {
        let surge = match &self.max_surge {
            IntOrString::Int(count) => i64::from(*count),
            IntOrString::String(share) => {
                let percent = share.trim_end_matches('%').parse::<i64>().unwrap_or(0);
                (wanted * percent + 99) / 100
            }
        };
        if wanted == 1 { surge.max(1) } else { surge }
    }
}

/// What the spec says.
pub(super) fn of(cluster: &ValidatedCluster) -> Policy {
    let spec = &cluster.spec;
    Policy {
        scale: cluster.scale,
        max_surge: spec.rollout.max_surge.clone(),
        max_draining: i64::from(spec.rollout.max_draining),
        progress_deadline: span(&spec.rollout.progress_deadline),
        rolls_back: spec.rollout.rollback == Rollback::Auto,
        history: usize::try_from(spec.rollout.revision_history_limit).unwrap_or_default(),
        drain_deadline: span(&spec.drain.deadline),
        sessions_per_pod: u64::try_from(spec.gateway.limits.sessions_per_pod).unwrap_or_default(),
        generation: cluster.generation,
        retry: spec.operation.retry.clone(),
    }
}

/// Validated to be a span.
fn span(span: &Span) -> Duration {
    span.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::tests::{cluster, defaults, observed};
    use crate::validate::validate;

    #[test]
    fn a_surge_is_rounded_up_and_a_single_pod_always_has_one() {
        let surge = |spec: &str, wanted: i64| {
            let spec = format!("redis: {{embedded: {{}}}}\nrollout: {{maxSurge: {spec}}}");
            let validated = validate(&cluster(&spec), &observed(), &defaults()).unwrap();
            of(&validated.cluster).surge(wanted)
        };
        assert_eq!([1, 3, 4, 5, 9].map(|wanted| surge("25%", wanted)), [1, 1, 1, 2, 3]);
        assert_eq!((surge("2", 5), surge("'0%'", 5), surge("'0%'", 1)), (2, 0, 1));
    }
}
