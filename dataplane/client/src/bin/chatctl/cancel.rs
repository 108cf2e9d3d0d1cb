//! `chatctl cancel`: end an answer from anywhere.

use crate::exit::Outcome;
use crate::follow::message_id;
use crate::output::{self, Paint};
use crate::{Global, cluster};
use protocol::MessageId;
use serde_json::json;

/// Cancel a running answer, from any node. Cancelling one that has ended does nothing.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  chatctl cancel 019…\n  chatctl cancel 019… --json")]
pub(crate) struct CancelArgs {
    /// The message.
    #[arg(value_parser = message_id)]
    message_id: MessageId,
}

pub(crate) async fn run(global: &Global, args: CancelArgs) -> anyhow::Result<Outcome> {
    let cluster = cluster::find(global).await?;
    let id = args.message_id;
    cluster.on_any_node(|api| async move { api.cancel(id).await }).await?;
    if global.json {
        output::json(&json!({"messageId": id, "cancelled": true}))?;
    } else {
        eprintln!("{}", Paint::stderr(global).dim(&format!("{id}: cancelled")));
    }
    Ok(Outcome::Fine)
}
