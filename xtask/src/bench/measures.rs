//! What is measured: three loads that are compared with the floor, the memory of idle sockets and the
//! cost of a RECONNECT. A round that did not deliver exactly what was due is an error, not a figure.

use super::floor;
use super::load::{Crowd, Follower, Tally};
use super::proc::{Cpu, Machine, resident};
use super::websocket::{Socket, Target};
use crate::playground::Playground;
use crate::process::{Group, Stop, now};
use anyhow::{Context as _, Result, bail};
use std::io::BufRead as _;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Sockets of the three loads.
const SOCKETS: usize = 500;
/// Users of a load in which everybody has an answer, to stay clear of a user's limits.
const USERS: usize = 5;
/// Between the starts of two answers, so that they are not all due at the same moment.
const SPACING: Duration = Duration::from_millis(2);
/// Before the window: everybody follows, and caches are warm.
const SETTLE: Duration = Duration::from_secs(1);
/// How much longer than settling and window an answer lasts.
const MARGIN: Duration = Duration::from_secs(3);
/// For anything to happen that should happen soon.
const SOON: Duration = Duration::from_secs(20);

/// Sockets of the memory measure, and its users.
pub(super) const IDLE_SOCKETS: usize = 5_000;
const IDLE_USERS: usize = 10;
/// Sockets opened and closed before, so that what is allocated once is not counted.
const WARM_SOCKETS: usize = 200;

/// Of the RECONNECT measure.
pub(super) const RECONNECTS: usize = 10_000;
const RECONNECT_SOCKETS: usize = 20;
pub(super) const RECONNECT_CHUNKS: u64 = 200;

/// A load that is compared with the floor.
pub(super) struct Load {
    pub(super) name: &'static str,
    /// Everybody follows one answer, or everybody their own.
    pub(super) one_answer: bool,
    /// Chunks a second and answer.
    pub(super) rate: u32,
    /// Of the server; 0: every chunk is a frame.
    pub(super) coalesce_ms: u64,
}

/// Without a window a starved server sends several chunks in a frame, which is cheap and not what is
/// to be measured. A little of it happens on any machine.
const MOST_CHUNKS_A_FRAME: f64 = 1.05;

/// One window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// CPU of the measured process a delivered chunk, in microseconds.
    pub(super) micros: f64,
    pub(super) chunks_a_frame: f64,
    /// CPU of the load generator, in cores.
    pub(super) generator: f64,
    /// Shares of the machine: stolen by its host, used by other processes.
    pub(super) steal: f64,
    pub(super) others: f64,
}

/// CPU of `pid` while the crowd drains for `length`, a chunk.
fn window(crowd: &mut Crowd, pid: u32, length: Duration, stop: &Stop) -> Result<Sample> {
    let me = std::process::id();
    crowd.drain()?;
    let (before, cpu, own, machine) = (crowd.tally, Cpu::of(pid)?, Cpu::of(me)?, Machine::now()?);
    let begin = now();
    crowd.drain_for(length, stop)?;
    let took = begin.elapsed();
    let used = Cpu::of(pid)?.since(&cpu);
    let generator = Cpu::of(me)?.since(&own);
    let (steal, others) = Machine::now()?.disturbance(&machine, used + generator);
    let Tally { chunks, frames, .. } = crowd.tally;
    let (chunks, frames) = (chunks - before.chunks, frames - before.frames);
    if chunks == 0 {
        bail!("no chunk came in the window");
    }
    Ok(Sample {
        micros: used.as_secs_f64() * 1e6 / chunks as f64,
        chunks_a_frame: chunks as f64 / frames as f64,
        generator: generator.as_secs_f64() / took.as_secs_f64(),
        steal,
        others,
    })
}

/// The WebSocket of the playground's first node.
pub(super) fn target(playground: &Playground) -> Result<Target> {
    let nodes = playground.nodes()?;
    Target::parse(&nodes.first().context("the playground has no node")?.ws_url)
}

