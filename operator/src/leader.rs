//! Who of several replicas writes: a Lease, as client-go has it
//! (<https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>). Whoever holds it renews it; whoever does
//! not counts, by its own clock, how long it has not changed. A holder that cannot renew stops before
//! somebody else may take it, and its process ends: nothing it began goes on.

use crate::clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Unchanged for this long a lease is free.
const LEASE: Duration = Duration::from_secs(15);
/// A holder that has not renewed for this long has lost it.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked at and renewed.
const RETRY: Duration = Duration::from_secs(2);

/// The lease is somebody else's, or could not be renewed in time.
#[derive(Debug, thiserror::Error)]
#[error("the lease {0} is lost: this process ends, another replica goes on")]
pub struct Lost(String);

/// One candidate.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
}

/// What a candidate remembers of a lease that is not its own.
#[derive(Default)]
struct Seen {
    version: Option<String>,
    since: Option<Instant>,
}

/// May it be taken now?
fn is_free(lease: &Lease, seen: &mut Seen, now: Instant) -> bool {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    if holder.is_empty() {
        return true;
    }
    if seen.version != lease.metadata.resource_version || seen.since.is_none() {
        *seen = Seen { version: lease.metadata.resource_version.clone(), since: Some(now) };
    }
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    let length = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    seen.since.is_some_and(|since| now.duration_since(since) >= length)
}

impl Candidate {
    /// A candidate for the lease `name`; no two processes have the same identity.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity }
    }

    /// Waits for the lease, tells `leads`, and keeps it until `stop`; then gives it back.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn run(
        &self,
        leads: &watch::Sender<bool>,
        stop: &CancellationToken,
    ) -> Result<(), Lost> {
        let Some(mut held) = stop.run_until_cancelled(self.acquire()).await else { return Ok(()) };
        tracing::info!(lease = self.name, identity = self.identity, "this replica leads");
        leads.send_replace(true);
        let mut renewed = Instant::now();
        while stop.run_until_cancelled(sleep(RETRY)).await.is_some() {
            match timeout(RETRY, self.put(held.clone(), &self.identity)).await {
                Ok(Ok(lease)) => (held, renewed) = (lease, Instant::now()),
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    held = self.still_ours().await.ok_or_else(|| Lost(self.name.clone()))?;
                }
                failed => {
                    tracing::warn!(?failed, "the lease could not be renewed; it is tried again")
                }
            }
            if renewed.elapsed() >= RENEW_WITHIN {
                leads.send_replace(false);
                return Err(Lost(self.name.clone()));
            }
        }
        leads.send_replace(false);
        if let Err(error) = timeout(RETRY, self.put(held, "")).await {
            tracing::warn!(%error, "the lease could not be given back; it runs out by itself");
        }
        Ok(())
    }

    async fn acquire(&self) -> Lease {
        let mut seen = Seen::default();
        loop {
            match self.attempt(&mut seen).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => {}
                // Another candidate was faster.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => tracing::warn!(%error, lease = self.name, "cannot ask for the lease"),
            }
            sleep(RETRY).await;
        }
    }

    async fn attempt(&self, seen: &mut Seen) -> Result<Option<Lease>, kube::Error> {
        match self.api.get_opt(&self.name).await? {
            None => {
                let metadata =
                    ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.spec(None, &self.identity)) };
                self.api.create(&PostParams::default(), &lease).await.map(Some)
            }
            Some(lease) if is_free(&lease, seen, Instant::now()) => {
                self.put(lease, &self.identity).await.map(Some)
            }
            Some(_) => Ok(None),
        }
    }

    /// Writes it for `holder`, unless somebody changed it meanwhile.
    async fn put(&self, mut lease: Lease, holder: &str) -> Result<Lease, kube::Error> {
        lease.spec = Some(self.spec(lease.spec.take(), holder));
        lease.metadata.managed_fields = None;
        self.api.replace(&lease.name_any(), &PostParams::default(), &lease).await
    }

    fn spec(&self, old: Option<LeaseSpec>, holder: &str) -> LeaseSpec {
        let old = old.unwrap_or_default();
        let now = MicroTime(clock::now());
        let same = old.holder_identity.as_deref() == Some(holder);
        let seconds = if holder.is_empty() { 1 } else { LEASE.as_secs() };
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            acquire_time: if same { old.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!same)),
            ..old
        }
    }

    async fn still_ours(&self) -> Option<Lease> {
        let lease = self.api.get_opt(&self.name).await.ok()??;
        let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
        (holder == self.identity).then_some(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(version: &str, holder: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_lease_is_free_when_given_back_or_unchanged_for_its_length_by_our_clock() {
        let (mut seen, begin) = (Seen::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert!(!is_free(&lease("1", "other"), &mut seen, after(0)));
        assert!(!is_free(&lease("1", "other"), &mut seen, after(14)));
        assert!(!is_free(&lease("2", "other"), &mut seen, after(16)), "it was renewed");
        assert!(!is_free(&lease("2", "other"), &mut seen, after(30)));
        assert!(is_free(&lease("2", "other"), &mut seen, after(31)));
        assert!(is_free(&lease("3", ""), &mut seen, after(31)));
    }
}
