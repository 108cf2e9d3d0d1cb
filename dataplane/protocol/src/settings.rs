//! Every setting of a node. The operator writes this type, the data plane reads it: one strict
//! YAML file, unknown keys refused. Durations are milliseconds and say so in their names.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty = $default:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }
    };
}

settings!(
    /// The whole file.
    Settings {
        /// Who this is and where it listens.
        node: Node = Node::default(),
        /// Where answers, leases and facts are kept.
        store: Store = Store::Memory,
        /// The AI provider.
        upstream: Upstream = Upstream::Simulated,
        /// Who may enter.
        auth: Auth = Auth::default(),
        /// How much.
        limits: Limits = Limits::default(),
        /// WebSockets and SSE.
        socket: Socket = Socket::default(),
        /// Live answers.
        stream: Stream = Stream::default(),
        /// Leases and takeovers.
        ownership: Ownership = Ownership::default(),
        /// Going away.
        drain: Drain = Drain::default(),
        /// The chat page at `GET /`.
        page: Page = Page::default(),
        /// What is told of the work beside logs and metrics.
        telemetry: Telemetry = Telemetry::default(),
    }
);

settings!(
    /// One process.
    Node {
        /// Its name, unique in the cluster; absent: of the environment, so that many share a file.
        name: Option<String> = None,
        /// Where it listens for clients; port 0: any free one.
        data_address: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8080)),
        /// Where it listens for probes, scrapers and operators; port 0: any free one.
        admin_address: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8081)),
        /// Let everybody who reaches the admin port drain this node. For development.
        open_admin: bool = false,
    }
);

/// Where answers, leases and facts are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// In this process: gone with it, and shared with nobody.
    Memory,
    /// In Redis, 7.0 or later.
    Redis(Redis),
}

settings!(
    /// How to reach Redis. Its password is a secret and not in this file.
    Redis {
        /// `redis://[user@]host:port[/database]`, `rediss://` for TLS.
        url: String = String::new(),
        /// What every key begins with: several clusters may share a Redis.
        prefix: String = "cc:".to_owned(),
        /// Certificate (PEM) of the authority that signed Redis'; absent: the machine's own list. Only
        /// with `rediss://`.
        ca_file: Option<String> = None,
    }
);

/// The AI provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Upstream {
    /// Needs nothing; its text follows from what it is asked (`sim`).
    Simulated,
    /// Real ones. The next one is asked only where those before it gave no first token.
    Providers(Vec<Provider>),
}

settings!(
    /// One AI provider. Its key is a secret and not in this file.
    Provider {
        /// Its name, for logs and statistics, and of the variable that holds its key.
        name: String = String::new(),
        /// What it speaks.
        kind: ProviderKind = ProviderKind::OpenAi,
        /// Base URL: `/chat/completions` is added to it, or `/v1/messages` for anthropic.
        url: String = String::new(),
        /// The model of requests that name none; empty: whatever the server has loaded.
        model: String = String::new(),
        /// Models that a request may name, and what this provider calls them.
        models: BTreeMap<String, String> = BTreeMap::new(),
        /// Hand every other name on as it is; without this such a request is not for this provider.
        any_model: bool = false,
        /// Tokens of an answer whose request names no number.
        max_tokens: Option<u64> = None,
        /// Send that number as `max_completion_tokens`, as OpenAI's reasoning models want it.
        max_completion_tokens: bool = false,
        /// To connect, TLS included.
        connect_ms: u64 = 5_000,
        /// Calls of one node a minute.
        calls_per_minute: u32 = 3_000,
        /// Calls of one node at once.
        call_burst: u32 = 100,
        /// How it is made to go on with a text that another owner began.
        continues: ContinueBy = ContinueBy::Never,
    }
);

/// What a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Chat completions, as OpenAI and many servers have them.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
}

/// How a provider is made to go on with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContinueBy {
    /// It cannot: a takeover restarts the answer.
    Never,
    /// It goes on with a last message of the assistant (Claude before 4.6, llama-server).
    Prefill,
    /// The same, with `continue_final_message` (vLLM, SGLang, llama-server).
    FinalMessage,
    /// The same, with `prefix: true` in the message (Mistral, DeepSeek).
    Prefix,
}

settings!(
    /// Tokens.
    Auth {
        /// Required `iss`, where set.
        issuer: Option<String> = None,
        /// Required `aud`, where set.
        audience: Option<String> = None,
        /// Origins a browser may come from; empty: any.
        allowed_origins: Vec<String> = Vec::new(),
        /// Accept `?token=`. URLs end up in logs: off by default.
        token_in_query: bool = false,
        /// Clock difference allowed at `exp` and `nbf`.
        leeway_ms: u64 = 5_000,
        /// Public keys of whoever issues the users' tokens; absent: HS256 with a secret only.
        jwks: Option<Jwks> = None,
    }
);

