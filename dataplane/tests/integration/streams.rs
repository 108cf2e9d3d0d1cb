//! One owner: accepting, producing, bounds, cancelling.

use crate::cluster::{Cluster, Seen, alice, ask, request, request_named};
use protocol::server_frame::StreamState;
use protocol::{
    ChatRequest, ConversationId, ErrorCode, OnDisconnect, SealStatus, Settings, UserId,
};
use std::time::Duration;
use uuid::Uuid;

const SHORT: &str = "[sim tokens=40 rate=50 seed=3 types=text,thinking,code]";

#[tokio::test(start_paused = true)]
async fn an_answer_is_produced_coalesced_and_sealed() {
    let cluster = Cluster::start(1, Settings::default()).await;
    let accepted = ask(&cluster.node(0), SHORT).await;
    assert!(!accepted.duplicate);
    let seen = Seen::all(&cluster.node(0), accepted.message_id).await;
    seen.assert_completed(SHORT);
    let seal = seen.seal.unwrap();
    assert_eq!((seal.finish_reason.as_str(), seal.model.as_str()), ("stop", "scripted"));
    assert!((800..1_000).contains(&seal.latency_ms), "{}", seal.latency_ms);
    assert_eq!(seal.first_token_ms, Some(20));
    assert!(cluster.node(0).streams.is_empty(), "its place is free again");
}

#[tokio::test(start_paused = true)]
async fn the_same_request_id_starts_one_answer_from_any_node() {
    let cluster = Cluster::start(3, Settings::default()).await;
    let (a, b, c) = (cluster.node(0), cluster.node(1), cluster.node(2));
    let user = alice();
    let (first, second, third) = tokio::join!(
        a.accept(&user, request_named(SHORT, "r1")),
        b.accept(&user, request_named("something else", "r1")),
        a.accept(&user, request_named(SHORT, "r1")),
    );
    let accepted = [first.unwrap(), second.unwrap(), third.unwrap()];
    let late = c.accept(&user, request_named("later", "r1")).await.unwrap();
    assert!(late.duplicate);
    assert_eq!(accepted.iter().filter(|a| !a.duplicate).count(), 1);
    assert!(accepted.iter().all(|a| a.message_id == late.message_id));
    let seen = Seen::all(&c, late.message_id).await;
    assert_eq!(seen.seal.as_ref().unwrap().status, SealStatus::Completed);
    assert_eq!(cluster.calls_of(late.message_id).len(), 1);
    let other = b.accept(&UserId::new("bob"), request_named(SHORT, "r1")).await.unwrap();
    assert_ne!(other.message_id, late.message_id, "request ids are a user's own");
}

#[tokio::test(start_paused = true)]
async fn another_users_answer_is_not_there() {
    let cluster = Cluster::start(1, Settings::default()).await;
    let node = cluster.node(0);
    let accepted = ask(&node, SHORT).await;
    let bob = UserId::new("bob");
    let mut follower = node.follow(&bob, accepted.message_id, streamlog::Cursor::START);
    assert!(matches!(follower.next().await, Some(Err(streamlog::FollowError::NotFound))));
    let refused = node.cancel(&bob, accepted.message_id).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    let conversation_id = Some(accepted.conversation_id);
    let refused =
        node.accept(&bob, ChatRequest { conversation_id, ..request(SHORT) }).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound, "not even while it is being answered");
    Seen::all(&node, accepted.message_id).await.assert_completed(SHORT);
}

#[tokio::test(start_paused = true)]
async fn the_next_request_of_a_conversation_knows_the_last() {
    let cluster = Cluster::start(1, Settings::default()).await;
    let node = cluster.node(0);
    let id = ConversationId(Uuid::from_u128(5));
    let conversation_id = Some(id);
    let first = node.accept(&alice(), ChatRequest { conversation_id, ..request(SHORT) }).await;
    let answer = Seen::all(&node, first.unwrap().message_id).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let content: String = answer
        .chunks
        .iter()
        .filter(|(_, chunk)| chunk.kind.is_content())
        .map(|(_, chunk)| &*chunk.content)
        .collect();
    let known = node.conversation(&alice(), id).await.unwrap();
    let turns: Vec<_> = known.turns.iter().map(|t| (t.role.as_str(), t.content.as_str())).collect();
    assert_eq!(turns, [("user", SHORT), ("assistant", content.as_str())]);
}

