//! Rules for Rust files. They read lines, not syntax: rustfmt's layout is checked before, so that a
//! function ends at the first closing brace with the indentation of its signature.

use super::Finding;

const MAX_FUNCTION: usize = 70;
const MAX_FILE: usize = 500;
const MAX_PROTOCOL: usize = 1_800;

/// Test cases that are compiled only with the feature `testing`, so that other packages can run them.
const SUITES: [&str; 1] = ["dataplane/streamlog/src/tests/conformance/"];

/// Forbidden in production code, with the reason. Split, so that this file keeps its own rules.
const FORBIDDEN: [(&str, &str); 5] = [
    (concat!(".unw", "rap()"), "handle the error, or say by the type that there is none"),
    (concat!(".exp", "ect("), "handle the error, or say by the type that there is none"),
    (concat!("unbounded", "_channel"), "every queue has a bound with a name"),
    (concat!("to", "do!("), "finish it, or leave it out"),
    (concat!("unimple", "mented!("), "finish it, or leave it out"),
];

/// Where there is no I/O, no clock and no async (ARCHITECTURE.md, invariant 9): beginnings of paths,
/// and the words that would break it there. Decisions about streams get the time as an argument.
const PURE: [(&[&str], &[&str]); 2] = [
    (
        &["dataplane/protocol/src/", "dataplane/src/session/machine"],
        &["async", "tokio", "Instant", "SystemTime"],
    ),
    (
        &[
            "dataplane/src/stream/policy",
            "dataplane/src/stream/coalesce",
            "dataplane/src/stream/contact",
            "dataplane/src/stream/outcome",
            "dataplane/src/upstream/answer",
            "dataplane/src/upstream/anthropic",
            "dataplane/src/upstream/breaker",
            "dataplane/src/upstream/failure",
            "dataplane/src/upstream/fences",
            "dataplane/src/upstream/openai",
            "dataplane/src/upstream/prompt",
            "dataplane/src/upstream/seam",
        ],
        &["async", "await", "sleep", "Instant::now", "SystemTime"],
    ),
];

/// All rules of one file.
pub(super) fn rules(path: &str, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(says_what_belongs_here(path, content));
    if is_test(path) {
        return findings;
    }
    let lines = production(content);
    findings.extend(file_is_short(path, &lines));
    findings.extend(functions_are_short(path, &lines));
    findings.extend(nothing_forbidden(path, &lines));
    findings.extend(pure_places_are_pure(path, &lines));
    findings
}

/// Lines of `content` that are code: not blank, no comment, no test.
pub(super) fn code_lines(content: &str) -> usize {
    production(content).iter().filter(|line| is_code(line)).count()
}

/// The ceiling of the protocol package.
pub(super) fn protocol_is_small(lines: usize) -> Option<Finding> {
    (lines > MAX_PROTOCOL).then(|| {
        Finding::of(
            "dataplane/protocol",
            format!(
                "{lines} lines of code ({MAX_PROTOCOL}): what need not be agreed on elsewhere?"
            ),
        )
    })
}

/// Whether the whole file is test code.
fn is_test(path: &str) -> bool {
    SUITES.iter().any(|suite| path.starts_with(suite))
        || path.split('/').any(|part| part == "tests" || part == "benches")
        || path.ends_with("/tests.rs")
}

/// The lines before the file's own test module.
fn production(content: &str) -> Vec<&str> {
    let lines: Vec<&str> = content.lines().collect();
    let test_module = lines.windows(2).position(|pair| {
        let module = pair[1].trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        pair[0] == "#[cfg(test)]" && module.starts_with("mod ") && module.ends_with('{')
    });
    lines[..test_module.unwrap_or(lines.len())].to_vec()
}

fn is_code(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("//")
}

fn says_what_belongs_here(path: &str, content: &str) -> Option<Finding> {
    let first = content.lines().next().unwrap_or_default();
    let said = first.starts_with("//!") && first.len() > "//! ".len();
    (!said).then(|| Finding::at(path, 1, "the first line is no `//!` that says what belongs here"))
}

fn file_is_short(path: &str, lines: &[&str]) -> Option<Finding> {
    let count = lines.len();
    (count > MAX_FILE)
        .then(|| Finding::of(path, format!("{count} lines without tests ({MAX_FILE})")))
}

fn functions_are_short(path: &str, lines: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let Some(length) = function_length(&lines[at..]) else { continue };
        if length > MAX_FUNCTION {
            let what = format!("fn {name} has {length} lines ({MAX_FUNCTION})");
            findings.push(Finding::at(path, at + 1, what));
        }
    }
    findings
}

/// The name, if a function's signature begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ").or(None)?;
    let modifiers = before.split_whitespace().all(|word| {
        matches!(word, "const" | "async" | "unsafe" | "extern" | "\"C\"" | "default")
            || word == "pub"
            || word.starts_with("pub(")
            || word == "in"
            || word.ends_with(')')
    });
    let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (modifiers && !name.is_empty()).then_some(name)
}

/// Lines from the signature to the closing brace; `None` without a body of its own lines.
fn function_length(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    let indent = &first[..first.len() - first.trim_start().len()];
    let signature_end = lines.iter().position(|line| line.trim_end().ends_with(['{', '}', ';']))?;
    if !lines[signature_end].trim_end().ends_with('{') {
        return None;
    }
    let body = lines[signature_end..]
        .iter()
        .position(|line| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}')))?;
    Some(signature_end + body + 1)
}

