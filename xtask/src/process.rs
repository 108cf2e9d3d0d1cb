//! Processes that a command starts, so that none outlives it: each is the leader of a process group
//! of its own, and is ended when its guard is dropped, also after Ctrl-C, SIGTERM and a failure.

use anyhow::{Context as _, Result, bail};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// A process that was asked to end has this long before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How often a waiting loop looks again.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// The real clock: these commands measure and wait for real processes.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Raised by SIGINT, SIGTERM and SIGHUP. Every waiting loop checks it, and the guards do the rest.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Takes the three signals over from their default, which is to die on the spot.
    pub(crate) fn install() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = Self::default();
        let raise = stop.clone();
        let inside = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(inside);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            raise.0.store(true, Ordering::Relaxed);
        })?;
        Ok(stop)
    }

    /// An error once a signal came.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Sleeps, and returns early with an error when a signal comes.
    pub(crate) fn sleep(&self, time: Duration) -> Result<()> {
        let end = now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

/// A running process and its group; dropping it ends the group.
pub(crate) struct Group {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Group {
    /// Starts `command` without a standard input.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name} ({:?})", command.get_program()))?;
        Ok(Self { name: name.to_owned(), child, ended: None })
    }

    /// The process id, which is also the group's.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, where the command asked for a pipe; once.
    pub(crate) fn stdout(&mut self) -> Result<std::process::ChildStdout> {
        self.child.stdout.take().with_context(|| format!("{} has no pipe", self.name))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits for its own end.
    pub(crate) fn wait(&mut self, stop: &Stop) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            stop.sleep(LOOK)?;
        }
    }

    /// An error if it has ended although it should run.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself: {status}", self.name),
        }
    }

    /// The shell's own `kill` is the only one that is always there and needs no `unsafe`.
    fn signal(&self, name: &str) {
        let script = format!("kill -s {name} -- -{}", self.pid());
        let _ = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
    }

    fn end(&mut self) {
        if matches!(self.ended(), Ok(Some(_))) {
            return;
        }
        self.signal("TERM");
        let deadline = now() + GRACE;
        while now() < deadline {
            if matches!(self.ended(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        self.signal("KILL");
        let _ = self.child.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a command in the foreground, with its output on the terminal.
pub(crate) fn foreground(command: &mut Command) -> Result<()> {
    let name = format!("{command:?}").replace('"', "");
    let status = command.status().with_context(|| format!("starting {name}"))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}

/// The cargo on the path.
pub(crate) fn cargo() -> Command {
    Command::new("cargo")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: u32) -> bool {
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_group_takes_its_grandchildren_along() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped());
        let mut group = Group::spawn("parent", &mut command).unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(group.stdout().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        let leader = group.pid();
        assert!(alive(leader) && alive(grandchild));
        drop(group);
        // The grandchild belongs to init now, which may take a moment to reap it.
        let deadline = now() + GRACE;
        while running(grandchild) && now() < deadline {
            std::thread::sleep(LOOK);
        }
        assert!(!alive(leader), "leader {leader} is left");
        assert!(!running(grandchild), "grandchild {grandchild} is left");
    }

    /// A zombie nobody reaps (process 1 of a container) does not run.
    fn running(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.contains(" Z "))
    }

    #[test]
    fn a_process_that_ends_by_itself_is_an_error_and_its_status_is_kept() {
        let mut command = Command::new("sh");
        let mut group = Group::spawn("short", command.args(["-c", "exit 3"])).unwrap();
        assert_eq!(group.wait(&Stop::default()).unwrap().code(), Some(3));
        let text = group.must_run().unwrap_err().to_string();
        assert!(text.contains("short ended by itself"), "{text}");
    }

    #[test]
    fn a_raised_stop_ends_every_wait() {
        let stop = Stop::default();
        stop.0.store(true, Ordering::Relaxed);
        let mut sleep = Command::new("sleep");
        let mut group = Group::spawn("sleep", sleep.arg("600")).unwrap();
        assert!(stop.sleep(Duration::from_secs(600)).is_err());
        assert!(group.wait(&stop).is_err());
    }
}
