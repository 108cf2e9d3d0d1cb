//! What is told of a stream while it is produced: its spans, its log lines, and the metrics of its
//! provider's calls. Nothing here happens with a chunk but with the first one of a call.

use super::outcome::Outcome;
use crate::metrics::CallEnd;
use crate::node::Node;
use crate::telemetry::provider::Provider;
use crate::telemetry::{Span, TraceContext};
use protocol::server_frame::TakeoverMode;
use protocol::{Epoch, ErrorCode, Seal, Usage};
use std::sync::Arc;
use streamlog::Opening;
use tokio::time::Instant;

/// See the module. Ends its spans when it is dropped.
pub(super) struct Watched {
    node: Arc<Node>,
    opening: Arc<Opening>,
    span: Span,
    /// For log lines; never entered, so that a chunk does not pay for it.
    pub(super) log: tracing::Span,
    call: Option<Call>,
}

struct Call {
    span: Span,
    asked: Instant,
    provider: Provider,
}

impl Watched {
    /// A stream that this node just opened, or took over.
    pub(super) fn begin(
        node: &Arc<Node>,
        opening: &Arc<Opening>,
        epoch: Epoch,
        takeover: Option<TakeoverMode>,
    ) -> Self {
        // In the trace of the request, whatever node it came to.
        let parent = opening.trace.as_deref().and_then(TraceContext::parse);
        let span = node.telemetry.spans.stream(parent.as_ref(), opening, epoch, takeover);
        let context = span.context();
        let log = tracing::info_span!(
            parent: None, "stream", trace_id = %context.trace_id(), span_id = %context.span_id(),
            node = %node.owner.node, message_id = %opening.message,
            conversation_id = %opening.conversation, user = node.telemetry.user(&opening.user),
            epoch = epoch.0,
        );
        Self { node: node.clone(), opening: opening.clone(), span, log, call: None }
    }

    /// The provider is asked; who that is may be known only in the end.
    pub(super) fn asked(&mut self, now: Instant, provider: Provider) {
        let span = self.node.telemetry.spans.chat(Some(self.span.context()), &self.opening);
        self.call = Some(Call { span, asked: now, provider });
    }

    /// The provider sent its first chunk.
    pub(super) fn spoke(&mut self, now: Instant) {
        if let Some(call) = &mut self.call {
            let after = now.saturating_duration_since(call.asked);
            call.span.spoke(after);
            self.node.metrics.upstream_spoke(after);
        }
    }

    /// The call is over. `None`: another node owns the stream, or this one stops.
    pub(super) fn call_ended(&mut self, outcome: Option<&Outcome>) {
        let Some(mut call) = self.call.take() else { return };
        let end = call_end(outcome);
        let usage = match outcome {
            Some(Outcome::Completed { reason, model: Some(model), usage: Some(usage) }) => {
                call.span.finished(reason, model, *usage);
                Some(*usage)
            }
            _ => None,
        };
        call.span.served_by(&call.provider.name());
        call.span.broke(end);
        self.node.metrics.upstream_ended(end, usage);
    }

    /// The stream has its terminal record.
    pub(super) fn sealed(&mut self, seal: &Seal, chunks: u64) {
        self.span.sealed(seal, chunks);
        self.node.metrics.stream_sealed(seal, chunks);
        let code = seal.code.map(ErrorCode::as_str);
        let Usage { prompt_tokens, completion_tokens } = seal.usage;
        tracing::debug!(
            parent: &self.log, status = ?seal.status, code, chunks, prompt_tokens,
            completion_tokens, ms = seal.latency_ms, "sealed",
        );
    }
}

/// How a call ended, by how the stream did.
fn call_end(outcome: Option<&Outcome>) -> CallEnd {
    match outcome {
        Some(Outcome::Completed { model: Some(_), .. }) => CallEnd::Finished,
        Some(Outcome::Failed(ErrorCode::UpstreamUnavailable)) => CallEnd::Unavailable,
        Some(Outcome::Failed(ErrorCode::UpstreamError)) => CallEnd::Refused,
        Some(Outcome::Failed(ErrorCode::StreamTimeout)) => CallEnd::Timeout,
        Some(Outcome::Completed { .. } | Outcome::Cancelled | Outcome::Failed(_)) | None => {
            CallEnd::Dropped
        }
    }
}
