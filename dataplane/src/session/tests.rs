//! Every frame and code of protocol sections 3 to 5 against the pure machine, and the order of one
//! follow under random inputs.

use super::*;
use proptest::prelude::*;
use protocol::server_frame::{RecoveryStatus, ResetReason, Source, TakeoverMode};
use protocol::{
    Chunk, ChunkType, ConversationId, Dialect, Digest, Epoch, Index, OnDisconnect, Seal,
    SealStatus, SessionId, Usage, UserId,
};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use streamlog::{Attached, Batch, Head, Opening};
use uuid::Uuid;

const WALL: &str = "2026-01-01T00:00:00Z";
/// The token's life.
const TOKEN_MS: i64 = 600_000;

fn id(n: u128) -> MessageId {
    MessageId(Uuid::from_u128(0x018f_4d5e_0000_7000_8000_0000_0000_0000 + n))
}

fn who(user: &str, ms: i64) -> Identity {
    let start: Timestamp = WALL.parse().unwrap();
    let expires_at = Timestamp::from_millisecond(start.as_millisecond() + ms).unwrap();
    Identity { user: UserId::new(user), expires_at }
}

/// A session under test, and its clock.
struct Bench {
    session: Session,
    now_ms: u64,
}

impl Bench {
    fn new(dialect: Dialect) -> Self {
        let rules = Arc::new(Rules {
            node: NodeName::new("n1"),
            heartbeat_ms: 20_000,
            coalesce_ms: 40,
            idle_ms: 120_000,
            waiting_ms: 10_000,
            leeway_ms: 5_000,
            follows: 3,
        });
        let session = Session::new(rules, dialect, SessionId(Uuid::nil()), who("alice", TOKEN_MS));
        let mut bench = Self { session, now_ms: 1_000 };
        bench.input(Input::Opened);
        bench
    }

    fn v1() -> Self {
        Self::new(Dialect::V1)
    }

    fn basic() -> Self {
        Self::new(Dialect::Basic)
    }

    fn raw(&mut self, input: Input<'_>) -> Vec<Output> {
        let start: Timestamp = WALL.parse().unwrap();
        let wall = Timestamp::from_millisecond(start.as_millisecond() + self.now_ms as i64 - 1_000);
        let now = Now { mono_ms: self.now_ms, wall: wall.unwrap() };
        let mut out = Vec::new();
        self.session.handle(now, input, &mut out);
        out
    }

    fn input(&mut self, input: Input<'_>) -> Vec<String> {
        self.raw(input).iter().map(show).collect()
    }

    fn say(&mut self, frame: serde_json::Value) -> Vec<String> {
        self.input(Input::Text(&frame.to_string()))
    }

    fn reconnect(&mut self, n: u128, last: i64) -> Vec<String> {
        self.say(json!({"type": "RECONNECT", "messageId": id(n), "lastChunkIndex": last}))
    }

    fn cancel(&mut self, n: u128) -> Vec<String> {
        self.say(json!({"type": "CANCEL_STREAM", "messageId": id(n)}))
    }

    fn event(&mut self, follow: u32, event: Event) -> Vec<String> {
        self.input(Input::Event { follow: FollowId(follow), event: Ok(event) })
    }

    fn lost(&mut self, follow: u32, error: FollowError) -> Vec<String> {
        self.input(Input::Event { follow: FollowId(follow), event: Err(error) })
    }

    fn accepted(&mut self, n: u128, duplicate: bool) -> Vec<String> {
        self.input(Input::Accepted(Ok(Accepted {
            request_id: None,
            conversation_id: ConversationId(Uuid::nil()),
            user_message_id: id(0),
            message_id: id(n),
            duplicate,
        })))
    }

    fn cancelled(&mut self, n: u128, state: StreamState) -> Vec<String> {
        self.input(Input::Cancelled { message: Some(id(n)), result: Ok(state) })
    }

    /// Time passes until then, tick by tick.
    fn at(&mut self, ms: u64) -> Vec<String> {
        let mut all = Vec::new();
        while self.now_ms < ms {
            self.now_ms = (self.now_ms + 1_000).min(ms);
            if self.session.due_ms() <= self.now_ms {
                all.extend(self.input(Input::Tick));
            }
        }
        all
    }
}

fn short(id: MessageId) -> u128 {
    id.0.as_u128() & 0xffff
}

