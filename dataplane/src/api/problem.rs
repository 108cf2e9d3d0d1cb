//! Every error of the HTTP interface has this one form: RFC 9457 problem details.

use crate::stream::Refusal;
use crate::stream::accept::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER as RETRY_AFTER_HEADER};
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderName, StatusCode};
use protocol::ErrorCode;
use protocol::client_frame::BadFrame;
use protocol::http::Problem;
use std::time::Duration;

/// Media type of RFC 9457.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The answer for a code. `detail` says what exactly, never anything of a user's; `retry_after`
/// where it is known. 429 and 503 always say when to come again.
pub fn problem(code: ErrorCode, detail: Option<&str>, retry_after: Option<Duration>) -> Response {
    let status = StatusCode::from_u16(code.http_status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(status, code, detail, retry_after)
}

/// 405 with what is allowed (protocol section 6).
pub fn wrong_method() -> Response {
    let detail = Some("this path does not know the method");
    respond(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::InvalidMessage, detail, None)
}

fn respond(
    status: StatusCode,
    code: ErrorCode,
    detail: Option<&str>,
    retry_after: Option<Duration>,
) -> Response {
    let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after = retry_after.or_else(|| busy.then_some(RETRY_AFTER));
    let body = Problem {
        status: status.as_u16(),
        detail: detail.map(str::to_owned),
        retry_after_ms: retry_after.map(|wait| wait.as_millis() as u64),
        ..Problem::new(code)
    };
    let mut response = (status, axum::Json(body)).into_response();
    let mut set = |name: HeaderName, value| drop(response.headers_mut().insert(name, value));
    set(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    set(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        set(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = retry_after {
        set(RETRY_AFTER_HEADER, HeaderValue::from(whole_seconds(wait)));
    }
    response
}

/// Rounded up: who comes too early is refused again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// A refusal on its way out of a handler.
#[derive(Debug)]
pub struct Refused(pub Refusal, pub Option<String>);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        problem(self.0.code, self.1.as_deref(), self.0.retry_after)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal, None)
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self(code.into(), None)
    }
}

impl From<BadFrame> for Refused {
    fn from(bad: BadFrame) -> Self {
        Self(bad.code.into(), Some(bad.to_string()))
    }
}

impl Refused {
    /// INVALID_MESSAGE that names the field.
    pub fn field(name: &str) -> Self {
        let text = format!("{}: {name}", ErrorCode::InvalidMessage.text());
        Self(ErrorCode::InvalidMessage.into(), Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_in_whole_seconds_rounded_up() {
        let refused = problem(ErrorCode::RateLimited, None, Some(Duration::from_millis(1_001)));
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()[RETRY_AFTER_HEADER], "2");
        assert_eq!(refused.headers()[CONTENT_TYPE], PROBLEM_JSON);
    }

    #[test]
    fn every_503_says_when_to_come_again_and_a_404_does_not() {
        let full = problem(ErrorCode::AtCapacity, None, None);
        assert_eq!(full.headers()[RETRY_AFTER_HEADER], "1");
        let unknown = problem(ErrorCode::NotFound, None, None);
        assert!(!unknown.headers().contains_key(RETRY_AFTER_HEADER));
    }
}
