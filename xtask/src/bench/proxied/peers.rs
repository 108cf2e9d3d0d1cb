//! Other programs that pass a provider's stream on: LiteLLM's proxy and vLLM's router, from PyPI, each
//! in a virtual environment of its own with pinned versions. Where one cannot be installed or does not
//! start, the comparison is left out and said so.

use super::client::Door;
use super::round::Subject;
use crate::process::{Group, LOOK, Stop, now};
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A program that does not listen by then does not start.
const READY: Duration = Duration::from_secs(90);
/// Its output, in its folder.
const LOG: &str = "peer.log";
/// Then it may still look around.
const SETTLE: Duration = Duration::from_secs(5);

/// One of them, as it is installed.
pub(super) struct Kind {
    /// As people call it.
    pub(super) name: &'static str,
    package: &'static str,
    /// Every package with its version, as `pip freeze` writes it.
    requirements: &'static str,
    /// Arguments after its own port and the provider's address are known.
    arguments: fn(&Path, u16, SocketAddr) -> Result<Vec<String>>,
}

pub(super) const KINDS: [Kind; 2] = [
    Kind {
        name: "vllm-router",
        package: "vllm-router",
        requirements: include_str!("peer/vllm-router.txt"),
        arguments: vllm_router,
    },
    Kind {
        name: "LiteLLM",
        package: "litellm",
        requirements: include_str!("peer/litellm.txt"),
        arguments: litellm,
    },
];

impl Kind {
    /// Its name and version.
    pub(super) fn title(&self) -> String {
        let mut pins = self.requirements.lines().filter_map(|line| line.split_once("=="));
        let version = pins.find(|(package, _)| *package == self.package).map_or("", |pin| pin.1);
        format!("{} {version}", self.name)
    }
}

/// A running one; dropping it ends it.
pub(super) struct Peer {
    pub(super) kind: &'static Kind,
    group: Group,
    address: SocketAddr,
}

impl Peer {
    /// Installs and starts it in front of the provider; the error says why there is no comparison.
    pub(super) fn start(
        kind: &'static Kind,
        folder: &Path,
        upstream: SocketAddr,
        stop: &Stop,
    ) -> Result<Self> {
        let folder = folder.join(kind.package);
        install(kind, &folder, stop)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = folder.join(LOG);
        let out = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new(folder.join("bin").join(kind.package));
        command.args((kind.arguments)(&folder, port, upstream)?).current_dir(&folder);
        command.stdout(out.try_clone()?).stderr(out);
        // Nothing but this machine is asked, and nobody is told.
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_LOG", "ERROR");
        // It listens on loopback only, and keys would cost it something.
        command.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
        let group = Group::spawn(kind.name, &mut command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut peer = Self { kind, group, address };
        peer.ready(stop).with_context(|| format!("see {LOG} beside its packages"))?;
        stop.sleep(SETTLE)?;
        Ok(peer)
    }

    fn ready(&mut self, stop: &Stop) -> Result<()> {
        let deadline = now() + READY;
        while TcpStream::connect(self.address).is_err() {
            self.group.must_run()?;
            if now() > deadline {
                bail!("it does not listen after {READY:?}");
            }
            stop.sleep(LOOK)?;
        }
        Ok(())
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            name: self.kind.name,
            door: Door::Http(self.address),
            pid: Some(self.group.pid()),
        }
    }
}

/// Into a virtual environment; what is there already is kept.
fn install(kind: &Kind, folder: &Path, stop: &Stop) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let requirements = folder.join("requirements.txt");
    std::fs::write(&requirements, kind.requirements)?;
    let run = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).stdout(Stdio::null());
        let what = format!("{} {}", program.display(), arguments.join(" "));
        let status = Group::spawn(&what, &mut command)?.wait(stop)?;
        if status.success() { Ok(()) } else { bail!("{what}: {status}") }
    };
    let python = folder.join("bin/python");
    if !python.exists() {
        run(Path::new("python3"), &["-m", "venv", "."])?;
    }
    let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    run(&python, &[&quiet[..], &["--requirement", "requirements.txt"]].concat())
}

fn vllm_router(_: &Path, port: u16, upstream: SocketAddr) -> Result<Vec<String>> {
    let metrics = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let line = format!(
        "--host 127.0.0.1 --port {port} --worker-urls http://{upstream} --policy round_robin \
         --prometheus-host 127.0.0.1 --prometheus-port {metrics} --log-level warning"
    );
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

fn litellm(folder: &Path, port: u16, upstream: SocketAddr) -> Result<Vec<String>> {
    let settings = format!(
        "model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/bench\n      \
         api_base: http://{upstream}/v1\n      api_key: none\n"
    );
    std::fs::write(folder.join("config.yaml"), settings)?;
    let line = format!(
        "--host 127.0.0.1 --port {port} --config config.yaml --num_workers 1 --telemetry False"
    );
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_of_every_program_is_pinned() {
        for kind in &KINDS {
            let (name, version) =
                kind.title().split_once(' ').map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap();
            assert!(name == kind.name && version.starts_with(|c: char| c.is_ascii_digit()));
            assert!(kind.requirements.lines().all(|line| line.contains("==")), "{name}");
        }
    }

    #[test]
    fn a_program_that_does_not_start_says_why() {
        static KIND: Kind = Kind {
            name: "Nobody",
            package: "nobody",
            requirements: "",
            arguments: |_, _, _| Ok(Vec::new()),
        };
        let folder = std::env::temp_dir().join(format!("xtask-peers-{}", std::process::id()));
        let stop = Stop::default();
        let bin = folder.join("nobody/bin");
        std::fs::create_dir_all(&bin).unwrap();
        // A python that installs nothing, a program that ends at once.
        std::os::unix::fs::symlink("/bin/true", bin.join("python")).unwrap();
        std::os::unix::fs::symlink("/bin/false", bin.join("nobody")).unwrap();
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let error = Peer::start(&KIND, &folder, upstream, &stop).err().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("peer.log") && text.contains("ended by itself"), "{text}");
    }
}
