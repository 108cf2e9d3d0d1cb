//! What can be set from outside: arguments and environment in, options of a fleet out.

use super::fleet::{FleetOptions, Kind, MAX_NODES, Ports};
use crate::config::problems::Problem;
use crate::config::provider_problems::base_url;
use crate::config::secrets::{self, Environment, MIN_KEY_BYTES};
use crate::upstream::ProviderKeys;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use protocol::Settings;
use protocol::settings::{ContinueBy, Provider, TakeoverPolicy, Upstream};

/// What the one provider of a playground is called.
const PROVIDER: &str = "playground";

/// Several nodes with the chat page and `/dev`: in memory, or as processes over Redis.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Port of the page; node i is on this port + i, its admin port on this port + 100 + i
    #[arg(long, env = "CHAT_DEV_PORT", default_value_t = 8080, hide_env_values = true)]
    pub port: u16,

    /// How many nodes
    #[arg(long, env = "CHAT_DEV_NODES", default_value_t = 3, hide_env_values = true,
          value_parser = clap::value_parser!(u16).range(1..=MAX_NODES as i64))]
    pub nodes: u16,

    /// Coalescing window in milliseconds: chunks of this time travel together; 0: each at once
    #[arg(long, env = "CHAT_COALESCE_MS", default_value_t = 40, hide_env_values = true)]
    pub coalesce_ms: u64,

    /// What becomes of an answer whose node crashed
    #[arg(long, env = "CHAT_TAKEOVER", default_value = "continue", hide_env_values = true,
          value_parser = takeover_policy(), value_name = "POLICY")]
    pub takeover: TakeoverPolicy,

    /// An OpenAI-compatible base URL, as http://127.0.0.1:8080/v1; unset: the simulated provider.
    /// Its key, where it wants one, is CHAT_UPSTREAM_KEY or in the file CHAT_UPSTREAM_KEY_FILE
    #[arg(long, env = "CHAT_UPSTREAM_URL", hide_env_values = true, value_name = "URL")]
    pub upstream_url: Option<String>,

    /// The model of requests that name none; unset: whatever the server has loaded
    #[arg(long, env = "CHAT_UPSTREAM_MODEL", hide_env_values = true, value_name = "NAME")]
    pub upstream_model: Option<String>,

    /// How that server goes on with a text: never, prefill, finalMessage or prefix
    #[arg(long, env = "CHAT_UPSTREAM_CONTINUES", default_value = "never", hide_env_values = true,
          value_parser = continue_by(), value_name = "WAY")]
    pub upstream_continues: ContinueBy,

    /// Where answers are kept: memory (one process), or redis (a process a node, a Redis of their own)
    #[arg(long, env = "STORES", default_value = "memory", hide_env_values = true)]
    pub stores: String,

    /// Key that signs and checks users' tokens (HS256); unset: a new random one
    #[arg(long, env = "CHAT_DEV_SECRET", hide_env_values = true, value_name = "KEY")]
    pub secret: Option<String>,

    /// A deliberate bug for the tests of the tests; needs a build with the feature `bugs`
    #[arg(long, env = "CHAT_BUG", hide_env_values = true, hide = cfg!(not(feature = "bugs")))]
    pub bug: Option<String>,
}

fn takeover_policy() -> impl TypedValueParser<Value = TakeoverPolicy> {
    PossibleValuesParser::new(["continue", "restart", "fail"]).map(|name| match name.as_str() {
        "restart" => TakeoverPolicy::Restart,
        "fail" => TakeoverPolicy::Fail,
        _ => TakeoverPolicy::Continue,
    })
}

/// An empty value counts as unset, as of every variable here.
fn continue_by() -> impl TypedValueParser<Value = ContinueBy> {
    let ways = ["never", "prefill", "finalMessage", "prefix", ""];
    PossibleValuesParser::new(ways).map(|name| match name.as_str() {
        "prefill" => ContinueBy::Prefill,
        "finalMessage" => ContinueBy::FinalMessage,
        "prefix" => ContinueBy::Prefix,
        _ => ContinueBy::Never,
    })
}

/// Something was asked for that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A provider that cannot be asked.
    #[error("CHAT_UPSTREAM_URL {0}")]
    Upstream(String),
    /// Its key.
    #[error("{0}")]
    UpstreamKey(String),
    /// Another store.
    #[error("STORES={0} is not there yet; there are STORES=memory and STORES=redis")]
    Stores(String),
    /// A key that node processes refuse.
    #[error("CHAT_DEV_SECRET has {0} bytes; an HS256 key of node processes needs at least 32")]
    Secret(usize),
    /// This program cannot be found again.
    #[error("STORES=redis starts this program once more for every node, but where it is: {0}")]
    Program(String),
    /// A bug nobody wrote.
    #[error("CHAT_BUG={asked} is no known bug; there are {known}")]
    Bug {
        /// Its name.
        asked: String,
        /// The names there are.
        known: String,
    },
    /// A build without bugs.
    #[error("CHAT_BUG={0} needs a build with `--features dataplane/bugs`")]
    NoBugs(String),
}

