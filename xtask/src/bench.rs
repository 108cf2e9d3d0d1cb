//! placeholder for now
pub(crate) mod floor;
use anyhow::Result;
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_: &Args) -> Result<std::process::ExitCode> {
    anyhow::bail!("soon")
}
