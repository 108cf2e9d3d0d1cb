//! One round of one subject: all streams through it, a window for its CPU, a window for the time that
//! a chunk takes. What did not come exactly as it was written is an error, not a figure.

use super::super::load::NAP;
use super::super::measures::Sample;
use super::super::proc::{Cpu, Machine, descendants};
use super::super::report::{median, percentile};
use super::client::{Client, Door};
use super::clock::{Clock, nanos};
use super::pace::RATE;
use super::upstream::{Order, STREAMS, Upstream};
use crate::process::{Stop, now};
use anyhow::{Context as _, Result, bail};
use std::time::Duration;

/// Before the windows: everybody follows, and caches are warm.
const SETTLE: Duration = Duration::from_secs(1);
/// How much longer than everything that is measured an answer lasts.
const MARGIN: Duration = Duration::from_secs(1);
/// At the begin and the end of the window of times, for the readers to fall asleep and to wake up.
const EDGE: Duration = Duration::from_millis(200);
/// A reader looks so often whether it should go on.
const LOOK: Duration = Duration::from_millis(200);
/// A frame is a few hundred bytes; whoever lags behind sends many at once.
const SCRATCH_BYTES: usize = 64 * 1024;
/// A subject that has not kept pace may take this long to get to the end.
const CATCH_UP: Duration = Duration::from_secs(60);
/// Of the chunks that are due in a window, so many come from whoever keeps pace.
const LEAST: f64 = 0.9;
/// Several chunks in a frame are cheap and not what is measured; a little of it happens anywhere.
const MOST_CHUNKS_A_FRAME: f64 = 1.05;

/// What stands between the provider and the clients.
pub(super) struct Subject<'a> {
    /// For errors.
    pub(super) name: &'a str,
    pub(super) door: Door,
    /// What it runs as; `None`: there is nothing in between.
    pub(super) pid: Option<u32>,
}

/// What is needed to measure any subject.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) clock: Clock,
    /// Of each of the two windows.
    pub(super) length: Duration,
    pub(super) stop: &'a Stop,
}

/// What a round gave.
#[derive(Clone)]
pub(super) struct Round {
    /// Of the window whose readers nap; its `micros` are the subject's CPU a chunk.
    pub(super) sample: Sample,
    /// CPU a chunk in the window whose readers are woken by each, in microseconds.
    pub(super) waking: f64,
    /// From the provider's write to the client's read, in microseconds.
    pub(super) times: Vec<f64>,
    /// Of the chunks that were due in the first window, the share that came.
    pub(super) pace: f64,
}

impl Round {
    pub(super) fn keeps_pace(&self) -> bool {
        self.pace >= LEAST
    }

    /// For the terminal.
    pub(super) fn brief(&self, subject: &Subject<'_>) -> String {
        let (p50, p99) = (median(&self.times), percentile(&self.times, 0.99));
        format!(
            "{}: {:.2} µs a chunk, {:.2} µs with readers that are woken; p50 {p50:.0} µs, p99 \
             {p99:.0} µs",
            subject.name, self.sample.micros, self.waking
        )
    }
}

/// Measures `subject` once.
pub(super) fn round(subject: &Subject<'_>, setting: &Setting<'_>) -> Result<Round> {
    measured(subject, setting).with_context(|| subject.name.to_owned())
}

fn measured(subject: &Subject<'_>, setting: &Setting<'_>) -> Result<Round> {
    let run = setting.upstream.begin();
    let lasts = SETTLE + setting.length * 2 + MARGIN;
    let chunks = (f64::from(RATE) * lasts.as_secs_f64()).round() as u32;
    let ask = |stream| Client::ask(&subject.door, Order { run, stream, chunks }, setting.stop);
    let mut clients = (0..STREAMS as u32).map(ask).collect::<Result<Vec<_>>>()?;
    nap(&mut clients, SETTLE, setting)?;
    let (sample, pace) = cpu_window(&mut clients, subject, setting)?;
    let (waking, times) = time_window(&mut clients, subject, setting)?;
    if clients.iter().any(|client| client.log.complete) {
        bail!("an answer ended inside the windows");
    }
    let deadline = now() + CATCH_UP;
    while clients.iter().any(|client| !client.log.complete) {
        if now() > deadline {
            bail!("not complete {CATCH_UP:?} after the windows");
        }
        nap(&mut clients, NAP, setting)?;
    }
    exactly(&clients, chunks, setting.upstream)?;
    Ok(Round { sample, waking, times: times.of(&clients), pace })
}

/// Reads on with naps in between, so that nobody is charged for waking the reader.
fn nap(clients: &mut [Client], time: Duration, setting: &Setting<'_>) -> Result<()> {
    let mut scratch = vec![0; SCRATCH_BYTES];
    let end = now() + time;
    loop {
        setting.stop.check()?;
        for client in &mut *clients {
            client.drain(&mut scratch, setting.clock)?;
        }
        if now() >= end {
            return Ok(());
        }
        std::thread::sleep(NAP);
    }
}

/// CPU of a subject until now.
struct Used(Vec<(u32, Cpu)>);

