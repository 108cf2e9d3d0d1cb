//! Providers by themselves: what becomes of a call, who is asked next, who is no longer asked.

use super::server::{Server, Step, answer, anthropic_answer, anthropic_text, delta, event};
use super::server::{finish, refuse, text};
use crate::playground::eventually;
use dataplane::upstream::providers::Providers;
use dataplane::upstream::{
    Ask, BreakerState, Events, MAX_EVENT_BYTES, ProviderKeys, ProviderStatistics, Upstream,
    UpstreamError, UpstreamEvent,
};
use futures_util::StreamExt;
use protocol::settings::{ContinueBy, Provider, ProviderKind, Stream};
use protocol::{
    ChatOptions, Chunk, ChunkType, ConversationId, Epoch, Index, MessageId, OnDisconnect, Usage,
    UserId,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use streamlog::Clock;
use streamlog::log::{Opening, Turn};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);

fn openai(name: &str, server: &Server) -> Provider {
    Provider { name: name.to_owned(), url: server.url(), ..Provider::default() }
}

fn anthropic(name: &str, server: &Server) -> Provider {
    Provider {
        name: name.to_owned(),
        kind: ProviderKind::Anthropic,
        url: format!("http://{}", server.address),
        model: "test-model".to_owned(),
        continues: ContinueBy::Prefill,
        ..Provider::default()
    }
}

/// Within this time to the first token.
fn within(first_token_ms: u64, list: &[Provider]) -> Providers {
    let stream = Stream { first_token_ms, silence_ms: 200, ..Stream::default() };
    let mut keys = ProviderKeys::default();
    for provider in list {
        keys.insert(&provider.name, format!("key-of-{}", provider.name));
    }
    Providers::new(list, &keys, &stream, Clock::system()).unwrap()
}

fn providers(list: &[Provider]) -> Providers {
    within(10_000, list)
}

fn ask_with(prefix: Vec<Chunk>, options: ChatOptions) -> Ask {
    let turn = |(role, content): (&str, &str)| Turn { role: role.into(), content: content.into() };
    let opening = Opening {
        message: MessageId(Uuid::from_u128(1)),
        user: UserId::new("alice"),
        conversation: ConversationId(Uuid::from_u128(2)),
        user_message: MessageId(Uuid::from_u128(3)),
        request_id: None,
        content: "and now?".to_owned(),
        options,
        on_disconnect: OnDisconnect::Continue,
        context: [("user", "before"), ("assistant", "earlier")].map(turn).into(),
        started_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        trace: None,
    };
    let from = Index(prefix.len() as u64);
    Ask { opening: Arc::new(opening), epoch: Epoch(1), from, prefix }
}

fn ask() -> Ask {
    ask_with(Vec::new(), ChatOptions::default())
}

/// What came of a call: its text with kinds, and its end.
#[derive(Debug, PartialEq)]
struct Came {
    chunks: Vec<(ChunkType, String)>,
    end: Result<(String, String, Usage), UpstreamError>,
}

impl Came {
    fn text(&self) -> String {
        self.chunks.iter().map(|(_, text)| text.as_str()).collect()
    }

    fn reason(&self) -> &str {
        &self.end.as_ref().unwrap().0
    }

    #[track_caller]
    fn unavailable(&self) -> &str {
        let Err(UpstreamError::Unavailable(why)) = &self.end else { panic!("{self:?}") };
        why
    }

    #[track_caller]
    fn refused(&self) -> &str {
        let Err(UpstreamError::Refused(why)) = &self.end else { panic!("{self:?}") };
        why
    }
}

async fn run(providers: &Providers, ask: Ask) -> Came {
    let mut chunks = Vec::new();
    let mut events = match providers.call(ask).await {
        Ok(events) => events,
        Err(error) => return Came { chunks, end: Err(error) },
    };
    loop {
        let event = timeout(PATIENCE, events.next()).await.expect("nothing came");
        match event.expect("an end or an error comes first") {
            Ok(UpstreamEvent::Chunk(chunk)) => chunks.push((chunk.kind, chunk.content.to_string())),
            Ok(UpstreamEvent::Finished { reason, model, usage }) => {
                assert!(events.next().await.is_none(), "nothing follows the end");
                return Came { chunks, end: Ok((reason, model, usage)) };
            }
            Err(error) => {
                assert!(events.next().await.is_none(), "nothing follows an error");
                return Came { chunks, end: Err(error) };
            }
        }
    }
}

