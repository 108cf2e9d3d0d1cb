//! Kubernetes as a fleet lives in it, for tests: ReplicaSets that see pods and ReplicaSets through two watches
//! which lag independently, kubelets, nodes that hand sessions over. Whatever must never happen is kept in
//! [`World::broken`].

use crate::build::{Built, build};
use crate::observe::{Controller, Observed, PodFacts};
use crate::plan::tests::Model;
use crate::plan::{Action, Plan, plan};
use crate::validate::tests::{cluster, defaults};
use crate::validate::validate;
use jiff::{SignedDuration, Timestamp};
use protocol::{DrainPhase, DrainReport};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Sessions that a pod takes.
pub(super) const CAPACITY: u64 = 10;
/// Sessions that a node hands over in a second.
const RATE: u64 = 4;
/// Seconds until a new pod is ready.
const BOOT: i64 = 3;
/// A pod that is younger took the place of one that was taken out a moment ago.
const YOUNG: i64 = 20;
/// What a watch may lag behind, in seconds.
const LAG: usize = 3;

/// A pod and the node in it.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) facts: PodFacts,
    pub(super) sessions: u64,
    phase: DrainPhase,
    epoch: u64,
    ends: Option<Timestamp>,
}

/// What a ReplicaSet's controller does not know to have happened yet.
#[derive(Default)]
struct Expected {
    made: BTreeSet<String>,
    deleted: BTreeSet<String>,
}

