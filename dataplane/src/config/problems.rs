//! Whether settings make sense together. Pure: settings in, everything that is wrong with them out,
//! all at once, so that a file is corrected in one go.

use super::provider_problems::provider_problems;
use crate::admit::key_source::is_loopback;
use protocol::settings::{Node, Redis, Store};
use protocol::{Settings, settings};
use std::fmt;
use std::ops::RangeInclusive;
use url::Url;

/// Longest name of a node: what a host name may have (RFC 1123).
const MAX_NAME_CHARS: usize = 253;
/// Longest time any setting may name: a day.
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Largest number of anything that is counted.
pub(super) const MANY: u64 = 10_000_000;
/// A window longer than this is a pause that people see.
const MAX_COALESCE_MS: u64 = 1_000;
/// Largest clock difference that is still one.
const MAX_LEEWAY_MS: u64 = 300_000;
/// Longest time that one read of a key set may take.
const MAX_KEY_SET_MS: u64 = 60_000;
/// Largest key set.
const MAX_KEY_SET_BYTES: u64 = 1024 * 1024;
/// What a page or a queue must hold at least: one chunk of 1,024 characters, escaped.
const MIN_PAGE_BYTES: u64 = 16 * 1024;
/// Most of one replay page and of one socket's queue.
const MAX_PAGE_BYTES: u64 = 16 * 1024 * 1024;
/// Largest answer (protocol section 4).
const MAX_ANSWER_BYTES: u64 = 4 * 1024 * 1024;
/// Most chunks of one answer (protocol section 4).
const MAX_ANSWER_CHUNKS: u64 = 100_000;

/// A setting that cannot be used, and what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its path in the file, or the name of an environment variable.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

/// Everything that is wrong; empty: the settings can be used.
pub fn problems(settings: &Settings) -> Vec<Problem> {
    let mut checks = Checks::default();
    checks.node(&settings.node);
    checks.store(&settings.store);
    checks.auth(&settings.auth);
    checks.limits(&settings.limits);
    checks.socket(&settings.socket);
    checks.stream(&settings.stream);
    checks.ownership(&settings.ownership);
    checks.drain(&settings.drain);
    checks.telemetry(&settings.telemetry);
    checks.found.extend(provider_problems(&settings.upstream));
    checks.found
}

/// A node's name as keys and logs can carry it.
///
/// # Errors
/// What is wrong with it.
pub fn node_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    Err(format!("{name:?} is no node name: 1 to {MAX_NAME_CHARS} letters, digits, `-`, `_`, `.`"))
}

#[derive(Default)]
struct Checks {
    found: Vec<Problem>,
}

impl Checks {
    fn ensure(&mut self, holds: bool, key: &str, what: impl FnOnce() -> String) {
        if !holds {
            self.found.push(Problem { key: key.to_owned(), what: what() });
        }
    }

    fn within(&mut self, key: &str, value: u64, allowed: RangeInclusive<u64>) {
        self.ensure(allowed.contains(&value), key, || {
            format!("{value}, but {} to {} is allowed", allowed.start(), allowed.end())
        });
    }

    fn at_most(&mut self, (key, value): (&str, u64), (other, most): (&str, u64)) {
        self.ensure(value <= most, key, || format!("{value} is more than {other}, {most}"));
    }

    fn node(&mut self, node: &Node) {
        if let Some(Err(what)) = node.name.as_deref().map(node_name) {
            self.ensure(false, "node.name", || what);
        }
        let (data, admin) = (node.data_address, node.admin_address);
        let overlap =
            data.ip() == admin.ip() || data.ip().is_unspecified() || admin.ip().is_unspecified();
        let same = data.port() != 0 && data.port() == admin.port() && overlap;
        self.ensure(!same, "node.adminAddress", || {
            format!("{admin} has the port of node.dataAddress, {data}; take another one")
        });
    }

