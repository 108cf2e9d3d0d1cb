//! Where a request carries its token: header, subprotocol, ticket, query (protocol section 1).
//! The first one present decides; a bad one is never rescued by a good one further on.

use super::{Identity, ticket};
use crate::node::Node;
use axum::extract::Query;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use protocol::{ErrorCode, SUBPROTOCOL};

const BEARER_ENTRY: &str = "bearer.";
/// Detail of a STORE_UNAVAILABLE that comes from here.
pub const CANNOT_CHECK: &str =
    "the token or ticket cannot be checked: the issuer's keys or the store are away";

/// A credential as it was found; not checked yet. Not `Debug`, so that no log can show it.
enum Credential {
    Token(String),
    Ticket(String),
    /// There, but no token could be read from it.
    Unreadable,
}

/// Finds and checks the token of an HTTP request or an upgrade.
///
/// # Errors
/// UNAUTHENTICATED, TOKEN_EXPIRED or STORE_UNAVAILABLE.
pub async fn authenticate(node: &Node, parts: &Parts) -> Result<Identity, ErrorCode> {
    let identity = match find(parts, node.settings.auth.token_in_query) {
        Some(Credential::Token(token)) => node.admit.verify_patiently(&token).await,
        Some(Credential::Ticket(ticket)) => ticket::redeem(node, &ticket).await,
        Some(Credential::Unreadable) | None => Err(ErrorCode::Unauthenticated),
    };
    node.metrics.authenticated(&identity);
    identity
}

/// The token of an `Authorization: Bearer` header; `Some(Err)` where there is a header and no
/// such token in it.
pub fn bearer(headers: &HeaderMap) -> Option<Result<&str, ErrorCode>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let first = values.next()?;
    let token = first.to_str().ok().filter(|_| values.next().is_none());
    let token = token.and_then(|text| text.split_once(' '));
    // RFC 9110 section 11.1: the scheme is case-insensitive.
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Some(token.map(|(_, token)| token.trim()).ok_or(ErrorCode::Unauthenticated))
}

/// Entries of a header that is a comma-separated list, over all its lines; unreadable lines are
/// left out.
pub fn entries(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty())
}

fn find(parts: &Parts, token_in_query: bool) -> Option<Credential> {
    header(&parts.headers)
        .or_else(|| subprotocol(&parts.headers))
        .or_else(|| query(&parts.uri, token_in_query))
}

fn header(headers: &HeaderMap) -> Option<Credential> {
    bearer(headers).map(|found| match found {
        Ok(token) => Credential::Token(token.to_owned()),
        Err(_) => Credential::Unreadable,
    })
}

/// Of upgrades only, beside the protocol's own entry.
fn subprotocol(headers: &HeaderMap) -> Option<Credential> {
    headers.get(UPGRADE)?;
    entries(headers, SEC_WEBSOCKET_PROTOCOL).find(|entry| *entry == SUBPROTOCOL)?;
    let mut offered = entries(headers, SEC_WEBSOCKET_PROTOCOL);
    let token = offered.find_map(|entry| entry.strip_prefix(BEARER_ENTRY))?;
    Some(Credential::Token(token.to_owned()))
}

fn query(uri: &http::Uri, token_in_query: bool) -> Option<Credential> {
    uri.query()?;
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        return Some(Credential::Unreadable);
    };
    let first = |name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let ticket = first("ticket").map(Credential::Ticket);
    ticket.or_else(|| first("token").filter(|_| token_in_query).map(Credential::Token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn found(uri: &str, headers: &[(&str, &str)], token_in_query: bool) -> String {
        match find(&parts(uri, headers), token_in_query) {
            None => "nothing".to_owned(),
            Some(Credential::Token(token)) => format!("token {token}"),
            Some(Credential::Ticket(ticket)) => format!("ticket {ticket}"),
            Some(Credential::Unreadable) => "unreadable".to_owned(),
        }
    }

    #[test]
    fn the_first_place_decides() {
        let header = ("authorization", "Bearer h");
        let upgrade = ("upgrade", "websocket");
        let offer = ("sec-websocket-protocol", "chatcluster.v1, bearer.s");
        let uri = "/ws/chat?token=q&ticket=t";
        assert_eq!(found(uri, &[header, upgrade, offer], true), "token h");
        assert_eq!(found(uri, &[upgrade, offer], true), "token s");
        assert_eq!(found(uri, &[], true), "ticket t");
        assert_eq!(found("/?token=q", &[], true), "token q");
        assert_eq!(found("/?token=q", &[], false), "nothing");
        assert_eq!(found("/", &[], true), "nothing");
    }

    #[test]
    fn a_bad_header_is_not_rescued() {
        for bad in ["Basic aGk6aG8=", "Bearer", "", "bearerx y"] {
            assert_eq!(found("/?token=q", &[("authorization", bad)], true), "unreadable", "{bad}");
        }
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(found("/?token=q", &twice, true), "unreadable");
        assert_eq!(found("/", &[("authorization", "bEARER  a ")], true), "token a");
    }

    #[test]
    fn a_subprotocol_counts_on_upgrades_beside_ours_only() {
        let upgrade = ("upgrade", "websocket");
        let alone = ("sec-websocket-protocol", "bearer.s");
        assert_eq!(found("/", &[upgrade, alone], true), "nothing");
        let offer = ("sec-websocket-protocol", "bearer.s,chatcluster.v1");
        assert_eq!(found("/", &[offer], true), "nothing");
        let lines = [upgrade, ("sec-websocket-protocol", "chatcluster.v1"), alone];
        assert_eq!(found("/", &lines, true), "token s");
    }
}
