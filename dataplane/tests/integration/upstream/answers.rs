//! Whole answers of real providers through a node: what its clients, its operators and its logs see.

use super::device::{self, Seen, ask, fleet, nothing, openai, settings};
use super::server::{Server, Step, answer, delta, finish, refuse, text};
use crate::fixture::KEY;
use crate::fixture::started;
use crate::playground::{eventually, request};
use clap::Parser;
use client::api::Api;
use client::transcript::Allowed;
use dataplane::playground::{Args, Fleet, FleetOptions, Ports};
use protocol::http::MessageStatus;
use protocol::settings::{ContinueBy, Provider};
use protocol::{ChatRequest, ChunkType, ErrorCode, SealStatus, Settings, Usage};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;
use streamlog::Clock;
use tokio::time::Instant;

async fn one(settings: Settings) -> Fleet {
    fleet(1, settings).await
}

/// The answer of a node whose provider behaves like this.
async fn of(steps: Vec<Step>, change: impl FnOnce(&mut Settings)) -> (Seen, Fleet) {
    let server = Server::always(steps).await;
    let mut settings = settings(vec![openai("main", &server)]);
    change(&mut settings);
    let fleet = one(settings).await;
    (ask(&fleet, request("hello"), nothing).await, fleet)
}

fn failed(seen: &Seen) -> ErrorCode {
    seen.assert_clean(Allowed { failed: true, ..Allowed::default() });
    assert_eq!(seen.complete.status, SealStatus::Failed);
    seen.complete.code.unwrap()
}

#[tokio::test]
async fn an_answer_is_complete_to_the_last_character() {
    let whole = "Héllo 🎉\n```rust\nfn a() {}\n```\nand ``so`` on";
    let mut body = Vec::new();
    for piece in whole.chars().collect::<Vec<_>>().chunks(3) {
        body.extend(delta(&json!({"content": piece.iter().collect::<String>()})));
    }
    body.extend(delta(&json!({"tool_calls": [{
        "index": 0, "id": "c1", "function": {"name": "search", "arguments": "{\"q\":1}"},
    }]})));
    let pieces = body.chunks(11).map(|piece| Step::Send(piece.to_vec()));
    let thought = Step::Send(delta(&json!({"reasoning_content": "hm"})));
    let begin = [Step::Head, thought];
    let steps = begin.into_iter().chain(pieces).chain(finish("tool_calls")).collect();
    let (seen, fleet) = of(steps, |_| {}).await;
    seen.assert_clean(Allowed::default());
    assert_eq!(seen.content(), whole);
    assert_eq!(seen.of(ChunkType::Thinking), "hm");
    assert_eq!(seen.of(ChunkType::Code), "```rust\nfn a() {}\n```\n");
    assert_eq!(seen.of(ChunkType::ToolUse), "{\"q\":1}");
    let complete = &seen.complete;
    let usage = Usage { prompt_tokens: 11, completion_tokens: 22 };
    assert_eq!((complete.status, complete.usage), (SealStatus::Completed, usage));
    let told = (complete.finish_reason.as_str(), complete.model.as_str());
    assert_eq!(told, ("tool_use", "test-model"));
    let calls = fleet.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0].chunks, calls[0].end.as_deref()),
        (seen.transcript.tail().0, Some("tool_use"))
    );
}

#[tokio::test]
async fn an_answer_comes_as_fast_as_its_provider_sends_it() {
    let pieces = (0..150).flat_map(|_| [text("word "), Step::Wait(Duration::from_millis(4))]);
    let steps = [Step::Head].into_iter().chain(pieces).chain(finish("stop")).collect();
    let (seen, _fleet) = of(steps, |_| {}).await;
    assert_eq!(seen.transcript.tail().0, 150);
    // At most one piece a window would take 6 s.
    assert!(seen.complete.latency_ms < 3_000, "{} ms", seen.complete.latency_ms);
}

