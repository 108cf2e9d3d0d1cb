//! Connect, resume, make-before-break, give up: the session against scripted nodes, judged by the
//! transcript.

use crate::node::{Node, Peer, TOKENS, directive, message};
use client::recorder::Recorder;
use client::session::{Event, Options, Session, Stop};
use client::token::TokenSource;
use client::transcript::{Allowed, Verdict};
use protocol::server_frame::{ErrorData, Goaway, Reset, ResetReason, ServerFrame};
use protocol::{
    ChatOptions, ChatRequest, ClientFrame, Epoch, ErrorCode, Index, OnDisconnect, RequestId,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn request() -> ChatRequest {
    ChatRequest {
        content: "hello".into(),
        conversation_id: None,
        request_id: RequestId::parse("r-1"),
        options: ChatOptions::default(),
        on_disconnect: OnDisconnect::Continue,
    }
}

fn session(urls: Vec<String>) -> Session<Recorder> {
    let mut recorder = Recorder::default();
    recorder.expect_request(RequestId::parse("r-1").unwrap(), directive());
    recorder.expect_message(message(), directive());
    let tokens = TokenSource::Fixed("secret".into());
    Session::new(Options::new(urls), tokens, SmallRng::seed_from_u64(7), recorder)
}

/// Runs until the answer ends or the session stops.
async fn run(session: &mut Session<Recorder>) -> Vec<Event> {
    let mut events = Vec::new();
    let whole = async {
        while let Some(event) = session.next().await {
            let over = matches!(event, Event::Complete(_) | Event::Failed(_) | Event::Stopped(_));
            events.push(event);
            if over {
                break;
            }
        }
    };
    timeout(PATIENCE, whole).await.expect("the session hangs");
    events
}

async fn chat(urls: Vec<String>) -> (Vec<Event>, Verdict) {
    let mut session = session(urls);
    session.chat(request()).unwrap();
    let events = run(&mut session).await;
    let recorder = session.close().await;
    let mut verdict = recorder.transcript(message()).unwrap().verdict();
    verdict.merge(recorder.stray());
    (events, verdict)
}

/// Indexes given to the owner, in order.
fn indexes(events: &[Event]) -> Vec<u64> {
    let chunks = events.iter().filter_map(|event| match event {
        Event::Chunks { index, chunks, .. } => Some(index.0..index.0 + chunks.len() as u64),
        _ => None,
    });
    chunks.flatten().collect()
}

#[track_caller]
fn assert_whole(events: &[Event], verdict: &Verdict) {
    assert!(verdict.is_clean(Allowed::default()), "{verdict:#?}");
    assert_eq!(indexes(events), (0..TOKENS).collect::<Vec<_>>());
    assert!(matches!(events.last(), Some(Event::Complete(_))));
}

async fn whole_answer(mut peer: Peer) {
    peer.welcome("n", 20_000).await;
    peer.accept(false).await;
    peer.chunks(0..TOKENS).await;
    peer.complete().await;
    peer.stay().await;
}

#[tokio::test]
async fn an_answer_arrives_whole() {
    let node = Node::start(|_, peer| whole_answer(peer)).await;
    let (events, verdict) = chat(vec![node.url.clone()]).await;
    assert_whole(&events, &verdict);
    assert_eq!(*node.offered.lock().unwrap(), ["chatcluster.v1, bearer.secret"]);
}

#[tokio::test]
async fn a_node_that_is_not_there_is_passed_over() {
    let node = Node::start(|_, peer| whole_answer(peer)).await;
    let (events, verdict) = chat(vec![Node::nowhere().await, node.url.clone()]).await;
    assert_whole(&events, &verdict);
    assert!(matches!(events[0], Event::Reconnecting { attempt: 1, .. }), "{:?}", events[0]);
}

#[tokio::test]
async fn after_a_cut_it_resumes_on_another_node() {
    let first = Node::start(|_, mut peer: Peer| async move {
        peer.welcome("one", 20_000).await;
        peer.accept(false).await;
        peer.chunks(0..7).await;
    })
    .await;
    let second = Node::start(|_, mut peer: Peer| async move {
        peer.welcome("two", 20_000).await;
        let asked = peer.recover(12).await;
        assert_eq!((asked.from, asked.epoch), (Index(7), Some(Epoch(1))));
        assert_eq!(asked.digest, Some(crate::node::digest(7)));
        peer.chunks(7..TOKENS).await;
        peer.complete().await;
        peer.stay().await;
    })
    .await;
    let (events, verdict) = chat(vec![first.url.clone(), second.url.clone()]).await;
    assert_whole(&events, &verdict);
    let offered = second.offered.lock().unwrap().clone();
    assert_eq!(offered, ["chatcluster.v1, bearer.secret, resume.resume-one"]);
}

#[tokio::test]
async fn a_request_lost_with_its_socket_is_repeated_with_the_same_id() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let ids = seen.clone();
    let node = Node::start(move |n, mut peer: Peer| {
        let ids = ids.clone();
        async move {
            peer.welcome("n", 20_000).await;
            if n == 0 {
                let Some(ClientFrame::ChatRequest(request)) = peer.recv().await else { panic!() };
                ids.lock().unwrap().push(request.request_id.unwrap());
                return;
            }
            let id = peer.accept(true).await;
            ids.lock().unwrap().push(id);
            peer.chunks(0..TOKENS).await;
            peer.complete().await;
            peer.stay().await;
        }
    })
    .await;
    let (events, verdict) = chat(vec![node.url.clone()]).await;
    assert_whole(&events, &verdict);
    let ids = seen.lock().unwrap().clone();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_retryable_refusal_is_tried_again_and_a_lasting_one_is_told() {
    let node = Node::start(|_, mut peer: Peer| async move {
        peer.welcome("n", 20_000).await;
        let Some(ClientFrame::ChatRequest(request)) = peer.recv().await else { panic!() };
        let code = ErrorCode::AtCapacity;
        let retry_after_ms = Some(1);
        let request_id = request.request_id;
        let refusal = ErrorData { retry_after_ms, request_id, ..ErrorData::new(code) };
        peer.send(ServerFrame::Error(refusal)).await;
        let Some(ClientFrame::ChatRequest(request)) = peer.recv().await else { panic!() };
        let request_id = request.request_id;
        let refusal = ErrorData { request_id, ..ErrorData::new(ErrorCode::InvalidMessage) };
        peer.send(ServerFrame::Error(refusal)).await;
        peer.stay().await;
    })
    .await;
    let mut session = session(vec![node.url.clone()]);
    session.chat(request()).unwrap();
    let events = run(&mut session).await;
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Warning(e) if e.code == ErrorCode::AtCapacity))
    );
    assert!(matches!(events.last(), Some(Event::Failed(e)) if e.code == ErrorCode::InvalidMessage));
}

