//! What the providers' breakers say of themselves, under its names.

use super::catalog::{self, Description, Registered as _};
use super::labels::{ByBreaker, ByProvider, Closed as _};
pub use crate::upstream::{BreakerState, ProviderStatistics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a counter reads.
type Count = fn(&ProviderStatistics) -> u64;

/// Registers one reading.
pub(super) fn register(r: &mut Registry, providers: &[ProviderStatistics]) {
    let states = Family::<ByBreaker, Gauge>::default();
    for one in providers {
        for state in BreakerState::all() {
            let label = ByBreaker { provider: one.provider.clone(), state: state.text() };
            states.get_or_create(&label).set(i64::from(state == one.breaker));
        }
    }
    r.put(&catalog::PROVIDER_BREAKER, states);
    let counts: [(&Description, Count); 4] = [
        (&catalog::PROVIDER_BREAKER_OPENS, |one| one.opened),
        (&catalog::PROVIDER_CALLS, |one| one.calls),
        (&catalog::PROVIDER_FAILURES, |one| one.failed),
        (&catalog::PROVIDER_LIMITED, |one| one.limited),
    ];
    for (description, count) in counts {
        let family = Family::<ByProvider, Counter>::default();
        for one in providers {
            let label = ByProvider { provider: one.provider.clone() };
            family.get_or_create(&label).inc_by(count(one));
        }
        r.put(description, family);
    }
}
