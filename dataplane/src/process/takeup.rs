//! Files that a running node reads again: its hot settings, and its keys. What cannot be used is refused: the
//! node goes on with what it has, and says so once.

use crate::admit::Keys;
use crate::config::problems::{Problem, problems};
use crate::config::{self, file, secrets};
use crate::node::Node;
use protocol::Settings;
use protocol::hot::Hot;
use secrets::Environment;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often the files are looked at. A mounted ConfigMap or Secret changes within a minute; looking is cheap.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was taken up last, and what was refused last.
struct Seen {
    hot: Hot,
    keys: Keys,
    refused: Option<String>,
}

/// Reads hot settings and checks them together with those they are laid over.
///
/// # Errors
/// What is wrong with them, for people.
pub(crate) fn read_hot(path: &Path, settings: &Settings) -> Result<Hot, String> {
    let hot = file::read_hot(path)?;
    let found = problems(&hot.over(settings));
    if found.is_empty() { Ok(hot) } else { Err(list(&path.display().to_string(), &found)) }
}

fn list(what: &str, found: &[Problem]) -> String {
    found.iter().fold(format!("{what} cannot be used:"), |mut text, problem| {
        let _ = write!(text, "\n  {problem}");
        text
    })
}

/// Looks at the files until the node stops.
pub(super) async fn keep(
    node: Arc<Node>,
    hot: Option<PathBuf>,
    started_with: (Hot, Keys),
    environment: impl Fn(&str) -> Option<std::ffi::OsString>,
) {
    let (hot_settings, keys) = started_with;
    let mut seen = Seen { hot: hot_settings, keys, refused: None };
    while node.stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
        let looked = look(&node, hot.as_deref(), &mut seen, &environment);
        let refused = looked.err();
        if let Some(why) = refused.as_ref().filter(|why| seen.refused.as_ref() != Some(*why)) {
            tracing::error!(node = %node.owner.node, why, "a change of the files is refused; what was read before stays in force");
        }
        seen.refused = refused;
    }
}

fn look(
    node: &Node,
    path: Option<&Path>,
    seen: &mut Seen,
    environment: Environment<'_>,
) -> Result<(), String> {
    let secrets = secrets::read(environment, &node.settings);
    let hot = path.map(|path| read_hot(path, &node.settings)).transpose();
    if let Ok(Some(hot)) = &hot
        && *hot != seen.hot
    {
        node.take_up(hot);
        seen.hot = hot.clone();
        tracing::info!(node = %node.owner.node, generation = hot.generation, "settings taken up");
    }
    let secrets = secrets.map_err(|found| list("a key", &found))?;
    let keys = config::keys(&secrets);
    if keys != seen.keys {
        node.admit.take_up(&keys);
        seen.keys = keys;
        tracing::info!(node = %node.owner.node, ids = ?node.admit.key_ids(), "keys taken up");
    }
    hot.map(drop)
}
