//! The settings of a revision, a file that every node of it reads once; and those that running nodes take up.

use super::{Desired, metadata};
use crate::observe::Kind;
use crate::validate::ValidatedCluster;
use crds::names;
use crds::providers::{Continues, Provider, ProviderType};
use crds::quantity::Span;
use protocol::Settings;
use protocol::hot::{Hot, HotDrain, HotLimits};
use protocol::settings::{self, ContinueBy, Jwks, ProviderKind, Store, Upstream};
use serde_json::json;

/// Where a node finds its issuer's keys.
pub(super) const JWKS_FILE: &str = "/etc/chatcluster/jwks/keys.json";
/// Where it finds the authority of Redis' certificate.
pub(super) const REDIS_CA_FILE: &str = "/etc/chatcluster/redis-ca/ca.crt";

/// What the spec comes to for a node, but for what a running one takes up.
pub(super) fn of(cluster: &ValidatedCluster) -> Settings {
    let spec = &cluster.spec;
    let mut settings =
        Settings { store: store(cluster), upstream: upstream(cluster), ..Settings::default() };
    auth(cluster, &mut settings.auth);
    settings.page.enabled = spec.exposure.page;
    settings.telemetry.otlp_endpoint =
        spec.observability.tracing.as_ref().map(|tracing| tracing.otlp.clone());
    settings
}

/// What a running node takes up.
fn hot(cluster: &ValidatedCluster) -> Hot {
    let spec = &cluster.spec;
    let (pod, user) = (&spec.gateway.limits, &spec.limits.per_user);
    let drain = settings::Drain::default();
    Hot {
        generation: u64::try_from(cluster.generation).unwrap_or_default(),
        limits: HotLimits {
            streams: Some(positive(pod.streams_per_pod)),
            sessions: Some(positive(pod.sessions_per_pod)),
            requests_per_minute: Some(positive(user.requests_per_minute)),
            request_burst: Some(positive(user.request_burst)),
            sockets_per_user: Some(positive(user.sockets)),
            answers_per_user: Some(positive(user.answers)),
        },
        drain: HotDrain {
            deadline_ms: Some(millis(&spec.drain.deadline, drain.deadline_ms)),
            goaways_per_second: Some(positive(spec.drain.handover_per_second)),
        },
    }
}

/// The file of what running nodes take up: one for all revisions.
pub(super) fn hot_map(cluster: &ValidatedCluster) -> Desired {
    let name = names::hot_settings(&cluster.name);
    let metadata = metadata::of(cluster, &name, "gateway");
    let file = serde_json::to_string_pretty(&hot(cluster)).unwrap_or_default();
    Desired::new(Kind::ConfigMap, &name, metadata, json!({"data": {"hot.yaml": file}}))
}

/// The schema has a minimum of 1 for all of these.
fn positive<T: TryFrom<i32> + Default>(number: i32) -> T {
    T::try_from(number).unwrap_or_default()
}

/// Validated to be a span.
fn millis(span: &Span, otherwise: u64) -> u64 {
    span.parse().ok().and_then(|span| u64::try_from(span.as_millis()).ok()).unwrap_or(otherwise)
}

fn store(cluster: &ValidatedCluster) -> Store {
    // Short enough for any namespace, and still readable.
    let unique = names::short_hash(&format!("{}/{}", cluster.namespace, cluster.name));
    let common = format!("{}.{unique}:", cluster.name);
    let Some(redis) = &cluster.spec.redis.external else {
        let url = format!("redis://{}:6379", names::redis(&cluster.name));
        return Store::Redis(settings::Redis { url, prefix: common, ..settings::Redis::default() });
    };
    let scheme = if redis.tls.is_some() { "rediss" } else { "redis" };
    let user = redis.username.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let host =
        if redis.host.contains(':') { format!("[{}]", redis.host) } else { redis.host.clone() };
    let ca = redis.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref());
    Store::Redis(settings::Redis {
        url: format!("{scheme}://{user}{host}:{}/{}", redis.port, redis.database),
        prefix: redis.prefix.clone().unwrap_or(common),
        ca_file: ca.map(|_| REDIS_CA_FILE.to_owned()),
    })
}

fn upstream(cluster: &ValidatedCluster) -> Upstream {
    let real = cluster.spec.providers.iter().filter(|one| one.kind != ProviderType::Simulated);
    let providers: Vec<_> = real.map(provider).collect();
    if providers.is_empty() { Upstream::Simulated } else { Upstream::Providers(providers) }
}

fn provider(provider: &Provider) -> settings::Provider {
    let kind = match provider.kind {
        ProviderType::Anthropic => ProviderKind::Anthropic,
        ProviderType::Openai | ProviderType::Simulated => ProviderKind::OpenAi,
    };
    let continues = match provider.continues {
        Continues::Never => ContinueBy::Never,
        Continues::Prefill => ContinueBy::Prefill,
        Continues::FinalMessage => ContinueBy::FinalMessage,
        Continues::Prefix => ContinueBy::Prefix,
    };
    settings::Provider {
        name: provider.name.clone(),
        kind,
        url: provider.base_url.clone().unwrap_or_default(),
        model: provider.model.clone().unwrap_or_default(),
        models: provider.models.clone(),
        max_tokens: provider.max_tokens.and_then(|tokens| u64::try_from(tokens).ok()),
        continues,
        ..settings::Provider::default()
    }
}

fn auth(cluster: &ValidatedCluster, auth: &mut settings::Auth) {
    let spec = &cluster.spec.auth;
    auth.allowed_origins.clone_from(&spec.allowed_origins);
    auth.leeway_ms = millis(&spec.jwt.clock_skew, auth.leeway_ms);
    if let Some(issuer) = spec.jwt.issuers.first() {
        auth.issuer = Some(issuer.issuer.clone());
        auth.audience = Some(issuer.audience.clone());
        let file = issuer.jwks.secret_ref.as_ref().map(|_| JWKS_FILE.to_owned());
        auth.jwks = Some(Jwks { url: issuer.jwks.url.clone(), file, ..Jwks::default() });
    }
}

/// The file, in a ConfigMap that never changes.
pub(super) fn config_map(
    cluster: &ValidatedCluster,
    settings: &Settings,
    revision: &str,
) -> Desired {
    let name = names::rolled_settings(&cluster.name, revision);
    let mut metadata = metadata::of(cluster, &name, "gateway");
    metadata["labels"][names::REVISION] = json!(revision);
    // YAML is a superset of JSON (https://yaml.org/spec/1.2.2/#chapter-1-introduction-to-yaml), and these
    // types write it without fail.
    let file = serde_json::to_string_pretty(settings).unwrap_or_default();
    let body = json!({"immutable": true, "data": {"settings.yaml": file}});
    Desired::new(Kind::ConfigMap, &name, metadata, body).once()
}