impl Args {
    /// The options of a fleet. An empty value counts as unset.
    ///
    /// # Errors
    /// [`Unsupported`]: nothing that was asked for is ignored.
    pub fn fleet(&self, environment: Environment<'_>) -> Result<FleetOptions, Unsupported> {
        let (upstream, provider_keys) = self.upstream(environment)?;
        let secret = set(&self.secret).map(String::into_bytes);
        let kind = match self.stores.as_str() {
            "" | "memory" => Kind::Threads { redis: false },
            "redis" => processes(secret.as_deref())?,
            other => return Err(Unsupported::Stores(other.to_owned())),
        };
        if let Some(name) = set(&self.bug) {
            switch_on(name)?;
        }
        let mut settings = Settings { upstream, ..super::settings() };
        settings.stream.coalesce_ms = self.coalesce_ms;
        settings.ownership.takeover = self.takeover;
        Ok(FleetOptions {
            kind,
            nodes: usize::from(self.nodes),
            settings,
            ports: Ports::From(self.port),
            secret,
            provider_keys,
            wrap: None,
        })
    }

    fn upstream(
        &self,
        environment: Environment<'_>,
    ) -> Result<(Upstream, ProviderKeys), Unsupported> {
        let mut keys = ProviderKeys::default();
        let Some(url) = set(&self.upstream_url) else { return Ok((Upstream::Simulated, keys)) };
        base_url(&url).map_err(Unsupported::Upstream)?;
        let key = secrets::provider_key(environment, "CHAT_UPSTREAM_KEY");
        let text = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
        if let Some(key) = key.map_err(|problems| Unsupported::UpstreamKey(text(problems)))? {
            keys.insert(PROVIDER, key);
        }
        let provider = Provider {
            name: PROVIDER.to_owned(),
            url,
            model: set(&self.upstream_model).unwrap_or_default(),
            any_model: true,
            continues: self.upstream_continues,
            ..Provider::default()
        };
        Ok((Upstream::Providers(vec![provider]), keys))
    }
}

fn set(value: &Option<String>) -> Option<String> {
    value.clone().filter(|value| !value.is_empty())
}

fn processes(secret: Option<&[u8]>) -> Result<Kind, Unsupported> {
    if let Some(secret) = secret.filter(|secret| secret.len() < MIN_KEY_BYTES) {
        return Err(Unsupported::Secret(secret.len()));
    }
    let program =
        std::env::current_exe().map_err(|error| Unsupported::Program(error.to_string()))?;
    Ok(Kind::Processes { program, redis: true })
}

/// Makes a deliberate bug active, for the tests of the tests.
#[cfg(feature = "bugs")]
pub(crate) fn switch_on(name: String) -> Result<(), Unsupported> {
    use streamlog::{Bug, bugs};
    let known = || Bug::ALL.map(Bug::name).join(", ");
    let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name);
    let bug = bug.ok_or_else(|| Unsupported::Bug { asked: name, known: known() })?;
    bugs::activate(Some(bug));
    Ok(())
}

#[cfg(not(feature = "bugs"))]
pub(crate) const fn switch_on(name: String) -> Result<(), Unsupported> {
    Err(Unsupported::NoBugs(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    const NOTHING: Environment<'_> = &|_| None;

    fn parse(line: &[&str]) -> Args {
        Cli::try_parse_from([&["playground"], line].concat()).unwrap().args
    }

    #[test]
    fn arguments_become_settings() {
        let line = ["--port=9080", "--nodes=5", "--coalesce-ms=0", "--takeover=restart"];
        let options = parse(&line).fleet(NOTHING).unwrap();
        assert_eq!((options.ports, options.nodes), (Ports::From(9080), 5));
        assert_eq!(options.settings.stream.coalesce_ms, 0);
        assert_eq!(options.settings.ownership.takeover, TakeoverPolicy::Restart);
        assert!(Cli::try_parse_from(["playground", "--takeover=maybe"]).is_err());
        assert!(Cli::try_parse_from(["playground", "--nodes=0"]).is_err());
    }

    #[test]
    fn what_is_not_there_is_refused_and_an_empty_value_is_unset() {
        let refused = |line: &[&str]| parse(line).fleet(NOTHING).err();
        let url = refused(&["--upstream-url=localhost:8080"]).unwrap().to_string();
        assert!(url.starts_with("CHAT_UPSTREAM_URL begins with localhost:"), "{url}");
        assert!(Cli::try_parse_from(["playground", "--upstream-continues=maybe"]).is_err());
        assert_eq!(refused(&["--stores=mongo"]), Some(Unsupported::Stores("mongo".to_owned())));
        let short = ["--stores=redis", "--secret=short"];
        assert_eq!(refused(&short), Some(Unsupported::Secret(5)));
        assert!(refused(&["--bug=none-such"]).is_some());
        let empty =
            ["--upstream-url=", "--upstream-continues=", "--stores=", "--bug=", "--secret="];
        assert_eq!(refused(&empty), None);
    }

    #[test]
    fn a_url_is_the_one_provider_and_its_key_is_not_of_the_command_line() {
        let line = ["--upstream-url=http://127.0.0.1:1/v1", "--upstream-continues=finalMessage"];
        let key = |name: &str| (name == "CHAT_UPSTREAM_KEY").then(|| "hunter2".into());
        let args = parse(&line);
        assert!(!format!("{args:?}").contains("hunter2"));
        let options = args.fleet(&key).unwrap();
        assert_eq!(options.provider_keys.of(PROVIDER), Some("hunter2"));
        let Upstream::Providers(list) = &options.settings.upstream else { panic!() };
        assert_eq!((list.len(), list[0].url.as_str()), (1, "http://127.0.0.1:1/v1"));
        assert_eq!((list[0].continues, list[0].any_model), (ContinueBy::FinalMessage, true));
        let both = |name: &str| name.starts_with("CHAT_UPSTREAM_KEY").then(|| "hunter2".into());
        let refused = parse(&line).fleet(&both).err().unwrap().to_string();
        assert!(refused.contains("unset one") && !refused.contains("hunter2"), "{refused}");
    }
}
