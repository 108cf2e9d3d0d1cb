//! Rollouts, scaling and what goes wrong with them, in a world that lags.

mod world;

use crds::{ConditionType, Reason};
use proptest::prelude::*;
use world::{CAPACITY, World};

/// A spec: an image tag, and the rest of `gateway` and `rollout`.
fn spec(tag: &str, replicas: i64, rest: &str) -> String {
    format!(
        "redis: {{embedded: {{}}}}\nimage: {{tag: {tag}}}\n\
         gateway: {{replicas: {replicas}, limits: {{sessionsPerPod: {CAPACITY}}}}}\n{rest}"
    )
}

/// A fleet of three at rest, each pod with sessions.
fn three(seed: u64, sessions: u64) -> World {
    let mut world = World::new(seed);
    world.spec = spec("a", 3, "");
    world.rest(60).unwrap();
    assert_eq!(world.arrive(sessions), sessions);
    world
}

fn reason(world: &World, condition: ConditionType) -> Option<Reason> {
    let plan = world.plan();
    plan.findings.iter().find(|one| one.condition == condition).map(|one| one.reason)
}

fn assert_whole(world: &World) {
    assert_eq!((&world.broken, world.hurt), (&Vec::new(), 0));
}

#[test]
fn a_rollout_exchanges_every_pod_and_no_session_is_hurt() {
    // Two pods cannot hold them all: a new one comes first.
    let mut world = three(1, 25);
    world.spec = spec("b", 3, "");
    let mut fewest = usize::MAX;
    for _ in 0..200 {
        world.pass(false);
        world.tick();
        fewest = fewest.min(world.serving().values().sum());
    }
    world.rest(60).unwrap();
    assert_whole(&world);
    assert_eq!(world.serving(), [("b".to_owned(), 3)].into());
    assert!(fewest >= 3, "{fewest} pods served");
    assert_eq!(world.pods.iter().map(|pod| pod.sessions).sum::<u64>(), 25);
}

#[test]
fn it_says_where_it_stands() {
    let mut world = three(2, 20);
    world.spec = spec("b", 3, "");
    world.pass(false);
    assert_eq!(reason(&world, ConditionType::Progressing), Some(Reason::RollingOut));
    let rollout = world.plan().rollout.unwrap();
    assert_eq!((rollout.ready, rollout.remaining_pods, rollout.remaining_sessions), (0, 3, 20));
    world.pass(false);
    let rollout = world.plan().rollout.unwrap();
    assert_eq!((rollout.moved_sessions, rollout.estimated_seconds), (Some(0), None));
    let one_left = |world: &World| world.plan().rollout.filter(|one| one.remaining_pods == 1);
    while one_left(&world).is_none() {
        assert!(world.plan().rollout.is_some(), "it never had one pod to go");
        world.pass(false);
        world.tick();
    }
    world.pass(false);
    let rollout = one_left(&world).unwrap();
    let moved = rollout.moved_sessions.unwrap();
    assert!((1..20).contains(&moved) && moved + rollout.remaining_sessions == 20, "{rollout:?}");
    assert!((3..60).contains(&rollout.estimated_seconds.unwrap()), "{rollout:?}");
    world.rest(300).unwrap();
    assert_eq!(world.plan().rollout, None);
}

#[test]
fn it_tells_its_story() {
    let mut world = three(11, 20);
    world.spec = spec("b", 3, "");
    let mut told = Vec::new();
    for _ in 0..200 {
        told.extend(world.plan().story(&world.observed()));
        world.pass(false);
        world.tick();
    }
    let count = |reason: &str| told.iter().filter(|one| one.reason == reason).count();
    assert_eq!(
        ["RevisionCreated", "DrainStarted", "DrainCompleted"].map(count),
        [1, 3, 3],
        "{told:#?}"
    );
    assert_eq!(count("DrainCutShort"), 0);
    assert!(
        told.iter().any(|one| one.note.contains("7 sessions and 0 live answers move")),
        "{told:#?}"
    );
}

