//! One resume on a node that never saw the answer: how long it takes beside a HEARTBEAT on the same
//! socket and a PING of Redis, and what it costs Redis. A round has nodes of its own, because an
//! answer can be new to a node only once.

use super::super::load::{Crowd, Follower};
use super::SOON;
use super::cluster::{Cluster, OWNER};
use crate::process::{Stop, now};
use anyhow::{Context as _, Result, bail};
use std::time::Duration;

/// Chunks that are missing.
pub(super) const CHUNKS: u64 = 200;
/// Resumes of one kind in a round.
pub(super) const SAMPLES: usize = 100;
/// So many at the same moment, so often in a round.
pub(super) const AT_ONCE: usize = 20;
const BURSTS: usize = 10;
/// Resumes before anything counts.
const WARM_UP: usize = 20;
/// Between two samples, so that none meets what the one before left to do.
const GAP: Duration = Duration::from_millis(1);
/// PINGs for one resume, where CPU is counted.
const PINGS: usize = 5;
/// Of the answer that goes on while its owner is killed.
const SURVIVOR: &str = "[sim tokens=150 rate=20 seed=1]";
/// It is taken over when the lease is over, and then told on.
const GOES_ON: Duration = Duration::from_secs(40);

/// Times of one kind of resume and of what it is compared with, in microseconds.
#[derive(Default)]
pub(super) struct Times {
    pub(super) heartbeat: Vec<f64>,
    pub(super) ping: Vec<f64>,
    /// To the first missing chunk.
    pub(super) first: Vec<f64>,
    /// To the last byte.
    pub(super) last: Vec<f64>,
}

/// What one round gave.
#[derive(Default)]
pub(super) struct Round {
    /// The owner lives.
    pub(super) alive: Times,
    /// It was killed, and nobody is its successor yet.
    pub(super) dead: Times,
    /// Redis CPU of one resume and of one PING, in microseconds.
    pub(super) resume_cpu: f64,
    pub(super) ping_cpu: f64,
    /// To the last byte, of twenty at once.
    pub(super) at_once: Vec<f64>,
    /// From the kill to another owner's TAKEOVER, in seconds, on a follower elsewhere.
    pub(super) takeover: f64,
}

/// Live answers that stand still, all chunks in the log, and who asked for them.
pub(super) struct Answers {
    messages: std::vec::IntoIter<String>,
    asker: Crowd,
}

impl Answers {
    fn take(&mut self, count: usize) -> Result<Vec<String>> {
        let taken: Vec<_> = self.messages.by_ref().take(count).collect();
        if taken.len() < count {
            bail!("too few answers were asked for");
        }
        Ok(taken)
    }
}

/// Asks the first node for all answers of a round.
pub(super) fn ask(cluster: &Cluster, stop: &Stop) -> Result<Answers> {
    let count = WARM_UP + 2 * SAMPLES + AT_ONCE * BURSTS;
    let mut asker = cluster.connect(0, USER, 1, stop)?;
    let mut messages = Vec::with_capacity(count);
    for seed in 0..count {
        let (last, tokens) = (CHUNKS - 1, CHUNKS + 1);
        asker.followers[0]
            .ask(&format!("[sim tokens={tokens} rate=0 stall={last} seed={seed}]"))?;
        asker.wait("written", SOON, stop, |asker| asker.received() == CHUNKS)?;
        asker.followers[0].unfollow()?;
        messages.push(asker.followers[0].message().unwrap_or_default().to_owned());
    }
    Ok(Answers { messages: messages.into_iter(), asker })
}

/// Whose answers they are.
const USER: &str = "bench";

/// Everything of a round that needs the owner alive.
pub(super) fn while_it_lives(
    cluster: &mut Cluster,
    answers: &mut Answers,
    pings_first: bool,
    stop: &Stop,
) -> Result<Round> {
    let mut round = Round::default();
    let (mut second, mut third) =
        (cluster.connect(1, USER, 1, stop)?, cluster.connect(2, USER, 1, stop)?);
    let warm = answers.take(WARM_UP)?;
    for reader in [&mut second, &mut third] {
        interleaved(cluster, reader, &warm, &mut Times::default(), stop)?;
    }
    let lone = answers.take(SAMPLES)?;
    interleaved(cluster, &mut second, &lone, &mut round.alive, stop)?;
    let bursts = answers.take(AT_ONCE * BURSTS)?;
    let all: Vec<String> = lone.iter().chain(&bursts).cloned().collect();
    if pings_first {
        round.ping_cpu = ping_cpu(cluster, all.len() * PINGS)?;
        round.resume_cpu = resume_cpu(cluster, &mut third, &all, stop)?;
    } else {
        round.resume_cpu = resume_cpu(cluster, &mut third, &all, stop)?;
        round.ping_cpu = ping_cpu(cluster, all.len() * PINGS)?;
    }
    let mut crowd = cluster.connect(1, USER, AT_ONCE, stop)?;
    for burst in bursts.chunks(AT_ONCE) {
        round.at_once.extend(together(&mut crowd, burst, stop)?);
        stop.sleep(5 * GAP)?;
    }
    Ok(round)
}