/// One call of a server that answers like this.
async fn of(steps: Vec<Step>) -> Came {
    let server = Server::always(steps).await;
    run(&providers(&[openai("main", &server)]), ask()).await
}

fn pieces(body: &[u8], size: usize) -> Vec<Step> {
    let pieces = body.chunks(size).map(|piece| Step::Send(piece.to_vec()));
    [Step::Head].into_iter().chain(pieces).collect()
}

fn statistics(providers: &Providers) -> Vec<(BreakerState, u64, u64)> {
    let view = |s: ProviderStatistics| (s.breaker, s.calls, s.failed);
    providers.statistics().into_iter().map(view).collect()
}

#[tokio::test]
async fn a_request_says_who_asks_what_and_the_answer_is_read_to_its_end() {
    let server = Server::always(answer(&["Hello ", "", "wörld 🎉", "\n```rs\n", "x\n```\n"])).await;
    let options = ChatOptions { model: Some("m".into()), ..ChatOptions::default() };
    let provider = Provider { any_model: true, ..openai("main", &server) };
    let providers = providers(&[provider]);
    let came = run(&providers, ask_with(Vec::new(), options)).await;
    let (t, c) = (ChunkType::Text, ChunkType::Code);
    let expected = [(t, "Hello "), (t, "wörld 🎉"), (t, "\n"), (c, "```rs\n"), (c, "x\n```\n")];
    assert_eq!(came.chunks, expected.map(|(kind, text)| (kind, text.to_owned())));
    let usage = Usage { prompt_tokens: 11, completion_tokens: 22 };
    assert_eq!(came.end, Ok(("stop".into(), "test-model".into(), usage)));
    let request = &server.requests()[0];
    assert_eq!(request.path, "/v1/chat/completions");
    assert!(request.head.contains("authorization: Bearer key-of-main\r\n"), "{}", request.head);
    let expected = json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "user", "content": "before"},
            {"role": "assistant", "content": "earlier"},
            {"role": "user", "content": "and now?"},
        ],
    });
    assert_eq!(request.body, expected);
    run(&providers, ask()).await.end.unwrap();
    assert_eq!(statistics(&providers), [(BreakerState::Closed, 2, 0)]);
}

#[tokio::test]
async fn messages_of_the_other_dialect_are_read_as_well() {
    let server = Server::always(anthropic_answer(&["Hello ", "wörld"])).await;
    let came = run(&providers(&[anthropic("claude", &server)]), ask()).await;
    let usage = Usage { prompt_tokens: 11, completion_tokens: 22 };
    assert_eq!(came.text(), "Hello wörld");
    assert_eq!(came.end, Ok(("stop".into(), "test-model".into(), usage)));
    let request = &server.requests()[0];
    assert_eq!(request.path, "/v1/messages");
    for header in ["x-api-key: key-of-claude\r\n", "anthropic-version: 2023-06-01\r\n"] {
        assert!(request.head.contains(header), "{}", request.head);
    }
    assert_eq!(request.body["max_tokens"], 4_096);
}

#[tokio::test]
async fn the_network_may_cut_where_it_likes() {
    let mut body = b": hello\r\n\r\n".to_vec();
    for piece in ["Grüße ", "🎉", "", "\n`", "``\n", "ü"] {
        body.extend(delta(&json!({"content": piece})));
        body.extend(b": keep-alive\n\n");
    }
    for crlf in [false, true] {
        let mut body = String::from_utf8(body.clone()).unwrap();
        if crlf {
            body = body.replace("\r\n", "\n").replace('\n', "\r\n");
        }
        for size in [1, 2, 7] {
            let came = of([pieces(body.as_bytes(), size), finish("stop")].concat()).await;
            assert_eq!(came.text(), "Grüße 🎉\n```\nü", "{size}");
            assert_eq!(came.chunks.len(), 5, "one a delta, whatever the cuts: {came:?}");
        }
    }
}

#[tokio::test]
async fn an_end_without_its_marks_is_one_if_a_reason_came() {
    let reason = Step::Send(
        b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
            .to_vec(),
    );
    for rest in [vec![Step::End], vec![Step::Silence], vec![Step::Reset]] {
        let came = of([vec![Step::Head, text("a"), reason.clone()], rest].concat()).await;
        assert_eq!((came.text().as_str(), came.reason()), ("a", "length"));
        assert_eq!(came.end.unwrap().2.completion_tokens, 1, "counted here");
    }
    let came = of(vec![Step::Head, text("a"), Step::End]).await;
    assert_eq!(came.text(), "a");
    assert!(came.unavailable().contains("without a finish reason"));
}

