//! npm's resumable-stream on the same Redis: a node program of its own, `peer/resume.mjs`. Where
//! node or npm is missing, or the packages cannot be had, the comparison is left out and said so.

use super::store::Store;
use crate::process::{Group, Stop};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Resumes of one kind in a round.
const SAMPLES: usize = super::resume::SAMPLES;

const PROGRAM: &str = include_str!("peer/resume.mjs");
const PACKAGE: &str = include_str!("peer/package.json");
const LOCK: &str = include_str!("peer/package-lock.json");

/// The program with its packages.
pub(super) struct Peer {
    folder: PathBuf,
}

#[derive(Deserialize)]
struct Measured {
    /// Milliseconds.
    times: Vec<f64>,
}

/// What it does when the producing process is killed in the middle of an answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Killed {
    /// What becomes of somebody who reads.
    pub(super) reader: String,
    /// What a resume gives afterwards, and after how long.
    pub(super) resumed: String,
    pub(super) after_ms: f64,
}

impl Peer {
    /// Installs its packages into a folder of its own; the error says why there is no comparison.
    pub(super) fn install(folder: &Path, stop: &Stop) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let files =
            [("resume.mjs", PROGRAM), ("package.json", PACKAGE), ("package-lock.json", LOCK)];
        for (name, text) in files {
            std::fs::write(folder.join(name), text)?;
        }
        let mut command = Command::new("npm");
        command.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
        command.stdout(Stdio::null());
        let status = Group::spawn("npm", &mut command)?.wait(stop)?;
        if !status.success() {
            bail!("npm ci: {status}");
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Microseconds of resumes one at a time.
    pub(super) fn lone(&self, store: &Store, stop: &Stop) -> Result<Vec<f64>> {
        self.times(store, "lone", SAMPLES, stop)
    }

    /// The same of so many at the same moment, to the last byte of each.
    pub(super) fn at_once(&self, store: &Store, count: usize, stop: &Stop) -> Result<Vec<f64>> {
        self.times(store, "at-once", count, stop)
    }

    pub(super) fn killed(&self, store: &Store, stop: &Stop) -> Result<Killed> {
        self.run(store, "killed", 1, stop)
    }

    fn times(&self, store: &Store, mode: &str, count: usize, stop: &Stop) -> Result<Vec<f64>> {
        let measured: Measured = self.run(store, mode, count, stop)?;
        Ok(measured.times.into_iter().map(|ms| ms * 1e3).collect())
    }

    fn run<T: DeserializeOwned>(
        &self,
        store: &Store,
        mode: &str,
        count: usize,
        stop: &Stop,
    ) -> Result<T> {
        let mut command = Command::new("node");
        command.arg("resume.mjs").arg(store.address.to_string()).arg(format!("peer-{mode}"));
        command.arg(mode).arg(count.to_string()).current_dir(&self.folder).stdout(Stdio::piped());
        let mut program = Group::spawn("resume.mjs", &mut command)?;
        // One line, shorter than a pipe holds: it ends before it is read.
        let mut out = program.stdout()?;
        let status = program.wait(stop)?;
        if !status.success() {
            bail!("resume.mjs {mode}: {status}");
        }
        let mut line = String::new();
        out.read_to_string(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("resume.mjs {mode} said {line:?}"))
    }
}
