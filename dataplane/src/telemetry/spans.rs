//! Every span, in one place: names, kinds and attributes. None of them holds what a user said, what a
//! provider answered, a token, or a user's name.
//!
//! ```text
//!  POST /api/v1/… ───────────────┐
//!  GET /ws/chat ─ socket ─ CHAT_REQUEST ─ stream ─ chat <model>
//!                                         stream ─ chat <model>   (the successor's, after a takeover)
//! ```
//! Spans begin and end with what they stand for and never with a chunk. Names of the provider's span
//! are those of OpenTelemetry's conventions for generative AI, which are not final: they stand here
//! and nowhere else.

use super::trace_context::TraceContext;
use crate::metrics::CallEnd;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    Tracer as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};
use protocol::server_frame::{Accepted, TakeoverMode};
use protocol::{CloseCode, Dialect, Epoch, ErrorCode, Seal, SealStatus, SessionId, Usage};
use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;
use streamlog::{Ids, Opening};

/// Where spans are made. Without a tracer they are only names in logs, and cost no more.
pub struct Spans {
    tracer: OnceLock<SdkTracer>,
    ids: Ids,
}

impl Spans {
    /// `ids` names spans while there is no tracer.
    pub fn new(ids: Ids) -> Self {
        Self { tracer: OnceLock::new(), ids }
    }

    /// From now on spans are recorded. A node has one tracer for its whole life.
    pub fn record(&self, tracer: SdkTracer) {
        let _ = self.tracer.set(tracer);
    }

    fn start(&self, parent: Option<&TraceContext>, span: SpanBuilder) -> Span {
        let recorded = self.tracer.get().map(|tracer| {
            let root = Context::new();
            let parent = parent.map(|parent| parent.span_context().clone());
            let context = parent.map_or(root.clone(), |it| root.with_remote_span_context(it));
            tracer.build_with_context(span, &context)
        });
        let known = recorded.as_ref().map(|span| span.span_context().clone());
        let context = known.and_then(TraceContext::new);
        Span {
            context: context.unwrap_or_else(|| self.unrecorded(parent)),
            recorded: recorded.filter(|span| span.is_recording()).map(Box::new),
        }
    }

    /// A name for what is not recorded: logs and successors go by it.
    fn unrecorded(&self, parent: Option<&TraceContext>) -> TraceContext {
        // Never 0, which would be no name.
        let half = || self.ids.below(u64::MAX) + 1;
        let new = || TraceId::from(u128::from(half()) << 64 | u128::from(half()));
        let trace = parent.map_or_else(new, TraceContext::trace_id);
        let flags = parent.map_or(TraceFlags::default(), |it| it.span_context().trace_flags());
        TraceContext::named(trace, SpanId::from(half()), flags)
    }

    /// An HTTP request; `route` as it was declared.
    pub fn request(&self, parent: Option<&TraceContext>, method: &str, route: &str) -> Span {
        let attributes = [
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", route.to_owned()),
        ];
        self.start(parent, span(format!("{method} {route}"), SpanKind::Server, attributes))
    }

    /// A probe or a scrape: never recorded, named in logs.
    pub fn probe(&self, parent: Option<&TraceContext>) -> Span {
        Span { context: self.unrecorded(parent), recorded: None }
    }

    /// A socket, from its upgrade to its end. `user` is a tag.
    pub fn socket(
        &self,
        parent: Option<&TraceContext>,
        dialect: Dialect,
        session: SessionId,
        user: &str,
    ) -> Span {
        let dialect = match dialect {
            Dialect::Basic => "basic",
            Dialect::V1 => "v1",
        };
        let attributes = [
            KeyValue::new("session.id", session.to_string()),
            KeyValue::new("enduser.pseudo.id", user.to_owned()),
            KeyValue::new("chatcluster.dialect", dialect),
        ];
        self.start(parent, span("socket", SpanKind::Internal, attributes))
    }

    /// What a session does for a CHAT_REQUEST, until it is accepted or refused.
    pub fn chat_request(&self, parent: Option<&TraceContext>) -> Span {
        self.start(parent, span("CHAT_REQUEST", SpanKind::Internal, []))
    }

    /// A stream in the hands of one owner.
    pub fn stream(
        &self,
        parent: Option<&TraceContext>,
        opening: &Opening,
        epoch: Epoch,
        takeover: Option<TakeoverMode>,
    ) -> Span {
        let mut attributes = vec![
            KeyValue::new("chatcluster.message.id", opening.message.to_string()),
            KeyValue::new("gen_ai.conversation.id", opening.conversation.to_string()),
            KeyValue::new("chatcluster.epoch", number(epoch.0)),
        ];
        attributes.extend(takeover.map(|mode| {
            let mode = match mode {
                TakeoverMode::Finish => "finish",
                TakeoverMode::ProviderResume => "provider_resume",
                TakeoverMode::Continue => "continue",
                TakeoverMode::Restart => "restart",
                TakeoverMode::Fail => "fail",
            };
            KeyValue::new("chatcluster.takeover.mode", mode)
        }));
        self.start(parent, span("stream", SpanKind::Internal, attributes))
    }

