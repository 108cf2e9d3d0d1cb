//! Kills, freezes and drains the playground's nodes as scheduled, and brings them back.

use super::Wall;
use super::losses::{Death, Emptied, Losses};
use super::schedule::{Fault, NodeAct, NodeFault, NodeFaults, StoreAct};
use crate::api::{ApiError, Dev};
use futures_util::future::join_all;
use protocol::dev::{DevNode, NodePhase};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long all nodes may take to serve again after a run.
const ALL_BACK: Duration = Duration::from_secs(30);
/// Between two looks at the nodes.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) faults: BTreeMap<Fault, u64>,
    pub(super) skipped: u64,
    pub(super) losses: Losses,
}

/// Follows the schedule until `stop`, then brings every node back.
pub(super) async fn run(
    dev: Dev,
    names: Vec<String>,
    schedule: NodeFaults,
    wall: Wall,
    stop: CancellationToken,
) -> Done {
    let mut done = Done::default();
    let began = Instant::now();
    // Node → when it is started again.
    let mut back: BTreeMap<usize, Instant> = BTreeMap::new();
    let mut schedule = schedule.peekable();
    loop {
        let fault_at = schedule.peek().map(|fault| began + fault.at);
        let back_at = back.values().min().copied();
        let Some(at) = fault_at.into_iter().chain(back_at).min() else {
            stop.cancelled().await;
            break;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = sleep_until(at) => {}
        }
        let now = Instant::now();
        let due: Vec<usize> = back.iter().filter(|b| *b.1 <= now).map(|b| *b.0).collect();
        for node in due {
            if dev.start(&names[node]).await.is_ok() {
                back.remove(&node);
            } else {
                back.insert(node, now + LOOK_AGAIN);
            }
        }
        if let Some(fault) = schedule.next_if(|fault| began + fault.at <= now) {
            let from = wall.now();
            if apply(&dev, &names, fault).await.unwrap_or(false) {
                *done.faults.entry(fault.what.fault()).or_default() += 1;
                let dead = ended(&fault, names.len());
                back.extend(dead.iter().map(|node| (*node, now + fault.what.away())));
                done.losses.note(&names, &dead, &fault.what, Emptied { from, to: wall.now() });
            } else {
                done.skipped += 1;
            }
        }
    }
    restore(&dev).await;
    done
}

/// The nodes whose incarnation a fault ends; they are started again.
fn ended(fault: &NodeFault, nodes: usize) -> Vec<usize> {
    match fault.what {
        NodeAct::Kill { .. } | NodeAct::Drain { .. } => vec![fault.node],
        NodeAct::Store(StoreAct::Loss { first, count, .. }) => {
            (first..first + count).map(|node| node % nodes).collect()
        }
        NodeAct::Pause { .. } | NodeAct::Store(_) => Vec::new(),
    }
}

impl Losses {
    fn note(&mut self, names: &[String], dead: &[usize], what: &NodeAct, when: Emptied) {
        let death = |node: &usize| Death { node: names[*node].clone(), at: when.to };
        self.deaths.extend(dead.iter().map(death));
        if matches!(what, NodeAct::Store(act) if act.forgets()) {
            self.emptied.push(when);
        }
    }
}

/// `false`: the node is not serving, or nobody else is.
async fn apply(dev: &Dev, names: &[String], fault: NodeFault) -> Result<bool, ApiError> {
    if let NodeAct::Store(act) = fault.what {
        let dead: Vec<&str> =
            ended(&fault, names.len()).iter().map(|node| names[*node].as_str()).collect();
        return disturb(dev, act, &dead).await;
    }
    let name = names[fault.node].as_str();
    let nodes = dev.nodes().await?;
    let serves = |node: &DevNode| node.phase == NodePhase::Serving;
    let target = nodes.iter().any(|node| node.name == name && serves(node));
    let other = nodes.iter().any(|node| node.name != name && serves(node));
    if !target || !other {
        return Ok(false);
    }
    match fault.what {
        NodeAct::Kill { .. } => dev.kill(name).await?,
        NodeAct::Pause { time } => dev.pause(name, time).await?,
        NodeAct::Drain { deadline, at_once, .. } => {
            let policy = if at_once { "continue" } else { "finish" };
            dev.drain(name, Some(deadline), Some(policy)).await?;
        }
        NodeAct::Store(_) => {}
    }
    Ok(true)
}

/// `false`: some node is not serving, and what it owns could be lost for good.
async fn disturb(dev: &Dev, act: StoreAct, dead: &[&str]) -> Result<bool, ApiError> {
    let all = dev.nodes().await?.iter().all(|node| node.phase == NodePhase::Serving);
    if !all && act != StoreAct::KillPubsub {
        return Ok(false);
    }
    match act {
        StoreAct::Pause { time } => dev.pause_store(time).await?,
        StoreAct::KillPubsub => dev.kill_pubsub().await?,
        StoreAct::Restart => dev.restart_store().await?,
        StoreAct::Loss { .. } => {
            let kills = join_all(dead.iter().map(|name| dev.kill(name)));
            let (killed, restarted) = tokio::join!(kills, dev.restart_store());
            restarted?;
            killed.into_iter().collect::<Result<(), _>>()?;
        }
    }
    Ok(true)
}

/// Starts whatever does not serve; gives up after [`ALL_BACK`].
async fn restore(dev: &Dev) {
    let deadline = Instant::now() + ALL_BACK;
    while Instant::now() < deadline {
        let Ok(nodes) = dev.nodes().await else { return };
        let mut all = true;
        for node in nodes.iter().filter(|node| node.phase != NodePhase::Serving) {
            all = false;
            if node.phase != NodePhase::Paused {
                // Tried again by the next look.
                let _ = dev.start(&node.name).await;
            }
        }
        if all {
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}
