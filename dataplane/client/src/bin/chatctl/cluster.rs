//! Finds what the global options point at: a playground with its nodes, or the nodes themselves.

use crate::Global;
use crate::exit::NoToken;
use client::api::{Api, ApiError, Dev, http_client};
use client::session::Options;
use client::token::TokenSource;
use protocol::dev::{DevNode, NodePhase};
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Where to go and as whom.
pub(crate) struct Cluster {
    pub(crate) http: reqwest::Client,
    /// Base URLs of the nodes, those that serve first.
    pub(crate) urls: Vec<String>,
    pub(crate) tokens: TokenSource,
}

/// Asks the first URL for `/dev/nodes`.
pub(crate) async fn playground(global: &Global) -> anyhow::Result<Option<(Dev, Vec<DevNode>)>> {
    let Some(front) = global.url.first() else { return Ok(None) };
    let dev = Dev::new(http_client()?, front);
    match dev.nodes().await {
        Ok(nodes) => Ok(Some((dev, nodes))),
        // Alone and not there: nothing to connect to. Otherwise the URLs are nodes.
        Err(error @ ApiError::Unreachable { .. }) if global.url.len() == 1 => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Finds nodes and a source of tokens.
pub(crate) async fn find(global: &Global) -> anyhow::Result<Cluster> {
    let dev = playground(global).await?;
    let urls = match &dev {
        Some((_, nodes)) => {
            let mut nodes: Vec<&DevNode> = nodes.iter().collect();
            nodes.sort_by_key(|node| node.phase != NodePhase::Serving);
            nodes.into_iter().map(|node| node.base_url.clone()).collect()
        }
        None => global.url.clone(),
    };
    let tokens = match (&global.token, &dev) {
        (Some(token), _) => TokenSource::Fixed(token.clone()),
        (None, Some((dev, _))) => {
            TokenSource::Playground { dev: dev.clone(), user: global.user.clone() }
        }
        (None, None) => return Err(NoToken.into()),
    };
    Ok(Cluster { http: http_client()?, urls, tokens })
}

impl Cluster {
    /// How a session connects here.
    pub(crate) fn options(&self) -> Options {
        Options::new(self.urls.clone())
    }

    /// Calls one node after another until one answers.
    pub(crate) async fn on_any_node<T, F>(&self, call: impl Fn(Api) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let token = self.tokens.token().await?;
        let mut failure = anyhow::anyhow!("no node to ask");
        for url in &self.urls {
            match call(Api::new(self.http.clone(), url, &token)).await {
                Ok(value) => return Ok(value),
                Err(error) if error.is_passing() => failure = error.into(),
                Err(error) => return Err(error.into()),
            }
        }
        Err(failure)
    }
}

/// Chance: from the seed where one was given, else from the system.
pub(crate) fn rng(seed: Option<u64>) -> SmallRng {
    seed.map_or_else(|| SmallRng::from_rng(&mut rand::rng()), SmallRng::seed_from_u64)
}
