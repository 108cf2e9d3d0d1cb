//! What an append costs Redis, as a ratio to the cheapest thing that keeps the same bytes.

use super::super::RedisEngine;
use super::{Stage, handles, until};
use crate::conformance::Writer;
use crate::log::StreamLog;
use crate::redis::server::RedisServer;
use futures_util::future::join_all;
use protocol::Index;

const STREAMS: usize = 100;
const ROUNDS: usize = 40;
const LAPS: usize = 4;
/// A script costs several bare commands; a mistake in it costs ten times as much.
const AT_MOST: f64 = 12.0;

/// Microseconds of processor time that the server has used.
fn used(server: &RedisServer) -> f64 {
    let info = server.command("INFO cpu").unwrap();
    let read = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    (read("used_cpu_user:") + read("used_cpu_sys:")) * 1e6
}

async fn appended(engine: &RedisEngine, writers: &mut [Writer]) {
    let before = engine.stats().calls;
    for _ in 0..ROUNDS {
        for done in join_all(writers.iter_mut().map(|writer| writer.append(4))).await {
            done.unwrap();
        }
    }
    let calls = engine.stats().calls - before;
    assert!(calls < (STREAMS * ROUNDS / 10) as u64, "{calls} calls: they travel together");
}

async fn bare(engine: &RedisEngine, bytes: usize) {
    let value = vec![7_u8; bytes];
    for _ in 0..ROUNDS {
        let mut pipeline = redis::Pipeline::with_capacity(STREAMS);
        for at in 0..STREAMS {
            pipeline.cmd("APPEND").arg(format!("{}bare:{at}", engine.inner.shore.config.prefix));
            pipeline.arg(&value);
        }
        engine.inner.writes.send(&pipeline).await.unwrap();
    }
}

#[tokio::test]
async fn an_append_costs_a_few_bare_commands() {
    let server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let own = handles(&a);
    let mut writers = join_all((0..STREAMS).map(|_| Writer::open(&own))).await;
    // In turn, and the cheapest lap of each: whatever else runs on the machine only adds to a lap.
    let [mut plain, mut append, mut followed] = [f64::MAX; 3];
    for _ in 0..LAPS {
        plain = plain.min(lap(&server, bare(&a, 60)).await);
        append = append.min(lap(&server, appended(&a, &mut writers)).await);
    }
    let mut watches = Vec::new();
    for writer in &writers {
        watches.push(b.attach(writer.stream, Index(0), 1).await.unwrap());
    }
    for turn in 1..=LAPS {
        let hinted = async {
            appended(&a, &mut writers).await;
            until(|| b.stats().hints == (turn * STREAMS * ROUNDS) as u64).await;
        };
        followed = followed.min(lap(&server, hinted).await);
    }
    println!("µs of Redis: APPEND {plain:.1}, append {append:.1}, with a follower {followed:.1}");
    assert!(append < plain * AT_MOST, "{append:.1} µs an append, {plain:.1} µs an APPEND");
    assert!(followed < plain * AT_MOST * 2.0, "{followed:.1} µs with a follower");
}

/// Microseconds of the server that one of the lap's calls took.
async fn lap(server: &RedisServer, calls: impl Future<Output = ()>) -> f64 {
    let before = used(server);
    calls.await;
    (used(server) - before) / (STREAMS * ROUNDS) as f64
}

#[tokio::test]
async fn a_resume_costs_about_a_ping() {
    let server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let own = handles(&a);
    let mut writers = join_all((0..STREAMS).map(|_| Writer::open(&own))).await;
    for _ in 0..50 {
        join_all(writers.iter_mut().map(|writer| writer.append(4))).await;
    }
    let mut laps = Vec::new();
    for round in 0..6 {
        let (before, start) = (used(&server), tokio::time::Instant::now());
        for writer in &writers {
            if round % 2 == 0 {
                b.inner.reads.ask(redis::cmd("PING")).await.unwrap();
            } else {
                // A device comes back after half of the answer; the first round registers the node.
                let (page, _watch) = b.attach(writer.stream, Index(100), 1 << 18).await.unwrap();
                assert_eq!(crate::conformance::text(&page).len(), 100);
            }
        }
        laps.push(((used(&server) - before) / STREAMS as f64, start.elapsed() / STREAMS as u32));
    }
    println!("PING, resume of 100 from 200, in turn: µs of Redis and time: {laps:.1?}");
    let [ping, resume] =
        [0, 1].map(|at| laps.iter().skip(at).step_by(2).map(|lap| lap.0).fold(f64::MAX, f64::min));
    assert!(resume < ping * 4.0, "{resume:.1} µs of Redis a resume, {ping:.1} a PING");
}
