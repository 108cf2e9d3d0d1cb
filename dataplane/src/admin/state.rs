//! What an operator may read of this node and of the others. Ids and numbers, never content.

use crate::api::{Refused, patiently};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use protocol::{Epoch, Incarnation, Index, MessageId, NodeName};
use serde::Serialize;
use std::sync::Arc;
use streamlog::{NodeRecord, Page, StreamLog};

/// One of `GET /admin/streams`. Position and epoch are `null` while the log is away.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamView {
    message_id: MessageId,
    epoch: Option<Epoch>,
    tail: Option<Index>,
    started_at: Option<Timestamp>,
}

/// `GET /admin/streams`: live streams that this node owns.
pub(super) async fn streams(
    State(node): State<Arc<Node>>,
) -> Result<Json<Vec<StreamView>>, Refused> {
    let mut ids = node.streams.ids();
    ids.sort();
    let mut views = Vec::with_capacity(ids.len());
    for message_id in ids {
        // Own streams are read from this node's memory.
        let page = patiently(node.log.read(message_id, Index::ZERO, 1)).await.ok();
        views.push(StreamView::new(message_id, page.as_ref()));
    }
    Ok(Json(views))
}

impl StreamView {
    fn new(message_id: MessageId, page: Option<&Page>) -> Self {
        Self {
            message_id,
            epoch: page.map(|page| page.head.epoch),
            tail: page.map(|page| page.head.tail),
            started_at: page.map(|page| page.opening.started_at),
        }
    }
}

/// One of `GET /admin/nodes`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeView {
    name: NodeName,
    incarnation: Incarnation,
    alive: bool,
    accepting: bool,
    sessions: usize,
    streams: usize,
}

/// `GET /admin/nodes`: every node the store knows, as it last spoke.
pub(super) async fn nodes(State(node): State<Arc<Node>>) -> Result<Json<Vec<NodeView>>, Refused> {
    let nodes = patiently(node.directory.nodes()).await?;
    Ok(Json(nodes.into_iter().map(NodeView::from).collect()))
}

impl From<NodeRecord> for NodeView {
    fn from(record: NodeRecord) -> Self {
        Self {
            name: record.owner.node,
            incarnation: record.owner.incarnation,
            alive: record.alive,
            accepting: record.alive && record.stats.accepting,
            sessions: record.stats.sessions,
            streams: record.stats.streams,
        }
    }
}
