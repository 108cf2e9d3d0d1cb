//! The table of `make teeth`.

#[cfg(feature = "bugs")]
pub(crate) use with_bugs::{line, write};

#[cfg(feature = "bugs")]
mod with_bugs {
    use super::super::{Row, Tooth};
    use client::transcript::Verdict;
    use std::time::Duration;

    const BEGIN: &str = "<!-- teeth: begin -->";
    const END: &str = "<!-- teeth: end -->";

    fn findings(verdict: &Verdict) -> String {
        let mut found: Vec<_> = verdict
            .violations()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        for (name, count) in [("failed", verdict.failed), ("interrupted", verdict.interrupted)] {
            if count > 0 {
                found.push(format!("{name} {count}"));
            }
        }
        found.join(", ")
    }

    /// One row, as people read it.
    pub(crate) fn line(tooth: &Tooth, red: &Verdict, took: Duration) -> String {
        let (bug, fault) = (tooth.bug.name(), tooth.fault);
        let (seed, seconds, found) = (tooth.seed, took.as_secs_f64(), findings(red));
        format!("| `{bug}` | {fault} | {seed} | {seconds:.1} s | {found} |")
    }

    /// Replaces the table between the markers of the file that `TEETH_REPORT` names.
    #[allow(clippy::disallowed_methods)] // A test has no other way to be asked for a report.
    pub(crate) fn write(rows: &[Row]) {
        let Ok(path) = std::env::var("TEETH_REPORT") else { return };
        let mut table = String::from(
            "| bug | fault that exposes it | seed | red after | what the oracle found |\n|---|---|---|---|---|\n",
        );
        for row in rows {
            table.push_str(&line(&row.tooth, &row.red.0, row.red.1));
            table.push('\n');
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let section = format!("{BEGIN}\n{table}{END}");
        let whole = match (text.find(BEGIN), text.find(END)) {
            (Some(from), Some(to)) => {
                format!("{}{section}{}", &text[..from], &text[to + END.len()..])
            }
            _ => format!("{text}\n{section}\n"),
        };
        std::fs::write(&path, whole).unwrap();
    }
}
