//! What Linux says of a process and of the machine: CPU time, memory, steal.

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fs::read_to_string;
use std::time::Duration;

/// `/proc/PID/stat` counts in this unit, on every Linux (USER_HZ).
const TICK: Duration = Duration::from_millis(10);
/// Above this difference of the two clocks of a process something is wrong with the finer one.
const DISAGREEMENT: f64 = 0.05;
/// What rounding to ticks explains.
const ROUNDING: Duration = Duration::from_millis(40);

/// CPU time of a process, to be subtracted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cpu {
    /// Nanoseconds a living thread, from the scheduler.
    threads: HashMap<u32, u64>,
    /// The whole process, ended threads included, in coarse ticks.
    whole: Duration,
}

impl Cpu {
    /// Reads both clocks.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let mut threads = HashMap::new();
        let tasks = format!("/proc/{pid}/task");
        for task in std::fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))? {
            let tid = task?.file_name();
            let Some(tid) = tid.to_str().and_then(|tid| tid.parse().ok()) else { continue };
            // A thread may end between the listing and the reading.
            let Ok(text) = read_to_string(format!("{tasks}/{tid}/schedstat")) else { continue };
            if let Some(ran) = text.split(' ').next().and_then(|ran| ran.parse().ok()) {
                threads.insert(tid, ran);
            }
        }
        let stat = read_to_string(format!("/proc/{pid}/stat"))?;
        let whole = whole_process(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
        Ok(Self { threads, whole })
    }

    /// CPU time since `before`. The scheduler's clock, unless a thread ended and took its time along,
    /// or the clocks disagree; then the coarse one.
    pub(super) fn since(&self, before: &Self) -> Duration {
        let whole = self.whole.saturating_sub(before.whole);
        if before.threads.keys().any(|tid| !self.threads.contains_key(tid)) {
            return whole;
        }
        let ran = |(tid, ran): (&u32, &u64)| {
            ran.saturating_sub(before.threads.get(tid).copied().unwrap_or(0))
        };
        let fine = Duration::from_nanos(self.threads.iter().map(ran).sum());
        let apart = fine.abs_diff(whole);
        if apart > ROUNDING && apart > whole.mul_f64(DISAGREEMENT) { whole } else { fine }
    }
}

/// utime + stime: fields 14 and 15, counted behind the name, which may hold anything.
fn whole_process(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok();
    Some(TICK * (ticks(11)? + ticks(12)?))
}

/// All processes that a process started, and those that they started.
pub(super) fn descendants(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may end between the listing and the reading.
        let Ok(stat) = read_to_string(format!("/proc/{child}/stat")) else { continue };
        if let Some(parent) = parent(&stat) {
            parents.push((child, parent));
        }
    }
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == next).map(|(child, _)| child));
        at += 1;
    }
    found.remove(0);
    Ok(found)
}

/// Field 4, counted behind the name.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Resident memory of a process in bytes, exact (`VmRSS` lags by some pages a thread).
pub(super) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = read_to_string(&path).with_context(|| format!("reading {path}"))?;
    kibibytes(&text, "Rss:").with_context(|| format!("{path} has no Rss"))
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Time of the whole machine since boot, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Machine {
    busy: u64,
    steal: u64,
    all: u64,
}

impl Machine {
    /// Reads `/proc/stat`.
    pub(super) fn now() -> Result<Self> {
        let text = read_to_string("/proc/stat")?;
        Self::parse(&text).context("/proc/stat has no cpu line")
    }

    /// user nice system idle iowait irq softirq steal …
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        let all = ticks.get(..8)?.iter().sum();
        Some(Self { busy: all - ticks[3] - ticks[4] - ticks[7], steal: ticks[7], all })
    }

    /// Shares of the whole machine's time since `before`: (stolen by the host, used by others than
    /// those who used `known`).
    pub(super) fn disturbance(&self, before: &Self, known: Duration) -> (f64, f64) {
        let all = self.all.saturating_sub(before.all).max(1) as f64;
        let steal = self.steal.saturating_sub(before.steal) as f64 / all;
        let busy = self.busy.saturating_sub(before.busy) as f64;
        let others = busy - known.as_secs_f64() / TICK.as_secs_f64();
        (steal, others.max(0.0) / all)
    }
}

/// Files this process may open.
pub(super) fn open_files_limit() -> Result<usize> {
    let limits = read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).context("no limit of files")?;
    Ok(soft.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::now;

    #[test]
    fn the_time_of_a_busy_thread_is_counted() {
        let me = std::process::id();
        let before = Cpu::of(me).unwrap();
        let end = now() + Duration::from_millis(120);
        while now() < end {}
        let used = Cpu::of(me).unwrap().since(&before);
        assert!(used >= Duration::from_millis(20), "{used:?}");
    }

    #[test]
    fn an_ended_thread_makes_the_coarse_clock_count() {
        let cpu = |threads: &[(u32, u64)], ms| Cpu {
            threads: threads.iter().copied().collect(),
            whole: Duration::from_millis(ms),
        };
        let before = cpu(&[(1, 5_000_000), (2, 900_000_000)], 900);
        let kept = cpu(&[(1, 25_000_000), (2, 910_000_000), (3, 1_000_000)], 930);
        assert_eq!(kept.since(&before), Duration::from_millis(31));
        let ended = cpu(&[(1, 25_000_000)], 950);
        assert_eq!(ended.since(&before), Duration::from_millis(50));
        let frozen = cpu(&[(1, 5_000_000), (2, 900_000_000)], 1_900);
        assert_eq!(frozen.since(&before), Duration::from_millis(1_000));
    }

    #[test]
    fn a_name_with_brackets_and_blanks_is_skipped() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 1 0 100\n";
        assert_eq!(whole_process(stat), Some(TICK * 42));
        assert_eq!(whole_process("42 (a) S 1"), None);
    }

    #[test]
    fn a_grandchild_is_a_descendant() {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).stdout(std::process::Stdio::piped());
        let mut group = crate::process::Group::spawn("parent", &mut command).unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(group.stdout().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let found = descendants(std::process::id()).unwrap();
        assert!(found.contains(&group.pid()) && found.contains(&line.trim().parse().unwrap()));
        assert!(!found.contains(&std::process::id()));
        assert_eq!(parent("42 (a) b (c) S 7 2 3"), Some(7));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(kibibytes("x\nRss:     12 kB\n", "Rss:"), Some(12 * 1024));
        assert!(resident(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn steal_and_others_are_shares_of_the_machine() {
        let at = |text| Machine::parse(text).unwrap();
        let before = at("cpu  0 0 0 0 0 0 0 0 0 0\n");
        let after = at("cpu  100 0 50 40 0 0 0 10 0 0\ncpu0 1\n");
        let (steal, others) = after.disturbance(&before, Duration::from_secs(1));
        assert!((steal - 0.05).abs() < 1e-9 && (others - 0.25).abs() < 1e-9, "{steal} {others}");
    }
}
