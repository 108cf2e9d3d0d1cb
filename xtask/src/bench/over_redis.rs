//! The measures over Redis: node processes, a Redis of their own, and what each costs the other.
//! How it is measured and why stands in docs/performance.md; here is the order of things and the
//! table.

mod chunks;
mod cluster;
mod peer;
mod resume;
mod store;
mod storm;

use super::report::{self, Report, Row, median, percentile};
use crate::process::Stop;
use anyhow::Result;
use chunks::Window;
use cluster::Cluster;
use peer::Peer;
use resume::{Round, Times};
use std::path::PathBuf;
use std::time::Duration;
use storm::Storm;

/// For anything to happen that should happen soon.
const SOON: Duration = Duration::from_secs(20);
/// Rounds that may fail, because something else happened on the machine, before the bench gives up.
const SPARE_ROUNDS: usize = 3;
/// A look at an idle Redis.
const IDLE: Duration = Duration::from_secs(2);

/// Reaches of a resume to the first and to the last missing chunk, as multiples of what it is
/// compared with.
const FIRST_REACH: f64 = 2.0;
const LAST_REACH: f64 = 3.0;
/// Reaches of Redis CPU a token chunk in microseconds, without and with a follower elsewhere.
const CHUNK_REACH: f64 = 3.0;
const REMOTE_CHUNK_REACH: f64 = 4.0;
/// Reach of Redis CPU of a resume, as a multiple of a PING's.
const RESUME_CPU_REACH: f64 = 2.0;
/// Reach of a storm, in seconds.
const STORM_REACH: f64 = 2.0;

/// Names of the measures for `--only`.
const RESUME: &str = "resume over Redis";
const CHUNKS: &str = "chunks over Redis";
const STORM: &str = "storm over Redis";
pub(super) const NAMES: [&str; 3] = [RESUME, CHUNKS, STORM];

/// See the module.
pub(super) struct OverRedis {
    pub(super) binary: PathBuf,
    pub(super) rounds: usize,
    pub(super) window: Duration,
    pub(super) stop: Stop,
    pub(super) only: Option<String>,
}

/// What a round of resumes gave, the other library's times with it.
struct Resumes {
    ours: Round,
    /// One at a time and at once; empty where it is not installed.
    peer: (Vec<f64>, Vec<f64>),
}

/// What a round of windows gave.
struct Windows {
    /// CPU of an idle Redis, in microseconds a second.
    idle: f64,
    local: Window,
    remote: Window,
}

