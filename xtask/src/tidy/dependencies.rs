//! Which package may depend on which, read from `cargo metadata`.

use super::Finding;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// One row a workspace package: what it and its tests may depend on.
struct Arrows {
    package: &'static str,
    normal: &'static [&'static str],
    /// Beside the normal ones and itself.
    tests: &'static [&'static str],
}

const ARROWS: [Arrows; 7] = [
    Arrows { package: "protocol", normal: &[], tests: &[] },
    Arrows { package: "streamlog", normal: &["protocol"], tests: &[] },
    Arrows { package: "client", normal: &["protocol"], tests: &[] },
    Arrows { package: "dataplane", normal: &["protocol", "streamlog"], tests: &["client"] },
    Arrows { package: "crds", normal: &[], tests: &[] },
    Arrows { package: "operator", normal: &["crds", "protocol"], tests: &[] },
    Arrows { package: "xtask", normal: &[], tests: &[] },
];

/// Everything the protocol may use from outside: it stays free of I/O and cheap to depend on.
const PROTOCOL_USES: [&str; 8] =
    ["crc32fast", "jiff", "serde", "serde_json", "smol_str", "thiserror", "utoipa", "uuid"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `null`, `dev` or `build`.
    kind: Option<String>,
    /// Of packages of this workspace.
    path: Option<String>,
}

/// Asks cargo, and applies the rules.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("starting cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    Ok(rules(&metadata))
}

fn rules(metadata: &Metadata) -> Vec<Finding> {
    metadata.packages.iter().flat_map(package).collect()
}

fn package(package: &Package) -> Vec<Finding> {
    let Some(arrows) = ARROWS.iter().find(|arrows| arrows.package == package.name) else {
        return vec![Finding::of(&package.name, "has no row in tidy's table of arrows")];
    };
    let wrong = package.dependencies.iter().filter(|dependency| !allowed(arrows, dependency));
    wrong
        .map(|dependency| {
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            let what = format!("must not depend on {} ({kind})", dependency.name);
            Finding::of(&package.name, what)
        })
        .collect()
}

fn allowed(arrows: &Arrows, dependency: &Dependency) -> bool {
    let name = dependency.name.as_str();
    let test = dependency.kind.as_deref() == Some("dev");
    if dependency.path.is_some() {
        return arrows.normal.contains(&name)
            || (test && (name == arrows.package || arrows.tests.contains(&name)));
    }
    arrows.package != "protocol" || test || PROTOCOL_USES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, dependency: &str, kind: Option<&str>, ours: bool) -> Vec<String> {
        let dependency = Dependency {
            name: dependency.to_owned(),
            kind: kind.map(str::to_owned),
            path: ours.then(String::new),
        };
        let package = Package { name: name.to_owned(), dependencies: vec![dependency] };
        rules(&Metadata { packages: vec![package] }).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_wrong_arrow_is_found() {
        for (from, to) in [
            ("protocol", "streamlog"),
            ("streamlog", "dataplane"),
            ("client", "streamlog"),
            ("dataplane", "client"),
            ("xtask", "protocol"),
        ] {
            let what = format!("{from}: must not depend on {to} (normal)");
            assert_eq!(found(from, to, None, true), [what]);
        }
        assert_eq!(found("client", "dataplane", Some("dev"), true).len(), 1);
        assert_eq!(found("dataplane", "protocol", Some("build"), true), Vec::<String>::new());
    }

    #[test]
    fn the_drawn_arrows_are_allowed() {
        for (from, to, kind) in [
            ("streamlog", "protocol", None),
            ("dataplane", "streamlog", None),
            ("dataplane", "client", Some("dev")),
            ("streamlog", "streamlog", Some("dev")),
        ] {
            assert_eq!(found(from, to, kind, true), Vec::<String>::new());
        }
    }

    #[test]
    fn the_protocol_uses_what_is_on_its_list() {
        assert_eq!(found("protocol", "serde", None, false), Vec::<String>::new());
        assert_eq!(found("protocol", "proptest", Some("dev"), false), Vec::<String>::new());
        assert_eq!(found("protocol", "tokio", None, false).len(), 1);
        assert_eq!(found("dataplane", "tokio", None, false), Vec::<String>::new());
    }

    #[test]
    fn a_package_nobody_drew_is_found() {
        assert_eq!(found("extra", "serde", None, false).len(), 1);
    }
}