#[tokio::test]
async fn what_comes_twice_is_read_once_where_that_can_be_told() {
    let named = |id: u8, content: &str| {
        let event = String::from_utf8(delta(&json!({"content": content}))).unwrap();
        Step::Send(format!("id: {id}\n{event}").into_bytes())
    };
    let twice = vec![Step::Head, named(1, "a"), named(1, "a"), named(2, "a")];
    let ends = finish("stop");
    let came = of([twice, vec![ends[0].clone()], ends].concat()).await;
    assert_eq!((came.text().as_str(), came.reason()), ("aa", "stop"));
}

#[tokio::test]
async fn a_connection_that_breaks_midway_keeps_its_text_and_is_not_asked_again() {
    let steps = [vec![Step::Head], (0..7).map(|_| text("word ")).collect(), vec![Step::Reset]];
    let (server, spare) =
        (Server::always(steps.concat()).await, Server::always(answer(&["no"])).await);
    let providers = providers(&[openai("main", &server), openai("spare", &spare)]);
    let came = run(&providers, ask()).await;
    assert_eq!(came.text(), "word ".repeat(7));
    assert!(came.unavailable().contains("the connection broke"), "{came:?}");
    assert_eq!((server.requests().len(), spare.requests().len()), (1, 0));
    assert_eq!(statistics(&providers)[0], (BreakerState::Closed, 1, 1));
}

#[tokio::test]
async fn an_error_event_midway_says_what_it_means() {
    for (kind, passes) in [("overloaded_error", true), ("invalid_request_error", false)] {
        let error = json!({"type": "error", "error": {"type": kind, "message": "hunter2"}});
        let steps = vec![Step::Head, anthropic_text("so "), event(&error), Step::Silence];
        let server = Server::always(steps).await;
        let came = run(&providers(&[anthropic("claude", &server)]), ask()).await;
        let why = if passes { came.unavailable() } else { came.refused() };
        assert!(why.contains(kind) && !why.contains("hunter2"), "{why}");
        assert_eq!(came.text(), "so ");
    }
    let error = Step::Send(b"data: {\"error\":{\"message\":\"x\",\"code\":503}}\n\n".to_vec());
    let came = of(vec![Step::Head, text("so "), error, Step::Silence]).await;
    assert_eq!(came.text(), "so ");
    assert!(came.unavailable().contains("503"));
}

#[tokio::test]
async fn an_oversized_event_ends_the_call() {
    let mut steps = vec![Step::Head, text("so ")];
    let piece = vec![b'x'; 64 * 1024];
    let count = 2 * MAX_EVENT_BYTES / piece.len();
    steps.push(Step::Send(b"data: ".to_vec()));
    steps.extend((0..count).map(|_| Step::Send(piece.clone())));
    steps.push(Step::Silence);
    let came = of(steps).await;
    assert_eq!(came.text(), "so ");
    assert!(came.unavailable().contains("more than"), "{came:?}");
}

#[tokio::test]
async fn a_filter_ends_an_answer_and_refuses_a_request() {
    let cut = of([vec![Step::Head, text("so ")], finish("content_filter")].concat()).await;
    assert_eq!(cut.reason(), "content_filter");
    let none = of([vec![Step::Head], finish("content_filter")].concat()).await;
    assert!(none.refused().contains("content filter"), "{none:?}");
}

#[tokio::test]
async fn a_request_that_is_to_blame_is_refused_and_nobody_else_is_asked() {
    let error = json!({"error": {
        "message": "hunter2", "type": "invalid_request_error", "code": "context_length_exceeded",
    }});
    let main = Server::always(refuse(400, "x-request-id: req_7\r\n", &error)).await;
    let spare = Server::always(answer(&["no"])).await;
    let list = providers(&[openai("main", &main), openai("spare", &spare)]);
    let came = run(&list, ask()).await;
    let expected =
        "main: HTTP 400 invalid_request_error context_length_exceeded, its request req_7";
    assert_eq!(came.refused(), expected);
    assert_eq!(spare.requests().len(), 0);
    assert_eq!(statistics(&list)[0], (BreakerState::Closed, 1, 0), "no fault of the provider");
    let page =
        vec![Step::Refuse { status: 302, headers: "location: /x\r\n".into(), body: "".into() }];
    assert!(of(page).await.refused().contains("redirects are not followed"));
}

