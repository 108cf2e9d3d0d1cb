//! `openapi.json`: what both ports answer, made of the routes themselves.

use super::client_frames::RequestBody;
use super::without_links;
use crate::{admin, api};
use protocol::ErrorCode;
use protocol::http::Problem;
use protocol::server_frame::{ChunkData, Complete, ErrorData, Reset, Status};
use serde_json::{Value, json};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::server::{ServerBuilder, ServerVariableBuilder};
use utoipa::openapi::{Components, Server};
use utoipa::{Modify, OpenApi};

const DESCRIPTION: &str = "\
Ask an AI, and read its answer while it grows: resumable, from any node, over WebSocket \
(`/ws/chat`, described by `/asyncapi.json`), server-sent events, or plain reads.

Every error is `application/problem+json` (RFC 9457) with a `code`; `retryable` says whether the same \
request may succeed later, `Retry-After` when. On every path another method is answered 405 \
INVALID_MESSAGE; other paths are 404 NOT_FOUND. Somebody else's message, conversation or session is \
NOT_FOUND, whether it exists or not. Clients ignore fields that they do not know.";

/// What does not belong to one route.
#[derive(OpenApi)]
#[openapi(
    info(title = "ChatCluster", description = DESCRIPTION, license(name = "Apache-2.0", identifier = "Apache-2.0")),
    servers((url = "/", description = "The data port")),
    tags(
        (name = "answers", description = "Ask, read, follow and cancel"),
        (name = "sessions", description = "Sockets, and tickets to open them"),
        (name = "interface", description = "What this program speaks"),
        (name = "admin", description = "The admin port: probes, metrics, and what an operator tells a node"),
    ),
    components(schemas(Problem, ErrorCode, RequestBody, ChunkData, Complete, Reset, Status, ErrorData)),
    modifiers(&Securities),
)]
struct Base;

struct Securities;

impl Modify for Securities {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Components::new);
        let bearer = |format: Option<&str>, what: &str| {
            let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(what));
            let http = format.into_iter().fold(http, |http, format| http.bearer_format(format));
            SecurityScheme::Http(http.build())
        };
        let query = |name: &str, what: &str| {
            SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::with_description(name, what)))
        };
        let schemes = [
            ("token", bearer(Some("JWT"), "A user's token: `sub` and `exp` are required")),
            ("ticket", query("ticket", "Single use, 30 s, of `POST /api/v1/tickets`")),
            ("tokenInQuery", query("token", "A user's token, where `auth.tokenInQuery` is on")),
            ("adminKey", bearer(None, "The admin key, where one is configured")),
        ];
        components
            .security_schemes
            .extend(schemes.into_iter().map(|(name, scheme)| (name.to_owned(), scheme.into())));
    }
}

/// The document.
pub fn document() -> Value {
    let mut document = Base::openapi();
    let (_, data) = api::routes().split_for_parts();
    let (_, mut admin) = admin::routes().split_for_parts();
    for item in admin.paths.paths.values_mut() {
        item.servers = Some(vec![admin_port()]);
    }
    document.merge(data);
    document.merge(admin);
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    without_links(&mut document);
    document
}

fn admin_port() -> Server {
    let host = ServerVariableBuilder::new().default_value("localhost:8081");
    let host = host.description(Some("Host and port of node.adminAddress"));
    let server = ServerBuilder::new().url("http://{host}").description(Some("The admin port"));
    server.parameter("host", host).build()
}
