//! The operator is a compiler: `observe → validate → build → plan → apply → status`. Observe, apply and
//! status speak to Kubernetes; validate, build and plan are pure, and are tested without it.
//!
//! | step | from | to |
//! |---|---|---|
//! | [`observe`] | a `ChatCluster` | [`observe::Observed`]: what is there, as plain data |
//! | [`validate`](mod@validate) | the spec and what was observed | [`validate::ValidatedCluster`], or findings for people |
//! | [`build`](mod@build) | a validated cluster | [`build::Built`]: every object that should be there |
//! | [`plan`](mod@plan) | what should be and what is | [`plan::Plan`]: actions in order, findings |
//! | [`apply`](mod@apply) | a plan | the same, carried out: server-side apply, only where it differs |
//! | [`status`](mod@status) | all of the above | conditions and counts, written if they changed |
//!
//! [`controller`] calls them in this order; [`leader`] says which replica does. [`scrape`] reads what nodes
//! say of themselves, outside of passes, through [`nodes`].

pub mod admin;
pub mod apply;
pub mod backoff;
pub mod build;
pub mod clock;
pub mod controller;
pub mod finding;
pub mod leader;
pub mod metrics;
pub mod nodes;
pub mod observe;
pub mod options;
pub mod plan;
pub mod schema_check;
pub mod scrape;
pub mod status;
pub mod validate;
