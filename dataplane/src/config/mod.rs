//! A process's configuration: one strict YAML file, secrets beside it, and checks of both.
//!
//! [`file`] reads the file, [`problems`] and [`provider_problems`] judge what it says, [`secrets`] reads
//! what must not stand in it.

pub mod file;
pub mod problems;
pub mod provider_problems;
pub mod secrets;

use crate::admit::Keys;
use crate::admit::key_set::KeySet;
use crate::admit::token::validation;
use crate::upstream::ProviderKeys;
use problems::{Problem, problems};
use protocol::{NodeName, Settings, settings};
use secrets::{Environment, Secrets};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where a node's name comes from if the file names none, in this order.
const NAME_VARIABLES: [&str; 2] = ["CHAT_NODE_NAME", "POD_NAME"];

/// Everything a node process needs to know before it starts.
pub struct Config {
    /// The file, with its defaults.
    pub settings: Settings,
    /// The node's name, of the file or of the environment.
    pub name: NodeName,
    /// Keys of tokens and of the admin port.
    pub keys: Keys,
    /// Redis' password.
    pub redis_password: Option<String>,
    /// Keys of providers.
    pub provider_keys: ProviderKeys,
    /// Which secrets there are.
    secrets: Vec<String>,
}

/// Why a process cannot start with what it was given. The text is for people.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read as settings.
    #[error("{0}")]
    File(String),
    /// It can, but not be used; or something beside it is missing.
    #[error("{}", list(.path, .problems))]
    Problems {
        /// The file.
        path: PathBuf,
        /// All of them.
        problems: Vec<Problem>,
    },
}

