//! One real provider: its HTTP client, its key, its limiter, its breaker. A call waits for its turn,
//! is sent, and is a call once the first piece of an answer came.

use super::answer::Answer;
use super::call::{Call, Read, causes};
use super::health::{Attempt, Health, ProviderStatistics};
use super::limiter::Limiter;
use super::{Ask, UpstreamError, anthropic, failure, openai};
use futures_util::StreamExt as _;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use protocol::settings::{self, ContinueBy, ProviderKind};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use std::sync::Arc;
use std::time::Duration;
use streamlog::Clock;
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};

/// Longest wait for a turn, because of the limiter or because the provider asked for it.
pub(super) const TURN: Duration = Duration::from_secs(5);
/// Connections kept open for the next call.
const IDLE_CONNECTIONS: usize = 64;
/// Most of an error's body that is read, and for how long.
const MAX_ERROR_BYTES: usize = 16 * 1024;
const ERROR_BODY: Duration = Duration::from_secs(2);

/// Why a provider gave no answer.
pub(super) enum Missed {
    /// Another one may.
    Passing {
        why: String,
        /// Whether it asked to be asked again soon.
        again: bool,
    },
    /// The request is to blame: nobody else is asked.
    Refused(UpstreamError),
}

impl Missed {
    fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), again: false }
    }
}

impl From<UpstreamError> for Missed {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Unavailable(why) => Self::passing(why),
            refused @ UpstreamError::Refused(_) => Self::Refused(refused),
        }
    }
}

/// What is asked of whichever provider answers.
pub(super) struct Question<'a> {
    pub(super) ask: &'a Ask,
    /// The text that earlier owners wrote.
    pub(super) prefix: &'a str,
}

/// When a provider is given up: `share` is its part of the time to the first token, `all` the end
/// of that time, which whoever asks keeps an eye on.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    pub(super) share: Option<Instant>,
    pub(super) all: Instant,
}

/// A provider that can be asked.
pub(super) struct Provider {
    settings: settings::Provider,
    client: Client,
    url: Url,
    headers: HeaderMap,
    read: Read,
    limiter: Limiter,
    health: Arc<Health>,
    clock: Clock,
    silence: Duration,
}

impl Provider {
    /// Asks nobody yet. `silence`: how long an answer may pause.
    ///
    /// # Errors
    /// A text for people.
    pub(super) fn new(
        settings: settings::Provider,
        key: Option<&str>,
        silence: Duration,
        clock: Clock,
    ) -> Result<Self, String> {
        let cannot = |what: &str| format!("provider {}: {what}", settings.name);
        let url = endpoint(&settings).ok_or_else(|| cannot("its url cannot be used"))?;
        let headers =
            headers(settings.kind, key).ok_or_else(|| cannot("its key fits into no header"))?;
        let client = client(&settings, &url).map_err(|error| cannot(&causes(&error)))?;
        Ok(Self {
            client,
            url,
            headers,
            read: match settings.kind {
                ProviderKind::OpenAi => openai::read,
                ProviderKind::Anthropic => anthropic::read,
            },
            limiter: Limiter::new(settings.calls_per_minute, settings.call_burst, clock.clone()),
            health: Arc::new(Health::new(&settings.name, clock.clone())),
            clock,
            silence,
            settings,
        })
    }

