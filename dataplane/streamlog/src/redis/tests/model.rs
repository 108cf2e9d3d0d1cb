//! The seeded model over Redis: fewer seeds, real time, everything faster.

use super::super::RedisEngine;
use super::{Stage, server};
use crate::conformance::model::oracle::Engine;
use crate::conformance::model::{Store, Trace, run_far};
use crate::directory::Directory;
use crate::log::{Owner, StreamLog};
use crate::{Clock, RedisConfig};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Seeds of an ordinary run, all at once.
const SEEDS: u64 = 24;
/// So much faster than the model's plan: leases of one second.
const PACE: u32 = 5;

struct Node {
    engine: RedisEngine,
    cut: AtomicBool,
}

impl Engine for Node {
    fn log(&self) -> &dyn StreamLog {
        &self.engine
    }

    fn directory(&self) -> &dyn Directory {
        &self.engine
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    fn owner(&self) -> &Owner {
        self.engine.owner()
    }

    fn background(&self) -> Option<BoxFuture<'static, ()>> {
        let engine = self.engine.clone();
        Some(async move { engine.run(CancellationToken::new()).await }.boxed())
    }
}

struct Nodes(RedisConfig);

impl Store for Nodes {
    fn engine(&self, owner: Owner) -> Arc<dyn Engine> {
        let engine = RedisEngine::new(self.0.clone(), owner, Clock::system()).unwrap();
        Arc::new(Node { engine, cut: AtomicBool::new(false) })
    }

    fn is_exact(&self) -> bool {
        self.0.text_in_hints == 0
    }
}

/// One run; its trace, where it failed.
async fn failed(seed: u64) -> Option<String> {
    // The model has no place for an answer that is unknown to itself.
    let patient = Duration::from_secs(60);
    // Every second one without text in its hints: then each page is compared as a whole.
    let plain = Stage::on(server()).config;
    let text_in_hints = if seed.is_multiple_of(2) { 0 } else { plain.text_in_hints };
    let config = RedisConfig { response_timeout: patient, text_in_hints, ..plain };
    let trace = Trace::default();
    let run = run_far(seed, trace.clone(), Box::new(Nodes(config)), PACE);
    let done = AssertUnwindSafe(run).catch_unwind().await;
    done.err().map(|_| trace.lock().unwrap().join("\n"))
}

#[allow(clippy::disallowed_methods)] // How a person asks for a longer run, or for one seed.
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_seed_breaks_the_model_on_redis() {
    let seeds = match asked("MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("MODEL_SEEDS").unwrap_or(SEEDS),
    };
    let mut runs = JoinSet::new();
    for seed in seeds {
        runs.spawn(async move { (seed, failed(seed).await) });
    }
    while let Some(run) = runs.join_next().await {
        if let (seed, Some(trace)) = run.unwrap() {
            panic!(
                "{trace}\nseed {seed} broke the model on Redis; again:\n  MODEL_SEED={seed} cargo \
                 test --workspace --lib -- --nocapture no_seed_breaks_the_model_on_redis"
            );
        }
    }
}
