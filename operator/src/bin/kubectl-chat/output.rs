//! What people and programs are shown: text from what was read, written by `main` alone.

use super::fleet::Fleet;
use anyhow::{Result, bail};
use crds::status::{KeyRotation, RolloutStatus};
use operator::build::build;
use operator::observe::PodFacts;
use operator::plan::{Action, Exchange, plan as decide};
use operator::validate::{Defaults, Invalid, validate};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Columns as wide as they must be.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn gateway(fleet: &Fleet) -> impl Iterator<Item = &PodFacts> {
    fleet.observed.pods.iter().filter(|pod| pod.component == "gateway")
}

fn rows(fleet: &Fleet) -> Vec<Value> {
    gateway(fleet)
        .map(|pod| {
            let report = pod.report.as_ref();
            json!({
                "pod": pod.name, "revision": pod.revision, "pool": pod.pool, "ready": pod.ready(),
                "phase": report.map(|report| report.phase.as_str()),
                "sessions": report.map(|report| report.sessions),
                "streams": report.map(|report| report.streams),
                "trouble": pod.trouble,
            })
        })
        .collect()
}

fn pods_table(fleet: &Fleet) -> String {
    let heading = ["POD", "REVISION", "POOL", "READY", "PHASE", "SESSIONS", "STREAMS"];
    let text = |value: &Value| match value {
        Value::Null => "?".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let keys = ["pod", "revision", "pool", "ready", "phase", "sessions", "streams"];
    let rows = rows(fleet).into_iter().map(|row| keys.map(|key| text(&row[key])).to_vec());
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect();
    table(&rows)
}

/// Where it stands.
pub(super) fn status(fleet: &Fleet, as_json: bool) -> Result<String> {
    let status = fleet.cluster.status.clone().unwrap_or_default();
    if as_json {
        return document(&json!({"status": status, "pods": rows(fleet)}));
    }
    let shown =
        |change: Option<crds::status::Change>| change.and_then(|one| one.shown).unwrap_or_default();
    let phase = status.phase.map(|phase| format!("{phase:?}")).unwrap_or_default();
    let (version, revision) = (shown(status.version), shown(status.revision));
    let mut text = format!("{}: {phase}, version {version}, revision {revision}\n", fleet.name);
    if let Some(rollout) = &status.rollout {
        let held = rollout.held.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
        writeln!(
            text,
            "rollout: {} ready, {} pods and about {} sessions to go{}{held}",
            rollout.ready,
            rollout.remaining_pods,
            rollout.remaining_sessions,
            pace(rollout)
        )?;
    }
    if let Some(KeyRotation { step, waits_for, .. }) = &status.key_rotation {
        writeln!(text, "keys: {step:?}, waits for {waits_for}")?;
    }
    for one in status.conditions.iter().filter(|one| !one.message.is_empty()) {
        let wrong = ["Degraded", "DrainBlocked", "ConfigurationWarning", "Paused", "Progressing"];
        if (one.status == "True") == wrong.contains(&one.type_.as_str()) {
            writeln!(text, "{}={} {}: {}", one.type_, one.status, one.reason, one.message)?;
        }
    }
    write!(text, "\n{}", pods_table(fleet))?;
    Ok(text)
}

fn pace(rollout: &RolloutStatus) -> String {
    let moved = rollout.moved_sessions.map(|moved| format!(", {moved} have moved"));
    let left = rollout.estimated_seconds.map(|seconds| format!(", about {seconds} s"));
    moved.into_iter().chain(left).collect()
}

/// Sessions and live answers by pod.
pub(super) fn sessions(fleet: &Fleet, as_json: bool) -> Result<String> {
    if as_json {
        return document(&json!(rows(fleet)));
    }
    let reports = || gateway(fleet).filter_map(|pod| pod.report.as_ref());
    let sum = |of: fn(&protocol::DrainReport) -> usize| reports().map(of).sum::<usize>();
    let unknown = gateway(fleet).count() - reports().count();
    Ok(format!(
        "{}\n{} sessions, {} live answers, {unknown} pods unknown\n",
        pods_table(fleet),
        sum(|one| one.sessions),
        sum(|one| one.streams)
    ))
}

/// What the operator would do next, and whether it would have to wait.
pub(super) fn plan(fleet: &Fleet, as_json: bool) -> Result<(String, bool)> {
    // Where the spec names no image, the pods' own is kept; a new cluster would have the operator's.
    let defaults = Defaults {
        image: "the operator's default".to_owned(),
        redis_image: "the operator's default".to_owned(),
        namespace: "the operator's".to_owned(),
    };
    let validated = match validate(&fleet.cluster, &fleet.observed, &defaults) {
        Ok(validated) => validated,
        Err(Invalid(findings)) => {
            let messages: Vec<_> = findings.into_iter().map(|one| one.message).collect();
            bail!("the spec cannot be carried out: {}", messages.join("; "));
        }
    };
    let built = build(&validated.cluster);
    let plan = decide(&built, &fleet.observed, operator::clock::now());
    let held = plan.rollout.as_ref().and_then(|rollout| rollout.held.clone());
    let old = |pod: &&PodFacts| pod.is_active() && pod.revision != built.revision;
    let exchanged: Vec<_> = gateway(fleet).filter(old).collect();
    let sessions: usize =
        exchanged.iter().filter_map(|pod| pod.report.as_ref()).map(|one| one.sessions).sum();
    let unknown = exchanged.iter().filter(|pod| pod.report.is_none()).count();
    let next: Vec<_> = plan.actions().iter().filter_map(words).collect();
    let said: Vec<_> =
        plan.findings.iter().map(|one| format!("{:?}: {}", one.reason, one.message)).collect();
    let waits = held.is_some();
    if as_json {
        let text = document(&json!({
            "revision": built.revision, "wantedPods": plan.wanted, "exchangedPods": exchanged.len(),
            "movedSessions": sessions, "unknownPods": unknown, "next": next, "held": held, "findings": said,
        }))?;
        return Ok((text, waits));
    }
    let wanted = plan.wanted.unwrap_or_default();
    let mut text = format!("revision {}, {wanted} pods\n", built.revision);
    match (exchanged.len(), unknown) {
        (0, _) => text.push_str("no pod is exchanged\n"),
        (pods, 0) => writeln!(text, "{pods} pods are exchanged: {sessions} sessions move")?,
        (pods, unknown) => writeln!(
            text,
            "{pods} pods are exchanged: {sessions} sessions move, and those of {unknown} pods that say nothing"
        )?,
    }
    if next.is_empty() {
        text.push_str("next: nothing\n");
    }
    next.iter().try_for_each(|one| writeln!(text, "next: {one}"))?;
    said.iter().try_for_each(|one| writeln!(text, "{one}"))?;
    Ok((text, waits))
}

fn document(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn words(action: &Action) -> Option<String> {
    Some(match action {
        Action::Keys { keys, .. } => format!("fill Secret {}", keys.name),
        Action::Exchange { exchange, .. } => match exchange {
            Exchange::Publish { .. } => "put new keys beside those that sign".to_owned(),
            Exchange::Swap => "have the new keys sign".to_owned(),
            Exchange::Retire => "take the old keys out".to_owned(),
            Exchange::Sign { .. } => return None,
        },
        Action::Apply { key, .. } => format!("write {} {}", key.kind.name(), key.name),
        Action::Create { key, .. } => format!("make {} {}", key.kind.name(), key.name),
        Action::Scale { replica_set, replicas, .. } => format!("{replica_set} to {replicas} pods"),
        Action::Detach { pod, .. } => format!("take pod {} out and drain it", pod.name),
        Action::Drain { pod, .. } => format!("tell pod {} to drain", pod.name),
        Action::DeletePod { pod } => format!("delete pod {}: it has nothing left", pod.name),
        Action::Delete { key, .. } => format!("remove {} {}", key.kind.name(), key.name),
        // Notes of the operator to itself.
        Action::Note { .. } | Action::Cost { .. } | Action::Adopt { .. } => return None,
    })
}
