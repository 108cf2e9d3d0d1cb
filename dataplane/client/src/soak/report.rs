//! What a soak counted: for the whole, and for each phase.

use super::{MAX_PHASES, Progress, Told};
use crate::load::Percentiles;
use crate::transcript::{MAX_PROBLEMS, Verdict};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Longer gaps are recorded as this one, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// Longest times between two chunks of a message, over messages, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Gaps {
    /// Of clients of dialect v1.
    pub v1: Percentiles,
    /// Of clients of dialect basic.
    pub basic: Percentiles,
}

/// What happened in a phase. An answer counts where it ended, a gap where it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// How long it was.
    pub seconds: f64,
    /// Answers that ended.
    pub answers: u64,
    /// Of these completed and without fault.
    pub completed: u64,
    /// Chunks that never came, and answers that failed with another code than INTERRUPTED.
    pub lost: u64,
    /// Chunks that came twice.
    pub twice: u64,
    /// Chunks that came after a later one.
    pub reordered: u64,
    /// Other breaches of the protocol: wrong digests, wrong text, frames out of place.
    pub wrong: u64,
    /// Answers that did not end in time.
    pub hung: u64,
    /// RESETs: somebody was told that what they had seen is not the answer.
    pub resets: u64,
    /// Answers that ended INTERRUPTED.
    pub interrupted: u64,
    /// Sockets that were opened anew.
    pub reconnects: u64,
    /// GOAWAYs.
    pub goaways: u64,
    /// Refusals that were tried again, by code.
    pub refused: BTreeMap<String, u64>,
    /// Longest gaps of messages.
    pub gap_ms: Gaps,
    /// The first problems in words.
    pub problems: Vec<String>,
}

impl PhaseReport {
    /// Nothing is lost, doubled, reordered, wrong or hung.
    pub fn is_clean(&self) -> bool {
        self.bad() == 0
    }

    fn bad(&self) -> u64 {
        self.lost + self.twice + self.reordered + self.wrong + self.hung
    }

    fn judge(&mut self, verdict: &Verdict, hung: bool) {
        self.answers += 1;
        self.completed += u64::from(verdict.completed > 0 && !hung);
        self.count(verdict, hung);
    }

    fn count(&mut self, verdict: &Verdict, hung: bool) {
        self.lost += verdict.lost + verdict.failed;
        self.twice += verdict.twice;
        self.reordered += verdict.out_of_order;
        // An answer that hangs is counted as such.
        let without_end = if hung { 0 } else { verdict.without_end };
        self.wrong += verdict.mixed
            + verdict.phantom
            + verdict.digest_mismatch
            + verdict.after_end
            + verdict.malformed
            + verdict.disagree
            + without_end;
        self.hung += u64::from(hung);
        self.resets += verdict.resets_rolled_back + verdict.resets_restarted;
        self.interrupted += verdict.interrupted;
        for problem in &verdict.problems {
            self.note(problem);
        }
    }

