//! `docs/metrics.md`, made of the catalog.

use super::catalog::{Description, GROUPS, PREFIX};
use super::labels::Label;
use std::fmt::Write as _;

/// More values than this are told by their number and the place that lists them.
const MOST_VALUES: usize = 16;

/// The whole document.
pub fn document() -> String {
    let mut text = format!(
        "# Metrics\n\n\
         Every node serves its metrics at `GET /metrics` of its admin port, as OpenMetrics text. Every\n\
         name begins with `{PREFIX}_`. Units are base units and end the name; counters end with\n\
         `_total`, as queries name them. Label values come from closed lists: none is ever an id of a\n\
         user, session or message, nor anything else of a request.\n\n\
         This page is generated from `dataplane/src/metrics/catalog.rs`; after a change there\n\
         `UPDATE_DOCS=1 cargo test --workspace --test integration metrics` writes it anew.\n"
    );
    for (title, metrics) in GROUPS {
        let _ = writeln!(text, "\n## {title}");
        for metric in *metrics {
            entry(&mut text, metric);
        }
    }
    text
}

fn entry(text: &mut String, metric: &Description) {
    let _ = write!(text, "\n### `{}`\n\n{}", metric.query(), metric.kind.as_str());
    if let Some(unit) = metric.unit {
        let _ = write!(text, ", {unit}");
    }
    let _ = writeln!(text, ". {}.", metric.help);
    for label in metric.labels {
        let _ = writeln!(text, "- `{}`: {}", label.name, values(label));
    }
    let _ = writeln!(text, "\n*When it moves:* {}", metric.look);
}

fn values(label: &Label) -> String {
    let Some(values) = label.values else {
        return "the names of the providers in the settings".to_owned();
    };
    let values = values();
    let shown: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
    if shown.len() <= MOST_VALUES {
        return shown.join(", ");
    }
    format!("{}, … ({} in all: `docs/protocol.md`, section 5)", shown[..2].join(", "), shown.len())
}
