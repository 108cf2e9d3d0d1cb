//! Brings watches and passes together, and is the third edge: it writes the status, and events.

use crate::apply::{ApplyError, To, apply};
use crate::backoff::Backoff;
use crate::build::build;
use crate::finding::Finding;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::observe::{Observed, reader};
use crate::plan::{Plan, plan};
use crate::scrape::Scraper;
use crate::status::{Pass, status};
use crate::validate::{Defaults, Invalid, Validated, validate};
use crds::names::{self, FIELD_MANAGER};
use crds::status::Phase;
use crds::{ChatCluster, ChatClusterStatus, ConditionType, Reason};
use futures_util::future::ready;
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt as _};
use serde_json::json;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A cluster where nothing happens is looked at again after this time: what no watch tells.
const RESYNC: Duration = Duration::from_secs(300);
/// The same, where pods are exchanged, come or go.
const RESYNC_MOVING: Duration = Duration::from_secs(1);
/// The same, where something is missing that may come by itself: a Secret, the Gateway API.
const RESYNC_SOON: Duration = Duration::from_secs(15);
/// Events of one cluster within this time make one pass.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// Clusters that are looked at at once.
const CONCURRENCY: u16 = 4;

type Guarded = DeserializeGuard<ChatCluster>;

/// What every pass uses.
pub struct Context {
    /// To the API server.
    pub client: Client,
    /// What the operator was started with.
    pub defaults: Defaults,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Fields that the installed definition lacks.
    pub lacking: Arc<RwLock<Vec<String>>>,
    /// Of failed passes.
    pub backoff: Backoff,
    /// Of events.
    pub recorder: Recorder,
    /// Nodes' admin ports.
    pub nodes: Nodes,
    /// What nodes say of themselves.
    pub scraper: Arc<Scraper>,
    /// Wall time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// A pass that failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The API server could not be read.
    #[error("reading: {0}")]
    Observe(#[source] Box<kube::Error>),
    /// A write failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The status could not be written.
    #[error("writing the status: {0}")]
    Status(#[source] Box<kube::Error>),
}

/// Runs until `stop`, over one namespace or all.
pub async fn run(context: Arc<Context>, namespace: Option<String>, stop: CancellationToken) {
    let client = context.client.clone();
    let clusters = scoped::<Guarded>(&client, namespace.as_deref());
    let mut controller = Controller::new(clusters, watcher::Config::default())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY));
    controller = watching::<Service>(controller, &client, namespace.as_deref());
    controller = watching::<ServiceAccount>(controller, &client, namespace.as_deref());
    controller = watching::<ConfigMap>(controller, &client, namespace.as_deref());
    controller = watching::<ReplicaSet>(controller, &client, namespace.as_deref());
    controller = watching::<StatefulSet>(controller, &client, namespace.as_deref());
    controller = watching::<NetworkPolicy>(controller, &client, namespace.as_deref());
    controller = watching::<PodDisruptionBudget>(controller, &client, namespace.as_deref());
    controller = watching::<Pod>(controller, &client, namespace.as_deref());
    controller
        .reconcile_on(pokes(&context.scraper, namespace))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, again, context)
        .for_each(async |done| {
            if let Err(error) = done {
                tracing::debug!(%error, "a pass or a watch failed");
            }
        })
        .await;
}

/// Clusters whose nodes said something new.
fn pokes(
    scraper: &Scraper,
    namespace: Option<String>,
) -> impl Stream<Item = ObjectRef<Guarded>> + Send + 'static {
    scraper.pokes().filter_map(move |(within, name)| {
        let ours = namespace.as_ref().is_none_or(|namespace| *namespace == within);
        ready(ours.then(|| ObjectRef::new(&name).within(&within)))
    })
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// By label, not by owner: what an earlier cluster of the same name left is taken up again. No predicate
/// on the generation: it would swallow deletions.
fn watching<K>(
    controller: Controller<Guarded>,
    client: &Client,
    namespace: Option<&str>,
) -> Controller<Guarded>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let ours = watcher::Config::default().labels(names::CLUSTER);
    controller.watches(scoped::<PartialObjectMeta<K>>(client, namespace), ours, |object| {
        let cluster = object.labels().get(names::CLUSTER)?.clone();
        Some(ObjectRef::new(&cluster).within(&object.namespace()?))
    })
}

