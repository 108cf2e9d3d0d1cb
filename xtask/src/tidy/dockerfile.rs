//! Rules for Dockerfiles: what an image is made of is pinned, who runs in it is nobody in
//! particular, and it says what it is. They read instructions, not a build.

use super::Finding;

/// What every image says about itself (OCI image specification, annotations).
const LABELS: [&str; 6] = ["title", "description", "version", "revision", "source", "licenses"];
/// Given by whoever builds.
const ARGUMENTS: [&str; 3] = ["VERSION", "REVISION", "SOURCE"];

/// All rules of one file.
pub(super) fn rules(path: &str, content: &str) -> Vec<Finding> {
    if !path.ends_with("Dockerfile") {
        return Vec::new();
    }
    let instructions = instructions(content);
    let mut wrong = Vec::new();
    wrong.extend(images_are_pinned(&instructions));
    wrong.extend(the_user_is_a_number(&instructions));
    wrong.extend(labels_are_there(&instructions));
    let starts =
        instructions.iter().any(|(name, rest)| *name == "ENTRYPOINT" && rest.starts_with('['));
    if !starts {
        wrong.push("ENTRYPOINT must be a list: a shell would swallow SIGTERM".to_owned());
    }
    wrong.into_iter().map(|what| Finding::of(path, what)).collect()
}

/// Each instruction with the rest of it on one line; comments are left out.
fn instructions(content: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut goes_on = false;
    for line in content.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (text, more) = line.strip_suffix('\\').map_or((line, false), |text| (text, true));
        match found.last_mut() {
            Some((_, rest)) if goes_on => rest.push_str(text),
            _ => {
                let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
                found.push((name, rest.trim().to_owned()));
            }
        }
        goes_on = more;
    }
    found
}

/// The default of an argument before the first FROM.
fn default<'a>(instructions: &'a [(&str, String)], name: &str) -> Option<&'a str> {
    let arguments = instructions.iter().filter(|(instruction, _)| *instruction == "ARG");
    arguments
        .filter_map(|(_, rest)| rest.split_once('='))
        .find(|(arg, _)| *arg == name)
        .map(|it| it.1)
}

fn images_are_pinned(instructions: &[(&str, String)]) -> Vec<String> {
    let stages = instructions.iter().filter(|(name, _)| *name == "FROM");
    let images = stages.filter_map(|(_, rest)| rest.split_whitespace().next());
    images
        .filter_map(|image| {
            let argument = image.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            let named = match argument {
                Some(argument) => default(instructions, argument).unwrap_or_default(),
                None => image,
            };
            let tag = named.rsplit('/').next().and_then(|last| last.split_once(':'));
            let pinned = named.contains("@sha256:") || tag.is_some_and(|(_, tag)| tag != "latest");
            (!pinned).then(|| format!("FROM {image}: name a version or a digest"))
        })
        .collect()
}

fn the_user_is_a_number(instructions: &[(&str, String)]) -> Option<String> {
    let last = instructions.iter().rev().find(|(name, _)| *name == "USER");
    let ids: Vec<&str> = last.map_or(Vec::new(), |(_, rest)| rest.split(':').collect());
    let numbers = ids.iter().all(|id| id.parse::<u32>().is_ok_and(|id| id > 0));
    (ids.is_empty() || !numbers)
        .then(|| "the last USER must be a number, and not 0: USER 65532:65532".to_owned())
}

fn labels_are_there(instructions: &[(&str, String)]) -> Vec<String> {
    let after = instructions.iter().rposition(|(name, _)| *name == "FROM").unwrap_or_default();
    let last = &instructions[after..];
    let has = |instruction: &str, word: &str| {
        last.iter().any(|(name, rest)| *name == instruction && rest.contains(word))
    };
    let labels = LABELS.iter().map(|label| format!("org.opencontainers.image.{label}="));
    let labels =
        labels.filter(|label| !has("LABEL", label)).map(|label| format!("no LABEL {label}…"));
    let arguments = ARGUMENTS.iter().filter(|name| !has("ARG", name) || !has("LABEL", name));
    labels.chain(arguments.map(|name| format!("ARG {name} is not in a LABEL"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
ARG RUST=docker.io/library/rust:1.95-slim
FROM ${RUST} AS build
RUN cargo build \\
    # in between
    --release
FROM gcr.io/distroless/cc-debian12@sha256:0123
ARG VERSION=0
ARG REVISION=0
ARG SOURCE=0
LABEL org.opencontainers.image.title=\"x\" org.opencontainers.image.licenses=\"y\" \\
      org.opencontainers.image.description=\"z\" org.opencontainers.image.version=\"${VERSION}\" \\
      org.opencontainers.image.revision=\"${REVISION}\" org.opencontainers.image.source=\"${SOURCE}\"
USER 65532:65532
ENTRYPOINT [\"/x\"]
";

    fn found(content: &str) -> Vec<String> {
        rules("docker/x.Dockerfile", content).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_good_one_has_nothing_to_say_and_other_files_have_no_rules() {
        assert_eq!(found(GOOD), Vec::<String>::new());
        assert_eq!(rules("docker/verify.sh", "USER root"), []);
    }

    #[test]
    fn each_fault_is_found() {
        for (good, bad) in [
            ("USER 65532:65532", "USER nonroot"),
            ("USER 65532:65532", "USER 0:65532"),
            ("USER 65532:65532", "USER 65532:65532\nUSER root"),
            ("USER 65532:65532\n", ""),
            ("rust:1.95-slim", "rust"),
            ("rust:1.95-slim", "rust:latest"),
            ("docker.io/library/rust:1.95-slim", "localhost:5000/rust"),
            ("cc-debian12@sha256:0123", "cc-debian12"),
            ("org.opencontainers.image.licenses=\"y\"", ""),
            ("\"${REVISION}\"", "\"1\""),
            ("ENTRYPOINT [\"/x\"]", "ENTRYPOINT /x"),
        ] {
            let spoiled = GOOD.replace(good, bad);
            assert_ne!(spoiled, GOOD);
            assert_eq!(found(&spoiled).len(), 1, "{bad:?}: {:?}", found(&spoiled));
        }
    }
}
