//! An owner dies while a real provider answers: the text goes on in the middle of a word where the
//! provider can be given a beginning, and begins again where it cannot.

use super::device::{Seen, ask, fleet, openai, settings};
use super::server::{Request, Server, Step, anthropic_text, delta, event, finish, text};
use crate::playground::{Dev, request};
use client::transcript::Allowed;
use dataplane::playground::{Fleet, FleetOptions, Kind};
use protocol::server_frame::TakeoverMode;
use protocol::settings::{ContinueBy, Provider, ProviderKind};
use protocol::{ChunkType, ErrorCode, SealStatus};
use serde_json::json;
use std::time::Duration;

/// Between two pieces of an answer.
const GAP: Duration = Duration::from_millis(8);
/// Characters of a piece.
const PIECE: usize = 5;
/// Owners die somewhere after so many characters: within the code.
const DEATH: usize = 150;

/// An answer whose middle is code, with blanks where a cut may fall.
fn whole() -> String {
    let code: String = (0..40).map(|n| format!("    let x{n} = \"ä {n}\";\n")).collect();
    format!("Grüße, here it is: \n\n```rust\nfn a() {{\n{code}}}\n```\nThat was  `a`.\n")
}

fn code() -> String {
    let whole = whole();
    let (_, rest) = whole.split_at(whole.find("```").unwrap());
    rest[..rest.rfind("```\n").unwrap() + 4].to_owned()
}

/// What is still to be said, piece by piece; `echo`: the beginning once more.
fn rest(request: &Request, echo: bool) -> Vec<String> {
    let whole = whole();
    let said = request.prefix().unwrap_or_default();
    assert!(whole.starts_with(said), "it is given what was said: {said:?}");
    assert_eq!(said.trim_end(), said, "without blanks at its end");
    let rest: Vec<char> = whole[if echo { 0 } else { said.len() }..].chars().collect();
    rest.chunks(PIECE).map(|piece| piece.iter().collect()).collect()
}

fn paced(steps: impl Iterator<Item = Step>) -> Vec<Step> {
    steps.flat_map(|step| [step, Step::Wait(GAP)]).collect()
}

async fn openai_server(echo: bool) -> Server {
    Server::start(move |request, _| {
        let pieces = paced(rest(request, echo).iter().map(|piece| text(piece)));
        [vec![Step::Head], pieces, finish("stop")].concat()
    })
    .await
}

/// Two nodes; the owner dies when the device has seen enough, once.
async fn survived(fleet: &Fleet, enough: usize) -> Seen {
    // A lease and a bit: then the other node is trusted with takeovers.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let mut killed = false;
    ask(fleet, request("hello"), async |_, text| {
        if !killed && text.chars().count() >= enough {
            killed = true;
            fleet.kill(0).await;
        }
    })
    .await
}

#[track_caller]
fn assert_whole(seen: &Seen, mode: TakeoverMode) {
    seen.assert_clean(Allowed { restarted: mode == TakeoverMode::Restart, ..Allowed::default() });
    assert_eq!(seen.content(), whole());
    assert_eq!(seen.of(ChunkType::Code), code(), "a successor knows that it writes code");
    assert_eq!(seen.complete.status, SealStatus::Completed);
    assert_eq!(seen.takeovers, [mode]);
    assert_eq!(seen.resets, usize::from(mode == TakeoverMode::Restart));
}

#[tokio::test]
async fn a_successor_goes_on_in_the_middle_of_the_text() {
    for (continues, echo) in [
        (ContinueBy::Prefill, false),
        (ContinueBy::FinalMessage, false),
        (ContinueBy::FinalMessage, true),
        (ContinueBy::Prefix, true),
    ] {
        let server = openai_server(echo).await;
        let provider = Provider { continues, ..openai("main", &server) };
        let fleet = fleet(2, settings(vec![provider])).await;
        let seen = survived(&fleet, DEATH).await;
        assert_whole(&seen, TakeoverMode::Continue);
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        assert!(requests[1].prefix().unwrap().chars().count() > 100, "{continues:?}");
        let calls = fleet.calls();
        assert_eq!(calls[1].from.0 + calls[1].chunks, seen.transcript.tail().0, "{calls:?}");
    }
}

