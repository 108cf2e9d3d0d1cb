//! What every metric is: name, kind, unit, help, labels, and what to look at when it moves. The
//! registry and `docs/metrics.md` are both made of this.

use super::labels::{
    ByAuth, ByBreaker, ByBroadcast, ByBus, ByCall, ByClose, ByDialect, ByLimit, ByMemory, ByMode,
    ByOutcome, ByPhase, ByProvider, ByRead, ByRefusal, ByReset, BySource, ByStatus, ByTokens,
    ByVia, Label,
};
use prometheus_client::registry::{Metric, Registry, Unit};

/// What every name begins with.
pub const PREFIX: &str = "chatcluster";

/// OpenMetrics' kinds of metrics that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Goes up; its samples are called `…_total`.
    Counter,
    /// Counts in buckets, with their sum.
    Histogram,
    /// Says something that does not change.
    Info,
}

impl Kind {
    /// The name in the exposition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    /// What the names of its samples end with, where queries name them.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Without prefix and unit.
    name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it counts in; the end of its name.
    pub unit: Option<&'static str>,
    /// One line, as a scraper gets it, without the full stop.
    pub help: &'static str,
    /// Its labels.
    pub labels: &'static [Label],
    /// What to look at when it moves.
    pub look: &'static str,
}

impl Description {
    const fn new(kind: Kind, name: &'static str, help: &'static str, look: &'static str) -> Self {
        Self { name, kind, unit: None, help, labels: &[], look }
    }

    const fn by(self, labels: &'static [Label]) -> Self {
        Self { labels, ..self }
    }

    const fn in_unit(self, unit: &'static str) -> Self {
        Self { unit: Some(unit), ..self }
    }

    /// The name of the family, as TYPE, HELP and UNIT say it.
    pub fn family(&self) -> String {
        match self.unit {
            Some(unit) => format!("{PREFIX}_{}_{unit}", self.name),
            None => format!("{PREFIX}_{}", self.name),
        }
    }

    /// The name in queries; of a histogram what `_bucket`, `_sum` and `_count` are added to.
    pub fn query(&self) -> String {
        format!("{}{}", self.family(), self.kind.suffix())
    }
}

/// A registry that takes metrics with their descriptions.
pub(super) trait Registered {
    fn put(&mut self, description: &Description, metric: impl Metric);
}

impl Registered for Registry {
    fn put(&mut self, description: &Description, metric: impl Metric) {
        let Description { name, help, unit, .. } = *description;
        match unit {
            None => self.register(name, help, metric),
            Some("seconds") => self.register_with_unit(name, help, Unit::Seconds, metric),
            Some("bytes") => self.register_with_unit(name, help, Unit::Bytes, metric),
            Some(other) => {
                self.register_with_unit(name, help, Unit::Other(other.to_owned()), metric);
            }
        }
    }
}

const fn gauge(name: &'static str, help: &'static str, look: &'static str) -> Description {
    Description::new(Kind::Gauge, name, help, look)
}

const fn counter(name: &'static str, help: &'static str, look: &'static str) -> Description {
    Description::new(Kind::Counter, name, help, look)
}

const fn histogram(name: &'static str, help: &'static str, look: &'static str) -> Description {
    Description::new(Kind::Histogram, name, help, look)
}

