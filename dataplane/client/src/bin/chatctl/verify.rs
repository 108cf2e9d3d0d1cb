//! `chatctl verify`: one message, read every way on every node.

use crate::exit::Outcome;
use crate::follow::message_id;
use crate::output::{self, Paint, table};
use crate::token::duration;
use crate::{Global, cluster};
use protocol::MessageId;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  chatctl verify 019…            WebSocket, SSE and GET on every node must agree
  chatctl verify 019… --json | jq .green";

/// Read one answer from every node over WebSocket, SSE and GET, and check that all agree.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// The message.
    #[arg(value_parser = message_id)]
    message_id: MessageId,
    /// How long to wait for the end of a running answer, each way.
    #[arg(long, default_value = "330s", value_parser = duration)]
    limit: Duration,
}

pub(crate) async fn run(global: &Global, args: VerifyArgs) -> anyhow::Result<Outcome> {
    let cluster = cluster::find(global).await?;
    let (http, urls, tokens) = (&cluster.http, &cluster.urls, &cluster.tokens);
    let reading = client::verify::run(http, urls, tokens, args.message_id, args.limit);
    let verified = Box::pin(reading).await?;
    if global.json {
        output::json(&verified)?;
    } else {
        let paint = Paint::stdout(global);
        let heading = ["URL", "WAY", "CHUNKS", "DIGEST", "PROBLEM"].map(str::to_owned);
        let mut rows = vec![heading.to_vec()];
        for reading in &verified.readings {
            rows.push(vec![
                reading.url.clone(),
                reading.way.to_owned(),
                reading.chunks.to_string(),
                reading.digest.clone().unwrap_or_else(|| "-".into()),
                reading.failure.clone().unwrap_or_default(),
            ]);
        }
        let mut text = table(paint, &rows);
        for problem in &verified.verdict.problems {
            text.push_str(&format!("{}\n", paint.red(problem)));
        }
        text.push_str(&match verified.green {
            true => paint.green("all agree\n"),
            false => paint.red("they do not agree\n"),
        });
        output::print(&text)?;
    }
    Ok(if verified.green { Outcome::Fine } else { Outcome::Red })
}
