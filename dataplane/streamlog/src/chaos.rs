//! A decorator that makes any engine misbehave within its contract, from a seed.

/// Swallows wake-ups.
#[derive(Debug)]
pub struct Loss;

impl Loss {
    /// Whether this wake-up is lost.
    pub fn swallows(&mut self) -> bool {
        false
    }
}
