//! The provider that a node's settings ask for.

use super::Upstream;
use super::calls::{CallLog, Recorded};
use super::keys::ProviderKeys;
use super::providers::Providers;
use super::simulated::Simulated;
use protocol::{NodeName, Settings, settings};
use std::sync::Arc;
use streamlog::Clock;

/// For one node, every call written down. Asks nobody yet.
///
/// # Errors
/// A text for people.
pub fn upstream(
    settings: &Settings,
    keys: &ProviderKeys,
    calls: Arc<CallLog>,
    clock: &Clock,
    node: &NodeName,
) -> Result<Arc<dyn Upstream>, String> {
    let provider: Arc<dyn Upstream> = match &settings.upstream {
        settings::Upstream::Simulated => Arc::new(Simulated::new(clock.clone())),
        settings::Upstream::Providers(list) => {
            Arc::new(Providers::new(list, keys, &settings.stream, clock.clone())?)
        }
    };
    Ok(Arc::new(Recorded::new(provider, calls, clock.clone(), node.clone())))
}
