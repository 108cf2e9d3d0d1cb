//! Secrets: by environment, or in a file that the environment names. Never in the YAML file, never
//! in a log, never on a command line.

use super::problems::Problem;
use crate::upstream::keys::{self, ProviderKeys};
use protocol::settings::Upstream;
use protocol::{Settings, settings};
use std::ffi::OsString;
use std::path::PathBuf;

/// Added to a variable's name it names a file.
const FILE: &str = "_FILE";
/// An HS256 key has at least as many bytes as its hash (RFC 7518 section 3.2).
pub const MIN_KEY_BYTES: usize = 32;
/// An admin key is compared, not attacked offline.
const MIN_ADMIN_BYTES: usize = 16;
/// Largest file that is read as a secret.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// The process's environment, or a test's.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// One secret: how it is called and what it must be.
struct Kind<'a> {
    name: &'a str,
    purpose: &'a str,
    least: usize,
}

const JWT: Kind<'_> = Kind {
    name: "CHAT_JWT_SECRET",
    purpose: "checks users' tokens (HS256; for an issuer with public keys set auth.jwks.url instead)",
    least: MIN_KEY_BYTES,
};
const RESUME: Kind<'_> = Kind {
    name: "CHAT_RESUME_SECRET",
    purpose: "signs resume tokens, the same on all nodes",
    least: MIN_KEY_BYTES,
};
const ADMIN: Kind<'_> = Kind {
    name: "CHAT_ADMIN_KEY",
    purpose: "is the bearer of /admin/* (or set node.openAdmin: true, for development)",
    least: MIN_ADMIN_BYTES,
};
const JWT_PREVIOUS: Kind<'_> = Kind {
    name: "CHAT_JWT_SECRET_PREVIOUS",
    purpose: "still checks users' tokens after a rotation",
    least: MIN_KEY_BYTES,
};
const RESUME_PREVIOUS: Kind<'_> = Kind {
    name: "CHAT_RESUME_SECRET_PREVIOUS",
    purpose: "still checks resume tokens after a rotation",
    least: MIN_KEY_BYTES,
};
const ADMIN_PREVIOUS: Kind<'_> = Kind {
    name: "CHAT_ADMIN_KEY_PREVIOUS",
    purpose: "is still a bearer of /admin/* after a rotation",
    least: MIN_ADMIN_BYTES,
};
const REDIS: Kind<'_> =
    Kind { name: "CHAT_REDIS_PASSWORD", purpose: "is Redis' password", least: 1 };

/// All secrets of a node. Not `Debug`, so that no log can show one.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Users' tokens: the first is the current one.
    pub jwt: Vec<Vec<u8>>,
    /// Resume tokens: the first signs.
    pub resume: Vec<Vec<u8>>,
    /// Bearer of `/admin/*`.
    pub admin: Option<String>,
    /// Another one that is good.
    pub admin_previous: Option<String>,
    /// Redis' password.
    pub redis: Option<String>,
    /// Keys of the providers that want one.
    pub providers: ProviderKeys,
    /// Which were set and how long they are, for people.
    pub summary: Vec<String>,
}

/// Reads all of them. Tokens need a secret where there is no key set, `/admin/*` where it is not open;
/// each provider may have a key.
///
/// # Errors
/// All problems at once; none repeats a secret.
pub fn read(environment: Environment<'_>, settings: &Settings) -> Result<Secrets, Vec<Problem>> {
    let mut reader = Reader { environment, found: Secrets::default(), problems: Vec::new() };
    let jwt = reader.needed_unless(settings.auth.jwks.is_some(), &JWT);
    let jwt = [jwt, reader.previous(&JWT_PREVIOUS)];
    let resume = [reader.needed(&RESUME), reader.previous(&RESUME_PREVIOUS)];
    let admin = reader.needed_unless(settings.node.open_admin, &ADMIN);
    let admin = admin.and_then(|bytes| reader.text(&ADMIN, bytes));
    let admin_previous = reader.previous(&ADMIN_PREVIOUS);
    let admin_previous = admin_previous.and_then(|bytes| reader.text(&ADMIN_PREVIOUS, bytes));
    let redis = reader.optional(&REDIS).and_then(|bytes| reader.text(&REDIS, bytes));
    let mut provider_keys = ProviderKeys::default();
    let providers = match &settings.upstream {
        Upstream::Simulated => &[][..],
        Upstream::Providers(list) => list,
    };
    for settings::Provider { name, .. } in providers {
        if let Some(key) = reader.provider_key(&keys::variable(name)) {
            provider_keys.insert(name, key);
        }
    }
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    let list = |keys: [Option<Vec<u8>>; 2]| keys.into_iter().flatten().collect();
    let (jwt, resume) = (list(jwt), list(resume));
    let found = Secrets { jwt, resume, admin, admin_previous, redis, ..reader.found };
    Ok(Secrets { providers: provider_keys, ..found })
}