#[test]
fn without_room_for_its_sessions_no_pod_goes() {
    let mut world = three(3, 30);
    world.spec = spec("a", 2, "");
    for _ in 0..60 {
        world.pass(false);
        world.tick();
    }
    assert_eq!(world.serving(), [("a".to_owned(), 3)].into());
    assert_eq!(reason(&world, ConditionType::Progressing), Some(Reason::CapacityHeld));
    // It goes as soon as there is.
    for pod in &mut world.pods {
        pod.sessions = 5;
    }
    world.rest(120).unwrap();
    assert_eq!(world.serving(), [("a".to_owned(), 2)].into());
    assert_whole(&world);
}

#[test]
fn scaling_down_takes_the_pod_with_the_fewest_sessions() {
    let mut world = three(4, 0);
    for (pod, sessions) in world.pods.iter_mut().zip([6, 1, 5]) {
        pod.sessions = sessions;
    }
    let cheapest = world.pods[1].facts.uid.clone();
    world.spec = spec("a", 2, "");
    world.rest(120).unwrap();
    assert!(world.pods.iter().all(|pod| pod.facts.uid != cheapest));
    assert_eq!(world.pods.len(), 2);
    assert_whole(&world);
}

#[test]
fn a_revision_that_never_gets_ready_is_rolled_back_and_not_tried_again_until_told() {
    let mut world = three(5, 20);
    let before: Vec<_> = world.pods.iter().map(|pod| pod.facts.uid.clone()).collect();
    world.bad.insert("bad".to_owned());
    let deadline = "rollout: {progressDeadline: 1m}";
    world.spec = spec("bad", 3, deadline);
    for _ in 0..50 {
        world.pass(false);
        world.tick();
    }
    assert_eq!(reason(&world, ConditionType::Progressing), Some(Reason::RollingOut));
    world.rest(120).unwrap();
    assert_eq!(world.serving(), [("a".to_owned(), 3)].into());
    let now: Vec<_> = world.pods.iter().map(|pod| pod.facts.uid.clone()).collect();
    assert_eq!(now, before, "no pod of the old revision was touched");
    assert_eq!(reason(&world, ConditionType::Ready), Some(Reason::RolledBack));
    assert_eq!(reason(&world, ConditionType::Progressing), None);
    // Mended, and told so.
    world.bad.clear();
    world.rest(60).unwrap();
    assert_eq!(world.serving(), [("a".to_owned(), 3)].into());
    world.spec = spec("bad", 3, "rollout: {progressDeadline: 1m}\noperation: {retry: now}");
    world.rest(300).unwrap();
    assert_eq!(world.serving(), [("bad".to_owned(), 3)].into());
    assert_eq!(reason(&world, ConditionType::Ready), None);
    assert_whole(&world);
}

#[test]
fn without_roll_back_it_stays_where_it_is() {
    let mut world = three(6, 10);
    world.bad.insert("bad".to_owned());
    world.spec = spec("bad", 3, "rollout: {progressDeadline: 1m, rollback: Never}");
    for _ in 0..120 {
        world.pass(false);
        world.tick();
    }
    assert_eq!(world.serving(), [("a".to_owned(), 3)].into());
    assert_eq!(reason(&world, ConditionType::Progressing), Some(Reason::ProgressDeadlineExceeded));
    assert_eq!(world.plan().actions(), []);
    // Another revision is tried like any other.
    world.spec = spec("b", 3, "");
    world.rest(300).unwrap();
    assert_eq!(world.serving(), [("b".to_owned(), 3)].into());
    assert_whole(&world);
}

#[test]
fn a_single_pod_goes_only_when_another_one_serves() {
    let mut world = World::new(7);
    world.spec = spec("a", 1, "rollout: {maxSurge: 0}");
    world.rest(60).unwrap();
    world.arrive(9);
    world.spec = spec("b", 1, "rollout: {maxSurge: 0}");
    for _ in 0..60 {
        world.pass(false);
        world.tick();
        assert!(world.serving().values().sum::<usize>() >= 1);
    }
    assert_eq!(world.serving(), [("b".to_owned(), 1)].into());
    assert_whole(&world);
}

#[test]
fn a_pod_that_somebody_labels_by_hand_is_drained_and_replaced() {
    let mut world = three(8, 20);
    let uid = world.pods[0].facts.uid.clone();
    world.pods[0].facts.pool = "draining".to_owned();
    world.rest(120).unwrap();
    assert!(world.pods.iter().all(|pod| pod.facts.uid != uid));
    assert_eq!(world.serving(), [("a".to_owned(), 3)].into());
    assert_whole(&world);
}

