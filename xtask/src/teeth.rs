//! `cargo xtask teeth`: the chaos suite against a build with the deliberate bugs compiled in. Each
//! bug must turn it red, or the suite proves nothing.

use crate::process::{cargo, foreground};
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the table of bugs and what caught them into this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs the teeth tests; their failure is this command's.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--features", "dataplane/bugs"]);
    command.args(["--test", "integration", "teeth_", "--", "--nocapture"]);
    if let Some(report) = &args.report {
        // Tests run in their package's folder, so the path must be absolute.
        command.env("TEETH_REPORT", std::path::absolute(report)?);
    }
    foreground(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