fn again(guarded: Arc<Guarded>, error: &PassError, context: Arc<Context>) -> Action {
    let wait = context.backoff.failed(&id(&guarded));
    tracing::warn!(cluster = id(&guarded), %error, ?wait, "the pass failed and is tried again");
    Action::requeue(wait)
}

fn id(cluster: &Guarded) -> String {
    format!("{}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any())
}

/// One pass, measured.
async fn reconcile(guarded: Arc<Guarded>, context: Arc<Context>) -> Result<Action, PassError> {
    let begun = Instant::now();
    let done = pass(&guarded, &context).await;
    context.metrics.reconciled(if done.is_ok() { "ok" } else { "error" }, begun.elapsed());
    if done.is_ok() {
        context.backoff.forget(&id(&guarded));
    }
    done
}

/// observe → validate → build → plan → apply → status.
async fn pass(guarded: &Guarded, context: &Context) -> Result<Action, PassError> {
    if let Err(error) = &guarded.0 {
        tracing::error!(cluster = id(guarded), %error, "this object is no ChatCluster; it is left alone");
        return Ok(Action::await_change());
    }
    let (namespace, name) = (guarded.namespace().unwrap_or_default(), guarded.name_any());
    let clusters = Api::<ChatCluster>::namespaced(context.client.clone(), &namespace);
    let failed = |error| PassError::Observe(Box::new(error));
    let Some(cluster) = clusters.get_opt(&name).await.map_err(failed)? else {
        context.metrics.gone(&namespace, &name);
        context.scraper.forget(&(namespace, name));
        return Ok(Action::await_change());
    };
    let mut observed = reader::read(&context.client, &cluster).await.map_err(failed)?;
    // What has no owner may have lost it to the deletion of this very cluster, while it was read: owned by it
    // again it would go with it.
    let still = clusters.get_metadata_opt(&name).await.map_err(failed)?;
    if still.is_none_or(|still| !is_same(&still.metadata, &cluster.metadata)) {
        return Ok(Action::requeue(RESYNC_MOVING));
    }
    let id = (namespace.clone(), name.clone());
    context.scraper.fill(&id, &mut observed);
    let validated = validate(&cluster, &observed, &context.defaults);
    let built = validated.as_ref().ok().map(|validated| build(&validated.cluster));
    let now = (context.now)();
    let plan = built.as_ref().map(|built| plan(built, &observed, now)).unwrap_or_default();
    let moves = plan.rollout.is_some() || observed.pods.iter().any(|pod| pod.pool == "draining");
    context.scraper.watch(&id, &observed, moves);
    let leaving = cluster.spec.operation.paused || cluster.metadata.deletion_timestamp.is_some();
    let applied =
        if leaving { Ok(()) } else { carry_out(context, &cluster, &observed, &plan).await };
    let mut findings = context.lacking();
    findings.extend(plan.findings.iter().cloned());
    findings.extend(said(&validated));
    findings.extend(applied.as_ref().err().map(failure));
    let pass = Pass {
        cluster: &cluster,
        observed: &observed,
        validated: validated.as_ref().ok(),
        revision: built.as_ref().map(|built| built.revision.as_str()),
        wanted: plan.wanted,
        rollout: plan.rollout.as_ref(),
        key_rotation: plan.key_rotation.as_ref(),
        findings: &findings,
    };
    let status = status(&pass, Time(now));
    write_status(context, &clusters, &cluster, status).await?;
    applied?;
    let again =
        if moves && !leaving { RESYNC_MOVING } else { when(&cluster, &observed, &findings) };
    Ok(Action::requeue(again))
}

/// Neither another one, nor changed, nor on its way out since.
fn is_same(now: &ObjectMeta, before: &ObjectMeta) -> bool {
    now.uid == before.uid
        && now.generation == before.generation
        && now.deletion_timestamp == before.deletion_timestamp
}

/// The plan, and its story as events.
async fn carry_out(
    context: &Context,
    cluster: &ChatCluster,
    observed: &Observed,
    plan: &Plan,
) -> Result<(), ApplyError> {
    let Some(owner) = cluster.controller_owner_ref(&()) else { return Ok(()) };
    let to = To {
        client: &context.client,
        nodes: &context.nodes,
        namespace: &cluster.namespace().unwrap_or_default(),
        owner: &owner,
        admin_key: observed.admin_key.as_ref(),
    };
    let applied = apply(&to, plan, |verb, kind| context.metrics.wrote(verb, kind)).await;
    for told in plan.story(observed) {
        let type_ = if told.warns { EventType::Warning } else { EventType::Normal };
        publish(context, cluster, type_, told.reason, told.note).await;
    }
    applied
}

impl Context {
    fn lacking(&self) -> Vec<Finding> {
        let lacking = self.lacking.read().unwrap_or_else(PoisonError::into_inner);
        if lacking.is_empty() {
            return Vec::new();
        }
        let message = format!(
            "the installed definition drops {}: apply the chart chatcluster-crds of this operator's version",
            lacking.join(", ")
        );
        vec![Finding::new(ConditionType::ConfigurationWarning, Reason::CrdOutdated, message)]
    }
}

fn said(validated: &Result<Validated, Invalid>) -> Vec<Finding> {
    match validated {
        Ok(validated) => validated.findings.clone(),
        Err(Invalid(findings)) => findings.clone(),
    }
}

/// A write that failed, as a condition.
fn failure(error: &ApplyError) -> Finding {
    let reason = match error.source.as_ref() {
        kube::Error::Api(status) if status.code == 403 => Reason::Forbidden,
        kube::Error::Api(status) if status.code == 409 => Reason::FieldConflict,
        _ => Reason::ApiError,
    };
    Finding::new(ConditionType::Degraded, reason, format!("{error}. It is tried again"))
}

/// Soon where something may come that no watch tells of.
fn when(cluster: &ChatCluster, observed: &Observed, findings: &[Finding]) -> Duration {
    let waits = findings.iter().any(|finding| {
        matches!(
            finding.condition,
            ConditionType::SecretsReady | ConditionType::ExposureReady | ConditionType::Degraded
        ) || finding.reason == Reason::Creating
    });
    let routed = cluster.spec.exposure.kind == crds::gateway::ExposureType::HTTPRoute;
    if waits || (routed && observed.gateway_api) { RESYNC_SOON } else { RESYNC }
}

async fn write_status(
    context: &Context,
    clusters: &Api<ChatCluster>,
    cluster: &ChatCluster,
    status: ChatClusterStatus,
) -> Result<(), PassError> {
    let ready = |status: &ChatClusterStatus| {
        status.conditions.iter().find(|one| one.type_ == ConditionType::Ready.as_str()).cloned()
    };
    let (before, after) = (cluster.status.as_ref().and_then(ready), ready(&status));
    let is_ready = after.as_ref().is_some_and(|ready| ready.status == "True");
    context.metrics.stands(cluster, &status, is_ready);
    if cluster.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let phase = status.phase;
    let patch = json!({
        "apiVersion": ChatCluster::api_version(&()), "kind": ChatCluster::kind(&()),
        "metadata": {"name": cluster.name_any()}, "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let written =
        clusters.patch_status(&cluster.name_any(), &parameters, &Patch::Apply(patch)).await;
    written.map_err(|error| PassError::Status(Box::new(error)))?;
    context.metrics.wrote("patch", "ChatCluster");
    if let Some(after) = after
        && before.is_none_or(|before| before.reason != after.reason)
    {
        let type_ = severity(phase, after.reason.as_str());
        publish(context, cluster, type_, &after.reason, after.message).await;
    }
    Ok(())
}

/// An event that does not arrive holds nothing up.
async fn publish(
    context: &Context,
    cluster: &ChatCluster,
    type_: EventType,
    reason: &str,
    note: String,
) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.chars().take(1_000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &cluster.object_ref(&())).await {
        tracing::warn!(%error, "an event could not be published");
    }
    context.metrics.wrote("create", "Event");
}

/// What comes by itself is no warning.
fn severity(phase: Option<Phase>, reason: &str) -> EventType {
    let wrong = matches!(phase, Some(Phase::Invalid | Phase::Degraded));
    if wrong || reason == Reason::PodFailing.as_str() {
        EventType::Warning
    } else {
        EventType::Normal
    }
}

#[cfg(test)]
mod tests;
