//! `chatctl follow`: join an answer from here, running or finished.

use crate::Global;
use crate::answer::Screen;
use crate::cluster;
use crate::exit::Outcome;
use client::recorder::Recorder;
use client::session::Session;
use protocol::{Index, MessageId};

const EXAMPLES: &str = "\
Examples:
  chatctl follow 019…                 from the beginning
  chatctl follow 019… --from 120      without the first 120 chunks
  chatctl follow 019… --json          one line per event";

/// Follow an answer from another device: what was missed first, then live.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FollowArgs {
    /// The message, as `chatctl chat` shows it at its end.
    #[arg(value_parser = message_id)]
    message_id: MessageId,
    /// First index wanted.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Seed of the reconnect jitter.
    #[arg(long)]
    seed: Option<u64>,
}

/// Reads a message's id from the command line.
pub(crate) fn message_id(text: &str) -> Result<MessageId, String> {
    MessageId::parse(text).ok_or_else(|| "a UUID is needed".to_owned())
}

pub(crate) async fn run(global: &Global, args: FollowArgs) -> anyhow::Result<Outcome> {
    let cluster = cluster::find(global).await?;
    let rng = cluster::rng(args.seed);
    let tokens = cluster.tokens.clone();
    let mut session = Session::new(cluster.options(), tokens, rng, Recorder::default());
    session.follow(args.message_id, Index(args.from));
    let shown = Screen::new(global).show(&mut session, Some(args.message_id)).await;
    session.close().await;
    shown.map(|shown| shown.outcome)
}
