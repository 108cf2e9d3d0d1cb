//! `/dev` of a playground: its nodes and what can be done to them, tokens, the provider's calls.

use super::{ApiError, CALL_TIMEOUT, checked, json};
use protocol::dev::{DevNode, DevToken, Pause, UpstreamCall};
use reqwest::{Method, RequestBuilder, Url};
use serde_json::json;
use std::fmt;
use std::time::Duration;

/// A playground's front.
#[derive(Clone)]
pub struct Dev {
    http: reqwest::Client,
    front: String,
}

impl fmt::Debug for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dev({})", self.front)
    }
}

impl Dev {
    /// Of the playground at `front` (`http://host:port`).
    pub fn new(http: reqwest::Client, front: &str) -> Self {
        Self { http, front: front.trim_end_matches('/').to_owned() }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/dev{path}", self.front);
        self.http.request(method, url).timeout(CALL_TIMEOUT)
    }

    async fn post(&self, path: &str) -> Result<(), ApiError> {
        checked(self.call(Method::POST, path)).await.map(drop)
    }

    /// The nodes.
    ///
    /// # Errors
    /// See [`ApiError`]; all methods here.
    pub async fn nodes(&self) -> Result<Vec<DevNode>, ApiError> {
        json(self.call(Method::GET, "/nodes")).await
    }

    /// A token of any user.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn token(&self, user: &str) -> Result<String, ApiError> {
        let url = format!("{}/dev/token", self.front);
        let shape = |why: String| ApiError::Shape { url: url.clone(), why };
        let asked = Url::parse_with_params(&url, [("user", user)]);
        let asked = asked.map_err(|error| shape(error.to_string()))?;
        let call = self.http.get(asked).timeout(CALL_TIMEOUT);
        json::<DevToken>(call).await.map(|body| body.token)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn kill(&self, node: &str) -> Result<(), ApiError> {
        self.post(&format!("/nodes/{node}/kill")).await
    }

    /// A new incarnation.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn start(&self, node: &str) -> Result<(), ApiError> {
        self.post(&format!("/nodes/{node}/start")).await
    }

    /// Freezes a node for a while.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn pause(&self, node: &str, time: Duration) -> Result<(), ApiError> {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let call = self.call(Method::POST, &format!("/nodes/{node}/pause"));
        checked(call.json(&Pause { ms })).await.map(drop)
    }

    /// Freezes Redis for a while.
    ///
    /// # Errors
    /// See [`ApiError`]; NOT_FOUND where the playground has none.
    pub async fn pause_store(&self, time: Duration) -> Result<(), ApiError> {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let call = self.call(Method::POST, "/redis/pause");
        checked(call.json(&Pause { ms })).await.map(drop)
    }

    /// Kills Redis, which comes back empty.
    ///
    /// # Errors
    /// See [`ApiError`]; NOT_FOUND where the playground has none.
    pub async fn restart_store(&self) -> Result<(), ApiError> {
        checked(self.call(Method::POST, "/redis/restart")).await.map(drop)
    }

    /// Cuts every subscription in Redis.
    ///
    /// # Errors
    /// See [`ApiError`]; NOT_FOUND where the playground has none.
    pub async fn kill_pubsub(&self) -> Result<(), ApiError> {
        checked(self.call(Method::POST, "/redis/kill-pubsub")).await.map(drop)
    }

    /// Drains a node, by its default policy where none is named (`finish` or `continue`).
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn drain(
        &self,
        node: &str,
        deadline: Option<Duration>,
        policy: Option<&str>,
    ) -> Result<(), ApiError> {
        let mut body = serde_json::Map::new();
        if let Some(deadline) = deadline {
            let ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            body.insert("deadlineMs".into(), json!(ms));
        }
        if let Some(policy) = policy {
            body.insert("policy".into(), json!(policy));
        }
        let call = self.call(Method::POST, &format!("/nodes/{node}/drain"));
        checked(call.json(&body)).await.map(drop)
    }

    /// What the simulated provider was asked.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn upstream_calls(&self) -> Result<Vec<UpstreamCall>, ApiError> {
        json(self.call(Method::GET, "/upstream/calls")).await
    }
}
