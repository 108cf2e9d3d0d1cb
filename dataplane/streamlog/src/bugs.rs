//! Deliberate bugs: with the feature `bugs` one can be switched on at run time, and the chaos suite
//! must turn red. Without the feature [`active`] is `false` at compile time.

/// A bug that no test may miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Bug {
    /// Reads, then subscribes; no check for holes, no sweep.
    NaiveFollower = 1,
    /// Does not skip indexes it already delivered.
    NoDedupe = 2,
    /// The engine checks neither epoch nor owner.
    NoFence = 3,
    /// Followers of the owner see a batch before the log acknowledged it.
    VisibleBeforeDurable = 4,
    /// A seal that the store refused is not tried again.
    LostSeal = 5,
    /// Opening an existing stream starts it over.
    ReusedId = 6,
    /// The owner serves from its memory after its lease lapsed.
    ZombieReads = 7,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::NaiveFollower,
        Self::NoDedupe,
        Self::NoFence,
        Self::VisibleBeforeDurable,
        Self::LostSeal,
        Self::ReusedId,
        Self::ZombieReads,
    ];

    /// The name by which it is chosen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NaiveFollower => "naive-follower",
            Self::NoDedupe => "no-dedupe",
            Self::NoFence => "no-fence",
            Self::VisibleBeforeDurable => "visible-before-durable",
            Self::LostSeal => "lost-seal",
            Self::ReusedId => "reused-id",
            Self::ZombieReads => "zombie-reads",
        }
    }
}

#[cfg(feature = "bugs")]
mod switch {
    use super::Bug;
    use std::sync::atomic::{AtomicU8, Ordering};

    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    /// Whether the bug is switched on in this process.
    pub fn active(bug: Bug) -> bool {
        ACTIVE.load(Ordering::Relaxed) == bug as u8
    }

    /// Switches one bug on, or all off.
    pub fn activate(bug: Option<Bug>) {
        ACTIVE.store(bug.map_or(0, |b| b as u8), Ordering::Relaxed);
    }
}

#[cfg(feature = "bugs")]
pub use switch::{activate, active};

/// Whether the bug is switched on: never, in this build.
#[cfg(not(feature = "bugs"))]
pub const fn active(_: Bug) -> bool {
    false
}
