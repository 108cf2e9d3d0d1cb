//! The fourth edge: nodes' admin ports. A report is read, a drain is begun; nothing else is asked of a node.

use crate::observe::AdminKey;
use crds::names::ADMIN_PORT;
use protocol::DrainReport;
use protocol::drain::{DrainPolicy, DrainRequest};
use std::time::Duration;

/// A node answers at once, or is taken for one that says nothing.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Speaks to nodes.
#[derive(Clone)]
pub struct Nodes {
    http: reqwest::Client,
}

impl Nodes {
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // Pods are spoken to directly, whatever the environment says of proxies.
            .no_proxy()
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self::through(http))
    }

    /// By a client that knows the way.
    pub fn through(http: reqwest::Client) -> Self {
        Self { http }
    }

    /// What a node says of itself.
    ///
    /// # Errors
    /// It does not answer in time, or refuses.
    pub async fn report(
        &self,
        address: &str,
        key: &AdminKey,
    ) -> Result<DrainReport, reqwest::Error> {
        let answer = self.http.get(url(address)).bearer_auth(&key.0).send().await?;
        answer.error_for_status()?.json().await
    }

    /// Has a node hand over what it has; repeated, it changes nothing.
    ///
    /// # Errors
    /// It does not answer in time, or refuses: the epoch is lower than the last it accepted.
    pub async fn drain(
        &self,
        address: &str,
        key: &AdminKey,
        epoch: u64,
        deadline_ms: u64,
    ) -> Result<(), reqwest::Error> {
        let request = DrainRequest {
            deadline_ms: Some(deadline_ms),
            epoch,
            policy: Some(DrainPolicy::default()),
        };
        let sent = self.http.post(url(address)).bearer_auth(&key.0).json(&request).send().await?;
        sent.error_for_status().map(drop)
    }
}

fn url(address: &str) -> String {
    // Of two families, one is written in brackets (RFC 3986 section 3.2.2).
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("http://{host}:{ADMIN_PORT}/admin/drain")
}
