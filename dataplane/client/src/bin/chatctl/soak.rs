//! `chatctl soak`: sockets that stay, answers back to back, judged by phase.

use crate::exit::{Outcome, Usage};
use crate::output::{self, Paint, table};
use crate::token::duration;
use crate::{Global, cluster};
use client::soak::{Command, PhaseReport, Progress, SoakOptions, SoakReport};
use indicatif::ProgressBar;
use protocol::sim::Directive;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;

/// Commands that wait to be obeyed.
const COMMANDS: usize = 16;

const EXAMPLES: &str = "\
Examples:
  chatctl soak --duration 60s                       200 sockets for a minute, half of them basic
  (sleep 30; echo phase rollout; kubectl apply -f new.yaml; sleep 90; echo end) |
    chatctl --url http://chat.example.com soak      phases are named on standard input
  chatctl soak --sockets 50 --basic 0 --json < phases | jq .phases[].gapMs.v1.p99

Standard input, line by line: `phase NAME` begins a phase, `end` (or its end) asks nothing more and lets
what runs come to its end. With --duration standard input is not read.

An answer is judged chunk by chunk. RESETs and INTERRUPTED are told to the client, so they are counted and
are no fault; exit code 1 means that something was lost, doubled, reordered, wrong, or hung.";

/// Hold sockets open, each with one answer after the other; nothing may be lost, doubled or reordered.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SoakArgs {
    /// So many sockets.
    #[arg(long, default_value_t = 200)]
    sockets: usize,
    /// Of a hundred so many speak dialect basic.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    basic: u8,
    /// Sockets that begin in a second.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// What the simulated provider writes.
    #[arg(long, default_value = "[sim tokens=200 rate=20]")]
    directive: String,
    /// Ask for this long: 60s, 5m.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// An answer may take so much longer than planned; then it hangs.
    #[arg(long, default_value = "60s", value_parser = duration)]
    slack: Duration,
    /// Seed of request ids and jitter.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) async fn run(global: &Global, args: SoakArgs) -> anyhow::Result<Outcome> {
    let directive = Directive::parse(&args.directive);
    let directive = directive.map_err(|error| Usage(format!("--directive: {error}")))?;
    let cluster = cluster::find(global).await?;
    let planned = directive.tokens.checked_div(u64::from(directive.rate)).unwrap_or(0);
    let bar = if global.json || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner()
    };
    let (shown, json) = (bar.clone(), global.json);
    let options = SoakOptions {
        urls: cluster.urls.clone(),
        tokens: client::token::TokenSource::Fixed(cluster.tokens.token().await?),
        sockets: args.sockets,
        basic_percent: usize::from(args.basic),
        rate: args.rate,
        answer_within: Duration::from_secs(planned) + args.slack,
        directive,
        prompt: args.directive,
        seed: args.seed.unwrap_or_else(|| rand::Rng::random(&mut rand::rng())),
        progress: Some(Arc::new(move |progress| show(&shown, json, &progress))),
    };
    let (commands, heard) = mpsc::channel(COMMANDS);
    let told = async move {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => listen(&commands).await,
        }
        drop(commands);
    };
    let (report, ()) = tokio::join!(Box::pin(client::soak::run(options, heard)), told);
    bar.finish_and_clear();
    if global.json {
        output::json(&report)?
    } else {
        print(global, &report)?
    }
    Ok(if report.total.is_clean() { Outcome::Fine } else { Outcome::Red })
}

/// Lines that are no command are told and left.
async fn listen(commands: &mpsc::Sender<Command>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let command = match line.trim().split_once(' ') {
            Some(("phase", name)) => Command::Phase(name.trim().to_owned()),
            None if line.trim() == "end" => return,
            None if line.trim().is_empty() => continue,
            _ => {
                eprintln!("chatctl soak: {line:?} is neither `phase NAME` nor `end`");
                continue;
            }
        };
        if commands.send(command).await.is_err() {
            return;
        }
    }
}

fn show(bar: &ProgressBar, json: bool, progress: &Progress) {
    let Progress { phase, answers, bad, reconnects } = progress;
    let text = format!("{phase}: {answers} answers, {bad} bad, {reconnects} reconnects");
    bar.set_message(text.clone());
    bar.tick();
    if json {
        eprintln!("{text}");
    }
}

fn print(global: &Global, report: &SoakReport) -> anyhow::Result<()> {
    let paint = Paint::stdout(global);
    let heading = [
        "PHASE",
        "SECONDS",
        "ANSWERS",
        "LOST",
        "TWICE",
        "REORDERED",
        "WRONG",
        "HUNG",
        "RESETS",
        "INTERRUPTED",
        "RECONNECTS",
        "GAP P99 V1",
        "BASIC",
    ];
    let row = |one: &PhaseReport| {
        let counts = [
            one.answers,
            one.lost,
            one.twice,
            one.reordered,
            one.wrong,
            one.hung,
            one.resets,
            one.interrupted,
            one.reconnects,
        ];
        let mut row = vec![one.name.clone(), format!("{:.0}", one.seconds)];
        row.extend(counts.map(|count| count.to_string()));
        row.extend([one.gap_ms.v1, one.gap_ms.basic].map(|gap| format!("{:.0} ms", gap.p99)));
        row
    };
    let rows = report.phases.iter().chain([&report.total]).map(row);
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect();
    let mut text = table(paint, &rows);
    for problem in &report.total.problems {
        text.push_str(&paint.red(&format!("  {problem}\n")));
    }
    for (code, times) in &report.total.refused {
        text.push_str(&format!("  refused and tried again: {times} × {code}\n"));
    }
    output::print(&text)
}
