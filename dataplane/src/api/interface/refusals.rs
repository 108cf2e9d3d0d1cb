//! Which codes an operation answers with, as the responses of its documentation: one list an
//! operation, grouped by status, each in the one form of an error (RFC 9457).

use crate::api::PROBLEM_JSON;
use protocol::ErrorCode;
use protocol::http::Problem;
use std::collections::BTreeMap;
use utoipa::openapi::header::Header;
use utoipa::openapi::{
    AllOfBuilder, Content, Object, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Schema,
    Type,
};
use utoipa::{IntoResponses, ToSchema};

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $($code:ident)+;)+) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    // Any handler may meet a bug.
                    responses(&[$(ErrorCode::$code,)+ ErrorCode::Internal])
                }
            }
        )+
    };
}

refusals! {
    /// Of `GET /ws/chat`, before the upgrade.
    OfUpgrade: InvalidMessage Unauthenticated TokenExpired Forbidden AtCapacity Draining
        StoreUnavailable;
    /// Of a ticket.
    OfTicket: Unauthenticated TokenExpired RateLimited StoreUnavailable;
    /// Of what only needs to know the user.
    OfUser: Unauthenticated TokenExpired StoreUnavailable;
    /// Of a request for an answer.
    OfRequest: InvalidJson InvalidMessage Unauthenticated TokenExpired NotFound PayloadTooLarge
        RateLimited AtCapacity Draining StoreUnavailable;
    /// Of a message.
    OfMessage: InvalidMessage Unauthenticated TokenExpired NotFound Expired StoreUnavailable;
    /// Of following a message over SSE.
    OfStream: InvalidMessage Unauthenticated TokenExpired NotFound Expired RateLimited
        StoreUnavailable;
    /// Of the readiness probe.
    OfReadiness: Draining StoreUnavailable;
    /// Of what an operator reads.
    OfOperator: Unauthenticated StoreUnavailable;
    /// Of a drain.
    OfDrain: InvalidJson InvalidMessage Unauthenticated PayloadTooLarge StaleEpoch;
    /// Of calling a drain off.
    OfCallOff: InvalidMessage Unauthenticated StaleEpoch Draining;
    /// Of what an operator tells a session.
    OfSession: InvalidJson InvalidMessage Unauthenticated NotFound PayloadTooLarge StoreUnavailable;
    /// Of a broadcast.
    OfBroadcast: InvalidJson InvalidMessage Unauthenticated PayloadTooLarge StoreUnavailable;
}

fn responses(codes: &[ErrorCode]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<u16, Vec<ErrorCode>>::new();
    for code in codes {
        by_status.entry(code.http_status()).or_default().push(*code);
    }
    let responses = by_status.into_iter();
    responses.map(|(status, codes)| (status.to_string(), response(status, &codes).into())).collect()
}

fn response(status: u16, codes: &[ErrorCode]) -> Response {
    let told = codes.iter().map(|code| format!("{code}: {}", code.text()));
    let content = Content::new(Some(problem_of(codes)));
    let mut response = ResponseBuilder::new()
        .description(told.collect::<Vec<_>>().join("; "))
        .content(PROBLEM_JSON, content);
    if matches!(status, 429 | 503) {
        let seconds = Header::new(Object::with_type(Type::Integer));
        response = response.header("Retry-After", seconds);
    }
    if status == 401 {
        response =
            response.header("WWW-Authenticate", Header::new(Object::with_type(Type::String)));
    }
    response.build()
}

/// A problem with one of these codes.
fn problem_of(codes: &[ErrorCode]) -> RefOr<Schema> {
    let names = codes.iter().map(|code| code.as_str());
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    let one_of = ObjectBuilder::new().property("code", code).required("code");
    AllOfBuilder::new().item(Ref::from_schema_name(Problem::name())).item(one_of).into()
}
