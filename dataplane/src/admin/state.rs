//! What an operator may read of this node and of the others. Ids and numbers, never content.

use crate::api::interface::refusals::OfOperator;
use crate::api::{Refused, patiently};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use protocol::{Epoch, Incarnation, Index, MessageId, NodeName};
use serde::Serialize;
use std::sync::Arc;
use streamlog::{NodeRecord, Page, StreamLog};
use utoipa::ToSchema;

/// A live stream. Position and epoch are `null` while the log is away.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamView {
    message_id: MessageId,
    epoch: Option<Epoch>,
    tail: Option<Index>,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
}

/// Lists the live streams that this node owns.
#[utoipa::path(
    get, path = "/admin/streams", operation_id = "liveStreams", tag = "admin",
    responses((status = 200, description = "Live streams of this node", body = Vec<StreamView>), OfOperator),
    security((), ("adminKey" = [])),
)]
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

/// A node.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeView {
    name: NodeName,
    incarnation: Incarnation,
    alive: bool,
    accepting: bool,
    sessions: usize,
    streams: usize,
}

/// Lists every node that the store knows, as it last spoke.
#[utoipa::path(
    get, path = "/admin/nodes", operation_id = "nodes", tag = "admin",
    responses((status = 200, description = "Every node that the store knows", body = Vec<NodeView>), OfOperator),
    security((), ("adminKey" = [])),
)]
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
