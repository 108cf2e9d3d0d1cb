//! Adds a run's answers up, and settles at its end which of them were lost together with their owner.

use super::answer::{Judged, Told};
use super::losses::{self, Calls, Losses, Lost};
use super::{ChaosReport, Fault, Progress};
use hdrhistogram::Histogram;
use jiff::Timestamp;
use protocol::MessageId;
use protocol::dev::UpstreamCall;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// Longer pauses are recorded as this one, in milliseconds: an hour.
const LONGEST_MS: u64 = 3_600_000;

/// The sums of a run so far.
pub(super) struct Tally {
    pub(super) report: ChaosReport,
    pub(super) progress: Progress,
    pauses: Option<Histogram<u64>>,
    /// What each request got, and when its devices were done with it.
    requests: Vec<(Timestamp, Vec<Told>)>,
    loses: bool,
}

impl Tally {
    /// `loses`: answers may be lost together with their owner.
    pub(super) fn new(mut report: ChaosReport, loses: bool) -> Self {
        report.lost_with_owner = loses.then(Lost::default);
        let pauses = Histogram::new_with_bounds(1, LONGEST_MS, 3).ok();
        Self { report, progress: Progress::default(), pauses, requests: Vec::new(), loses }
    }

    pub(super) fn add(&mut self, judged: Judged) {
        let report = &mut self.report;
        report.verdict.merge(&judged.verdict);
        report.accepted += u64::from(judged.message.is_some());
        report.unaccepted += judged.unaccepted;
        report.wrong_end += judged.wrong_end;
        report.reconnects += judged.reconnects;
        report.count(Fault::Cut, judged.cuts);
        report.count(Fault::Stall, judged.stalls);
        report.count(Fault::Dup, judged.duplicates);
        report.count(Fault::Cancel, judged.cancels);
        if let Some(pauses) = &mut self.pauses {
            for pause in &judged.pauses {
                pauses.saturating_record(pause.as_millis() as u64);
            }
        }
        let shown = |told: &Told| if self.loses { &told.if_lost } else { &told.verdict }.clone();
        self.progress.ended += 1;
        self.progress.chunks += judged.messages.iter().map(|told| told.verdict.chunks).sum::<u64>();
        let bad = judged.messages.iter().any(|told| !shown(told).problems.is_empty());
        self.progress.bad += u64::from(bad || !judged.verdict.problems.is_empty());
        self.requests.push((judged.ended, judged.messages));
    }

    /// The report, now that everything is known that was done to nodes and store.
    pub(super) fn conclude(
        mut self,
        losses: &Losses,
        calls: &[UpstreamCall],
        took: Duration,
    ) -> ChaosReport {
        // What an ordinary run loses it has lost, whatever the excuse.
        let none = Losses::default();
        let losses = if self.loses { losses } else { &none };
        let sorted = losses::by_message(calls);
        let messages = self.settle(losses, &sorted);
        let report = &mut self.report;
        check_calls(calls, &messages, report);
        check_requests(calls, losses, &sorted, report);
        report.seconds = took.as_secs_f64();
        if let Some(pauses) = &self.pauses {
            report.longest_pause_ms = pauses.max();
            report.p99_pause_ms = pauses.value_at_quantile(0.99);
            report.p50_pause_ms = pauses.value_at_quantile(0.5);
        }
        report.conclude();
        self.report
    }

    /// Takes each message as what it is: lost with its owner, or as good as any. Gives all of them.
    fn settle(&mut self, losses: &Losses, calls: &Calls<'_>) -> HashSet<MessageId> {
        let mut messages = HashSet::new();
        let report = &mut self.report;
        for (ended, told) in self.requests.drain(..) {
            let all = told.len() as u64;
            let mut kept = 0;
            for told in told {
                messages.insert(told.message);
                let asked = calls.get(&told.message).map(Vec::as_slice).unwrap_or_default();
                match &mut report.lost_with_owner {
                    Some(lost) if losses.has_lost(asked, ended) => {
                        lost.count(told.fate, told.devices_not_found);
                        report.verdict.merge(&told.if_lost);
                    }
                    _ => {
                        kept += 1;
                        report.verdict.merge(&told.verdict);
                        report.unread += told.unread;
                    }
                }
            }
            // A lost request is not known any more: its repetition is a new one.
            let twice = u64::saturating_sub(kept, 1);
            report.answered_twice += twice;
            if let Some(lost) = &mut report.lost_with_owner {
                lost.asked_anew += all.saturating_sub(1) - twice;
            }
        }
        messages
    }
}

/// One call for a message and an epoch.
fn check_calls(calls: &[UpstreamCall], messages: &HashSet<MessageId>, report: &mut ChaosReport) {
    let mut seen = HashSet::new();
    for call in calls.iter().filter(|call| messages.contains(&call.message_id)) {
        report.upstream_calls += 1;
        let (message, epoch) = (call.message_id, call.epoch);
        if !seen.insert((message, epoch)) {
            report.upstream_repeated += 1;
            let node = &call.node;
            report.verdict.note(|| format!("{message}: asked again in epoch {epoch} by {node}"));
        }
    }
}

/// One message for a request id, besides those that were lost.
fn check_requests(
    calls: &[UpstreamCall],
    losses: &Losses,
    sorted: &Calls<'_>,
    report: &mut ChaosReport,
) {
    let mut requests: HashMap<_, BTreeSet<MessageId>> = HashMap::new();
    for call in calls {
        let Some(request) = &call.request_id else { continue };
        let asked = sorted.get(&call.message_id).map(Vec::as_slice).unwrap_or_default();
        if !losses.has_lost(asked, Timestamp::MAX) {
            requests.entry(request).or_default().insert(call.message_id);
        }
    }
    for (request, messages) in requests.iter().filter(|(_, messages)| messages.len() > 1) {
        report.answered_twice += messages.len() as u64 - 1;
        let id = request.as_str();
        report.verdict.note(|| format!("request {id} has {} messages", messages.len()));
    }
}