/// One output in a few words.
fn show(output: &Output) -> String {
    match output {
        Output::Send(frame) => show_frame(frame),
        Output::SendBatch { message, slice } => {
            format!("CHUNKS {} {}", short(*message), slice.first())
        }
        Output::Accept(request) => format!("> accept {}", request.content),
        Output::Cancel(message) => format!("> cancel {:?}", message.map(short)),
        Output::Follow { follow, message, cursor } => {
            format!("> follow {} as {} from {}", short(*message), follow.0, cursor.next)
        }
        Output::Unfollow(follow) => format!("> unfollow {}", follow.0),
        Output::ReadContent { follow, message } => {
            format!("> content {} for {}", short(*message), follow.0)
        }
        Output::Verify(token) => format!("> verify {token}"),
        Output::Ping => "> ping".to_owned(),
        Output::Close(code) => format!("> close {}", code.number()),
    }
}

fn show_frame(frame: &ServerFrame) -> String {
    let kind = frame.kind();
    match frame {
        ServerFrame::Accepted(f) => format!("{kind} {} {}", short(f.message_id), f.duplicate),
        ServerFrame::Complete(f) => {
            let content = f.content.as_deref().map(|c| format!(" {c:?}")).unwrap_or_default();
            format!("{kind} {} {:?}{content}", short(f.message_id), f.status)
        }
        ServerFrame::Recovery(f) => format!(
            "{kind} {} {:?} {}..{} live={} {}",
            short(f.message_id),
            f.status,
            f.from,
            f.tail,
            f.live,
            f.digest
        ),
        ServerFrame::Reset(f) => format!("{kind} {} {}", short(f.message_id), f.truncate_to),
        ServerFrame::Takeover(f) => format!("{kind} {} {}", short(f.message_id), f.epoch),
        ServerFrame::Status(f) => {
            let reason = f.reason.map(|r| format!(" {r}")).unwrap_or_default();
            format!("{kind} {} {:?}{reason}", short(f.message_id), f.state)
        }
        ServerFrame::Goaway(f) => format!("{kind} {} {}", f.reason, f.reconnect_after_ms),
        ServerFrame::HeartbeatAck(f) => format!("{kind} {:?}", f.t),
        ServerFrame::Error(f) => {
            let of = f.message_id.map(|m| format!(" of {}", short(m))).unwrap_or_default();
            let last = if f.last { " final" } else { "" };
            let request = f.request_id.as_ref().map(|r| format!(" request {}", r.as_str()));
            let status = f.status.map(|s| format!(" {s:?} {:?}", f.should_reconnect));
            let (request, status) = (request.unwrap_or_default(), status.unwrap_or_default());
            format!("{kind} {}{of}{request}{last}{status}", f.code)
        }
        _ => kind.to_owned(),
    }
}

fn opening(n: u128) -> Arc<Opening> {
    Arc::new(Opening {
        message: id(n),
        user: UserId::new("alice"),
        conversation: ConversationId(Uuid::nil()),
        user_message: id(0),
        request_id: None,
        content: "hi".to_owned(),
        options: protocol::ChatOptions::default(),
        on_disconnect: OnDisconnect::Continue,
        context: Vec::new(),
        started_at: WALL.parse().unwrap(),
        trace: None,
    })
}

fn seal(status: SealStatus) -> Arc<Seal> {
    Arc::new(Seal {
        status,
        finish_reason: "stop".to_owned(),
        model: "m".to_owned(),
        usage: Usage::default(),
        latency_ms: 1,
        first_token_ms: None,
        code: (status == SealStatus::Failed).then_some(ErrorCode::StreamTimeout),
    })
}

fn attached(n: u128, from: u64, sealed: Option<SealStatus>) -> Event {
    let head = Head { tail: Index(9), seal: sealed.map(seal), ..Head::opened(Epoch(2)) };
    let before = Digest::EMPTY.with(&Chunk::new(ChunkType::Text, "Hello"));
    let from = Index(from);
    let (opening, source) = (opening(n), Source::Cache);
    Event::Attached(Box::new(Attached { opening, head, from, before, source }))
}

fn batch(first: u64) -> Event {
    let chunks = vec![Chunk::new(ChunkType::Text, "x")];
    let at = WALL.parse().unwrap();
    let batch = Batch::new(Epoch(2), Index(first), at, Digest::EMPTY, chunks);
    Event::Batch(Slice::whole(Arc::new(batch)))
}

