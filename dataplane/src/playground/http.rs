//! The page and the `/dev` interface (protocol section 7).

use super::fleet::Common;
use super::member::{Command, Member};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use protocol::ErrorCode;
use protocol::dev::{DevNode, DevToken, Pause, UpstreamCall};
use protocol::drain::DrainRequest;
use protocol::http::Problem;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Life of a token of `GET /dev/token`.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
/// Longest pause that can be asked for.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);
/// A control call answers at once. What takes no longer than this is done by then, so that the next
/// `GET /dev/nodes` shows it.
const SETTLE: Duration = Duration::from_millis(250);

const PAGE: &str = include_str!("page.html");

#[derive(Clone)]
struct Front {
    members: Arc<[Arc<Member>]>,
    common: Arc<Common>,
}

pub(super) fn router(members: Arc<[Arc<Member>]>, common: Arc<Common>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/dev/nodes", get(nodes))
        .route("/dev/nodes/{name}/{action}", post(control))
        .route("/dev/upstream/calls", get(calls))
        .route("/dev/token", get(token))
        .route("/dev/redis/{*rest}", axum::routing::any(no_redis))
        .fallback(async || Refused::new(ErrorCode::NotFound, "no such path; see GET /dev/nodes"))
        .method_not_allowed_fallback(wrong_method)
        .with_state(Front { members, common })
}

/// An answer in RFC 9457's form.
struct Refused(Problem);

impl Refused {
    fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self(Problem { detail: Some(detail.into()), ..Problem::new(code) })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::BAD_REQUEST);
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, Json(self.0).into_response().into_body()).into_response()
    }
}

async fn page() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-cache")], Html(PAGE))
}

async fn nodes(State(front): State<Front>) -> Json<Vec<DevNode>> {
    Json(front.members.iter().map(|member| member.view()).collect())
}

async fn calls(State(front): State<Front>) -> Json<Vec<UpstreamCall>> {
    Json(front.common.calls.list())
}

async fn control(
    State(front): State<Front>,
    Path((name, action)): Path<(String, String)>,
    body: Bytes,
) -> Result<StatusCode, Refused> {
    let unknown =
        || Refused::new(ErrorCode::NotFound, format!("no node {name}; see GET /dev/nodes"));
    let member = front.members.iter().find(|m| m.name.as_str() == name).ok_or_else(unknown)?;
    let done = member.command(command(&action, &body)?).await;
    let _ = tokio::time::timeout(SETTLE, done).await;
    Ok(StatusCode::ACCEPTED)
}

fn command(action: &str, body: &[u8]) -> Result<Command, Refused> {
    Ok(match action {
        "kill" => Command::Kill,
        "start" => Command::Start,
        "drain" if body.trim_ascii().is_empty() => Command::Drain(DrainRequest::default()),
        "drain" => Command::Drain(read(body, "{\"deadlineMs\": 5000, \"policy\": \"continue\"}")?),
        "pause" => {
            let asked = Duration::from_millis(read::<Pause>(body, "{\"ms\": 3000}")?.ms);
            if asked > MAX_PAUSE {
                let detail = format!("ms: at most {}", MAX_PAUSE.as_millis());
                return Err(Refused::new(ErrorCode::InvalidMessage, detail));
            }
            Command::Pause(asked)
        }
        _ => {
            let detail = format!("a node knows kill, drain, start and pause, but not {action}");
            return Err(Refused::new(ErrorCode::NotFound, detail));
        }
    })
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8], example: &str) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        let code = match error.classify() {
            serde_json::error::Category::Data => ErrorCode::InvalidMessage,
            _ => ErrorCode::InvalidJson,
        };
        Refused::new(code, format!("{error}; for example {example}"))
    })
}

#[derive(Deserialize)]
struct Who {
    #[serde(default)]
    user: String,
}

async fn token(
    State(front): State<Front>,
    who: Option<Query<Who>>,
) -> Result<Json<DevToken>, Refused> {
    let user = who.map(|Query(who)| who.user).unwrap_or_default();
    if user.is_empty() {
        let detail = "user: whose token? For example /dev/token?user=alice";
        return Err(Refused::new(ErrorCode::InvalidMessage, detail));
    }
    Ok(Json(DevToken { token: front.common.token(&user) }))
}

async fn no_redis() -> Refused {
    Refused::new(ErrorCode::NotFound, "there is no Redis here: it needs STORES=redis")
}

async fn wrong_method() -> Refused {
    let problem = Problem::new(ErrorCode::InvalidMessage);
    let detail = Some("wrong method: control calls are POST, all others GET".to_owned());
    Refused(Problem { status: 405, detail, ..problem })
}

impl Common {
    /// A user's token, as this fleet's nodes accept it.
    pub(super) fn token(&self, user: &str) -> String {
        let now = self.clock.wall().as_second();
        let claims = serde_json::json!({
            "sub": user, "iat": now, "exp": now + TOKEN_LIFE.as_secs() as i64,
        });
        let secret = self.keys.jwt.first().map(Vec::as_slice).unwrap_or_default();
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap_or_default()
    }
}
