//! The HTTP interface of a node, and the playground's `/dev`.

mod dev;
mod sse;

pub use dev::Dev;
pub use sse::{SseEvent, SseFollow};

use crate::wire;
use protocol::http::{MessageView, Problem, SessionView, Ticket};
use protocol::server_frame::Accepted;
use protocol::{ChatRequest, MessageId};
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use std::fmt;
use std::time::Duration;

/// Longest time of a call that is not a stream.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody answers there: try another node.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// The system's words.
        why: String,
    },
    /// The server said no.
    #[error("{url} answered HTTP {status}{}", words(.problem.as_deref()))]
    Refused {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Its problem document, where there was one.
        problem: Option<Box<Problem>>,
    },
    /// The answer is not of this protocol.
    #[error("{url} answered something else: {why}")]
    Shape {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

fn words(problem: Option<&Problem>) -> String {
    let Some(problem) = problem else { return String::new() };
    let detail = problem.detail.as_deref().unwrap_or(&problem.title);
    format!(" ({}: {detail})", problem.code)
}

impl ApiError {
    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same may succeed later or elsewhere.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, problem, .. } => {
                problem.as_ref().map_or(*status >= 500, |problem| problem.retryable)
            }
            Self::Shape { .. } => false,
        }
    }
}

/// One HTTP client for every call of a process; cheap to clone.
///
/// # Errors
/// [`ApiError::Shape`] where TLS cannot be set up.
pub fn http_client() -> Result<reqwest::Client, ApiError> {
    let built = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy().build();
    built.map_err(|error| ApiError::Shape { url: "client".into(), why: error.to_string() })
}

/// The HTTP interface of one node, as one user.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base_url: String,
    token: String,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({})", self.base_url)
    }
}

impl Api {
    /// Of the node at `base_url` (`http://host:port`).
    pub fn new(http: reqwest::Client, base_url: &str, token: &str) -> Self {
        let base_url = base_url.trim_end_matches('/').to_owned();
        Self { http, base_url, token: token.to_owned() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base_url);
        self.http.request(method, url).bearer_auth(&self.token)
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).timeout(CALL_TIMEOUT)
    }

    /// Starts an answer in the request's conversation, or in a new one.
    ///
    /// # Errors
    /// See [`ApiError`]; all methods here.
    pub async fn start(&self, request: &ChatRequest) -> Result<Accepted, ApiError> {
        let conversation = request.conversation_id.map_or("new".to_owned(), |id| id.to_string());
        let mut body = wire::request_body(request);
        body.remove("conversationId");
        let path = format!("/api/v1/conversations/{conversation}/messages");
        json(self.call(Method::POST, &path).json(&body)).await
    }

    /// A message as it stands.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn message(&self, id: MessageId) -> Result<MessageView, ApiError> {
        json(self.call(Method::GET, &format!("/api/v1/messages/{id}"))).await
    }

    /// Cancels an answer.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn cancel(&self, id: MessageId) -> Result<(), ApiError> {
        let path = format!("/api/v1/messages/{id}/stream");
        checked(self.call(Method::DELETE, &path)).await.map(drop)
    }

    /// My sessions on all nodes.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn sessions(&self) -> Result<Vec<SessionView>, ApiError> {
        json(self.call(Method::GET, "/api/v1/sessions")).await
    }

    /// A single-use ticket in place of a token.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn ticket(&self) -> Result<Ticket, ApiError> {
        json(self.call(Method::POST, "/api/v1/tickets")).await
    }

    /// Follows a message over SSE, after `last_event_id` where there is one (`<epoch>.<index>`).
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn follow(
        &self,
        id: MessageId,
        last_event_id: Option<&str>,
    ) -> Result<SseFollow, ApiError> {
        let path = format!("/api/v1/messages/{id}/stream");
        let mut request = self.request(Method::GET, &path);
        if let Some(last) = last_event_id {
            request = request.header("Last-Event-ID", last);
        }
        let response = checked(request.header("Accept", "text/event-stream")).await?;
        Ok(SseFollow::new(response))
    }
}

/// Sends, and turns every status but 2xx into an error.
pub(crate) async fn checked(request: RequestBuilder) -> Result<Response, ApiError> {
    let response = request.send().await.map_err(unreachable)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (url, status) = (address(response.url()), response.status().as_u16());
    let body = response.bytes().await.unwrap_or_default();
    let problem = serde_json::from_slice(&body).ok().map(Box::new);
    Err(ApiError::Refused { url, status, problem })
}

pub(crate) async fn json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ApiError> {
    let response = checked(request).await?;
    let url = address(response.url());
    let body = response.bytes().await.map_err(unreachable)?;
    serde_json::from_slice(&body).map_err(|error| ApiError::Shape { url, why: error.to_string() })
}

/// A URL without its query, which may hold a secret.
fn address(url: &reqwest::Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

fn unreachable(error: reqwest::Error) -> ApiError {
    let url = error.url().map(address).unwrap_or_default();
    // The innermost cause says what people can act on: refused, timed out, reset.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ApiError::Unreachable { url, why: cause.to_string() }
}