#[tokio::test]
async fn anthropic_goes_on_after_a_prefill() {
    let server = Server::start(|request, _| {
        let usage = json!({"input_tokens": 1});
        let begin = json!({"type": "message_start", "message": {"model": "m", "usage": usage}});
        let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}});
        let pieces = paced(rest(request, false).iter().map(|piece| anthropic_text(piece)));
        let end = vec![event(&end), event(&json!({"type": "message_stop"})), Step::End];
        [vec![Step::Head, event(&begin)], pieces, end].concat()
    })
    .await;
    let provider = Provider {
        kind: ProviderKind::Anthropic,
        url: format!("http://{}", server.address),
        model: "m".to_owned(),
        continues: ContinueBy::Prefill,
        ..openai("main", &server)
    };
    let fleet = fleet(2, settings(vec![provider])).await;
    assert_whole(&survived(&fleet, DEATH).await, TakeoverMode::Continue);
}

#[tokio::test]
async fn a_provider_that_cannot_go_on_begins_again() {
    let server = openai_server(false).await;
    let fleet = fleet(2, settings(vec![openai("main", &server)])).await;
    assert_whole(&survived(&fleet, DEATH).await, TakeoverMode::Restart);
    assert!(server.requests().iter().all(|request| request.prefix().is_none()));
}

/// An answer that begins with something that is no text.
async fn after(first: serde_json::Value) -> (Server, Seen) {
    let first = Step::Send(delta(&first));
    let server = Server::start(move |request, _| {
        let pieces = paced(rest(request, false).iter().map(|piece| text(piece)));
        [vec![Step::Head, first.clone()], pieces, finish("stop")].concat()
    })
    .await;
    let continues = ContinueBy::FinalMessage;
    let provider = Provider { continues, ..openai("main", &server) };
    let fleet = fleet(2, settings(vec![provider])).await;
    let seen = survived(&fleet, DEATH).await;
    (server, seen)
}

#[tokio::test]
async fn thoughts_cannot_be_gone_on_with_so_that_the_answer_begins_again() {
    let (server, seen) = after(json!({"reasoning_content": "hm"})).await;
    assert_whole(&seen, TakeoverMode::Restart);
    assert_eq!(seen.of(ChunkType::Thinking), "hm");
    assert_eq!(server.requests()[1].prefix(), None);
}

#[tokio::test]
async fn an_answer_that_called_a_tool_is_neither_gone_on_with_nor_asked_for_twice() {
    let call = json!({"index": 0, "id": "c", "function": {"name": "pay", "arguments": "{}"}});
    let (server, seen) = after(json!({"tool_calls": [call]})).await;
    seen.assert_clean(Allowed { interrupted: true, ..Allowed::default() });
    assert_eq!(seen.complete.code, Some(ErrorCode::Interrupted));
    assert_eq!((seen.takeovers.as_slice(), seen.resets), (&[TakeoverMode::Fail][..], 0));
    assert!(whole().starts_with(&seen.content()) && !seen.content().is_empty());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_process_over_redis_goes_on_for_another_one() {
    let server = openai_server(false).await;
    let continues = ContinueBy::FinalMessage;
    let provider = Provider { continues, ..openai("main", &server) };
    let program = env!("CARGO_BIN_EXE_dataplane").into();
    let mut options = FleetOptions {
        nodes: 2,
        kind: Kind::Processes { program, redis: true },
        settings: settings(vec![provider]),
        ..FleetOptions::default()
    };
    options.provider_keys.insert("main", "hunter2".to_owned());
    client::token::install_crypto();
    let dev = Dev::with(options).await;
    assert_whole(&survived(&dev.fleet, DEATH).await, TakeoverMode::Continue);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let keyed = |request: &Request| request.head.contains("authorization: Bearer hunter2\r\n");
    assert!(requests.iter().all(keyed), "each process has the key");
    assert_eq!(dev.fleet.calls().len(), 2);
}