/// Kills the owner, resumes before there is another one, and waits until there is.
pub(super) fn while_nobody_owns(
    cluster: &mut Cluster,
    answers: &mut Answers,
    round: &mut Round,
    stop: &Stop,
) -> Result<()> {
    let mut reader = cluster.connect(1, USER, 1, stop)?;
    let mut survivor = survivor(cluster, answers, stop)?;
    let messages = answers.take(SAMPLES)?;
    let killed = now();
    cluster.playground.kill(OWNER)?;
    interleaved(cluster, &mut reader, &messages, &mut round.dead, stop)?;
    let goes_on = |follower: &Follower| follower.taken_over_at().is_some() && follower.complete();
    survivor.until("told on after the kill", GOES_ON, stop, goes_on)?;
    let taken = survivor.followers[0].taken_over_at().context("no TAKEOVER")?;
    round.takeover = taken.duration_since(killed).as_secs_f64();
    Ok(())
}

/// A follower on another node of an answer that is in the middle.
fn survivor(cluster: &Cluster, answers: &mut Answers, stop: &Stop) -> Result<Crowd> {
    let asker = &mut answers.asker;
    asker.followers[0].ask(SURVIVOR)?;
    asker.wait("accepted", SOON, stop, Follower::following)?;
    let message = asker.followers[0].message().unwrap_or_default().to_owned();
    let mut survivor = cluster.connect(2, USER, 1, stop)?;
    survivor.followers[0].survives();
    survivor.followers[0].follow(&message)?;
    survivor.wait("in the middle", SOON, stop, |follower| follower.received() >= 20)?;
    Ok(survivor)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A HEARTBEAT, a PING and a RECONNECT for each message, in turns.
fn interleaved(
    cluster: &mut Cluster,
    reader: &mut Crowd,
    messages: &[String],
    times: &mut Times,
    stop: &Stop,
) -> Result<()> {
    for (at, message) in messages.iter().enumerate() {
        for step in 0..3 {
            std::thread::sleep(GAP);
            match (at + step) % 3 {
                0 => times.heartbeat.push(heartbeat(reader, stop)?),
                1 => times.ping.push(micros(cluster.store.ping()?)),
                _ => {
                    let (first, last) = resumed(reader, message, stop)?;
                    times.first.push(first);
                    times.last.push(last);
                }
            }
        }
    }
    Ok(())
}

fn heartbeat(reader: &mut Crowd, stop: &Stop) -> Result<f64> {
    let acks = reader.followers[0].acks();
    let begin = now();
    reader.followers[0].heartbeat()?;
    reader.wait("acknowledged", SOON, stop, |reader| reader.acks() > acks)?;
    Ok(micros(begin.elapsed()))
}

/// Microseconds from sending RECONNECT to the first and to the last missing chunk.
fn resumed(reader: &mut Crowd, message: &str, stop: &Stop) -> Result<(f64, f64)> {
    let begin = now();
    reader.followers[0].follow(message)?;
    let there = |reader: &Follower| reader.caught_up_at().is_some();
    reader.wait("caught up", SOON, stop, there)?;
    let follower = &mut reader.followers[0];
    exactly(follower)?;
    let (first, last) = (follower.first_at(), follower.caught_up_at());
    let (Some(first), Some(last)) = (first, last) else { bail!("caught up without a chunk") };
    follower.unfollow()?;
    Ok((micros(first.duration_since(begin)), micros(last.duration_since(begin))))
}

/// All chunks, and of the first owner: a successor would have raised the epoch.
fn exactly(follower: &Follower) -> Result<()> {
    let (tail, received, epoch) = (follower.tail(), follower.received(), follower.epoch());
    if (tail, received) != (CHUNKS, CHUNKS) {
        bail!("{received} chunks came of {tail}, {CHUNKS} were due");
    }
    if epoch > 1 {
        bail!("the answer had another owner already (epoch {epoch})");
    }
    Ok(())
}

/// Resumes all at the same moment, one a socket; microseconds to each one's last byte.
fn together(crowd: &mut Crowd, messages: &[String], stop: &Stop) -> Result<Vec<f64>> {
    let begin = now();
    for (follower, message) in crowd.followers.iter_mut().zip(messages) {
        follower.follow(message)?;
    }
    crowd.wait("caught up", SOON, stop, |follower| follower.caught_up_at().is_some())?;
    let mut times = Vec::with_capacity(messages.len());
    for follower in &mut crowd.followers {
        exactly(follower)?;
        let last = follower.caught_up_at().context("not caught up")?;
        times.push(micros(last.duration_since(begin)));
        follower.unfollow()?;
    }
    Ok(times)
}

/// Redis CPU of one resume, one at a time, in microseconds.
fn resume_cpu(
    cluster: &Cluster,
    reader: &mut Crowd,
    messages: &[String],
    stop: &Stop,
) -> Result<f64> {
    let cpu = cluster.store.cpu()?;
    for message in messages {
        resumed(reader, message, stop)?;
    }
    Ok(micros(cluster.store.cpu()?.since(&cpu)) / messages.len() as f64)
}

/// The same of one PING.
fn ping_cpu(cluster: &mut Cluster, pings: usize) -> Result<f64> {
    let cpu = cluster.store.cpu()?;
    for _ in 0..pings {
        cluster.store.ping()?;
    }
    Ok(micros(cluster.store.cpu()?.since(&cpu)) / pings as f64)
}
