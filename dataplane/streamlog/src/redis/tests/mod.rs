//! The engine against a real redis-server, one for the whole test binary, a prefix for each test.

mod cost;
mod engine;
mod faults;
mod model;
#[cfg(feature = "bugs")]
mod teeth;
mod tls;

use super::server::RedisServer;
use super::{RedisConfig, RedisEngine};
use crate::clock::{Clock, Ids};
use crate::conformance::{Fixture, Handles, owner};
use crate::log::Owner;
use async_trait::async_trait;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Bound on everything that must come by itself.
const SOON: Duration = Duration::from_secs(10);

/// The one server that tests share which do it no harm.
fn server() -> &'static RedisServer {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    SERVER.get_or_init(|| RedisServer::start().expect("redis-server, as `make test` installs it"))
}

/// Some nodes over one server, under a prefix of their own.
struct Stage {
    config: RedisConfig,
    ids: Ids,
    running: Mutex<JoinSet<()>>,
}

impl Stage {
    fn on(server: &RedisServer) -> Self {
        let ids = Ids::random(Clock::system());
        let prefix = format!("{}:", ids.uuid());
        let config = RedisConfig { url: server.url(), prefix, ..RedisConfig::default() };
        Self { config, ids, running: Mutex::default() }
    }

    fn shared() -> Self {
        Self::on(server())
    }

    fn owner(&self, node: &str) -> Owner {
        owner(&self.ids, node)
    }

    /// An engine without its background.
    fn idle(&self, node: &str) -> RedisEngine {
        let owner = self.owner(node);
        RedisEngine::new(self.config.clone(), owner, Clock::system()).unwrap()
    }

    fn run(&self, engine: &RedisEngine) {
        let engine = engine.clone();
        let run = async move { engine.run(CancellationToken::new()).await };
        self.running.lock().unwrap().spawn(run);
    }

    /// An engine that is subscribed.
    async fn node(&self, node: &str) -> RedisEngine {
        let engine = self.idle(node);
        self.run(&engine);
        until(|| engine.stats().subscribed).await;
        engine
    }
}

/// Waits for something that comes by itself.
async fn until(mut is: impl FnMut() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("it comes by itself");
}

fn handles(engine: &RedisEngine) -> Handles {
    let shared = Arc::new(engine.clone());
    Handles {
        owner: engine.owner().clone(),
        log: shared.clone(),
        directory: shared.clone(),
        registry: shared.clone(),
        bus: shared,
    }
}

#[async_trait]
impl Fixture for Stage {
    async fn new() -> Self {
        Self::shared()
    }
    async fn incarnation(&self, node: &str) -> Handles {
        handles(&self.node(node).await)
    }
    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

crate::conformance_suite!(conformance, Stage);
