//! The engines that a node's settings ask for.

use crate::config::Config;
use crate::node::{Engines, Node};
use protocol::{Incarnation, settings};
use std::sync::Arc;
use streamlog::memory::{MemoryHandle, MemoryStore};
use streamlog::redis::{RedisConfig, RedisEngine};
use streamlog::{Clock, Ids, Owner};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

/// What a node is built on.
pub struct Store {
    engines: Engines,
    redis: Option<RedisEngine>,
    stop: CancellationToken,
}

impl Store {
    /// One handle of a memory store.
    pub fn of_memory(handle: MemoryHandle) -> Self {
        let engines = Engines {
            log: Arc::new(handle.clone()),
            directory: Arc::new(handle.clone()),
            registry: Arc::new(handle.clone()),
            bus: Arc::new(handle),
        };
        Self { engines, redis: None, stop: CancellationToken::new() }
    }

    /// One engine over Redis.
    pub fn of_redis(engine: RedisEngine) -> Self {
        let engines = Engines {
            log: Arc::new(engine.clone()),
            directory: Arc::new(engine.clone()),
            registry: Arc::new(engine.clone()),
            bus: Arc::new(engine.clone()),
        };
        Self { engines, redis: Some(engine), stop: CancellationToken::new() }
    }

    /// The traits a node wants.
    pub fn engines(&self) -> Engines {
        self.engines.clone()
    }

    /// Starts whatever the engines do by themselves, and lets the node tell what they count.
    pub fn run(&self, node: &Node) {
        if let Some(redis) = self.redis.clone() {
            node.metrics.read_redis(redis.clone());
            let stop = self.stop.clone();
            node.tasks.spawn(async move { redis.run(stop).await });
        }
    }

    /// Ends it.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Whether the store could be opened, as far as that can be known without reaching it.
///
/// # Errors
/// A text for people.
pub fn check(config: &Config) -> Result<(), String> {
    let (clock, incarnation) = (Clock::system(), Incarnation(Uuid::nil()));
    let owner = Owner { node: config.name.clone(), incarnation };
    open(config, &owner, &clock, &Ids::seeded(clock.clone(), 0)).map(drop)
}

/// Opens the store for one incarnation. Does no I/O: a node starts even while its store is away.
///
/// # Errors
/// A text for people.
pub fn open(config: &Config, owner: &Owner, clock: &Clock, ids: &Ids) -> Result<Store, String> {
    match &config.settings.store {
        settings::Store::Memory => {
            let store = MemoryStore::new(clock.clone(), ids.uuid());
            Ok(Store::of_memory(store.handle(owner.clone())))
        }
        settings::Store::Redis(redis) => {
            let url = with_password(&redis.url, config.redis_password.as_deref())?;
            let authority = authority(redis)?;
            let prefix = redis.prefix.clone();
            let redis = RedisConfig { url, prefix, authority, ..RedisConfig::default() };
            RedisEngine::new(redis, owner.clone(), clock.clone())
                .map(Store::of_redis)
                .map_err(|bad| format!("store.redis.url: {bad}"))
        }
    }
}

/// The certificate that Redis' is checked against, where the settings name one.
fn authority(redis: &settings::Redis) -> Result<Option<Vec<u8>>, String> {
    let Some(file) = &redis.ca_file else { return Ok(None) };
    let read = std::fs::read(file);
    read.map(Some).map_err(|error| format!("store.redis.caFile: cannot read {file}: {error}"))
}

/// The password where a Redis URL has it, escaped.
fn with_password(url: &str, password: Option<&str>) -> Result<String, String> {
    let Some(password) = password else { return Ok(url.to_owned()) };
    let cannot = "store.redis.url: cannot hold a password";
    let mut url = Url::parse(url).map_err(|_| cannot.to_owned())?;
    url.set_password(Some(password)).map_err(|()| cannot.to_owned())?;
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_put_where_redis_looks_for_it_and_escaped() {
        let with = |url, password| with_password(url, password).unwrap();
        assert_eq!(with("redis://r:1/2", None), "redis://r:1/2");
        assert_eq!(with("redis://r:1/2", Some("a@b:c/d")), "redis://:a%40b%3Ac%2Fd@r:1/2");
        assert_eq!(with("redis://chat@r:1", Some("x")), "redis://chat:x@r:1");
    }
}
