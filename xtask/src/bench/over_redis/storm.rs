//! A node dies under two thousand clients, and all of them come back at once on the other nodes.

use super::super::load::{Crowd, Cursor, Follower, NAP};
use super::super::websocket::{Handshake, Upgrade};
use super::SOON;
use super::cluster::{Cluster, OWNER, since};
use crate::process::{Stop, now};
use anyhow::{Context as _, Result, bail};
use std::time::{Duration, Instant};

/// Live answers, and sockets that follow each: a user with so many devices.
pub(super) const ANSWERS: usize = 200;
pub(super) const DEVICES: usize = 10;
/// Chunks a second and answer, and chunks of an answer.
pub(super) const RATE: u32 = 10;
const CHUNKS: u64 = 120;
/// Everybody reads for so long, and then nobody until the kill: each client misses some chunks.
const READ_FOR: Duration = Duration::from_secs(3);
pub(super) const SILENT: Duration = Duration::from_secs(2);
/// Longest storm that is waited for.
const STORM: Duration = Duration::from_secs(30);
/// Until the last answer is over, takeovers included.
const OVER: Duration = Duration::from_secs(60);
/// Connections begun before those on their way are looked at.
const AT_ONCE: usize = 50;

/// What one storm was.
pub(super) struct Storm {
    /// From the first connection to the last client that has caught up, in seconds.
    pub(super) seconds: f64,
    /// From its connection to being caught up, of each client, in milliseconds.
    pub(super) clients: Vec<f64>,
    /// Chunks that were missing, of all clients.
    pub(super) missed: u64,
    /// Upgrades that were answered 503.
    pub(super) refused: usize,
    /// CPU a client from the first connection to the last one caught up, in microseconds.
    pub(super) redis: f64,
    pub(super) nodes: f64,
}

/// One storm on a fresh cluster; an error where a chunk was lost, doubled or out of order.
pub(super) fn storm(cluster: &Cluster, stop: &Stop) -> Result<Storm> {
    let (mut crowd, tokens) = followers(cluster, stop)?;
    crowd.drain_for(READ_FOR, stop)?;
    stop.sleep(SILENT)?;
    cluster.playground.kill(OWNER)?;
    let cursors: Vec<Cursor> = crowd.followers.iter().map(Follower::cursor).collect();
    let (redis, nodes) = (cluster.store.cpu()?, cluster.nodes_cpu()?);
    let begin = now();
    let mut back = Back::new(cluster, &tokens, &cursors);
    let returned = back.all(stop)?;
    let redis = cluster.store.cpu()?.since(&redis);
    let nodes = since(&nodes, &cluster.nodes_cpu()?);
    let mut storm = Storm {
        seconds: 0.0,
        clients: Vec::new(),
        missed: 0,
        refused: back.refused,
        redis: redis.as_secs_f64() * 1e6 / cursors.len() as f64,
        nodes: nodes.as_secs_f64() * 1e6 / cursors.len() as f64,
    };
    let mut followers = Vec::with_capacity(returned.len());
    for (number, begun, follower) in returned {
        let at = follower.caught_up_at().context("not caught up")?;
        storm.seconds = storm.seconds.max(at.duration_since(begin).as_secs_f64());
        storm.clients.push(at.duration_since(begun).as_secs_f64() * 1e3);
        storm.missed += follower.tail() - cursors[number].next;
        followers.push(follower);
    }
    drop(crowd);
    until_over(followers, stop)?;
    Ok(storm)
}

/// Everybody to the end of the answer: the order is checked with each chunk, the number here.
fn until_over(followers: Vec<Follower>, stop: &Stop) -> Result<()> {
    let mut crowd = Crowd::new(followers);
    crowd.until("complete", OVER, stop, Follower::complete)?;
    let lost = crowd.followers.iter().filter(|follower| follower.received() != CHUNKS).count();
    if lost > 0 {
        bail!("{lost} clients have not exactly {CHUNKS} chunks");
    }
    Ok(())
}

