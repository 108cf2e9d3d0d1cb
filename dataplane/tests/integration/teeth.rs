//! Teeth: each deliberate bug under the fault that exposes it, judged by the oracle over real
//! sockets, over the memory engine and over a real redis-server. The same scenario is clean without
//! the bug and red with it.
//!
//! `make teeth` runs all of them over one engine (`STORES=`) and writes the table into the file that
//! `TEETH_REPORT` names.

mod report;
mod scenarios;
mod stage;

use client::transcript::{Allowed, Verdict};
use stage::{Setting, Stores};
use std::time::{Duration, Instant};
use streamlog::Bug;

/// A scenario, run once.
type Run = fn(Setting) -> stage::Judged;

/// A bug, the fault that exposes it, and the seed at which it does.
pub(crate) struct Tooth {
    bug: Bug,
    fault: &'static str,
    seed: u64,
    run: Run,
    allowed: Allowed,
}

const NOTHING: Allowed = Allowed { restarted: false, interrupted: false, failed: false };
const RESTARTED: Allowed = Allowed { restarted: true, ..NOTHING };

fn teeth() -> [Tooth; 7] {
    use scenarios as s;
    let tooth = |bug, fault, run: Run, allowed| Tooth { bug, fault, seed: 1, run, allowed };
    [
        tooth(Bug::NaiveFollower, "slow store, sockets cut", s::sockets_cut, NOTHING),
        tooth(Bug::NoDedupe, "devices join inside of batches", s::joins_anywhere, NOTHING),
        tooth(Bug::NoFence, "owner cut off from the store, then back", s::owner_stalls, NOTHING),
        tooth(
            Bug::VisibleBeforeDurable,
            "owner killed between send and acknowledgement",
            s::owner_dies_unacknowledged,
            NOTHING,
        ),
        tooth(Bug::LostSeal, "store refuses the seal once", s::seal_refused, NOTHING),
        tooth(Bug::ReusedId, "one request sent to two nodes", s::request_twice, NOTHING),
        tooth(
            Bug::ZombieReads,
            "resume at an owner whose lease lapsed",
            s::resume_at_a_zombie,
            RESTARTED,
        ),
    ]
}

/// One row of the table.
#[cfg(feature = "bugs")]
pub(crate) struct Row {
    tooth: Tooth,
    clean: Verdict,
    red: (Verdict, Duration),
}

fn run(tooth: &Tooth, stores: Stores, bug: Option<Bug>) -> (Verdict, Duration) {
    switch(bug);
    #[allow(clippy::disallowed_methods)] // Real sockets run in real time.
    let before = Instant::now();
    let verdict = (tooth.run)(Setting { stores, seed: tooth.seed });
    switch(None);
    (verdict, before.elapsed())
}

#[cfg(feature = "bugs")]
fn switch(bug: Option<Bug>) {
    streamlog::bugs::activate(bug);
}

#[cfg(not(feature = "bugs"))]
fn switch(_: Option<Bug>) {}

fn assert_clean(tooth: &Tooth, verdict: &Verdict) {
    assert!(verdict.is_clean(tooth.allowed), "{}: {verdict:#?}", tooth.fault);
    assert!(verdict.chunks > 0, "{}: {}: nothing", tooth.bug.name(), tooth.fault);
}

/// Every scenario is clean as long as there is no bug: part of every test run.
#[test]
fn scenarios_are_clean_without_their_bug() {
    for tooth in teeth() {
        assert_clean(&tooth, &run(&tooth, Stores::Memory, None).0);
    }
}

/// All at once: each has a Redis of its own, and mostly waits.
#[test]
fn scenarios_are_clean_over_redis_without_their_bug() {
    std::thread::scope(|scope| {
        for tooth in teeth() {
            scope.spawn(move || assert_clean(&tooth, &run(&tooth, Stores::Redis, None).0));
        }
    });
}

/// One of the teeth, in every test run that has the bugs compiled in.
#[cfg(feature = "bugs")]
#[test]
fn teeth_one_no_dedupe_is_seen() {
    let _turn = stage::turn();
    let [_, tooth, ..] = teeth();
    let (verdict, _) = run(&tooth, Stores::Memory, Some(tooth.bug));
    assert!(verdict.twice > 0, "{verdict:#?}");
}

/// Another one, which sits in the engine itself.
#[cfg(feature = "bugs")]
#[test]
fn teeth_one_no_fence_is_seen_over_redis() {
    let _turn = stage::turn();
    let [_, _, tooth, ..] = teeth();
    let (verdict, _) = run(&tooth, Stores::Redis, Some(tooth.bug));
    assert!(!verdict.is_clean(tooth.allowed), "{verdict:#?}");
}

/// All of them, and the table.
#[cfg(feature = "bugs")]
#[test]
fn teeth_memory_all_are_seen() {
    all_are_seen(Stores::Memory);
}

/// All of them over a real redis-server, and the table.
#[cfg(feature = "bugs")]
#[test]
fn teeth_redis_all_are_seen() {
    all_are_seen(Stores::Redis);
}

#[cfg(feature = "bugs")]
fn all_are_seen(stores: Stores) {
    let _turn = stage::turn();
    let rows: Vec<_> = teeth()
        .into_iter()
        .map(|tooth| {
            let (clean, _) = run(&tooth, stores, None);
            let red = run(&tooth, stores, Some(tooth.bug));
            eprintln!("{}", report::line(&tooth, &red.0, red.1));
            Row { tooth, clean, red }
        })
        .collect();
    report::write(&rows);
    for row in &rows {
        assert_clean(&row.tooth, &row.clean);
        let (red, took) = &row.red;
        assert!(!red.is_clean(row.tooth.allowed), "{} was not seen", row.tooth.bug.name());
        assert!(*took < Duration::from_secs(20), "{} took {took:?}", row.tooth.bug.name());
    }
}
