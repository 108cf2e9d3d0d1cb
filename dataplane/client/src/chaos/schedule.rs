//! What happens when: every decision of a chaos run, from its seed alone. No clock, no I/O.

use protocol::sim::Directive;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What can be done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A node dies at once and comes back later.
    Kill,
    /// A node freezes, some times longer than its lease.
    Pause,
    /// A node is asked to go, and starts again.
    Drain,
    /// A device loses its connection without a close.
    Cut,
    /// A device stops reading for a while.
    Stall,
    /// A request is sent again from another node.
    Dup,
    /// An answer is cancelled from another node.
    Cancel,
    /// Redis freezes for a while, some times longer than any lease.
    StorePause,
    /// Redis drops every subscription.
    StorePubsub,
    /// Redis comes back empty while every owner lives.
    StoreRestart,
    /// Redis comes back empty and owners die at the same moment: what only they held is lost.
    StoreLoss,
}

impl Fault {
    /// Those that every playground knows.
    pub const ALL: [Self; 7] =
        [Self::Kill, Self::Pause, Self::Drain, Self::Cut, Self::Stall, Self::Dup, Self::Cancel];
    /// Those of a playground over Redis that must cost nothing: all but [`Fault::StoreLoss`].
    pub const STORE: [Self; 3] = [Self::StorePause, Self::StorePubsub, Self::StoreRestart];

    /// The name on the command line and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Drain => "drain",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Dup => "dup",
            Self::Cancel => "cancel",
            Self::StorePause => "store-pause",
            Self::StorePubsub => "store-pubsub",
            Self::StoreRestart => "store-restart",
            Self::StoreLoss => "store-loss",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut known = Self::ALL.into_iter().chain(Self::STORE);
        known.find(|fault| fault.as_str() == text).ok_or_else(|| {
            format!(
                "{text}: one of kill, pause, drain, cut, stall, dup, cancel, and over Redis \
                 store-pause, store-pubsub, store-restart (and --lose-owners adds store-loss)"
            )
        })
    }
}

/// Time between two faults of nodes, at least and at most, in milliseconds.
const BETWEEN_MS: std::ops::Range<u64> = 1_000..4_000;
/// A node that came back is left alone for so long, in milliseconds.
const REST_MS: u64 = 1_500;

/// Every so many faults of nodes one is the store's.
const STORE_EVERY: u64 = 5;
/// After a fault of the store no node is touched for so long, in milliseconds: longer than a lease
/// and the time in which an owner may write back what was lost. And as long after a kill the store is
/// not emptied: what the killed node owned may have no other owner yet.
const SETTLE_MS: u64 = 8_000;
/// As long as Redis may be away without any node being called dead.
const LONG_PAUSE: Duration = Duration::from_secs(20);

/// One thing done to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFault {
    /// From the start of the run.
    pub at: Duration,
    /// Which node, by its place in `GET /dev/nodes`.
    pub node: usize,
    /// What.
    pub what: NodeAct,
}

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeAct {
    /// Kill it, start it again `back` later.
    Kill {
        /// From the kill on.
        back: Duration,
    },
    /// Freeze it.
    Pause {
        /// How long.
        time: Duration,
    },
    /// Drain it, start it again `back` later.
    Drain {
        /// Of the drain.
        deadline: Duration,
        /// Hand over at once instead of letting answers finish.
        at_once: bool,
        /// From the drain on.
        back: Duration,
    },
    /// Not a node's, but the store's of all.
    Store(StoreAct),
}

/// What is done to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAct {
    /// Freeze it.
    Pause {
        /// How long.
        time: Duration,
    },
    /// Cut every subscription.
    KillPubsub,
    /// Kill it; it comes back empty at once.
    Restart,
    /// The same, and in the same moment kill some nodes, but never all.
    Loss {
        /// The first of them, by its place in `GET /dev/nodes`.
        first: usize,
        /// How many: it and those after it, around.
        count: usize,
        /// They start again so long after.
        back: Duration,
    },
}