impl OverRedis {
    /// Everything, or what `--only` names.
    pub(super) fn measure(&self) -> Result<Report> {
        let windows = Some(self.window).filter(|_| self.wants(CHUNKS));
        let mut report = Report::new("make bench STORES=redis", "beside", self.rounds, windows);
        if self.wants(RESUME) {
            self.resumes(&mut report)?;
        }
        if self.wants(CHUNKS) {
            self.chunks(&mut report)?;
        }
        if self.wants(STORM) {
            self.storms(&mut report)?;
        }
        Ok(report)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// `rounds` good rounds, numbered from 1; a failed one is repeated and noted.
    fn rounds<T>(
        &self,
        what: &str,
        report: &mut Report,
        mut round: impl FnMut(usize, &mut Cluster) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (mut rounds, mut spare) = (Vec::new(), SPARE_ROUNDS);
        while rounds.len() < self.rounds {
            let number = rounds.len() + 1;
            let done = Cluster::start(&self.binary, &self.stop).and_then(|mut cluster| {
                round(number, &mut cluster).map_err(|error| cluster.playground.with_log(error))
            });
            match done {
                Ok(done) => rounds.push(done),
                Err(error) => {
                    self.stop.check()?;
                    let text = format!("round {number} of \"{what}\": {}", error.root_cause());
                    if spare == 0 {
                        return Err(error.context(text));
                    }
                    spare -= 1;
                    eprintln!("bench: aborted {text}: {error:#}");
                    report.note(format!("aborted and repeated: {text}"));
                }
            }
        }
        Ok(rounds)
    }

    fn resumes(&self, report: &mut Report) -> Result<()> {
        let peer = self.peer(report)?;
        let mut killed = None;
        let rounds = self.rounds(RESUME, report, |number, cluster| {
            let mut answers = resume::ask(cluster, &self.stop)?;
            let pings_first = number % 2 == 0;
            let mut ours = resume::while_it_lives(cluster, &mut answers, pings_first, &self.stop)?;
            let mut theirs = (Vec::new(), Vec::new());
            if let Some(peer) = &peer {
                theirs.0 = peer.lone(&cluster.store, &self.stop)?;
                theirs.1 = peer.at_once(&cluster.store, resume::AT_ONCE, &self.stop)?;
                if killed.is_none() {
                    killed = Some(peer.killed(&cluster.store, &self.stop)?);
                }
            }
            resume::while_nobody_owns(cluster, &mut answers, &mut ours, &self.stop)?;
            eprintln!("bench: {number}/{} {RESUME}: {}", self.rounds, brief(&ours));
            Ok(Resumes { ours, peer: theirs })
        })?;
        report_resumes(&rounds, report);
        report_peer(&rounds, report);
        if let Some(peer::Killed { reader, resumed, after_ms }) = killed {
            report.note(format!(
                "the producing process killed in the middle of an answer: with resumable-stream a \
                 reader {reader} and a resume gives {resumed} after {after_ms:.0} ms"
            ));
        }
        Ok(())
    }

    /// `None`, said in the report, where it cannot be installed.
    fn peer(&self, report: &mut Report) -> Result<Option<Peer>> {
        match Peer::install(&self.binary.with_file_name("bench-peer"), &self.stop) {
            Ok(peer) => Ok(Some(peer)),
            Err(error) => {
                self.stop.check()?;
                let text = format!(
                    "not measured beside resumable-stream, which needs node and npm: {error:#}"
                );
                eprintln!("bench: {text}");
                report.note(text);
                Ok(None)
            }
        }
    }

    fn chunks(&self, report: &mut Report) -> Result<()> {
        let rounds = self.rounds(CHUNKS, report, |number, cluster| {
            let idle = chunks::idle(cluster, IDLE, &self.stop)?;
            let window = |remote| chunks::window(cluster, remote, self.window, &self.stop);
            let (local, remote) = if number % 2 == 0 {
                let remote = window(true)?;
                (window(false)?, remote)
            } else {
                (window(false)?, window(true)?)
            };
            eprintln!(
                "bench: {number}/{} {CHUNKS}: {:.2} µs, with a follower elsewhere {:.2} µs",
                self.rounds, local.sample.micros, remote.sample.micros
            );
            Ok(Windows { idle, local, remote })
        })?;
        let kinds: [(&str, Part<Windows, Window>, f64); 2] = [
            ("nobody elsewhere", |windows| &windows.local, CHUNK_REACH),
            ("followed on another node", |windows| &windows.remote, REMOTE_CHUNK_REACH),
        ];
        for (name, of, reach) in kinds {
            report_chunks(&rounds, name, of, reach, report);
        }
        Ok(())
    }

    fn storms(&self, report: &mut Report) -> Result<()> {
        let rounds = self.rounds(STORM, report, |number, cluster| {
            let storm = storm::storm(cluster, &self.stop)?;
            eprintln!("bench: {number}/{} {STORM}: {:.2} s", self.rounds, storm.seconds);
            Ok(storm)
        })?;
        report_storms(&rounds, report);
        Ok(())
    }
}

/// Chooses what a row is about.
type Part<T, P> = fn(&T) -> &P;
type Values<T> = Part<T, Vec<f64>>;

fn brief(round: &Round) -> String {
    let Round { alive, dead, resume_in_a_row, ping_in_a_row, at_once, takeover } = round;
    format!(
        "{:.0} µs ({:.0} µs without an owner), HEARTBEAT {:.0} µs, PING {:.0} µs, 20 at once \
         {:.0} µs; Redis CPU {:.1} µs, PING {:.1} µs, in a row {resume_in_a_row:.1} and \
         {ping_in_a_row:.1} µs; taken over after {takeover:.1} s",
        median(&alive.last),
        median(&dead.last),
        median(&alive.heartbeat),
        median(&alive.ping),
        median(at_once),
        median(&alive.resume_cpu),
        median(&alive.ping_cpu)
    )
}

fn of<T>(rounds: &[T], pick: impl Fn(&T) -> f64) -> Vec<f64> {
    rounds.iter().map(pick).collect()
}

fn all<T>(rounds: &[T], pick: impl Fn(&T) -> &Vec<f64>) -> Vec<f64> {
    rounds.iter().flat_map(|round| pick(round).iter().copied()).collect()
}

/// What a resume is compared with: a round trip to the node and one to Redis.
fn beside(times: &Times) -> f64 {
    median(&times.heartbeat) + median(&times.ping)
}

fn report_resumes(rounds: &[Resumes], report: &mut Report) {
    let kinds: [(&str, Part<Resumes, Times>); 2] = [
        ("the owner lives", |round| &round.ours.alive),
        ("the owner was killed, no successor yet", |round| &round.ours.dead),
    ];
    for (name, times) in kinds {
        let ends: [(&str, Values<Times>, f64); 2] = [
            ("first missing chunk", |times| &times.first, FIRST_REACH),
            ("last byte", |times| &times.last, LAST_REACH),
        ];
        for (end, took, reach) in ends {
            let ratios = of(rounds, |round| median(took(times(round))) / beside(times(round)));
            let took = all(rounds, |round| took(times(round)));
            let ratio = median(&ratios);
            report.row(Row {
                measure: format!(
                    "RECONNECT of {} chunks on another node, {name}: to the {end}, p50 of {}",
                    resume::CHUNKS,
                    took.len()
                ),
                measured: format!("**{ratio:.2} ×** ({:.0} µs)", median(&took)),
                floor: format!(
                    "HEARTBEAT {:.0} µs + PING {:.0} µs",
                    median(&all(rounds, |round| &times(round).heartbeat)),
                    median(&all(rounds, |round| &times(round).ping))
                ),
                ratio: report::spread(&ratios, 2),
                reach: format!("≤ {reach:.0} ×"),
                met: Some(ratio <= reach),
            });
        }
    }
    let cpu = |round: &Resumes| median(&round.ours.alive.resume_cpu);
    let ping = |round: &Resumes| median(&round.ours.alive.ping_cpu);
    let ratios = of(rounds, |round| cpu(round) / ping(round));
    report.row(Row {
        measure: "Redis CPU of such a resume, the owner lives, one at a time, p50".to_owned(),
        measured: format!("**{:.2} ×** ({:.1} µs)", median(&ratios), median(&of(rounds, cpu))),
        floor: format!("PING {:.1} µs", median(&of(rounds, ping))),
        ratio: report::spread(&ratios, 2),
        reach: format!("≤ {RESUME_CPU_REACH:.0} ×"),
        met: Some(median(&ratios) <= RESUME_CPU_REACH),
    });
    report.note(format!(
        "without a rest in between Redis used {:.1} µs a resume, the nodes' background included, \
         and {:.1} µs a PING, of which there are many times as many in a second",
        median(&of(rounds, |round| round.ours.resume_in_a_row)),
        median(&of(rounds, |round| round.ours.ping_in_a_row))
    ));
    report.note(format!(
        "an answer followed on another node while its owner is killed goes on by itself: told \
         TAKEOVER after {} s, complete, nothing lost",
        report::spread(&of(rounds, |round| round.ours.takeover), 1)
    ));
}

fn report_peer(rounds: &[Resumes], report: &mut Report) {
    let kinds: [(&str, Values<Resumes>, Values<Resumes>); 2] = [
        ("one at a time", |round| &round.ours.alive.last, |round| &round.peer.0),
        ("20 at once", |round| &round.ours.at_once, |round| &round.peer.1),
    ];
    for (name, ours, theirs) in kinds {
        if rounds.iter().any(|round| theirs(round).is_empty()) {
            continue;
        }
        let ratios = of(rounds, |round| median(theirs(round)) / median(ours(round)));
        let shown = |times: &[f64]| {
            let (p50, p99) = (median(times) / 1e3, percentile(times, 0.99) / 1e3);
            format!("p50 {p50:.2} ms, p99 {p99:.2} ms")
        };
        report.row(Row {
            measure: format!("a resume beside resumable-stream, {name}"),
            measured: shown(&all(rounds, ours)),
            floor: shown(&all(rounds, theirs)),
            ratio: report::spread(&ratios, 1),
            reach: "rounds: theirs ÷ ours, p50".to_owned(),
            met: None,
        });
    }
}

fn report_chunks(
    rounds: &[Windows],
    name: &str,
    window: Part<Windows, Window>,
    reach: f64,
    report: &mut Report,
) {
    let micros = of(rounds, |round| window(round).sample.micros);
    let idle = median(&of(rounds, |round| round.idle));
    let chunks = f64::from(chunks::RATE) * chunks::STREAMS as f64;
    report.row(Row {
        measure: format!(
            "Redis CPU a token chunk: {} answers, {}/s, 40 ms window, {name}",
            chunks::STREAMS,
            chunks::RATE
        ),
        measured: format!("**{:.2} µs**", median(&micros)),
        floor: format!("an idle Redis: {:.2} µs", idle / chunks),
        ratio: report::spread(&micros, 2),
        reach: format!("≤ {reach:.0} µs"),
        met: Some(median(&micros) <= reach),
    });
    report.note(format!(
        "{name}: {:.2} chunks a frame; the nodes used {:.1} µs of CPU a chunk",
        median(&of(rounds, |round| window(round).sample.chunks_a_frame)),
        median(&of(rounds, |round| window(round).nodes))
    ));
    report.samples(rounds.iter().map(|round| &window(round).sample));
}

fn report_storms(rounds: &[Storm], report: &mut Report) {
    let seconds = of(rounds, |storm| storm.seconds);
    let clients = all(rounds, |storm| &storm.clients);
    let count = storm::ANSWERS * storm::DEVICES;
    report.row(Row {
        measure: format!("a node with {count} clients dies: until the last has caught up"),
        measured: format!("**{:.2} s**, 0 lost", median(&seconds)),
        floor: String::new(),
        ratio: report::spread(&seconds, 2),
        reach: format!("≤ {STORM_REACH:.0} s"),
        met: Some(median(&seconds) <= STORM_REACH),
    });
    report.note(format!(
        "storm: {} answers at {}/s with {} devices each, {:.1} missed chunks a client; a client was \
         back after p50 {:.0} ms, p99 {:.0} ms; {:.0} upgrades were refused; CPU a client: nodes \
         {:.0} µs, Redis {:.0} µs",
        storm::ANSWERS,
        storm::RATE,
        storm::DEVICES,
        rounds.iter().map(|storm| storm.missed).sum::<u64>() as f64 / clients.len() as f64,
        median(&clients),
        percentile(&clients, 0.99),
        median(&of(rounds, |storm| storm.refused as f64)),
        median(&of(rounds, |storm| storm.nodes)),
        median(&of(rounds, |storm| storm.redis))
    ));
}
