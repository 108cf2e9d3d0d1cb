//! What is there. The reading is in [`reader`]; what it brings is plain data.

mod observed;
pub mod reader;

pub use observed::{Fleet, Kind, LiveObject, ObjectKey, Observed, PodFacts, SecretFacts, Standing};
