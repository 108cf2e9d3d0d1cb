//! What a chaos run found, and how it is shown.

use super::losses::Lost;
use super::schedule::Fault;
use crate::transcript::{Allowed, Verdict};
use protocol::settings::TakeoverPolicy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the rows of a run that loses owners mean.
const LOST: &str = "
An answer is lost with its owner where no living node held it when Redis came back empty. It may end for \
its devices as NOT_FOUND, as INTERRUPTED, or go on after a RESET; \"lost\", \"mixed\", \"without end\" and all \
other rows count as in any run, and an answer whose owner lived must be whole.
";

/// The result of a run; `green` decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChaosReport {
    /// Of the run.
    pub seed: u64,
    /// The playground's takeover policy, which says what is allowed.
    pub policy: TakeoverPolicy,
    /// How long it took.
    pub seconds: f64,
    /// Answers asked for.
    pub answers: u64,
    /// Answers accepted.
    pub accepted: u64,
    /// Requests that were never accepted.
    pub unaccepted: u64,
    /// What was done, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Faults of nodes left out because no other node was serving.
    pub faults_skipped: u64,
    /// What became of answers that were lost together with their owner, where a run may lose any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_with_owner: Option<Lost>,
    /// Requests whose repetition was answered with another message.
    pub answered_twice: u64,
    /// Answers that ended otherwise than asked for.
    pub wrong_end: u64,
    /// Answers whose read side (`GET`) was not to be had.
    pub unread: u64,
    /// Calls of the provider.
    pub upstream_calls: u64,
    /// Calls of the provider beyond one for a message and an epoch.
    pub upstream_repeated: u64,
    /// Reconnects of all devices.
    pub reconnects: u64,
    /// The longest wait of any device between two chunks, in milliseconds.
    pub longest_pause_ms: u64,
    /// The longest wait of a device: 99 of 100 devices waited less, in milliseconds.
    pub p99_pause_ms: u64,
    /// The longest wait of a device: half of the devices waited less, in milliseconds.
    pub p50_pause_ms: u64,
    /// What the transcripts say.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Nothing is wrong.
    pub green: bool,
    /// What is wrong.
    pub red: Vec<String>,
}

impl ChaosReport {
    pub(super) fn new(seed: u64, policy: TakeoverPolicy) -> Self {
        Self {
            seed,
            policy,
            seconds: 0.0,
            answers: 0,
            accepted: 0,
            unaccepted: 0,
            faults: BTreeMap::new(),
            faults_skipped: 0,
            lost_with_owner: None,
            answered_twice: 0,
            wrong_end: 0,
            unread: 0,
            upstream_calls: 0,
            upstream_repeated: 0,
            reconnects: 0,
            longest_pause_ms: 0,
            p99_pause_ms: 0,
            p50_pause_ms: 0,
            verdict: Verdict::default(),
            green: false,
            red: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, fault: Fault, times: u64) {
        *self.faults.entry(fault).or_default() += times;
    }

    /// Fills `green` and `red`.
    pub(super) fn conclude(&mut self) {
        let allowed = Allowed {
            restarted: self.policy == TakeoverPolicy::Restart,
            interrupted: self.policy == TakeoverPolicy::Fail,
            failed: false,
        };
        let verdict = &self.verdict;
        let mut counts = verdict.violations().to_vec();
        if !allowed.restarted {
            counts.push(("resets restarted", verdict.resets_restarted));
        }
        if !allowed.interrupted {
            counts.push(("interrupted", verdict.interrupted));
        }
        counts.push(("failed", verdict.failed));
        counts.push(("requests never accepted", self.unaccepted));
        counts.push(("requests answered twice", self.answered_twice));
        counts.push(("wrong ends", self.wrong_end));
        counts.push(("answers that could not be read", self.unread));
        counts.push(("provider calls repeated", self.upstream_repeated));
        self.red = counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name}: {count}"))
            .collect();
        // A run that saw nothing proves nothing.
        if verdict.chunks == 0 {
            self.red.push("no chunk was received".into());
        }
        if self.upstream_calls == 0 {
            self.red.push("the provider was never asked".into());
        }
        if self.lost_with_owner.is_some_and(|lost| lost.answers == lost.whole) {
            self.red.push("no answer was lost with its owner".into());
        }
        self.green = self.red.is_empty();
    }

