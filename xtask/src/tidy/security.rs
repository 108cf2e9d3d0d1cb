//! Rules for `SECURITY.md`: every file and every test it names as evidence is there. What a test shows,
//! a person must judge.

use super::Finding;
use std::collections::HashSet;

/// The document.
pub(super) const DOCUMENT: &str = "SECURITY.md";
/// Where paths in it may begin beside the root.
const ROOTS: [&str; 3] = ["", "dataplane/src/", "dataplane/tests/integration/"];
/// What files it names end with.
const ENDINGS: [&str; 7] = [".rs", ".toml", ".md", ".cfg", ".sh", ".html", "Dockerfile"];
/// Names of tests are sentences: at least so many words.
const SENTENCE: usize = 4;

/// Names of all functions of a Rust file.
pub(super) fn functions(content: &str) -> impl Iterator<Item = String> {
    let after = content.split("fn ").skip(1);
    after.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect())
}

/// What the document names and the repository does not have.
pub(super) fn rules(content: &str, paths: &[String], functions: &HashSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in content.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let missing = if is_path(quoted) {
                !ROOTS.iter().any(|root| paths.contains(&format!("{root}{quoted}")))
            } else {
                is_sentence(quoted) && !functions.contains(quoted)
            };
            if missing {
                findings.push(Finding::at(DOCUMENT, at + 1, format!("`{quoted}` is not there")));
            }
        }
    }
    findings
}

fn is_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    text.chars().all(plain) && ENDINGS.iter().any(|ending| text.ends_with(ending))
}

fn is_sentence(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.chars().all(word) && text.split('_').count() >= SENTENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_found_and_what_is_there_is_not() {
        let paths = ["dataplane/src/a/b.rs", "deny.toml"].map(str::to_owned);
        let code = "#[test]\nfn it_is_as_it_says() {}\nasync fn other() {}\n";
        let names: HashSet<String> = functions(code).collect();
        let good =
            "`a/b.rs` `deny.toml` `it_is_as_it_says` `auth_attempts_total` `rediss://`\n`x y`";
        assert_eq!(rules(good, &paths, &names), []);
        for bad in ["a/c.rs", "docker/x.Dockerfile", "it_is_not_as_it_says"] {
            let found = rules(&format!("first\n| x | `{bad}` |"), &paths, &names);
            assert_eq!(found, [Finding::at(DOCUMENT, 2, format!("`{bad}` is not there"))]);
        }
    }
}