/// Connects `sockets` sockets, divided among `users` users, and waits until all are welcomed.
fn connect(playground: &Playground, sockets: usize, users: usize, stop: &Stop) -> Result<Crowd> {
    let target = target(playground)?;
    let mut followers = Vec::with_capacity(sockets);
    for user in 0..users {
        let token = playground.token(&format!("bench-{user}"))?;
        for _ in (user..sockets).step_by(users) {
            followers.push(Follower::connect(&target, &token, stop)?);
        }
    }
    let mut crowd = Crowd::new(followers);
    crowd.until("welcomed", SOON, stop, Follower::welcomed)?;
    Ok(crowd)
}

/// Mean length of a frame that carries one chunk, as this server sends it.
pub(super) fn frame_bytes(playground: &Playground, stop: &Stop) -> Result<usize> {
    let mut crowd = connect(playground, 1, 1, stop)?;
    crowd.followers[0].ask("[sim tokens=300 rate=200 seed=1]")?;
    crowd.until("complete", SOON, stop, Follower::complete)?;
    let Tally { single_frames, single_bytes, .. } = crowd.tally;
    if single_frames < 100 {
        bail!("only {single_frames} of 300 chunks came in a frame of their own");
    }
    Ok((single_bytes as f64 / single_frames as f64).round() as usize)
}

/// One window of a load on the server.
pub(super) fn server_round(
    load: &Load,
    playground: &Playground,
    length: Duration,
    stop: &Stop,
) -> Result<Sample> {
    let users = if load.one_answer { 1 } else { USERS };
    let mut crowd = connect(playground, SOCKETS, users, stop)?;
    let chunks = chunks_of(load, SETTLE + length + MARGIN);
    if load.one_answer {
        follow_one(&mut crowd, load, chunks, stop)?;
    } else {
        ask_each(&mut crowd, load, chunks, stop)?;
    }
    crowd.until("following", SOON, stop, Follower::following)?;
    crowd.drain_for(SETTLE, stop)?;
    let sample = window(&mut crowd, playground.pid(), length, stop)?;
    let early = crowd.followers.iter().filter(|follower| follower.complete()).count();
    if early > 0 {
        bail!("{early} answers ended inside the window");
    }
    crowd.until("complete", SOON, stop, Follower::complete)?;
    exactly(&crowd, chunks)?;
    every_chunk_a_frame(load, &sample)?;
    Ok(sample)
}

fn every_chunk_a_frame(load: &Load, sample: &Sample) -> Result<()> {
    if load.coalesce_ms == 0 && sample.chunks_a_frame > MOST_CHUNKS_A_FRAME {
        let (frames, busy) = (sample.chunks_a_frame, 100.0 * sample.others);
        bail!(
            "{frames:.2} chunks a frame although there is no window: the server was starved, other \
             processes used {busy:.0} % of the machine"
        );
    }
    Ok(())
}

fn chunks_of(load: &Load, time: Duration) -> u64 {
    (f64::from(load.rate) * time.as_secs_f64()).round() as u64
}

fn exactly(crowd: &Crowd, chunks: u64) -> Result<()> {
    let wrong = crowd.followers.iter().filter(|follower| follower.received() != chunks).count();
    let due = chunks * crowd.followers.len() as u64;
    if wrong > 0 || crowd.tally.chunks != due {
        bail!("{wrong} sockets received too much or too little: {} of {due}", crowd.tally.chunks);
    }
    Ok(())
}

fn follow_one(crowd: &mut Crowd, load: &Load, chunks: u64, stop: &Stop) -> Result<()> {
    crowd.followers[0].ask(&format!("[sim tokens={chunks} rate={} seed=1]", load.rate))?;
    let deadline = now() + SOON;
    while crowd.followers[0].message().is_none() {
        if now() > deadline {
            bail!("no ACCEPTED in {SOON:?}");
        }
        crowd.drain_for(Duration::from_millis(1), stop)?;
    }
    let message = crowd.followers[0].message().unwrap_or_default().to_owned();
    for follower in &mut crowd.followers[1..] {
        follower.follow(&message)?;
    }
    Ok(())
}