#[tokio::test]
async fn before_the_first_token_the_next_provider_is_asked() {
    let html = vec![Step::Refuse { status: 200, headers: String::new(), body: "{}".into() }];
    for (what, steps) in [
        ("500", refuse(500, "", &json!({}))),
        ("429", refuse(429, "", &json!({"error": {"type": "rate_limit"}}))),
        ("no stream", html),
        ("broken", vec![Step::Head, Step::Reset]),
        ("empty", vec![Step::Head, Step::End]),
        ("silent", vec![Step::Silence]),
        ("only a ping", vec![Step::Head, Step::Send(b": ping\n\n".to_vec()), Step::Silence]),
    ] {
        let (main, spare) = (Server::always(steps).await, Server::always(answer(&["yes"])).await);
        let list = within(1_000, &[openai("main", &main), openai("spare", &spare)]);
        let came = run(&list, ask()).await;
        assert_eq!((came.text().as_str(), came.reason()), ("yes", "stop"), "{what}");
        assert_eq!((main.requests().len(), spare.requests().len()), (1, 1), "{what}");
        let [main, spare] = statistics(&list)[..] else { panic!() };
        assert_eq!((main.2, spare.2), (1, 0), "{what}: the silent one failed, the other did not");
    }
    let spare = Server::always(answer(&["yes"])).await;
    let nobody = Provider { url: "http://127.0.0.1:1/v1".into(), ..openai("main", &spare) };
    let came = run(&providers(&[nobody.clone(), openai("spare", &spare)]), ask()).await;
    assert_eq!(came.text(), "yes");
    let came = run(&providers(&[nobody]), ask()).await;
    let why = came.unavailable();
    assert!(why.contains("refused") && !why.contains("http://"), "{why}");
}

#[tokio::test]
async fn a_provider_that_asks_to_be_asked_again_is_left_alone_so_long() {
    let busy = refuse(429, "retry-after-ms: 400\r\n", &json!({}));
    let server =
        Server::start(move |_, n| if n == 0 { busy.clone() } else { answer(&["yes"]) }).await;
    let list = providers(&[openai("main", &server)]);
    let before = Instant::now();
    let came = run(&list, ask()).await;
    assert_eq!((came.text().as_str(), server.requests().len()), ("yes", 2));
    assert!(before.elapsed() >= Duration::from_millis(400), "{:?}", before.elapsed());

    let busy = Server::always(refuse(503, "retry-after: 30\r\n", &json!({}))).await;
    let spare = Server::always(answer(&["yes"])).await;
    let list = providers(&[openai("main", &busy), openai("spare", &spare)]);
    for _ in 0..3 {
        assert_eq!(run(&list, ask()).await.text(), "yes");
    }
    assert_eq!((busy.requests().len(), spare.requests().len()), (1, 3), "left alone for 30 s");
    let alone = providers(&[openai("main", &busy)]);
    let before = Instant::now();
    for _ in 0..2 {
        run(&alone, ask()).await.unavailable();
    }
    assert!(before.elapsed() < Duration::from_secs(3), "nobody waits 30 s for it");
    assert_eq!(busy.requests().len(), 2);
}

#[tokio::test]
async fn a_full_limiter_makes_calls_wait_a_little_and_then_go_elsewhere() {
    let main = Server::always(answer(&["main"])).await;
    let spare = Server::always(answer(&["spare"])).await;
    let limited =
        |calls_per_minute| Provider { calls_per_minute, call_burst: 1, ..openai("main", &main) };
    let list = providers(&[limited(240), openai("spare", &spare)]);
    let before = Instant::now();
    let texts = [run(&list, ask()).await.text(), run(&list, ask()).await.text()];
    assert_eq!(texts, ["main", "main"]);
    assert!(before.elapsed() >= Duration::from_millis(240), "{:?}", before.elapsed());
    let list = providers(&[limited(1), openai("spare", &spare)]);
    let texts = [run(&list, ask()).await.text(), run(&list, ask()).await.text()];
    assert_eq!(texts, ["main", "spare"]);
    assert_eq!(list.statistics()[0].limited, 1);
    let list = providers(&[limited(1)]);
    run(&list, ask()).await.end.unwrap();
    assert!(run(&list, ask()).await.unavailable().contains("limiter"));
}