macro_rules! catalog {
    ($($(#[$doc:meta])* $title:literal { $($name:ident = $description:expr;)+ })+) => {
        $($(pub(super) const $name: Description = $description;)+)+

        /// Every metric, by what it is about, in the order of `docs/metrics.md`.
        pub const GROUPS: &[(&str, &[Description])] = &[$(($title, &[$($name),+])),+];
    };
}

catalog! {
    "The node" {
        BUILD = Description::new(
            Kind::Info, "build", "What is running: version, and the revision it was built of",
            "Two values at once are a rollout.",
        );
        PHASE = gauge(
            "drain_phase", "1 for the phase the node is in",
            "A node that stays in `refusing` or `handing_over` waits for streams: `streams`, \
             `takeovers_total` of the others. `GET /admin/drain` says until when.",
        ).by(ByPhase::LABELS);
        LEASE = gauge(
            "lease_certain", "1 while the node's lease is certainly alive",
            "0: live answers pause, /readyz says 503. Look at the store and at \
             `lease_renewals_total{outcome=\"failed\"}`.",
        );
        RENEWALS = counter(
            "lease_renewals", "Renewals of the node's lease, by what the store said",
            "Failures: the store is slow or away. Some in a row cost the lease, and then the \
             node's streams go to others.",
        ).by(ByOutcome::LABELS);
        ORPHANED = counter(
            "sessions_orphaned", "Sessions of dead nodes cleaned up",
            "A node died without a drain: look for its last log lines, and for OOM kills.",
        );
        TRACE_EXPORTS = counter(
            "trace_exports", "Batches of spans handed to the collector, by outcome",
            "Failures: the collector at the OTLP endpoint is away or refuses. Answers do not \
             notice; spans are dropped.",
        ).by(ByOutcome::LABELS);
    }
    "Sockets" {
        SOCKETS = gauge(
            "sockets", "Open sockets",
            "A fall without a drain: the network, or the load balancer. Compare `sockets_closed_total`.",
        );
        SESSIONS = gauge(
            "sessions", "Sessions with at least one socket on this node",
            "Uneven over the nodes: the load balancer's stickiness; it evens out by itself with \
             the next drain.",
        );
        ACCEPTED = counter(
            "sockets_accepted", "Sockets that were welcomed, by dialect",
            "A storm: many clients reconnect at once. `rate_limited_total{limit=\"resumes\"}` and \
             `recoveries_total` say how it goes.",
        ).by(ByDialect::LABELS);
        REFUSED = counter(
            "sockets_refused", "Sockets that were not welcomed, by reason",
            "`unauthenticated`: clients with old tokens, or an attack. `capacity`: more nodes. \
             `origin`: a page that is not in auth.allowedOrigins.",
        ).by(ByRefusal::LABELS);
        CLOSED = counter(
            "sockets_closed",
            "Sockets that ended, by the close code the node sent; none where the client or the network ended it",
            "`1001`: clients without heartbeats, or a proxy that swallows them. `4502`: a broken client. \
             `none` rising: the network, or a proxy's timeout.",
        ).by(ByClose::LABELS);
        DELIVERED = counter(
            "chunks_delivered", "Chunks written to clients, by way",
            "Divided by `chunks_appended_total`: followers of an answer.",
        ).by(ByVia::LABELS);
        DELIVERED_BYTES = counter(
            "delivered", "Bytes of chunks as sent, by way",
            "The network's share. Bytes a chunk rise when coalescing does less.",
        ).in_unit("bytes").by(ByVia::LABELS);
    }
    "Recovery" {
        RECOVERIES = counter(
            "recoveries", "Follows from a position, by what was found and where it was read",
            "`not_found` and `expired`: clients that come back too late, or a store that lost \
             something. `error`: the store. Source `none`: nothing was read.",
        ).by(BySource::LABELS);
        RESETS = counter(
            "resets", "Followers told to start over, by reason",
            "`rolled_back`: the store lost acknowledged chunks; look at its persistence and \
             fail-over. `restarted`: takeovers under policy restart.",
        ).by(ByReset::LABELS);
        INDEX_CONFLICTS = counter(
            "index_conflicts", "Appends of an owner that the log refused: it ends elsewhere",
            "Two wrote one answer under one epoch, or the store went back. Never expected: the answer \
             ends as INTERNAL. The log of the node names the stream.",
        );
        TAKEOVERS = counter(
            "takeovers", "Streams claimed from other nodes, by what became of the text",
            "Without a drain or a crash: owners that lose their lease. `fail`: answers ended as \
             INTERRUPTED.",
        ).by(ByMode::LABELS);
        REPAIRED = counter(
            "streams_repaired", "Streams written back into a store that lost them",
            "The store came back without its data.",
        );
    }
    "Streams" {
        STREAMS = gauge(
            "streams", "Live streams this node owns",
            "Near limits.streams requests are refused AT_CAPACITY.",
        );
        STARTED = counter(
            "streams_started", "Requests accepted",
            "The load. It minus `streams_sealed_total`, over all nodes, is what is live.",
        );
        SEALED = counter(
            "streams_sealed", "Answers that ended here, by status and error code",
            "`failed`: the code says whether it was the provider (UPSTREAM_*), time \
             (STREAM_TIMEOUT) or a crash (INTERRUPTED). Error budget: failed over all.",
        ).by(ByStatus::LABELS);
        APPENDED = counter(
            "chunks_appended", "Chunks in the log",
            "Chunks a second: what the providers send. Flat while `streams` is not 0: the store \
             is away, or the providers are silent.",
        );
        APPENDED_BYTES = counter(
            "appended", "Bytes of chunks in the log", "The store's memory: times its keeping time.",
        ).in_unit("bytes");
        FIRST_TOKEN = histogram(
            "first_token", "From acceptance to the first chunk",
            "What a user waits. Compare `upstream_first_chunk_seconds`: the rest is ours.",
        ).in_unit("seconds");
        ANSWER = histogram(
            "answer", "From acceptance to the end",
            "Longer answers (`answer_tokens`), or a slower provider (`append_gap_seconds`)?",
        ).in_unit("seconds");
        GAP = histogram(
            "append_gap", "Between two appends of one answer",
            "Inter-chunk latency. Not below stream.coalesceMs; far above it the provider is slow \
             or the store is.",
        ).in_unit("seconds");
        ANSWER_TOKENS = histogram(
            "answer", "Tokens of one answer, as the provider counted them", "What answers cost.",
        ).in_unit("tokens");
        ANSWER_CHUNKS = histogram(
            "answer", "Chunks of one answer",
            "Above 100,000 an answer ends with finishReason length.",
        ).in_unit("chunks");
    }
    "Providers" {
        UPSTREAM_CALLS = counter(
            "upstream_calls", "Calls of a provider that ended, by how",
            "`unavailable` and `timeout`: the provider, or the way to it. `refused`: requests it \
             does not take: model names, keys, context length.",
        ).by(ByCall::LABELS);
        UPSTREAM_FIRST = histogram(
            "upstream_first_chunk", "From the call to the provider's first chunk",
            "The provider's queue. Other regions, other models, failover.",
        ).in_unit("seconds");
        UPSTREAM_TOKENS = counter(
            "upstream", "Tokens as the providers counted them, of requests and of answers",
            "The bill.",
        ).in_unit("tokens").by(ByTokens::LABELS);
        PROVIDER_BREAKER = gauge(
            "provider_breaker", "1 for the state a provider's breaker is in",
            "`open`: that provider is not asked; answers go to the next one or end as \
             UPSTREAM_UNAVAILABLE.",
        ).by(ByBreaker::LABELS);
        PROVIDER_BREAKER_OPENS = counter(
            "provider_breaker_opens", "Times a provider's breaker opened",
            "See `upstream_calls_total` for what went wrong before.",
        ).by(ByProvider::LABELS);
        PROVIDER_CALLS = counter(
            "provider_calls", "Calls of each provider that began; one answer may ask several",
            "The second in the list is asked: the first one fails.",
        ).by(ByProvider::LABELS);
        PROVIDER_FAILURES = counter(
            "provider_failures",
            "Calls of each provider that failed: not reached, overloaded, too slow, broken off",
            "Half of the last ten open its breaker.",
        ).by(ByProvider::LABELS);
        PROVIDER_LIMITED = counter(
            "provider_limited", "Requests that did not wait for a provider's limiter any longer",
            "Its callsPerMinute is too low for the load, or ours for its quota.",
        ).by(ByProvider::LABELS);
    }
    "Caches" {
        READS = counter(
            "cache_reads",
            "Reads of the log by level: own answers in memory, answers of other nodes in memory, the store; a miss goes on to the next level",
            "Hit rate of a level: hits over hits and misses. A miss of `store` is an answer that \
             is nowhere.",
        ).by(ByRead::LABELS);
        EVICTIONS = counter(
            "cache_evictions", "Answers that memory had no room for, by level",
            "`own`: more than 256 MiB ended within half an hour; those can no longer be written \
             back if the store loses them. `cached` only costs reads of the store.",
        ).by(ByMemory::LABELS);
    }
    "Doors" {
        AUTH = counter(
            "auth_attempts", "Tokens and tickets checked, by outcome",
            "`refused` rising: a rotated key that one side does not know, or an attack. \
             `unavailable`: tickets need the store.",
        ).by(ByAuth::LABELS);
        KEY_SET_READS = counter(
            "key_set_reads", "Reads of the issuer's key set, by outcome",
            "`failed`: the issuer is away. Known keys stay good; tokens of new ones are refused \
             until it is back.",
        ).by(ByOutcome::LABELS);
        LIMITED = counter(
            "rate_limited", "Times somebody was told to wait, by limit",
            "`requests`, `tickets`, `answers`: single users. `accepts`, `resumes`: this node; \
             more nodes, or a storm that spreads out by itself.",
        ).by(ByLimit::LABELS);
    }
    "Between nodes" {
        BUS = counter(
            "bus_events", "Hints published to and received from the bus, the own ones too",
            "Hints make things faster and nothing else. `failed`: the store's pub/sub is away; \
             cancelling then takes half a second.",
        ).by(ByBus::LABELS);
        BUS_LOST = counter(
            "bus_events_lost", "Hints that this node was too slow for",
            "The node is overloaded: its CPU.",
        );
        BROADCASTS = counter(
            "broadcasts", "What nodes tell all the others, by event; received: of others",
            "NODE_STARTUP without a rollout: a node restarts again and again.",
        ).by(ByBroadcast::LABELS);
    }
    "Redis (where it is the store)" {
        REDIS_CALLS = counter(
            "redis_calls", "Commands and scripts sent", "Calls a chunk: how well appends share.",
        );
        REDIS_PIPELINES = counter(
            "redis_pipelines", "Writes to a connection", "`redis_calls_total` over this: batching.",
        );
        REDIS_ERRORS = counter(
            "redis_errors", "Pipelines that failed", "Redis' own log, then the network.",
        );
        REDIS_RETRIES = counter(
            "redis_retries", "Pipelines tried again", "Connections break: fail-overs, idle timeouts.",
        );
        REDIS_CONNECTS = counter(
            "redis_connects", "Connections made", "Rises without retries: a proxy that closes them.",
        );
        REDIS_BREAKER_OPEN = gauge(
            "redis_breaker_open", "1 while calls are refused without asking",
            "Redis is away: streams pause and nothing is lost. It closes with the first probe \
             that succeeds, at most a second later.",
        );
        REDIS_BREAKER_OPENS = counter(
            "redis_breaker_opens", "Times the breaker opened", "How often Redis was away.",
        );
        REDIS_SUBSCRIBED = gauge(
            "redis_subscribed", "1 while hints arrive",
            "0: followers find chunks by sweeps, up to two seconds late.",
        );
        REDIS_SUBSCRIPTIONS = counter(
            "redis_subscriptions", "Subscriptions made", "All but the first follow a loss.",
        );
        REDIS_HINTS = counter(
            "redis_hints", "Hints received about streams followed here", "Flat: see `redis_subscribed`.",
        );
        REDIS_SWEEPS = counter("redis_sweeps", "Sweeps over followed streams", "One in two seconds.");
        REDIS_BACKFILLS = counter(
            "redis_backfills", "Changes that a sweep found, not a hint",
            "Hints were lost: Redis' client-output-buffer-limit for pubsub, or its network.",
        );
        REDIS_TOLD_READS = counter(
            "redis_told_reads", "Reads answered with text that came with hints",
            "Reads that cost Redis nothing.",
        );
        REDIS_SHARED_READS = counter(
            "redis_shared_reads", "Reads that shared the answer of another one",
            "Many followers of one answer on this node.",
        );
        REDIS_STREAMS = gauge(
            "redis_streams", "Streams remembered, followed or owned", "Memory of this node.",
        );
    }
}