impl Used {
    fn of(subject: &Subject<'_>) -> Result<Self> {
        let Some(pid) = subject.pid else { return Ok(Self(Vec::new())) };
        let pids = std::iter::once(pid).chain(descendants(pid)?);
        Ok(Self(pids.map(|pid| Ok((pid, Cpu::of(pid)?))).collect::<Result<_>>()?))
    }

    fn since(&self) -> Result<Duration> {
        self.0.iter().map(|(pid, before)| Ok(Cpu::of(*pid)?.since(before))).sum()
    }
}

/// Chunks and frames that came so far, over all clients.
fn counts(clients: &[Client]) -> (u64, u64) {
    let chunks = clients.iter().map(|client| client.log.seen.len() as u64).sum();
    (chunks, clients.iter().map(|client| client.log.frames).sum())
}

fn cpu_window(
    clients: &mut [Client],
    subject: &Subject<'_>,
    setting: &Setting<'_>,
) -> Result<(Sample, f64)> {
    let me = std::process::id();
    let (chunks, frames) = counts(clients);
    let (used, own) = (Used::of(subject)?, Cpu::of(me)?);
    let (machine, begin) = (Machine::now()?, now());
    nap(clients, setting.length, setting)?;
    let took = begin.elapsed();
    let used = used.since()?;
    let generator = Cpu::of(me)?.since(&own);
    let (steal, others) = Machine::now()?.disturbance(&machine, used + generator);
    let after = counts(clients);
    let (chunks, frames) = (after.0 - chunks, after.1 - frames);
    if chunks == 0 {
        bail!("no chunk came in the window");
    }
    let due = f64::from(RATE) * STREAMS as f64 * took.as_secs_f64();
    let sample = Sample {
        micros: used.as_secs_f64() * 1e6 / chunks as f64,
        chunks_a_frame: chunks as f64 / frames as f64,
        generator: generator.as_secs_f64() / took.as_secs_f64(),
        steal,
        others,
    };
    if sample.chunks_a_frame > MOST_CHUNKS_A_FRAME {
        bail!("{:.2} chunks a frame: it was starved", sample.chunks_a_frame);
    }
    Ok((sample, chunks as f64 / due))
}

/// When the chunks were written whose times count.
struct Times {
    from: u64,
    to: u64,
}

impl Times {
    fn of(&self, clients: &[Client]) -> Vec<f64> {
        let seen = clients.iter().flat_map(|client| &client.log.seen);
        let counts = seen.filter(|seen| (self.from..self.to).contains(&seen.written));
        counts.map(|seen| seen.read.saturating_sub(seen.written) as f64 / 1e3).collect()
    }
}

/// Every client has a thread of its own that sleeps until something comes.
fn time_window(
    clients: &mut [Client],
    subject: &Subject<'_>,
    setting: &Setting<'_>,
) -> Result<(f64, Times)> {
    let begin = setting.clock.nanos();
    let end = begin + nanos(setting.length);
    let (before, used) = (counts(clients).0, Used::of(subject)?);
    let follow = |client: &mut Client| -> Result<()> {
        let mut scratch = vec![0; SCRATCH_BYTES];
        while setting.clock.nanos() < end {
            setting.stop.check()?;
            client.wait(LOOK)?;
            client.drain(&mut scratch, setting.clock)?;
        }
        Ok(())
    };
    let ended: Vec<Result<()>> = std::thread::scope(|scope| {
        let readers: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(move || follow(client))).collect();
        let panicked = |_| anyhow::anyhow!("a reader panicked");
        readers.into_iter().map(|reader| reader.join().map_err(panicked)?).collect()
    });
    ended.into_iter().collect::<Result<()>>()?;
    let chunks = counts(clients).0 - before;
    if chunks == 0 {
        bail!("no chunk came in the window");
    }
    let waking = used.since()?.as_secs_f64() * 1e6 / chunks as f64;
    Ok((waking, Times { from: begin + nanos(EDGE), to: end - nanos(EDGE) }))
}

/// Every chunk that was written came, and nothing else.
fn exactly(clients: &[Client], chunks: u32, upstream: &Upstream) -> Result<()> {
    for client in clients {
        let stream = client.log.stream;
        let written = upstream.times(stream);
        let seen = client.log.seen.iter().map(|seen| seen.written);
        if written.len() != chunks as usize || !seen.eq(written.iter().copied()) {
            let came = client.log.seen.len();
            bail!("stream {stream}: {came} chunks came, {} were written", written.len());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_with_nothing_in_between_is_complete_and_has_times() {
        let clock = Clock::new();
        let upstream = Upstream::start(clock).unwrap();
        let subject = Subject { name: "direct", door: Door::Http(upstream.address), pid: None };
        let length = Duration::from_millis(600);
        let stop = Stop::default();
        let setting = Setting { upstream: &upstream, clock, length, stop: &stop };
        let round = round(&subject, &setting).unwrap();
        assert_eq!((round.sample.micros, round.waking), (0.0, 0.0));
        // 200 ms between the edges: each of the streams writes every 20 ms.
        assert!((150..=250).contains(&round.times.len()), "{}", round.times.len());
        assert!(round.times.iter().all(|time| *time > 0.0));
        assert!(round.keeps_pace(), "{}", round.pace);
        assert!(!Round { pace: 0.8, ..round }.keeps_pace());
    }
}
