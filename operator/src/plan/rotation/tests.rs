//! An exchange of keys among pods that take Secrets up late, by an operator that sees them late.

use super::*;
use crate::build::build;
use crate::validate::tests::{cluster, defaults, observed};
use crate::validate::validate;
use proptest::prelude::*;
use protocol::DrainReport;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use std::collections::BTreeMap;

/// Seconds that a kubelet may need for a change of a Secret; one that is cut off needs longer than others.
const LATE: i64 = 600;
/// Seconds from the mount of a pod's keys to its process: an image is pulled.
const BOOT: i64 = 300;
/// Seconds between two looks at this world.
const STEP: i64 = 5;
/// Steps that a report may be old.
const OLD: usize = 4;
/// Seconds that a resume token lives.
const LIFE: i64 = 600;

type Values = BTreeMap<String, String>;

/// A node: the keys that it has, and what it said lately, the newest first.
struct Node {
    name: String,
    has: Values,
    due: Option<(i64, Values)>,
    /// When its container begins; its keys are mounted before.
    begins: i64,
    said: Vec<Values>,
}

impl Node {
    fn key<'a>(&self, of: &'a Values, key: &str) -> Vec<&'a String> {
        [key.to_owned(), previous(key)].iter().filter_map(|key| of.get(key)).collect()
    }
}

struct World {
    keys: Keys,
    /// A report that says nothing of keys.
    silent: DrainReport,
    secret: SecretFacts,
    values: Values,
    nodes: Vec<Node>,
    /// Time, kind and key of what was signed.
    signed: Vec<(i64, &'static str, String)>,
    seconds: i64,
    made: u64,
    asked: Option<String>,
    random: StdRng,
    late: Option<Plan>,
    broken: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let keys = ["admin", "jwt", "redis", "resume"];
        let values: Values = keys.map(|key| (key.to_owned(), format!("{key}-0"))).into();
        let spec = cluster("redis: {embedded: {}}");
        let validated = validate(&spec, &observed(), &defaults()).unwrap();
        let mut world = Self {
            keys: build(&validated.cluster).keys,
            silent: silent(),
            secret: SecretFacts { ours: true, ..SecretFacts::default() },
            values,
            nodes: Vec::new(),
            signed: Vec::new(),
            seconds: 0,
            made: 0,
            asked: None,
            random: StdRng::seed_from_u64(seed),
            late: None,
            broken: Vec::new(),
        };
        world.noted();
        (0..3).for_each(|_| world.start());
        world
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_000_000 + self.seconds).unwrap()
    }

    /// The Secret as the API server has it after a write.
    fn noted(&mut self) {
        self.made += 1;
        self.secret.version = self.made.to_string();
        self.secret.keys =
            self.values.iter().map(|(key, value)| (key.clone(), value.len())).collect();
        self.secret.ids = self.values.clone();
        let due = |random: &mut StdRng| random.random_range(0..LATE);
        for node in &mut self.nodes {
            let at = self.seconds + due(&mut self.random);
            node.due = Some((at, self.values.clone()));
        }
    }

    fn start(&mut self) {
        self.made += 1;
        let (name, has) = (format!("p-{}", self.made), self.values.clone());
        let begins = self.seconds + self.random.random_range(0..BOOT);
        self.nodes.push(Node { name, has, due: None, begins, said: Vec::new() });
    }

    fn observed(&mut self) -> Observed {
        let mut seen = Observed::default();
        seen.secrets.insert("demo-keys".to_owned(), self.secret.clone());
        for node in &self.nodes {
            let at = self.random.random_range(0..OLD);
            let said = node.said.get(at.min(node.said.len().saturating_sub(1)));
            seen.pods.push(PodFacts {
                name: node.name.clone(),
                component: "gateway".to_owned(),
                pool: "active".to_owned(),
                running_since: (node.begins <= self.seconds).then(|| self.now()),
                report: said
                    .map(|has| DrainReport { key_ids: key_ids(node, has), ..self.silent.clone() }),
                ..PodFacts::default()
            });
        }
        seen
    }

    fn plan(&mut self) -> Plan {
        let keys = Keys { rotation: self.asked.clone(), ..self.keys.clone() };
        let mut plan = Plan::default();
        plan.rotate(&keys, &self.observed(), self.now());
        plan
    }

    /// A pass, perhaps of an operator that stood still since it planned.
    fn pass(&mut self) {
        let fresh = self.plan();
        let plan = self.late.take().unwrap_or_else(|| fresh.clone());
        if self.random.random_bool(0.2) {
            self.late = Some(fresh);
        }
        for action in plan.actions() {
            if let Action::Exchange { version, exchange, .. } = action
                && *version == self.secret.version
            {
                self.carry_out(exchange);
            }
        }
    }

    fn carry_out(&mut self, exchange: &Exchange) {
        for key in ROTATED {
            let (first, second) =
                (self.values.get(key).cloned(), self.values.remove(&previous(key)));
            match exchange {
                Exchange::Publish { .. } => {
                    self.values.insert(previous(key), format!("{key}-{}", self.made));
                }
                Exchange::Swap => {
                    self.values.extend([
                        (previous(key), first.unwrap()),
                        (key.to_owned(), second.unwrap()),
                    ]);
                }
                Exchange::Sign { .. } => {
                    self.values.extend(second.map(|second| (previous(key), second)))
                }
                Exchange::Retire => {}
            }
        }
        match exchange {
            Exchange::Publish { asked } => self.secret.rotation = Some(asked.clone()),
            Exchange::Swap | Exchange::Sign { .. } | Exchange::Retire => {}
        }
        self.secret.step = match exchange {
            Exchange::Publish { .. } => Some(Step::Published),
            Exchange::Swap => Some(Step::Swapped),
            Exchange::Sign { since } => Some(Step::Signing(*since)),
            Exchange::Retire => None,
        };
        self.noted();
    }

    /// Time passes: nodes take up what is due, sign, and check what others signed.
    fn tick(&mut self) {
        self.seconds += STEP;
        for node in &mut self.nodes {
            if let Some((at, has)) = node.due.take() {
                if at <= self.seconds { node.has = has } else { node.due = Some((at, has)) }
            }
            if node.begins > self.seconds {
                continue;
            }
            node.said.insert(0, node.has.clone());
            node.said.truncate(OLD);
            self.signed.extend(ROTATED.map(|key| (self.seconds, key, node.has[key].clone())));
        }
        // Of each key the latest.
        self.signed.sort_by(|a, b| (a.1, &a.2, b.0).cmp(&(b.1, &b.2, a.0)));
        self.signed.dedup_by(|a, b| (a.1, &a.2) == (b.1, &b.2));
        self.signed.retain(|(at, _, _)| at + LIFE > self.seconds);
        for node in self.nodes.iter().filter(|node| node.begins <= self.seconds) {
            for (at, key, signed) in &self.signed {
                if !node.key(&node.has, key).contains(&signed) {
                    let (now, name) = (self.seconds, &node.name);
                    self.broken.push(format!("{now}: {name} refuses {signed}, signed at {at}"));
                }
            }
        }
    }
}

