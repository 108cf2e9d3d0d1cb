//! Errors by what the caller does next.

use protocol::{Epoch, Index};
use std::time::Duration;

/// Why a store refused. No engine's own error leaves its file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Somebody else owns the stream now. Stop the upstream call; do not retry.
    #[error("fenced: the stream is owned under epoch {epoch}")]
    Fenced {
        /// The current epoch.
        epoch: Epoch,
    },
    /// The log does not end where the append starts. Re-read the tail, or repair a rolled-back log.
    #[error("gap: the log ends at {tail}")]
    Gap {
        /// First unwritten index.
        tail: Index,
    },
    /// The stream has its terminal record. Nothing more can be written.
    #[error("sealed")]
    Sealed,
    /// There is no such stream.
    #[error("no such stream")]
    NotFound,
    /// The text before `first` is gone.
    #[error("trimmed: the log begins at {first}")]
    Trimmed {
        /// First kept index.
        first: Index,
    },
    /// The store cannot be reached, or did not answer. It may have happened or not: try the same again.
    #[error("store unavailable, retry after {retry:?}")]
    Unavailable {
        /// When to try again.
        retry: Duration,
    },
}
