//! What a plan does to pods, as events for people: one when a drain begins, one when it has ended, one for a
//! revision that comes or fails.

use super::{Action, Exchange, Plan};
use crate::observe::{Kind, Observed, PodFacts};
use crds::names;
use protocol::DrainPhase;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// In one word.
    pub reason: &'static str,
    /// In a sentence.
    pub note: String,
    /// Somebody should look.
    pub warns: bool,
}

fn told(reason: &'static str, note: String) -> Option<Told> {
    Some(Told { reason, note, warns: false })
}

impl Plan {
    /// In the order in which it happens.
    pub fn story(&self, observed: &Observed) -> Vec<Told> {
        self.actions().iter().filter_map(|action| tell(action, observed)).collect()
    }
}

fn tell(action: &Action, observed: &Observed) -> Option<Told> {
    let find = |uid: &str| observed.pods.iter().find(|pod| pod.uid == uid);
    match action {
        Action::Create { key, .. } if key.kind == Kind::ReplicaSet => {
            told("RevisionCreated", format!("ReplicaSet {} is made", key.name))
        }
        Action::Detach { pod, .. } => {
            let sessions = find(&pod.uid).map_or_else(|| "?".to_owned(), carries);
            told("DrainStarted", format!("pod {} goes: {sessions} move to other pods", pod.name))
        }
        Action::DeletePod { pod } => {
            let found = find(&pod.uid);
            let report = found.and_then(|pod| pod.report.as_ref());
            if report.is_some_and(|report| report.phase == DrainPhase::Done) {
                return told(
                    "DrainCompleted",
                    format!("pod {} has nothing left and is deleted", pod.name),
                );
            }
            let left = found.map_or_else(|| "?".to_owned(), carries);
            let note = format!("pod {} is deleted before its drain had ended: {left}", pod.name);
            Some(Told { reason: "DrainCutShort", note, warns: true })
        }
        Action::Note { replica_set, annotation, text: Some(_), .. }
            if *annotation == names::FAILED =>
        {
            let note = format!("the pods of ReplicaSet {replica_set} did not become ready in time");
            Some(Told { reason: "RevisionFailed", note, warns: true })
        }
        Action::Exchange { exchange, .. } => told("KeyRotation", exchanged(exchange).to_owned()),
        _ => None,
    }
}

fn exchanged(exchange: &Exchange) -> &'static str {
    match exchange {
        Exchange::Publish { .. } => "new keys are there, to check with; the old ones still sign",
        Exchange::Swap => "every pod has the new keys: they sign from now on",
        Exchange::Sign { .. } => {
            "every pod signs with the new keys; the old ones stay for a quarter of an hour"
        }
        Exchange::Retire => "the old keys are gone",
    }
}

fn carries(pod: &PodFacts) -> String {
    match &pod.report {
        Some(report) => format!("{} sessions and {} live answers", report.sessions, report.streams),
        None if pod.running_since.is_none() => "nothing, it does not run".to_owned(),
        None => "nobody knows what it carries".to_owned(),
    }
}