fn silent() -> DrainReport {
    serde_json::from_value(json!({
        "node": "n", "incarnation": "00000000-0000-4000-8000-000000000000", "phase": "serving",
        "epoch": 0, "sessions": 0, "streams": 0,
    }))
    .unwrap()
}

fn key_ids(node: &Node, has: &Values) -> KeyIds {
    let of = |key| node.key(has, key).into_iter().cloned().collect();
    KeyIds { resume: of("resume"), admin: of("admin"), ..KeyIds::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// However late pods take a change up, and however old what the operator knows is: no pod refuses what
    /// another one signed, and each exchange comes to its end.
    #[test]
    fn no_pod_ever_refuses_what_another_one_signed(
        seed: u64, starts in prop::collection::vec(0..1_100i64, 0..6), asks in 1..3i64,
    ) {
        let mut world = World::new(seed);
        for step in 0..1_200 {
            if starts.contains(&step) {
                world.start();
            }
            if step % 240 == 1 && step / 240 < asks {
                world.asked = Some(format!("time-{step}"));
            }
            if world.random.random_bool(0.5) {
                world.pass();
            }
            world.tick();
            prop_assert!(world.broken.is_empty(), "{:?}", world.broken);
        }
        prop_assert_eq!(world.secret.step, None);
        prop_assert_eq!(&world.secret.rotation, &world.asked);
        prop_assert!(world.values.keys().all(|key| !key.ends_with("-previous")));
        prop_assert_ne!(world.values["resume"].as_str(), "resume-0");
        prop_assert_eq!(world.values["jwt"].as_str(), "jwt-0");
    }
}

#[test]
fn nothing_is_exchanged_unless_it_is_asked_for_and_only_once() {
    let mut world = World::new(1);
    assert!(!world.plan().actions().iter().any(|one| matches!(one, Action::Exchange { .. })));
    world.asked = Some("a".to_owned());
    let exchanges = |plan: Plan| {
        let of = |action: &Action| match action {
            Action::Exchange { exchange, .. } => Some(exchange.clone()),
            _ => None,
        };
        plan.actions().iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(exchanges(world.plan()), [Exchange::Publish { asked: "a".to_owned() }]);
    world.secret.rotation = Some("a".to_owned());
    assert_eq!(exchanges(world.plan()), []);
}

#[test]
fn a_key_that_a_hand_put_there_is_left_alone_and_named() {
    let mut world = World::new(2);
    world.asked = Some("a".to_owned());
    world.values.insert("resume-previous".to_owned(), "by hand".to_owned());
    world.noted();
    let plan = world.plan();
    assert!(!plan.actions().iter().any(|one| matches!(one, Action::Exchange { .. })));
    let held = plan.findings.iter().find(|one| one.reason == Reason::KeyRotationHeld).unwrap();
    assert!(held.message.contains("resume-previous"), "{}", held.message);
}

#[test]
fn what_an_exchange_waits_for_is_said() {
    let mut world = World::new(3);
    world.asked = Some("a".to_owned());
    world.late = None;
    world.carry_out(&Exchange::Publish { asked: "a".to_owned() });
    let said = world.plan().key_rotation.unwrap();
    assert_eq!((said.asked.as_str(), said.step), ("a", KeyRotationStep::Published));
    assert!(said.waits_for.contains(&world.nodes[0].name), "{}", said.waits_for);
    world.secret.step = Some(Step::Signing(world.now()));
    let said = world.plan().key_rotation.unwrap();
    assert!(said.waits_for.contains("1970-01-12T14:01:40Z"), "{}", said.waits_for);
}

#[test]
fn second_keys_that_a_hand_took_out_are_made_again_or_not_waited_for() {
    let mut world = World::new(4);
    world.asked = Some("a".to_owned());
    world.carry_out(&Exchange::Publish { asked: "a".to_owned() });
    let torn = |world: &mut World| {
        world.values.remove("resume-previous");
        world.noted();
        let plan = world.plan();
        let Some(Action::Exchange { exchange, .. }) = plan.actions().first() else {
            panic!("{plan:?}")
        };
        exchange.clone()
    };
    assert_eq!(torn(&mut world), Exchange::Publish { asked: "a".to_owned() });
    world.secret.step = Some(Step::Swapped);
    assert_eq!(torn(&mut world), Exchange::Retire);
}