    /// What OpenTelemetry calls those who speak its dialect (`gen_ai.provider.name`).
    pub(super) fn system(&self) -> &'static str {
        match self.settings.kind {
            ProviderKind::OpenAi => "openai",
            ProviderKind::Anthropic => "anthropic",
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(super) fn statistics(&self) -> ProviderStatistics {
        self.health.statistics()
    }

    /// Whether it can go on with a text that another owner began.
    pub(super) fn can_continue(&self) -> bool {
        self.settings.continues != ContinueBy::Never
    }

    /// What it calls the model of a request; `None`: such a request is not for it.
    pub(super) fn model<'a>(&'a self, asked: Option<&'a str>) -> Option<&'a str> {
        let settings = &self.settings;
        match asked {
            None => Some(&settings.model),
            Some(asked) if asked == settings.model => Some(asked),
            Some(asked) => settings
                .models
                .get(asked)
                .map(String::as_str)
                .or(settings.any_model.then_some(asked)),
        }
    }

    /// Asks it. When this returns the answer has begun.
    pub(super) async fn open(
        &self,
        question: &Question<'_>,
        deadline: Deadline,
    ) -> Result<Call, Missed> {
        let asked = question.ask.opening.options.model.as_deref();
        let Some(model) = self.model(asked) else {
            return Err(Missed::passing("it has no such model"));
        };
        if !self.health.would_admit() {
            return Err(Missed::passing("its breaker is open"));
        }
        let turn = self.clock.now() + TURN;
        let turn = deadline.share.map_or(turn, |share| share.min(turn));
        if let Err(wait) = self.limiter.take(turn).await {
            self.health.limited();
            return Err(Missed::passing(format!("its limiter is full for {wait:?}")));
        }
        let until = deadline.share.unwrap_or(deadline.all);
        let patience = until.saturating_duration_since(self.clock.now());
        let Some(attempt) = self.health.begin(patience) else {
            return Err(Missed::passing("its breaker is open"));
        };
        let begins = self.ask(question, model, attempt);
        match deadline.share {
            None => begins.await,
            Some(share) => timeout_at(share, begins).await.unwrap_or_else(|_| {
                Err(Missed::passing(format!("no first token within its share, {patience:?}")))
            }),
        }
    }

    async fn ask(
        &self,
        question: &Question<'_>,
        model: &str,
        mut attempt: Attempt,
    ) -> Result<Call, Missed> {
        let request = match self.settings.kind {
            ProviderKind::OpenAi => openai::request,
            ProviderKind::Anthropic => anthropic::request,
        };
        let body = request(&self.settings, model, question.ask, question.prefix);
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                attempt.failed();
                // A URL may hold what is not for a log.
                return Err(Missed::passing(causes(&error.without_url())));
            }
        };
        if !response.status().is_success() {
            return Err(self.refused(response, attempt).await);
        }
        if let Some(kind) = wrong_kind(response.headers()) {
            attempt.failed();
            return Err(Missed::passing(format!("it answered {kind} and no event stream")));
        }
        let echoes = self.settings.continues == ContinueBy::Prefix;
        let answer = Answer::after(question.prefix, echoes);
        let call = Call::new(response.bytes_stream().boxed(), self.read, answer, attempt);
        Ok(call.begun(self.silence).await?)
    }

    async fn refused(&self, response: Response, mut attempt: Attempt) -> Missed {
        let (status, headers) = (response.status(), response.headers().clone());
        let passing = failure::is_passing(status);
        if passing {
            attempt.failed();
        } else {
            attempt.ended();
        }
        let wait = failure::retry_after(&headers, self.clock.wall()).filter(|_| passing);
        if let Some(wait) = wait {
            self.limiter.hold(wait);
        }
        let error = failure::of_response(status, &headers, &body_of(response).await);
        match Missed::from(error) {
            Missed::Passing { why, .. } => {
                Missed::Passing { why, again: wait.is_some_and(|wait| wait <= TURN) }
            }
            refused @ Missed::Refused(_) => refused,
        }
    }
}

/// Where its requests go.
fn endpoint(provider: &settings::Provider) -> Option<Url> {
    let mut url = Url::parse(&provider.url).ok()?;
    let path: &[&str] = match provider.kind {
        ProviderKind::OpenAi => &["chat", "completions"],
        ProviderKind::Anthropic => &["v1", "messages"],
    };
    url.path_segments_mut().ok()?.pop_if_empty().extend(path);
    Some(url)
}

