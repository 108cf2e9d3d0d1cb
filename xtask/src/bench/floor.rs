//! The floor: what the kernel alone costs. One loop of blocking `write(2)`s of one frame, encoded
//! before, to accepted sockets; no runtime, no log, no encoding. A process of its own, so that its CPU
//! time is read like the server's.

use crate::process::now;
use anyhow::{Result, bail};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Connections to accept before it begins
    #[arg(long)]
    pub(crate) sockets: usize,
    /// Frames a second and socket
    #[arg(long)]
    pub(crate) rate: u32,
    /// Sockets are written in so many groups, evenly spread over the period
    #[arg(long)]
    pub(crate) groups: usize,
    /// Frames a socket; then it ends
    #[arg(long)]
    pub(crate) frames: u64,
    /// Bytes of a frame, header included
    #[arg(long)]
    pub(crate) frame_bytes: usize,
}

/// The line it prints before it accepts, followed by the port.
pub(crate) const LISTENING: &str = "listening on port ";

/// The program.
pub(crate) fn run(args: &Args) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{LISTENING}{}", listener.local_addr()?.port());
    serve(&listener, args)
}

/// Accepts, writes everything on time, and returns when the readers have closed.
pub(crate) fn serve(listener: &TcpListener, args: &Args) -> Result<()> {
    if args.rate == 0 || args.groups == 0 {
        bail!("rate and groups must be at least 1");
    }
    let frame = frame(args.frame_bytes)?;
    let mut groups: Vec<Vec<TcpStream>> = Vec::new();
    groups.resize_with(args.groups, Vec::new);
    for number in 0..args.sockets {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        groups[number % args.groups].push(stream);
    }
    let slot = Duration::from_secs(1) / args.rate / args.groups as u32;
    let mut due = now();
    for _ in 0..args.frames {
        for group in &mut groups {
            // Late slots are written at once, none is left out.
            let wait = due.saturating_duration_since(now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            for stream in group {
                stream.write_all(&frame)?;
            }
            due += slot;
        }
    }
    // The reader closes first, so that it never meets an end in the middle of its counting.
    for stream in groups.iter_mut().flatten() {
        let _ = stream.read(&mut [0])?;
    }
    Ok(())
}

const HEAD: &str =
    r#"{"type":"CHUNK","timestamp":"2026-01-01T00:00:00.000000Z","data":{"index":0,"content":""#;
const TAIL: &str = "\"}}";

/// A server's text frame of exactly `bytes` bytes on the wire: a CHUNK with a content that fills it.
fn frame(bytes: usize) -> Result<Vec<u8>> {
    let (header, payload) = if bytes < 2 + 126 {
        (vec![0x81, bytes.saturating_sub(2) as u8], bytes.saturating_sub(2))
    } else {
        let payload = bytes - 4;
        let Ok(length) = u16::try_from(payload) else { bail!("no chunk is {bytes} bytes long") };
        let [high, low] = length.to_be_bytes();
        (vec![0x81, 126, high, low], payload)
    };
    let Some(fill) = payload.checked_sub(HEAD.len() + TAIL.len()) else {
        bail!("no chunk frame is as short as {bytes} bytes");
    };
    Ok([&header, HEAD.as_bytes(), "x".repeat(fill).as_bytes(), TAIL.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_length_asked_for() {
        for bytes in [100, 127, 130, 131, 223, 1_000] {
            assert_eq!(frame(bytes).unwrap().len(), bytes);
        }
        assert!(frame(20).is_err());
        assert!(frame(100_000).is_err());
    }
}
