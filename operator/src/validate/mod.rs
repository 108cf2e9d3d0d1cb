//! From what somebody wrote to what can be built: defaults are filled in, references are looked up, and
//! nothing after this step asks whether a value can be used. The schema and its rules were applied by the
//! API server; here is what they cannot see.

mod resources;
mod secrets;
mod validated;
mod warnings;

pub use secrets::{References, SecretUse, references};
pub use validated::{Autoscale, Defaults, Invalid, Scale, Validated, ValidatedCluster};

use crate::finding::Finding;
use crate::observe::Observed;
use crds::gateway::{ExposureType, Image};
use crds::{ChatCluster, ConditionType, Reason};
use kube::{Resource as _, ResourceExt as _};

/// Seconds between SIGTERM and the end of a pod: the data plane's own budget is 25 s.
pub const GRACE_SECONDS: i64 = 45;
/// Pods where neither a number nor autoscaling is set.
const REPLICAS: i32 = 2;

/// Everything that the spec alone, and the Secrets it names, let one say.
///
/// # Errors
/// [`Invalid`]: running pods are then left as they are.
pub fn validate(
    cluster: &ChatCluster,
    observed: &Observed,
    defaults: &Defaults,
) -> Result<Validated, Invalid> {
    let spec = &cluster.spec;
    let mut wrong = resources::check(spec);
    wrong.extend(spans(spec));
    wrong.extend(secrets::check(spec, observed));
    let owner = cluster.controller_owner_ref(&());
    let (Some(owner), Some(namespace), true) = (owner, cluster.namespace(), wrong.is_empty())
    else {
        return Err(Invalid(wrong));
    };
    let kept = observed.carrier().map(|set| set.image).filter(|image| !image.is_empty());
    let image = match &spec.image {
        // An operator with another default changes nothing by itself.
        None => kept.unwrap_or_else(|| defaults.image.clone()),
        Some(image) if is_open(image) => kept.unwrap_or_else(|| defaults.image.clone()),
        Some(image) => reference(image, &defaults.image),
    };
    let findings = warnings::of(spec, &image).into_iter().chain(route(cluster, observed)).collect();
    let cluster = ValidatedCluster {
        name: cluster.name_any(),
        namespace,
        owner,
        generation: cluster.metadata.generation.unwrap_or_default(),
        image,
        scale: scale(cluster),
        spec: spec.clone(),
        defaults: defaults.clone(),
    };
    Ok(Validated { cluster, findings })
}

/// Only credentials are named, no image.
fn is_open(image: &Image) -> bool {
    image.repository.is_none() && image.tag.is_none() && image.digest.is_none()
}

/// An image as pods name it; what is left out comes from `default`.
fn reference(image: &Image, default: &str) -> String {
    let (repository, version) = split(default);
    let repository = image.repository.as_deref().unwrap_or(repository);
    match (&image.digest, &image.tag) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, Some(tag)) => format!("{repository}:{tag}"),
        (None, None) => format!("{repository}{version}"),
    }
}

/// Repository, and what follows it with its `:` or `@`.
fn split(image: &str) -> (&str, &str) {
    if let Some(at) = image.find('@') {
        return image.split_at(at);
    }
    // A colon before the last slash is of a port.
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[name..].find(':') {
        Some(colon) => image.split_at(name + colon),
        None => (image, ""),
    }
}

fn scale(cluster: &ChatCluster) -> Scale {
    let gateway = &cluster.spec.gateway;
    match (&gateway.autoscaling, gateway.replicas) {
        _ if cluster.spec.operation.hibernated => Scale::Fixed(0),
        (Some(autoscaling), _) => Scale::Load(Autoscale {
            min: autoscaling.min,
            max: autoscaling.max,
            sessions_per_pod: autoscaling.target.sessions_per_pod,
            streams_per_pod: autoscaling.target.streams_per_pod,
        }),
        (None, replicas) => Scale::Fixed(replicas.unwrap_or(REPLICAS)),
    }
}

/// Spans that the schema's pattern lets through and no clock can hold.
fn spans(spec: &crds::ChatClusterSpec) -> Vec<Finding> {
    let all = [
        ("spec.drain.deadline", &spec.drain.deadline),
        ("spec.rollout.progressDeadline", &spec.rollout.progress_deadline),
        ("spec.auth.jwt.clockSkew", &spec.auth.jwt.clock_skew),
    ];
    all.into_iter()
        .filter_map(|(path, span)| span.parse().err().map(|why| (path, why)))
        .map(|(path, why)| invalid(format!("{path}: {why}")))
        .collect()
}

/// A route is asked for where nobody knows what that is.
fn route(cluster: &ChatCluster, observed: &Observed) -> Option<Finding> {
    let asked = cluster.spec.exposure.kind == ExposureType::HTTPRoute;
    (asked && !observed.gateway_api).then(|| {
        Finding::new(
            ConditionType::ExposureReady,
            Reason::GatewayApiNotInstalled,
            "spec.exposure.type is HTTPRoute, but this cluster has no gateway.networking.k8s.io/v1: \
             install the Gateway API (the route follows by itself), or choose LoadBalancer",
        )
    })
}

/// The spec cannot be carried out.
fn invalid(message: impl Into<String>) -> Finding {
    Finding::new(ConditionType::Ready, Reason::InvalidSpec, message)
}

#[cfg(test)]
pub(crate) mod tests;