fn sealed(status: SealStatus) -> Event {
    Event::Sealed { seal: seal(status), tail: Index(9), digest: Digest::EMPTY }
}

fn reset() -> Event {
    Event::Reset { reason: ResetReason::RolledBack, epoch: Epoch(3) }
}

fn taken_over() -> Event {
    Event::TakenOver { epoch: Epoch(3), from: Index(4), mode: TakeoverMode::Continue }
}

#[test]
fn welcome_says_what_the_dialect_knows() {
    let mut v1 = Bench::v1();
    let out = v1.raw(Input::Opened);
    let [Output::Send(frame)] = &out[..] else { panic!("{out:?}") };
    let ServerFrame::Welcome(welcome) = &**frame else { panic!("{frame:?}") };
    let more = welcome.v1.as_ref().unwrap();
    assert_eq!((more.heartbeat_ms, more.coalesce_ms, more.max_content_chars), (20_000, 40, 10_000));
    assert_eq!(more.token_expires_at, who("alice", TOKEN_MS).expires_at);
    let out = Bench::basic().raw(Input::Opened);
    let [Output::Send(frame)] = &out[..] else { panic!("{out:?}") };
    assert!(matches!(&**frame, ServerFrame::Welcome(w) if w.v1.is_none()));
}

#[test]
fn a_request_is_accepted_and_followed_without_recovery() {
    let mut bench = Bench::v1();
    assert_eq!(bench.say(json!({"type": "CHAT_REQUEST", "content": "hi"})), ["> accept hi"]);
    assert_eq!(bench.accepted(1, false), ["ACCEPTED 1 false", "> follow 1 as 1 from 0"]);
    assert_eq!(bench.session.live_follows(), 1, "expected live before its follower found it");
    assert!(bench.event(1, attached(1, 0, None)).is_empty());
    assert_eq!(bench.event(1, batch(0)), ["CHUNKS 1 0"]);
    let end = bench.event(1, sealed(SealStatus::Completed));
    assert_eq!(end, ["COMPLETE 1 Completed", "> unfollow 1"]);
    assert_eq!(bench.session.live_follows(), 0);
}

#[test]
fn a_duplicate_is_followed_from_zero_and_replaces_the_old_follow() {
    let mut bench = Bench::v1();
    bench.reconnect(1, 4);
    bench.say(json!({"type": "CHAT_REQUEST", "content": "hi", "requestId": "r"}));
    let out = bench.accepted(1, true);
    assert_eq!(out, ["> unfollow 1", "ACCEPTED 1 true", "> follow 1 as 2 from 0"]);
    assert!(bench.event(1, batch(5)).is_empty(), "the old follow is silent");
    assert!(bench.event(2, attached(1, 0, None)).is_empty());
}

#[test]
fn refusals_name_their_request_and_when_to_come_again() {
    let mut bench = Bench::v1();
    bench.say(json!({"type": "CHAT_REQUEST", "content": "hi", "requestId": "r-1"}));
    let retry_after = Some(std::time::Duration::from_millis(1_500));
    let refusal = Refusal { code: ErrorCode::RateLimited, retry_after };
    let out = bench.raw(Input::Accepted(Err(refusal)));
    let [Output::Send(frame)] = &out[..] else { panic!("{out:?}") };
    let ServerFrame::Error(error) = &**frame else { panic!("{frame:?}") };
    assert_eq!((error.code, error.retry_after_ms), (ErrorCode::RateLimited, Some(1_500)));
    assert_eq!((error.retryable, error.last), (true, false));
    assert_eq!(error.request_id.as_ref().unwrap().as_str(), "r-1");
}

#[test]
fn look_ups_keep_the_order_of_their_frames() {
    let mut bench = Bench::v1();
    assert_eq!(bench.say(json!({"type": "CHAT_REQUEST", "content": "a"})), ["> accept a"]);
    assert!(bench.say(json!({"type": "CHAT_REQUEST", "content": "b"})).is_empty());
    assert!(bench.say(json!({"type": "CANCEL_STREAM"})).is_empty());
    assert_eq!(bench.say(json!({"type": "HEARTBEAT"})), ["HEARTBEAT_ACK None"], "overtakes");
    assert_eq!(bench.say(json!({"type": "NO"})), ["ERROR UNKNOWN_TYPE"], "before later frames");
    let out = bench.accepted(1, false);
    assert_eq!(out, ["ACCEPTED 1 false", "> follow 1 as 1 from 0", "> accept b"]);
    let out = bench.accepted(2, false);
    assert_eq!(out, ["ACCEPTED 2 false", "> follow 2 as 2 from 0", "> cancel Some(2)"]);
}

