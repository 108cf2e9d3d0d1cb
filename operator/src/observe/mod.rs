//! What is there. The reading is in [`reader`]; what it brings is plain data.

mod observed;
mod pods;
pub mod reader;
mod secret;
mod sets;

pub use observed::{AdminKey, Kind, LiveObject, Load, ObjectKey, Observed, Standing};
pub use pods::{Controller, Detached, PodFacts};
pub use secret::{SecretFacts, Step};
pub use sets::{Began, Failed, Progress, Set};