impl StoreAct {
    const fn fault(self) -> Fault {
        match self {
            Self::Pause { .. } => Fault::StorePause,
            Self::KillPubsub => Fault::StorePubsub,
            Self::Restart => Fault::StoreRestart,
            Self::Loss { .. } => Fault::StoreLoss,
        }
    }

    /// Everything is forgotten: an answer that nobody holds at this moment is gone.
    pub(super) const fn forgets(self) -> bool {
        matches!(self, Self::Restart | Self::Loss { .. })
    }

    /// How long no node must be away, in milliseconds: a store that forgot everything must find
    /// every owner alive, and one that is away must not hide a crash.
    const fn quiet_ms(self) -> u64 {
        match self {
            Self::Pause { time } => time.as_millis() as u64 + SETTLE_MS,
            Self::KillPubsub => 0,
            Self::Restart => SETTLE_MS,
            Self::Loss { back, .. } => back.as_millis() as u64 + SETTLE_MS,
        }
    }
}

impl NodeAct {
    /// Its kind.
    pub const fn fault(self) -> Fault {
        match self {
            Self::Kill { .. } => Fault::Kill,
            Self::Pause { .. } => Fault::Pause,
            Self::Drain { .. } => Fault::Drain,
            Self::Store(act) => act.fault(),
        }
    }

    /// How long the node is away.
    pub const fn away(self) -> Duration {
        match self {
            Self::Kill { back } | Self::Drain { back, .. } => back,
            Self::Pause { time } => time,
            Self::Store(StoreAct::Loss { back, .. }) => back,
            Self::Store(_) => Duration::ZERO,
        }
    }
}

/// An endless list of node faults in order of time. At least one node is never touched at a time.
#[derive(Clone, Debug)]
pub struct NodeFaults {
    rng: SmallRng,
    kinds: Vec<Fault>,
    store: Vec<Fault>,
    nth: u64,
    at_ms: u64,
    /// Until when each node is away or resting.
    busy_ms: Vec<u64>,
    /// Until when a killed node's answers may have no owner.
    orphans_ms: u64,
}

impl NodeFaults {
    /// For `nodes` nodes; empty where fewer than two could be spared.
    pub fn new(seed: u64, nodes: usize, faults: &BTreeSet<Fault>) -> Self {
        let of_nodes = [Fault::Kill, Fault::Pause, Fault::Drain];
        let kinds = of_nodes.into_iter().filter(|kind| faults.contains(kind)).collect();
        let of_store = Fault::STORE.into_iter().chain([Fault::StoreLoss]);
        let store = of_store.filter(|kind| faults.contains(kind)).collect();
        let rng = SmallRng::seed_from_u64(seed ^ 0x6e6f_6465);
        Self { rng, kinds, store, nth: 0, at_ms: 0, busy_ms: vec![0; nodes], orphans_ms: 0 }
    }

    /// A fault of the store, when no node is away.
    fn of_store(&mut self) -> NodeFault {
        let act = match self.store[self.rng.random_range(0..self.store.len())] {
            Fault::StorePause if self.rng.random_bool(0.3) => StoreAct::Pause { time: LONG_PAUSE },
            Fault::StorePause => {
                let ms = self.rng.random_range(500..4_000);
                StoreAct::Pause { time: Duration::from_millis(ms) }
            }
            Fault::StorePubsub => StoreAct::KillPubsub,
            Fault::StoreLoss => StoreAct::Loss {
                first: self.rng.random_range(0..self.busy_ms.len()),
                count: self.rng.random_range(1..self.busy_ms.len()),
                back: Duration::from_millis(self.rng.random_range(200..4_000)),
            },
            _ => StoreAct::Restart,
        };
        if act.quiet_ms() > 0 {
            self.at_ms = self.busy_ms.iter().copied().fold(self.at_ms, u64::max);
        }
        if act.forgets() {
            self.at_ms = self.at_ms.max(self.orphans_ms);
        }
        if act.quiet_ms() > 0 {
            self.busy_ms.fill(self.at_ms + act.quiet_ms());
        }
        NodeFault { at: Duration::from_millis(self.at_ms), node: 0, what: NodeAct::Store(act) }
    }