#[tokio::test]
async fn a_request_that_is_refused_again_and_again_is_not_given_up_within_seconds() {
    let refusals = 2 * client::session::REQUEST_TRIES;
    let node = Node::start(move |_, mut peer: Peer| async move {
        peer.welcome("n", 20_000).await;
        for at in 0..=refusals {
            let Some(ClientFrame::ChatRequest(request)) = peer.recv().await else { panic!() };
            let (code, retry_after_ms) = match at == refusals {
                true => (ErrorCode::InvalidMessage, None),
                false => (ErrorCode::StoreUnavailable, Some(1)),
            };
            let request_id = request.request_id;
            let refusal = ErrorData { retry_after_ms, request_id, ..ErrorData::new(code) };
            peer.send(ServerFrame::Error(refusal)).await;
        }
        peer.stay().await;
    })
    .await;
    let mut session = session(vec![node.url.clone()]);
    session.chat(request()).unwrap();
    let events = run(&mut session).await;
    assert!(matches!(events.last(), Some(Event::Failed(e)) if e.code == ErrorCode::InvalidMessage));
}

fn goaway() -> ServerFrame {
    ServerFrame::Goaway(Goaway {
        reason: "drain".into(),
        deadline_ms: 30_000,
        reconnect_after_ms: 10,
        resume_token: "moved".into(),
    })
}

#[tokio::test]
async fn goaway_opens_the_new_socket_before_the_old_one_closes() {
    let (moved, was_moved) = tokio::sync::watch::channel(false);
    let old = Node::start(move |_, mut peer: Peer| {
        let mut was_moved = was_moved.clone();
        async move {
            peer.welcome("old", 20_000).await;
            peer.accept(false).await;
            peer.chunks(0..5).await;
            peer.send(goaway()).await;
            peer.chunks(5..9).await;
            // The successor is there while this socket still delivers.
            was_moved.wait_for(|moved| *moved).await.unwrap();
            peer.chunks(9..11).await;
            peer.stay().await;
        }
    })
    .await;
    let new = Node::start(move |_, mut peer: Peer| {
        let moved = moved.clone();
        async move {
            peer.welcome("new", 20_000).await;
            let asked = peer.recover(9).await;
            peer.chunks(asked.from.0..TOKENS - 1).await;
            moved.send_replace(true);
            peer.chunks(TOKENS - 1..TOKENS).await;
            peer.complete().await;
            peer.stay().await;
        }
    })
    .await;
    let (events, verdict) = chat(vec![old.url.clone(), new.url.clone()]).await;
    assert_whole(&events, &verdict);
    let lost = |event: &Event| matches!(event, Event::Reconnecting { .. });
    assert!(!events.iter().any(lost), "there was a moment without a socket");
    assert!(new.offered.lock().unwrap()[0].contains("resume.moved"));
}

