//! One node process: signals to it, and what it says of itself on its admin port.

use super::admin_client;
use super::life::{DRAIN_GRACE, Life, Vitals, shown};
use async_trait::async_trait;
use protocol::DrainPhase;
use protocol::dev::NodePhase;
use protocol::drain::DrainRequest;
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::process::{ChildStdin, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A process that does not serve by then is broken.
const BOOT: Duration = Duration::from_secs(15);
/// One that serves takes requests soon after; longer only where its store is away.
const READY: Duration = Duration::from_secs(1);
/// How often it is looked at while something is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// A report that takes longer is left for the next look.
const REPORT: Duration = Duration::from_millis(250);
/// A drain is told to a paused process when it goes on; longest pause of `/dev`.
const TELL: Duration = Duration::from_secs(3_600);
/// The kernel takes no longer to end a killed process.
const DEATH: Duration = Duration::from_secs(5);
/// Of a drain that has not said how long it will take.
const LONGEST_DRAIN: Duration = Duration::from_secs(60);

/// What the task that holds the process is to do with it.
#[derive(Clone, Copy, Default)]
struct Wanted {
    paused_until: Option<Instant>,
    killed: bool,
}

/// A running `dataplane run`.
pub(super) struct Child {
    admin: SocketAddr,
    wanted: Arc<watch::Sender<Wanted>>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<ExitStatus>>,
    last: Mutex<Vitals>,
    tasks: Mutex<JoinSet<()>>,
    /// Its end tells the process that nobody holds it any more.
    _stdin: Option<ChildStdin>,
}

impl Child {
    /// Starts it and waits until it serves; `on_end` is called when it is dead.
    pub(super) async fn start(
        mut command: Command,
        admin: SocketAddr,
        on_end: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let mut process = command.spawn()?;
        let stdin = process.stdin.take();
        let wanted = Arc::new(watch::Sender::new(Wanted::default()));
        let (end, ended) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let keeper = Keeper { process, wanted: wanted.clone(), stopped: false };
        tasks.spawn(async move {
            let status = keeper.run().await;
            on_end();
            // Everybody who asks later sees it as well.
            end.send_replace(Some(status));
        });
        let last = Vitals { phase: NodePhase::Serving, sessions: 0, streams: 0 };
        let (last, tasks) = (Mutex::new(last), Mutex::new(tasks));
        let child = Self { admin, wanted, ended, last, tasks, _stdin: stdin };
        child.serves().await?;
        Ok(child)
    }

    async fn serves(&self) -> io::Result<()> {
        let deadline = Instant::now() + BOOT;
        while Instant::now() < deadline {
            if let Some(status) = *self.ended.borrow() {
                // What it said about it is on standard error.
                return Err(io::Error::other(format!("it ended while it started: {status}")));
            }
            if admin_client::says_yes(self.admin, "/livez", REPORT).await {
                self.gets_ready().await;
                return Ok(());
            }
            sleep(LOOK).await;
        }
        self.kill().await;
        Err(io::Error::other(format!("it does not serve after {BOOT:?}")))
    }

    /// A moment later it has its lease and takes requests, unless its store is away.
    async fn gets_ready(&self) {
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline
            && !self.has_ended()
            && !admin_client::says_yes(self.admin, "/readyz", REPORT).await
        {
            sleep(LOOK).await;
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    fn is_paused(&self) -> bool {
        self.wanted.borrow().paused_until.is_some()
    }

    fn last(&self) -> MutexGuard<'_, Vitals> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Life for Child {
    async fn vitals(&self) -> Vitals {
        if !self.is_paused()
            && !self.has_ended()
            && let Ok(report) = admin_client::report(self.admin, REPORT).await
        {
            let phase = shown(report.phase);
            *self.last() = Vitals { phase, sessions: report.sessions, streams: report.streams };
        }
        let last = *self.last();
        match () {
            () if self.has_ended() => Vitals::DEAD,
            () if self.is_paused() => Vitals { phase: NodePhase::Paused, ..last },
            () => last,
        }
    }

    async fn drain(&self, mut request: DrainRequest) {
        let (admin, (done, told)) = (self.admin, oneshot::channel::<()>());
        let tell = async move {
            let epoch = admin_client::report(admin, TELL).await.map_or(0, |report| report.epoch);
            request.epoch = request.epoch.max(epoch);
            match admin_client::drain(admin, &request, TELL).await {
                Ok(status) if status.is_success() => {}
                Ok(status) => tracing::warn!(%admin, %status, "drain refused"),
                Err(error) => tracing::warn!(%admin, %error, "drain not told"),
            }
            drop(done);
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(tell);
        let _ = timeout(REPORT, told).await;
    }

    fn pause(&self, duration: Duration) {
        let end = Instant::now() + duration;
        self.wanted.send_modify(|wanted| {
            wanted.paused_until = Some(wanted.paused_until.map_or(end, |until| until.max(end)));
        });
    }

    fn go_on(&self) {
        self.wanted.send_modify(|wanted| wanted.paused_until = None);
    }

    async fn drained(&self) {
        let mut overdue = Instant::now() + LONGEST_DRAIN;
        while Instant::now() < overdue && !self.has_ended() {
            if let Ok(report) = admin_client::report(self.admin, REPORT).await {
                if matches!(report.phase, DrainPhase::Done | DrainPhase::Serving) {
                    return;
                }
                let left = Duration::from_millis(report.remaining_ms.unwrap_or_default());
                overdue = Instant::now() + left.saturating_add(DRAIN_GRACE).min(TELL);
            }
            sleep(LOOK).await;
        }
    }

    async fn kill(&self) {
        self.wanted.send_modify(|wanted| wanted.killed = true);
        let mut ended = self.ended.clone();
        if timeout(DEATH, ended.wait_for(Option::is_some)).await.is_err() {
            tracing::error!(admin = %self.admin, "a killed process does not end");
        }
    }
}

/// Holds the process: only who may reap it may signal it, or the signal could hit another one.
struct Keeper {
    process: tokio::process::Child,
    wanted: Arc<watch::Sender<Wanted>>,
    stopped: bool,
}

impl Keeper {
    async fn run(mut self) -> ExitStatus {
        let mut changes = self.wanted.subscribe();
        loop {
            let Wanted { paused_until, killed } = *changes.borrow_and_update();
            if killed {
                // It may have ended by itself a moment ago.
                let _ = self.process.start_kill();
                return reaped(&mut self.process).await;
            }
            self.stop(paused_until.is_some());
            tokio::select! {
                status = reaped(&mut self.process) => return status,
                _ = changes.changed() => {}
                () = at(paused_until) => self.wanted.send_modify(|wanted| {
                    // Unless it was prolonged meanwhile.
                    wanted.paused_until =
                        wanted.paused_until.filter(|until| *until > Instant::now());
                }),
            }
        }
    }

    fn stop(&mut self, stop: bool) {
        if self.stopped == stop {
            return;
        }
        self.stopped = stop;
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let Some(pid) = pid else { return };
        let signal = if stop { Signal::STOP } else { Signal::CONT };
        if let Err(error) = kill_process(pid, signal) {
            tracing::warn!(?signal, %error, "not signalled");
        }
    }
}

async fn reaped(process: &mut tokio::process::Child) -> ExitStatus {
    match process.wait().await {
        Ok(status) => status,
        Err(error) => {
            tracing::error!(%error, "a process cannot be waited for");
            ExitStatus::default()
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
