//! What the oracle found: counts that add up over devices, answers and runs.

use serde::{Deserialize, Serialize};

/// Most problems kept in words; every one is counted.
pub const MAX_PROBLEMS: usize = 20;

/// Counts over one or many transcripts. Everything up to `disagree` must be zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verdict {
    /// Chunks that never came although later ones or the end did.
    pub lost: u64,
    /// Chunks that came twice on one follow.
    pub twice: u64,
    /// Chunks that came after a later one on one follow.
    pub out_of_order: u64,
    /// Indexes with two texts, or an epoch below the one before it.
    pub mixed: u64,
    /// Chunks that the provider never wrote, or not under that epoch, or beyond the end.
    pub phantom: u64,
    /// Digests of RECOVERY or COMPLETE that do not fit what was received.
    pub digest_mismatch: u64,
    /// Transcripts without an end.
    pub without_end: u64,
    /// Frames of a follow after its end.
    pub after_end: u64,
    /// Frames that break another rule of the protocol.
    pub malformed: u64,
    /// Devices of one message that do not hold the same.
    pub disagree: u64,
    /// RESET frames with reason ROLLED_BACK.
    pub resets_rolled_back: u64,
    /// RESET frames with reason RESTARTED.
    pub resets_restarted: u64,
    /// Failed ends with code INTERRUPTED.
    pub interrupted: u64,
    /// Failed ends with another code, final errors included.
    pub failed: u64,
    /// Completed ends.
    pub completed: u64,
    /// Cancelled ends.
    pub cancelled: u64,
    /// Takeovers told.
    pub takeovers: u64,
    /// Chunks accepted.
    pub chunks: u64,
    /// Chunks that came again on another follow, which is allowed.
    pub redelivered: u64,
    /// Transcripts.
    pub transcripts: u64,
    /// The first problems in words, without any text of an answer.
    pub problems: Vec<String>,
}

/// What a run's takeover policy allows besides a flawless answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// RESET with reason RESTARTED (policy `restart`).
    pub restarted: bool,
    /// Ends with code INTERRUPTED (policy `fail`).
    pub interrupted: bool,
    /// Other failed ends (directives with `fail=`).
    pub failed: bool,
}

impl Verdict {
    /// What went wrong since an earlier verdict on the same transcript.
    pub fn since(&self, before: &Self) -> Self {
        let problems = self.problems.iter().skip(before.problems.len()).cloned().collect();
        Self {
            lost: self.lost.saturating_sub(before.lost),
            twice: self.twice.saturating_sub(before.twice),
            out_of_order: self.out_of_order.saturating_sub(before.out_of_order),
            mixed: self.mixed.saturating_sub(before.mixed),
            phantom: self.phantom.saturating_sub(before.phantom),
            digest_mismatch: self.digest_mismatch.saturating_sub(before.digest_mismatch),
            after_end: self.after_end.saturating_sub(before.after_end),
            malformed: self.malformed.saturating_sub(before.malformed),
            disagree: self.disagree.saturating_sub(before.disagree),
            problems,
            ..Self::default()
        }
    }

    /// Adds what another verdict counted.
    pub fn merge(&mut self, other: &Self) {
        self.lost += other.lost;
        self.twice += other.twice;
        self.out_of_order += other.out_of_order;
        self.mixed += other.mixed;
        self.phantom += other.phantom;
        self.digest_mismatch += other.digest_mismatch;
        self.without_end += other.without_end;
        self.after_end += other.after_end;
        self.malformed += other.malformed;
        self.disagree += other.disagree;
        self.resets_rolled_back += other.resets_rolled_back;
        self.resets_restarted += other.resets_restarted;
        self.interrupted += other.interrupted;
        self.failed += other.failed;
        self.completed += other.completed;
        self.cancelled += other.cancelled;
        self.takeovers += other.takeovers;
        self.chunks += other.chunks;
        self.redelivered += other.redelivered;
        self.transcripts += other.transcripts;
        for problem in &other.problems {
            self.note(|| problem.clone());
        }
    }

    /// Keeps a problem in words while there is room.
    pub fn note(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem());
        }
    }

    /// The counts that must be zero whatever the policy, with their names for reports.
    pub fn violations(&self) -> [(&'static str, u64); 11] {
        [
            ("lost", self.lost),
            ("twice", self.twice),
            ("out of order", self.out_of_order),
            ("mixed", self.mixed),
            ("phantom", self.phantom),
            ("digest mismatch", self.digest_mismatch),
            ("without end", self.without_end),
            ("after end", self.after_end),
            ("malformed", self.malformed),
            ("disagree", self.disagree),
            ("resets rolled back", self.resets_rolled_back),
        ]
    }

    /// Whether nothing is wrong, given what the policy allows.
    pub fn is_clean(&self, allowed: Allowed) -> bool {
        self.violations().iter().all(|(_, count)| *count == 0)
            && (allowed.restarted || self.resets_restarted == 0)
            && (allowed.interrupted || self.interrupted == 0)
            && (allowed.failed || self.failed == 0)
    }
}
