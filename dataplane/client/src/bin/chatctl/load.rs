//! `chatctl load`: many users, one answer each.

use crate::exit::{Outcome, Usage};
use crate::output::{self, Paint, table};
use crate::token::duration;
use crate::{Global, cluster};
use client::load::{LoadOptions, LoadReport, MIN_CHUNKS, Percentiles, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::sim::Directive;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

/// An answer may take so much longer than its directive says.
const SPARE: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  chatctl load --users 200 --rate 20
  chatctl load --users 2000 --rate 100 --directive '[sim tokens=50 rate=25]'
  chatctl load --users 500 --duration 60s --json | jq .completeMs
  chatctl load --users 39375 --rate 100             8 minutes: 2 up, 5 level, 1 down

Users come at a rate that rises from a tenth to --rate, stays, and falls again. Each connects
(WELCOME within 5 s), asks once, reads at least 10 chunks (within 30 s) and the end, and leaves.
A user counts as a success only if every chunk came once, in order, and the digest fits.";

/// Let users come at a ramping rate; each asks once and reads the whole answer.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LoadArgs {
    /// So many users in all.
    #[arg(long, default_value_t = 100)]
    users: u64,
    /// New users a second at the height.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Spread the arrivals over this time instead: 60s, 5m.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// What the simulated provider writes.
    #[arg(long, default_value = "[sim tokens=40 rate=20]")]
    directive: String,
    /// Exit with 1 below this share of successes, in per cent.
    #[arg(long, default_value_t = 100.0)]
    min_success: f64,
    /// Seed of request ids; ids are kept for a day, so that the same seed finds the same answers.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) async fn run(global: &Global, args: LoadArgs) -> anyhow::Result<Outcome> {
    if args.rate <= 0.0 {
        return Err(Usage("--rate must be above 0".into()).into());
    }
    let directive = Directive::parse(&args.directive);
    let directive = directive.map_err(|error| Usage(format!("--directive: {error}")))?;
    if directive.tokens < MIN_CHUNKS {
        let text =
            format!("--directive: at least {MIN_CHUNKS} tokens are needed to judge an answer");
        return Err(Usage(text).into());
    }
    let cluster = cluster::find(global).await?;
    // One token for all users, asked for once.
    let tokens = client::token::TokenSource::Fixed(cluster.tokens.token().await?);
    let bar = bar(global, args.users);
    let shown = bar.clone();
    let planned = directive.tokens.checked_div(u64::from(directive.rate)).unwrap_or(0);
    let silent = directive.pause.map_or(0, |pause| pause.1) + directive.ttft_ms;
    let options = LoadOptions {
        urls: cluster.urls.clone(),
        tokens,
        users: args.users,
        rate: args.rate,
        duration: args.duration,
        directive: args.directive,
        answer_within: Duration::from_secs(planned) + Duration::from_millis(silent) + SPARE,
        seed: args.seed.unwrap_or_else(|| rand::Rng::random(&mut rand::rng())),
        progress: Some(Arc::new(move |progress| show(&shown, progress))),
    };
    let report = Box::pin(client::load::run(options)).await;
    bar.finish_and_clear();
    if global.json {
        output::json(&report)?
    } else {
        print(global, &report)?
    }
    let enough = report.users > 0 && report.success_percent >= args.min_success;
    Ok(if enough { Outcome::Fine } else { Outcome::Red })
}

fn bar(global: &Global, users: u64) -> ProgressBar {
    if global.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:30} {pos}/{len} users · {msg} · {elapsed}";
    let bar = ProgressBar::new(users);
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_position(progress.ended);
    let active = progress.started - progress.ended;
    let (chunks, failed) = (progress.chunks, progress.failed);
    bar.set_message(format!("{active} active · {chunks} chunks · {failed} failed"));
}

fn print(global: &Global, report: &LoadReport) -> anyhow::Result<()> {
    let paint = Paint::stdout(global);
    let heading = ["MILLISECONDS", "P50", "P90", "P99", "MAX"].map(str::to_owned);
    let row = |name: &str, times: Percentiles| {
        let times = [times.p50, times.p90, times.p99, times.max];
        let mut row = vec![name.to_owned()];
        row.extend(times.map(|time| format!("{time:.1}")));
        row
    };
    let mut text = table(
        paint,
        &[
            heading.to_vec(),
            row("welcome", report.welcome_ms),
            row("first chunk", report.first_chunk_ms),
            row("complete", report.complete_ms),
        ],
    );
    let percent = format!("{:.2} % of {} users", report.success_percent, report.users);
    let whole = report.succeeded == report.users;
    let percent = if whole { paint.green(&percent) } else { paint.red(&percent) };
    text.push_str(&format!(
        "{percent} · {} chunks · {:.0} chunks/s · {:.1} s · at most {} at once\n",
        report.chunks, report.chunks_per_second, report.seconds, report.most_at_once
    ));
    for (why, times) in &report.failures {
        text.push_str(&paint.red(&format!("  {times} × {why}\n")));
    }
    if report.late > 0 {
        let late = format!("  {} users came late: the generator was short of CPU\n", report.late);
        text.push_str(&paint.yellow(&late));
    }
    output::print(&text)
}
