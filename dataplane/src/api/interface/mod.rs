//! The documents that say what this program speaks: `/openapi.json` and `/asyncapi.json` (protocol
//! section 6). They are made of the handlers' and frames' own types, so that they cannot say anything
//! else. [`openapi`] is HTTP, [`asyncapi`] the socket, [`client_frames`] what clients may send,
//! [`refusals`] which codes an operation answers with.

pub mod asyncapi;
mod client_frames;
pub mod openapi;
pub(crate) mod refusals;

pub(crate) use client_frames::RequestBody;
pub use client_frames::{ClientFrameSchema, schemas as client_frame_schemas};

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::Value;
use std::sync::OnceLock;

/// Tells a program what it speaks; it changes with the program only.
const HEADERS: [(http::HeaderName, &str); 2] =
    [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "getOpenapi", tag = "interface",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(super) async fn serve_openapi() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    (HEADERS, TEXT.get_or_init(|| text(&openapi::document()).into()).clone()).into_response()
}

/// The frames of `/ws/chat`.
#[utoipa::path(
    get, path = "/asyncapi.json", operation_id = "getAsyncapi", tag = "interface",
    responses((status = 200, description = "AsyncAPI 3.0", body = Object)),
)]
pub(super) async fn serve_asyncapi() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    (HEADERS, TEXT.get_or_init(|| text(&asyncapi::document()).into()).clone()).into_response()
}

/// A document as it is served, and as it lies in `docs/`.
pub fn text(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

/// Documentation of types is written for rustdoc, whose links mean nothing to others.
fn without_links(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("[`") => {
            *text = text.replace("[`", "`").replace("`]", "`");
        }
        Value::Array(values) => values.iter_mut().for_each(without_links),
        Value::Object(fields) => fields.values_mut().for_each(without_links),
        _ => {}
    }
}
