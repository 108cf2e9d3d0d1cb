//! `cargo xtask bench`: what the data plane costs, against what the kernel alone costs, in one run.
//! How it is measured and why stands in docs/performance.md; here is the order of things.

pub(crate) mod floor;
mod load;
mod measures;
mod over_redis;
mod proc;
mod proxied;
mod report;
mod websocket;

pub(crate) use proxied::relay;

use crate::document::write_part_of;
use crate::playground::{Options, Playground};
use crate::process::{Stop, cargo, foreground};
use anyhow::{Context as _, Result, bail};
use measures::{Load, Sample};
use over_redis::OverRedis;
use proxied::Proxied;
use report::{Report, Row};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Rounds that may fail, because something else happened on the machine, before the bench gives up.
const SPARE_ROUNDS: usize = 5;
/// Reach of an idle socket, in bytes of resident memory.
const IDLE_REACH: f64 = 4.0 * 1024.0;
/// Reach of a RECONNECT, in microseconds of server CPU.
const RECONNECT_REACH: f64 = 100.0;
/// The window of the coalesced load, in milliseconds; also the default of the server.
const WINDOW_MS: u64 = 40;

/// A load and its reach as a multiple of the floor.
struct Compared {
    load: Load,
    reach: f64,
}

const COMPARED: [Compared; 3] = [
    Compared {
        load: Load {
            name: "500 sockets follow one answer, 50/s",
            one_answer: true,
            rate: 50,
            coalesce_ms: 0,
        },
        reach: 1.5,
    },
    Compared {
        load: Load {
            name: "500 answers, one a socket, 50/s",
            one_answer: false,
            rate: 50,
            coalesce_ms: 0,
        },
        reach: 2.0,
    },
    Compared {
        load: Load {
            name: "500 answers, one a socket, 100/s, 40 ms window",
            one_answer: false,
            rate: 100,
            coalesce_ms: WINDOW_MS,
        },
        reach: 0.6,
    },
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the table into this file, between its markers
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Rounds of each measure; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Seconds of one window
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=60))]
    window: u8,
    /// Over which stores; unset: memory first, then redis
    #[arg(long, env = "STORES")]
    stores: Option<Stores>,
    /// Only the compared loads, and the measures of the proxied path and over Redis, whose name
    /// contains this
    #[arg(long, value_name = "TEXT", conflicts_with = "report")]
    only: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stores {
    Memory,
    Redis,
}

/// A part of the document, measured as a whole.
#[derive(Clone, Copy)]
enum Part {
    Memory,
    Proxied,
    Redis,
}

impl Part {
    const ALL: [Self; 3] = [Self::Memory, Self::Proxied, Self::Redis];

    const fn stores(self) -> Stores {
        match self {
            Self::Memory | Self::Proxied => Stores::Memory,
            Self::Redis => Stores::Redis,
        }
    }

    /// What `make` is told to write it, and its name in the document.
    const fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Memory => ("bench", "bench"),
            Self::Proxied => ("bench", "bench proxied"),
            Self::Redis => ("bench STORES=redis", "bench STORES=redis"),
        }
    }

    /// Whether something is measured here that `only` names.
    fn has(self, only: Option<&str>) -> bool {
        let Some(only) = only else { return true };
        match self {
            Self::Memory => COMPARED.iter().any(|compared| compared.load.name.contains(only)),
            Self::Proxied => proxied::NAMES.iter().any(|name| name.contains(only)),
            Self::Redis => over_redis::NAMES.iter().any(|name| name.contains(only)),
        }
    }
}

/// Fails when a measure misses its reach; the table is written anyway.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let me = std::env::current_exe()?;
    let folder = me.parent().context("this program has no folder")?;
    if cfg!(debug_assertions) {
        return in_release(&folder.with_file_name("release"));
    }
    let stop = Stop::install()?;
    let binary = folder.join("dataplane");
    let mut met = true;
    for part in Part::ALL {
        if args.stores.is_some_and(|only| only != part.stores()) || !part.has(args.only.as_deref())
        {
            continue;
        }
        let report = measure(args, part, &binary, &stop)?;
        println!("\n{}", report.markdown());
        if let Some(path) = &args.report {
            let (target, name) = part.place();
            write_part_of(path, target, name, &report.markdown())?;
            println!("written to {}", path.display());
        }
        met &= report.met();
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(args: &Args, part: Part, binary: &Path, stop: &Stop) -> Result<Report> {
    let (binary, rounds) = (binary.to_owned(), args.rounds.into());
    let window = Duration::from_secs(args.window.into());
    let (stop, only) = (stop.clone(), args.only.clone());
    match part {
        Part::Memory => Bench { binary, rounds, stop, only }.measure(window),
        Part::Proxied => Proxied { binary, rounds, window, stop, only }.measure(),
        Part::Redis => OverRedis { binary, rounds, window, stop, only }.measure(),
    }
}

/// Builds both programs optimised and goes on as the optimised one, with as many files as allowed.
fn in_release(folder: &Path) -> Result<ExitCode> {
    foreground(cargo().args([
        "build",
        "--release",
        "--workspace",
        "--bin",
        "dataplane",
        "--bin",
        "xtask",
    ]))?;
    let raise = "ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", raise, "sh"]).arg(folder.join("xtask")).args(std::env::args_os().skip(1));
    Err(command.exec()).context("starting the optimised bench")
}

struct Bench {
    binary: PathBuf,
    rounds: usize,
    stop: Stop,
    only: Option<String>,
}

