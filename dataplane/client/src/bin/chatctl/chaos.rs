//! `chatctl chaos`: break a playground under load and judge every device.

use crate::Global;
use crate::exit::Outcome;
use crate::output::{self, Paint, table};
use crate::token::duration;
use anyhow::Context as _;
use client::chaos::{ChaosOptions, ChaosReport, Fault, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::settings::TakeoverPolicy;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  make dev &                                    the playground to break
  chatctl chaos --answers 100                   all faults, seed 1
  chatctl chaos --duration 5m --seed 7 --report chaos.md
  chatctl chaos --answers 50 --faults kill,cut  only crashes and broken cables
  chatctl chaos --answers 20 --faults none      the same load in peace, for comparison
  CHAT_TAKEOVER=restart make dev                and then: chatctl chaos --policy restart
  STORES=redis make dev                         and then, in another terminal:
  chatctl chaos --answers 80 --faults cut,dup --lose-owners
                                                Redis comes back empty while owners are killed

With --lose-owners some answers cannot be saved: their owner and the store are gone in one moment.
Each of them must end for every device, as NOT_FOUND, as INTERRUPTED or after a RESET, and the report
counts how many ended how; all others must be whole. It needs a playground over Redis.

The same seed makes the same plan. Exit code 1 names what was lost, doubled, reordered or never
ended; answers are judged chunk by chunk against the text that the provider must have written.";

/// Kill, freeze and drain a playground's nodes under load; no chunk may be lost, doubled or reordered.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChaosArgs {
    /// So many answers [default: 100, or what fits into --duration]
    #[arg(long)]
    answers: Option<u64>,
    /// Start no answer after this time: 30s, 5m.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Devices that follow each answer, on different nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    devices: u16,
    /// Chooses what happens when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Answers at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    concurrency: u16,
    /// What may happen: kill,pause,drain,cut,stall,dup,cancel, over Redis also
    /// store-pause,store-pubsub,store-restart; or none.
    #[arg(long, default_value = "kill,pause,drain,cut,stall,dup,cancel", value_parser = faults)]
    faults: Faults,
    /// Also restart Redis empty while some nodes, but not all, are killed in the same moment. What is
    /// lost so must be told to every device; nothing else may be lost.
    #[arg(long)]
    lose_owners: bool,
    /// The playground's CHAT_TAKEOVER, which says what is allowed: RESET with restart, INTERRUPTED
    /// with fail, neither with continue.
    #[arg(long, default_value = "continue")]
    policy: Policy,
    /// Longest planned time of an answer.
    #[arg(long, default_value = "15s", value_parser = duration)]
    longest: Duration,
    /// An answer may take so much longer than planned.
    #[arg(long, default_value = "45s", value_parser = duration)]
    slack: Duration,
    /// Write the report there, as Markdown.
    #[arg(long, value_name = "FILE.md")]
    report: Option<PathBuf>,
}

#[derive(Clone)]
struct Faults(Vec<Fault>);

fn faults(text: &str) -> Result<Faults, String> {
    if text == "none" {
        return Ok(Faults(Vec::new()));
    }
    text.split(',').map(str::parse).collect::<Result<_, _>>().map(Faults)
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Policy {
    Continue,
    Restart,
    Fail,
}

pub(crate) async fn run(global: &Global, args: ChaosArgs) -> anyhow::Result<Outcome> {
    let front = global.url.first().context("--url is empty")?;
    let answers = args.answers.or(args.duration.is_none().then_some(100));
    let bar = bar(global, answers);
    let shown = bar.clone();
    let options = ChaosOptions {
        answers,
        duration: args.duration,
        devices: usize::from(args.devices),
        seed: args.seed,
        concurrency: usize::from(args.concurrency),
        faults: args
            .faults
            .0
            .into_iter()
            .chain(args.lose_owners.then_some(Fault::StoreLoss))
            .collect(),
        policy: match args.policy {
            Policy::Continue => TakeoverPolicy::Continue,
            Policy::Restart => TakeoverPolicy::Restart,
            Policy::Fail => TakeoverPolicy::Fail,
        },
        longest: args.longest,
        slack: args.slack,
        progress: Some(Arc::new(move |progress| show(&shown, progress))),
        ..ChaosOptions::new(front)
    };
    let report = Box::pin(client::chaos::run(options)).await?;
    bar.finish_and_clear();
    if let Some(file) = &args.report {
        let written = tokio::fs::write(file, report.markdown()).await;
        written.with_context(|| format!("cannot write {}", file.display()))?;
    }
    if global.json {
        output::json(&report)?
    } else {
        print(global, &report)?
    }
    Ok(if report.green { Outcome::Fine } else { Outcome::Red })
}

fn bar(global: &Global, answers: Option<u64>) -> ProgressBar {
    if global.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:30} {pos}/{len} answers · {msg} · {elapsed}";
    let bar = ProgressBar::new(answers.unwrap_or(0));
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_position(progress.ended);
    bar.set_message(format!("{} chunks · {} with problems", progress.chunks, progress.bad));
}

fn print(global: &Global, report: &ChaosReport) -> anyhow::Result<()> {
    let paint = Paint::stdout(global);
    let mut rows = vec![vec!["WHAT".to_owned(), "VALUE".to_owned()]];
    rows.extend(report.rows().into_iter().map(|(name, value)| vec![name, value]));
    let mut text = table(paint, &rows);
    let verdict = match report.green {
        true if report.lost_with_owner.is_some() => paint.green(
            "green: what was lost with its owner was told, nothing else was lost, doubled, reordered \
             or left open",
        ),
        true => paint.green("green: nothing was lost, doubled, reordered or left open"),
        false => paint.red(&format!("red: {}", report.red.join(", "))),
    };
    text.push_str(&verdict);
    text.push('\n');
    for problem in &report.verdict.problems {
        text.push_str(&paint.dim(&format!("  {problem}")));
        text.push('\n');
    }
    output::print(&text)
}