fn ask_each(crowd: &mut Crowd, load: &Load, chunks: u64, stop: &Stop) -> Result<()> {
    let mut due = now();
    for number in 0..crowd.followers.len() {
        let directive = format!("[sim tokens={chunks} rate={} seed={number}]", load.rate);
        crowd.followers[number].ask(&directive)?;
        due += SPACING;
        if number % 4 == 0 {
            stop.check()?;
            crowd.drain()?;
        }
        std::thread::sleep(due.saturating_duration_since(now()));
    }
    Ok(())
}

/// One window of the same load on the floor program.
pub(super) fn floor_round(
    load: &Load,
    frame_bytes: usize,
    length: Duration,
    stop: &Stop,
) -> Result<Sample> {
    let period = Duration::from_secs(1) / load.rate;
    // The same spread as the server's: an answer starts every SPACING.
    let groups = (period.as_nanos() / SPACING.as_nanos()).max(1) as usize;
    let args = floor::Args {
        sockets: SOCKETS,
        rate: load.rate,
        groups: if load.one_answer { 1 } else { groups },
        frames: chunks_of(load, SETTLE + length + MARGIN),
        frame_bytes,
    };
    let (mut program, port) = start_floor(&args)?;
    let mut followers = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("floor")?;
        followers.push(Follower::of_floor(Socket::raw(stream)?));
    }
    let mut crowd = Crowd::new(followers);
    crowd.drain_for(SETTLE, stop)?;
    let sample = window(&mut crowd, program.pid(), length, stop)?;
    let all = args.frames;
    crowd.until("served by the floor", SOON, stop, |follower| follower.received() >= all)?;
    exactly(&crowd, all)?;
    drop(crowd);
    let status = program.wait(stop)?;
    if !status.success() {
        bail!("the floor program: {status}");
    }
    Ok(sample)
}

fn start_floor(args: &floor::Args) -> Result<(Group, u16)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bench-floor");
    command.args(["--sockets", &args.sockets.to_string(), "--rate", &args.rate.to_string()]);
    command.args(["--groups", &args.groups.to_string(), "--frames", &args.frames.to_string()]);
    command.args(["--frame-bytes", &args.frame_bytes.to_string()]);
    listening("the floor program", &mut command)
}

/// Starts a program of ours that says on which port it listens.
pub(super) fn listening(name: &str, command: &mut Command) -> Result<(Group, u16)> {
    let mut program = Group::spawn(name, command.stdout(Stdio::piped()))?;
    let mut line = String::new();
    std::io::BufReader::new(program.stdout()?).read_line(&mut line)?;
    let port = line.trim().strip_prefix(floor::LISTENING).and_then(|port| port.parse().ok());
    Ok((program, port.with_context(|| format!("{name} said {line:?}"))?))
}

/// Resident bytes of the server a welcomed and idle socket.
pub(super) fn idle_memory(playground: &Playground, stop: &Stop) -> Result<f64> {
    drop(connect(playground, WARM_SOCKETS, IDLE_USERS, stop)?);
    stop.sleep(SETTLE * 2)?;
    let before = resident(playground.pid())?;
    let mut crowd = connect(playground, IDLE_SOCKETS, IDLE_USERS, stop)?;
    crowd.drain_for(SETTLE * 2, stop)?;
    let after = resident(playground.pid())?;
    Ok((after as f64 - before as f64) / IDLE_SOCKETS as f64)
}

