//! What a provider's refusals mean: passing, or this request's fault. Pure. Only words that are names
//! of errors are repeated: a message may quote what the user wrote, or the key.

use super::UpstreamError;
use super::text::{Text, said};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// Longest name of an error that is repeated.
const MAX_NAME: usize = 64;
/// Longest time that is waited because a provider asked for it.
pub(super) const MAX_HOLD: Duration = Duration::from_secs(60);
/// In names of errors that the request itself is to blame for.
const REFUSALS: [&str; 11] = [
    "invalid",
    "authentication",
    "permission",
    "not_found",
    "notfound",
    "too_large",
    "badrequest",
    "context_length",
    "exceed_context_size",
    "content_filter",
    "billing",
];

/// The `error` of a body or an event, in either dialect.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorBody<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    /// A word or a number.
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
}

/// A body with an error in it.
#[derive(Deserialize)]
struct Refused<'a> {
    #[serde(borrow)]
    error: ErrorBody<'a>,
}

impl ErrorBody<'_> {
    fn names(&self) -> Vec<&str> {
        let code = self.code.map(|code| code.get().trim_matches('"'));
        let kind = said(&self.kind);
        [kind, code].into_iter().flatten().filter(|name| is_name(name)).collect()
    }

    /// What an error within a stream means.
    pub(super) fn within_stream(&self) -> UpstreamError {
        let names = self.names();
        let status = names.iter().find_map(|name| name.parse().ok());
        let status = status.and_then(|code: u16| StatusCode::from_u16(code).ok());
        let refused = match status {
            Some(status) => !is_passing(status),
            None => names.iter().any(|name| {
                let name = name.to_ascii_lowercase();
                REFUSALS.iter().any(|refusal| name.contains(refusal))
            }),
        };
        let why = format!("it sent an error: {}", names.join(" "));
        if refused { UpstreamError::Refused(why) } else { UpstreamError::Unavailable(why) }
    }
}

/// A word that names an error and quotes nobody.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(plain) && name != "null"
}

/// Whether the same request may succeed later or elsewhere.
pub(super) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// What an HTTP error means, with what can be said about it.
pub(super) fn of_response(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> UpstreamError {
    let mut why = format!("HTTP {}", status.as_u16());
    if let Ok(Refused { error }) = serde_json::from_slice(body) {
        for name in error.names() {
            why = why + " " + name;
        }
    }
    let id = ["x-request-id", "request-id"].iter().find_map(|name| headers.get(*name));
    if let Some(id) = id.and_then(|id| id.to_str().ok()).filter(|id| is_name(id)) {
        why = why + ", its request " + id;
    }
    if status.is_redirection() {
        why += "; redirects are not followed, its url must name the place itself";
    }
    if is_passing(status) { UpstreamError::Unavailable(why) } else { UpstreamError::Refused(why) }
}

/// How long a provider wants to be left alone (RFC 9110 section 10.2.3, and OpenAI's milliseconds),
/// at most [`MAX_HOLD`].
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let wait = if let Some(ms) = text("retry-after-ms").and_then(|ms| ms.parse().ok()) {
        Duration::from_millis(ms)
    } else {
        let value = text("retry-after")?;
        match value.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
                Duration::try_from(at.duration_since(now)).unwrap_or_default()
            }
        }
    };
    Some(wait.min(MAX_HOLD))
}

/// What cannot be read, without quoting it.
pub(super) fn unreadable(error: &serde_json::Error) -> UpstreamError {
    UpstreamError::Unavailable(format!(
        "an event cannot be read: {:?} error in its column {}",
        error.classify(),
        error.column()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: &UpstreamError) -> bool {
        matches!(error, UpstreamError::Refused(_))
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn a_status_says_whether_it_may_pass() {
        for (status, passes) in [
            (400, false),
            (401, false),
            (404, false),
            (302, false),
            (408, true),
            (429, true),
            (500, true),
            (503, true),
            (529, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = of_response(status, &HeaderMap::new(), b"");
            assert_eq!(refused(&error), !passes, "{status}");
        }
    }

    #[test]
    fn names_are_repeated_and_nothing_else() {
        let body = br#"{"error":{"message":"I said hunter2","type":"invalid_request_error","code":"context_length_exceeded","param":null}}"#;
        let headers = headers(&[("x-request-id", "req_1")]);
        let error = of_response(StatusCode::BAD_REQUEST, &headers, body);
        let expected = "HTTP 400 invalid_request_error context_length_exceeded, its request req_1";
        assert_eq!(error, UpstreamError::Refused(expected.to_owned()));
        let odd = br#"{"error":{"type":"you said hunter2","code":400}}"#;
        let error = of_response(StatusCode::BAD_REQUEST, &HeaderMap::new(), odd);
        assert_eq!(error, UpstreamError::Refused("HTTP 400 400".to_owned()));
    }

    #[test]
    fn an_error_within_a_stream_is_judged_by_its_names() {
        for (error, is_refusal) in [
            (r#"{"type":"overloaded_error","message":"Overloaded"}"#, false),
            (r#"{"type":"api_error"}"#, false),
            (r#"{"type":"rate_limit_error"}"#, false),
            (r#"{"type":"invalid_request_error"}"#, true),
            (r#"{"message":"x","code":502}"#, false),
            (r#"{"message":"x","code":429}"#, false),
            (r#"{"message":"x","type":"BadRequestError","code":400}"#, true),
            (r#"{"message":"x","code":"content_filter"}"#, true),
            (r#"{"message":"x","code":null}"#, false),
        ] {
            let body: ErrorBody<'_> = serde_json::from_str(error).unwrap();
            assert_eq!(refused(&body.within_stream()), is_refusal, "{error}");
        }
    }

    #[test]
    fn retry_after_is_seconds_milliseconds_or_a_date_and_bounded() {
        let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        let wait = |name, value| retry_after(&headers(&[(name, value)]), now);
        assert_eq!(wait("retry-after", "3"), Some(Duration::from_secs(3)));
        assert_eq!(wait("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        let date = wait("retry-after", "Wed, 21 Oct 2015 07:28:07 GMT");
        assert_eq!(date, Some(Duration::from_secs(7)));
        let past = wait("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        assert_eq!(wait("retry-after", "86400"), Some(MAX_HOLD));
        assert_eq!(wait("retry-after", "soon"), None);
    }
}
