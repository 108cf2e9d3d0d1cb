//! Who may ask, and who answers.

use crate::quantity::Span;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whose tokens are accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// JSON web tokens.
    #[serde(default)]
    pub jwt: Jwt,
    /// Origins that a browser may come from. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
}

/// JSON web tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.clockSkew) <= duration('5m')")
    .message("clockSkew must be at most 5m: more lets expired tokens in"))]
pub struct Jwt {
    /// Who issues them. Empty: whoever has the generated key (Secret `<name>-keys`, key `jwt`, HS256).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<Issuer>,
    /// Clock difference that is allowed.
    #[serde(default = "clock_skew")]
    pub clock_skew: Span,
}

fn clock_skew() -> Span {
    "5s".into()
}

impl Default for Jwt {
    fn default() -> Self {
        Self { issuers: Vec::new(), clock_skew: clock_skew() }
    }
}

/// Who issues tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Issuer {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The `aud` that its tokens must have.
    pub audience: String,
    /// Its public keys (RFC 7517): exactly one of `url` and `secretRef`.
    pub jwks: KeySet,
}

/// Public keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.url) != has(self.secretRef)")
    .message("set exactly one of url and secretRef"))]
pub struct KeySet {
    /// Where they are published; `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A Secret of this namespace that holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// One key of a Secret of this namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// An AI provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'simulated' || has(self.baseUrl)")
    .message("baseUrl is missing: where does this provider answer? For example https://api.openai.com/v1"))]
#[x_kube(validation = Rule::new("self.type != 'simulated' || (!has(self.baseUrl) && !has(self.apiKeySecretRef))")
    .message("a simulated provider is built in: leave baseUrl and apiKeySecretRef out"))]
pub struct Provider {
    /// Its name here, for logs and metrics.
    pub name: String,
    /// What it speaks: `openai` for chat completions as OpenAI and many servers have them, `anthropic`
    /// for Anthropic's messages, `simulated` for the built-in one (alone in the list).
    #[serde(rename = "type")]
    pub kind: ProviderType,
    /// Base URL: `/chat/completions` is added to it, or `/v1/messages` for `anthropic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Its API key. Left out: none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
    /// The model of requests that name none. Left out: whatever the server has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Models that a request may name, and what the provider calls them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, String>,
    /// Tokens of an answer whose request names no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<i64>,
    /// How it goes on with a text that another node began; `Never`: such an answer starts anew.
    #[serde(default)]
    pub continues: Continues,
}

/// What a provider speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderType {
    /// Chat completions.
    #[default]
    Openai,
    /// Messages.
    Anthropic,
    /// The built-in one.
    Simulated,
}

/// How a provider is made to go on with a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Continues {
    /// It cannot.
    #[default]
    Never,
    /// It goes on with a last message of the assistant.
    Prefill,
    /// The same, with `continue_final_message`.
    FinalMessage,
    /// The same, with `prefix: true`.
    Prefix,
}

/// Bounds of users.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserLimits {
    /// Of each user.
    #[serde(default)]
    pub per_user: PerUser,
}

/// Bounds of one user. Changes reach running pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerUser {
    /// Requests a minute.
    #[serde(default = "requests_per_minute")]
    pub requests_per_minute: i32,
    /// Requests at once.
    #[serde(default = "burst")]
    pub request_burst: i32,
    /// Open sockets.
    #[serde(default = "burst")]
    pub sockets: i32,
    /// Live answers.
    #[serde(default = "burst")]
    pub answers: i32,
}

fn requests_per_minute() -> i32 {
    60
}

fn burst() -> i32 {
    20
}

impl Default for PerUser {
    fn default() -> Self {
        Self {
            requests_per_minute: requests_per_minute(),
            request_burst: burst(),
            sockets: burst(),
            answers: burst(),
        }
    }
}
