//! What a client asks for in its upgrade request (RFC 6455 section 4.2.1, protocol section 1), read
//! without looking at anything else.

use crate::admit::credentials::entries;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use protocol::{Dialect, SUBPROTOCOL, SessionId};

/// Prefix of the subprotocol entry that carries a resume token.
const RESUME_PREFIX: &str = "resume.";
/// Base64 of 16 bytes.
const KEY_CHARS: usize = 24;

/// Why a request is no WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHandshake {
    /// No `Upgrade: websocket`: 426.
    NotAsked,
    /// Another version than 13: 426 with ours.
    Version,
    /// Anything else: 400; names the header.
    Malformed(&'static str),
}

/// A well-formed handshake.
#[derive(Debug, PartialEq, Eq)]
pub struct Offer {
    /// `Sec-WebSocket-Accept` of the answer.
    pub accept: String,
    /// What it wants to speak; `None`: subprotocols without ours.
    pub dialect: Option<Dialect>,
    /// A resume token, offered as a subprotocol.
    pub resume: Option<String>,
    /// Where the page came from.
    pub origin: Option<String>,
}

impl Offer {
    /// Reads a request's headers.
    ///
    /// # Errors
    /// [`NoHandshake`].
    pub fn read(parts: &Parts) -> Result<Self, NoHandshake> {
        let headers = &parts.headers;
        if !has_token(headers, &UPGRADE, "websocket") {
            return Err(NoHandshake::NotAsked);
        }
        if !has_token(headers, &CONNECTION, "upgrade") {
            return Err(NoHandshake::Malformed("Connection"));
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(NoHandshake::Version);
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes()));
        let key = key.ok_or(NoHandshake::Malformed("Sec-WebSocket-Key"))?;
        let protocols = entries(headers, SEC_WEBSOCKET_PROTOCOL).collect::<Vec<_>>();
        let dialect = match &protocols[..] {
            [] if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) => Some(Dialect::Basic),
            offered => offered.contains(&SUBPROTOCOL).then_some(Dialect::V1),
        };
        let resume = protocols.iter().find_map(|entry| entry.strip_prefix(RESUME_PREFIX));
        let origin = headers.get(ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()));
        Ok(Self {
            accept: tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes()),
            dialect,
            resume: resume.map(str::to_owned),
            origin: origin.map(|origin| origin.into_owned()),
        })
    }

    /// Whether a browser's page may come from there; clients that are no browsers send no Origin.
    pub fn may_come(&self, allowed: &[String]) -> bool {
        let Some(origin) = &self.origin else { return true };
        allowed.is_empty() || allowed.iter().any(|one| one.eq_ignore_ascii_case(origin))
    }
}

/// A `sessionId` that is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoUuid;

/// The `sessionId` of the query; `None`: absent.
///
/// # Errors
/// [`NoUuid`].
pub fn session_of(parts: &Parts) -> Result<Option<SessionId>, NoUuid> {
    let query = parts.uri.query().unwrap_or_default();
    let mut values = query.split('&').filter_map(|pair| match pair.split_once('=') {
        Some(("sessionId", value)) => Some(value),
        None if pair == "sessionId" => Some(""),
        _ => None,
    });
    // A UUID has no character that a URL must escape.
    values.next().map(|value| SessionId::parse(value).ok_or(NoUuid)).transpose()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    entries(headers, name.clone()).any(|token| token.eq_ignore_ascii_case(wanted))
}

fn is_key(key: &[u8]) -> bool {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(key);
    key.len() == KEY_CHARS && decoded.is_ok_and(|bytes| bytes.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let base = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut request = http::Request::get("/ws/chat");
        for (name, value) in base.iter().filter(|(name, _)| headers.iter().all(|(n, _)| n != name))
        {
            request = request.header(*name, *value);
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_example_of_rfc_6455() {
        let offer = Offer::read(&parts(&[])).unwrap();
        assert_eq!(offer.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((offer.dialect, offer.resume), (Some(Dialect::Basic), None));
    }

    #[test]
    fn what_is_no_handshake() {
        use NoHandshake::{Malformed, NotAsked, Version};
        for (name, value, why) in [
            ("upgrade", "", NotAsked),
            ("upgrade", "h2c", NotAsked),
            ("connection", "close", Malformed("Connection")),
            ("sec-websocket-version", "8", Version),
            ("sec-websocket-version", "", Version),
            ("sec-websocket-key", "", Malformed("Sec-WebSocket-Key")),
            ("sec-websocket-key", "c2hvcnQ=", Malformed("Sec-WebSocket-Key")),
        ] {
            assert_eq!(Offer::read(&parts(&[(name, value)])), Err(why), "{name}: {value}");
        }
    }

    #[test]
    fn subprotocols_choose_the_dialect() {
        for (value, dialect, resume) in [
            ("chatcluster.v1", Some(Dialect::V1), None),
            ("bearer.a.b.c, chatcluster.v1 , resume.xyz", Some(Dialect::V1), Some("xyz")),
            ("chatcluster.v2", None, None),
            ("bearer.a.b.c", None, None),
        ] {
            let offer = Offer::read(&parts(&[("sec-websocket-protocol", value)])).unwrap();
            assert_eq!((offer.dialect, offer.resume.as_deref()), (dialect, resume), "{value}");
        }
    }

    #[test]
    fn session_ids_are_uuids_or_absent() {
        let session = |query: &str| {
            let uri = format!("/ws/chat{query}");
            session_of(&http::Request::get(uri).body(()).unwrap().into_parts().0)
        };
        assert_eq!(session(""), Ok(None));
        assert_eq!(session("?token=x"), Ok(None));
        assert!(session("?a=b&sessionId=018f4d5e-0000-7000-8000-000000000001").unwrap().is_some());
        for bad in ["?sessionId=", "?sessionId", "?sessionId=7", "?sessionId=drop%20table"] {
            assert_eq!(session(bad), Err(NoUuid), "{bad}");
        }
    }

    #[test]
    fn origins() {
        let from = |origin: &str| Offer::read(&parts(&[("origin", origin)])).unwrap();
        let allowed = ["https://chat.example".to_owned()];
        assert!(from("").may_come(&allowed));
        assert!(from("https://chat.example").may_come(&allowed));
        assert!(!from("https://evil.example").may_come(&allowed));
        assert!(!from("null").may_come(&allowed));
        assert!(from("https://evil.example").may_come(&[]));
    }
}
