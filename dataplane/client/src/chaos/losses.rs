//! Which answers a run has lost for good, those that no living node held when the store forgot
//! everything, and what may become of them. Pure: what was done and what the provider was asked comes
//! in, with wall times.

use crate::transcript::{End, Transcript, Verdict, agree, agree_as_far};
use jiff::Timestamp;
use protocol::dev::UpstreamCall;
use protocol::{ErrorCode, MessageId, SealStatus};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A moment in which the store forgot everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Emptied {
    /// Before it was told to.
    pub(super) from: Timestamp,
    /// When it had.
    pub(super) to: Timestamp,
}

/// The end of one incarnation of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) node: String,
    /// When it was over.
    pub(super) at: Timestamp,
}

/// What was done that can lose an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) emptied: Vec<Emptied>,
    pub(super) deaths: Vec<Death>,
}

/// The provider's calls of each message, oldest first.
pub(super) type Calls<'a> = HashMap<MessageId, Vec<&'a UpstreamCall>>;

/// Sorts the provider's calls by message.
pub(super) fn by_message(calls: &[UpstreamCall]) -> Calls<'_> {
    let mut sorted = Calls::new();
    for call in calls {
        sorted.entry(call.message_id).or_default().push(call);
    }
    sorted.values_mut().for_each(|calls| calls.sort_by_key(|call| (call.epoch, call.started_at)));
    sorted
}

impl Losses {
    /// Whether an answer that was followed until `ended` was held by no living node at one of the
    /// moments in which the store forgot everything. Its holder is whoever asked the provider last.
    pub(super) fn has_lost(&self, calls: &[&UpstreamCall], ended: Timestamp) -> bool {
        let known_then = |emptied: &&Emptied| emptied.from <= ended;
        self.emptied.iter().filter(known_then).any(|emptied| {
            match calls.iter().rfind(|call| call.started_at <= emptied.to) {
                Some(call) => self.died(call, emptied.to),
                // Its owner died before it asked; later calls say that somebody had it.
                None => calls.is_empty(),
            }
        })
    }

    fn died(&self, call: &UpstreamCall, by: Timestamp) -> bool {
        let its = |death: &Death| death.node == call.node && call.started_at <= death.at;
        self.deaths.iter().any(|death| its(death) && death.at <= by)
    }
}

/// How an answer that was lost with its owner ended, by what its devices were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Every device has all of it.
    Whole,
    /// Some device was told RESET, and it went on to an end.
    Reset,
    /// It was sealed as interrupted.
    Interrupted,
    /// Some device was told NOT_FOUND.
    NotFound,
}

/// Answers that were lost with their owner, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lost {
    /// Answers under way that no living node held when the store forgot everything.
    pub answers: u64,
    /// Every device had all of it, or got it all the same.
    pub whole: u64,
    /// A device was told RESET, then it went on to its end.
    pub reset: u64,
    /// Sealed failed with INTERRUPTED.
    pub interrupted: u64,
    /// A device was told NOT_FOUND.
    pub not_found: u64,
    /// Devices that were told NOT_FOUND.
    pub devices_not_found: u64,
    /// Requests of which nobody knew any more: their repetition began a new answer.
    pub asked_anew: u64,
}

impl Lost {
    /// Names and values for a report.
    pub(super) fn rows(&self) -> [(String, String); 7] {
        [
            ("answers lost with their owner", self.answers),
            ("… told NOT_FOUND", self.not_found),
            ("… ended INTERRUPTED", self.interrupted),
            ("… went on after RESET", self.reset),
            ("… whole for all their devices", self.whole),
            ("devices told NOT_FOUND", self.devices_not_found),
            ("lost requests asked anew", self.asked_anew),
        ]
        .map(|(name, count)| (name.to_owned(), count.to_string()))
    }

    pub(super) fn count(&mut self, fate: Fate, devices_not_found: u64) {
        self.answers += 1;
        *match fate {
            Fate::Whole => &mut self.whole,
            Fate::Reset => &mut self.reset,
            Fate::Interrupted => &mut self.interrupted,
            Fate::NotFound => &mut self.not_found,
        } += 1;
        self.devices_not_found += devices_not_found;
    }
}

