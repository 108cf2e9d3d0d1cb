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
/// Before and after each sample, so that none meets what the one before left to do, and so that what
/// it cost Redis is accounted for.
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
    /// CPU of Redis for each PING and for each resume.
    pub(super) ping_cpu: Vec<f64>,
    pub(super) resume_cpu: Vec<f64>,
}

/// What one round gave.
#[derive(Default)]
pub(super) struct Round {
    /// The owner lives.
    pub(super) alive: Times,
    /// It was killed, and nobody is its successor yet.
    pub(super) dead: Times,
    /// Mean CPU of Redis for a resume and for a PING, each one right after the other.
    pub(super) resume_in_a_row: f64,
    pub(super) ping_in_a_row: f64,
    /// To the last byte, of twenty at once.
    pub(super) at_once: Vec<f64>,
    /// From the kill to another owner's TAKEOVER, in seconds, on a follower elsewhere.
    pub(super) takeover: f64,
}

/// Live answers that stand still, all chunks in the log.
pub(super) struct Answers {
    messages: std::vec::IntoIter<Answer>,
}

/// One of them: its id, and whose it is (a number of a user).
#[derive(Clone)]
struct Answer {
    message: String,
    user: usize,
}

impl Answers {
    fn take(&mut self, count: usize) -> Result<Vec<Answer>> {
        let taken: Vec<_> = self.messages.by_ref().take(count).collect();
        if taken.len() < count {
            bail!("too few answers were asked for");
        }
        Ok(taken)
    }
}

/// Answers of a round.
const ANSWERS: usize = WARM_UP + 2 * SAMPLES + AT_ONCE * BURSTS;
/// Live answers of one user, as many as a production node allows.
const OF_ONE_USER: usize = 20;
/// More than are resumed at the same moment: each has one socket a node.
const USERS: usize = ANSWERS.div_ceil(OF_ONE_USER);

/// A socket of each user, in their order.
fn sockets(cluster: &Cluster, node: usize, stop: &Stop) -> Result<Crowd> {
    let mut followers = Vec::with_capacity(USERS);
    for user in 0..USERS {
        followers.extend(cluster.connect(node, &format!("bench-{user}"), 1, stop)?.followers);
    }
    Ok(Crowd::new(followers))
}

/// Asks the first node for all answers of a round.
pub(super) fn ask(cluster: &Cluster, stop: &Stop) -> Result<Answers> {
    let mut askers = sockets(cluster, 0, stop)?;
    let mut messages = Vec::with_capacity(ANSWERS);
    let (last, tokens) = (CHUNKS - 1, CHUNKS + 1);
    for first in (0..ANSWERS).step_by(USERS) {
        for (user, asker) in askers.followers.iter_mut().enumerate() {
            let seed = first + user;
            asker.ask(&format!("[sim tokens={tokens} rate=0 stall={last} seed={seed}]"))?;
        }
        askers.wait("written", SOON, stop, |asker| asker.received() == CHUNKS)?;
        for (user, asker) in askers.followers.iter_mut().enumerate() {
            asker.unfollow()?;
            let message = asker.message().unwrap_or_default().to_owned();
            messages.push(Answer { message, user });
        }
    }
    Ok(Answers { messages: messages.into_iter() })
}

