//! Redis CPU of a token chunk: many live answers on one node, followed there or on another one.

use super::super::load::{Crowd, Follower, Tally};
use super::super::measures::Sample;
use super::super::proc::{Cpu, Machine};
use super::SOON;
use super::cluster::{Cluster, since};
use crate::process::{Stop, now};
use anyhow::{Result, bail};
use std::time::Duration;

/// Live answers, each with one follower.
pub(super) const STREAMS: usize = 200;
/// Chunks a second and answer.
pub(super) const RATE: u32 = 100;
/// Before the window.
const SETTLE: Duration = Duration::from_secs(1);
/// How much longer than settling and window an answer lasts.
const MARGIN: Duration = Duration::from_secs(3);
/// Between the starts of two answers, so that they are not all due at the same moment.
const SPACING: Duration = Duration::from_millis(2);
/// Users, to stay clear of a user's limits.
const USERS: usize = 5;

/// One window.
pub(super) struct Window {
    /// Its `micros` are Redis' a chunk.
    pub(super) sample: Sample,
    /// CPU of all nodes a chunk, in microseconds.
    pub(super) nodes: f64,
}

/// CPU that Redis uses in a second while nothing happens, in microseconds.
pub(super) fn idle(cluster: &Cluster, length: Duration, stop: &Stop) -> Result<f64> {
    let (cpu, begin) = (cluster.store.cpu()?, now());
    stop.sleep(length)?;
    let used = cluster.store.cpu()?.since(&cpu);
    Ok(used.as_secs_f64() * 1e6 / begin.elapsed().as_secs_f64())
}

/// One window in which the first node owns all answers; they are followed there or, where `remote`,
/// on another node only.
pub(super) fn window(
    cluster: &Cluster,
    remote: bool,
    length: Duration,
    stop: &Stop,
) -> Result<Window> {
    let chunks = (f64::from(RATE) * (SETTLE + length + MARGIN).as_secs_f64()).round() as u64;
    let mut askers = sockets(cluster, 0, stop)?;
    let crowd = if remote {
        let mut followers = sockets(cluster, 1, stop)?;
        ask_and_hand_over(&mut askers, &mut followers, chunks, stop)?;
        &mut { followers }
    } else {
        ask_each(&mut askers, chunks, stop)?;
        &mut askers
    };
    crowd.until("following", SOON, stop, Follower::following)?;
    crowd.drain_for(SETTLE, stop)?;
    let window = counted(cluster, crowd, length, stop)?;
    if crowd.followers.iter().any(Follower::complete) {
        bail!("an answer ended inside the window");
    }
    crowd.until("complete", SOON, stop, Follower::complete)?;
    if let Some(wrong) = crowd.followers.iter().find(|follower| follower.received() != chunks) {
        bail!("{} chunks came of {chunks}", wrong.received());
    }
    Ok(window)
}

fn sockets(cluster: &Cluster, node: usize, stop: &Stop) -> Result<Crowd> {
    let mut followers = Vec::with_capacity(STREAMS);
    for user in 0..USERS {
        let sockets = STREAMS / USERS;
        followers.extend(cluster.connect(node, &format!("bench-{user}"), sockets, stop)?.followers);
    }
    Ok(Crowd::new(followers))
}

fn ask_each(askers: &mut Crowd, chunks: u64, stop: &Stop) -> Result<()> {
    let mut due = now();
    for number in 0..askers.followers.len() {
        stop.check()?;
        askers.followers[number]
            .ask(&format!("[sim tokens={chunks} rate={RATE} seed={number}]"))?;
        due += SPACING;
        std::thread::sleep(due.saturating_duration_since(now()));
        askers.drain()?;
    }
    Ok(())
}

/// Everybody asks at the owner and reads elsewhere.
fn ask_and_hand_over(
    askers: &mut Crowd,
    followers: &mut Crowd,
    chunks: u64,
    stop: &Stop,
) -> Result<()> {
    ask_each(askers, chunks, stop)?;
    askers.until("accepted", SOON, stop, Follower::following)?;
    for (asker, follower) in askers.followers.iter_mut().zip(&mut followers.followers) {
        asker.unfollow()?;
        follower.follow(asker.message().unwrap_or_default())?;
    }
    Ok(())
}

fn counted(cluster: &Cluster, crowd: &mut Crowd, length: Duration, stop: &Stop) -> Result<Window> {
    let me = std::process::id();
    crowd.drain()?;
    let (tally, redis, nodes) = (crowd.tally, cluster.store.cpu()?, cluster.nodes_cpu()?);
    let (own, machine, begin) = (Cpu::of(me)?, Machine::now()?, now());
    crowd.drain_for(length, stop)?;
    let took = begin.elapsed();
    let redis = cluster.store.cpu()?.since(&redis);
    let nodes = since(&nodes, &cluster.nodes_cpu()?);
    let generator = Cpu::of(me)?.since(&own);
    let (steal, others) = Machine::now()?.disturbance(&machine, redis + nodes + generator);
    let Tally { chunks, frames, .. } = crowd.tally;
    let (chunks, frames) = (chunks - tally.chunks, frames - tally.frames);
    let due = f64::from(RATE) * STREAMS as f64 * took.as_secs_f64();
    if (chunks as f64) < 0.9 * due {
        bail!("{chunks} chunks came in a window in which {due:.0} were due");
    }
    let sample = Sample {
        micros: redis.as_secs_f64() * 1e6 / chunks as f64,
        chunks_a_frame: chunks as f64 / frames as f64,
        generator: generator.as_secs_f64() / took.as_secs_f64(),
        steal,
        others,
    };
    Ok(Window { sample, nodes: nodes.as_secs_f64() * 1e6 / chunks as f64 })
}