#[tokio::test]
async fn streams_that_die_midway_open_the_breaker() {
    let dying = [Step::Head, text("so "), Step::Reset].to_vec();
    let main = Server::always(dying).await;
    let spare = Server::always(answer(&["yes"])).await;
    let list = providers(&[openai("main", &main), openai("spare", &spare)]);
    for _ in 0..5 {
        assert_eq!(run(&list, ask()).await.text(), "so ");
    }
    assert_eq!(statistics(&list)[0], (BreakerState::Open, 5, 5));
    for _ in 0..3 {
        assert_eq!(run(&list, ask()).await.text(), "yes");
    }
    assert_eq!(main.requests().len(), 5, "not asked while its breaker is open");
    let alone = providers(&[openai("main", &main)]);
    for _ in 0..5 {
        run(&alone, ask()).await;
    }
    assert!(run(&alone, ask()).await.unavailable().contains("breaker is open"));
}

#[tokio::test]
async fn dropping_the_events_ends_the_connection_at_once() {
    for (steps, chunks) in [
        (vec![Step::Head, text("a"), Step::Silence], 1),
        (vec![Step::Head, Step::Silence], 0),
        (vec![Step::Silence], 0),
    ] {
        let server = Server::always(steps).await;
        let list = providers(&[openai("main", &server)]);
        let mut events: Events = list.call(ask()).await.unwrap();
        for _ in 0..chunks {
            timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        }
        // The request has to arrive before anybody can hang up.
        let next = async { events.next().await };
        let arrived = eventually(async || !server.requests().is_empty());
        tokio::select! {
            event = next => panic!("{event:?}"),
            () = arrived => {}
        }
        let before = Instant::now();
        drop(events);
        eventually(async || server.hangups() == 1).await;
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
        assert_eq!(statistics(&list)[0], (BreakerState::Closed, 1, 0), "a cancel blames nobody");
    }
}

#[tokio::test]
async fn a_drop_after_a_whole_silence_counts_as_a_failure() {
    let server = Server::always(vec![Step::Head, text("a"), Step::Silence]).await;
    let list = providers(&[openai("main", &server)]);
    let mut events = list.call(ask()).await.unwrap();
    events.next().await.unwrap().unwrap();
    // The silence that is allowed here: 200 ms.
    assert!(timeout(Duration::from_millis(250), events.next()).await.is_err());
    drop(events);
    assert_eq!(statistics(&list)[0], (BreakerState::Closed, 1, 1));
}

#[tokio::test]
async fn only_providers_that_can_go_on_are_asked_to() {
    let forgetful = Server::always(answer(&["no"])).await;
    let server = Server::always(answer(&[" time there was."])).await;
    let continues = ContinueBy::FinalMessage;
    let able = Provider { continues, ..openai("able", &server) };
    let list = providers(&[openai("main", &forgetful), able]);
    let prefix = vec![Chunk::new(ChunkType::Text, "Once upon a ")];
    let came = run(&list, ask_with(prefix.clone(), ChatOptions::default())).await;
    assert_eq!(came.text(), "time there was.", "the blank was there already");
    assert_eq!(forgetful.requests().len(), 0);
    let request = &server.requests()[0];
    assert_eq!(request.prefix(), Some("Once upon a"));
    assert_eq!(request.body["continue_final_message"], true);
    let none = providers(&[openai("main", &forgetful)]);
    run(&none, ask_with(prefix, ChatOptions::default())).await.refused();
}

#[tokio::test]
async fn a_request_goes_to_the_first_provider_that_has_its_model() {
    let (small, large) =
        (Server::always(answer(&["small"])).await, Server::always(answer(&["large"])).await);
    let with = |provider: Provider, name: &str, real: &str| {
        let models = [(name.to_owned(), real.to_owned())].into();
        Provider { models, ..provider }
    };
    let list = providers(&[
        with(openai("a", &small), "fast", "small-1"),
        with(openai("b", &large), "best", "large-9"),
    ]);
    let named = |model: &str| ChatOptions { model: Some(model.into()), ..ChatOptions::default() };
    let texts = [
        run(&list, ask_with(Vec::new(), named("best"))).await.text(),
        run(&list, ask_with(Vec::new(), named("fast"))).await.text(),
    ];
    assert_eq!(texts, ["large", "small"]);
    assert_eq!(large.requests()[0].body["model"], "large-9");
    run(&list, ask_with(Vec::new(), named("other"))).await.refused();
}