#[test]
fn a_client_that_asks_too_much_at_once_waits() {
    let mut bench = Bench::v1();
    for _ in 0..machine::MOST_JOBS {
        bench.cancel(1);
    }
    assert!(!bench.session.is_busy());
    bench.cancel(1);
    assert!(bench.session.is_busy());
    bench.cancelled(1, StreamState::Cancelling);
    assert!(!bench.session.is_busy());
}

#[test]
fn recovery_says_what_was_found() {
    let mut bench = Bench::v1();
    assert_eq!(bench.reconnect(1, 4), ["> follow 1 as 1 from 5"]);
    let found = bench.event(1, attached(1, 5, None));
    assert_eq!(found, ["RECOVERY 1 Recovered 5..9 live=true c88d6113"]);
    assert_eq!(bench.session.live_follows(), 1);
    bench.reconnect(2, -1);
    let found = bench.event(2, attached(2, 0, Some(SealStatus::Completed)));
    assert_eq!(found, ["RECOVERY 2 Completed 0..9 live=false c88d6113"]);
    assert_eq!(bench.session.live_follows(), 1);
}

#[test]
fn a_failed_recovery_in_both_dialects() {
    for (error, status, code) in [
        (FollowError::NotFound, RecoveryStatus::NotFound, ErrorCode::NotFound),
        (FollowError::Expired, RecoveryStatus::Expired, ErrorCode::Expired),
    ] {
        let mut v1 = Bench::v1();
        v1.reconnect(1, 4);
        let announced = format!("RECOVERY 1 {status:?} 5..0 live=false 00000000");
        let last = format!("ERROR {code} of 1 final");
        assert_eq!(v1.lost(1, error), [announced, last, "> unfollow 1".to_owned()]);
        let mut basic = Bench::basic();
        basic.reconnect(1, 4);
        let last = format!("ERROR {code} of 1 final {status:?} Some(false)");
        assert_eq!(basic.lost(1, error), [last, "> unfollow 1".to_owned()]);
    }
}

#[test]
fn text_that_goes_while_it_is_followed_ends_the_follow_without_recovery() {
    let mut bench = Bench::v1();
    bench.reconnect(1, -1);
    bench.event(1, attached(1, 0, None));
    let end = bench.lost(1, FollowError::Expired);
    assert_eq!(end, ["ERROR EXPIRED of 1 final", "> unfollow 1"]);
}

#[test]
fn events_in_v1() {
    let mut bench = Bench::v1();
    bench.reconnect(1, 3);
    bench.event(1, attached(1, 4, None));
    assert_eq!(bench.event(1, taken_over()), ["TAKEOVER 1 3"]);
    assert_eq!(bench.event(1, reset()), ["RESET 1 0"]);
    assert_eq!(bench.event(1, Event::Paused), ["STATUS 1 Paused STORE_UNAVAILABLE"]);
    assert_eq!(bench.event(1, Event::Live), ["STATUS 1 Live"]);
    let end = bench.event(1, sealed(SealStatus::Failed));
    assert_eq!(end, ["COMPLETE 1 Failed", "> unfollow 1"]);
}

#[test]
fn basic_hears_of_chunks_and_ends_only() {
    let mut bench = Bench::basic();
    assert_eq!(bench.say(json!({"type": "CHAT_REQUEST", "content": "hi"})), ["> accept hi"]);
    assert_eq!(bench.accepted(1, false), ["> follow 1 as 1 from 0"]);
    for event in [attached(1, 0, None), taken_over(), Event::Paused, Event::Live] {
        assert!(bench.event(1, event).is_empty());
    }
    assert_eq!(bench.event(1, batch(0)), ["CHUNKS 1 0"]);
    assert_eq!(bench.event(1, sealed(SealStatus::Completed)), ["> content 1 for 1"]);
    let text = Ok("x".to_owned());
    let end = bench.input(Input::Content { follow: FollowId(1), text });
    assert_eq!(end, ["COMPLETE 1 Completed \"x\"", "> unfollow 1"]);
}

