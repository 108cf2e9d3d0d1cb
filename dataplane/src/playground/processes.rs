//! Nodes as processes of their own: `dataplane run` with generated files in a private folder, and
//! signals for what `/dev` asks. None outlives this process, however it ends.

use super::call_files::CallFiles;
use super::child::Child;
use super::fleet::Shared;
use super::life::{Life, World};
use super::member::Place;
use super::redis::{RedisSwitch, RedisTask};
use crate::config::file;
use async_trait::async_trait;
use protocol::dev::UpstreamCall;
use protocol::settings::{Node, Redis, Store};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::process::Command;

/// What a node process gets of this one's environment; everything else it is told.
const PASSED_ON: [&str; 6] =
    ["PATH", "TMPDIR", "NO_COLOR", "RUST_BACKTRACE", "CHAT_BUG", "LLVM_PROFILE_FILE"];
/// A killed node is no news here; the terminal stays calm unless somebody asks.
const LOG_LEVEL: &str = "warn";

/// A private folder, a Redis where asked for, and processes over it.
pub(super) struct Processes {
    shared: Shared,
    program: PathBuf,
    folder: TempDir,
    calls: Arc<CallFiles>,
    wants_redis: bool,
    redis: Mutex<Option<RedisTask>>,
    boots: AtomicU64,
}

impl Processes {
    pub(super) fn new(shared: Shared, program: PathBuf, wants_redis: bool) -> io::Result<Self> {
        Ok(Self {
            shared,
            program,
            folder: tempfile::Builder::new().prefix("chatcluster-").tempdir()?,
            calls: Arc::default(),
            wants_redis,
            redis: Mutex::new(None),
            boots: AtomicU64::new(0),
        })
    }

    fn redis_url(&self) -> Option<String> {
        let redis = self.redis.lock().unwrap_or_else(PoisonError::into_inner);
        redis.as_ref().map(|redis| redis.url().to_owned())
    }

    /// The file that the node reads: the fleet's settings, its own ports, the common store.
    fn write_config(&self, place: &Place) -> io::Result<PathBuf> {
        let mut settings = self.shared.settings.clone();
        settings.node = Node {
            name: Some(place.name.to_string()),
            data_address: place.data.address(),
            admin_address: place.admin.address(),
            open_admin: true,
        };
        settings.store = match self.redis_url() {
            Some(url) => Store::Redis(Redis { url, ..Redis::default() }),
            None => Store::Memory,
        };
        let path = self.folder.path().join(format!("{}.yaml", place.name));
        std::fs::write(&path, file::write(&settings).map_err(io::Error::other)?)?;
        Ok(path)
    }

    fn command(&self, config: &Path, calls: &Path) -> Command {
        let key = |keys: &[Vec<u8>]| -> OsString {
            OsStr::from_bytes(keys.first().map_or(&[][..], Vec::as_slice)).to_owned()
        };
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--config").arg(config).arg("--calls").arg(calls);
        command.arg("--exit-with-stdin");
        command
            .env_clear()
            .env("RUST_LOG", std::env::var_os("RUST_LOG").unwrap_or(LOG_LEVEL.into()));
        command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.env("CHAT_JWT_SECRET", key(&self.shared.keys.jwt));
        command.env("CHAT_RESUME_SECRET", key(&self.shared.keys.resume));
        command.envs(self.shared.provider_keys.variables());
        // Ctrl-C on the terminal is for this process, which then ends the nodes.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command
    }
}

#[async_trait]
impl World for Processes {
    async fn begin(&self) -> io::Result<()> {
        if self.wants_redis {
            let redis = RedisTask::start().await?;
            *self.redis.lock().unwrap_or_else(PoisonError::into_inner) = Some(redis);
        }
        Ok(())
    }

    async fn boot(&self, place: &Place) -> io::Result<Arc<dyn Life>> {
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        let calls = self.folder.path().join(format!("calls-{}-{boot}.jsonl", place.name));
        let config = self.write_config(place)?;
        self.calls.add(calls.clone());
        let (files, file) = (self.calls.clone(), calls.clone());
        let ended = move || files.ended(&file);
        let admin = place.admin.address();
        let child = Child::start(self.command(&config, &calls), admin, ended).await?;
        Ok(Arc::new(child))
    }

    fn calls(&self) -> Vec<UpstreamCall> {
        self.calls.list()
    }

    fn redis(&self) -> Option<RedisSwitch> {
        let redis = self.redis.lock().unwrap_or_else(PoisonError::into_inner);
        redis.as_ref().map(RedisTask::switch)
    }

    async fn end(&self) {
        let redis = self.redis.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(redis) = redis {
            redis.end().await;
        }
    }
}
