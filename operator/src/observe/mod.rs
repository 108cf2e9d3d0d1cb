//! What is there. The reading is in [`reader`]; what it brings is plain data.

mod observed;
mod pods;
pub mod reader;
mod sets;

pub use observed::{AdminKey, Kind, LiveObject, Load, ObjectKey, Observed, SecretFacts, Standing};
pub use pods::{Controller, Detached, PodFacts};
pub use sets::{Failed, Progress, Set};
