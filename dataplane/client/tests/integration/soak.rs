//! What a soak makes of a node that says what it must not.

use crate::node::{Node, Peer, TOKENS, directive, message};
use client::soak::{PhaseReport, SoakOptions, run};
use client::token::TokenSource;
use std::time::Duration;
use tokio::sync::mpsc;

/// One socket that asks until its second answer hangs.
async fn soak<F>(basic: bool, script: impl Fn(usize, Peer) -> F + Send + 'static) -> PhaseReport
where
    F: Future<Output = ()> + Send + 'static,
{
    let node = Node::start(script).await;
    let options = SoakOptions {
        urls: vec![node.url.clone()],
        tokens: TokenSource::Fixed("token".to_owned()),
        sockets: 1,
        basic_percent: if basic { 100 } else { 0 },
        rate: 100.0,
        directive: directive(),
        prompt: "hello".to_owned(),
        answer_within: Duration::from_secs(2),
        seed: 1,
        progress: None,
    };
    let (commands, heard) = mpsc::channel(1);
    let end = async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(commands);
    };
    tokio::join!(run(options, heard), end).0.total
}

#[tokio::test]
async fn what_comes_after_the_end_of_an_answer_is_wrong_in_v1() {
    let answers = |again: bool| {
        move |n: usize, mut peer: Peer| async move {
            peer.welcome("a", 10_000).await;
            if n == 0 {
                peer.accept(false).await;
                peer.chunks(0..TOKENS).await;
                peer.complete().await;
                if again {
                    peer.chunks(3..4).await;
                }
            }
            peer.stay().await;
        }
    };
    let fine = soak(false, answers(false)).await;
    assert_eq!((fine.completed, fine.wrong, fine.hung), (1, 0, 1), "{fine:#?}");
    let again = soak(false, answers(true)).await;
    assert_eq!((again.completed, again.wrong, again.hung), (1, 1, 1), "{again:#?}");
}

#[tokio::test]
async fn frames_of_another_answer_and_chunks_without_an_index_are_wrong_in_basic() {
    let answers = |also: &'static str| {
        move |_: usize, mut peer: Peer| async move {
            peer.welcome("a", 10_000).await;
            peer.recv().await;
            peer.chunks(0..1).await;
            peer.raw(also).await;
            peer.chunks(1..TOKENS).await;
            peer.complete().await;
            peer.stay().await;
        }
    };
    let beat = r#"{"type":"HEARTBEAT_ACK","data":{}}"#;
    let fine = soak(true, answers(beat)).await;
    assert_eq!((fine.completed, fine.wrong, fine.hung), (1, 0, 1), "{fine:#?}");
    let other =
        r#"{"type":"CHUNK","data":{"messageId":"other","index":1,"type":"text","content":"x"}}"#;
    let other = soak(true, answers(other)).await;
    assert_eq!((other.completed, other.wrong), (1, 1), "{other:#?}");
    let id = message();
    let torn =
        format!(r#"{{"type":"CHUNK","data":{{"messageId":"{id}","type":"text","content":"x"}}}}"#);
    let torn = soak(true, answers(torn.leak())).await;
    assert_eq!((torn.completed, torn.wrong), (1, 1), "{torn:#?}");
}
