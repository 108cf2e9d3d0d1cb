//! A place in a trace, as callers send it and logs show it (W3C Trace Context, level 1). Pure.

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

const PARENT: &str = "traceparent";

/// A span of a trace: what others are hung under.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceContext(SpanContext);

impl TraceContext {
    pub(super) fn new(context: SpanContext) -> Option<Self> {
        context.is_valid().then_some(Self(context))
    }

    pub(super) fn named(trace: TraceId, span: SpanId, flags: TraceFlags) -> Self {
        Self(SpanContext::new(trace, span, flags, false, TraceState::default()))
    }

    /// The caller's, of a request's headers; `None` where there is none that can be read. Its
    /// `tracestate` is left out: it may hold any text of whoever sent it.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(PARENT)?.to_str().ok()?)
    }

    /// Of `00-<32 digits>-<16 digits>-<2 digits>`. Later versions may append fields.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut fields = text.split('-');
        let (version, trace) = (fields.next()?, fields.next()?);
        let (span, flags) = (fields.next()?, fields.next()?);
        let known =
            hex(version, 2) && version != "ff" && (version != "00" || fields.next().is_none());
        if !(known && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let sampled = u8::from_str_radix(flags, 16).is_ok_and(|bits| bits & 1 == 1);
        let flags = TraceFlags::default().with_sampled(sampled);
        Self::new(SpanContext::new(trace, span, flags, true, TraceState::default()))
    }

    /// As [`Self::parse`] reads it.
    pub fn header(&self) -> String {
        let flags = self.0.trace_flags() & TraceFlags::SAMPLED;
        format!("00-{}-{}-{flags:02x}", self.trace_id(), self.span_id())
    }

    /// The trace: 32 hexadecimal digits, of which one is not 0.
    pub fn trace_id(&self) -> TraceId {
        self.0.trace_id()
    }

    /// The span: 16 hexadecimal digits, of which one is not 0.
    pub fn span_id(&self) -> SpanId {
        self.0.span_id()
    }

    pub(super) fn span_context(&self) -> &SpanContext {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_callers_trace_goes_on_and_a_malformed_one_does_not() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let read = TraceContext::parse(&good).unwrap();
        assert_eq!(read.trace_id().to_string(), TRACE);
        assert_eq!(read.header(), good);
        let unsampled = format!("00-{TRACE}-00f067aa0ba902b7-00");
        assert_eq!(TraceContext::parse(&unsampled).unwrap().header(), unsampled);
        let later = format!("01-{TRACE}-00f067aa0ba902b7-03-more");
        assert_eq!(TraceContext::parse(&later).unwrap().header(), good);
        for bad in [
            "",
            "00",
            &format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            &format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            &format!("00-{}\n-00f067aa0ba902b7-01", &TRACE[1..]),
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_carries_it_in_a_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceContext::of_headers(&headers), None);
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        headers.insert(PARENT, HeaderValue::from_str(&parent).unwrap());
        headers.insert("tracestate", HeaderValue::from_static("vendor=anything"));
        let read = TraceContext::of_headers(&headers).unwrap();
        assert_eq!(read.header(), parent);
        assert_eq!(read.span_context().trace_state().header(), "");
    }
}
