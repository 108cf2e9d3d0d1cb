//! The data port's HTTP interface (protocol section 6).
//!
//! [`extract`] says who asks for what, [`messages`] asks and reads, [`events`] follows over SSE,
//! [`sessions`] lists, [`problem`] is the form of every error, [`interface`] are the documents of it all.

mod events;
mod extract;
pub mod interface;
mod messages;
mod problem;
mod sessions;

pub(crate) use extract::Body;
pub use extract::Caller;
pub use problem::{PROBLEM_JSON, Refused, problem, wrong_method};

use crate::node::Node;
use crate::page;
use crate::telemetry;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::{Extension, Router};
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method};
use protocol::ErrorCode;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Largest body of a request, in bytes: as of a frame.
pub const MAX_BODY_BYTES: usize = protocol::MAX_FRAME_BYTES;
/// A call of the store that takes longer is answered STORE_UNAVAILABLE.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long browsers may keep the answer to a preflight.
const PREFLIGHT_LIFE: Duration = Duration::from_secs(600);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Every route of the data port, the WebSocket's included.
pub fn router(node: Arc<Node>) -> Router {
    let cors = cors(&node.settings.auth.allowed_origins);
    let shows_page = node.settings.page.enabled;
    let places = Arc::new(events::Places::default());
    let (router, _) = routes().split_for_parts();
    let router = router.layer(Extension(places)).with_state(node.clone());
    let router = match shows_page {
        true => router.merge(page::router(page::Reach::Itself)),
        false => router,
    };
    let router = with_problems(router).layer(from_fn_with_state(node, telemetry::trace_request));
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// The routes, each with its documentation. Paths and methods stand beside the handlers.
fn routes() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(crate::socket::upgrade::upgrade))
        .routes(routes!(sessions::ticket))
        .routes(routes!(sessions::list))
        .routes(routes!(messages::ask))
        .routes(routes!(messages::view))
        .routes(routes!(events::follow, messages::cancel))
        .routes(routes!(interface::serve_openapi))
        .routes(routes!(interface::serve_asyncapi))
}

/// What is refused before any handler is refused in the one form as well, and a panic is told to
/// its own caller only.
pub fn with_problems(router: Router) -> Router {
    router
        .fallback(async || problem(ErrorCode::NotFound, Some("no such path"), None))
        .method_not_allowed_fallback(async || wrong_method())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(panicked))
}

fn panicked(_what: Box<dyn Any + Send>) -> Response {
    // The message may quote a request: the panic hook has told where, and nobody is told what.
    tracing::error!("a request panicked");
    problem(ErrorCode::Internal, None, None)
}

/// Pages of these origins may read answers. Nothing goes by cookies, so that no other page gains
/// anything by asking.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<_> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, LAST_EVENT_ID])
        .expose_headers([RETRY_AFTER, LOCATION])
        .max_age(PREFLIGHT_LIFE);
    (!origins.is_empty()).then(|| layer.allow_origin(origins))
}

/// Waits for the store as long as a request may.
pub(crate) async fn patiently<T, E>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, Refused>
where
    Refused: From<E>,
{
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(Refused::from),
        Err(_) => Err(ErrorCode::StoreUnavailable.into()),
    }
}