/// Server CPU a RECONNECT, in microseconds, in `rounds` windows that make up [`RECONNECTS`].
pub(super) fn reconnects(playground: &Playground, rounds: usize, stop: &Stop) -> Result<Vec<f64>> {
    let mut crowd = connect(playground, RECONNECT_SOCKETS, 1, stop)?;
    let mut asker = connect(playground, 1, 1, stop)?;
    asker.followers[0].ask(&format!("[sim tokens={RECONNECT_CHUNKS} rate=0 seed=1]"))?;
    asker.until("complete", SOON, stop, Follower::complete)?;
    let message = asker.followers[0].message().unwrap_or_default().to_owned();
    reconnect_times(&mut crowd, &message, RECONNECT_SOCKETS * 10, stop)?;
    // Every socket asks as often as every other.
    let each = RECONNECTS / rounds / RECONNECT_SOCKETS * RECONNECT_SOCKETS;
    (0..rounds)
        .map(|_| {
            crowd.tally = Tally::default();
            let cpu = Cpu::of(playground.pid())?;
            reconnect_times(&mut crowd, &message, each, stop)?;
            let used = Cpu::of(playground.pid())?.since(&cpu);
            let due = each as u64 * RECONNECT_CHUNKS;
            if crowd.tally.chunks != due {
                bail!("{} chunks came of {due}", crowd.tally.chunks);
            }
            Ok(used.as_secs_f64() * 1e6 / each as f64)
        })
        .collect()
}

/// `times` RECONNECTs of one finished answer, one at a time a socket.
fn reconnect_times(crowd: &mut Crowd, message: &str, times: usize, stop: &Stop) -> Result<()> {
    for _ in 0..times / crowd.followers.len() {
        for follower in &mut crowd.followers {
            follower.follow(message)?;
        }
        crowd.until("read again", SOON, stop, Follower::complete)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_the_floor_writes_is_counted_to_the_last_frame() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let args = floor::Args { sockets: 20, rate: 200, groups: 3, frames: 40, frame_bytes: 223 };
        let program = std::thread::spawn(move || floor::serve(&listener, &args));
        let connect = |_| TcpStream::connect(address).map_err(anyhow::Error::from);
        let sockets = (0..20).map(|at| connect(at).and_then(Socket::raw));
        let followers = sockets.map(|socket| socket.map(Follower::of_floor)).collect::<Result<_>>();
        let mut crowd = Crowd::new(followers.unwrap());
        let stop = Stop::default();
        let me = std::process::id();
        let sample = window(&mut crowd, me, Duration::from_millis(50), &stop).unwrap();
        assert!(sample.micros > 0.0 && sample.chunks_a_frame == 1.0, "{sample:?}");
        crowd.until("served", SOON, &stop, |follower| follower.received() >= 40).unwrap();
        exactly(&crowd, 40).unwrap();
        assert!(exactly(&crowd, 41).is_err());
        assert_eq!(crowd.tally.single_bytes, 223 * 20 * 40);
        drop(crowd);
        program.join().unwrap().unwrap();
    }

    #[test]
    fn a_window_without_a_chunk_is_no_figure() {
        let mut crowd = Crowd::new(Vec::new());
        let me = std::process::id();
        assert!(window(&mut crowd, me, Duration::ZERO, &Stop::default()).is_err());
    }

    #[test]
    fn an_answer_outlasts_its_window() {
        assert_eq!(chunks_of(&load(0), Duration::from_millis(10_500)), 525);
    }

    fn load(coalesce_ms: u64) -> Load {
        Load { name: "x", one_answer: true, rate: 50, coalesce_ms }
    }

    #[test]
    fn a_starved_server_is_no_figure() {
        let sample = |chunks_a_frame| Sample {
            micros: 1.0,
            chunks_a_frame,
            generator: 0.1,
            steal: 0.0,
            others: 0.5,
        };
        assert!(every_chunk_a_frame(&load(0), &sample(1.0)).is_ok());
        assert!(every_chunk_a_frame(&load(0), &sample(1.2)).is_err());
        assert!(every_chunk_a_frame(&load(40), &sample(4.0)).is_ok());
    }
}