fn list(path: &Path, problems: &[Problem]) -> String {
    let (count, thing) = (problems.len(), if problems.len() == 1 { "problem" } else { "problems" });
    let mut text = format!("{count} {thing} with {} and the environment:", path.display());
    for problem in problems {
        let _ = write!(text, "\n  {problem}");
    }
    text
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`]: the file's first mistake, or everything that is wrong with what it says.
    pub fn load(path: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let settings = file::read(path).map_err(ConfigError::File)?;
        let mut found = problems(&settings);
        found.extend(key_set_file(&settings.auth));
        let name = match name(&settings, environment) {
            Ok(name) => name,
            Err(problem) => {
                found.extend(problem);
                NodeName::new("")
            }
        };
        let secrets = match secrets::read(environment, &settings) {
            Ok(secrets) => secrets,
            Err(problems) => {
                found.extend(problems);
                Secrets::default()
            }
        };
        if !found.is_empty() {
            return Err(ConfigError::Problems { path: path.to_owned(), problems: found });
        }
        Ok(Self {
            settings,
            name,
            keys: keys(&secrets),
            redis_password: secrets.redis,
            provider_keys: secrets.providers,
            secrets: secrets.summary,
        })
    }

    /// What `--check` prints: the effective settings as a file, and which secrets there are.
    ///
    /// # Errors
    /// None that the settings' own types can cause.
    pub fn effective(&self) -> Result<String, String> {
        let mut settings = self.settings.clone();
        settings.node.name = Some(self.name.to_string());
        let mut text = file::write(&settings)?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str("# Secrets, not shown:\n");
        for secret in &self.secrets {
            let _ = writeln!(text, "#   {secret}");
        }
        Ok(text)
    }
}

/// Of tokens and of the admin port.
pub(crate) fn keys(secrets: &Secrets) -> Keys {
    Keys {
        jwt: secrets.jwt.clone(),
        resume: secrets.resume.clone(),
        admin: secrets.admin.clone(),
        admin_previous: secrets.admin_previous.clone(),
    }
}

/// A key set that is a file must be there and usable; one that is a URL may come up later.
fn key_set_file(auth: &settings::Auth) -> Option<Problem> {
    let jwks = auth.jwks.as_ref()?;
    let path = jwks.file.as_ref().filter(|path| !path.trim().is_empty())?;
    let read = std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"));
    let parsed = read.and_then(|document| {
        if document.len() > jwks.max_bytes {
            return Err(format!("{path} has more than auth.jwks.maxBytes, {}", jwks.max_bytes));
        }
        let set = KeySet::parse(&document, &jwks.algorithms, &validation(auth));
        set.map(drop).map_err(|why| format!("{path} cannot be used: {why}"))
    });
    parsed.err().map(|what| Problem { key: "auth.jwks.file".to_owned(), what })
}

/// `Err(None)`: it is wrong in the file, which is a problem that was found there.
fn name(settings: &Settings, environment: Environment<'_>) -> Result<NodeName, Option<Problem>> {
    if let Some(name) = &settings.node.name {
        return problems::node_name(name).map(|()| NodeName::new(name)).map_err(|_| None);
    }
    for variable in NAME_VARIABLES {
        let Some(value) = environment(variable).filter(|value| !value.is_empty()) else { continue };
        let value = value.to_string_lossy();
        return match problems::node_name(&value) {
            Ok(()) => Ok(NodeName::new(&value)),
            Err(what) => Err(Some(Problem { key: variable.to_owned(), what })),
        };
    }
    let what = format!("is missing; name the node there, or in {}", NAME_VARIABLES.join(" or "));
    Err(Some(Problem { key: "node.name".to_owned(), what }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    const LONG: &str = "0123456789abcdef0123456789abcdef";

    fn load(text: &str, more: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.yaml");
        std::fs::write(&path, text).unwrap();
        let secrets = [("CHAT_JWT_SECRET", LONG), ("CHAT_RESUME_SECRET", LONG)];
        let pairs = [&secrets, more].concat();
        let lookup = |name: &str| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| OsString::from(value))
        };
        Config::load(&path, &lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_names_the_node_and_else_the_environment() {
        let open = "node:\n  openAdmin: true\n";
        let named = format!("{open}  name: of-the-file\n");
        let pod = [("CHAT_NODE_NAME", ""), ("POD_NAME", "pod-0")];
        assert_eq!(load(&named, &pod).ok().unwrap().name.as_str(), "of-the-file");
        assert_eq!(load(open, &pod).ok().unwrap().name.as_str(), "pod-0");
        let both = [("CHAT_NODE_NAME", "mine"), ("POD_NAME", "pod-0")];
        assert_eq!(load(open, &both).ok().unwrap().name.as_str(), "mine");
        assert!(load(open, &[]).err().unwrap().contains("CHAT_NODE_NAME or POD_NAME"));
        let bad = load(open, &[("POD_NAME", "a b")]).err().unwrap();
        assert!(bad.contains("POD_NAME: \"a b\" is no node name"), "{bad}");
        let bad = load(&format!("{open}  name: a b\n"), &[]).err().unwrap();
        assert!(bad.contains("1 problem with") && bad.contains("node.name"), "{bad}");
    }

    #[test]
    fn a_key_set_in_a_file_is_looked_at_before_the_node_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let text = format!(
            "node:\n  openAdmin: true\n  name: n\nauth:\n  audience: chat\n  jwks:\n    file: {}\n",
            path.display()
        );
        let error = load(&text, &[]).err().unwrap();
        assert!(error.contains("auth.jwks.file: cannot read"), "{error}");
        std::fs::write(&path, r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#).unwrap();
        let error = load(&text, &[]).err().unwrap();
        assert!(
            error.contains("none of its 1 keys can check a token; the first is sym"),
            "{error}"
        );
        let key =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        std::fs::write(&path, format!(r#"{{"keys": [{key}]}}"#)).unwrap();
        let printed = load(&text, &[]).ok().unwrap().effective().unwrap();
        assert!(printed.contains("keys.json") && printed.contains("EdDSA"), "{printed}");
    }

    #[test]
    fn problems_of_the_file_and_of_secrets_come_together() {
        let error = load("limits:\n  streams: 0\n", &[("POD_NAME", "p")]).err().unwrap();
        assert!(error.contains("2 problems with") && error.contains("chat.yaml"), "{error}");
        assert!(error.contains("limits.streams") && error.contains("CHAT_ADMIN_KEY"), "{error}");
    }

    #[test]
    fn what_is_printed_is_a_file_without_secrets() {
        let key = [("CHAT_ADMIN_KEY", "an admin key of some length"), ("POD_NAME", "pod-0")];
        let config = load("stream:\n  coalesceMs: 5\n", &key).ok().unwrap();
        let text = config.effective().unwrap();
        assert!(!text.contains(LONG) && !text.contains(key[0].1), "{text}");
        assert!(text.contains("#   CHAT_ADMIN_KEY: 27 bytes"), "{text}");
        let again = file::parse("printed", &text).unwrap();
        assert_eq!((again.stream.coalesce_ms, again.node.name.as_deref()), (5, Some("pod-0")));
    }
}
