//! One connection to Redis that comes back by itself, with timeouts, retries and the breaker.
//!
//! An engine has two of them, so that a long answer on the reading one holds up no append, and a
//! third kind for hints ([`super::inbox`]).

use super::RedisConfig;
use super::breaker::Breaker;
use super::runs::{Run, Runs};
use super::scripts::Scripts;
use super::stats::{Counters, add};
use crate::error::LogError;
use backon::{ExponentialBuilder, Retryable as _};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ServerErrorKind, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// Calls that may wait to be written to one connection.
const QUEUE: usize = 4_096;
/// Bytes gathered before a write: a pipeline is one write, however long.
const WRITE_AT_ONCE: usize = 1 << 20;
/// When a caller should try again after a failure.
pub(super) const RETRY: Duration = Duration::from_millis(100);
/// A broken connection is made anew and the call repeated this often, at once and then later.
const RETRIES: usize = 2;
const FIRST_RETRY: Duration = Duration::from_millis(5);

/// The answer for everything that went wrong between here and Redis.
pub(super) const AWAY: LogError = LogError::Unavailable { retry: RETRY };

/// What all links of an engine share.
#[derive(Clone)]
pub(super) struct Shore {
    pub(super) client: redis::Client,
    pub(super) config: RedisConfig,
    pub(super) scripts: Scripts,
    pub(super) breaker: Arc<Breaker>,
    pub(super) counters: Arc<Counters>,
    pub(super) runs: Runs,
}

impl Shore {
    pub(super) fn connection_config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_timeout))
            .set_response_timeout(Some(self.config.response_timeout))
            .set_pipeline_buffer_size(QUEUE)
            .set_write_backpressure_boundary(WRITE_AT_ONCE)
    }

    /// A connection with every script loaded, and the run of the server at its other end.
    async fn connect(self) -> Result<Arc<Connected>, LogError> {
        let config = self.connection_config();
        let connect = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connect.await.map_err(|_| AWAY)?;
        let mut setup = redis::Pipeline::new();
        setup.cmd("INFO").arg("server");
        self.scripts.load(&mut setup);
        let answers = connection.send_packed_commands(&setup, 0, setup.len()).await;
        let answers = answers.map_err(|_| AWAY)?;
        if answers.iter().any(|answer| matches!(answer, Value::ServerError(_))) {
            return Err(AWAY);
        }
        let run = answers.first().and_then(run_of).ok_or(AWAY)?;
        self.runs.saw(run);
        add(&self.counters.connects, 1);
        Ok(Arc::new(Connected { connection, run: run.id }))
    }
}

/// The server's own `run_id` is 40 hexadecimal digits; 32 of them are enough to tell runs apart.
fn run_of(info: &Value) -> Option<Run> {
    let text = match info {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    let field = |name: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.next().map(str::trim)
    };
    let number = |name: &str| field(name)?.parse::<i64>().ok();
    let id = Uuid::try_parse(field("run_id")?.get(..32)?).ok()?;
    let age = number("uptime_in_seconds").unwrap_or_default();
    let now = number("server_time_usec").map(|time| time / 1_000_000);
    let began = now.and_then(|now| Timestamp::from_second(now - age).ok());
    Some(Run { id, began, age: Duration::from_secs(age.unsigned_abs()) })
}

struct Connected {
    connection: MultiplexedConnection,
    run: Uuid,
}

type Connecting = Shared<BoxFuture<'static, Result<Arc<Connected>, LogError>>>;

enum Place {
    Away,
    Connecting(Connecting),
    Here(Arc<Connected>),
}

/// See the module.
pub(super) struct Link {
    shore: Shore,
    place: Mutex<Place>,
}

/// How a pipeline failed.
enum Failure {
    /// The connection broke: it is known not to have been answered, not that it was not applied.
    Broken,
    Other,
}