settings!(
    /// A key set (RFC 7517), of one of `url` and `file`.
    Jwks {
        /// Where it is published; `https`.
        url: Option<String> = None,
        /// Where it is mounted.
        file: Option<String> = None,
        /// Let `url` be `http` beyond this machine: whoever is on the way can forge every token.
        allow_http: bool = false,
        /// What keys may be used with; a key's type and its own `alg` narrow it.
        algorithms: Vec<SigningAlgorithm> = SigningAlgorithm::ALL.to_vec(),
        /// How often it is read.
        refresh_ms: u64 = 300_000,
        /// A token that names an unknown key, or a failure, has it read sooner, but not sooner than this.
        min_interval_ms: u64 = 10_000,
        /// Of one read.
        timeout_ms: u64 = 5_000,
        /// Largest document.
        max_bytes: usize = 64 * 1024,
    }
);

/// Asymmetric algorithms of tokens (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum SigningAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl SigningAlgorithm {
    /// All of them.
    #[rustfmt::skip]
    pub const ALL: [Self; 9] = [
        Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512,
        Self::Es256, Self::Es384, Self::EdDsa,
    ];
}

settings!(
    /// Bounds of one node and one user.
    Limits {
        /// Live streams this node owns; takeovers may exceed it by half.
        streams: usize = 1_000,
        /// Sessions with a socket on this node; one more is sent to another node.
        sessions: usize = 6_000,
        /// Requests a minute and user.
        requests_per_minute: u32 = 60,
        /// Requests at once and user.
        request_burst: u32 = 20,
        /// Sockets a user.
        sockets_per_user: usize = 20,
        /// Live answers a user.
        answers_per_user: usize = 20,
        /// New sockets a second.
        accepts_per_second: u32 = 200,
        /// Resuming sockets a second, in their own bucket.
        resumes_per_second: u32 = 1_000,
        /// Of either bucket.
        accept_burst: u32 = 1_000,
        /// Messages followed on one socket.
        follows_per_socket: usize = 256,
    }
);

settings!(
    /// WebSockets.
    Socket {
        /// Announced interval of the client's HEARTBEAT.
        heartbeat_ms: u64 = 20_000,
        /// Without any frame for this long: 1001.
        idle_ms: u64 = 120_000,
        /// Bytes queued for one socket; over it the follower waits and is re-read from the log.
        queue_bytes: usize = 256 * 1024,
        /// Bytes of one replay page.
        page_bytes: usize = 256 * 1024,
    }
);

settings!(
    /// One live answer.
    Stream {
        /// Coalescing window; 0: every chunk at once.
        coalesce_ms: u64 = 40,
        /// First token.
        first_token_ms: u64 = 30_000,
        /// Silence of the upstream.
        silence_ms: u64 = 60_000,
        /// The whole answer, from its first acceptance across all takeovers.
        total_ms: u64 = 300_000,
        /// Silence after which followers are told `waiting`.
        waiting_ms: u64 = 10_000,
        /// Bytes held while the log is away; then the upstream is not read.
        buffer_bytes: usize = 1024 * 1024,
        /// Bytes of one answer; then it ends with finishReason `length`.
        max_bytes: usize = 4 * 1024 * 1024,
        /// Chunks of one answer; then it ends with finishReason `length`.
        max_chunks: u64 = 100_000,
        /// `onDisconnect: cancel` takes effect after this long without a follower.
        abandoned_ms: u64 = 30_000,
    }
);

settings!(
    /// Leases and takeovers.
    Ownership {
        /// Life of a node's lease.
        lease_ms: u64 = 5_000,
        /// How often it is renewed.
        renew_ms: u64 = 1_500,
        /// How often orphans, cancel flags and followers are looked for.
        look_ms: u64 = 500,
        /// After a crash.
        takeover: TakeoverPolicy = TakeoverPolicy::Continue,
        /// Unclaimed for this long: sealed failed INTERRUPTED.
        unclaimed_ms: u64 = 30_000,
        /// Takeovers without a new chunk: sealed failed INTERRUPTED.
        max_barren_takeovers: u32 = 3,
    }
);

/// What happens to a live answer whose owner crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TakeoverPolicy {
    /// From the last chunk on, where the provider can; else restart, fail after tools.
    Continue,
    /// From the start, with a RESET.
    Restart,
    /// End it as failed INTERRUPTED, the text so far is kept.
    Fail,
}

settings!(
    /// Going away.
    Drain {
        /// Of a drain that names none.
        deadline_ms: u64 = 30_000,
        /// Of SIGTERM.
        sigterm_ms: u64 = 25_000,
        /// After the drain began sockets are still upgraded this long, to be told GOAWAY.
        linger_ms: u64 = 3_000,
        /// Sockets told to move, a second.
        goaways_per_second: u32 = 500,
        /// A socket that ignored its slot is closed this long after it.
        ignore_ms: u64 = 5_000,
    }
);

settings!(
    /// The chat page.
    Page {
        /// Serve it at `GET /`.
        enabled: bool = false,
    }
);

settings!(
    /// Traces.
    Telemetry {
        /// Where a collector takes OTLP over HTTP, without `/v1/traces`; absent: no traces. The
        /// standard variables `OTEL_EXPORTER_OTLP_ENDPOINT` and `…_TRACES_ENDPOINT` go before it.
        otlp_endpoint: Option<String> = None,
    }
);
