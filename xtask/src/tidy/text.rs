//! Rules for any file: names, documents, and nothing of the place where it was written.

use super::Finding;

/// Drawers into which everything falls.
const DRAWERS: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];
/// Documents that a reader looks for first.
const DOCUMENTS: [&str; 5] =
    ["ARCHITECTURE.md", "README.md", "CHANGELOG.md", "Makefile", ".ci/run"];
const MAX_ARCHITECTURE: usize = 200;
/// What holds on one machine only: its folders, and the hosts its packages come from. Split, so that
/// this file keeps its own rule.
const MACHINE: [&str; 6] = [
    concat!("/wo", "rk/"),
    concat!("//pro", "xy."),
    concat!("//regi", "stry."),
    concat!("//ind", "ex."),
    concat!("//sta", "tic."),
    concat!("//d", "eb."),
];
/// Written by package managers.
const LOCK_FILES: [&str; 2] = ["Cargo.lock", "package-lock.json"];

/// The rules that need the content.
pub(super) fn rules(path: &str, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(nothing_of_one_machine(path, content));
    findings.extend(architecture_is_short(path, content));
    findings.extend(ci_runs_the_tests(path, content));
    findings
}

/// A drawer among the parts of the path.
pub(super) fn drawer_name(path: &str) -> Option<Finding> {
    let drawer = path.split('/').find(|part| {
        let stem = part.split('.').next().unwrap_or(part);
        DRAWERS.contains(&stem)
    })?;
    Some(Finding::of(path, format!("`{drawer}` is a drawer; name it after what it does")))
}

/// Documents that are not there.
pub(super) fn missing(paths: &[String]) -> Vec<Finding> {
    let there = |name: &&str| !paths.iter().any(|path| path == name);
    DOCUMENTS.iter().filter(|name| there(name)).map(|name| Finding::of(name, "missing")).collect()
}

fn nothing_of_one_machine(path: &str, content: &str) -> Option<Finding> {
    if LOCK_FILES.iter().any(|name| path.ends_with(name)) {
        return None;
    }
    content.lines().enumerate().find_map(|(at, line)| {
        let word = MACHINE.iter().find(|word| line.contains(**word))?;
        Some(Finding::at(path, at + 1, format!("`{word}` is true on one machine only")))
    })
}

fn architecture_is_short(path: &str, content: &str) -> Option<Finding> {
    let count = content.lines().count();
    (path == "ARCHITECTURE.md" && count >= MAX_ARCHITECTURE)
        .then(|| Finding::of(path, format!("{count} lines (less than {MAX_ARCHITECTURE})")))
}

fn ci_runs_the_tests(path: &str, content: &str) -> Option<Finding> {
    (path == ".ci/run" && !content.contains("make test"))
        .then(|| Finding::of(path, "does not run `make test`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawer_is_found_as_a_file_and_as_a_folder() {
        for drawer in DRAWERS {
            assert!(drawer_name(&format!("a/src/{drawer}.rs")).is_some(), "{drawer}");
            assert!(drawer_name(&format!("a/{drawer}/b.rs")).is_some(), "{drawer}");
            assert!(drawer_name(&format!("a/src/{drawer}_of_trade.rs")).is_none(), "{drawer}");
        }
    }

    #[test]
    fn a_missing_document_is_found() {
        let paths: Vec<String> = DOCUMENTS.iter().skip(1).map(ToString::to_string).collect();
        let found: Vec<String> = missing(&paths).iter().map(Finding::to_string).collect();
        assert_eq!(found, [format!("{}: missing", DOCUMENTS[0])]);
    }

    #[test]
    fn what_is_true_on_one_machine_only_is_found() {
        for word in MACHINE {
            let bad = format!("first\nsee https:{word}x for more\n");
            let found = rules("docs/a.md", &bad);
            assert_eq!(found.len(), 1, "{word}");
            assert!(found[0].to_string().starts_with("docs/a.md:2: "), "{}", found[0]);
            assert_eq!(rules("a/Cargo.lock", &bad), []);
        }
        let longer = format!("see docs/net{}x\n", &MACHINE[0][1..]);
        assert_eq!(rules("docs/a.md", &longer), []);
    }

    #[test]
    fn a_long_architecture_is_found() {
        assert!(architecture_is_short("ARCHITECTURE.md", &"x\n".repeat(200)).is_some());
        assert!(architecture_is_short("ARCHITECTURE.md", &"x\n".repeat(199)).is_none());
        assert!(architecture_is_short("docs/long.md", &"x\n".repeat(300)).is_none());
    }

    #[test]
    fn a_ci_without_the_tests_is_found() {
        assert!(ci_runs_the_tests(".ci/run", "cargo build\n").is_some());
        assert!(ci_runs_the_tests(".ci/run", "exec make test\n").is_none());
    }
}
