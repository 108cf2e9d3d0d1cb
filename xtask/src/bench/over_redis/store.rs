//! The playground's Redis as the bench sees it: a plain connection for PING, and the process.

use super::super::proc::Cpu;
use crate::playground::Playground;
use crate::process::now;
use anyhow::{Context as _, Result, bail};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Of one command.
const ANSWER: Duration = Duration::from_secs(5);

/// A running Redis.
pub(super) struct Store {
    pub(super) address: SocketAddr,
    stream: TcpStream,
    pid: u32,
}

impl Store {
    /// Connects to the playground's.
    pub(super) fn of(playground: &Playground) -> Result<Self> {
        let address = playground.redis()?;
        let stream = TcpStream::connect(address).context("connecting to Redis")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut store = Self { address, stream, pid: 0 };
        store.pid = store.process_id()?;
        Ok(store)
    }

    pub(super) fn is(&self, pid: u32) -> bool {
        self.pid == pid
    }

    /// CPU time of its process so far.
    pub(super) fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.pid)
    }

    /// One PING from here, and how long it took.
    pub(super) fn ping(&mut self) -> Result<Duration> {
        let begin = now();
        self.stream.write_all(b"*1\r\n$4\r\nPING\r\n").context("PING")?;
        let mut answer = [0; 16];
        let count = self.stream.read(&mut answer).context("PING")?;
        let took = begin.elapsed();
        match answer.get(..count) {
            Some(b"+PONG\r\n") => Ok(took),
            other => bail!("PING was answered {other:?}"),
        }
    }

    fn process_id(&mut self) -> Result<u32> {
        self.stream.write_all(b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n").context("INFO")?;
        let (mut text, mut part) = (String::new(), [0; 4096]);
        loop {
            let count = self.stream.read(&mut part).context("INFO")?;
            if count == 0 {
                bail!("Redis closed the connection");
            }
            text += &String::from_utf8_lossy(&part[..count]);
            if let Some(whole) = whole(&text) {
                return process_id(whole).context("INFO names no process_id");
            }
        }
    }
}

/// The text of a bulk answer (`$LENGTH\r\nTEXT\r\n`), once it is whole.
fn whole(answer: &str) -> Option<&str> {
    let (length, text) = answer.strip_prefix('$')?.split_once("\r\n")?;
    text.get(..length.parse().ok()?)
}

fn process_id(info: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read_from_a_whole_answer() {
        let answer = "$29\r\n# Server\r\nprocess_id:4711\r\nx\r\n";
        assert_eq!(whole(answer).and_then(process_id), Some(4711));
        assert_eq!(whole("$29\r\n# Server\r\nproce"), None);
        assert_eq!(process_id("# Server\r\nport:1\r\n"), None);
    }
}
