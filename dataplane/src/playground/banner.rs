//! What people read in the terminal: where everything is, and what went wrong.

use super::fleet::{Fleet, FleetError};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// ANSI SGR: bold, dim, off; empty where nobody sees colours.
struct Paint {
    bold: &'static str,
    dim: &'static str,
    off: &'static str,
}

const COLOURS: Paint = Paint { bold: "\x1b[1;36m", dim: "\x1b[2m", off: "\x1b[0m" };
const PLAIN: Paint = Paint { bold: "", dim: "", off: "" };

/// Prints where the page and the nodes are, and what to try.
pub(super) fn print(fleet: &Fleet) {
    let mut out = std::io::stdout();
    let paint = if out.is_terminal() && !no_colour() { &COLOURS } else { &PLAIN };
    // A closed pipe does not stop the nodes.
    let _ = out.write_all(text(fleet, &chatctl(), paint).as_bytes());
    let _ = out.flush();
}

/// <https://no-color.org>: set and not empty.
fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn text(fleet: &Fleet, chatctl: &str, paint: &Paint) -> String {
    let Paint { bold, dim, off } = paint;
    let front = fleet.front_url();
    let mut text = String::new();
    let mut line = |words: &str| {
        let _ = writeln!(text, "{words}");
    };
    line("");
    let stores = match fleet.store() {
        Some(_) => "all in memory",
        None => "processes over a Redis of their own",
    };
    let provider = fleet.provider();
    line(&format!("  {bold}ChatCluster playground{off}  {dim}{stores}, {provider}{off}"));
    line("");
    line(&format!("  {dim}page{off}     {bold}{front}/{off}"));
    for ((name, admin), base) in fleet.admin_urls().iter().zip(fleet.node_urls()) {
        line(&format!("  {dim}{name:<8}{off} {base}  {dim}admin {admin}{off}"));
    }
    line("");
    line(&format!("  {dim}ask{off}      {chatctl} chat --url {front} \"Hello\""));
    line(&format!("  {dim}break{off}    curl -X POST {front}/dev/nodes/node-1/kill"));
    line(&format!("  {dim}mend{off}     curl -X POST {front}/dev/nodes/node-1/start"));
    line(&format!("  {dim}stop{off}     Ctrl-C"));
    line("");
    text
}

/// `chatctl` beside this program, from where the reader stands.
fn chatctl() -> String {
    let path = || -> Option<PathBuf> {
        let here = std::env::current_dir().ok()?;
        let beside = std::env::current_exe().ok()?.with_file_name("chatctl");
        let path = beside.is_file().then_some(beside)?;
        Some(path.strip_prefix(&here).map(Path::to_owned).unwrap_or(path))
    };
    path().map_or_else(|| "chatctl".to_owned(), |path| path.display().to_string())
}

/// What went wrong, and what to do about it.
pub(super) fn explain(error: &FleetError) -> String {
    match error {
        FleetError::PortTaken { port, .. } => format!(
            "{error}, perhaps by another playground.\n  \
             `ss -ltnp 'sport = :{port}'` shows who listens there; \
             `CHAT_DEV_PORT=9080 make dev` takes other ports."
        ),
        FleetError::NoSuchPorts { .. } => format!("{error}."),
        FleetError::Io { source, .. } => format!("{error}: {source}."),
    }
}