    fn act(&mut self) -> NodeAct {
        let kind = self.kinds[self.rng.random_range(0..self.kinds.len())];
        let mut ms =
            |range: std::ops::Range<u64>| Duration::from_millis(self.rng.random_range(range));
        match kind {
            Fault::Pause => NodeAct::Pause { time: ms(300..9_000) },
            Fault::Drain => {
                let deadline = ms(500..5_000);
                NodeAct::Drain {
                    deadline,
                    at_once: ms(0..2).is_zero(),
                    back: deadline + ms(500..3_000),
                }
            }
            _ => NodeAct::Kill { back: ms(200..9_000) },
        }
    }
}

impl Iterator for NodeFaults {
    type Item = NodeFault;

    fn next(&mut self) -> Option<NodeFault> {
        if (self.kinds.is_empty() && self.store.is_empty()) || self.busy_ms.len() < 2 {
            return None;
        }
        self.at_ms += self.rng.random_range(BETWEEN_MS);
        self.nth += 1;
        let its_turn = self.kinds.is_empty() || self.nth.is_multiple_of(STORE_EVERY);
        if !self.store.is_empty() && its_turn {
            return Some(self.of_store());
        }
        let now = self.at_ms;
        let mut free: Vec<usize> = Vec::new();
        free.extend((0..self.busy_ms.len()).filter(|node| self.busy_ms[*node] <= now));
        if free.len() < 2 {
            // The second node to come back makes one that can be spared.
            let mut ends = self.busy_ms.clone();
            ends.sort_unstable();
            self.at_ms = ends[1].max(now);
            free.clear();
            free.extend((0..self.busy_ms.len()).filter(|node| self.busy_ms[*node] <= self.at_ms));
        }
        let node = free[self.rng.random_range(0..free.len())];
        let what = self.act();
        if what.fault() == Fault::Kill {
            self.orphans_ms = self.at_ms + SETTLE_MS;
        }
        self.busy_ms[node] = self.at_ms + what.away().as_millis() as u64 + REST_MS;
        Some(NodeFault { at: Duration::from_millis(self.at_ms), node, what })
    }
}

/// What one device does besides reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Lose the connection.
    Cut,
    /// Do not read.
    Stall(Duration),
}

/// One device of one answer. Times count from the start of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// The node to begin with.
    pub node: usize,
    /// When it joins.
    pub join: Duration,
    /// What it does, in order of time.
    pub acts: Vec<(Duration, Act)>,
    /// A receive buffer so small that a stall is felt by the server.
    pub small_buffer: bool,
    /// Of its jitter.
    pub seed: u64,
}

/// One answer with all its devices. The first device asks.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerPlan {
    /// Its number in the run.
    pub number: u64,
    /// What the provider writes.
    pub directive: Directive,
    /// The same as the start of a prompt.
    pub prompt: String,
    /// How long it takes undisturbed.
    pub planned: Duration,
    /// The devices.
    pub devices: Vec<DevicePlan>,
    /// One more device, which sends the same request again.
    pub duplicate: Option<DevicePlan>,
    /// The node to cancel from, and when.
    pub cancel: Option<(usize, Duration)>,
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Of everything.
    pub seed: u64,
    /// Devices an answer.
    pub devices: usize,
    /// Nodes of the playground.
    pub nodes: usize,
    /// What may happen.
    pub faults: BTreeSet<Fault>,
    /// Longest planned time of an answer.
    pub longest: Duration,
    /// Answers may use tools. Such an answer is never restarted but ends as interrupted, which a run
    /// under policy `restart` could not tell from a fault.
    pub tools: bool,
}