#[tokio::test]
async fn close_codes_decide_whether_it_comes_back() {
    let node = Node::start(|n, mut peer: Peer| async move {
        peer.welcome("n", 20_000).await;
        peer.close(if n == 0 { 4000 } else { 4501 }).await;
    })
    .await;
    let mut session = session(vec![node.url.clone()]);
    let events = run(&mut session).await;
    let connected = events.iter().filter(|event| matches!(event, Event::Connected { .. })).count();
    assert_eq!(connected, 2, "{events:?}");
    assert!(matches!(events.last(), Some(Event::Stopped(Stop::Refused(_)))), "{events:?}");
    assert_eq!(session.next().await, None);
}

#[tokio::test]
async fn a_silent_server_is_left_and_a_living_one_gets_heartbeats() {
    let beats = Arc::new(Mutex::new(0));
    let counted = beats.clone();
    let node = Node::start(move |n, mut peer: Peer| {
        let beats = counted.clone();
        async move {
            peer.welcome("n", 100).await;
            if n == 0 {
                while let Some(frame) = peer.recv().await {
                    assert!(matches!(frame, ClientFrame::Heartbeat { .. }));
                    *beats.lock().unwrap() += 1;
                }
            }
            peer.close(4500).await;
        }
    })
    .await;
    let mut session = session(vec![node.url.clone()]);
    let events = run(&mut session).await;
    assert_eq!(*beats.lock().unwrap(), 1);
    let silent =
        |event: &Event| matches!(event, Event::Reconnecting { why, .. } if why.contains("silence"));
    assert!(events.iter().any(silent), "{events:?}");
    assert!(matches!(events.last(), Some(Event::Stopped(Stop::Unauthenticated(_)))));
}

#[tokio::test]
async fn a_gap_is_asked_for_again() {
    let node = Node::start(|_, mut peer: Peer| async move {
        peer.welcome("n", 20_000).await;
        peer.accept(false).await;
        peer.chunks(0..4).await;
        peer.chunks(6..8).await;
        let asked = peer.recover(8).await;
        assert_eq!(asked.from, Index(4));
        peer.chunks(4..TOKENS).await;
        peer.complete().await;
        peer.stay().await;
    })
    .await;
    let (events, verdict) = chat(vec![node.url.clone()]).await;
    assert_eq!(indexes(&events), (0..TOKENS).collect::<Vec<_>>());
    assert_eq!(verdict.lost, 2, "the oracle sees what the client mends");
}

#[tokio::test]
async fn a_reset_starts_over() {
    let node = Node::start(|_, mut peer: Peer| async move {
        peer.welcome("n", 20_000).await;
        peer.accept(false).await;
        peer.chunks(0..4).await;
        let (message_id, epoch) = (message(), Epoch(1));
        let reason = ResetReason::Restarted;
        let body = Reset { message_id, reason, truncate_to: Index(0), epoch };
        peer.send(ServerFrame::Reset(body)).await;
        peer.chunks(0..TOKENS).await;
        peer.complete().await;
        peer.stay().await;
    })
    .await;
    let (events, verdict) = chat(vec![node.url.clone()]).await;
    assert_eq!(indexes(&events), (0..4).chain(0..TOKENS).collect::<Vec<_>>());
    assert!(verdict.is_clean(Allowed { restarted: true, ..Allowed::default() }), "{verdict:#?}");
}

#[tokio::test]
async fn a_retryable_final_error_is_followed_again() {
    let node = Node::start(|_, mut peer: Peer| async move {
        peer.welcome("n", 20_000).await;
        peer.recover(9).await;
        peer.chunks(0..4).await;
        let mut error = ErrorData::last(ErrorCode::StoreUnavailable, message());
        error.retry_after_ms = Some(1);
        peer.send(ServerFrame::Error(error)).await;
        let asked = peer.recover(9).await;
        assert_eq!(asked.from, Index(4));
        peer.chunks(4..TOKENS).await;
        peer.complete().await;
        peer.stay().await;
    })
    .await;
    let mut session = session(vec![node.url.clone()]);
    session.follow(message(), Index::ZERO);
    let events = run(&mut session).await;
    let verdict = session.observer().transcript(message()).unwrap().verdict();
    assert_whole(&events, &verdict);
}

