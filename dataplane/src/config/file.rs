//! The one strict YAML file: read it, say where it is wrong, write it.

use protocol::Settings;
use protocol::hot::Hot;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// Largest file that is read: a file of settings has a few hundred lines.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads the file; what it leaves out has its default.
///
/// # Errors
/// A text for people: file, line, key, what is allowed.
pub fn read(path: &Path) -> Result<Settings, String> {
    let (name, text) = text_of(path)?;
    parse(&name, &text)
}

/// As [`read`], of the settings that a running node takes up; one that is not there changes nothing.
///
/// # Errors
/// As [`read`].
pub fn read_hot(path: &Path) -> Result<Hot, String> {
    if !path.exists() {
        return Ok(Hot::default());
    }
    let (name, text) = text_of(path)?;
    parse_as(&name, &text)
}

fn text_of(path: &Path) -> Result<(String, String), String> {
    let name = path.display().to_string();
    let cannot = |why: String| format!("cannot read {name}: {why}");
    let size = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(cannot(format!("{size} bytes are more than a file of settings has")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
    Ok((name, text))
}

/// As [`read`], of a text; `name` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn parse(name: &str, text: &str) -> Result<Settings, String> {
    parse_as(name, text)
}

fn parse_as<T>(name: &str, text: &str) -> Result<T, String>
where
    T: DeserializeOwned + Default,
{
    let mut key = String::new();
    let read = serde_saphyr::with_deserializer_from_str(text, |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            key = error.path().to_string();
            error.into_inner()
        })
    });
    read.or_else(|error| {
        // An empty file, or one of comments only, leaves everything at its default.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(T::default());
        }
        Err(explain(name, &key, &error))
    })
}

/// The settings as the file that [`read`] would read.
///
/// # Errors
/// None that the settings' own types can cause.
pub fn write(settings: &Settings) -> Result<String, String> {
    serde_saphyr::to_string(settings).map_err(|error| error.to_string())
}

fn explain(name: &str, key: &str, error: &serde_saphyr::Error) -> String {
    let options = serde_saphyr::render_options! { source_name: Some(name) };
    let rendered = error.render_with_options(options);
    let rendered = rendered.trim_end();
    let named = !key.is_empty() && key != ".";
    match named.then(|| default_of(key)).flatten() {
        Some(default) => format!("{rendered}\n  {key} could be, for example: {default}"),
        None if named => format!("{rendered}\n  at the key {key}"),
        None => rendered.to_owned(),
    }
}

/// What a key is if the file does not name it, as an example of what it may be.
fn default_of(key: &str) -> Option<String> {
    let defaults = serde_json::to_value(Settings::default()).ok()?;
    let pointer = format!("/{}", key.replace('.', "/"));
    match defaults.pointer(&pointer)? {
        Value::Null | Value::Object(_) | Value::Array(_) => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::settings::{Redis, Store, TakeoverPolicy};

    #[test]
    fn what_is_left_out_has_its_default() {
        for text in ["", "# nothing yet\n", "{}\n"] {
            assert_eq!(parse("x.yaml", text).unwrap(), Settings::default(), "{text:?}");
        }
        let settings = parse(
            "x.yaml",
            "node:\n  name: node-1\n  dataAddress: 127.0.0.1:8080\n\
             store:\n  redis:\n    url: redis://redis:6379\n\
             upstream: simulated\nownership:\n  takeover: restart\n",
        )
        .unwrap();
        assert_eq!(settings.node.name.as_deref(), Some("node-1"));
        assert_eq!(settings.node.data_address.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.ownership.takeover, TakeoverPolicy::Restart);
        let url = "redis://redis:6379".to_owned();
        assert_eq!(settings.store, Store::Redis(Redis { url, ..Redis::default() }));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut settings = Settings::default();
        for store in [
            Store::Memory,
            Store::Redis(Redis { url: "redis://a:1".into(), prefix: "b:c".into(), ca_file: None }),
        ] {
            settings.store = store;
            settings.auth.allowed_origins = vec!["https://x.example".into()];
            let text = write(&settings).unwrap();
            assert_eq!(parse("x.yaml", &text), Ok(settings.clone()), "{text}");
        }
    }

    #[test]
    fn an_error_names_file_line_key_and_what_is_allowed() {
        let cases: [(&str, &[&str]); 8] = [
            ("node:\n  nam: x\n", &["x.yaml:2:3", "nam", "name, dataAddress"]),
            ("stores: memory\n", &["x.yaml:1:1", "stores", "store"]),
            ("stream:\n  coalesceMs: fast\n", &["x.yaml:2:", "stream.coalesceMs", "40"]),
            ("stream:\n  coalesceMs: -1\n", &["x.yaml:2:", "stream.coalesceMs", "40"]),
            ("node:\n  dataAddress: 8080\n", &["x.yaml:2:", "node.dataAddress", "0.0.0.0:8080"]),
            ("store: mongo\n", &["x.yaml:1:", "mongo", "memory", "redis"]),
            ("ownership:\n  takeover: maybe\n", &["x.yaml:2:", "maybe", "continue", "restart"]),
            ("node: [1\n", &["x.yaml:"]),
        ];
        for (text, expected) in cases {
            let error = parse("x.yaml", text).unwrap_err();
            for word in expected {
                assert!(error.contains(word), "{text:?}: no {word:?} in\n{error}");
            }
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let error = parse("x.yaml", "page:\n  enabled: false\npage:\n  enabled: true\n");
        assert!(error.unwrap_err().contains("page"));
    }

    #[test]
    fn a_file_that_is_not_there_is_said_plainly() {
        let error = read(Path::new("/nonexistent/chat.yaml")).unwrap_err();
        assert!(error.starts_with("cannot read /nonexistent/chat.yaml: No such file"), "{error}");
    }
}