    fn store(&mut self, store: &Store) {
        let Store::Redis(Redis { url, prefix, ca_file }) = store else { return };
        let without_tls = ca_file.is_some() && !url.starts_with("rediss:");
        self.ensure(!without_tls, "store.redis.caFile", || {
            "is of TLS, and store.redis.url does not begin with rediss:".to_owned()
        });
        if let Err(what) = redis_url(url) {
            self.ensure(false, "store.redis.url", || what);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        let good = (1..=64).contains(&prefix.len()) && prefix.chars().all(plain);
        self.ensure(good, "store.redis.prefix", || {
            format!("{prefix:?}, but 1 to 64 letters, digits, `-`, `_`, `.`, `:` are allowed")
        });
    }

    fn telemetry(&mut self, telemetry: &settings::Telemetry) {
        let Some(address) = &telemetry.otlp_endpoint else { return };
        let url = Url::parse(address).ok();
        let good = url.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.username().is_empty()
        });
        self.ensure(good, "telemetry.otlpEndpoint", || {
            format!("{address:?} is no address of a collector; for example http://collector:4318")
        });
    }

    fn auth(&mut self, auth: &settings::Auth) {
        for origin in &auth.allowed_origins {
            self.ensure(is_origin(origin), "auth.allowedOrigins", || {
                format!("{origin:?} is no origin; for example https://chat.example.org")
            });
        }
        for (key, text) in [("auth.issuer", &auth.issuer), ("auth.audience", &auth.audience)] {
            let named = text.as_ref().is_none_or(|text| !text.trim().is_empty());
            self.ensure(named, key, || "empty; leave it out to accept any".to_owned());
        }
        self.within("auth.leewayMs", auth.leeway_ms, 0..=MAX_LEEWAY_MS);
        if let Some(jwks) = &auth.jwks {
            self.jwks(jwks);
            // An issuer signs for others too (RFC 8725 sections 3.8 and 3.9).
            let bound = auth.issuer.is_some() || auth.audience.is_some();
            self.ensure(bound, "auth.audience", || {
                "is missing: with auth.jwks name the audience of our tokens, the issuer, or best both"
                    .to_owned()
            });
        }
    }

    fn jwks(&mut self, jwks: &settings::Jwks) {
        match (&jwks.url, &jwks.file) {
            (Some(url), None) => {
                if let Err(what) = key_set_url(url, jwks.allow_http) {
                    self.ensure(false, "auth.jwks.url", || what);
                }
            }
            (None, Some(file)) => {
                let named = !file.trim().is_empty();
                self.ensure(named, "auth.jwks.file", || "empty; name a file".to_owned());
            }
            _ => self.ensure(false, "auth.jwks", || "needs one of url and file".to_owned()),
        }
        let some = !jwks.algorithms.is_empty();
        self.ensure(some, "auth.jwks.algorithms", || {
            "empty; leave it out to allow all, or name some, for example [RS256]".to_owned()
        });
        self.within("auth.jwks.refreshMs", jwks.refresh_ms, 1_000..=DAY_MS);
        let least = ("auth.jwks.minIntervalMs", jwks.min_interval_ms);
        self.within(least.0, least.1, 100..=DAY_MS);
        self.at_most(least, ("auth.jwks.refreshMs", jwks.refresh_ms));
        self.within("auth.jwks.timeoutMs", jwks.timeout_ms, 100..=MAX_KEY_SET_MS);
        self.within("auth.jwks.maxBytes", jwks.max_bytes as u64, 256..=MAX_KEY_SET_BYTES);
    }

    fn limits(&mut self, limits: &settings::Limits) {
        for (key, value) in [
            ("limits.streams", limits.streams as u64),
            ("limits.sessions", limits.sessions as u64),
            ("limits.requestsPerMinute", limits.requests_per_minute.into()),
            ("limits.requestBurst", limits.request_burst.into()),
            ("limits.socketsPerUser", limits.sockets_per_user as u64),
            ("limits.answersPerUser", limits.answers_per_user as u64),
            ("limits.acceptsPerSecond", limits.accepts_per_second.into()),
            ("limits.resumesPerSecond", limits.resumes_per_second.into()),
            ("limits.acceptBurst", limits.accept_burst.into()),
            ("limits.followsPerSocket", limits.follows_per_socket as u64),
        ] {
            self.within(key, value, 1..=MANY);
        }
    }

    fn socket(&mut self, socket: &settings::Socket) {
        self.within("socket.heartbeatMs", socket.heartbeat_ms, 1_000..=DAY_MS);
        self.within("socket.idleMs", socket.idle_ms, 1_000..=DAY_MS);
        // One heartbeat may be late without the socket being called idle.
        self.ensure(
            socket.heartbeat_ms.saturating_mul(2) <= socket.idle_ms,
            "socket.idleMs",
            || {
                format!(
                    "{} must be at least twice socket.heartbeatMs, {}",
                    socket.idle_ms, socket.heartbeat_ms
                )
            },
        );
        let pages = MIN_PAGE_BYTES..=MAX_PAGE_BYTES;
        self.within("socket.queueBytes", socket.queue_bytes as u64, pages.clone());
        self.within("socket.pageBytes", socket.page_bytes as u64, pages);
    }

    fn stream(&mut self, stream: &settings::Stream) {
        self.within("stream.coalesceMs", stream.coalesce_ms, 0..=MAX_COALESCE_MS);
        self.within("stream.totalMs", stream.total_ms, 1..=DAY_MS);
        for (key, value) in [
            ("stream.firstTokenMs", stream.first_token_ms),
            ("stream.silenceMs", stream.silence_ms),
        ] {
            self.within(key, value, 1..=DAY_MS);
            self.at_most((key, value), ("stream.totalMs", stream.total_ms));
        }
        self.within("stream.waitingMs", stream.waiting_ms, 1..=DAY_MS);
        self.within("stream.abandonedMs", stream.abandoned_ms, 1..=DAY_MS);
        let buffer = MIN_PAGE_BYTES..=MAX_PAGE_BYTES;
        self.within("stream.bufferBytes", stream.buffer_bytes as u64, buffer);
        self.within("stream.maxBytes", stream.max_bytes as u64, 1..=MAX_ANSWER_BYTES);
        self.within("stream.maxChunks", stream.max_chunks, 1..=MAX_ANSWER_CHUNKS);
    }

    fn ownership(&mut self, ownership: &settings::Ownership) {
        let lease = ("ownership.leaseMs", ownership.lease_ms);
        self.within(lease.0, lease.1, 100..=DAY_MS);
        self.within("ownership.renewMs", ownership.renew_ms, 1..=DAY_MS);
        // One renewal may be lost, and the next still comes in time.
        let often = ownership.renew_ms.saturating_mul(2) < ownership.lease_ms;
        self.ensure(often, "ownership.renewMs", || {
            let (renew, lease) = (ownership.renew_ms, ownership.lease_ms);
            format!("{renew} must be less than half of ownership.leaseMs, {lease}")
        });
        self.within("ownership.lookMs", ownership.look_ms, 1..=DAY_MS);
        self.at_most(("ownership.lookMs", ownership.look_ms), lease);
        let unclaimed = ("ownership.unclaimedMs", ownership.unclaimed_ms);
        self.within(unclaimed.0, unclaimed.1, 1..=DAY_MS);
        self.at_most(lease, unclaimed);
        let barren = u64::from(ownership.max_barren_takeovers);
        self.within("ownership.maxBarrenTakeovers", barren, 1..=1_000);
    }

    fn drain(&mut self, drain: &settings::Drain) {
        self.within("drain.deadlineMs", drain.deadline_ms, 1..=DAY_MS);
        let sigterm = ("drain.sigtermMs", drain.sigterm_ms);
        self.within(sigterm.0, sigterm.1, 1..=DAY_MS);
        self.at_most(("drain.lingerMs", drain.linger_ms), sigterm);
        let goaways = u64::from(drain.goaways_per_second);
        self.within("drain.goawaysPerSecond", goaways, 1..=MANY);
        self.within("drain.ignoreMs", drain.ignore_ms, 1..=DAY_MS);
    }
}

