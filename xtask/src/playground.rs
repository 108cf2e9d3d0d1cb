//! The playground as a child: started on a free port, asked over `/dev`, ended with its guard.

use crate::process::{Group, LOOK, Stop, now};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A playground that does not answer by then is broken.
const READY: Duration = Duration::from_secs(30);
/// It takes ports next to the first one, which somebody else may have: then another first one helps.
const STARTS: usize = 5;
/// Below what Linux gives to connections (`ip_local_port_range`, from 32768).
const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 20_000;
/// Of one `/dev` request.
const ANSWER: Duration = Duration::from_secs(10);
/// Lines of the log shown after a failure.
const LOG_LINES: usize = 20;

/// How to start one.
#[derive(Clone)]
pub(crate) struct Options<'a> {
    /// The `dataplane` binary.
    pub(crate) binary: &'a Path,
    /// Nodes in it.
    pub(crate) nodes: usize,
    /// `CHAT_COALESCE_MS`; `None`: the default.
    pub(crate) coalesce_ms: Option<u64>,
    /// `STORES`: memory or redis.
    pub(crate) stores: &'a str,
    /// `CHAT_UPSTREAM_URL`; `None`: the simulated provider, whatever the environment says.
    pub(crate) upstream_url: Option<&'a str>,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

/// A running playground.
pub(crate) struct Playground {
    group: Group,
    address: SocketAddr,
    log: PathBuf,
}

/// What is needed of one of `GET /dev/nodes`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) ws_url: String,
    #[serde(default)]
    pub(crate) phase: String,
}

/// `GET /dev/redis`.
#[derive(Deserialize)]
struct RedisPlace {
    url: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Playground {
    /// Starts it and waits until `/dev/nodes` answers.
    pub(crate) fn start(options: Options<'_>, stop: &Stop) -> Result<Self> {
        for _ in 1..STARTS {
            match Self::start_on(free_port()?, options.clone(), stop) {
                // It names its reason only in words, which come with the end of its log.
                Err(error) if format!("{error:#}").contains("is taken") => {}
                outcome => return outcome,
            }
        }
        Self::start_on(free_port()?, options, stop)
    }

    fn start_on(port: u16, options: Options<'_>, stop: &Stop) -> Result<Self> {
        if let Some(folder) = options.log.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let out = File::create(&options.log)
            .with_context(|| format!("creating {}", options.log.display()))?;
        let mut command = Command::new(options.binary);
        command.arg("playground").stdout(out.try_clone()?).stderr(out);
        command.env("CHAT_DEV_PORT", port.to_string());
        command.env("CHAT_DEV_NODES", options.nodes.to_string());
        command.env("STORES", options.stores);
        match options.upstream_url {
            Some(url) => command.env("CHAT_UPSTREAM_URL", url),
            None => command.env_remove("CHAT_UPSTREAM_URL"),
        };
        if let Some(window) = options.coalesce_ms {
            command.env("CHAT_COALESCE_MS", window.to_string());
        }
        let group = Group::spawn("the playground", &mut command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut playground = Self { group, address, log: options.log };
        playground.ready(stop).map_err(|error| playground.with_log(error))?;
        Ok(playground)
    }

    fn ready(&mut self, stop: &Stop) -> Result<()> {
        let deadline = now() + READY;
        loop {
            self.group.must_run()?;
            match self.nodes() {
                Ok(nodes) if !nodes.is_empty() => return Ok(()),
                answer if now() >= deadline => {
                    let why = answer.err().map_or_else(|| "no nodes".to_owned(), |e| e.to_string());
                    bail!("the playground did not get ready within {READY:?}: {why}");
                }
                _ => stop.sleep(LOOK)?,
            }
        }
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// `GET /dev/nodes`.
    pub(crate) fn nodes(&self) -> Result<Vec<Node>> {
        get(self.address, "/dev/nodes")
    }

    /// `host:port` of the playground's Redis.
    pub(crate) fn redis(&self) -> Result<SocketAddr> {
        let place: RedisPlace = get(self.address, "/dev/redis")?;
        let address = place.url.strip_prefix("redis://").and_then(|host| host.parse().ok());
        address.with_context(|| format!("GET /dev/redis: not an address: {}", place.url))
    }

    /// SIGKILL for a node that is a process; it is dead when this returns.
    pub(crate) fn kill(&self, node: &str) -> Result<()> {
        ask(self.address, "POST", &format!("/dev/nodes/{node}/kill"), "202").map(drop)?;
        let nodes = self.nodes()?;
        if !nodes.iter().any(|other| other.name == node && other.phase == "dead") {
            bail!("{node} was killed and is not dead");
        }
        Ok(())
    }

    /// A JWT for `user`.
    pub(crate) fn token(&self, user: &str) -> Result<String> {
        let token: Token = get(self.address, &format!("/dev/token?user={user}"))?;
        Ok(token.token)
    }

    /// The error with the end of the log, which says why.
    pub(crate) fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        error.context(format!("the playground's log, {}, ends with:\n  {tail}", self.log.display()))
    }
}

/// A port nobody listens on now, and none of those that connections are given: after thousands of
/// clients most of these are not free for a minute, and a playground needs several next to each other.
fn free_port() -> Result<u16> {
    let mut failed = None;
    for _ in 0..STARTS {
        let chance = RandomState::new().build_hasher().finish();
        let port = FIRST_PORT + (chance % u64::from(PORTS)) as u16;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.map_or_else(|| anyhow::anyhow!("no port was tried"), Into::into))
}

fn get<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T> {
    let body = ask(address, "GET", path, "200")?;
    serde_json::from_str(&body).with_context(|| format!("GET {path}: unexpected body"))
}

/// One request without a body. HTTP/1.0: the answer ends with the connection and is never chunked.
fn ask(address: SocketAddr, method: &str, path: &str, expected: &str) -> Result<String> {
    let what = || format!("{method} {path}");
    let mut stream = TcpStream::connect(address).with_context(what)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(what)?;
    let text = String::from_utf8(answer).with_context(what)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some(expected) {
        bail!("{}: {status}", what());
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve_once(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = [0; 1024];
            let _ = stream.read(&mut seen).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn a_body_is_read_and_a_refusal_is_an_error() {
        let at = serve_once("HTTP/1.0 200 OK\r\nX: y\r\n\r\n[{\"wsUrl\":\"ws://a/b\",\"x\":1}]");
        let nodes: Vec<Node> = get(at, "/dev/nodes").unwrap();
        assert_eq!(nodes[0].ws_url, "ws://a/b");
        let at = serve_once("HTTP/1.1 404 Not Found\r\n\r\n{}");
        let refused = get::<Vec<Node>>(at, "/dev/nodes").err().unwrap().to_string();
        assert_eq!(refused, "GET /dev/nodes: HTTP/1.1 404 Not Found");
    }

    #[test]
    fn a_playground_that_dies_at_once_shows_its_log() {
        // `sh playground` says that there is no such file, and exits.
        let log = std::env::temp_dir().join(format!("xtask-{}.log", std::process::id()));
        let options = Options {
            binary: Path::new("sh"),
            nodes: 1,
            coalesce_ms: None,
            stores: "memory",
            upstream_url: None,
            log: log.clone(),
        };
        let error = Playground::start(options, &Stop::default()).err().unwrap();
        std::fs::remove_file(&log).unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("No such file") && text.contains("ended by itself"), "{text}");
    }
}
