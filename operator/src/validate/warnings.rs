//! What works but should not stay.

use crate::finding::Finding;
use crds::providers::ProviderType;
use crds::{ChatClusterSpec, ConditionType, Reason};

/// All warnings.
pub(super) fn of(spec: &ChatClusterSpec, image: &str) -> Vec<Finding> {
    let simulated = spec.providers.iter().all(|one| one.kind == ProviderType::Simulated);
    let plain = spec.redis.external.as_ref().is_some_and(|redis| redis.tls.is_none());
    let all = [
        (
            spec.redis.embedded.is_some(),
            Reason::EmbeddedRedis,
            "spec.redis.embedded is one pod, for development: give spec.redis.external a Redis of yours",
        ),
        (
            simulated,
            Reason::SimulatedProvider,
            "spec.providers names no real provider: answers are simulated",
        ),
        (
            plain,
            Reason::RedisWithoutTls,
            "spec.redis.external.tls is not set: answers cross the network in the clear",
        ),
        (
            !image.contains('@'),
            Reason::ImageByTag,
            "the image is named by a tag, which may move: name it by spec.image.digest",
        ),
    ];
    let warnings = all.into_iter().filter(|(is_so, ..)| *is_so);
    warnings
        .map(|(_, reason, text)| Finding::new(ConditionType::ConfigurationWarning, reason, text))
        .collect()
}