fn headers(kind: ProviderKind, key: Option<&str>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    if kind == ProviderKind::Anthropic {
        let version = HeaderName::from_static("anthropic-version");
        headers.insert(version, HeaderValue::from_static("2023-06-01"));
    }
    if let Some(key) = key {
        let (name, value) = match kind {
            ProviderKind::OpenAi => (AUTHORIZATION, format!("Bearer {key}")),
            ProviderKind::Anthropic => (HeaderName::from_static("x-api-key"), key.to_owned()),
        };
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

/// No total timeout: an answer takes as long as it takes, within the bounds that its owner keeps.
fn client(provider: &settings::Provider, url: &Url) -> reqwest::Result<Client> {
    let mut client = Client::builder()
        .connect_timeout(Duration::from_millis(provider.connect_ms))
        .tcp_nodelay(true)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .referer(false)
        // A redirect would be given the key.
        .redirect(Policy::none());
    if !uses_proxies(url) {
        client = client.no_proxy();
    }
    client.build()
}

/// Whether proxies of the environment count: only for what leaves by TLS, through a tunnel that sees
/// neither key nor text, and never for this machine.
fn uses_proxies(url: &Url) -> bool {
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => true,
    };
    url.scheme() == "https" && !local
}

/// What a response is that is no event stream; one that does not say is believed.
fn wrong_kind(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (kind != "text/event-stream").then_some(kind)
}

/// As much of it as is of interest.
async fn body_of(response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let mut bytes = response.bytes_stream();
    let read = async {
        while let Some(Ok(more)) = bytes.next().await {
            let room = MAX_ERROR_BYTES - body.len();
            body.extend_from_slice(&more[..more.len().min(room)]);
            if body.len() == MAX_ERROR_BYTES {
                return;
            }
        }
    };
    // What did not come by then is not needed: the status says enough.
    let _ = timeout(ERROR_BODY, read).await;
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(url: &str, kind: ProviderKind) -> settings::Provider {
        settings::Provider { url: url.to_owned(), kind, ..settings::Provider::default() }
    }

    #[test]
    fn requests_go_below_the_base_url() {
        for (url, kind, expected) in [
            ("http://a/v1", ProviderKind::OpenAi, "http://a/v1/chat/completions"),
            ("http://a/v1/", ProviderKind::OpenAi, "http://a/v1/chat/completions"),
            ("http://a", ProviderKind::OpenAi, "http://a/chat/completions"),
            ("http://a/x?v=1", ProviderKind::OpenAi, "http://a/x/chat/completions?v=1"),
            ("https://a", ProviderKind::Anthropic, "https://a/v1/messages"),
        ] {
            assert_eq!(endpoint(&provider(url, kind)).unwrap().as_str(), expected);
        }
        assert_eq!(endpoint(&provider("data:x", ProviderKind::OpenAi)), None);
    }

    #[test]
    fn a_key_is_in_its_header_and_in_no_log() {
        for (kind, name, value) in [
            (ProviderKind::OpenAi, "authorization", "Bearer hunter2"),
            (ProviderKind::Anthropic, "x-api-key", "hunter2"),
        ] {
            let made = headers(kind, Some("hunter2")).unwrap();
            assert_eq!(made[name], value);
            assert!(!format!("{made:?}").contains("hunter2"), "{made:?}");
            assert!(!headers(kind, None).unwrap().contains_key(name));
            assert!(headers(kind, Some("two\nlines")).is_none());
        }
    }

    #[test]
    fn proxies_are_for_what_leaves_by_tls() {
        for (url, expected) in [
            ("https://api.example.com", true),
            ("http://vllm:8000/v1", false),
            ("https://localhost:1", false),
            ("https://127.0.0.1:1", false),
            ("https://[::1]:1", false),
        ] {
            assert_eq!(uses_proxies(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn a_request_names_a_model_of_the_list_or_any_where_that_is_allowed() {
        let mut settings = provider("http://a", ProviderKind::OpenAi);
        settings.model = "default".into();
        settings.models.insert("fast".into(), "small-1".into());
        let made = |any_model| {
            let settings = settings::Provider { any_model, ..settings.clone() };
            Provider::new(settings, None, Duration::ZERO, Clock::system()).unwrap()
        };
        let strict = made(false);
        let models = [None, Some("default"), Some("fast"), Some("x")].map(|a| strict.model(a));
        assert_eq!(models, [Some("default"), Some("default"), Some("small-1"), None]);
        assert_eq!(made(true).model(Some("x")), Some("x"));
    }
}
