//! What building comes to.

use super::Policy;
use crate::observe::{Kind, ObjectKey};
use serde_json::{Value, json};

/// When an object that is there already is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Whenever a field of ours differs.
    WheneverItDiffers,
    /// Once: it is named by its contents.
    Once,
}

/// One object that should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Kind and name.
    pub key: ObjectKey,
    /// Exactly the fields that we own.
    pub object: Value,
    /// When it is written again.
    pub written: Written,
}

impl Desired {
    /// An object of `metadata` and `body`.
    pub(super) fn new(kind: Kind, name: &str, metadata: Value, mut body: Value) -> Self {
        body["apiVersion"] = json!(kind.api_version());
        body["kind"] = json!(kind.name());
        body["metadata"] = metadata;
        let key = ObjectKey::new(kind, name);
        Self { key, object: body, written: Written::WheneverItDiffers }
    }

    pub(super) fn once(self) -> Self {
        Self { written: Written::Once, ..self }
    }
}

/// A Secret whose contents the operator makes, exchanges when it is asked to, and never reads into a log, a
/// status or an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// The Secret.
    pub name: String,
    /// Its metadata.
    pub metadata: Value,
    /// Keys to fill with random bytes where they are absent.
    pub wanted: Vec<&'static str>,
    /// `operation.rotateKeys`: another text than the one that was noted last exchanges keys.
    pub rotation: Option<String>,
}

/// Every object that should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The revision that the spec asks for.
    pub revision: String,
    /// Generated first: pods mount them.
    pub keys: Keys,
    /// What is the same for every revision, in the order in which it is applied.
    pub objects: Vec<Desired>,
    /// The settings of [`Self::revision`]; never changed.
    pub settings: Desired,
    /// The ReplicaSet of [`Self::revision`]: its template is written once.
    pub replica_set: Desired,
    /// How the fleet may move.
    pub policy: Policy,
}
