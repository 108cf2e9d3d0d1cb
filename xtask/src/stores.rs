//! Where the answers of a command are kept, as `STORES=` names it.

/// An engine under the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Stores {
    /// The memory engine, in one process.
    Memory,
    /// A real redis-server.
    Redis,
}

impl Stores {
    /// As `STORES=` names it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }

    /// The part of a document that `make <target>` writes over this engine.
    pub(crate) fn part(self, target: &str) -> String {
        match self {
            Self::Memory => target.to_owned(),
            Self::Redis => format!("{target} STORES=redis"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_named_as_the_command_that_writes_it() {
        assert_eq!(Stores::Memory.part("teeth"), "teeth");
        assert_eq!(Stores::Redis.part("teeth"), "teeth STORES=redis");
    }
}