#[test]
fn old_revisions_are_kept_to_go_back_to_and_no_more_than_that() {
    let mut world = three(9, 10);
    for tag in ["b", "c", "d", "e", "f"] {
        world.spec = spec(tag, 3, "rollout: {revisionHistoryLimit: 2}");
        world.rest(300).unwrap();
    }
    let kept: Vec<_> = world.model.observed.sets().into_iter().map(|set| set.image).collect();
    let tags: Vec<_> = kept.iter().map(|image| image.rsplit(':').next().unwrap()).collect();
    assert_eq!(tags, ["f", "e", "d"]);
    assert_whole(&world);
}

#[test]
fn hibernating_and_waking_takes_the_new_revision_up() {
    let mut world = three(10, 0);
    world.spec = spec("b", 3, "operation: {hibernated: true}");
    for _ in 0..60 {
        world.pass(false);
        world.tick();
    }
    assert!(world.pods.is_empty());
    world.spec = spec("b", 3, "");
    world.rest(60).unwrap();
    assert_eq!(world.serving(), [("b".to_owned(), 3)].into());
}

/// What happens to a fleet.
#[derive(Clone, Debug)]
enum Step {
    /// The spec asks for this image and so many pods.
    Ask(&'static str, i64),
    /// Somebody deletes a pod.
    Kill(usize),
    /// Seconds pass.
    Wait(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tag = prop::sample::select(vec!["a", "b", "c", "bad"]);
    let step = prop_oneof![
        3 => (tag, 2..6i64).prop_map(|(tag, replicas)| Step::Ask(tag, replicas)),
        1 => (0..6usize).prop_map(Step::Kill),
        4 => (1..40usize).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..8)
}

/// Lets it happen: passes that miss events, end after some of their writes or write late, and then rest.
fn live(world: &mut World, steps: &[Step]) -> Result<usize, String> {
    world.bad.insert("bad".to_owned());
    for step in steps {
        match step {
            Step::Ask(tag, replicas) => {
                world.spec =
                    spec(tag, *replicas, "rollout: {progressDeadline: 1m, maxDraining: 2}");
            }
            Step::Kill(at) if *at < world.pods.len() => {
                let uid = world.pods[*at].facts.uid.clone();
                world.delete(&uid);
            }
            Step::Kill(_) => {}
            Step::Wait(seconds) => {
                for _ in 0..*seconds {
                    if world.chance(0.7) {
                        world.pass(true);
                    }
                    world.tick();
                }
            }
        }
    }
    world.rest(900)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens to a fleet, and however badly its operator does: it comes to the state that the last
    /// spec asks for, no pod with sessions is deleted before its time, and what may drain at once holds.
    #[test]
    fn any_history_ends_as_the_spec_has_it(seed: u64, steps in steps()) {
        let mut world = three(seed, 12);
        let rested = live(&mut world, &steps);
        prop_assert!(rested.is_ok(), "{}", rested.unwrap_err());
        prop_assert!(world.broken.is_empty(), "{:?}", world.broken);
        let asked = steps.iter().rev().find_map(|step| match step {
            Step::Ask(tag, replicas) => Some((*tag, *replicas)),
            _ => None,
        });
        let (tag, replicas) = asked.unwrap_or(("a", 3));
        let serving = world.serving();
        prop_assert_eq!(serving.values().sum::<usize>(), usize::try_from(replicas).unwrap());
        prop_assert_eq!(serving.len(), 1, "{:?}", serving);
        if tag != "bad" {
            prop_assert!(serving.contains_key(tag), "{serving:?}");
        }
        prop_assert_eq!(world.hurt, 0);
    }
}

#[test]
fn an_operator_that_does_not_wait_for_the_replica_set_is_found_out() {
    let found = (0..20).any(|seed| {
        let mut world = three(seed, 25);
        world.impatient = true;
        world.spec = spec("b", 3, "");
        let _ = world.rest(300);
        !world.broken.is_empty()
    });
    assert!(found, "no world noticed it");
}
