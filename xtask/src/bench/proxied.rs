//! The proxied path: what a node adds between a provider and a person, beside a relay that only copies
//! bytes, and beside other programs that pass a provider's stream on. How it is measured and why stands
//! in docs/performance.md; here is the order of things.

mod client;
mod clock;
mod http;
mod pace;
mod peers;
mod piece;
pub(crate) mod relay;
mod round;
mod table;
mod upstream;

use super::measures::{listening, target};
use super::report::Report;
use crate::playground::{Options, Playground};
use crate::process::{Group, Stop};
use anyhow::{Result, ensure};
use client::Door;
use clock::Clock;
use peers::{KINDS, Peer};
use round::{Round, Setting, Subject, round};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use upstream::Upstream;

/// So often a round of one subject may be repeated, because something else happened on the machine.
const SPARE_ROUNDS: usize = 3;
/// Subjects that have to be measured; the others are other programs.
const MEASURED: usize = 3;
/// Of the round that only warms up.
const WARM_UP: Duration = Duration::from_secs(1);

/// Before the name of what it is compared with.
const BESIDE: &str = "proxied chunks beside ";
/// Names of the measures for `--only`; the node and the relay belong to each.
pub(super) const NAMES: [&str; 3] = [
    "proxied chunks beside a relay",
    "proxied chunks beside vllm-router",
    "proxied chunks beside LiteLLM",
];

/// See the module.
pub(super) struct Proxied {
    pub(super) binary: PathBuf,
    pub(super) rounds: usize,
    pub(super) window: Duration,
    pub(super) stop: Stop,
    pub(super) only: Option<String>,
}

/// Rounds of the node and of what it is compared with.
struct Measured {
    node: Vec<Round>,
    relay: Vec<Round>,
    /// With nothing in between.
    direct: Vec<Round>,
    /// Of other programs, with what each is called and its version.
    peers: Vec<(String, Vec<Round>)>,
}

impl Proxied {
    pub(super) fn measure(&self) -> Result<Report> {
        let mut report = Report::new("make bench", "beside", self.rounds, Some(self.window));
        let clock = Clock::new();
        let upstream = Upstream::start(clock)?;
        let playground = self.playground(upstream.address)?;
        let relay = self.relay(upstream.address)?;
        let peers = self.peers(upstream.address, &mut report)?;
        let token = playground.token("bench")?;
        let door = Door::WebSocket { target: target(&playground)?, token };
        let mut subjects = vec![
            Subject { name: "the node", door, pid: Some(playground.pid()) },
            Subject { name: "the relay", door: Door::Http(relay.1), pid: Some(relay.0.pid()) },
            Subject { name: "the provider", door: Door::Http(upstream.address), pid: None },
        ];
        subjects.extend(peers.iter().map(Peer::subject));
        let setting = Setting { upstream: &upstream, clock, length: self.window, stop: &self.stop };
        let rounds = self
            .rounds(&subjects, &setting, &mut report)
            .map_err(|error| playground.with_log(error))?;
        let mut rounds = rounds.into_iter();
        let mut next = || rounds.next().unwrap_or_default();
        let (node, relay, direct) = (next(), next(), next());
        let names = peers.iter().map(|peer| peer.kind.title());
        let peers = names.zip(rounds).filter(|(_, rounds)| !rounds.is_empty()).collect();
        table::write(&Measured { node, relay, direct, peers }, &mut report);
        Ok(report)
    }

    fn playground(&self, upstream: SocketAddr) -> Result<Playground> {
        let url = format!("http://{upstream}/v1");
        let options = Options {
            binary: &self.binary,
            nodes: 1,
            coalesce_ms: Some(0),
            stores: "memory",
            upstream_url: Some(&url),
            log: self.binary.with_file_name("bench-proxied.log"),
        };
        Playground::start(options, &self.stop)
    }

    fn relay(&self, upstream: SocketAddr) -> Result<(Group, SocketAddr)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bench-relay").args(["--upstream", &upstream.to_string()]);
        let (program, port) = listening("the relay", &mut command)?;
        Ok((program, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    }

    /// The other programs that `--only` names, as far as they can be had.
    fn peers(&self, upstream: SocketAddr, report: &mut Report) -> Result<Vec<Peer>> {
        let (mut peers, root) = (Vec::new(), std::env::current_dir()?);
        for kind in &KINDS {
            let name = format!("{BESIDE}{}", kind.name);
            if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
                continue;
            }
            let folder = self.binary.with_file_name("bench-peers");
            match Peer::start(kind, &folder, upstream, &self.stop) {
                Ok(peer) => peers.push(peer),
                Err(error) => {
                    self.stop.check()?;
                    let text = format!("not measured beside {}: {error:#}", kind.title());
                    // The document is not of this machine.
                    let text = text.replace(&format!("{}/", root.display()), "");
                    eprintln!("bench: {text}");
                    report.note(text);
                }
            }
        }
        Ok(peers)
    }

    /// Rounds of every subject, in turns A-B-C-C-B-A, after one round that only warms up. Of another
    /// program that fails too often there are none.
    fn rounds(
        &self,
        subjects: &[Subject<'_>],
        setting: &Setting<'_>,
        report: &mut Report,
    ) -> Result<Vec<Vec<Round>>> {
        let mut measured = vec![Vec::new(); subjects.len()];
        let mut left_out = vec![false; subjects.len()];
        for number in 0..=self.rounds {
            let length = if number == 0 { WARM_UP } else { self.window };
            let setting = Setting { length, ..*setting };
            let mut turns: Vec<usize> = (0..subjects.len()).collect();
            if number % 2 == 1 {
                turns.reverse();
            }
            for at in turns {
                if left_out[at] {
                    continue;
                }
                match self.one(number, &subjects[at], &setting, report) {
                    Ok(round) if number > 0 => measured[at].push(round),
                    Ok(_) => {}
                    Err(error) if at < MEASURED => return Err(error),
                    Err(error) => {
                        self.stop.check()?;
                        report.note(format!("left out: {error:#}"));
                        left_out[at] = true;
                        measured[at].clear();
                    }
                }
            }
        }
        Ok(measured)
    }

    /// A round that counts; one that fails is repeated and noted.
    fn one(
        &self,
        number: usize,
        subject: &Subject<'_>,
        setting: &Setting<'_>,
        report: &mut Report,
    ) -> Result<Round> {
        let mut spare = SPARE_ROUNDS;
        loop {
            let done = round(subject, setting).and_then(|round| {
                let (name, pace, cpu) = (subject.name, 100.0 * round.pace, round.sample.micros);
                ensure!(
                    round.keeps_pace(),
                    "{name}: it does not keep pace, {pace:.0} % of the chunks came in time, {cpu:.0} µs \
                     of CPU each"
                );
                Ok(round)
            });
            match done {
                Ok(round) => {
                    let warm_up = if number == 0 { " (warm-up)" } else { "" };
                    eprintln!("bench: {number}/{} {}{warm_up}", self.rounds, round.brief(subject));
                    return Ok(round);
                }
                Err(error) => {
                    self.stop.check()?;
                    if spare == 0 {
                        return Err(error);
                    }
                    spare -= 1;
                    let text = format!("round {number} of {error:#}");
                    eprintln!("bench: aborted {text}");
                    report.note(format!("aborted and repeated: {text}"));
                }
            }
        }
    }
}