#[test]
fn basic_hears_failures_and_resets_as_errors() {
    let mut bench = Bench::basic();
    bench.reconnect(1, -1);
    bench.event(1, attached(1, 0, None));
    let end = bench.event(1, sealed(SealStatus::Failed));
    assert_eq!(end, ["ERROR STREAM_TIMEOUT of 1 final", "> unfollow 1"]);
    bench.reconnect(1, 7);
    bench.event(2, attached(1, 0, None));
    assert_eq!(bench.event(2, reset()), ["ERROR RESET of 1 final", "> unfollow 2"]);
    assert!(bench.event(2, batch(0)).is_empty());
}

#[test]
fn content_that_comes_after_an_unfollow_is_dropped() {
    let mut bench = Bench::basic();
    bench.reconnect(1, -1);
    bench.event(1, attached(1, 0, None));
    bench.event(1, sealed(SealStatus::Completed));
    let unfollow = json!({"type": "UNFOLLOW", "messageId": id(1)});
    assert_eq!(bench.say(unfollow), ["> unfollow 1"]);
    assert!(
        bench.input(Input::Content { follow: FollowId(1), text: Ok(String::new()) }).is_empty()
    );
}

#[test]
fn a_reconnect_silently_replaces_and_an_unfollow_silently_ends() {
    let mut bench = Bench::v1();
    bench.reconnect(1, -1);
    bench.event(1, attached(1, 0, None));
    assert_eq!(bench.reconnect(1, 2), ["> unfollow 1", "> follow 1 as 2 from 3"]);
    for event in [batch(0), reset(), sealed(SealStatus::Completed)] {
        assert!(bench.event(1, event).is_empty(), "of the old follow");
    }
    assert_eq!(bench.event(2, batch(3)), ["CHUNKS 1 3"]);
    let unfollow = json!({"type": "UNFOLLOW", "messageId": id(1)});
    assert_eq!(bench.say(unfollow.clone()), ["> unfollow 2"]);
    assert!(bench.event(2, sealed(SealStatus::Completed)).is_empty());
    assert!(bench.say(unfollow).is_empty(), "twice is no error");
}

#[test]
fn follows_have_a_bound() {
    let mut bench = Bench::v1();
    for n in 1..=3 {
        bench.reconnect(n, -1);
    }
    let recovery = "RECOVERY 4 Error 0..0 live=false 00000000";
    assert_eq!(bench.reconnect(4, -1), [recovery, "ERROR RATE_LIMITED of 4 final"]);
    assert_eq!(bench.reconnect(3, 0), ["> unfollow 3", "> follow 3 as 5 from 1"]);
    let request = json!({"type": "CHAT_REQUEST", "content": "hi", "requestId": "r"});
    assert_eq!(bench.say(request), ["ERROR RATE_LIMITED request r"]);
}

#[test]
fn cancel_names_a_message_or_the_newest_live_one() {
    let mut bench = Bench::v1();
    assert_eq!(bench.cancel(7), ["> cancel Some(7)"]);
    assert_eq!(bench.cancelled(7, StreamState::Sealed), ["STATUS 7 Sealed"]);
    for n in [2, 1] {
        bench.reconnect(n, -1);
        bench.event(if n == 2 { 1 } else { 2 }, attached(n, 0, None));
    }
    let newest = json!({"type": "CANCEL_STREAM"});
    assert_eq!(bench.say(newest.clone()), ["> cancel Some(2)"]);
    assert_eq!(bench.cancelled(2, StreamState::Cancelling), ["STATUS 2 Cancelling"]);
    bench.event(1, sealed(SealStatus::Cancelled));
    assert_eq!(bench.say(newest.clone()), ["> cancel Some(1)"]);
    bench.cancelled(1, StreamState::Cancelling);
    bench.event(2, sealed(SealStatus::Cancelled));
    assert_eq!(bench.say(newest), ["> cancel None"], "the node may know one");
    let nothing = Err(ErrorCode::NotFound.into());
    let out = bench.input(Input::Cancelled { message: None, result: nothing });
    assert_eq!(out, ["ERROR NOT_FOUND"]);
}

#[test]
fn cancel_in_basic_is_silent_unless_it_fails() {
    let mut bench = Bench::basic();
    bench.cancel(1);
    assert!(bench.cancelled(1, StreamState::Cancelling).is_empty());
    bench.cancel(2);
    let result = Err(ErrorCode::NotFound.into());
    let out = bench.input(Input::Cancelled { message: Some(id(2)), result });
    assert_eq!(out, ["ERROR NOT_FOUND of 2"]);
}

