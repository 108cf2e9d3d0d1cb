//! The engine over a standalone Redis 7.0: every engine trait, for one incarnation of a node.
//!
//! ```text
//!  head  {id}  46 bytes that change with each append, then the followers' nodes     [`head`]
//!  text  {id}  packed batches, one string                                           [`packing`]
//!  meta  {id}  what changes rarely, in JSON, and the index of the text              [`meta`]
//! ```
//! The scripts ([`scripts`]) compare the head byte for byte with the one that the caller derived its
//! change from, and swap; the rules are here, in Rust. So an append is three commands in Redis: read
//! the head, append to the text, write the head; and a read is one script that gives everything.
//! Reading order: [`packing`] → [`head`] → [`meta`] → [`link`] → [`gather`] → [`reading`] →
//! [`writing`] → [`kept`] → [`inbox`] → the traits.

mod breaker;
mod bus;
mod directory;
mod gather;
mod head;
mod inbox;
mod kept;
mod keys;
mod link;
mod log;
mod meta;
mod packing;
mod reading;
mod registry;
mod reply;
mod runs;
mod scripts;
pub mod server;
mod stats;
mod sweep;
#[cfg(test)]
mod tests;
mod told;
mod writing;

pub use stats::RedisStats;

use crate::bus::{BUS_CAPACITY, Hint};
use crate::clock::Clock;
use crate::error::LogError;
use crate::log::Owner;
use breaker::Breaker;
use kept::Kept;
use keys::Keys;
use link::{AWAY, Link, Shore};
use meta::{State, Swap};
use protocol::{Epoch, Incarnation, MessageId};
use reading::Reading;
use redis::io::tcp::TcpSettings;
use redis::{IntoConnectionInfo as _, ProtocolVersion, TlsCertificates};
use runs::Runs;
use scripts::Scripts;
use stats::Counters;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use writing::{Writing, Wrote};

/// A conditional write that met something else is derived anew at most so often.
const TRIES: usize = 16;
/// A peer whose machine is gone is given up after this time without an acknowledgement.
const DEAD_PEER: Duration = Duration::from_secs(5);
/// Departures waiting to be noted; what is over is found by whoever looks for orphans.
const MOST_LEAVING: usize = 16_384;

/// Where Redis is, and how long to wait for it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/db]`, `rediss://` for TLS.
    pub url: String,
    /// What every key and channel begins with.
    pub prefix: String,
    /// Certificate (PEM) of the authority that signed the server's; `None`: the machine's own list. Only
    /// with `rediss://`.
    pub authority: Option<Vec<u8>>,
    /// Batches up to so many bytes travel with the hint about them; 0: none does.
    pub text_in_hints: usize,
    /// Bound on making a connection.
    pub connect_timeout: Duration,
    /// Bound on one answer; after it the outcome of a call is unknown.
    pub response_timeout: Duration,
}

impl fmt::Debug for RedisConfig {
    /// Without the address: it may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            prefix: "cc:".to_owned(),
            authority: None,
            text_in_hints: 4 * 1024,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
        }
    }
}

/// The configuration cannot work, whatever Redis does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of Redis (redis://host:port): {reason}")]
pub struct BadRedisConfig {
    reason: String,
}

/// See the module. Clones are the same engine.
#[derive(Clone)]
pub struct RedisEngine {
    inner: Arc<Inner>,
}

struct Inner {
    owner: Owner,
    keys: Keys,
    scripts: Scripts,
    shore: Shore,
    /// For everything that writes, and for leases.
    writes: Arc<Link>,
    /// For pages: a long one holds up no append.
    reads: Arc<Link>,
    reading: Reading,
    writing: Writing,
    kept: Arc<Kept>,
    lives: AtomicU64,
    hints: broadcast::Sender<Hint>,
    /// Entries of the sets of owned streams that are over.
    leaving: Mutex<Vec<(Incarnation, String)>>,
}

/// A client that believes this authority alone. The library takes a text without any certificate, and then
/// believes nobody.
fn with_authority(
    info: redis::ConnectionInfo,
    pem: Vec<u8>,
) -> Result<redis::Client, BadRedisConfig> {
    let reason = "the authority's certificate is not in PEM, or the address is not rediss:";
    let bad = || BadRedisConfig { reason: reason.to_owned() };
    if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
        return Err(bad());
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    redis::Client::build_with_tls(info, certificates).map_err(|_| bad())
}

