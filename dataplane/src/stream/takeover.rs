//! Finds streams that want a new owner and hands each to its own task.

use super::policy::{self, Decision};
use super::producer;
use super::start::Start;
use crate::node::Node;
use crate::upstream::Continues;
use std::sync::Arc;
use std::time::Duration;
use streamlog::Orphan;
use tokio::time::MissedTickBehavior;

/// Orphans looked at in one go.
const LOOK_LIMIT: usize = 1_024;

/// Looks for orphans until the node stops: every half second, and at once on a hint.
pub async fn watch(node: Arc<Node>) {
    let every = Duration::from_millis(node.settings.ownership.look_ms);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = node.stop.cancelled() => return,
            _ = ticks.tick() => {}
            () = node.streams.look.notified() => {}
        }
        if may_claim(&node) {
            look(&node).await;
        }
    }
}

/// A node claims only while it serves, is itself certainly alive, and was long enough in touch with
/// the store to tell a dead node from a dead store.
fn may_claim(node: &Node) -> bool {
    let ttl = Duration::from_millis(node.settings.ownership.lease_ms);
    let now = node.clock.now();
    node.drain.is_serving() && node.lease.certain().is_some() && node.contact().is_trusted(now, ttl)
}

async fn look(node: &Arc<Node>) {
    let Ok(orphans) = node.directory.orphans(LOOK_LIMIT).await else { return };
    // Every node begins elsewhere, so that they share the work instead of racing for each stream.
    let start = node.ids.below(orphans.len() as u64) as usize;
    let (before, after) = orphans.split_at(start.min(orphans.len()));
    for orphan in after.iter().chain(before) {
        if orphan.owner != node.owner {
            take(node, orphan);
        }
    }
}

fn take(node: &Arc<Node>, orphan: &Orphan) {
    let now = node.clock.wall();
    let can_continue = node.upstream.continues(&orphan.opening) != Continues::Never;
    let decision = policy::decide(orphan, &node.settings, can_continue, now);
    let place = match decision {
        Decision::TakeOver { .. } => node.streams.reserve_takeover(orphan.stream),
        Decision::End { .. } => node.streams.reserve_unbounded(orphan.stream),
    };
    let Some(place) = place else { return };
    tracing::info!(
        stream = %orphan.stream, epoch = %orphan.epoch, from = %orphan.owner.node,
        by = %node.owner.node, ?decision, cause = ?orphan.cause, "taking over",
    );
    let start = Start::Claim { orphan: orphan.clone(), decision };
    node.tasks.spawn(producer::run(node.clone(), place, start));
}