fn nothing_forbidden(path: &str, lines: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_code(line)) {
        for (word, reason) in FORBIDDEN {
            if line.contains(word) {
                findings.push(Finding::at(path, at + 1, format!("`{word}`: {reason}")));
            }
        }
    }
    findings
}

fn pure_places_are_pure(path: &str, lines: &[&str]) -> Vec<Finding> {
    let here = |(places, _): &&(&[&str], &[&str])| places.iter().any(|at| path.starts_with(at));
    let Some((_, words)) = PURE.iter().find(here) else { return Vec::new() };
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_code(line)) {
        if let Some(word) = words.iter().find(|word| has_word(line, word)) {
            let what = format!("`{word}` where there is no I/O, no clock and no async");
            findings.push(Finding::at(path, at + 1, what));
        }
    }
    findings
}

/// Whether `word` stands in `line`, and not as a part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !part(line[..at].chars().next_back()) && !part(line[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(findings: impl IntoIterator<Item = Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.to_string()).collect()
    }

    fn function(signature: &str, lines: usize) -> String {
        format!("{signature}\n{}}}\n", "    x();\n".repeat(lines - 2))
    }

    #[test]
    fn a_long_function_is_found_and_a_full_one_is_not() {
        let long = function("pub(crate) async fn long() {", 71);
        let lines: Vec<&str> = long.lines().collect();
        assert_eq!(
            whats(functions_are_short("a.rs", &lines)),
            ["a.rs:1: fn long has 71 lines (70)"]
        );
        let full = function("fn full() {", 70);
        let lines: Vec<&str> = full.lines().collect();
        assert_eq!(functions_are_short("a.rs", &lines), []);
    }

    #[test]
    fn a_long_method_with_a_broken_signature_is_found() {
        let body = "        x();\n".repeat(80);
        let text =
            format!("impl A {{\n    fn m(\n        a: u8,\n    ) -> u8 {{\n{body}    }}\n}}\n");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(whats(functions_are_short("a.rs", &lines)), ["a.rs:2: fn m has 84 lines (70)"]);
    }

    #[test]
    fn a_declaration_and_a_one_liner_have_no_length() {
        assert_eq!(function_length(&["fn a();", "}"]), None);
        assert_eq!(function_length(&["fn a() {}", "}"]), None);
        assert_eq!(function_name("    let f = fn name;"), None);
        assert_eq!(function_name("    pub const fn name(self) -> u8 {"), Some("name"));
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let code = "x\n".repeat(500);
        let tests = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(file_is_short("a.rs", &production(&tests)), None);
        let long = format!("{code}x\n");
        let found = file_is_short("a.rs", &production(&long));
        assert_eq!(whats(found), ["a.rs: 501 lines without tests (500)"]);
    }

    #[test]
    fn each_forbidden_word_is_found_in_code_and_nowhere_else() {
        for (word, _) in FORBIDDEN {
            let code = format!("//! A file of code.\n    let x = y{word}z);\n");
            let found = whats(rules("a/src/a.rs", &code));
            assert_eq!(found.len(), 1, "{word}: {found:?}");
            assert!(found[0].starts_with("a/src/a.rs:2: "), "{found:?}");
            assert_eq!(rules("a/tests/integration/a.rs", &code), []);
            assert_eq!(rules(&format!("{}a.rs", SUITES[0]), &code), []);
            let tested = format!("//! A file of code.\n#[cfg(test)]\nmod tests {{\n{code}}}\n");
            assert_eq!(rules("a/src/a.rs", &tested), []);
            assert_eq!(rules("a/src/a.rs", &format!("//! A comment: x{word})\n")), []);
        }
    }

    #[test]
    fn a_file_that_does_not_say_what_belongs_here_is_found() {
        for bad in ["", "use x;\n", "// comment\n", "//!\n", "//! \n"] {
            assert_eq!(whats(rules("tests/a.rs", bad)).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn a_clock_or_async_in_a_pure_place_is_found() {
        for (places, words) in PURE {
            for (place, word) in places.iter().flat_map(|p| words.iter().map(move |w| (p, w))) {
                let code = format!("//! A file of code.\nuse a::{word}();\n");
                assert_eq!(whats(rules(&format!("{place}/a.rs"), &code)).len(), 1, "{word}");
                assert_eq!(rules("dataplane/src/session/task.rs", &code), []);
            }
        }
        let text = "//! A file of code: no async.\nlet synchronous_async_x = Instants;\n";
        assert_eq!(rules("dataplane/protocol/src/a.rs", text), []);
        let argument = "//! A file of code.\nfn trusted(now: Instant) {}\n";
        assert_eq!(rules("dataplane/src/stream/contact.rs", argument), []);
    }

    #[test]
    fn code_is_counted_without_comments_blanks_and_tests() {
        let text = "//! a\n\n/// b\nfn a() {\n    // c\n}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(code_lines(text), 2);
        assert_eq!(protocol_is_small(MAX_PROTOCOL), None);
        assert!(protocol_is_small(MAX_PROTOCOL + 1).is_some());
    }
}