impl Link {
    pub(super) fn new(shore: Shore) -> Self {
        Self { shore, place: Mutex::new(Place::Away) }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One attempt to connect, shared by everybody who waits for it.
    async fn connected(&self) -> Result<Arc<Connected>, LogError> {
        let connecting = match &mut *self.lock() {
            Place::Here(connected) => return Ok(connected.clone()),
            Place::Connecting(connecting) => connecting.clone(),
            place @ Place::Away => {
                let connecting = self.shore.clone().connect().boxed().shared();
                *place = Place::Connecting(connecting.clone());
                connecting
            }
        };
        let connected = connecting.clone().await;
        let mut place = self.lock();
        if matches!(&*place, Place::Connecting(current) if current.ptr_eq(&connecting)) {
            *place = match &connected {
                Ok(connected) => Place::Here(connected.clone()),
                Err(_) => Place::Away,
            };
        }
        connected
    }

    fn broke(&self, connected: &Arc<Connected>) {
        let mut place = self.lock();
        if matches!(&*place, Place::Here(current) if Arc::ptr_eq(current, connected)) {
            *place = Place::Away;
        }
    }

    /// The run of the store at the other end.
    pub(super) async fn run(&self) -> Result<Uuid, LogError> {
        // Known without asking: no probe of the breaker is spent on it.
        if let Place::Here(connected) = &*self.lock() {
            return Ok(connected.run);
        }
        if !self.shore.breaker.admits() {
            return Err(AWAY);
        }
        match self.connected().await {
            Ok(connected) => {
                self.shore.breaker.succeeded();
                Ok(connected.run)
            }
            Err(error) => {
                self.failed();
                Err(error)
            }
        }
    }

    /// Sends commands that may be repeated. One answer for each, in order.
    pub(super) async fn send(&self, pipeline: &redis::Pipeline) -> Result<Vec<Value>, LogError> {
        let attempt = || self.attempt(pipeline);
        let backoff = ExponentialBuilder::default()
            .with_min_delay(FIRST_RETRY)
            .with_max_times(RETRIES)
            .with_jitter();
        let answers = attempt
            .retry(backoff)
            .when(|failure| matches!(failure, Failure::Broken))
            .notify(|_, _| add(&self.shore.counters.retries, 1))
            .await;
        answers.map_err(|_| AWAY)
    }

    /// Sends commands that must not be repeated without the caller's knowledge.
    pub(super) async fn send_once(
        &self,
        pipeline: &redis::Pipeline,
    ) -> Result<Vec<Value>, LogError> {
        self.attempt(pipeline).await.map_err(|_| AWAY)
    }

    /// Sends one command that may be repeated.
    pub(super) async fn ask(&self, cmd: redis::Cmd) -> Result<Value, LogError> {
        self.send(&one(cmd)).await?.pop().ok_or(AWAY)
    }

    /// Sends one command that must not be repeated without the caller's knowledge.
    pub(super) async fn ask_once(&self, cmd: redis::Cmd) -> Result<Value, LogError> {
        self.send_once(&one(cmd)).await?.pop().ok_or(AWAY)
    }

    fn failed(&self) {
        add(&self.shore.counters.errors, 1);
        self.shore.breaker.failed();
    }

    async fn attempt(&self, pipeline: &redis::Pipeline) -> Result<Vec<Value>, Failure> {
        if !self.shore.breaker.admits() {
            return Err(Failure::Other);
        }
        let done = self.exchange(pipeline).await;
        match &done {
            Ok(_) => self.shore.breaker.succeeded(),
            Err(_) => self.failed(),
        }
        done
    }

    async fn exchange(&self, pipeline: &redis::Pipeline) -> Result<Vec<Value>, Failure> {
        let connected = self.connected().await.map_err(|_| Failure::Other)?;
        let answers = self.pass(&connected, pipeline).await?;
        if !answers.iter().any(is_no_script) {
            return Ok(answers);
        }
        // Somebody flushed the scripts. What was not refused has been applied: ask that part alone.
        let mut again = redis::Pipeline::new();
        self.shore.scripts.load(&mut again);
        let loads = again.len();
        for (cmd, _) in pipeline.cmd_iter().zip(&answers).filter(|(_, answer)| is_no_script(answer))
        {
            again.add_command(cmd.clone());
        }
        let mut rest = self.pass(&connected, &again).await?.into_iter().skip(loads);
        let patch = |answer: Value| match is_no_script(&answer) {
            true => rest.next().unwrap_or(answer),
            false => answer,
        };
        Ok(answers.into_iter().map(patch).collect())
    }

    async fn pass(
        &self,
        connected: &Arc<Connected>,
        pipeline: &redis::Pipeline,
    ) -> Result<Vec<Value>, Failure> {
        add(&self.shore.counters.calls, pipeline.len());
        add(&self.shore.counters.pipelines, 1);
        let mut connection = connected.connection.clone();
        let answers = connection.send_packed_commands(pipeline, 0, pipeline.len()).await;
        match answers {
            Ok(answers) if answers.iter().any(is_refusal) => {
                // Loading, read-only, out of memory: as good as away.
                Err(Failure::Other)
            }
            Ok(answers) => Ok(answers),
            Err(error) if error.is_unrecoverable_error() => {
                self.broke(connected);
                Err(Failure::Broken)
            }
            Err(_) => Err(Failure::Other),
        }
    }
}

fn one(cmd: redis::Cmd) -> redis::Pipeline {
    let mut pipeline = redis::Pipeline::with_capacity(1);
    pipeline.add_command(cmd);
    pipeline
}

fn is_no_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

fn is_refusal(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(_)) && !is_no_script(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_is_read_from_the_servers_own_words() {
        let run_id = "run_id:0123456789abcdef0123456789abcdef01234567\r\n";
        let id = Uuid::parse_str("01234567-89ab-cdef-0123-456789abcdef").unwrap();
        let read = |more: &str| {
            let info =
                format!("# Server\r\nredis_version:7.0.15\r\n{run_id}{more}tcp_port:6379\r\n");
            run_of(&Value::BulkString(info.into_bytes()))
        };
        let silent = Run { id, began: None, age: Duration::ZERO };
        assert_eq!(read(""), Some(silent));
        let began = Timestamp::from_second(1_800_000_000).ok();
        let age = Duration::from_secs(7);
        let times = "server_time_usec:1800000007900000\r\nuptime_in_seconds:7\r\n";
        assert_eq!(read(times), Some(Run { id, began, age }));
        assert_eq!(run_of(&Value::BulkString(b"run_id:7".to_vec())), None);
        assert_eq!(run_of(&Value::Nil), None);
    }
}