/// All clients on the first node, following live answers; and each answer's user's token.
fn followers(cluster: &Cluster, stop: &Stop) -> Result<(Crowd, Vec<String>)> {
    let target = cluster.target(0)?;
    let (mut followers, mut tokens) = (Vec::new(), Vec::new());
    for user in 0..ANSWERS {
        let token = cluster.playground.token(&format!("storm-{user}"))?;
        for _ in 0..DEVICES {
            followers.push(Follower::connect(&target, &token, stop)?);
        }
        tokens.push(token);
    }
    let mut crowd = Crowd::new(followers);
    crowd.until("welcomed", SOON, stop, Follower::welcomed)?;
    for (user, devices) in crowd.followers.chunks_mut(DEVICES).enumerate() {
        devices[0].ask(&format!("[sim tokens={CHUNKS} rate={RATE} seed={user}]"))?;
    }
    let asked = |crowd: &Crowd| {
        crowd.followers.chunks(DEVICES).filter(|devices| devices[0].message().is_none()).count()
    };
    let deadline = now() + SOON;
    while asked(&crowd) > 0 {
        if now() > deadline {
            bail!("{} answers were not accepted in {SOON:?}", asked(&crowd));
        }
        crowd.drain_for(NAP, stop)?;
    }
    for devices in crowd.followers.chunks_mut(DEVICES) {
        let message = devices[0].message().unwrap_or_default().to_owned();
        for device in &mut devices[1..] {
            device.follow(&message)?;
        }
    }
    crowd.until("following", SOON, stop, Follower::following)?;
    Ok((crowd, tokens))
}

/// Where one client is on its way back.
enum Step {
    /// It connects then.
    Due(Instant),
    Shaking(Handshake),
    Open(Box<Follower>),
}

struct Client {
    begun: Instant,
    step: Step,
}

/// All clients on their way back.
struct Back<'a> {
    cluster: &'a Cluster,
    tokens: &'a [String],
    cursors: &'a [Cursor],
    clients: Vec<Client>,
    refused: usize,
}

/// Number of a client, when it began, and its open socket.
type Returned = (usize, Instant, Follower);

impl<'a> Back<'a> {
    fn new(cluster: &'a Cluster, tokens: &'a [String], cursors: &'a [Cursor]) -> Self {
        let begun = now();
        let client = |_| Client { begun, step: Step::Due(begun) };
        let clients = cursors.iter().map(client).collect();
        Self { cluster, tokens, cursors, clients, refused: 0 }
    }

    /// Until every client has what was in the log when its RECONNECT was answered.
    fn all(&mut self, stop: &Stop) -> Result<Vec<Returned>> {
        let deadline = now() + STORM;
        let mut scratch = Crowd::new(Vec::new());
        loop {
            stop.check()?;
            let (begun, missing) = self.pass(&mut scratch)?;
            if missing == 0 {
                break;
            }
            if now() > deadline {
                bail!("{missing} of {} clients not back in {STORM:?}", self.clients.len());
            }
            if begun == 0 {
                std::thread::sleep(NAP);
            }
        }
        let clients = std::mem::take(&mut self.clients).into_iter().enumerate();
        let returned = clients.map(|(number, Client { begun, step })| match step {
            Step::Open(follower) => Ok((number, begun, *follower)),
            _ => bail!("client {number} is not connected"),
        });
        returned.collect()
    }

    /// One look at every client: how many connections were begun, and how many are not back.
    fn pass(&mut self, scratch: &mut Crowd) -> Result<(usize, usize)> {
        let (mut begun, mut missing) = (0, 0);
        for number in 0..self.clients.len() {
            let next = match &mut self.clients[number].step {
                Step::Due(at) if begun < AT_ONCE && *at <= now() => {
                    begun += 1;
                    self.clients[number].begun = now();
                    Some(Step::Shaking(self.connect(number)?))
                }
                Step::Due(_) => None,
                Step::Shaking(handshake) => match handshake.poll()? {
                    Some(body) => self.shaken(number, body)?,
                    None => None,
                },
                Step::Open(follower) => {
                    scratch.drain_one(number, follower)?;
                    missing += usize::from(follower.caught_up_at().is_none());
                    continue;
                }
            };
            missing += 1;
            if let Some(next) = next {
                self.clients[number].step = next;
            }
        }
        Ok((begun, missing))
    }

    /// Half of them to either node, as the same session, with what their last WELCOME gave them.
    fn connect(&self, number: usize) -> Result<Handshake> {
        let cursor = &self.cursors[number];
        let target = self.cluster.target_of_session(1 + number % 2, &cursor.session)?;
        Handshake::begin(&target, &self.tokens[number / DEVICES], Some(&cursor.resume_token))
            .with_context(|| format!("client {number}"))
    }

    fn shaken(&mut self, number: usize, body: usize) -> Result<Option<Step>> {
        let done = Step::Due(now());
        let Step::Shaking(handshake) = std::mem::replace(&mut self.clients[number].step, done)
        else {
            return Ok(None);
        };
        Ok(Some(match handshake.finish(body)? {
            Upgrade::Open(socket) => {
                Step::Open(Box::new(Follower::come_back(socket, &self.cursors[number])?))
            }
            Upgrade::Refused(wait) => {
                self.refused += 1;
                Step::Due(now() + wait)
            }
        }))
    }
}
