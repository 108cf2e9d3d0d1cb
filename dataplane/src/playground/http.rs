//! The `/dev` interface (protocol section 7), and the page beside it.

use super::fleet::Common;
use super::member::{Command, Member};
use super::redis::{Fault, RedisSwitch};
use crate::admit::mint;
use crate::admit::token::MAX_USER_BYTES;
use crate::api::{Body, Refused, with_problems};
use crate::page;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::future::join_all;
use protocol::ErrorCode;
use protocol::dev::{DevNode, DevToken, Pause, UpstreamCall};
use protocol::drain::DrainRequest;
use protocol::settings::Upstream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Life of a token of `GET /dev/token`.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
/// Longest pause that can be asked for.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);
/// A control call answers at once. What takes no longer than this is done by then, so that the next
/// `GET /dev/nodes` shows it.
const SETTLE: Duration = Duration::from_millis(250);

#[derive(Clone)]
struct Front {
    members: Arc<[Arc<Member>]>,
    common: Arc<Common>,
}

pub(super) fn router(members: Arc<[Arc<Member>]>, common: Arc<Common>) -> Router {
    let router = Router::new()
        .merge(page::router(page::Reach::ThisMachine))
        .route("/dev/nodes", get(nodes))
        .route("/dev/nodes/{name}/{action}", post(control))
        .route("/dev/upstream", get(provider))
        .route("/dev/upstream/calls", get(calls))
        .route("/dev/token", get(token))
        .route("/dev/redis", get(redis_place))
        .route("/dev/redis/{action}", post(redis))
        .with_state(Front { members, common });
    with_problems(router)
        .fallback(async || refused(ErrorCode::NotFound, "no such path; see GET /dev/nodes"))
}

/// A path that cannot be read names nothing.
fn named<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Refused> {
    let Path(named) = path.map_err(|_| refused(ErrorCode::NotFound, "no such path"))?;
    Ok(named)
}

fn refused(code: ErrorCode, detail: &str) -> Refused {
    Refused(code.into(), Some(detail.to_owned()))
}

async fn nodes(State(front): State<Front>) -> Json<Vec<DevNode>> {
    Json(views(&front.members).await)
}

/// Asks all nodes at once.
pub(super) async fn views(members: &[Arc<Member>]) -> Vec<DevNode> {
    join_all(members.iter().map(|member| member.view())).await
}

/// Answer of `GET /dev/upstream`.
#[derive(Serialize)]
struct Provider {
    /// Whether it obeys `[sim …]`.
    simulated: bool,
}

async fn provider(State(front): State<Front>) -> Json<Provider> {
    let upstream = &front.common.shared.settings.upstream;
    Json(Provider { simulated: *upstream == Upstream::Simulated })
}

async fn calls(State(front): State<Front>) -> Json<Vec<UpstreamCall>> {
    Json(front.common.world.calls())
}

async fn control(
    State(front): State<Front>,
    path: Result<Path<(String, String)>, PathRejection>,
    Body(body): Body,
) -> Result<StatusCode, Refused> {
    let (name, action) = named(path)?;
    let unknown = || refused(ErrorCode::NotFound, &format!("no node {name}; see GET /dev/nodes"));
    let member =
        front.members.iter().find(|m| m.place.name.as_str() == name).ok_or_else(unknown)?;
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
        "pause" => Command::Pause(pause(body)?),
        _ => {
            let detail = format!("a node knows kill, drain, start and pause, but not {action}");
            return Err(refused(ErrorCode::NotFound, &detail));
        }
    })
}

fn pause(body: &[u8]) -> Result<Duration, Refused> {
    let asked = Duration::from_millis(read::<Pause>(body, "{\"ms\": 3000}")?.ms);
    if asked > MAX_PAUSE {
        let detail = format!("ms: at most {}", MAX_PAUSE.as_millis());
        return Err(refused(ErrorCode::InvalidMessage, &detail));
    }
    Ok(asked)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8], example: &str) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        let code = match error.classify() {
            serde_json::error::Category::Data => ErrorCode::InvalidMessage,
            _ => ErrorCode::InvalidJson,
        };
        refused(code, &format!("{error}; for example {example}"))
    })
}

#[derive(Deserialize)]
struct Who {
    #[serde(default)]
    user: String,
}

async fn token(
    State(front): State<Front>,
    who: Result<Query<Who>, QueryRejection>,
) -> Result<Json<DevToken>, Refused> {
    let user = who.map(|Query(who)| who.user).unwrap_or_default();
    if !(1..=MAX_USER_BYTES).contains(&user.len()) {
        let detail = "user: whose token? For example /dev/token?user=alice";
        return Err(refused(ErrorCode::InvalidMessage, detail));
    }
    Ok(Json(DevToken { token: front.common.token(&user) }))
}

/// Answer of `GET /dev/redis`.
#[derive(Serialize)]
struct RedisPlace {
    url: String,
}

async fn redis_place(State(front): State<Front>) -> Result<Json<RedisPlace>, Refused> {
    Ok(Json(RedisPlace { url: redis_of(&front)?.url().to_owned() }))
}

fn redis_of(front: &Front) -> Result<RedisSwitch, Refused> {
    let detail = "there is no Redis here: it needs STORES=redis";
    front.common.world.redis().ok_or_else(|| refused(ErrorCode::NotFound, detail))
}

async fn redis(
    State(front): State<Front>,
    path: Result<Path<String>, PathRejection>,
    Body(body): Body,
) -> Result<StatusCode, Refused> {
    let action = named(path)?;
    let redis = redis_of(&front)?;
    let fault = match action.as_str() {
        "restart" => Fault::Restart,
        "pause" => Fault::Pause(pause(&body)?),
        "kill-pubsub" => Fault::KillPubsub,
        _ => {
            let detail = format!("Redis knows restart, pause and kill-pubsub, but not {action}");
            return Err(refused(ErrorCode::NotFound, &detail));
        }
    };
    let done = redis.apply(fault).await;
    let _ = tokio::time::timeout(SETTLE, done).await;
    Ok(StatusCode::ACCEPTED)
}

impl Common {
    /// A user's token, as this fleet's nodes accept it.
    pub(super) fn token(&self, user: &str) -> String {
        let keys = &self.shared.keys;
        let secret = keys.jwt.first().map(Vec::as_slice).unwrap_or_default();
        mint(secret, user, TOKEN_LIFE, &self.shared.clock)
    }
}