impl AnswerPlan {
    /// The plan of the `number`-th answer of a run.
    pub fn new(shape: &Shape, number: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(shape.seed.wrapping_mul(0x9E37_79B9) ^ number);
        let flood = rng.random_bool(0.05);
        let (tokens, rate) = match flood {
            true => (rng.random_range(1_000..4_000_u64), 0),
            false => (rng.random_range(20..300), rng.random_range(20..120_u32)),
        };
        let most = u64::from(rate) * shape.longest.as_millis() as u64 / 1_000;
        let tokens = if flood { tokens } else { tokens.min(most.max(1)) };
        let types = ["text", "text", "text", "thinking,text", "text,code", "text,tool,text"];
        let kinds = if shape.tools { types.len() } else { types.len() - 1 };
        let types = types[rng.random_range(0..kinds)];
        let seed = rng.random_range(1..1_000_000_u32);
        let prompt = format!(
            "[sim tokens={tokens} rate={rate} seed={seed} types={types} vary=epoch] {number}"
        );
        let directive = Directive::parse(&prompt).unwrap_or_default();
        let ms = (tokens * 1_000).checked_div(u64::from(rate)).unwrap_or(500);
        let planned = Duration::from_millis(ms);
        let first = rng.random_range(0..shape.nodes.max(1));
        let device =
            |k: usize, rng: &mut SmallRng| device(shape, first + k, k, planned, flood, rng);
        let devices = (0..shape.devices.max(1)).map(|k| device(k, &mut rng)).collect();
        let often = |fault, share: f64, rng: &mut SmallRng| {
            shape.faults.contains(&fault) && rng.random_bool(share)
        };
        let duplicate = often(Fault::Dup, 0.15, &mut rng).then(|| {
            let near = rng.random_bool(0.5);
            let mut plan = device(1, &mut rng);
            // Half of them race the first request.
            plan.join = if near { plan.join / 100 } else { plan.join };
            plan
        });
        let cancel = often(Fault::Cancel, 0.1, &mut rng)
            .then(|| (first + 2, planned.mul_f64(rng.random_range(0.0..1.0))));
        Self { number, directive, prompt, planned, devices, duplicate, cancel }
    }
}

