//! Client frames as text messages: the inverse of `protocol::ClientFrame::parse`.

use protocol::{ChatRequest, ClientFrame, OnDisconnect, Reconnect};
use serde_json::{Map, Value, json};

/// One text message.
pub fn encode(frame: &ClientFrame) -> String {
    let body = match frame {
        ClientFrame::ChatRequest(request) => return typed("CHAT_REQUEST", request_body(request)),
        ClientFrame::Reconnect(reconnect) => return typed("RECONNECT", reconnect_body(reconnect)),
        ClientFrame::Unfollow { message_id } => {
            json!({"type": "UNFOLLOW", "messageId": message_id})
        }
        ClientFrame::CancelStream { message_id } => {
            json!({"type": "CANCEL_STREAM", "messageId": message_id})
        }
        ClientFrame::ToolResult { message_id } => {
            json!({"type": "TOOL_RESULT", "messageId": message_id, "callId": "", "output": ""})
        }
        ClientFrame::Auth { token } => json!({"type": "AUTH", "token": token}),
        ClientFrame::Heartbeat { t } => json!({"type": "HEARTBEAT", "t": t}),
    };
    body.to_string()
}

/// The fields of a request without its type: also the body of `POST …/messages`.
pub fn request_body(request: &ChatRequest) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("content".into(), request.content.clone().into());
    if let Some(conversation) = request.conversation_id {
        body.insert("conversationId".into(), conversation.to_string().into());
    }
    if let Some(id) = &request.request_id {
        body.insert("requestId".into(), id.as_str().into());
    }
    let options = json!(request.options);
    if options.as_object().is_some_and(|options| !options.is_empty()) {
        body.insert("options".into(), options);
    }
    if request.on_disconnect == OnDisconnect::Cancel {
        body.insert("onDisconnect".into(), "cancel".into());
    }
    body
}

fn reconnect_body(reconnect: &Reconnect) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("messageId".into(), reconnect.message_id.to_string().into());
    if let Some(last) = reconnect.from.0.checked_sub(1) {
        body.insert("lastChunkIndex".into(), last.into());
    }
    if let Some(epoch) = reconnect.epoch {
        body.insert("epoch".into(), epoch.0.into());
    }
    if let Some(digest) = reconnect.digest {
        body.insert("digest".into(), digest.to_string().into());
    }
    body
}

fn typed(kind: &str, mut body: Map<String, Value>) -> String {
    body.insert("type".into(), kind.into());
    Value::Object(body).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{ChatOptions, ConversationId, Digest, Epoch, Index, MessageId, RequestId};

    #[test]
    fn what_is_encoded_is_read_back() {
        let message_id = MessageId::parse("018f4d5e-0000-7000-8000-000000000001").unwrap();
        let request = ChatRequest {
            content: "hi \"you\"".into(),
            conversation_id: Some(ConversationId(message_id.0)),
            request_id: RequestId::parse("r-1"),
            options: ChatOptions {
                model: Some("m".into()),
                temperature: Some(0.5),
                max_tokens: Some(9),
            },
            on_disconnect: OnDisconnect::Cancel,
        };
        let plain = ChatRequest {
            content: "x".into(),
            conversation_id: None,
            request_id: None,
            options: ChatOptions::default(),
            on_disconnect: OnDisconnect::Continue,
        };
        let resume = Reconnect {
            message_id,
            from: Index(5),
            epoch: Some(Epoch(2)),
            digest: Digest::parse("c88d6113"),
        };
        let start = Reconnect { message_id, from: Index(0), epoch: None, digest: None };
        for frame in [
            ClientFrame::ChatRequest(request),
            ClientFrame::ChatRequest(plain),
            ClientFrame::Reconnect(resume),
            ClientFrame::Reconnect(start),
            ClientFrame::Unfollow { message_id },
            ClientFrame::CancelStream { message_id: Some(message_id) },
            ClientFrame::CancelStream { message_id: None },
            ClientFrame::ToolResult { message_id },
            ClientFrame::Auth { token: "t".into() },
            ClientFrame::Heartbeat { t: Some(7.into()) },
        ] {
            assert_eq!(ClientFrame::parse(&encode(&frame)).unwrap(), frame);
        }
    }
}
