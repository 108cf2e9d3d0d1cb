//! The settings of a revision: the file that every node of it reads.

use super::{Desired, metadata};
use crate::observe::Kind;
use crate::validate::ValidatedCluster;
use crds::names;
use crds::providers::{Continues, Provider, ProviderType};
use crds::quantity::Span;
use protocol::Settings;
use protocol::settings::{self, ContinueBy, Jwks, ProviderKind, Store, Upstream};
use serde_json::json;

/// Where a node finds its issuer's keys.
pub(super) const JWKS_FILE: &str = "/etc/chatcluster/jwks/keys.json";
/// Where it finds the authority of Redis' certificate.
pub(super) const REDIS_CA_FILE: &str = "/etc/chatcluster/redis-ca/ca.crt";

/// What the spec comes to for a node.
pub(super) fn of(cluster: &ValidatedCluster) -> Settings {
    let spec = &cluster.spec;
    let mut settings =
        Settings { store: store(cluster), upstream: upstream(cluster), ..Settings::default() };
    auth(cluster, &mut settings.auth);
    let (limits, user) = (&mut settings.limits, &spec.limits.per_user);
    limits.sessions = positive(spec.gateway.limits.sessions_per_pod);
    limits.streams = positive(spec.gateway.limits.streams_per_pod);
    limits.requests_per_minute = positive(user.requests_per_minute);
    limits.request_burst = positive(user.request_burst);
    limits.sockets_per_user = positive(user.sockets);
    limits.answers_per_user = positive(user.answers);
    settings.drain.deadline_ms = millis(&spec.drain.deadline, settings.drain.deadline_ms);
    settings.drain.goaways_per_second = positive(spec.drain.handover_per_second);
    settings.page.enabled = spec.exposure.page;
    settings.telemetry.otlp_endpoint =
        spec.observability.tracing.as_ref().map(|tracing| tracing.otlp.clone());
    settings
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
