//! Automation of this repository. `cargo xtask --help` lists the commands; the Makefile calls them.
//! Only the command line lives here, each command has a file of its own.

mod bench;
mod chaos;
mod document;
mod playground;
mod process;
mod stores;
mod teeth;
mod tidy;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Automation of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the house rules (also a test of `cargo test`)
    Tidy,
    /// Crash and drain the playground's nodes under load; the oracle is the client's transcript
    Chaos(chaos::Args),
    /// Show that each deliberate bug is caught by the chaos suite
    Teeth(teeth::Args),
    /// Measure the data plane against a floor program in the same run
    Bench(bench::Args),
    /// The floor: one loop of blocking writes. Started by `bench`
    #[command(hide = true)]
    BenchFloor(bench::floor::Args),
    /// A relay that copies bytes. Started by `bench`
    #[command(hide = true)]
    BenchRelay(bench::relay::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match &command {
        Command::BenchFloor(args) => {
            return bench::floor::run(args).map(|()| ExitCode::SUCCESS);
        }
        Command::BenchRelay(args) => {
            return bench::relay::run(args).map(|()| ExitCode::SUCCESS);
        }
        _ => {}
    }
    // Paths in arguments and reports are relative to the repository, wherever this was called.
    std::env::set_current_dir(root()).context("entering the repository")?;
    match command {
        Command::Tidy => tidy::run(),
        Command::Chaos(args) => chaos::run(&args),
        Command::Teeth(args) => teeth::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchFloor(_) | Command::BenchRelay(_) => Ok(ExitCode::SUCCESS),
    }
}

/// The repository's top folder.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}