    fn note(&mut self, problem: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem.to_owned());
        }
    }

    fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.answers += other.answers;
        self.completed += other.completed;
        self.lost += other.lost;
        self.twice += other.twice;
        self.reordered += other.reordered;
        self.wrong += other.wrong;
        self.hung += other.hung;
        self.resets += other.resets;
        self.interrupted += other.interrupted;
        self.reconnects += other.reconnects;
        self.goaways += other.goaways;
        for (code, count) in &other.refused {
            *self.refused.entry(code.clone()).or_default() += count;
        }
        for problem in &other.problems {
            self.note(problem);
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SoakReport {
    /// All phases together.
    pub total: PhaseReport,
    /// Each.
    pub phases: Vec<PhaseReport>,
}

struct Phase {
    report: PhaseReport,
    since: Instant,
    /// v1 and basic.
    gaps: [Option<Histogram<u64>>; 2],
}

/// What was told so far.
pub(super) struct Collected {
    phases: Vec<Phase>,
}

impl Collected {
    pub(super) fn new(name: &str) -> Self {
        Self { phases: vec![Phase::new(name)] }
    }

    /// A new phase; its number.
    pub(super) fn begin(&mut self, name: &str) -> usize {
        if self.phases.len() < MAX_PHASES {
            if let Some(phase) = self.phases.last_mut() {
                phase.report.seconds = phase.since.elapsed().as_secs_f64();
            }
            self.phases.push(Phase::new(name));
        }
        self.phases.len() - 1
    }

    pub(super) fn add(&mut self, told: Told, now: usize) {
        if let Told::Answer { basic, gaps, .. } = &told {
            for (phase, gap) in gaps {
                if let Some(phase) = self.phases.get_mut(*phase) {
                    phase.gap(*basic, *gap);
                }
            }
        }
        let Some(phase) = self.phases.get_mut(now) else { return };
        match told {
            Told::Answer { verdict, hung, .. } => phase.report.judge(&verdict, hung),
            Told::Stray(verdict) => phase.report.count(&verdict, false),
            Told::Reconnect => phase.report.reconnects += 1,
            Told::Goaway => phase.report.goaways += 1,
            Told::Refused(code) => *phase.report.refused.entry(code).or_default() += 1,
        }
    }

    /// The soak itself failed somewhere.
    pub(super) fn failed(&mut self, why: &str) {
        if let Some(phase) = self.phases.last_mut() {
            phase.report.wrong += 1;
            phase.report.note(why);
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let sum =
            |of: fn(&PhaseReport) -> u64| self.phases.iter().map(|phase| of(&phase.report)).sum();
        Progress {
            phase: self.phases.last().map(|phase| phase.report.name.clone()).unwrap_or_default(),
            answers: sum(|report| report.answers),
            bad: sum(PhaseReport::bad),
            reconnects: sum(|report| report.reconnects),
        }
    }

    pub(super) fn report(mut self) -> SoakReport {
        if let Some(phase) = self.phases.last_mut() {
            phase.report.seconds = phase.since.elapsed().as_secs_f64();
        }
        let mut total = Phase::new("total");
        for phase in &mut self.phases {
            phase.report.gap_ms = phase.gaps();
            total.report.add(&phase.report);
            for (all, one) in total.gaps.iter_mut().zip(&phase.gaps) {
                if let Some((all, one)) = all.as_mut().zip(one.as_ref()) {
                    // Both have the same bounds.
                    let _ = all.add(one);
                }
            }
        }
        total.report.gap_ms = total.gaps();
        let phases = self.phases.into_iter().map(|phase| phase.report).collect();
        SoakReport { total: total.report, phases }
    }
}

impl Phase {
    fn new(name: &str) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 3).ok();
        let report = PhaseReport { name: name.to_owned(), ..PhaseReport::default() };
        Self { report, since: Instant::now(), gaps: [histogram(), histogram()] }
    }

    fn gap(&mut self, basic: bool, gap: Duration) {
        if let Some(histogram) = &mut self.gaps[usize::from(basic)] {
            histogram.saturating_record(gap.as_micros() as u64);
        }
    }

    fn gaps(&self) -> Gaps {
        let of = |at: usize| crate::load::percentiles(self.gaps[at].as_ref());
        Gaps { v1: of(0), basic: of(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(verdict: Verdict, hung: bool, gaps: &[(usize, u64)]) -> Told {
        let gaps = gaps.iter().map(|(phase, ms)| (*phase, Duration::from_millis(*ms))).collect();
        Told::Answer { basic: false, verdict: Box::new(verdict), hung, gaps }
    }

    #[test]
    fn an_answer_counts_where_it_ended_and_a_gap_where_it_ended() {
        let mut collected = Collected::new("begin");
        let completed = || Verdict { completed: 1, ..Verdict::default() };
        collected.add(answer(completed(), false, &[(0, 50)]), 0);
        assert_eq!(collected.begin("rollout"), 1);
        collected.add(answer(completed(), false, &[(0, 60), (1, 900)]), 1);
        let report = collected.report();
        assert_eq!((report.phases[0].answers, report.phases[1].answers), (1, 1));
        assert!((report.phases[0].gap_ms.v1.max - 60.0).abs() < 1.0, "{:?}", report.phases[0]);
        assert!((report.phases[1].gap_ms.v1.max - 900.0).abs() < 1.0);
        assert!((report.total.gap_ms.v1.max - 900.0).abs() < 1.0);
        assert!(report.total.is_clean() && report.total.completed == 2);
    }

    #[test]
    fn whatever_is_wrong_with_an_answer_makes_it_red() {
        let one = |verdict: Verdict, hung: bool| {
            let mut collected = Collected::new("begin");
            collected.add(answer(verdict, hung, &[]), 0);
            collected.report().total
        };
        let d = Verdict::default;
        for verdict in [
            Verdict { lost: 1, ..d() },
            Verdict { failed: 1, ..d() },
            Verdict { twice: 1, ..d() },
            Verdict { out_of_order: 1, ..d() },
            Verdict { digest_mismatch: 1, ..d() },
            Verdict { without_end: 1, ..d() },
        ] {
            assert!(!one(verdict.clone(), false).is_clean(), "{verdict:?}");
        }
        let hung = one(Verdict { without_end: 1, ..d() }, true);
        assert_eq!((hung.hung, hung.wrong), (1, 0));
        let told = one(Verdict { interrupted: 1, resets_restarted: 2, ..d() }, false);
        assert!(told.is_clean() && (told.interrupted, told.resets) == (1, 2));
    }
}