impl Bench {
    fn measure(&self, window: Duration) -> Result<Report> {
        let files = proc::open_files_limit()?;
        if files < measures::IDLE_SOCKETS + 200 {
            bail!("{files} open files are too few (ulimit -n): {} needed", measures::IDLE_SOCKETS);
        }
        let mut report = Report::new("make bench", "floor", self.rounds, Some(window));
        let at_once = self.playground(0)?;
        let coalescing = self.playground(WINDOW_MS)?;
        let bytes = measures::frame_bytes(&at_once, &self.stop)?;
        report
            .note(format!("a frame with one chunk has {bytes} bytes on the wire, header included"));
        let server_of =
            |of: &Compared| if of.load.coalesce_ms == 0 { &at_once } else { &coalescing };
        let pairs = self.compare(server_of, bytes, window, &mut report)?;
        for (compared, pairs) in COMPARED.iter().zip(&pairs) {
            if !pairs.is_empty() {
                report.compared(compared.load.name, pairs, compared.reach);
            }
        }
        drop(coalescing);
        if self.only.is_some() {
            return Ok(report);
        }
        report.row(self.reconnects(&at_once)?);
        drop(at_once);
        report.row(self.idle()?);
        Ok(report)
    }

    fn playground(&self, coalesce_ms: u64) -> Result<Playground> {
        let options = Options {
            binary: &self.binary,
            nodes: 1,
            coalesce_ms: Some(coalesce_ms),
            stores: "memory",
            upstream_url: None,
            log: self.binary.with_file_name(format!("bench-{coalesce_ms}.log")),
        };
        Playground::start(options, &self.stop)
    }

    /// Rounds of (server, floor) for every load, in turns A-B-B-A, after one round that only warms up.
    fn compare<'a>(
        &self,
        server_of: impl Fn(&Compared) -> &'a Playground,
        frame_bytes: usize,
        window: Duration,
        report: &mut Report,
    ) -> Result<Vec<Vec<(Sample, Sample)>>> {
        let mut pairs: Vec<Vec<(Sample, Sample)>> = vec![Vec::new(); COMPARED.len()];
        let mut spare = SPARE_ROUNDS;
        for round in 0..=self.rounds {
            for (compared, pairs) in COMPARED.iter().zip(&mut pairs) {
                let load = &compared.load;
                if self.only.as_ref().is_some_and(|only| !load.name.contains(only)) {
                    continue;
                }
                let length = if round == 0 { Duration::from_secs(1) } else { window };
                let server =
                    || measures::server_round(load, server_of(compared), length, &self.stop);
                let floor = || measures::floor_round(load, frame_bytes, length, &self.stop);
                let pair = loop {
                    let pair = if round % 2 == 0 {
                        server().and_then(|server| Ok((server, floor()?)))
                    } else {
                        floor().and_then(|floor| Ok((server()?, floor)))
                    };
                    match pair {
                        Ok(pair) => break pair,
                        Err(error) => {
                            self.stop.check()?;
                            let text = format!("round {round} of \"{}\": {error:#}", load.name);
                            if spare == 0 {
                                return Err(server_of(compared).with_log(error.context(text)));
                            }
                            spare -= 1;
                            eprintln!("bench: aborted {text}");
                            report.note(format!("aborted and repeated: {text}"));
                        }
                    }
                };
                let (server, floor) = (pair.0.micros, pair.1.micros);
                let times = server / floor;
                let frames = pair.0.chunks_a_frame;
                eprintln!(
                    "bench: {round}/{} {}: {server:.2} µs, floor {floor:.2} µs, {times:.2} ×, \
                     {frames:.1} chunks a frame{}",
                    self.rounds,
                    load.name,
                    if round == 0 { " (warm-up)" } else { "" }
                );
                if round > 0 {
                    pairs.push(pair);
                }
            }
        }
        Ok(pairs)
    }

    fn reconnects(&self, playground: &Playground) -> Result<Row> {
        let rounds = measures::reconnects(playground, self.rounds, &self.stop)
            .map_err(|error| playground.with_log(error))?;
        let mean = rounds.iter().sum::<f64>() / rounds.len() as f64;
        eprintln!("bench: a RECONNECT costs {mean:.1} µs");
        Ok(Row {
            measure: format!(
                "server CPU a RECONNECT of {} chunks on an open socket, mean of {}",
                measures::RECONNECT_CHUNKS,
                measures::RECONNECTS
            ),
            measured: format!("{mean:.1} µs"),
            floor: String::new(),
            ratio: report::spread(&rounds, 1),
            reach: format!("≤ {RECONNECT_REACH:.0} µs"),
            met: Some(mean <= RECONNECT_REACH),
        })
    }

    /// In a process of its own: memory that earlier measures freed would hide what sockets need.
    fn idle(&self) -> Result<Row> {
        let fresh = self.playground(WINDOW_MS)?;
        let bytes =
            measures::idle_memory(&fresh, &self.stop).map_err(|error| fresh.with_log(error))?;
        eprintln!("bench: an idle socket takes {bytes:.0} bytes");
        Ok(Row {
            measure: format!(
                "memory of an idle authenticated socket, {} sockets, all welcomed",
                measures::IDLE_SOCKETS
            ),
            measured: format!("{:.2} KiB", bytes / 1024.0),
            floor: String::new(),
            ratio: String::new(),
            reach: format!("≤ {:.0} KiB", IDLE_REACH / 1024.0),
            met: Some(bytes <= IDLE_REACH),
        })
    }
}