#[tokio::test]
async fn the_next_request_of_a_conversation_carries_the_last_answer() {
    let server = Server::start(|_, n| answer(&[["first", "second"][n], " answer"])).await;
    let fleet = one(settings(vec![openai("main", &server)])).await;
    let first = ask(&fleet, request("one"), nothing).await;
    let conversation_id = Some(first.complete.conversation_id);
    ask(&fleet, ChatRequest { conversation_id, ..request("two") }, nothing).await;
    let requests = server.requests();
    let said = requests.iter().map(|request| request.body["messages"].clone());
    let expected = [
        json!([{"role": "user", "content": "one"}]),
        json!([
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "first answer"},
            {"role": "user", "content": "two"},
        ]),
    ];
    assert_eq!(said.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_goes_wrong_has_its_code_and_keeps_the_text() {
    let down = of(refuse(500, "", &json!({})), |_| {}).await.0;
    assert_eq!(failed(&down), ErrorCode::UpstreamUnavailable);
    let busy = of(refuse(429, "retry-after: 60\r\n", &json!({})), |_| {}).await.0;
    assert_eq!(failed(&busy), ErrorCode::UpstreamUnavailable);
    let too_long = json!({"error": {"code": "context_length_exceeded"}});
    let refused = of(refuse(400, "", &too_long), |_| {}).await.0;
    assert_eq!(failed(&refused), ErrorCode::UpstreamError);
    let filtered = of([vec![Step::Head], finish("content_filter")].concat(), |_| {}).await.0;
    assert_eq!(failed(&filtered), ErrorCode::UpstreamError);
    let broken = of(vec![Step::Head, text("so "), text("far"), Step::Reset], |_| {}).await.0;
    assert_eq!(
        (failed(&broken), broken.content().as_str()),
        (ErrorCode::UpstreamUnavailable, "so far")
    );
}

#[tokio::test]
async fn a_slow_or_silent_provider_meets_the_owners_bounds() {
    let patient = |settings: &mut Settings| {
        settings.stream.first_token_ms = 300;
        settings.stream.silence_ms = 400;
    };
    let slow = vec![Step::Head, Step::Wait(Duration::from_secs(20))];
    let before = Instant::now();
    assert_eq!(failed(&of(slow, patient).await.0), ErrorCode::StreamTimeout);
    let (silent, _fleet) = of(vec![Step::Head, text("so far"), Step::Silence], patient).await;
    assert_eq!((failed(&silent), silent.content().as_str()), (ErrorCode::StreamTimeout, "so far"));
    let endless = |settings: &mut Settings| settings.stream.total_ms = 900;
    let drops = (0..400).flat_map(|_| [text("x"), Step::Wait(Duration::from_millis(50))]);
    let (long, _fleet) = of([Step::Head].into_iter().chain(drops).collect(), endless).await;
    assert_eq!(failed(&long), ErrorCode::StreamTimeout);
    assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_cancel_ends_the_call_even_before_its_first_token() {
    for steps in [vec![Step::Silence], vec![Step::Head, text("so far"), Step::Silence]] {
        let server = Server::always(steps).await;
        let fleet = one(settings(vec![openai("main", &server)])).await;
        let (http, token) = (client::api::http_client().unwrap(), fleet.token("alice"));
        let api = Api::new(http, &fleet.node_urls()[0], &token);
        let message = started(&api, &request("hello")).await.message_id;
        eventually(async || server.requests().len() == 1).await;
        let before = Instant::now();
        api.cancel(message).await.unwrap();
        eventually(async || server.hangups() == 1).await;
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
        eventually(async || fleet.calls()[0].end.as_deref() == Some("dropped")).await;
    }
}

#[tokio::test]
async fn a_node_fails_over_before_the_first_token_and_stops_asking_who_breaks_off() {
    let dying = Server::always(vec![Step::Head, text("so "), Step::Reset]).await;
    let spare = Server::always(answer(&["yes"])).await;
    let fleet = one(settings(vec![openai("main", &dying), openai("spare", &spare)])).await;
    let texts = async |count: usize| {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(ask(&fleet, request("hello"), nothing).await.content());
        }
        texts
    };
    assert_eq!(texts(5).await, ["so "; 5]);
    assert_eq!(texts(3).await, ["yes"; 3], "the breaker is open");
    assert_eq!((dying.requests().len(), spare.requests().len()), (5, 3));
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: Args,
}

#[tokio::test]
async fn a_playground_asks_the_url_it_is_given() {
    let server = Server::always(answer(&["yes"])).await;
    let url = format!("--upstream-url={}/", server.url());
    let line = ["playground", "--nodes=1", &url, "--upstream-model=m"];
    let args = Program::parse_from(line).args;
    let key = |name: &str| (name == "CHAT_UPSTREAM_KEY").then(|| "hunter2".into());
    let options = FleetOptions { ports: Ports::Ephemeral, ..args.fleet(&key).unwrap() };
    client::token::install_crypto();
    let fleet = Fleet::start(options).await.unwrap();
    assert_eq!(ask(&fleet, request("hello"), nothing).await.content(), "yes");
    let request = &server.requests()[0];
    assert_eq!(
        (request.path.as_str(), &request.body["model"]),
        ("/v1/chat/completions", &json!("m"))
    );
    assert!(request.head.contains("authorization: Bearer hunter2\r\n"));
    let calls = reqwest::get(format!("{}/dev/upstream/calls", fleet.front_url())).await.unwrap();
    let calls: Value = calls.json().await.unwrap();
    assert_eq!((&calls[0]["chunks"], &calls[0]["end"]), (&json!(1), &json!("stop")));
}

/// The log of a node process that answered at the most talkative level.
async fn trace_of(server: &Server) -> String {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let yaml = format!(
        "node:\n  name: solo\n  dataAddress: 127.0.0.1:0\n  adminAddress: 127.0.0.1:0\n  openAdmin: true\n\
         upstream:\n  providers:\n    - name: main\n      url: {}\n      anyModel: true\n",
        server.url()
    );
    std::fs::write(folder.path().join("chat.yaml"), yaml).unwrap();
    std::fs::write(folder.path().join("key"), "hunter2-the-key\n").unwrap();
    let secret = String::from_utf8(KEY.to_vec()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dataplane"));
    command.env_clear().env("RUST_LOG", "trace");
    command.env("CHAT_JWT_SECRET", &secret).env("CHAT_RESUME_SECRET", &secret);
    command.env("CHAT_UPSTREAM_KEY_MAIN_FILE", folder.path().join("key"));
    command.arg("run").arg("--config").arg(folder.path().join("chat.yaml"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let read = || std::fs::read_to_string(&log).unwrap();
    let address = || {
        let log = read();
        let mut told = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        told.find(|line| line["message"] == "serving")?["data"].as_str().map(str::to_owned)
    };
    eventually(async || address().is_some()).await;
    let token =
        dataplane::admit::token::mint(KEY, "alice", Duration::from_secs(60), &Clock::system());
    let url = format!("http://{}", address().unwrap());
    let api = Api::new(client::api::http_client().unwrap(), &url, &token);
    let accepted = started(&api, &request("the question of mine")).await;
    let status = async || api.message(accepted.message_id).await.map(|message| message.status);
    let ended = [MessageStatus::Completed, MessageStatus::Failed];
    eventually(async || status().await.is_ok_and(|status| ended.contains(&status))).await;
    let _ = child.kill();
    let _ = child.wait();
    read()
}

#[tokio::test]
async fn neither_key_nor_words_are_in_the_most_talkative_log() {
    let quoting = json!({"error": {
        "message": "hunter2-the-key may not say: the question of mine", "type": "invalid_request_error",
    }});
    for steps in [answer(&["the answer of yours"]), refuse(400, "", &quoting)] {
        let server = Server::always(steps).await;
        let log = trace_of(&server).await;
        let head = &server.requests()[0].head;
        assert!(head.contains("authorization: Bearer hunter2-the-key\r\n"), "{head}");
        assert!(log.lines().any(|line| line.contains("TRACE")), "it talks: {log}");
        for word in ["hunter2", "the question of mine", "the answer of yours"] {
            let line = log.lines().find(|line| line.contains(word));
            assert_eq!(line, None, "{word}");
        }
    }
}

#[tokio::test]
async fn an_effective_file_with_providers_is_read_again() {
    let provider = Provider {
        name: "main".into(),
        url: "http://127.0.0.1:1/v1".into(),
        models: [("fast".to_owned(), "small-1".to_owned())].into(),
        max_tokens: Some(100),
        continues: ContinueBy::FinalMessage,
        ..Provider::default()
    };
    let settings = device::settings(vec![provider]);
    let text = dataplane::config::file::write(&settings).unwrap();
    assert_eq!(dataplane::config::file::parse("x.yaml", &text), Ok(settings), "{text}");
}