#[tokio::test]
async fn a_cut_by_the_owner_resumes() {
    let node = Node::start(|n, mut peer: Peer| async move {
        peer.welcome("n", 20_000).await;
        if n == 0 {
            peer.accept(false).await;
            peer.chunks(0..6).await;
            peer.stay().await;
            return;
        }
        peer.recover(6).await;
        peer.chunks(6..TOKENS).await;
        peer.complete().await;
        peer.stay().await;
    })
    .await;
    let mut session = session(vec![node.url.clone()]);
    session.chat(request()).unwrap();
    let mut events = Vec::new();
    while indexes(&events).len() < 6 {
        events.push(timeout(PATIENCE, session.next()).await.unwrap().unwrap());
    }
    session.cut();
    events.extend(run(&mut session).await);
    let verdict = session.observer().transcript(message()).unwrap().verdict();
    assert_whole(&events, &verdict);
    assert_eq!(session.reconnects(), 1);
}

#[tokio::test]
async fn cancel_is_repeated_on_the_next_socket() {
    let node = Node::start(|n, mut peer: Peer| async move {
        peer.welcome("n", 20_000).await;
        if n == 0 {
            peer.accept(false).await;
            peer.chunks(0..2).await;
            let frame = peer.recv().await;
            assert!(matches!(frame, Some(ClientFrame::CancelStream { message_id: Some(_) })));
            return;
        }
        peer.recover(2).await;
        let frame = peer.recv().await;
        assert!(matches!(frame, Some(ClientFrame::CancelStream { message_id: Some(_) })));
        peer.chunks(2..TOKENS).await;
        peer.complete().await;
        peer.stay().await;
    })
    .await;
    let mut session = session(vec![node.url.clone()]);
    session.chat(request()).unwrap();
    let mut events = Vec::new();
    while indexes(&events).len() < 2 {
        events.push(timeout(PATIENCE, session.next()).await.unwrap().unwrap());
    }
    session.cancel(message());
    events.extend(run(&mut session).await);
    assert!(matches!(events.last(), Some(Event::Complete(_))), "{events:?}");
}

#[tokio::test]
async fn without_any_node_it_gives_up_in_time() {
    let mut options = Options::new(vec![Node::nowhere().await]);
    options.give_up_after = Some(Duration::from_millis(300));
    let tokens = TokenSource::Fixed("secret".into());
    let mut session =
        Session::new(options, tokens, SmallRng::seed_from_u64(7), Recorder::default());
    let events = run(&mut session).await;
    assert!(matches!(events.last(), Some(Event::Stopped(Stop::Unreachable(_)))), "{events:?}");
}

/// A request that was not accepted before a socket had to go is sent on the next one as well. When both accept
/// it, the newer one is listened to, and what is asked for after it was cut is what came on it.
#[tokio::test]
async fn a_request_that_two_sockets_accept_is_followed_on_the_newer_one() {
    let (step, steps) = tokio::sync::watch::channel(0);
    let step = Arc::new(step);
    let told = step.clone();
    let old = Node::start(move |n, mut peer: Peer| {
        let (told, mut steps) = (told.clone(), steps.clone());
        async move {
            if n > 0 {
                return;
            }
            peer.welcome("old", 20_000).await;
            let Some(ClientFrame::ChatRequest(request)) = peer.recv().await else { panic!() };
            peer.send(goaway()).await;
            steps.wait_for(|step| *step == 1).await.unwrap();
            peer.accepted(request.request_id.unwrap(), false).await;
            peer.chunks(0..7).await;
            told.send_replace(2);
            steps.wait_for(|step| *step == 3).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            // Nobody listens to this socket any more.
            peer.chunks(7..9).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            told.send_replace(4);
            peer.stay().await;
        }
    })
    .await;
    let asked = Arc::new(Mutex::new(None));
    let seen = asked.clone();
    let new = Node::start(move |n, mut peer: Peer| {
        let (step, seen) = (step.clone(), seen.clone());
        let mut steps = step.subscribe();
        async move {
            peer.welcome("new", 20_000).await;
            if n == 0 {
                let Some(ClientFrame::ChatRequest(request)) = peer.recv().await else { panic!() };
                step.send_replace(1);
                steps.wait_for(|step| *step == 2).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                peer.accepted(request.request_id.unwrap(), true).await;
                peer.chunks(0..3).await;
                step.send_replace(3);
                steps.wait_for(|step| *step == 4).await.unwrap();
                return;
            }
            let from = peer.recover(12).await.from;
            *seen.lock().unwrap() = Some(from);
            peer.chunks(from.0..TOKENS).await;
            peer.complete().await;
            peer.stay().await;
        }
    })
    .await;
    let (events, verdict) = chat(vec![old.url.clone(), new.url.clone()]).await;
    assert_whole(&events, &verdict);
    assert_eq!(
        *asked.lock().unwrap(),
        Some(Index(7)),
        "what the old socket brought after that is not counted"
    );
}
