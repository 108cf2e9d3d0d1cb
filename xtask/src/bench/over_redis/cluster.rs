//! Node processes over a Redis of their own, as one round of a measure needs them.

use super::super::load::{Crowd, Follower};
use super::super::proc::{Cpu, descendants};
use super::super::websocket::Target;
use super::SOON;
use super::store::Store;
use crate::playground::{Options, Playground};
use crate::process::Stop;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::time::Duration;

/// The names that the playground gives.
pub(super) const OWNER: &str = "node-1";
const NODES: usize = 3;
/// Coalescing window of the nodes, in milliseconds; also their default.
const WINDOW_MS: u64 = 40;

/// Three nodes: the first one owns the answers, the others do not.
pub(super) struct Cluster {
    pub(super) playground: Playground,
    pub(super) store: Store,
    urls: Vec<String>,
}

impl Cluster {
    pub(super) fn start(binary: &Path, stop: &Stop) -> Result<Self> {
        let options = Options {
            binary,
            nodes: NODES,
            coalesce_ms: Some(WINDOW_MS),
            stores: "redis",
            upstream_url: None,
            log: binary.with_file_name("bench-redis.log"),
        };
        let playground = Playground::start(options, stop)?;
        let store = Store::of(&playground).map_err(|error| playground.with_log(error))?;
        let urls = playground.nodes()?.into_iter().map(|node| node.ws_url).collect();
        Ok(Self { playground, store, urls })
    }

    /// Where node `at` (from 0) listens, for a new session.
    pub(super) fn target(&self, at: usize) -> Result<Target> {
        Target::parse(self.url(at)?)
    }

    /// The same for a session that was elsewhere before.
    pub(super) fn target_of_session(&self, at: usize, session: &str) -> Result<Target> {
        Target::parse(&format!("{}?sessionId={session}", self.url(at)?))
    }

    fn url(&self, at: usize) -> Result<&str> {
        self.urls.get(at).map(String::as_str).with_context(|| format!("there is no node {at}"))
    }

    /// So many welcomed sockets of one user at node `at`.
    pub(super) fn connect(
        &self,
        at: usize,
        user: &str,
        sockets: usize,
        stop: &Stop,
    ) -> Result<Crowd> {
        let (target, token) = (self.target(at)?, self.playground.token(user)?);
        let followers = (0..sockets).map(|_| Follower::connect(&target, &token, stop));
        let mut crowd = Crowd::new(followers.collect::<Result<_>>()?);
        crowd.wait("welcomed", SOON, stop, Follower::welcomed)?;
        Ok(crowd)
    }

    /// CPU time of every process of the playground but Redis.
    pub(super) fn nodes_cpu(&self) -> Result<Vec<(u32, Cpu)>> {
        let pids = descendants(self.playground.pid())?;
        // One that ended meanwhile used nothing.
        Ok(pids
            .into_iter()
            .filter(|pid| !self.store.is(*pid))
            .flat_map(|pid| Cpu::of(pid).map(|cpu| (pid, cpu)))
            .collect())
    }
}

/// CPU time of those processes since `before`.
pub(super) fn since(before: &[(u32, Cpu)], after: &[(u32, Cpu)]) -> Duration {
    let pairs = after.iter().filter_map(|(pid, cpu)| {
        let (_, earlier) = before.iter().find(|(other, _)| other == pid)?;
        Some(cpu.since(earlier))
    });
    pairs.sum()
}
