//! Where a scenario plays: a fleet with chaos around every node's engines, and devices whose
//! transcripts are judged together.

use client::connection::{Connection, Incoming, Target};
use client::recorder::Recorder;
use client::session::{Event, Observer, Options, Session};
use client::token::TokenSource;
use client::transcript::{Transcript, Verdict, agree};
use dataplane::node::Engines;
use dataplane::playground::{Fleet, FleetOptions, Kind, WrapEngines};
use protocol::sim::Directive;
use protocol::{ClientFrame, Epoch, MessageId, Reconnect, Settings};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::Duration;
use streamlog::chaos::{Chaos, ChaosControl};
use tokio::time::Instant;

pub(crate) type Judged = Verdict;
pub(crate) type Device = Session<Recorder>;

/// Over what a scenario plays, and the seed of everything random in it.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) stores: Stores,
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stores {
    Memory,
    /// A redis-server of the scenario's own.
    Redis,
}

/// The bug switch is one for the process: scenarios take turns.
#[cfg(feature = "bugs")]
pub(crate) fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Everything quick, so that a takeover takes a second.
pub(crate) fn quick() -> Settings {
    let mut settings = dataplane::playground::settings();
    settings.ownership.lease_ms = 600;
    settings.ownership.renew_ms = 150;
    settings.ownership.look_ms = 100;
    settings
}

pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) controls: Vec<ChaosControl>,
    pub(crate) text: String,
    seed: u64,
    devices: u64,
}

impl Stage {
    pub(crate) async fn new(at: Setting, settings: Settings, text: &str) -> Self {
        let Setting { stores, seed } = at;
        client::token::install_crypto();
        let controls: Vec<_> = (0..2).map(|node| ChaosControl::seeded(seed + node)).collect();
        let around = controls.clone();
        let wrap: WrapEngines = Arc::new(move |at, engines| Engines {
            log: Arc::new(Chaos::new(engines.log, around[at].clone())),
            directory: Arc::new(Chaos::new(engines.directory, around[at].clone())),
            // Sockets are still welcomed by a node whose log is away.
            ..engines
        });
        let options = FleetOptions {
            kind: Kind::Threads { redis: stores == Stores::Redis },
            nodes: 2,
            settings,
            wrap: Some(wrap),
            ..FleetOptions::default()
        };
        let fleet = Fleet::start(options).await.unwrap();
        // Long enough for every node to be trusted with takeovers.
        tokio::time::sleep(Duration::from_millis(800)).await;
        Self { fleet, controls, text: text.to_owned(), seed, devices: 0 }
    }

    fn directive(&self) -> Directive {
        Directive::parse(&self.text).unwrap()
    }

    /// A device that begins at node `first` (0 or 1).
    pub(crate) fn device(&mut self, first: usize) -> Device {
        self.devices += 1;
        let rng = SmallRng::seed_from_u64(self.seed * 100 + self.devices);
        let token = TokenSource::Fixed(self.fleet.token("alice"));
        let options = Options { first, ..Options::new(self.fleet.node_urls()) };
        Session::new(options, token, rng, Recorder::default())
    }

    /// A device that follows a known answer from `from` on.
    pub(crate) fn follower(&mut self, first: usize, message: MessageId, from: u64) -> Device {
        let directive = self.directive();
        let mut device = self.device(first);
        device.observer().expect_message(message, directive);
        device.follow(message, protocol::Index(from));
        device
    }

    /// Asks through a device until the answer is accepted.
    pub(crate) async fn ask(&mut self, device: &mut Device, name: &str) -> MessageId {
        let request = crate::cluster::request_named(&self.text, name);
        let directive = self.directive();
        device.observer().expect_request(request.request_id.clone().unwrap(), directive);
        device.chat(request);
        loop {
            if let Event::Accepted(accepted) = device.next().await.unwrap() {
                return accepted.message_id;
            }
        }
    }
}