#[test]
fn the_answer_to_cancel_comes_before_the_end() {
    let mut bench = Bench::v1();
    bench.reconnect(1, -1);
    bench.event(1, attached(1, 0, None));
    bench.cancel(1);
    bench.cancel(1);
    assert!(bench.event(1, sealed(SealStatus::Cancelled)).is_empty());
    let first = bench.cancelled(1, StreamState::Cancelling);
    assert_eq!(first, ["STATUS 1 Cancelling", "> cancel Some(1)"]);
    let second = bench.cancelled(1, StreamState::Sealed);
    assert_eq!(second, ["STATUS 1 Sealed", "COMPLETE 1 Cancelled", "> unfollow 1"]);
}

#[test]
fn tool_results_are_reserved() {
    let frame = json!({"type": "TOOL_RESULT", "messageId": id(1), "callId": "c", "output": "o"});
    assert_eq!(Bench::v1().say(frame), ["ERROR NOT_FOUND of 1"]);
}

#[test]
fn a_token_is_replaced_by_one_of_the_same_user_only() {
    let mut bench = Bench::v1();
    let auth = json!({"type": "AUTH", "token": "t"});
    assert_eq!(bench.say(auth), ["> verify t"]);
    let better = Ok(who("alice", 900_000));
    assert_eq!(bench.input(Input::Authenticated(better)), ["WELCOME"]);
    assert_eq!(bench.session.identity(), &who("alice", 900_000));
    for (result, code) in [
        (Ok(who("bob", 999_000)), "FORBIDDEN"),
        (Err(ErrorCode::Unauthenticated), "UNAUTHENTICATED"),
        (Err(ErrorCode::TokenExpired), "TOKEN_EXPIRED"),
    ] {
        assert_eq!(bench.input(Input::Authenticated(result)), [format!("ERROR {code}")]);
        assert_eq!(bench.session.identity(), &who("alice", 900_000));
    }
}

#[test]
fn heartbeats_are_echoed() {
    let mut bench = Bench::basic();
    let t = json!({"type": "HEARTBEAT", "data": {"t": [1]}});
    assert_eq!(bench.say(t), ["HEARTBEAT_ACK Some(Array [Number(1)])"]);
}

#[test]
fn bad_frames_are_answered_and_too_many_close() {
    let mut bench = Bench::v1();
    assert_eq!(bench.input(Input::Text("{")), ["ERROR INVALID_JSON"]);
    assert_eq!(bench.say(json!({"type": "X"})), ["ERROR UNKNOWN_TYPE"]);
    assert_eq!(bench.input(Input::Binary), ["ERROR INVALID_MESSAGE"]);
    let named = json!({"type": "CHAT_REQUEST", "content": "", "requestId": "r"});
    assert_eq!(bench.say(named), ["ERROR INVALID_MESSAGE request r"]);
    for _ in 4..20 {
        assert_eq!(bench.say(json!({"type": "X"})), ["ERROR UNKNOWN_TYPE"]);
    }
    assert_eq!(bench.say(json!({"type": "X"})), ["ERROR UNKNOWN_TYPE", "> close 4502"]);
    assert!(bench.say(json!({"type": "HEARTBEAT"})).is_empty(), "nothing follows a close");
}

#[test]
fn bad_frames_that_come_slowly_are_forgiven() {
    let mut bench = Bench::v1();
    for n in 0..100 {
        bench.now_ms = 1_000 + n * 500;
        assert_eq!(bench.say(json!({"type": "X"})), ["ERROR UNKNOWN_TYPE"]);
    }
}

#[test]
fn silence_of_the_client() {
    let mut bench = Bench::v1();
    assert_eq!(bench.at(60_000), [""; 0]);
    assert_eq!(bench.at(61_000), ["> ping"]);
    bench.input(Input::Seen);
    assert_eq!(bench.at(121_000), ["> ping"], "the pong counted");
    assert_eq!(bench.at(181_000), ["> close 1001"]);
}

#[test]
fn the_token_ends() {
    for (mut bench, warning) in [(Bench::v1(), vec!["TOKEN_EXPIRING"]), (Bench::basic(), vec![])] {
        let alive = |bench: &mut Bench, until: u64| {
            let mut said = Vec::new();
            while bench.now_ms < until {
                let next = (bench.now_ms + 30_000).min(until);
                said.extend(bench.at(next));
                bench.input(Input::Seen);
            }
            said
        };
        assert_eq!(alive(&mut bench, 540_000), [""; 0]);
        assert_eq!(alive(&mut bench, 541_000), warning);
        assert_eq!(alive(&mut bench, 605_000), [""; 0], "leeway");
        assert_eq!(alive(&mut bench, 606_000), ["> close 4001"]);
    }
}

