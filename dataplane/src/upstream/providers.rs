//! The list of real providers: the next one is asked only where those before it gave no first token.
//! After that an answer is its provider's, to its end.

use super::call::Call;
use super::health::ProviderStatistics;
use super::keys::ProviderKeys;
use super::provider::{Deadline, Missed, Provider, Question};
use super::{Ask, Continues, Events, Upstream, UpstreamError, prompt};
use crate::telemetry::provider::Provider as Served;
use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use protocol::settings;
use std::sync::Arc;
use std::time::Duration;
use streamlog::{Clock, Opening};

/// Real providers, in the order in which they are asked.
pub struct Providers {
    all: Vec<Arc<Provider>>,
    /// Time to the first token, whoever sends it.
    patience: Duration,
    clock: Clock,
}

impl Providers {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// A text for people.
    pub fn new(
        providers: &[settings::Provider],
        keys: &ProviderKeys,
        stream: &settings::Stream,
        clock: Clock,
    ) -> Result<Self, String> {
        let silence = Duration::from_millis(stream.silence_ms);
        let make = |provider: &settings::Provider| {
            let key = keys.of(&provider.name);
            Provider::new(provider.clone(), key, silence, clock.clone()).map(Arc::new)
        };
        let all = providers.iter().map(make).collect::<Result<_, _>>()?;
        Ok(Self { all, patience: Duration::from_millis(stream.first_token_ms), clock })
    }

    fn for_model<'a>(&'a self, opening: &'a Opening) -> impl Iterator<Item = &'a Arc<Provider>> {
        let asked = opening.options.model.as_deref();
        self.all.iter().filter(move |provider| provider.model(asked).is_some())
    }
}

#[async_trait]
impl Upstream for Providers {
    /// Does not wait for the first token: the owner looks around while it waits for events.
    async fn call(&self, ask: Ask) -> Result<Events, UpstreamError> {
        let continues = ask.from.0 > 0;
        let fitting = self.for_model(&ask.opening);
        let fitting: Vec<_> =
            fitting.filter(|provider| !continues || provider.can_continue()).cloned().collect();
        if fitting.is_empty() {
            let why = "no provider has the model of the request, or none can go on with a text";
            return Err(UpstreamError::Refused(why.to_owned()));
        }
        let (clock, patience) = (self.clock.clone(), self.patience);
        let served = Served::of_this_call();
        let call = async move { open(&fitting, &ask, &clock, patience, &served).await };
        Ok(stream::once(call).try_flatten().boxed())
    }

    fn continues(&self, opening: &Opening) -> Continues {
        let can = self.for_model(opening).any(|provider| provider.can_continue());
        if can { Continues::PlainText } else { Continues::Never }
    }

    fn is_fed(&self) -> bool {
        true
    }

    fn statistics(&self) -> Vec<ProviderStatistics> {
        self.all.iter().map(|provider| provider.statistics()).collect()
    }
}

/// Asks one after the other. Each has an equal share of what is left of the time; the last one is
/// given up by the owner.
async fn open(
    providers: &[Arc<Provider>],
    ask: &Ask,
    clock: &Clock,
    patience: Duration,
    served: &Served,
) -> Result<Call, UpstreamError> {
    let prefix = prompt::prefix(ask);
    let question = Question { ask, prefix: &prefix };
    let all = clock.now() + patience;
    let mut missed = Vec::new();
    let mut again = None;
    for (at, provider) in providers.iter().enumerate() {
        let left = (providers.len() - at) as u32;
        let share = all.saturating_duration_since(clock.now()) / left;
        let share = (left > 1).then(|| clock.now() + share);
        served.is(provider.system());
        match provider.open(&question, Deadline { share, all }).await {
            Ok(call) => return Ok(call),
            Err(Missed::Refused(error)) => return Err(of(provider, error)),
            Err(Missed::Passing { why, again: soon }) => {
                tracing::warn!(
                    stream = %ask.opening.message, provider = provider.name(), %why,
                    "a provider gave no answer",
                );
                missed.push(format!("{}: {why}", provider.name()));
                again = again.or(soon.then_some(provider));
            }
        }
    }
    // Whoever asked to be asked again soon is, once: its limiter knows when.
    if let Some(provider) = again {
        served.is(provider.system());
        match provider.open(&question, Deadline { share: None, all }).await {
            Ok(call) => return Ok(call),
            Err(Missed::Refused(error)) => return Err(of(provider, error)),
            Err(Missed::Passing { why, .. }) => missed.push(format!("again: {why}")),
        }
    }
    Err(UpstreamError::Unavailable(missed.join("; ")))
}

/// Names who refused.
fn of(provider: &Provider, error: UpstreamError) -> UpstreamError {
    let name = provider.name();
    match error {
        UpstreamError::Refused(why) => UpstreamError::Refused(format!("{name}: {why}")),
        UpstreamError::Unavailable(why) => UpstreamError::Unavailable(format!("{name}: {why}")),
    }
}