/// Runs a device until it holds so many chunks; its time is bounded.
pub(crate) async fn until_chunks(device: &mut Device, message: MessageId, count: u64) {
    let enough = async {
        while device.position(message).is_none_or(|(next, _)| next.0 < count) {
            if device.next().await.is_none() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), enough).await;
}

/// Runs a device until `when` is true of an event; its time is bounded.
pub(crate) async fn until_event(device: &mut Device, mut when: impl FnMut(&Event) -> bool) {
    let seen = async {
        while let Some(event) = device.next().await {
            if when(&event) {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), seen).await;
}

/// Runs a device to the end of the answer, cutting its sockets every `cut`; 8 s at most.
pub(crate) async fn until_end(device: &mut Device, message: MessageId, cut: Option<Duration>) {
    let end = Instant::now() + Duration::from_secs(8);
    let mut next_cut = cut.map(|every| Instant::now() + every);
    while Instant::now() < end {
        let ended = |device: &mut Device| {
            device.observer().transcript(message).is_some_and(|t| t.end().is_some())
        };
        if ended(device) {
            return;
        }
        let wake = next_cut.unwrap_or(end).min(end);
        let _ = tokio::time::timeout_at(wake, device.next()).await;
        if let (Some(at), Some(every)) = (next_cut, cut)
            && Instant::now() >= at
        {
            device.cut();
            next_cut = Some(at + every);
        }
    }
}

/// What the oracle says of all devices of one answer.
pub(crate) fn judge(devices: &mut [Device], message: MessageId) -> Verdict {
    let mut verdict = Verdict::default();
    for device in &mut *devices {
        verdict.merge(device.observer().stray());
    }
    let taken = devices.iter_mut().map(|device| device.observer().take(message));
    verdict.merge(&judge_all(&taken.collect::<Vec<_>>()));
    verdict
}

/// What the oracle says of these transcripts together.
pub(crate) fn judge_all(transcripts: &[Transcript]) -> Verdict {
    let mut verdict = agree(&transcripts.iter().collect::<Vec<_>>());
    for transcript in transcripts {
        verdict.merge(&transcript.verdict());
    }
    verdict
}

/// A device that resumes at one chosen node, with the epoch of its last chunk and without a digest.
pub(crate) struct Resumed {
    pub(crate) recorder: Recorder,
    connection: Connection,
    message: MessageId,
}

impl Resumed {
    const SOCKET: u32 = 1_000;

    /// Goes on where `device` stands, at node `at`.
    pub(crate) async fn at(stage: &Stage, at: usize, device: Device, message: MessageId) -> Self {
        let (from, _) = device.position(message).unwrap();
        let mut recorder = device.close().await;
        let target = Target {
            base_url: stage.fleet.node_urls()[at].clone(),
            token: stage.fleet.token("alice"),
            resume: None,
            session: None,
            receive_buffer: None,
        };
        let mut connection = Connection::open(&target).await.unwrap();
        let epoch = Some(Epoch(2));
        let reconnect = Reconnect { message_id: message, from, epoch, digest: None };
        connection.send(&ClientFrame::Reconnect(reconnect));
        recorder.on_follow(Self::SOCKET, message, from);
        Self { recorder, connection, message }
    }

    /// Reads for a while, or to the end of the answer.
    pub(crate) async fn read_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while self.recorder.transcript(self.message).is_none_or(|t| t.end().is_none()) {
            match tokio::time::timeout_at(until, self.connection.next()).await {
                Ok(Incoming::Frame(frame)) => self.recorder.on_frame(Self::SOCKET, &frame),
                Ok(Incoming::Closed { .. }) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// A scenario's own runtime.
pub(crate) fn play<F: Future<Output = Verdict>>(scenario: F) -> Verdict {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(scenario)
}

/// Follows to the end with all devices at once, then judges.
pub(crate) async fn finish(
    mut devices: Vec<Device>,
    message: MessageId,
    cut: Option<Duration>,
) -> Verdict {
    let ends = devices.iter_mut().map(|device| until_end(device, message, cut));
    futures_util::future::join_all(ends).await;
    judge(&mut devices, message)
}
