//! Where a client stands: `Last-Event-ID`, or `?after=`.

use crate::api::{LAST_EVENT_ID, Refused};
use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use protocol::{Epoch, Index};
use streamlog::Cursor;

/// A position in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Position {
    /// Everything up to here is there; the start without any.
    After(Cursor),
    /// The end was seen.
    End,
}

/// The position of a request. The header decides where both are there: EventSource repeats the
/// query it was made with.
pub(in crate::api) struct PositionOfRequest(pub(super) Position);

impl<S: Send + Sync> FromRequestParts<S> for PositionOfRequest {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refused> {
        if let Some(value) = parts.headers.get(LAST_EVENT_ID) {
            let position = value.to_str().ok().and_then(parse);
            return position.map(Self).ok_or_else(|| Refused::field("Last-Event-ID"));
        }
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Refused::field("after"))?;
        match pairs.iter().find(|(name, _)| name == "after") {
            None => Ok(Self(Position::After(Cursor::START))),
            Some((_, text)) => parse(text).map(Self).ok_or_else(|| Refused::field("after")),
        }
    }
}

/// `<epoch>.<index>`, a bare index, -1 for none, `<epoch>.end`.
fn parse(text: &str) -> Option<Position> {
    let (epoch, rest) = match text.split_once('.') {
        None => (None, text),
        Some((epoch, rest)) => (Some(Epoch(number(epoch)?)), rest),
    };
    match rest {
        "end" => epoch.map(|_| Position::End),
        "-1" => Some(Position::After(Cursor::START)),
        last => {
            let next = Index(number(last)?).plus(1);
            Some(Position::After(Cursor { next, epoch, digest: None }))
        }
    }
}

/// Digits only, at most what JavaScript counts exactly.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|n| *n <= Index::MAX_WIRE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(next: u64, epoch: Option<u64>) -> Option<Position> {
        let cursor = Cursor { next: Index(next), epoch: epoch.map(Epoch), digest: None };
        Some(Position::After(cursor))
    }

    #[test]
    fn positions() {
        assert_eq!(parse("3.41"), after(42, Some(3)));
        assert_eq!(parse("41"), after(42, None));
        assert_eq!(parse("0.0"), after(1, Some(0)));
        assert_eq!(parse("-1"), after(0, None));
        assert_eq!(parse("2.-1"), after(0, None));
        assert_eq!(parse("9007199254740992"), after(9_007_199_254_740_993, None));
        assert_eq!(parse("1.end"), Some(Position::End));
        for bad in [
            "",
            ".",
            "1.",
            ".1",
            "-2",
            "+1",
            "1.2.3",
            "end",
            "x",
            "1 ",
            "9007199254740993",
            "1.0x1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