impl RedisEngine {
    /// The engine of one incarnation. Does no I/O: a node starts even while Redis is away.
    ///
    /// # Errors
    /// [`BadRedisConfig`] where the address is none.
    pub fn new(config: RedisConfig, owner: Owner, clock: Clock) -> Result<Self, BadRedisConfig> {
        // An error of the library may repeat the address, and with it a password.
        let bad = |_| BadRedisConfig { reason: "it cannot be read".to_owned() };
        let info = config.url.as_str().into_connection_info().map_err(bad)?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(DEAD_PEER);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let client = match config.authority.clone() {
            None => redis::Client::open(info).map_err(bad)?,
            Some(pem) => with_authority(info, pem)?,
        };
        let (keys, told_up_to) = (Keys::new(config.prefix.clone()), config.text_in_hints);
        let (scripts, counters) = (Scripts::new(), Arc::<Counters>::default());
        let breaker = Arc::new(Breaker::new(clock.clone()));
        let runs = Runs::new(clock.clone());
        let shore = Shore { client, config, scripts: scripts.clone(), breaker, counters, runs };
        let link = || Arc::new(Link::new(shore.clone()));
        let (writes, reads) = (link(), link());
        let counters = shore.counters.clone();
        let node = owner.incarnation;
        let reading = Reading::new(reads.clone(), scripts.clone(), keys.clone(), node, counters);
        let writing = Writing::new(writes.clone(), scripts.clone(), keys.clone(), told_up_to);
        let kept = Arc::new(Kept::new(clock.clone()));
        let (hints, _) = broadcast::channel(BUS_CAPACITY);
        let (lives, leaving) = (AtomicU64::new(0), Mutex::default());
        Ok(Self {
            inner: Arc::new(Inner {
                owner,
                keys,
                scripts,
                shore,
                writes,
                reads,
                reading,
                writing,
                kept,
                lives,
                hints,
                leaving,
            }),
        })
    }

    /// Whose engine it is.
    pub fn owner(&self) -> &Owner {
        &self.inner.owner
    }

    /// The work in the background, until `stop`: hints, sweeps, cleaning. Without it everything works,
    /// but followers learn of changes from their own sweep only.
    pub async fn run(&self, stop: CancellationToken) {
        let work = async { tokio::join!(inbox::run(&self.inner), sweep::run(&self.inner)) };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = work => {}
        }
        self.inner.shore.counters.subscribed.store(false, Ordering::Relaxed);
    }

    /// What was counted, and the state now.
    pub fn stats(&self) -> RedisStats {
        let (breaker_open, breaker_opens) = self.inner.shore.breaker.snapshot();
        let streams = self.inner.kept.len() as u64;
        let counted = self.inner.shore.counters.snapshot();
        RedisStats { breaker_open, breaker_opens, streams, ..counted }
    }

    /// What a promise is that the store does not have.
    fn absent(&self) -> LogError {
        self.inner.shore.runs.absent()
    }

    /// What this stream is, which the store does not have.
    fn absent_stream(&self, stream: MessageId) -> LogError {
        self.inner.shore.runs.absent_stream(stream)
    }

    async fn run_of_store(&self) -> Result<Uuid, LogError> {
        self.inner.writes.run().await
    }

    /// A number for the life of a text that no other one of this stream has had.
    fn life(&self, stream: MessageId) -> u32 {
        let mut hasher = DefaultHasher::new();
        let nth = self.inner.lives.fetch_add(1, Ordering::Relaxed);
        (self.inner.owner.incarnation, stream, nth).hash(&mut hasher);
        hasher.finish() as u32
    }

    async fn peek(&self, stream: MessageId) -> Result<Option<State>, LogError> {
        Ok(self.inner.reading.peek_all(&[stream]).await?.pop().flatten())
    }

    /// Changes a stream by a rule: `None` of the rule changes nothing. Gives the stream afterwards.
    async fn change(
        &self,
        stream: MessageId,
        enlist: Option<&Owner>,
        rule: impl Fn(&State, Uuid) -> Result<Option<Swap>, LogError> + Send + Sync,
    ) -> Result<State, LogError> {
        for _ in 0..TRIES {
            let run = self.run_of_store().await?;
            let state = self.peek(stream).await?.ok_or_else(|| self.absent_stream(stream))?;
            let Some(swap) = rule(&state, run)? else { return Ok(state) };
            if self.inner.writing.swap(stream, &swap, enlist).await? == Wrote::Done {
                self.inner.kept.learn(stream, swap.hot);
                return Ok(State { hot: swap.hot, meta: Arc::new(swap.meta), ..state });
            }
        }
        Err(AWAY)
    }

    /// Notes that an incarnation owns a stream no more; the next sweep tells the store.
    fn leave(&self, owner: Incarnation, stream: MessageId, epoch: Epoch) {
        let mut leaving = self.inner.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if leaving.len() < MOST_LEAVING {
            leaving.push((owner, writing::member(stream, epoch)));
        }
    }
}
