//! Which provider takes a call: known only inside of the call, wanted by whoever made it. One that
//! tries several says it for each, and the last word counts.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::futures::TaskLocalFuture;

/// What a call is served by where nobody said it.
const UNKNOWN: &str = "unknown";

tokio::task_local! {
    static CALL: Provider;
}

/// The provider of one call, as far as it is known.
#[derive(Clone, Default)]
pub struct Provider(Arc<Mutex<Option<String>>>);

impl Provider {
    /// Of the call this is said in, for whoever asks providers later than that; elsewhere of none.
    pub fn of_this_call() -> Self {
        CALL.try_with(Self::clone).unwrap_or_default()
    }

    /// This one is asked now: `openai`, `anthropic`, … where OpenTelemetry has a name for it.
    pub fn is(&self, name: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
    }

    /// Its name in traces (`gen_ai.provider.name`).
    pub fn name(&self) -> String {
        let name = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        name.unwrap_or_else(|| UNKNOWN.to_owned())
    }
}

/// The call, and where it will have said who takes it.
pub fn told_by_whom<F: Future>(call: F) -> (TaskLocalFuture<Provider, F>, Provider) {
    let provider = Provider::default();
    (CALL.scope(provider.clone(), call), provider)
}

/// [`Provider::is`] of this call.
pub fn served_by(provider: &str) {
    Provider::of_this_call().is(provider);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_word_counts_and_none_outside_of_a_call() {
        served_by("nobody");
        let (call, provider) = told_by_whom(async {
            served_by("first");
            tokio::task::yield_now().await;
            served_by("second");
            Provider::of_this_call()
        });
        assert_eq!(provider.name(), UNKNOWN);
        let later = call.await;
        assert_eq!(provider.name(), "second");
        later.is("third");
        assert_eq!(provider.name(), "third");
    }
}
