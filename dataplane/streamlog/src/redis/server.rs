//! A redis-server process of one's own, for development and tests only: on a free port, with nothing
//! on disk, ended with whoever started it, however that ends.
//!
//! A shell stands between: it kills the server as soon as its standard input is closed, which the
//! kernel does even for a process that was killed.

use std::io::{BufRead as _, BufReader, Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Prints the server's process id; kills it when nobody holds the other end of the pipe any more.
const WATCH: &str = "\"$@\" >/dev/null 2>&1 </dev/null & echo $!; \
    while read -r _; do :; done; kill -KILL $! 2>/dev/null; wait $! 2>/dev/null";
/// How often a server that starts is looked at, and how many times.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: usize = 2_000;
/// Ports that were free may be taken meanwhile: another one is tried.
const PORTS: usize = 10;
/// Bound on one answer to [`RedisServer::command`].
const ANSWER: Duration = Duration::from_secs(5);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    process: Process,
    dir: tempfile::TempDir,
}

#[derive(Debug)]
struct Process {
    shell: Child,
    pid: u32,
}

impl Process {
    fn start(port: u16, dir: &tempfile::TempDir) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "sh", "redis-server", "--bind", "127.0.0.1"]);
        command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Ctrl-C is for whoever started it.
        let mut shell = command.process_group(0).spawn()?;
        let out = shell.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let pid = line.trim().parse().map_err(|_| Error::other("sh did not start redis-server"))?;
        Ok(Self { shell, pid })
    }

    fn signal(&self, name: &str) -> Result<()> {
        // The shell's own `kill` is the only one that is always there and needs no `unsafe`.
        let script = format!("kill -{name} {}", self.pid);
        let status = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn is_alive(&self) -> bool {
        self.signal("0").is_ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl RedisServer {
    /// Starts one on a free port and waits until it answers. Blocks the thread.
    ///
    /// # Errors
    /// Where `redis-server` is missing (Debian: `apt-get install redis-server`) or does not answer.
    pub fn start() -> Result<Self> {
        let mut failed = Error::from(ErrorKind::AddrInUse);
        for _ in 0..PORTS {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            match Self::start_on(port) {
                Ok(server) => return Ok(server),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Starts one on this port and waits until it answers. Blocks the thread.
    ///
    /// # Errors
    /// As [`Self::start`], and where the port is taken.
    pub fn start_on(port: u16) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("redis-").tempdir()?;
        let server = Self { port, process: Process::start(port, &dir)?, dir };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    fn wait_until_it_answers(&self) -> Result<()> {
        let mine = format!("process_id:{}", self.pid());
        for _ in 0..LOOKS {
            if let Ok(info) = self.command("INFO server") {
                // Another server may have had the port first.
                let is_mine = info.lines().any(|line| line.trim() == mine);
                return if is_mine { Ok(()) } else { Err(ErrorKind::AddrInUse.into()) };
            }
            if !self.process.is_alive() {
                let hint = "redis-server ended by itself: is it installed, and the port free?";
                return Err(Error::other(hint));
            }
            sleep(LOOK);
        }
        Err(ErrorKind::TimedOut.into())
    }

    /// Its address for [`super::RedisConfig`].
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port, the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Freezes it (SIGSTOP): connections stay and nothing is answered.
    ///
    /// # Errors
    /// Where it does not run any more.
    pub fn pause(&self) -> Result<()> {
        self.process.signal("STOP")
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// Where it does not run any more.
    pub fn resume(&self) -> Result<()> {
        self.process.signal("CONT")
    }

    /// Kills it (SIGKILL) and starts an empty one on the same port; returns when that one answers.
    ///
    /// # Errors
    /// As [`Self::start_on`].
    pub fn restart_empty(&mut self) -> Result<()> {
        self.kill()?;
        self.process = Process::start(self.port, &self.dir)?;
        self.wait_until_it_answers()
    }

    /// Kills it (SIGKILL); it stays away until [`Self::restart_empty`].
    ///
    /// # Errors
    /// Where it could not be told.
    pub fn kill(&mut self) -> Result<()> {
        // It may be dead already; it must be in any case.
        let _ = self.process.signal("KILL");
        for _ in 0..LOOKS {
            if !self.process.is_alive() || self.is_zombie() {
                return Ok(());
            }
            sleep(LOOK);
        }
        Err(ErrorKind::TimedOut.into())
    }

    fn is_zombie(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let state = stat.map(|stat| stat.rsplit(')').next().unwrap_or_default().trim().to_owned());
        state.is_ok_and(|state| state.starts_with('Z'))
    }

    /// Sends one command line, as a person would type it, and gives the answer as text.
    ///
    /// # Errors
    /// Where it does not answer within 5 s, or answers an error.
    pub fn command(&self, line: &str) -> Result<String> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.write_all(format!("{line}\r\n").as_bytes())?;
        let mut answer = BufReader::new(socket);
        let mut first = String::new();
        answer.read_line(&mut first)?;
        let first = first.trim_end();
        match first.split_at_checked(1) {
            Some(("$", length)) => {
                let mut bytes = vec![0; length.parse::<usize>().unwrap_or_default()];
                answer.read_exact(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Some(("+" | ":", text)) => Ok(text.to_owned()),
            _ => Err(Error::other(format!("redis-server answered {first:?} to {line:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_empty_on_the_same_port_and_ends_with_its_guard() {
        let mut server = RedisServer::start().unwrap();
        let (port, first) = (server.port(), server.pid());
        assert_eq!(server.command("SET a 1").unwrap(), "OK");
        assert_eq!(server.command("GET a").unwrap(), "1");
        server.restart_empty().unwrap();
        assert_eq!((server.port(), server.command("DBSIZE").unwrap()), (port, "0".to_owned()));
        let second = server.pid();
        assert_ne!(first, second);
        let alive = |pid: u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
        assert!(alive(second));
        server.pause().unwrap();
        drop(server);
        assert!(!alive(first) && !alive(second), "even a frozen one");
    }
}
