//! The exchange of keys while every pod runs. No pod may ever refuse what another one signed, so that each
//! step waits until every pod that runs has said that it took the one before up: the new keys are published
//! to check with, then they sign, and the old ones go when nothing that they signed is good any more.
//! Pure; how far it is, is noted on the Secret in the same write.

use super::{Action, Exchange, Plan};
use crate::build::Keys;
use crate::finding::Finding;
use crate::observe::{Observed, PodFacts, SecretFacts, Step};
use crds::status::{KeyRotation, KeyRotationStep};
use crds::{ConditionType, Reason};
use jiff::{SignedDuration, Timestamp};
use protocol::drain::KeyIds;

/// Keys that are exchanged: nobody outside has them. Those of users' tokens belong to whoever makes tokens.
pub const ROTATED: [&str; 2] = ["admin", "resume"];
/// A resume token lives ten minutes, and clocks of two machines may differ.
const OLD_KEYS_LIVE: SignedDuration = SignedDuration::from_mins(15);
/// Pods that are named where many are waited for.
const NAMED: usize = 5;

/// What the second key of a kind is called, which is accepted and does not sign.
pub fn previous(key: &str) -> String {
    format!("{key}-previous")
}

impl Plan {
    /// The next step of an exchange, and what it waits for.
    pub(super) fn rotate(&mut self, keys: &Keys, observed: &Observed, now: Timestamp) {
        let there = observed.secrets.get(&keys.name).filter(|secret| secret.ours);
        let Some(secret) = there else { return };
        let lacks = |key: &str| secret.keys.get(key).is_none_or(|length| *length == 0);
        if ROTATED.iter().any(|key| lacks(key)) {
            return;
        }
        // A hand took second keys out: there is nothing to swap, or nothing to wait for.
        let torn = ROTATED.iter().any(|key| lacks(&previous(key)));
        match secret.step {
            None => self.begin(keys, secret),
            Some(Step::Published) if torn => {
                let asked = secret.rotation.clone().unwrap_or_default();
                self.exchange(keys, secret, Exchange::Publish { asked });
            }
            Some(Step::Swapped) if torn => self.exchange(keys, secret, Exchange::Retire),
            Some(step) => self.go_on(keys, secret, step, observed, now),
        }
    }

    fn begin(&mut self, keys: &Keys, secret: &SecretFacts) {
        let asked = keys.rotation.clone().filter(|asked| secret.rotation.as_ref() != Some(asked));
        let Some(asked) = asked else { return };
        let by_hand = ROTATED.map(previous).into_iter().find(|key| secret.keys.contains_key(key));
        if let Some(key) = by_hand {
            self.findings.push(Finding::new(
                ConditionType::ConfigurationWarning,
                Reason::KeyRotationHeld,
                format!(
                    "keys are not exchanged: {key} of Secret {} was put there by somebody else. Take it \
                     out when nothing that it signed is used any more",
                    keys.name
                ),
            ));
            return;
        }
        self.exchange(keys, secret, Exchange::Publish { asked });
    }

    fn go_on(
        &mut self,
        keys: &Keys,
        secret: &SecretFacts,
        step: Step,
        observed: &Observed,
        now: Timestamp,
    ) {
        let (shown, next, waits_for) = match step {
            Step::Published => {
                let lacks = without(observed, |ids| has(ids, secret, accepts));
                (KeyRotationStep::Published, Exchange::Swap, lacks.map(|pods| lack("have", pods)))
            }
            Step::Swapped => {
                let lacks = without(observed, |ids| has(ids, secret, signs));
                let sign = Exchange::Sign { since: now };
                (KeyRotationStep::Swapped, sign, lacks.map(|pods| lack("sign with", pods)))
            }
            Step::Signing(since) => {
                let until = since + OLD_KEYS_LIVE;
                let waits =
                    (now < until).then(|| format!("what the old keys signed, until {until}"));
                (KeyRotationStep::Signing, Exchange::Retire, waits)
            }
        };
        match waits_for {
            None => self.exchange(keys, secret, next),
            Some(waits_for) => {
                let asked = secret.rotation.clone().unwrap_or_default();
                self.key_rotation = Some(KeyRotation { asked, step: shown, waits_for });
            }
        }
    }

    fn exchange(&mut self, keys: &Keys, secret: &SecretFacts, exchange: Exchange) {
        let (secret, version) = (keys.name.clone(), secret.version.clone());
        self.actions.push(Action::Exchange { secret, version, exchange });
    }
}

fn lack(what: &str, pods: Vec<&str>) -> String {
    let more = pods.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named: Vec<_> = pods.into_iter().take(NAMED).collect();
    format!("pods to {what} the new keys: {}{more}", named.join(", "))
}

/// Pods that have not said that `is` holds, of those that run or are about to: keys are mounted before an
/// image is pulled. One that cannot start reads them when it can.
fn without(observed: &Observed, is: impl Fn(&KeyIds) -> bool) -> Option<Vec<&str>> {
    let runs = |pod: &&PodFacts| {
        let begins = pod.trouble.is_none() && !pod.terminating();
        pod.component == "gateway" && (pod.running_since.is_some() || begins)
    };
    let said = |pod: &PodFacts| pod.report.as_ref().is_some_and(|report| is(&report.key_ids));
    let pods = observed.pods.iter().filter(runs).filter(|pod| !said(pod));
    let names: Vec<_> = pods.map(|pod| pod.name.as_str()).collect();
    (!names.is_empty()).then_some(names)
}

/// Of every exchanged key.
fn has(ids: &KeyIds, secret: &SecretFacts, is: fn(&[String], &str, &str) -> bool) -> bool {
    ROTATED.iter().all(|key| {
        let of_node = if *key == "admin" { &ids.admin } else { &ids.resume };
        let id = |key: &str| secret.ids.get(key).map(String::as_str);
        match (id(key), id(&previous(key))) {
            (Some(first), Some(second)) => is(of_node, first, second),
            // It cannot be read as text: no node can have it.
            _ => false,
        }
    })
}

fn accepts(of_node: &[String], first: &str, second: &str) -> bool {
    [first, second].iter().all(|id| of_node.iter().any(|one| one == id))
}

fn signs(of_node: &[String], first: &str, second: &str) -> bool {
    of_node.first().is_some_and(|id| id == first) && accepts(of_node, first, second)
}

#[cfg(test)]
mod tests;