/// What a Redis URL may be here; the password comes by another way.
fn redis_url(text: &str) -> Result<(), String> {
    let example = "for example redis://redis:6379";
    if text.is_empty() {
        return Err(format!("is missing; {example}"));
    }
    // What was written may hold a password: it is not repeated.
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); {example}"))?;
    if !matches!(url.scheme(), "redis" | "rediss") {
        return Err(format!(
            "begins with {}:, but redis: or rediss: is needed; {example}",
            url.scheme()
        ));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("names no host; {example}"));
    }
    if url.password().is_some() {
        return Err("holds a password; put it into CHAT_REDIS_PASSWORD or a file named by \
                    CHAT_REDIS_PASSWORD_FILE"
            .to_owned());
    }
    Ok(())
}

/// Where keys may come from. Whoever can change them on their way can forge every token.
fn key_set_url(text: &str, allow_http: bool) -> Result<(), String> {
    let example = "for example https://login.example.org/.well-known/jwks.json";
    // What was written may hold a password: it is not repeated.
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); {example}"))?;
    match url.scheme() {
        "https" => {}
        "http" if allow_http || is_loopback(&url) => {}
        "http" => {
            return Err(
                "is http, and whoever is on the way could forge every token; use https, or \
                        set auth.jwks.allowHttp: true where nobody is"
                    .to_owned(),
            );
        }
        scheme => return Err(format!("begins with {scheme}:, but https: is needed; {example}")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or a password; a key set is public, leave them out".to_owned());
    }
    Ok(())
}