    /// A call of a provider.
    pub fn chat(&self, parent: Option<&TraceContext>, opening: &Opening) -> Span {
        let options = &opening.options;
        let name = match &options.model {
            Some(model) => format!("chat {model}"),
            None => "chat".to_owned(),
        };
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", "chat"),
            KeyValue::new("gen_ai.conversation.id", opening.conversation.to_string()),
            KeyValue::new("gen_ai.request.stream", true),
            KeyValue::new("chatcluster.message.id", opening.message.to_string()),
        ];
        let mut set = |key: &'static str, value: Option<Value>| {
            attributes.extend(value.map(|value| KeyValue::new(key, value)));
        };
        set("gen_ai.request.model", options.model.clone().map(Value::from));
        set("gen_ai.request.temperature", options.temperature.map(Value::from));
        set("gen_ai.request.max_tokens", options.max_tokens.map(number));
        self.start(parent, span(name, SpanKind::Client, attributes))
    }
}

fn span(
    name: impl Into<Cow<'static, str>>,
    kind: SpanKind,
    attributes: impl IntoIterator<Item = KeyValue>,
) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes)
}

/// OpenTelemetry's numbers have a sign.
fn number(n: u64) -> Value {
    Value::I64(i64::try_from(n).unwrap_or(i64::MAX))
}

/// Something that takes time. It ends when it is dropped.
pub struct Span {
    context: TraceContext,
    /// Elsewhere in memory: most live long and are looked at twice.
    recorded: Option<Box<SdkSpan>>,
}

impl Span {
    /// What its children are hung under.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    fn set(&mut self, attributes: impl IntoIterator<Item = KeyValue>) {
        if let Some(span) = &mut self.recorded {
            span.set_attributes(attributes);
        }
    }

    fn failed(&mut self, error: &'static str) {
        if let Some(span) = &mut self.recorded {
            span.set_attribute(KeyValue::new("error.type", error));
            span.set_status(Status::error(""));
        }
    }
}

/// What is known only in the end.
impl Span {
    /// A request was answered.
    pub fn answered(&mut self, status: http::StatusCode) {
        self.set([KeyValue::new("http.response.status_code", i64::from(status.as_u16()))]);
        if status.is_server_error() {
            self.failed("5xx");
        }
    }

    /// A socket ended; `code` is what the node closed it with.
    pub fn closed(&mut self, code: Option<CloseCode>) {
        let code = code.map(|code| i64::from(code.number()));
        self.set(code.map(|code| KeyValue::new("chatcluster.close_code", code)));
    }

    /// A CHAT_REQUEST was accepted, or why not.
    pub fn decided(&mut self, decision: Result<&Accepted, ErrorCode>) {
        match decision {
            Ok(accepted) => self.set([
                KeyValue::new("chatcluster.message.id", accepted.message_id.to_string()),
                KeyValue::new("gen_ai.conversation.id", accepted.conversation_id.to_string()),
                KeyValue::new("chatcluster.duplicate", accepted.duplicate),
            ]),
            Err(code) => self.failed(code.as_str()),
        }
    }

    /// A stream was sealed.
    pub fn sealed(&mut self, seal: &Seal, chunks: u64) {
        let status = match seal.status {
            SealStatus::Completed => "completed",
            SealStatus::Failed => "failed",
            SealStatus::Cancelled => "cancelled",
        };
        self.set([
            KeyValue::new("chatcluster.seal.status", status),
            KeyValue::new("chatcluster.chunks", number(chunks)),
        ]);
        if let Some(code) = seal.code {
            self.failed(code.as_str());
        }
    }

    /// A provider is the one that answers a call.
    pub fn served_by(&mut self, provider: &str) {
        self.set([KeyValue::new("gen_ai.provider.name", provider.to_owned())]);
    }

    /// A provider said its first word, so long after the call.
    pub fn spoke(&mut self, after: Duration) {
        let seconds = after.as_secs_f64();
        self.set([KeyValue::new("gen_ai.response.time_to_first_chunk", seconds)]);
    }

    /// A provider finished.
    pub fn finished(&mut self, reason: &str, model: &str, usage: Usage) {
        let reasons = Array::String(vec![StringValue::from(reason.to_owned())]);
        self.set([
            KeyValue::new("gen_ai.response.model", model.to_owned()),
            KeyValue::new("gen_ai.response.finish_reasons", Value::Array(reasons)),
            KeyValue::new("gen_ai.usage.input_tokens", number(usage.prompt_tokens)),
            KeyValue::new("gen_ai.usage.output_tokens", number(usage.completion_tokens)),
        ]);
    }

    /// A call failed, or nobody wanted the rest of it.
    pub fn broke(&mut self, end: CallEnd) {
        match end {
            CallEnd::Finished => {}
            CallEnd::Unavailable => self.failed("unavailable"),
            CallEnd::Refused => self.failed("refused"),
            CallEnd::Timeout => self.failed("timeout"),
            CallEnd::Dropped => self.set([KeyValue::new("chatcluster.dropped", true)]),
        }
    }
}