/// One key of a provider, for who has no list of them: of `variable`, or of the file it names.
///
/// # Errors
/// What is wrong with it; it is not repeated.
pub fn provider_key(
    environment: Environment<'_>,
    variable: &str,
) -> Result<Option<String>, Vec<Problem>> {
    let mut reader = Reader { environment, found: Secrets::default(), problems: Vec::new() };
    let key = reader.provider_key(variable);
    if reader.problems.is_empty() { Ok(key) } else { Err(reader.problems) }
}

struct Reader<'a> {
    environment: Environment<'a>,
    found: Secrets,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn provider_key(&mut self, name: &str) -> Option<String> {
        let kind = Kind { name, purpose: "is a provider's key", least: 1 };
        self.optional(&kind).and_then(|bytes| self.text(&kind, bytes))
    }

    fn needed_unless(&mut self, optional: bool, kind: &Kind<'_>) -> Option<Vec<u8>> {
        if optional { self.optional(kind) } else { self.needed(kind) }
    }

    fn needed(&mut self, kind: &Kind<'_>) -> Option<Vec<u8>> {
        let before = self.problems.len();
        let found = self.optional(kind);
        if found.is_none() && self.problems.len() == before {
            let Kind { name, purpose, least } = kind;
            self.refuse(
                name,
                format!(
                    "is missing. It {purpose}, at least {least} bytes: set {name}, or {name}{FILE} \
                     to the path of a file that holds it"
                ),
            );
        }
        found
    }

    /// A second key that is good. Whoever deploys nodes names its file always: one that is empty or not
    /// there is none.
    fn previous(&mut self, kind: &Kind<'_>) -> Option<Vec<u8>> {
        let file = (self.environment)(&format!("{}{FILE}", kind.name));
        let named = file.filter(|path| !path.is_empty()).map(PathBuf::from);
        if named
            .is_some_and(|path| read_file(&path).is_ok_and(|key| key.is_empty()) || !path.exists())
        {
            return None;
        }
        self.optional(kind)
    }

    /// An empty variable counts as unset.
    fn optional(&mut self, kind: &Kind<'_>) -> Option<Vec<u8>> {
        let (name, file) = (kind.name, format!("{}{FILE}", kind.name));
        let set = |name: &str| (self.environment)(name).filter(|value| !value.is_empty());
        let (bytes, origin) = match (set(name), set(&file)) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                self.refuse(name, format!("is set, and {file} too; unset one of them"));
                return None;
            }
            (Some(value), None) => (value.into_encoded_bytes(), name.to_owned()),
            (None, Some(path)) => {
                let path = PathBuf::from(path);
                match read_file(&path) {
                    Ok(bytes) => (bytes, format!("{file}={}", path.display())),
                    Err(why) => {
                        self.refuse(&file, format!("cannot read {}: {why}", path.display()));
                        return None;
                    }
                }
            }
        };
        if bytes.len() < kind.least {
            let (has, least) = (bytes.len(), kind.least);
            let what = format!(
                "has {has} bytes, but it {} and needs at least {least}; {name} or {file} may hold it",
                kind.purpose
            );
            self.refuse(&origin, what);
            return None;
        }
        self.found.summary.push(format!("{name}: {} bytes, of {origin}", bytes.len()));
        Some(bytes)
    }

    fn text(&mut self, kind: &Kind<'_>, bytes: Vec<u8>) -> Option<String> {
        let text = String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control));
        if text.is_none() {
            self.refuse(kind.name, "must be one line of text".to_owned());
        }
        text
    }

    fn refuse(&mut self, key: &str, what: String) {
        self.problems.push(Problem { key: key.to_owned(), what });
    }
}