    /// Names and values, in the order of a report.
    pub fn rows(&self) -> Vec<(String, String)> {
        let verdict = &self.verdict;
        let mut rows = vec![
            ("seed".to_owned(), self.seed.to_string()),
            ("time".into(), format!("{:.0} s", self.seconds)),
            ("answers".into(), format!("{} of {} accepted", self.accepted, self.answers)),
            ("devices".into(), verdict.transcripts.to_string()),
            ("chunks".into(), verdict.chunks.to_string()),
            ("chunks sent again".into(), verdict.redelivered.to_string()),
            ("reconnects".into(), self.reconnects.to_string()),
        ];
        let fault = |fault: Fault| self.faults.get(&fault).copied().unwrap_or(0);
        let of_store = Fault::STORE.into_iter().chain([Fault::StoreLoss]);
        let of_store = of_store.filter(|kind| fault(*kind) > 0);
        let faults: Vec<_> = Fault::ALL.into_iter().chain(of_store).collect();
        let faults: Vec<_> = faults.iter().map(|kind| format!("{kind} {}", fault(*kind))).collect();
        rows.push(("faults".into(), faults.join(", ")));
        rows.push(("takeovers seen".into(), verdict.takeovers.to_string()));
        rows.extend(self.lost_with_owner.iter().flat_map(Lost::rows));
        rows.extend(verdict.violations().map(|(name, count)| (name.into(), count.to_string())));
        let others = [
            ("resets restarted", verdict.resets_restarted),
            ("interrupted", verdict.interrupted),
            ("failed", verdict.failed),
            ("completed", verdict.completed),
            ("cancelled", verdict.cancelled),
            ("never accepted", self.unaccepted),
            ("answered twice", self.answered_twice),
            ("wrong ends", self.wrong_end),
            ("unread", self.unread),
            ("provider calls", self.upstream_calls),
            ("provider calls repeated", self.upstream_repeated),
        ];
        rows.extend(others.map(|(name, count)| (name.to_owned(), count.to_string())));
        rows.push(("longest pause".into(), format!("{} ms", self.longest_pause_ms)));
        rows.push(("p99 pause".into(), format!("{} ms", self.p99_pause_ms)));
        rows.push(("median pause".into(), format!("{} ms", self.p50_pause_ms)));
        rows
    }

    /// The report as a Markdown page.
    pub fn markdown(&self) -> String {
        let word = if self.green { "green" } else { "red" };
        let mut text = format!("# Chaos run: {word}\n\n| what | value |\n|---|---|\n");
        for (name, value) in self.rows() {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "| {name} | {value} |");
        }
        for (title, lines) in [("Red", &self.red), ("Problems", &self.verdict.problems)] {
            if !lines.is_empty() {
                let _ = write!(text, "\n## {title}\n\n");
                for line in lines {
                    let _ = writeln!(text, "- {line}");
                }
            }
        }
        text.push_str("\nPauses are a device's longest wait between two chunks of an answer.\n");
        if self.lost_with_owner.is_some() {
            text.push_str(LOST);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn green() -> ChaosReport {
        let mut report = ChaosReport::new(1, TakeoverPolicy::Continue);
        report.verdict.chunks = 10;
        report.upstream_calls = 1;
        report
    }

    fn concluded(mut report: ChaosReport) -> bool {
        report.conclude();
        assert_eq!(report.green, report.red.is_empty());
        report.green
    }

    #[test]
    fn a_run_that_saw_nothing_is_red() {
        assert!(concluded(green()));
        let mut nothing = green();
        nothing.verdict.chunks = 0;
        assert!(!concluded(nothing));
    }

    #[test]
    fn the_policy_says_what_is_allowed() {
        let mut restarted = green();
        restarted.verdict.resets_restarted = 1;
        assert!(!concluded(restarted.clone()));
        restarted.policy = TakeoverPolicy::Restart;
        assert!(concluded(restarted.clone()));
        restarted.verdict.resets_rolled_back = 1;
        assert!(!concluded(restarted));
        let mut interrupted = green();
        interrupted.verdict.interrupted = 1;
        assert!(!concluded(interrupted.clone()));
        interrupted.policy = TakeoverPolicy::Fail;
        assert!(concluded(interrupted));
    }

    #[test]
    fn every_count_turns_it_red() {
        let spoil: [fn(&mut ChaosReport); 9] = [
            |r| r.verdict.lost = 1,
            |r| r.verdict.twice = 1,
            |r| r.verdict.disagree = 1,
            |r| r.verdict.without_end = 1,
            |r| r.verdict.failed = 1,
            |r| r.unaccepted = 1,
            |r| r.answered_twice = 1,
            |r| r.wrong_end = 1,
            |r| r.upstream_repeated = 1,
        ];
        for spoil in spoil {
            let mut report = green();
            spoil(&mut report);
            assert!(!concluded(report));
        }
    }

    #[test]
    fn a_run_that_was_to_lose_owners_and_lost_none_is_red() {
        let mut report = green();
        let whole = Lost { answers: 3, whole: 3, ..Lost::default() };
        report.lost_with_owner = Some(whole);
        assert!(!concluded(report.clone()));
        report.lost_with_owner = Some(Lost { answers: 4, not_found: 1, ..whole });
        assert!(concluded(report.clone()));
        assert!(report.markdown().contains("| … told NOT_FOUND | 1 |"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["lostWithOwner"]["notFound"], 1);
    }

    #[test]
    fn one_document_in_camel_case() {
        let mut report = green();
        report.count(Fault::Kill, 2);
        report.conclude();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["outOfOrder"], &json["faults"]["kill"]), (&0.into(), &2.into()));
        assert_eq!(json["green"], true);
        assert_eq!(serde_json::from_value::<ChaosReport>(json).unwrap(), report);
        assert!(report.markdown().contains("| lost | 0 |"));
    }
}
