//! The house rules that neither the compiler nor clippy keeps. `cargo test` runs them on this
//! repository, `cargo xtask tidy` prints the same. Each rule is a pure function of text with a test
//! on a bad sample; this file walks the repository and applies them.

mod dependencies;
mod dockerfile;
mod rust_source;
mod security;
mod text;

use anyhow::{Context as _, Result};
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path relative to the repository, with the line where there is one.
    place: String,
    /// What is wrong, and what is allowed.
    what: String,
}

impl Finding {
    fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { place: format!("{path}:{line}"), what: what.into() }
    }

    fn of(path: &str, what: impl Into<String>) -> Self {
        Self { place: path.to_owned(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Prints what is found; fails if there is anything.
pub(crate) fn run() -> Result<ExitCode> {
    let (files, findings) = check(&crate::root())?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {files} files, nothing to say");
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} findings in {files} files", findings.len());
    Ok(ExitCode::FAILURE)
}

/// The number of files read, and what is wrong in them.
fn check(root: &Path) -> Result<(usize, Vec<Finding>)> {
    let mut paths = Vec::new();
    walk(root, Path::new(""), &mut paths)?;
    paths.sort();
    let mut findings = text::missing(&paths);
    let (mut protocol_lines, mut functions) = (0, HashSet::new());
    for path in &paths {
        findings.extend(text::drawer_name(path));
        // What is no text has no rules.
        let Ok(content) = std::fs::read_to_string(root.join(path)) else { continue };
        findings.extend(text::rules(path, &content));
        findings.extend(dockerfile::rules(path, &content));
        if path.ends_with(".rs") {
            findings.extend(rust_source::rules(path, &content));
            functions.extend(security::functions(&content));
        }
        if path.starts_with("dataplane/protocol/src/") {
            protocol_lines += rust_source::code_lines(&content);
        }
    }
    findings.extend(rust_source::protocol_is_small(protocol_lines));
    findings.extend(dependencies::check(root)?);
    if let Ok(content) = std::fs::read_to_string(root.join(security::DOCUMENT)) {
        findings.extend(security::rules(&content, &paths, &functions));
    }
    Ok((paths.len(), findings))
}

/// All files, relative to the repository. No repository is needed: a release archive has none.
fn walk(root: &Path, folder: &Path, paths: &mut Vec<String>) -> Result<()> {
    let here = root.join(folder);
    for entry in std::fs::read_dir(&here).with_context(|| format!("reading {}", here.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let path: PathBuf = folder.join(&name);
        let kind = entry.file_type()?;
        // Cargo marks the folders it builds in. In a linked worktree `.git` is a file.
        let built = entry.path().join("CACHEDIR.TAG").exists()
            || name == "node_modules"
            || name == "__pycache__";
        if kind.is_file() && name != ".git" {
            paths.push(path.to_string_lossy().into_owned());
        } else if kind.is_dir() && name != ".git" && !built {
            walk(root, &path, paths)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let (files, findings) = check(&crate::root()).unwrap();
        assert!(files > 30, "only {files} files were found");
        let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(list.is_empty(), "{} findings:\n{}", list.len(), list.join("\n"));
    }

    #[test]
    fn walking_finds_this_file_and_skips_what_is_built() {
        let folder = std::env::temp_dir().join(format!("tidy-{}", std::process::id()));
        for sub in ["src", "built/deep", ".git", "a/node_modules"] {
            std::fs::create_dir_all(folder.join(sub)).unwrap();
            std::fs::write(folder.join(sub).join("x.rs"), "").unwrap();
        }
        std::fs::write(folder.join("built/CACHEDIR.TAG"), "").unwrap();
        let mut paths = Vec::new();
        let walked = walk(&folder, Path::new(""), &mut paths);
        std::fs::remove_dir_all(&folder).unwrap();
        walked.unwrap();
        assert_eq!(paths, ["src/x.rs"]);
    }
}
