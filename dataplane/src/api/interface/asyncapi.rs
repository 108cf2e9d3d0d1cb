//! `asyncapi.json` (AsyncAPI 3.0): every frame of `/ws/chat`, made of the frames' own types, and what
//! error and close codes mean.

use super::client_frames::{self, ClientFrameSchema};
use super::without_links;
use crate::socket::close_reason;
use protocol::server_frame::{NamedSchemas, WelcomeV1};
use protocol::{CloseCode, ErrorCode, MAX_FRAME_BYTES, SUBPROTOCOL, ServerFrame};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

/// What dialect basic is ever sent (protocol section 1).
const BASIC: [&str; 5] = ["WELCOME", "CHUNK", "COMPLETE", "ERROR", "HEARTBEAT_ACK"];

const DESCRIPTION: &str = "\
One WebSocket a client, text messages of JSON. Dialect v1 is chosen by offering the subprotocol \
`chatcluster.v1`; without any subprotocol the server speaks basic, which has fewer frames \
(`x-dialects`). A client's fields may also stand under `data`; the top level wins. Unknown fields and \
unknown frames of the server are ignored. The normative text is `docs/protocol.md`.";

/// The document. What the server receives is what clients send.
pub fn document() -> Value {
    let mut parts = NamedSchemas::new();
    let clients = client_frames::schemas(&mut parts);
    let servers = ServerFrame::schemas(&mut parts);
    parts.push((WelcomeV1::name().into_owned(), WelcomeV1::schema()));
    let schemas = parts.into_iter().map(|(name, schema)| (name, json!(schema)));
    let mut schemas: Map<String, Value> = schemas.collect();
    schemas.insert("ErrorCode".to_owned(), error_codes());
    let mut messages = Map::new();
    messages.extend(clients.iter().map(|frame| (frame.name.to_owned(), client_message(frame))));
    messages.extend(
        servers.iter().map(|(name, body)| ((*name).to_owned(), server_message(name, body))),
    );
    let (heard, said) =
        (clients.iter().map(|frame| frame.name), servers.iter().map(|frame| frame.0));
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "ChatCluster",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"node": server()},
        "channels": {"chat": channel(&messages)},
        "operations": {
            "hear": operation("receive", "What clients send", heard),
            "say": operation("send", "What the server sends", said),
        },
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": security_schemes(),
        },
        "x-closeCodes": close_codes(),
    });
    without_links(&mut document);
    document
}

fn server() -> Value {
    let security = ["token", "tokenAsSubprotocol", "ticket", "tokenInQuery"];
    let security: Vec<_> = security
        .iter()
        .map(|name| json!({"$ref": format!("#/components/securitySchemes/{name}")}))
        .collect();
    json!({
        "host": "{host}",
        "protocol": "ws",
        "description": "The data port; `wss` behind whatever ends TLS",
        "variables": {"host": {"default": "localhost:8080"}},
        "security": security,
    })
}

fn channel(messages: &Map<String, Value>) -> Value {
    let refs = messages
        .keys()
        .map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")})));
    json!({
        "address": "/ws/chat",
        "messages": refs.collect::<Map<_, _>>(),
        "bindings": {"ws": {
            "method": "GET",
            "query": {
                "type": "object",
                "properties": {
                    "sessionId": {"type": "string", "format": "uuid",
                        "description": "Absent: the server makes one. Several sockets may share one"},
                },
            },
            "headers": {
                "type": "object",
                "properties": {
                    "Sec-WebSocket-Protocol": {"type": "string", "description": format!(
                        "`{SUBPROTOCOL}` for dialect v1; beside it `bearer.<jwt>` and `resume.<token>`"
                    )},
                },
            },
            "bindingVersion": "0.1.0",
        }},
        "x-maxFrameBytes": MAX_FRAME_BYTES,
    })
}

fn operation(action: &str, summary: &str, frames: impl Iterator<Item = &'static str>) -> Value {
    let frames = frames.map(|name| json!({"$ref": format!("#/channels/chat/messages/{name}")}));
    json!({
        "action": action,
        "channel": {"$ref": "#/channels/chat"},
        "summary": summary,
        "messages": frames.collect::<Vec<_>>(),
    })
}

fn client_message(frame: &ClientFrameSchema) -> Value {
    json!({
        "name": frame.name,
        "summary": frame.schema["description"],
        "payload": frame.schema,
        "examples": [{"payload": frame.example}],
        "x-dialects": ["basic", "v1"],
    })
}

fn server_message(name: &str, body: &str) -> Value {
    let body = json!({"$ref": format!("#/components/schemas/{body}")});
    let mut fields = json!({
        "type": {"const": name},
        "timestamp": {"type": "string", "format": "date-time"},
        "data": if name == "WELCOME" { in_either_dialect(&body) } else { body },
    });
    let mut required = vec!["type", "timestamp", "data"];
    if name == "ERROR" {
        fields["error"] = json!({"type": "string", "description": "For people"});
        required.push("error");
    }
    let dialects: &[&str] = if BASIC.contains(&name) { &["basic", "v1"] } else { &["v1"] };
    json!({
        "name": name,
        "payload": {"type": "object", "properties": fields, "required": required},
        "x-dialects": dialects,
    })
}

/// A WELCOME has more fields in v1.
fn in_either_dialect(basic: &Value) -> Value {
    let more = json!({"$ref": format!("#/components/schemas/{}", WelcomeV1::name())});
    json!({"anyOf": [{"title": "v1", "allOf": [basic, more]}, {"title": "basic", "allOf": [basic]}]})
}

fn error_codes() -> Value {
    let codes = ErrorCode::ALL.map(|code| {
        json!({"code": code, "text": code.text(), "retryable": code.retryable(), "http": code.http_status()})
    });
    json!({
        "type": "string",
        "description": "Why something was refused or failed",
        "enum": ErrorCode::ALL,
        "x-errorCodes": codes,
    })
}

fn close_codes() -> Value {
    let codes = CloseCode::ALL.map(|code| {
        let number = code.number();
        json!({"code": number, "text": close_reason(code), "reconnect": CloseCode::reconnects(number)})
    });
    json!(codes)
}

fn security_schemes() -> Value {
    let key = |place: &str, name: &str, what: &str| json!({"type": "httpApiKey", "in": place, "name": name, "description": what});
    json!({
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "tokenAsSubprotocol": key(
            "header", "Sec-WebSocket-Protocol",
            "For browsers: the entry `bearer.<jwt>` beside `chatcluster.v1`; never echoed",
        ),
        "ticket": key("query", "ticket", "Single use, 30 s, of `POST /api/v1/tickets`"),
        "tokenInQuery": key("query", "token", "Where `auth.tokenInQuery` is on"),
    })
}
