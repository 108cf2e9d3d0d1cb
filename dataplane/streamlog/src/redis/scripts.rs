//! The scripts, each in a file of its own. They only compare, write and tell; the rules are in
//! [`super::meta`].

use redis::Script;
use std::sync::Arc;

/// A script and its name in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Name {
    Append,
    Swap,
    Unfollow,
    Enlist,
    Retire,
    Lease,
    Put,
    List,
    Spend,
}

const TEXTS: [&str; 9] = [
    include_str!("scripts/append.lua"),
    include_str!("scripts/swap.lua"),
    include_str!("scripts/unfollow.lua"),
    include_str!("scripts/enlist.lua"),
    include_str!("scripts/retire.lua"),
    include_str!("scripts/lease.lua"),
    include_str!("scripts/put.lua"),
    include_str!("scripts/list.lua"),
    include_str!("scripts/spend.lua"),
];

/// All of them, with their hashes.
#[derive(Clone)]
pub(super) struct Scripts {
    hashes: Arc<[String]>,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let hash = |text: &&str| Script::new(text).get_hash().to_owned();
        Self { hashes: TEXTS.iter().map(hash).collect() }
    }

    fn hash(&self, name: Name) -> &str {
        self.hashes.get(name as usize).map(String::as_str).unwrap_or_default()
    }

    /// Begins a call; the caller adds the arguments.
    pub(super) fn call(&self, name: Name, keys: &[String]) -> redis::Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.hash(name)).arg(keys.len()).arg(keys);
        cmd
    }

    /// Adds the loading of all of them, one answer each.
    pub(super) fn load(&self, pipeline: &mut redis::Pipeline) {
        for text in TEXTS {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(text);
        }
    }
}