#[test]
fn silence_of_the_upstream_is_told_every_ten_seconds() {
    let mut bench = Bench::v1();
    bench.reconnect(1, -1);
    bench.event(1, attached(1, 0, None));
    assert_eq!(bench.at(10_000), [""; 0]);
    assert_eq!(bench.at(11_000), ["STATUS 1 Waiting"]);
    assert_eq!(bench.at(21_000), ["STATUS 1 Waiting"]);
    bench.now_ms = 25_000;
    bench.event(1, batch(0));
    assert_eq!(bench.at(34_000), [""; 0]);
    assert_eq!(bench.at(35_000), ["STATUS 1 Waiting"]);
    bench.event(1, Event::Paused);
    assert_eq!(bench.at(55_000), [""; 0], "nobody knows whether the upstream is silent");
}

#[test]
fn going_away() {
    let goaway = |reason| Control::Goaway { reason, deadline_ms: 5_000, reconnect_after_ms: 700 };
    for (dialect, reason, frames, code) in [
        (Dialect::V1, "drain", vec!["GOAWAY drain 700"], 4000),
        (Dialect::V1, "rebalance", vec!["GOAWAY rebalance 700"], 4002),
        (Dialect::Basic, "drain", vec![], 1012),
        (Dialect::Basic, "rebalance", vec![], 1012),
    ] {
        let mut bench = Bench::new(dialect);
        assert_eq!(bench.input(Input::Control(goaway(reason))), frames);
        assert_eq!(bench.at(5_000), [""; 0]);
        assert_eq!(bench.at(6_000), [format!("> close {code}")]);
        let close = Control::Close(CloseCode::Drained);
        let expected = if dialect == Dialect::V1 { "> close 4000" } else { "> close 1012" };
        assert_eq!(Bench::new(dialect).input(Input::Control(close)), [expected]);
    }
}

/// What a random client, node and follower do.
#[derive(Clone, Debug)]
enum Step {
    Reconnect(u128),
    Unfollow(u128),
    Request,
    Answer { n: u128, good: bool },
    Cancel(Option<u128>),
    Event { follow: u32, kind: u8 },
    Content { follow: u32, good: bool },
    Sleep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let message = 1_u128..5;
    prop_oneof![
        2 => message.clone().prop_map(Step::Reconnect),
        1 => message.clone().prop_map(Step::Unfollow),
        1 => Just(Step::Request),
        2 => (message.clone(), any::<bool>()).prop_map(|(n, good)| Step::Answer { n, good }),
        1 => proptest::option::of(message).prop_map(Step::Cancel),
        8 => (1_u32..12, 0_u8..9).prop_map(|(follow, kind)| Step::Event { follow, kind }),
        2 => (1_u32..12, any::<bool>()).prop_map(|(follow, good)| Step::Content { follow, good }),
        1 => (0_u64..15_000).prop_map(Step::Sleep),
    ]
}

/// Watches one session: which follows are open, and what followers may still say.
#[derive(Default)]
struct Watcher {
    open: HashMap<u128, bool>,
    of: HashMap<u32, u128>,
    attached: HashMap<u32, bool>,
    ended: HashMap<u32, bool>,
    question: Option<Option<u128>>,
}

impl Watcher {
    fn frame(&mut self, frame: &ServerFrame) -> Result<(), TestCaseError> {
        let (of, last) = match frame {
            ServerFrame::Accepted(f) => {
                self.open.insert(short(f.message_id), true);
                return Ok(());
            }
            ServerFrame::Recovery(f) => (f.message_id, false),
            ServerFrame::Takeover(f) => (f.message_id, false),
            ServerFrame::Reset(f) => (f.message_id, false),
            ServerFrame::Complete(f) => (f.message_id, true),
            ServerFrame::Error(f) if f.last => (f.message_id.unwrap(), true),
            ServerFrame::Status(f) => match f.state {
                StreamState::Cancelling | StreamState::Sealed => return Ok(()),
                _ => (f.message_id, false),
            },
            _ => return Ok(()),
        };
        let open = self.open.entry(short(of)).or_default();
        prop_assert!(*open, "nothing may follow the end: {frame:?}");
        *open = !last;
        Ok(())
    }