/// Everything of a round that needs the owner alive.
pub(super) fn while_it_lives(
    cluster: &mut Cluster,
    answers: &mut Answers,
    pings_first: bool,
    stop: &Stop,
) -> Result<Round> {
    let mut round = Round::default();
    let (mut second, mut third) = (sockets(cluster, 1, stop)?, sockets(cluster, 2, stop)?);
    let warm = answers.take(WARM_UP)?;
    for readers in [&mut second, &mut third] {
        interleaved(cluster, readers, &warm, &mut Times::default(), stop)?;
    }
    let lone = answers.take(SAMPLES)?;
    interleaved(cluster, &mut second, &lone, &mut round.alive, stop)?;
    let bursts = answers.take(AT_ONCE * BURSTS)?;
    let all: Vec<Answer> = lone.iter().chain(&bursts).cloned().collect();
    if pings_first {
        round.ping_in_a_row = pings_in_a_row(cluster, all.len() * PINGS)?;
        round.resume_in_a_row = resumes_in_a_row(cluster, &mut third, &all, stop)?;
    } else {
        round.resume_in_a_row = resumes_in_a_row(cluster, &mut third, &all, stop)?;
        round.ping_in_a_row = pings_in_a_row(cluster, all.len() * PINGS)?;
    }
    for burst in bursts.chunks(AT_ONCE) {
        round.at_once.extend(together(&mut second, burst, stop)?);
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
    let mut readers = sockets(cluster, 1, stop)?;
    let mut survivor = survivor(cluster, stop)?;
    let left = answers.take(SAMPLES)?;
    let killed = now();
    cluster.playground.kill(OWNER)?;
    interleaved(cluster, &mut readers, &left, &mut round.dead, stop)?;
    let goes_on = |follower: &Follower| follower.taken_over_at().is_some() && follower.complete();
    survivor.until("told on after the kill", GOES_ON, stop, goes_on)?;
    let taken = survivor.followers[0].taken_over_at().context("no TAKEOVER")?;
    round.takeover = taken.duration_since(killed).as_secs_f64();
    Ok(())
}

/// A follower on another node of an answer that is in the middle.
fn survivor(cluster: &Cluster, stop: &Stop) -> Result<Crowd> {
    let mut asker = cluster.connect(0, "survivor", 1, stop)?;
    asker.followers[0].ask(SURVIVOR)?;
    asker.wait("accepted", SOON, stop, Follower::following)?;
    let message = asker.followers[0].message().unwrap_or_default().to_owned();
    let mut survivor = cluster.connect(2, "survivor", 1, stop)?;
    survivor.followers[0].survives();
    survivor.followers[0].follow(&message)?;
    survivor.wait("in the middle", SOON, stop, |follower| follower.received() >= 20)?;
    Ok(survivor)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A HEARTBEAT, a PING and a RECONNECT for each answer, in turns.
fn interleaved(
    cluster: &mut Cluster,
    readers: &mut Crowd,
    answers: &[Answer],
    times: &mut Times,
    stop: &Stop,
) -> Result<()> {
    for (at, answer) in answers.iter().enumerate() {
        for step in 0..3 {
            std::thread::sleep(GAP);
            let before = cluster.store.cpu()?;
            let cpu = match (at + step) % 3 {
                0 => {
                    times.heartbeat.push(heartbeat(readers, answer.user, stop)?);
                    continue;
                }
                1 => {
                    times.ping.push(micros(cluster.store.ping()?));
                    &mut times.ping_cpu
                }
                _ => {
                    let (first, last) = resumed(readers, answer, stop)?;
                    times.first.push(first);
                    times.last.push(last);
                    &mut times.resume_cpu
                }
            };
            std::thread::sleep(GAP);
            cpu.push(micros(cluster.store.cpu()?.since(&before)));
        }
    }
    Ok(())
}

fn heartbeat(readers: &mut Crowd, user: usize, stop: &Stop) -> Result<f64> {
    let acks = readers.followers[user].acks();
    let begin = now();
    readers.followers[user].heartbeat()?;
    readers.wait_for(user, "acknowledged", SOON, stop, |reader| reader.acks() > acks)?;
    Ok(micros(begin.elapsed()))
}

/// Microseconds from sending RECONNECT to the first and to the last missing chunk.
fn resumed(readers: &mut Crowd, answer: &Answer, stop: &Stop) -> Result<(f64, f64)> {
    let begin = now();
    readers.followers[answer.user].follow(&answer.message)?;
    let there = |reader: &Follower| reader.caught_up_at().is_some();
    readers.wait_for(answer.user, "caught up", SOON, stop, there)?;
    let reader = &mut readers.followers[answer.user];
    exactly(reader)?;
    let (first, last) = (reader.first_at(), reader.caught_up_at());
    let (Some(first), Some(last)) = (first, last) else { bail!("caught up without a chunk") };
    reader.unfollow()?;
    Ok((micros(first.duration_since(begin)), micros(last.duration_since(begin))))
}

/// All chunks, and of the first owner: a successor would have raised the epoch.
fn exactly(reader: &Follower) -> Result<()> {
    let (tail, received, epoch) = (reader.tail(), reader.received(), reader.epoch());
    if (tail, received) != (CHUNKS, CHUNKS) {
        bail!("{received} chunks came of {tail}, {CHUNKS} were due");
    }
    if epoch > 1 {
        bail!("the answer had another owner already (epoch {epoch})");
    }
    Ok(())
}

/// Resumes all at the same moment, each of another user; microseconds to each one's last byte.
fn together(readers: &mut Crowd, answers: &[Answer], stop: &Stop) -> Result<Vec<f64>> {
    let begin = now();
    for Answer { message, user } in answers {
        readers.followers[*user].follow(message)?;
    }
    // Who takes no part has caught up before, or never followed anything.
    let there = |reader: &Follower| reader.caught_up_at().is_some() || reader.message().is_none();
    readers.wait("caught up", SOON, stop, there)?;
    let mut times = Vec::with_capacity(answers.len());
    for Answer { user, .. } in answers {
        let reader = &mut readers.followers[*user];
        exactly(reader)?;
        let last = reader.caught_up_at().context("not caught up")?;
        times.push(micros(last.duration_since(begin)));
        reader.unfollow()?;
    }
    Ok(times)
}

/// Redis CPU of one resume, one at a time, in microseconds.
fn resumes_in_a_row(
    cluster: &Cluster,
    readers: &mut Crowd,
    answers: &[Answer],
    stop: &Stop,
) -> Result<f64> {
    let cpu = cluster.store.cpu()?;
    for answer in answers {
        resumed(readers, answer, stop)?;
    }
    Ok(micros(cluster.store.cpu()?.since(&cpu)) / answers.len() as f64)
}

/// The same of one PING.
fn pings_in_a_row(cluster: &mut Cluster, pings: usize) -> Result<f64> {
    let cpu = cluster.store.cpu()?;
    for _ in 0..pings {
        cluster.store.ping()?;
    }
    Ok(micros(cluster.store.cpu()?.since(&cpu)) / pings as f64)
}
