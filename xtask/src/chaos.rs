//! `cargo xtask chaos`: a playground of its own on a free port, and `chatctl chaos` against it.

use crate::document;
use crate::playground::{Options, Playground};
use crate::process::{Group, Stop, cargo, foreground};
use crate::stores::Stores;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Answers to run through kills, pauses and drains
    #[arg(long, default_value_t = 1_000)]
    answers: u64,
    /// Chooses what happens when; the same seed makes the same plan
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes in one process over the memory engine, or processes over a Redis that is disturbed too
    #[arg(long, env = "STORES", default_value = "memory")]
    stores: Stores,
    /// Write the result into this document, between its markers
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// One `chatctl chaos` with a playground to itself.
struct Run {
    stores: Stores,
    answers: u64,
    /// What it is given besides.
    arguments: &'static [&'static str],
    /// Name of its part of the document.
    part: String,
}

/// What may happen over Redis and must cost nothing.
const FAULTS_OVER_REDIS: &str =
    "kill,pause,drain,cut,stall,dup,cancel,store-pause,store-pubsub,store-restart";
/// What devices do while owners are lost.
const FAULTS_OF_DEVICES: &str = "cut,stall,dup,cancel";

fn runs(args: &Args) -> Vec<Run> {
    let (stores, answers) = (args.stores, args.answers);
    let part = stores.part("chaos");
    match stores {
        Stores::Memory => vec![Run { stores, answers, arguments: &[], part }],
        Stores::Redis => vec![
            Run {
                stores,
                answers,
                arguments: &["--faults", FAULTS_OVER_REDIS],
                part: part.clone(),
            },
            Run {
                stores,
                answers: answers.div_ceil(2),
                arguments: &["--faults", FAULTS_OF_DEVICES, "--lose-owners"],
                part: format!("{part}, owners lost"),
            },
        ],
    }
}

/// Succeeds when every answer arrived complete, once and in order; over Redis also, in a second run,
/// when what is lost together with its owner is told to every device.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let stop = Stop::install()?;
    foreground(cargo().args(["build", "--workspace", "--bin", "dataplane", "--bin", "chatctl"]))?;
    let mut outcome = Ok(ExitCode::SUCCESS);
    for run in runs(args) {
        // A red run does not spare the next one.
        outcome = outcome.and(run_one(args, &run, &stop));
        stop.check()?;
    }
    outcome
}

fn run_one(args: &Args, run: &Run, stop: &Stop) -> Result<ExitCode> {
    let binaries = binaries()?;
    let options = Options {
        binary: &binaries.join("dataplane"),
        nodes: 3,
        coalesce_ms: None,
        stores: run.stores.as_str(),
        upstream_url: None,
        log: binaries.join("chaos.log"),
    };
    let playground = Playground::start(options, stop)?;
    eprintln!("chaos: playground at {}", playground.url());
    let written = binaries.join("chaos.md");
    // Of an earlier run; it must not pass for this one's.
    let _ = std::fs::remove_file(&written);
    let mut command = Command::new(binaries.join("chatctl"));
    command.args(["chaos", "--url", &playground.url()]);
    command.args(["--answers", &run.answers.to_string(), "--seed", &args.seed.to_string()]);
    command.arg("--report").arg(&written).args(run.arguments);
    let status = Group::spawn("chatctl", &mut command)?.wait(stop)?;
    if let (Some(path), Ok(result)) = (&args.report, std::fs::read_to_string(&written)) {
        let target = run.stores.part("chaos");
        let how = format!("make {target} ANSWERS={} SEED={}", args.answers, args.seed);
        let text = format!("{}\n\n{}", document::circumstances(&how), document::as_part(&result));
        document::write_part_of(path, &target, &run.part, &text)?;
    }
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(playground.with_log(anyhow::anyhow!("chatctl chaos: {status}")))
}

/// The folder of the debug binaries: where this one is.
fn binaries() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    me.parent().map(Path::to_owned).context("this program has no folder")
}
