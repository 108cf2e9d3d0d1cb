//! How a producer comes to its stream: it opens a new one or claims one without an owner, and repeats
//! that until the store answers.

use super::outcome::Outcome;
use super::policy::Decision;
use super::producer::Producer;
use crate::node::Node;
use protocol::server_frame::TakeoverMode;
use protocol::{ErrorCode, SealStatus};
use std::sync::Arc;
use std::time::Duration;
use streamlog::directory::Claim;
use streamlog::{Keep, LogError, Opened, Opening, Orphan, StreamLog};
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
    let mut producer = Producer::new(node.clone(), opening, epoch);
    producer.count_answer().await;
    // Nobody was told and nobody can ask again: an answer that no one will ever follow.
    let unwanted = !heard && producer.opening.request_id.is_none();
    Some((producer, unwanted.then_some(Outcome::Cancelled)))
}

pub(super) async fn claim(
    node: &Arc<Node>,
    orphan: &Orphan,
    decision: Decision,
) -> Option<(Producer, Option<Outcome>)> {
    let (keep, mode, ended) = match decision {
        Decision::TakeOver { keep, mode } => (keep, mode, None),
        Decision::End { status: SealStatus::Cancelled, .. } => {
            (Keep::Tail, TakeoverMode::Finish, Some(Outcome::Cancelled))
        }
        Decision::End { code, .. } => {
            let code = code.unwrap_or(ErrorCode::Interrupted);
            (Keep::Tail, TakeoverMode::Fail, Some(Outcome::Failed(code)))
        }
    };
    let claim = Claim { stream: orphan.stream, expected: orphan.epoch, keep, mode };
    let claimed = persist(node, || node.directory.claim(&claim, &node.owner)).await.ok()?;
    node.metrics.took_over(mode);
    let epoch = claimed.head.epoch;
    let batches = persist(node, || node.log.adopt(orphan.stream, epoch)).await.ok()?;
    let mut producer = Producer::new(node.clone(), claimed.opening, epoch);
    producer.resume(&batches);
    Some((producer, ended))
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
