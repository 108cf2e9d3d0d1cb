//! What clients may send, as schemas: the fields of every frame, at top level. The parser reads frames
//! by hand; a test holds both against each other, value by value.

use protocol::server_frame::NamedSchemas;
use protocol::{
    ChatOptions, ConversationId, Digest, MessageId, OnDisconnect, RequestId, SessionId,
};
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// One frame.
pub struct ClientFrameSchema {
    /// Its `type`.
    pub name: &'static str,
    /// Of the whole message, the fields at top level.
    pub schema: Value,
    /// A frame that is accepted.
    pub example: Value,
}

macro_rules! client_frames {
    ($($frame:literal $example:tt
       $(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* })+) => {
        $(
            $(#[$doc])*
            #[derive(ToSchema)]
            #[schema(rename_all = "camelCase")]
            #[allow(dead_code)] // Its fields are what is documented.
            struct $name { $($(#[$fdoc])* $field: $ty,)* }
        )+

        /// Every frame; the schemas that they refer to go `into` the components.
        pub fn schemas(into: &mut NamedSchemas) -> Vec<ClientFrameSchema> {
            vec![$(of::<$name>($frame, json!($example), into)),+]
        }
    };
}

client_frames! {
    "CHAT_REQUEST" { "type": "CHAT_REQUEST", "content": "Hello", "requestId": "r-1" }
    /// Start an answer and follow it.
    ChatRequestFrame {
        /// What the user says: not blank; blanks around it do not count.
        #[schema(pattern = r"\S", max_length = 10_000)]
        content: String,
        /// Absent: a new conversation.
        conversation_id: Option<ConversationId>,
        /// The client's own name for the request: the same one within 24 h starts nothing.
        request_id: Option<RequestId>,
        /// What the model gets.
        options: Option<ChatOptions>,
        /// Whether the answer outlives its followers.
        on_disconnect: Option<OnDisconnect>,
    }

    "RECONNECT" {
        "type": "RECONNECT", "messageId": "018f4d5e-0000-7000-8000-000000000001",
        "lastChunkIndex": 41, "epoch": 1, "digest": "3af68992"
    }
    /// Follow a message from a position: resume, join from another device, or read a finished one.
    ReconnectFrame {
        /// Which message.
        message_id: MessageId,
        /// The last chunk received; absent or -1: none.
        #[schema(minimum = -1, maximum = 9_007_199_254_740_992_i64)]
        last_chunk_index: Option<i64>,
        /// Of the last chunk received.
        #[schema(minimum = 0, maximum = 9_007_199_254_740_992_i64)]
        epoch: Option<u64>,
        /// Of the log up to the last chunk received.
        digest: Option<Digest>,
        /// Informative: the user decides.
        session_id: Option<SessionId>,
        /// Informative.
        client_timestamp: Option<Value>,
        /// Informative.
        client_info: Option<Value>,
    }

    "UNFOLLOW" { "type": "UNFOLLOW", "messageId": "018f4d5e-0000-7000-8000-000000000001" }
    /// Stop sending a message here; the answer goes on.
    UnfollowFrame {
        /// Which message.
        message_id: MessageId,
    }

    "CANCEL_STREAM" { "type": "CANCEL_STREAM", "messageId": "018f4d5e-0000-7000-8000-000000000001" }
    /// Stop an answer, wherever it is made.
    CancelStreamFrame {
        /// Which; absent: the session's newest live one.
        message_id: Option<MessageId>,
    }

    "TOOL_RESULT" {
        "type": "TOOL_RESULT", "messageId": "018f4d5e-0000-7000-8000-000000000001",
        "callId": "c1", "output": {"temperature": 21}
    }
    /// Reserved; answered NOT_FOUND.
    ToolResultFrame {
        /// Of which answer.
        message_id: MessageId,
        /// Of which call.
        call_id: String,
        /// Anything but `null`.
        #[schema(schema_with = anything)]
        output: Value,
    }

    "AUTH" { "type": "AUTH", "token": "eyJhbGciOiJIUzI1NiJ9.e30.x" }
    /// Replace the token in place.
    AuthFrame {
        /// A JWT of the same user.
        #[schema(min_length = 1, max_length = 16_384)]
        token: String,
    }

    "HEARTBEAT" { "type": "HEARTBEAT", "t": 7 }
    /// I am here.
    HeartbeatFrame {
        /// Echoed.
        t: Option<Value>,
    }
}

/// The body of a request over HTTP: CHAT_REQUEST's fields; the path names the conversation.
pub(crate) struct RequestBody;

impl PartialSchema for RequestBody {
    fn schema() -> RefOr<Schema> {
        let mut schema = ChatRequestFrame::schema();
        if let RefOr::T(Schema::Object(body)) = &mut schema {
            body.properties.remove("conversationId");
        }
        schema
    }
}

impl ToSchema for RequestBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "RequestBody".into()
    }

    fn schemas(into: &mut NamedSchemas) {
        ChatRequestFrame::schemas(into);
    }
}

fn anything() -> utoipa::openapi::Object {
    use utoipa::openapi::schema::{SchemaType, Type};
    let types = [Type::Object, Type::Array, Type::String, Type::Number, Type::Boolean];
    utoipa::openapi::Object::with_type(SchemaType::from_iter(types))
}

/// The schema of a frame's fields, with its `type` among them.
fn of<T: ToSchema>(
    name: &'static str,
    example: Value,
    into: &mut NamedSchemas,
) -> ClientFrameSchema {
    T::schemas(into);
    let mut schema = serde_json::to_value(<T as PartialSchema>::schema()).unwrap_or_default();
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.insert("type".to_owned(), json!({"const": name}));
    }
    match schema.get_mut("required").and_then(Value::as_array_mut) {
        Some(required) => required.insert(0, json!("type")),
        None => schema["required"] = json!(["type"]),
    }
    ClientFrameSchema { name, schema, example }
}
