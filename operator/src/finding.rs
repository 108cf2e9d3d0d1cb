//! What one step has to say to people: it becomes a condition.

use crds::{ConditionType, Reason};

/// One thing that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The condition it belongs to.
    pub condition: ConditionType,
    /// Why.
    pub reason: Reason,
    /// What, where (a field of the spec, or an object), and what to do.
    pub message: String,
}

impl Finding {
    /// One thing that a person should know.
    pub fn new(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into() }
    }
}
