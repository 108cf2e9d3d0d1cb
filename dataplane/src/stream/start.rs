//! How a producer comes to its stream: it opens a new one or claims one without an owner, and repeats
//! that until the store answers.

use super::outcome::Outcome;
use super::policy::{self, Decision};
use super::producer::Producer;
use super::watched::Watched;
use crate::node::Node;
use crate::upstream::{Continues, prompt};
use protocol::server_frame::TakeoverMode;
use protocol::{Chunk, ChunkType, ErrorCode, Index, SealStatus};
use std::sync::Arc;
use std::time::Duration;
use streamlog::directory::Claim;
use streamlog::{Batch, Keep, LogError, Opened, Opening, Orphan, StreamLog};
use tokio::sync::oneshot;

/// Longest wait between two tries of a write that the store did not acknowledge.
const MAX_RETRY: Duration = Duration::from_secs(1);

/// How a producer comes to its stream.
pub enum Start {
    /// A new request.
    Open {
        /// The request.
        opening: Arc<Opening>,
        /// Told as soon as the log answered.
        tell: oneshot::Sender<Opened>,
    },
    /// A stream without an owner.
    Claim {
        /// Which.
        orphan: Orphan,
        /// What to do with it.
        decision: Decision,
    },
}

pub(super) async fn open(
    node: &Arc<Node>,
    opening: Arc<Opening>,
    tell: oneshot::Sender<Opened>,
) -> Option<(Producer, Option<Outcome>)> {
    let opened = persist(node, || node.log.open(opening.clone(), &node.owner)).await.ok()?;
    let Opened::Yours(epoch) = opened else {
        let _ = tell.send(opened);
        return None;
    };
    node.metrics.streams_started.inc();
    let heard = tell.send(opened).is_ok();
    let watched = Watched::begin(node, &opening, epoch, None);
    let mut producer = Producer::new(node.clone(), opening, epoch, watched);
    producer.count_answer().await;
    // Nobody was told and nobody can ask again: an answer that no one will ever follow.
    let unwanted = !heard && producer.opening.request_id.is_none();
    Some((producer, unwanted.then_some(Outcome::Cancelled)))
}

/// Claims an orphan. `None`: another node was faster.
pub(super) async fn claim(
    node: &Arc<Node>,
    orphan: &Orphan,
    decision: Decision,
) -> Option<(Producer, Option<Outcome>)> {
    let mut orphan = orphan.clone();
    let mut decision = decision;
    if depends_on_text(node, &orphan, decision) {
        let read = || node.log.read(orphan.stream, Index::ZERO, usize::MAX);
        let page = persist(node, read).await.ok()?;
        decision = suiting(node, &orphan, decision, &page.batches);
    }
    loop {
        let (keep, mode, ended) = step_of(decision);
        let claim = Claim { stream: orphan.stream, expected: orphan.epoch, keep, mode };
        let claimed = persist(node, || node.directory.claim(&claim, &node.owner)).await.ok()?;
        node.metrics.took_over(mode);
        let epoch = claimed.head.epoch;
        let batches = persist(node, || node.log.adopt(orphan.stream, epoch)).await.ok()?;
        // An owner that hands over goes on until it is fenced: what it wrote since may decide it.
        let better = suiting(node, &orphan, decision, &batches);
        if better == decision {
            let watched = Watched::begin(node, &claimed.opening, epoch, Some(mode));
            let mut producer = Producer::new(node.clone(), claimed.opening, epoch, watched);
            producer.resume(&batches);
            return Some((producer, ended));
        }
        (orphan.epoch, decision) = (epoch, better);
    }
}

/// What of the log is kept, how that is called, and how the answer ends where it does.
fn step_of(decision: Decision) -> (Keep, TakeoverMode, Option<Outcome>) {
    match decision {
        Decision::TakeOver { keep, mode } => (keep, mode, None),
        Decision::End { status: SealStatus::Cancelled, .. } => {
            (Keep::Tail, TakeoverMode::Finish, Some(Outcome::Cancelled))
        }
        Decision::End { code, .. } => {
            let code = code.unwrap_or(ErrorCode::Interrupted);
            (Keep::Tail, TakeoverMode::Fail, Some(Outcome::Failed(code)))
        }
    }
}

/// Whether it is the text so far that says if the provider can go on.
fn depends_on_text(node: &Node, orphan: &Orphan, decision: Decision) -> bool {
    matches!(decision, Decision::TakeOver { mode: TakeoverMode::Continue, .. })
        && node.upstream.continues(&orphan.opening) == Continues::PlainText
}

/// The decision, or a better one where the provider cannot go on from what is there.
fn suiting(node: &Node, orphan: &Orphan, decision: Decision, text: &[Arc<Batch>]) -> Decision {
    let chunks = || text.iter().flat_map(|batch| &batch.chunks);
    let kinds = chunks().map(|chunk: &Chunk| &chunk.kind);
    if !depends_on_text(node, orphan, decision) || prompt::is_plain(kinds) {
        return decision;
    }
    let used_tools = chunks().any(|chunk| chunk.kind == ChunkType::ToolUse);
    let orphan = Orphan { used_tools: orphan.used_tools || used_tools, ..orphan.clone() };
    policy::decide(&orphan, &node.settings, false, node.clock.wall())
}

/// Repeats a write until the store answers, with growing, jittered waits.
pub(super) async fn persist<T, F>(node: &Node, mut write: impl FnMut() -> F) -> Result<T, LogError>
where
    F: Future<Output = Result<T, LogError>>,
{
    let mut wait = Duration::from_millis(20);
    loop {
        match write().await {
            Err(LogError::Unavailable { retry }) => {
                tokio::time::sleep(node.ids.jitter(wait.max(retry))).await;
                wait = (wait * 2).min(MAX_RETRY);
            }
            answer => return answer,
        }
    }
}