/// An answer as if it had been lost: whether each device was told so or holds it whole; nothing may be
/// mixed, doubled or left open; and as far as they hold it they must hold the same. Also its fate, and
/// how many devices were told NOT_FOUND.
pub(super) fn judge(transcripts: &[&Transcript]) -> (Verdict, Fate, u64) {
    let mut verdict = Verdict::default();
    let mut fate = Fate::Whole;
    let mut not_found = 0;
    for transcript in transcripts {
        verdict.merge(&transcript.verdict_if_lost());
        match transcript.end() {
            Some(End::Refused(ErrorCode::NotFound)) => {
                not_found += 1;
                fate = Fate::NotFound;
            }
            Some(End::Sealed { status: SealStatus::Failed, .. }) if fate != Fate::NotFound => {
                fate = Fate::Interrupted;
            }
            _ if transcript.was_reset() && fate == Fate::Whole => fate = Fate::Reset,
            _ => {}
        }
    }
    let sealed = |transcript: &&&Transcript| matches!(transcript.end(), Some(End::Sealed { .. }));
    let ended: Vec<&Transcript> = transcripts.iter().filter(sealed).copied().collect();
    verdict.merge(&agree(&ended));
    // What was told before a RESET is void for whoever was told the RESET, and for nobody else.
    let kept: Vec<&Transcript> = transcripts.iter().filter(|t| !t.was_reset()).copied().collect();
    verdict.merge(&agree_as_far(&kept));
    (verdict, fate, not_found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Epoch, Index};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn call(node: &str, epoch: u64, second: i64) -> UpstreamCall {
        UpstreamCall {
            message_id: MessageId::parse("018f4d5e-0000-7000-8000-000000000001").unwrap(),
            epoch: Epoch(epoch),
            request_id: None,
            node: node.to_owned(),
            from: Index::ZERO,
            chunks: 0,
            started_at: at(second),
            end: None,
        }
    }

    /// The store was emptied at 10; `deaths` are (node, second).
    fn losses(deaths: &[(&str, i64)]) -> Losses {
        let emptied = vec![Emptied { from: at(10), to: at(11) }];
        let death = |(node, second): &(&str, i64)| Death { node: (*node).into(), at: at(*second) };
        Losses { emptied, deaths: deaths.iter().map(death).collect() }
    }

    fn lost(losses: &Losses, calls: &[UpstreamCall], ended: i64) -> bool {
        losses.has_lost(&calls.iter().collect::<Vec<_>>(), at(ended))
    }

    #[test]
    fn an_answer_is_lost_when_its_last_holder_dies_with_the_store_and_only_then() {
        let with_a = losses(&[("a", 11)]);
        assert!(lost(&with_a, &[call("a", 1, 5)], 20));
        assert!(!lost(&with_a, &[call("b", 1, 5)], 20), "b lives and writes it back");
        assert!(!lost(&with_a, &[call("a", 1, 5), call("b", 2, 8)], 20), "b had taken it over");
        assert!(lost(&with_a, &[call("b", 1, 5), call("a", 2, 8)], 20));
        assert!(!lost(&with_a, &[call("a", 1, 5)], 9), "it had ended for everybody");
        assert!(
            !lost(&with_a, &[call("a", 1, 12)], 20),
            "it began afterwards, at a new incarnation"
        );
        assert!(!lost(&Losses::default(), &[call("a", 1, 5)], 20));
    }

    #[test]
    fn a_holder_that_died_before_counts_and_one_that_dies_later_does_not() {
        assert!(lost(&losses(&[("a", 7)]), &[call("a", 1, 5)], 20));
        assert!(!lost(&losses(&[("a", 4)]), &[call("a", 1, 5)], 20), "an earlier incarnation");
        assert!(!lost(&losses(&[("a", 15)]), &[call("a", 1, 5)], 20));
        assert!(lost(&losses(&[("a", 11)]), &[], 20), "its owner died before it asked");
    }

    #[test]
    fn calls_are_sorted_by_epoch() {
        let calls = [call("b", 2, 8), call("a", 1, 5)];
        let sorted = by_message(&calls);
        let epochs: Vec<_> = sorted[&calls[0].message_id].iter().map(|call| call.epoch.0).collect();
        assert_eq!(epochs, [1, 2]);
    }
}