fn device(
    shape: &Shape,
    node: usize,
    k: usize,
    planned: Duration,
    flood: bool,
    rng: &mut SmallRng,
) -> DevicePlan {
    let some_time = |rng: &mut SmallRng| planned.mul_f64(rng.random_range(0.0..1.1));
    let join = if k == 0 { Duration::ZERO } else { some_time(rng) };
    let mut acts = Vec::new();
    if shape.faults.contains(&Fault::Cut) {
        for _ in 0..[0, 0, 0, 1, 1, 2][rng.random_range(0..6)] {
            acts.push((some_time(rng), Act::Cut));
        }
    }
    if shape.faults.contains(&Fault::Stall) && rng.random_bool(0.15) {
        let time = Duration::from_millis(rng.random_range(300..4_000));
        acts.push((some_time(rng), Act::Stall(time)));
    }
    if flood && shape.faults.contains(&Fault::Stall) {
        acts.push((
            Duration::from_millis(rng.random_range(0..300)),
            Act::Stall(Duration::from_secs(1)),
        ));
    }
    acts.sort_by_key(|act| act.0);
    let small_buffer = acts.iter().any(|act| matches!(act.1, Act::Stall(_)));
    let node = node % shape.nodes.max(1);
    DevicePlan { node, join, acts, small_buffer, seed: rng.random() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> BTreeSet<Fault> {
        Fault::ALL.into()
    }

    fn shape(seed: u64) -> Shape {
        let longest = Duration::from_secs(15);
        Shape { seed, devices: 3, nodes: 3, faults: all(), longest, tools: true }
    }

    #[test]
    fn one_node_is_always_left_alone() {
        for nodes in 2..5 {
            for seed in 0..20 {
                let faults: Vec<_> = NodeFaults::new(seed, nodes, &all()).take(300).collect();
                for (n, fault) in faults.iter().enumerate() {
                    let away = |other: &&NodeFault| other.at + other.what.away() > fault.at;
                    let gone: BTreeSet<_> =
                        faults[..=n].iter().filter(away).map(|f| f.node).collect();
                    assert!(gone.len() < nodes, "{nodes} nodes, seed {seed}: {fault:?}");
                    let before = faults[..n].iter().rfind(|other| other.node == fault.node);
                    assert!(before.is_none_or(|b| b.at + b.what.away() <= fault.at));
                }
                assert!(faults.windows(2).all(|pair| pair[0].at <= pair[1].at));
            }
        }
    }

    #[test]
    fn every_kind_happens_and_only_chosen_ones() {
        let kinds: BTreeSet<_> =
            NodeFaults::new(1, 3, &all()).take(100).map(|fault| fault.what.fault()).collect();
        assert_eq!(kinds.len(), 3);
        let only: BTreeSet<_> = [Fault::Pause, Fault::Cut].into();
        assert!(NodeFaults::new(1, 3, &only).take(50).all(|f| f.what.fault() == Fault::Pause));
        assert!(NodeFaults::new(1, 1, &all()).next().is_none());
        assert!(NodeFaults::new(1, 3, &BTreeSet::new()).next().is_none());
    }

    #[test]
    fn the_store_forgets_only_what_living_nodes_hold_and_never_kills_all_of_them() {
        let faults: BTreeSet<_> =
            Fault::ALL.into_iter().chain(Fault::STORE).chain([Fault::StoreLoss]).collect();
        for seed in 0..20 {
            let (mut orphans, mut quiet, mut losses) = (Duration::ZERO, Duration::ZERO, 0);
            for fault in NodeFaults::new(seed, 3, &faults).take(300) {
                let settle = Duration::from_millis(SETTLE_MS);
                let forgets = matches!(fault.what, NodeAct::Store(act) if act.forgets());
                assert!(!forgets || fault.at >= orphans, "seed {seed}: {fault:?}");
                let calm = matches!(fault.what, NodeAct::Store(StoreAct::KillPubsub));
                assert!(calm || fault.at >= quiet, "seed {seed}: {fault:?}");
                match fault.what {
                    NodeAct::Kill { .. } => orphans = fault.at + settle,
                    NodeAct::Store(StoreAct::Loss { first, count, back }) => {
                        losses += 1;
                        assert!(first < 3 && (1..3).contains(&count), "{fault:?}");
                        quiet = fault.at + back + settle;
                    }
                    _ => {}
                }
            }
            assert!(losses > 0, "seed {seed}");
        }
        let only: BTreeSet<_> = [Fault::StoreLoss].into();
        let kinds = NodeFaults::new(1, 3, &only).take(50).map(|fault| fault.what.fault());
        assert_eq!(kinds.collect::<BTreeSet<_>>(), only);
    }

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        for number in 0..50 {
            assert_eq!(AnswerPlan::new(&shape(7), number), AnswerPlan::new(&shape(7), number));
        }
        assert_ne!(AnswerPlan::new(&shape(7), 1), AnswerPlan::new(&shape(8), 1));
        let list = |seed| NodeFaults::new(seed, 3, &all()).take(20).collect::<Vec<_>>();
        assert_eq!(list(3), list(3));
        assert_ne!(list(3), list(4));
    }

    #[test]
    fn answers_are_what_their_prompt_says_and_devices_begin_on_different_nodes() {
        let mut seen = BTreeSet::new();
        for number in 0..400 {
            let plan = AnswerPlan::new(&shape(1), number);
            assert_eq!(Directive::parse(&plan.prompt).unwrap(), plan.directive);
            assert!(plan.directive.vary_epoch);
            let nodes: BTreeSet<_> = plan.devices.iter().map(|device| device.node).collect();
            assert_eq!(nodes.len(), 3);
            assert_eq!(plan.devices[0].join, Duration::ZERO);
            seen.extend(plan.duplicate.is_some().then_some(Fault::Dup));
            seen.extend(plan.cancel.is_some().then_some(Fault::Cancel));
            for (_, act) in plan.devices.iter().flat_map(|device| &device.acts) {
                seen.insert(if *act == Act::Cut { Fault::Cut } else { Fault::Stall });
            }
        }
        assert_eq!(seen.len(), 4);
        let calm = Shape { faults: BTreeSet::new(), ..shape(1) };
        for number in 0..100 {
            let plan = AnswerPlan::new(&calm, number);
            assert!(plan.duplicate.is_none() && plan.cancel.is_none());
            assert!(plan.devices.iter().all(|device| device.acts.is_empty()));
        }
    }
}
