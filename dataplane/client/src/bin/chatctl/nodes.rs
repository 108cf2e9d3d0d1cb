//! `chatctl nodes`: who serves, who drains, who is dead.

use crate::exit::Outcome;
use crate::output::{self, Paint, table};
use crate::{Global, cluster};
use anyhow::Context as _;
use protocol::dev::{DevNode, NodePhase};
use serde_json::Value;

/// Show the playground's nodes.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  chatctl nodes\n  chatctl nodes --json | jq -r '.[].baseUrl'")]
pub(crate) struct NodesArgs {}

pub(crate) async fn run(global: &Global, _: NodesArgs) -> anyhow::Result<Outcome> {
    let found = cluster::playground(global).await?;
    let (_, nodes) = found.context("--url names no playground: GET /dev/nodes does not answer")?;
    if global.json {
        output::json(&nodes)?;
        return Ok(Outcome::Fine);
    }
    let heading = ["NAME", "PHASE", "SESSIONS", "STREAMS", "URL"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(nodes.iter().map(row));
    let paint = Paint::stdout(global);
    output::print(&table(paint, &rows))?;
    Ok(Outcome::Fine)
}

fn row(node: &DevNode) -> Vec<String> {
    vec![
        node.name.clone(),
        phase(node.phase),
        node.sessions.to_string(),
        node.streams.to_string(),
        node.base_url.clone(),
    ]
}

/// The name on the wire.
pub(crate) fn phase(phase: NodePhase) -> String {
    match serde_json::to_value(phase) {
        Ok(Value::String(name)) => name,
        _ => format!("{phase:?}"),
    }
}