#[tokio::test(start_paused = true)]
async fn cancel_reaches_the_owner_from_any_node_within_a_second() {
    let cluster = Cluster::start(3, Settings::default()).await;
    for (content, what) in [
        ("[sim tokens=1000 rate=20]", "while it talks"),
        ("[sim tokens=1000 rate=20 stall=3]", "while it is silent"),
    ] {
        let accepted = ask(&cluster.node(0), content).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = tokio::time::Instant::now();
        let state = cluster.node(2).cancel(&alice(), accepted.message_id).await.unwrap();
        assert_eq!(state, StreamState::Cancelling);
        let seen = Seen::all(&cluster.node(1), accepted.message_id).await;
        assert!(before.elapsed() <= Duration::from_secs(1), "{what}: {:?}", before.elapsed());
        assert_eq!(seen.seal.as_ref().unwrap().status, SealStatus::Cancelled, "{what}");
        seen.assert_text(content);
        let again = cluster.node(1).cancel(&alice(), accepted.message_id).await.unwrap();
        assert_eq!(again, StreamState::Sealed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_at_its_bounds() {
    let cluster = Cluster::start(1, Settings::default()).await;
    let node = cluster.node(0);
    for (content, seconds) in [
        ("[sim tokens=10 ttft=31000]", 30),
        ("[sim tokens=10 stall=3]", 60),
        ("[sim tokens=100000 rate=10]", 300),
    ] {
        let before = tokio::time::Instant::now();
        let accepted = ask(&node, content).await;
        Seen::all(&node, accepted.message_id).await.assert_failed(ErrorCode::StreamTimeout);
        let took = before.elapsed().as_secs_f64() - f64::from(seconds);
        assert!((0.0..1.5).contains(&took), "{content}: {:?}", before.elapsed());
    }
    let accepted = ask(&node, "[sim tokens=10 fail=4]").await;
    let seen = Seen::all(&node, accepted.message_id).await;
    seen.assert_failed(ErrorCode::UpstreamUnavailable);
    assert_eq!(seen.chunks.len(), 4, "what came before the break is kept");
    let accepted = ask(&node, "[sim tokens=many]").await;
    Seen::all(&node, accepted.message_id).await.assert_failed(ErrorCode::UpstreamError);
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_a_length() {
    let mut settings = Settings::default();
    settings.stream.max_chunks = 25;
    let cluster = Cluster::start(1, settings).await;
    let accepted = ask(&cluster.node(0), SHORT).await;
    let seen = Seen::all(&cluster.node(0), accepted.message_id).await;
    assert_eq!(seen.chunks.len(), 25);
    assert_eq!(seen.seal.unwrap().finish_reason, "length");
}

#[tokio::test(start_paused = true)]
async fn nobody_follows_so_it_is_cancelled_only_where_asked() {
    let cluster = Cluster::start(2, Settings::default()).await;
    let node = cluster.node(0);
    let long = "[sim tokens=100000 rate=10]";
    let on_disconnect = OnDisconnect::Cancel;
    let cancelled = node.accept(&alice(), ChatRequest { on_disconnect, ..request(long) }).await;
    let kept = ask(&node, long).await;
    let before = tokio::time::Instant::now();
    let seen = Seen::all(&cluster.node(1), cancelled.unwrap().message_id).await;
    assert_eq!(seen.seal.unwrap().status, SealStatus::Cancelled);
    let took = before.elapsed().as_secs_f64();
    assert!((29.0..32.0).contains(&took), "{took}");
    assert_eq!(node.streams.ids(), [kept.message_id], "the other one goes on");
}

#[tokio::test(start_paused = true)]
async fn a_full_node_refuses_and_says_so() {
    let mut settings = Settings::default();
    settings.limits.streams = 2;
    let cluster = Cluster::start(1, settings).await;
    let node = cluster.node(0);
    for _ in 0..2 {
        ask(&node, "[sim tokens=1000 rate=10]").await;
    }
    let refused = node.accept(&alice(), request(SHORT)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::AtCapacity);
    assert!(refused.retry_after.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_user_has_a_bound_of_live_answers() {
    let mut settings = Settings::default();
    settings.limits.answers_per_user = 2;
    let cluster = Cluster::start(2, settings).await;
    for at in 0..2 {
        ask(&cluster.node(at), SHORT).await;
    }
    let refused = cluster.node(0).accept(&alice(), request(SHORT)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    tokio::time::sleep(Duration::from_secs(2)).await;
    ask(&cluster.node(0), SHORT).await;
}