/// As browsers send it (RFC 6454 section 6.1): no path, no `/` at the end.
fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::default();
        change(&mut settings);
        problems(&settings).iter().map(ToString::to_string).collect()
    }

    fn redis(url: &str) -> Vec<String> {
        let url = url.to_owned();
        found(|s| s.store = Store::Redis(Redis { url, ..Redis::default() }))
    }

    #[test]
    fn the_defaults_can_be_used() {
        assert_eq!(found(|_| {}), Vec::<String>::new());
        assert_eq!(redis("rediss://chat@redis.example.org:6380/2"), Vec::<String>::new());
        assert_eq!(found(|s| s.stream.coalesce_ms = 0), Vec::<String>::new());
        assert_eq!(found(|s| s.page.enabled = true), Vec::<String>::new());
    }

    #[test]
    fn each_rule_names_its_key_and_what_is_allowed() {
        type Change = fn(&mut Settings);
        let cases: [(Change, &str); 17] = [
            (|s| s.node.name = Some("a b".into()), "node.name: \"a b\" is no node name"),
            (|s| s.node.admin_address = s.node.data_address, "node.adminAddress: 0.0.0.0:8080 has"),
            (|s| s.auth.allowed_origins = vec!["https://x/".into()], "auth.allowedOrigins: \"htt"),
            (|s| s.auth.issuer = Some(" ".into()), "auth.issuer: empty"),
            (|s| s.auth.leeway_ms = 400_000, "auth.leewayMs: 400000, but 0 to 300000"),
            (|s| s.limits.streams = 0, "limits.streams: 0, but 1 to 10000000"),
            (|s| s.limits.request_burst = 0, "limits.requestBurst: 0"),
            (|s| s.socket.idle_ms = 30_000, "socket.idleMs: 30000 must be at least twice"),
            (|s| s.socket.page_bytes = 10, "socket.pageBytes: 10, but 16384 to"),
            (|s| s.stream.coalesce_ms = 2_000, "stream.coalesceMs: 2000, but 0 to 1000"),
            (|s| s.stream.silence_ms = 400_000, "stream.silenceMs: 400000 is more than stream.tot"),
            (|s| s.stream.max_bytes = 5 << 20, "stream.maxBytes: 5242880, but 1 to 4194304"),
            (|s| s.ownership.renew_ms = 2_500, "ownership.renewMs: 2500 must be less than half"),
            (|s| s.ownership.look_ms = 0, "ownership.lookMs: 0"),
            (|s| s.ownership.unclaimed_ms = 4_000, "ownership.leaseMs: 5000 is more than owner"),
            (|s| s.drain.linger_ms = 30_000, "drain.lingerMs: 30000 is more than drain.sigtermMs"),
            (|s| s.drain.goaways_per_second = 0, "drain.goawaysPerSecond: 0"),
        ];
        for (change, expected) in cases {
            let found = found(change);
            assert_eq!(found.len(), 1, "{expected}: {found:?}");
            assert!(found[0].starts_with(expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn a_key_set_comes_from_one_place_that_nobody_can_change_on_the_way() {
        let with = |change: fn(&mut settings::Jwks)| {
            found(|s| {
                let url = Some("https://login.example.org/keys".to_owned());
                let mut jwks = settings::Jwks { url, ..settings::Jwks::default() };
                change(&mut jwks);
                s.auth.audience = Some("chat".to_owned());
                s.auth.jwks = Some(jwks);
            })
        };
        type Change = fn(&mut settings::Jwks);
        let good: [Change; 4] = [
            |_| {},
            |jwks| jwks.url = Some("http://127.0.0.1:9/keys".into()),
            |jwks| (jwks.url, jwks.allow_http) = (Some("http://dex:5556/keys".into()), true),
            |jwks| (jwks.url, jwks.file) = (None, Some("/etc/keys.json".into())),
        ];
        for change in good {
            assert_eq!(with(change), Vec::<String>::new());
        }
        let bad: [(Change, &str); 10] = [
            (|jwks| jwks.url = None, "auth.jwks: needs one of"),
            (|jwks| jwks.file = Some("/x".into()), "auth.jwks: needs one of"),
            (|jwks| jwks.url = Some("keys".into()), "auth.jwks.url: is no URL"),
            (|jwks| jwks.url = Some("ftp://a/b".into()), "auth.jwks.url: begins with ftp:"),
            (|jwks| jwks.url = Some("http://dex:5556/keys".into()), "auth.jwks.url: is http"),
            (|jwks| jwks.url = Some("https://u:hunter2@a/".into()), "auth.jwks.url: holds a user"),
            (|jwks| jwks.algorithms.clear(), "auth.jwks.algorithms: empty"),
            (|jwks| jwks.min_interval_ms = 600_000, "auth.jwks.minIntervalMs: 600000 is more"),
            (|jwks| jwks.timeout_ms = 90_000, "auth.jwks.timeoutMs: 90000, but"),
            (|jwks| jwks.max_bytes = 10, "auth.jwks.maxBytes: 10, but"),
        ];
        for (change, expected) in bad {
            let found = with(change);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
            assert!(!found[0].contains("hunter2"));
        }
        let unbound = found(|s| {
            let file = Some("/etc/keys.json".to_owned());
            s.auth.jwks = Some(settings::Jwks { file, ..settings::Jwks::default() });
        });
        assert!(unbound.len() == 1 && unbound[0].starts_with("auth.audience: is missing"));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let found = found(|s| {
            s.limits.streams = 0;
            s.stream.silence_ms = 0;
            s.drain.deadline_ms = 0;
        });
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_redis_without_host_or_with_a_password_is_refused_and_the_password_not_repeated() {
        for (url, expected) in [
            ("", "is missing"),
            ("redis", "is no URL"),
            ("http://redis:6379", "begins with http:"),
            ("redis:///1", "names no host"),
            ("redis://:hunter2@redis:6379", "CHAT_REDIS_PASSWORD_FILE"),
        ] {
            let found = redis(url);
            assert!(found.len() == 1 && found[0].contains(expected), "{url}: {found:?}");
            assert!(!found[0].contains("hunter2"));
        }
        let store =
            Store::Redis(Redis { url: "redis://r:1".into(), prefix: "{a}".into(), ca_file: None });
        assert!(found(|s| s.store = store)[0].starts_with("store.redis.prefix: \"{a}\""));
    }
}