    fn watch(&mut self, basic: bool, out: &[Output]) -> Result<(), TestCaseError> {
        for output in out {
            match output {
                Output::Send(frame) => {
                    let known = matches!(frame.kind(), "WELCOME" | "COMPLETE" | "ERROR");
                    prop_assert!(!basic || known, "{frame:?} in basic");
                    self.frame(frame)?;
                }
                Output::SendBatch { message, .. } => {
                    prop_assert!(self.open.get(&short(*message)) == Some(&true), "{output:?}");
                }
                Output::Follow { follow, message, .. } => {
                    self.of.insert(follow.0, short(*message));
                    if basic {
                        self.open.insert(short(*message), true);
                    }
                }
                Output::Accept(_) => self.question = Some(None),
                Output::Cancel(message) => self.question = Some(message.map(short).or(Some(1))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Only what a follower can say: attached first, nothing after its end.
    fn event(&mut self, follow: u32, kind: u8) -> Option<Result<Event, FollowError>> {
        let n = *self.of.get(&follow)?;
        if self.ended.contains_key(&follow) {
            return None;
        }
        let known = self.attached.contains_key(&follow);
        let event = match kind {
            0 if !known => {
                self.attached.insert(follow, true);
                attached(n, 0, None)
            }
            1 if known => batch(0),
            2 if known => taken_over(),
            3 if known => reset(),
            4 => Event::Paused,
            5 => Event::Live,
            6 | 7 if known => {
                self.ended.insert(follow, true);
                sealed(if kind == 6 { SealStatus::Completed } else { SealStatus::Failed })
            }
            8 => {
                self.ended.insert(follow, true);
                return Some(Err(FollowError::NotFound));
            }
            _ => return None,
        };
        Some(Ok(event))
    }
}

proptest! {
    #[test]
    fn no_input_breaks_the_order_of_a_follow(
        basic in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut bench = if basic { Bench::basic() } else { Bench::v1() };
        let mut watcher = Watcher::default();
        for step in steps {
            let out = match step {
                Step::Reconnect(n) => {
                    watcher.open.insert(n, true);
                    let text = json!({"type": "RECONNECT", "messageId": id(n)}).to_string();
                    bench.raw(Input::Text(&text))
                }
                Step::Unfollow(n) => {
                    watcher.open.insert(n, false);
                    let text = json!({"type": "UNFOLLOW", "messageId": id(n)}).to_string();
                    bench.raw(Input::Text(&text))
                }
                Step::Request => {
                    bench.raw(Input::Text(r#"{"type":"CHAT_REQUEST","content":"x"}"#))
                }
                Step::Cancel(n) => {
                    let text = json!({"type": "CANCEL_STREAM", "messageId": n.map(id)}).to_string();
                    bench.raw(Input::Text(&text))
                }
                Step::Answer { n, good } => match watcher.question.take() {
                    None => Vec::new(),
                    Some(None) if good => {
                        if basic {
                            watcher.open.insert(n, true);
                        }
                        let accepted = Accepted {
                            request_id: None,
                            conversation_id: ConversationId(Uuid::nil()),
                            user_message_id: id(0),
                            message_id: id(n),
                            duplicate: true,
                        };
                        bench.raw(Input::Accepted(Ok(accepted)))
                    }
                    Some(None) => bench.raw(Input::Accepted(Err(ErrorCode::AtCapacity.into()))),
                    Some(Some(n)) => {
                        let result = Ok(StreamState::Cancelling);
                        bench.raw(Input::Cancelled { message: Some(id(n)), result })
                    }
                },
                Step::Event { follow, kind } => match watcher.event(follow, kind) {
                    Some(event) => bench.raw(Input::Event { follow: FollowId(follow), event }),
                    None => Vec::new(),
                },
                Step::Content { follow, good } => {
                    let asked = watcher.ended.contains_key(&follow) && basic;
                    let text = if good { Ok("x".to_owned()) } else { Err(FollowError::Expired) };
                    let input = Input::Content { follow: FollowId(follow), text };
                    if asked { bench.raw(input) } else { Vec::new() }
                }
                Step::Sleep(ms) => {
                    bench.now_ms += ms;
                    // Not for so long that the client is given up.
                    bench.raw(Input::Seen);
                    bench.raw(Input::Tick)
                }
            };
            watcher.watch(basic, &out)?;
        }
    }
}
