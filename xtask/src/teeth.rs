//! `cargo xtask teeth`: the chaos suite against a build with the deliberate bugs compiled in. Each
//! bug must turn it red, or the suite proves nothing.

use crate::document;
use crate::process::{cargo, foreground};
use crate::stores::Stores;
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Over which engine: memory, or a real redis-server for each scenario
    #[arg(long, env = "STORES", default_value = "memory")]
    stores: Stores,
    /// Write the table of bugs and what caught them into this document, between its markers
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs the teeth tests; their failure is this command's.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let written = std::env::current_exe()?.with_file_name("teeth.md");
    // Of an earlier run; it must not pass for this one's.
    let _ = std::fs::remove_file(&written);
    let mut command = cargo();
    command.args(["test", "--workspace", "--features", "dataplane/bugs"]);
    // The bug switch is one for the process: the teeth of one engine are one test.
    let tests = format!("teeth_{}", args.stores.as_str());
    command.args(["--test", "integration", &tests, "--", "--nocapture"]);
    command.env("TEETH_REPORT", &written);
    let outcome = foreground(&mut command);
    if let Some(path) = &args.report {
        match std::fs::read_to_string(&written) {
            Ok(result) => {
                let part = args.stores.part("teeth");
                let head = document::circumstances(&format!("make {part}"));
                let text = format!("{head}\n\n{}", document::as_part(&result));
                document::write_part(path, &part, &text)?;
            }
            // Tests that failed may not have come so far; their failure says more.
            Err(error) if outcome.is_ok() => {
                return Err(error).context("the teeth tests wrote no TEETH_REPORT");
            }
            Err(_) => {}
        }
    }
    outcome.map(|()| ExitCode::SUCCESS)
}