/// The file without the line end that editors and `echo` add.
fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let mut bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("{} bytes are no secret", bytes.len()));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef0123456789abcdef";

    fn with(pairs: &[(&str, &str)]) -> Result<Secrets, Vec<String>> {
        let lookup = |name: &str| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| OsString::from(value))
        };
        read(&lookup, &open())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn open() -> Settings {
        let mut settings = Settings::default();
        settings.node.open_admin = true;
        let named = |name: &str| settings::Provider { name: name.into(), ..Default::default() };
        settings.upstream = Upstream::Providers(["main", "spare-2"].map(named).to_vec());
        settings
    }

    #[test]
    fn a_provider_may_have_a_key_by_value_or_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "hunter2\n").unwrap();
        let file = path.to_str().unwrap();
        let others = [("CHAT_JWT_SECRET", LONG), ("CHAT_RESUME_SECRET", LONG)];
        let keys = [("CHAT_UPSTREAM_KEY_SPARE_2_FILE", file), ("CHAT_UPSTREAM_KEY_OTHER", "x")];
        let secrets = with(&[&others[..], &keys].concat()).ok().unwrap();
        assert_eq!(secrets.providers.of("spare-2"), Some("hunter2"));
        assert_eq!((secrets.providers.of("main"), secrets.providers.of("other")), (None, None));
        let told = secrets.summary.join("\n");
        assert!(told.contains("CHAT_UPSTREAM_KEY_SPARE_2: 7 bytes") && !told.contains("hunter2"));
        let two = [("CHAT_UPSTREAM_KEY_MAIN", "two\nlines")];
        let problems = with(&[&others[..], &two].concat()).err().unwrap();
        assert!(problems.len() == 1 && problems[0].contains("one line"), "{problems:?}");
    }

    #[test]
    fn what_is_missing_is_named_with_both_ways_and_all_at_once() {
        let problems = with(&[("CHAT_JWT_SECRET", "")]).err().unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
        for (problem, name) in problems.iter().zip(["CHAT_JWT_SECRET", "CHAT_RESUME_SECRET"]) {
            assert!(problem.starts_with(&format!("{name}: is missing")), "{problem}");
            assert!(problem.contains(&format!("{name}_FILE")), "{problem}");
        }
        assert!(problems[0].contains("auth.jwks.url"), "the other way: {}", problems[0]);
        let nothing = read(&|_| None, &Settings::default()).err().unwrap();
        assert!(nothing.iter().any(|problem| problem.key == "CHAT_ADMIN_KEY"), "{nothing:?}");
    }

    #[test]
    fn a_key_set_takes_the_place_of_the_secret_or_stands_beside_it() {
        let mut settings = open();
        settings.auth.jwks = Some(protocol::settings::Jwks::default());
        let with = |pairs: &[(&str, &str)]| {
            let lookup = |name: &str| {
                let pair = pairs.iter().find(|(key, _)| *key == name);
                pair.map(|(_, value)| OsString::from(value))
            };
            read(&lookup, &settings).ok().unwrap().jwt
        };
        assert!(with(&[("CHAT_RESUME_SECRET", LONG)]).is_empty());
        let both = with(&[("CHAT_RESUME_SECRET", LONG), ("CHAT_JWT_SECRET", LONG)]);
        assert_eq!(both, [LONG.as_bytes()]);
    }

    #[test]
    fn a_short_one_is_refused_and_not_repeated() {
        let pairs = [("CHAT_JWT_SECRET", "hunter2"), ("CHAT_RESUME_SECRET", LONG)];
        let problems = with(&pairs).err().unwrap();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("has 7 bytes") && !problems[0].contains("hunter2"));
        assert!(problems[0].contains("CHAT_JWT_SECRET_FILE"), "{problems:?}");
    }

    #[test]
    fn a_file_is_read_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        for (content, expected) in [
            (format!("{LONG}\n"), LONG.to_owned()),
            (format!("{LONG}\r\n"), LONG.to_owned()),
            (format!("{LONG}\n\n"), format!("{LONG}\n")),
            (LONG.to_owned(), LONG.to_owned()),
        ] {
            let path = folder.path().join("jwt");
            std::fs::write(&path, content).unwrap();
            let path = path.to_str().unwrap();
            let secrets =
                with(&[("CHAT_JWT_SECRET_FILE", path), ("CHAT_RESUME_SECRET", LONG)]).ok().unwrap();
            assert_eq!(secrets.jwt, [expected.into_bytes()]);
            assert!(secrets.summary.iter().all(|line| !line.contains(LONG)));
        }
    }

    #[test]
    fn a_file_that_is_not_there_and_two_ways_at_once_are_refused() {
        let missing = [("CHAT_JWT_SECRET_FILE", "/nonexistent"), ("CHAT_RESUME_SECRET", LONG)];
        let problems = with(&missing).err().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("CHAT_JWT_SECRET_FILE: cannot read /nonexistent"));
        let both = [
            ("CHAT_JWT_SECRET", LONG),
            ("CHAT_JWT_SECRET_FILE", "/nonexistent"),
            ("CHAT_RESUME_SECRET", LONG),
        ];
        let problems = with(&both).err().unwrap();
        assert!(problems.len() == 1 && problems[0].contains("unset one"), "{problems:?}");
    }

    #[test]
    fn the_current_key_comes_first_and_the_previous_one_still_counts() {
        let previous = "another key of at least thirty-two bytes";
        let secrets = with(&[
            ("CHAT_JWT_SECRET", LONG),
            ("CHAT_JWT_SECRET_PREVIOUS", previous),
            ("CHAT_RESUME_SECRET", LONG),
            ("CHAT_REDIS_PASSWORD", "p@ss"),
        ]);
        let secrets = secrets.ok().unwrap();
        assert_eq!(secrets.jwt, [LONG.as_bytes().to_vec(), previous.as_bytes().to_vec()]);
        assert_eq!((secrets.admin, secrets.redis.as_deref()), (None, Some("p@ss")));
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_refused() {
        let pairs = [
            ("CHAT_JWT_SECRET", LONG),
            ("CHAT_RESUME_SECRET", LONG),
            ("CHAT_ADMIN_KEY", "two lines\nare no good bearer"),
        ];
        let problems = with(&pairs).err().unwrap();
        assert!(problems.len() == 1 && problems[0].contains("one line"), "{problems:?}");
    }
}