pub(super) struct World {
    pub(super) model: Model,
    pub(super) pods: Vec<Pod>,
    pub(super) now: Timestamp,
    pub(super) spec: String,
    /// What must not happen, and did.
    pub(super) broken: Vec<String>,
    /// Sessions whose node went before they could be handed over.
    pub(super) hurt: u64,
    /// Image tags that never get ready.
    pub(super) bad: BTreeSet<String>,
    /// As an operator that does not wait for the ReplicaSet: what the tests must notice.
    pub(super) impatient: bool,
    random: StdRng,
    seen: VecDeque<(Vec<Pod>, Vec<crate::observe::Set>)>,
    lag: (usize, usize),
    expected: BTreeMap<String, Expected>,
    made: u64,
    /// `status.replicas`, as controllers last wrote them.
    statuses: BTreeMap<String, i64>,
    /// Plans that an operator made and has not carried out yet: it stood still.
    stale: Option<Plan>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            model: Model::new(),
            pods: Vec::new(),
            now: Timestamp::from_second(1_000_000).unwrap(),
            spec: String::new(),
            broken: Vec::new(),
            hurt: 0,
            bad: BTreeSet::new(),
            impatient: false,
            random: StdRng::seed_from_u64(seed),
            seen: VecDeque::new(),
            lag: (0, 0),
            expected: BTreeMap::new(),
            made: 0,
            statuses: BTreeMap::new(),
            stale: None,
        }
    }

    fn built(&self) -> Built {
        let demo = cluster(&self.spec);
        build(&validate(&demo, &self.observed(), &defaults()).unwrap().cluster)
    }

    /// What a pass would read now.
    pub(super) fn observed(&self) -> Observed {
        let mut observed = self.model.observed.clone();
        observed.pods = self.pods.iter().map(|pod| self.facts(pod)).collect();
        for (key, live) in &mut observed.objects {
            if let Some(there) = self.statuses.get(&key.name) {
                live.object["status"]["replicas"] = json!(there);
            }
        }
        observed
    }

    fn facts(&self, pod: &Pod) -> PodFacts {
        let mut facts = pod.facts.clone();
        let runs = facts.running_since.is_some();
        facts.report = runs.then(|| self.report(pod));
        facts
    }

    fn report(&self, pod: &Pod) -> DrainReport {
        serde_json::from_value(json!({
            "node": pod.facts.name, "incarnation": "00000000-0000-4000-8000-000000000000",
            "phase": pod.phase, "epoch": pod.epoch, "sessions": pod.sessions, "streams": 0,
            "accepting": pod.phase == DrainPhase::Serving, "capacity": CAPACITY,
        }))
        .unwrap()
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.built(), &self.observed(), self.now)
    }

    /// A pass that ends after some of its writes, perhaps of an operator that stood still since it planned.
    pub(super) fn pass(&mut self, disturbed: bool) {
        let fresh = self.plan();
        let (mut actions, is_fresh) = match self.stale.take() {
            Some(stale) if disturbed => (stale.actions().to_vec(), false),
            _ => (fresh.actions().to_vec(), true),
        };
        if disturbed && self.random.random_bool(0.2) {
            self.stale = Some(fresh);
        }
        if disturbed {
            actions.truncate(self.random.random_range(0..=actions.len()));
        }
        for action in actions {
            // What held when it was decided need not hold when it comes late.
            if let (Action::Detach { pod, .. }, true) = (&action, is_fresh) {
                self.check_detach(&pod.uid, &pod.version);
            }
            self.carry_out(&action);
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Cost { pod } => {
                self.patch(&pod.uid, &pod.version, |facts| facts.is_costly = true)
            }
            Action::Detach { pod, notes } => {
                let after = notes.clone();
                self.patch(&pod.uid, &pod.version, move |facts| {
                    facts.pool = "draining".to_owned();
                    facts.detached = Some(after);
                });
                if self.impatient {
                    self.shrink_at_once(&pod.uid, notes.replicas_after);
                }
            }
            Action::Adopt { pod } => {
                self.patch(&pod.uid, &pod.version, |facts| facts.controller = Controller::Cluster);
            }
            Action::Drain { pod, epoch, .. } => {
                let pod = self.pods.iter_mut().find(|one| one.facts.uid == pod.uid);
                if let Some(pod) = pod.filter(|pod| *epoch >= pod.epoch) {
                    pod.epoch = *epoch;
                    pod.phase = pod.phase.max(DrainPhase::Refusing);
                }
            }
            Action::DeletePod { pod } => {
                let sessions = self.pods.iter().find(|one| one.facts.uid == pod.uid);
                if let Some(found) =
                    sessions.filter(|one| one.sessions > 0 && !one.facts.terminating())
                {
                    self.broken
                        .push(format!("{} deleted with {} sessions", pod.name, found.sessions));
                }
                self.delete(&pod.uid);
            }
            other => self.model.carry_out(other),
        }
    }

    /// As an operator that does not wait for the ReplicaSet to let go.
    fn shrink_at_once(&mut self, uid: &str, replicas: i64) {
        let pod = self.pods.iter().find(|pod| pod.facts.uid == uid).unwrap();
        let set = self.model.observed.sets();
        let set = set.into_iter().find(|set| set.revision == pod.facts.revision).unwrap();
        let (replica_set, version) = (set.name, set.version);
        self.model.carry_out(&Action::Scale { replica_set, version, replicas });
    }

    /// What must hold whenever a pod is taken out.
    fn check_detach(&mut self, uid: &str, version: &str) {
        let Some(pod) = self.pods.iter().find(|one| one.facts.uid == uid) else { return };
        if pod.facts.version != version || pod.facts.pool == "draining" {
            return;
        }
        let max = self.built().policy.max_draining;
        let out = |one: &&Pod| one.facts.pool == "draining" || one.facts.terminating();
        let leaving = self.pods.iter().filter(out).count();
        if i64::try_from(leaving).unwrap() >= max {
            self.broken.push(format!("{leaving} pods were on their way, {max} may"));
        }
        let room: u64 = self
            .taking()
            .filter(|one| one.facts.uid != uid)
            .map(|one| CAPACITY - one.sessions)
            .sum();
        if pod.sessions > room {
            self.broken.push(format!("{} sessions to move, room for {room}", pod.sessions));
        }
    }

    fn patch(&mut self, uid: &str, version: &str, change: impl FnOnce(&mut PodFacts)) {
        self.made += 1;
        let version_now = self.made.to_string();
        let pod = self.pods.iter_mut().find(|pod| pod.facts.uid == uid);
        if let Some(pod) = pod.filter(|pod| pod.facts.version == version) {
            change(&mut pod.facts);
            pod.facts.version = version_now;
        }
    }

    pub(super) fn delete(&mut self, uid: &str) {
        let now = self.now;
        if let Some(pod) = self.pods.iter_mut().find(|pod| pod.facts.uid == uid)
            && !pod.facts.terminating()
        {
            pod.facts.gone_by = Some(now + SignedDuration::from_secs(45));
            pod.phase = pod.phase.max(DrainPhase::Refusing);
            pod.ends = Some(now + SignedDuration::from_secs(25));
        }
    }

    fn taking(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| {
            pod.facts.is_active() && pod.facts.ready() && pod.phase == DrainPhase::Serving
        })
    }

    /// Sessions that come in, as many as there is room for.
    pub(super) fn arrive(&mut self, sessions: u64) -> u64 {
        let mut arrived = 0;
        while arrived < sessions {
            let free = self.pods.iter_mut().filter(|pod| {
                pod.facts.is_active()
                    && pod.facts.ready()
                    && pod.phase == DrainPhase::Serving
                    && pod.sessions < CAPACITY
            });
            let Some(pod) = free.min_by_key(|pod| pod.sessions) else { break };
            pod.sessions += 1;
            arrived += 1;
        }
        arrived
    }

    /// A second passes.
    pub(super) fn tick(&mut self) {
        self.now += SignedDuration::from_secs(1);
        self.kubelets();
        self.hand_over();
        self.seen.push_front((self.pods.clone(), self.model.observed.sets()));
        self.seen.truncate(LAG + 1);
        // A watch never goes back.
        let lag =
            |before: usize, random: &mut StdRng| random.random_range(0..=(before + 1).min(LAG));
        self.lag = (lag(self.lag.0, &mut self.random), lag(self.lag.1, &mut self.random));
        self.replica_sets();
    }

    fn kubelets(&mut self) {
        let now = self.now;
        for pod in &mut self.pods {
            let boots = now.duration_since(pod.facts.made) >= SignedDuration::from_secs(BOOT);
            let image = &pod.facts.trouble;
            if boots
                && image.is_none()
                && !pod.facts.terminating()
                && pod.facts.ready_since.is_none()
            {
                pod.facts.ready_since = Some(now);
                pod.facts.running_since = Some(now);
                pod.facts.has_run = true;
            }
        }
        let gone = |pod: &Pod| {
            pod.facts.terminating()
                && (pod.sessions == 0 || pod.ends.is_some_and(|ends| ends <= now))
        };
        self.hurt += self.pods.iter().filter(|pod| gone(pod)).map(|pod| pod.sessions).sum::<u64>();
        self.pods.retain(|pod| !gone(pod));
    }

    fn hand_over(&mut self) {
        for at in 0..self.pods.len() {
            if self.pods[at].phase == DrainPhase::Serving {
                continue;
            }
            let moving = self.pods[at].sessions.min(RATE);
            let arrived = self.arrive(moving);
            self.pods[at].sessions -= arrived;
            if self.pods[at].sessions == 0 {
                self.pods[at].phase = DrainPhase::Done;
            }
        }
    }

    /// What the controller of ReplicaSets does with what it has seen; as the real one it does nothing until
    /// it has seen its own last writes.
    fn replica_sets(&mut self) {
        let at = |lag: usize| lag.min(self.seen.len() - 1);
        let pods = self.seen[at(self.lag.0)].0.clone();
        let sets = self.seen[at(self.lag.1)].1.clone();
        for set in sets {
            let expected = self.expected.entry(set.name.clone()).or_default();
            // What came and went between two looks was seen to go.
            let is_there = |uid: &String| self.pods.iter().any(|pod| pod.facts.uid == *uid);
            expected
                .made
                .retain(|uid| is_there(uid) && !pods.iter().any(|pod| pod.facts.uid == *uid));
            expected.deleted.retain(|uid| {
                pods.iter().any(|pod| pod.facts.uid == *uid && !pod.facts.terminating())
            });
            let waits = !expected.made.is_empty() || !expected.deleted.is_empty();
            let owner = Controller::ReplicaSet(set.name.clone());
            let mine =
                pods.iter().filter(|pod| pod.facts.controller == owner && !pod.facts.terminating());
            let (kept, released): (Vec<_>, Vec<_>) =
                mine.partition(|pod| pod.facts.pool == "active");
            for pod in released {
                self.release(&pod.facts.uid, &owner);
            }
            let there = i64::try_from(kept.len()).unwrap();
            self.statuses.insert(set.name.clone(), there);
            if waits {
                continue;
            }
            for _ in there..set.replicas {
                self.make(&set);
            }
            let surplus = usize::try_from((there - set.replicas).max(0)).unwrap();
            self.remove(&set.name, kept, surplus);
        }
    }

    fn release(&mut self, uid: &str, owner: &Controller) {
        self.made += 1;
        let version = self.made.to_string();
        let pod = self.pods.iter_mut().find(|pod| pod.facts.uid == uid);
        if let Some(pod) = pod.filter(|pod| pod.facts.controller == *owner) {
            pod.facts.controller = Controller::Nobody;
            pod.facts.version = version;
        }
    }

    fn make(&mut self, set: &crate::observe::Set) {
        self.made += 1;
        let uid = format!("p-{}", self.made);
        let bad = self.bad.iter().any(|tag| set.image.ends_with(tag.as_str()));
        self.expected.entry(set.name.clone()).or_default().made.insert(uid.clone());
        self.pods.push(Pod {
            facts: PodFacts {
                name: uid.clone(),
                version: self.made.to_string(),
                component: "gateway".to_owned(),
                pool: "active".to_owned(),
                revision: set.revision.clone(),
                controller: Controller::ReplicaSet(set.name.clone()),
                address: Some("10.0.0.1".to_owned()),
                made: self.now,
                trouble: bad.then(|| "ImagePullBackOff".to_owned()),
                uid,
                ..PodFacts::default()
            },
            sessions: 0,
            phase: DrainPhase::Serving,
            epoch: 0,
            ends: None,
        });
    }

    /// Of its pods the unready ones, the cheap ones, the youngest.
    fn remove(&mut self, set: &str, mut kept: Vec<&Pod>, surplus: usize) {
        kept.sort_by_key(|pod| {
            (pod.facts.ready(), pod.facts.is_costly, std::cmp::Reverse(pod.facts.made))
        });
        let uids: Vec<_> = kept.iter().take(surplus).map(|pod| pod.facts.uid.clone()).collect();
        for uid in uids {
            self.expected.entry(set.to_owned()).or_default().deleted.insert(uid.clone());
            let asleep = self.built().policy.scale == crate::validate::Scale::Fixed(0);
            let pod = self.pods.iter().find(|pod| pod.facts.uid == uid);
            // One that the ReplicaSet made in the place of a pod that was taken out may have got some: it
            // hands them over by itself.
            let old = |pod: &&Pod| {
                self.now.duration_since(pod.facts.made) > SignedDuration::from_secs(YOUNG)
            };
            if let Some(pod) = pod.filter(old).filter(|pod| pod.sessions > 0 && !asleep) {
                self.broken
                    .push(format!("a ReplicaSet deleted {uid} with {} sessions", pod.sessions));
            }
            self.delete(&uid);
        }
    }

    /// Seconds until nothing moves any more, at most `seconds`.
    pub(super) fn rest(&mut self, seconds: usize) -> Result<usize, String> {
        let mut quiet = 0;
        for second in 0..seconds {
            self.pass(false);
            self.tick();
            let moves = self.pods.iter().any(|pod| !pod.facts.is_active() || !pod.facts.ready());
            quiet = if self.plan().actions().is_empty() && !moves { quiet + 1 } else { 0 };
            // Longer than it takes until a pod that is gone is missed, made again, and relied on.
            if quiet > 2 * LAG + 9 {
                return Ok(second);
            }
        }
        Err(format!("no rest within {seconds} s: {:#?} {:#?}", self.plan(), self.pods))
    }

    /// Serving pods, by image tag.
    pub(super) fn serving(&self) -> BTreeMap<String, usize> {
        let mut serving = BTreeMap::new();
        let sets = self.model.observed.sets();
        for pod in self.taking() {
            let set = sets.iter().find(|set| set.revision == pod.facts.revision).unwrap();
            let tag = set.image.rsplit(':').next().unwrap().to_owned();
            *serving.entry(tag).or_default() += 1;
        }
        serving
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }
}
