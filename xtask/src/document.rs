//! Documents with a part that a command writes: it stands between two markers, the rest is by hand.
//! Each such part says on which machine and of which commit it is true.

use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;

/// Replaces the part `name` of the document. A document or a part that is not there is an error: what
/// surrounds a figure has to be written by a person.
pub(crate) fn write_part(path: &Path, name: &str, text: &str) -> Result<()> {
    write_part_of(path, name, name, text)
}

/// As [`write_part`], where `make <target>` writes more than one part.
pub(crate) fn write_part_of(path: &Path, target: &str, name: &str, text: &str) -> Result<()> {
    let file = path.display();
    let old = std::fs::read_to_string(path).with_context(|| format!("reading {file}"))?;
    let (begin, end) = markers(target, name);
    let new = between(&old, &begin, &end, text.trim())
        .with_context(|| format!("{file} lacks the lines {begin:?} and {end:?}"))?;
    std::fs::write(path, new).with_context(|| format!("writing {file}"))
}

fn markers(target: &str, name: &str) -> (String, String) {
    let begin = format!("<!-- {name}: begin. Written by `make {target}`, not by hand. -->");
    (begin, format!("<!-- {name}: end. -->"))
}

fn between(old: &str, begin: &str, end: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{text}\n\n{end}{after}"))
}

/// Another program's report as a part: its headings go below the document's own, its markers go.
pub(crate) fn as_part(report: &str) -> String {
    let mut fenced = false;
    let mut text = String::new();
    for line in report.trim().lines().filter(|line| !line.starts_with("<!--")) {
        fenced ^= line.starts_with("```");
        let heading = !fenced && line.starts_with('#');
        text += if heading { "##" } else { "" };
        text += line;
        text.push('\n');
    }
    text
}

/// Machine, commit and command of a figure, on one line.
pub(crate) fn circumstances(command: &str) -> String {
    format!("{} · commit {} · `{command}`", machine(), commit())
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown model", |(_, model)| model);
    format!("{cores} cores ({model}), Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    // Reports may differ: they are what is being written.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ":!docs"]);
    if changed.is_some_and(|list| !list.is_empty()) { format!("{hash} with changes") } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let path = std::env::temp_dir().join(format!("document-{}.md", std::process::id()));
        let (begin, end) = markers("x", "x");
        std::fs::write(&path, format!("a\n{begin}\nold\n{end}\nb\n")).unwrap();
        let outcomes = [write_part(&path, "x", "new\n"), write_part(&path, "x", "new")];
        let text = std::fs::read_to_string(&path).unwrap();
        let other = write_part(&path, "other", "new");
        std::fs::remove_file(&path).unwrap();
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(text, format!("a\n{begin}\n\nnew\n\n{end}\nb\n"));
        assert!(other.unwrap_err().to_string().contains("lacks the lines"));
        assert!(write_part(&path, "x", "new").is_err(), "a document that is not there");
    }

    #[test]
    fn headings_go_below_markers_go_and_code_stays() {
        let report = "<!-- x -->\n# A\ntext\n```sh\n# comment\n```\n## B\n";
        assert_eq!(as_part(report), "### A\ntext\n```sh\n# comment\n```\n#### B\n");
    }

    #[test]
    fn the_circumstances_name_machine_commit_and_command() {
        let line = circumstances("make x");
        assert!(line.contains(" cores (") && line.ends_with(" · `make x`"), "{line}");
    }
}
