//! Whether providers can be asked as the settings want it. Pure.

use super::problems::{DAY_MS, MANY, Problem};
use crate::upstream::keys;
use protocol::settings::{ContinueBy, Provider, ProviderKind, Upstream};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use url::Url;

/// Longest name of a provider: it is the end of a variable's name and a label.
const MAX_NAME: usize = 32;
/// Most providers of a list.
const MAX_PROVIDERS: usize = 16;

/// Everything that is wrong with them.
pub(super) fn provider_problems(upstream: &Upstream) -> Vec<Problem> {
    let Upstream::Providers(providers) = upstream else { return Vec::new() };
    let mut found = Vec::new();
    if !(1..=MAX_PROVIDERS).contains(&providers.len()) {
        let what = format!("{} of them, but 1 to {MAX_PROVIDERS} are allowed", providers.len());
        found.push(problem("upstream.providers", what));
    }
    let mut variables = BTreeSet::new();
    for (at, provider) in providers.iter().enumerate() {
        let key = |field: &str| format!("upstream.providers[{at}].{field}");
        found.extend(name(&provider.name).map(|what| problem(key("name"), what)));
        if !variables.insert(keys::variable(&provider.name)) {
            let what = format!("{:?} has the same key as another one; rename it", provider.name);
            found.push(problem(key("name"), what));
        }
        found.extend(url(provider).map(|what| problem(key("url"), what)));
        found.extend(dialect(provider).map(|(field, what)| problem(key(field), what)));
        let numbers: [(&str, u64, RangeInclusive<u64>); 4] = [
            ("connectMs", provider.connect_ms, 1..=DAY_MS),
            ("callsPerMinute", provider.calls_per_minute.into(), 1..=MANY),
            ("callBurst", provider.call_burst.into(), 1..=MANY),
            ("maxTokens", provider.max_tokens.unwrap_or(1), 1..=MANY),
        ];
        for (field, value, allowed) in numbers {
            if !allowed.contains(&value) {
                let (least, most) = (allowed.start(), allowed.end());
                let what = format!("{value}, but {least} to {most} is allowed");
                found.push(problem(key(field), what));
            }
        }
    }
    found
}

fn problem(key: impl Into<String>, what: String) -> Problem {
    Problem { key: key.into(), what }
}

fn name(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let good = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(plain);
    if !good {
        let what = format!("1 to {MAX_NAME} letters, digits, `-`, `_`, for example main");
        return Some(if name.is_empty() {
            format!("is missing: {what}")
        } else {
            format!("{name:?} is no name: {what}")
        });
    }
    keys::variable(name)
        .ends_with("_FILE")
        .then(|| format!("{name:?} ends as variables do that name files; rename it"))
}

/// What a base URL may be here.
///
/// # Errors
/// What is wrong with it, without repeating it: it may hold a password.
pub(crate) fn base_url(text: &str) -> Result<Url, String> {
    let example = "for example http://127.0.0.1:8080/v1";
    if text.is_empty() {
        return Err(format!("is missing; {example}"));
    }
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); {example}"))?;
    let scheme = url.scheme();
    if !matches!(scheme, "http" | "https") {
        return Err(format!("begins with {scheme}:, but http: or https: is needed; {example}"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("names no host; {example}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or a password; a key is a secret and not in a URL".to_owned());
    }
    if url.path().trim_end_matches('/').ends_with("/chat/completions") {
        return Err(format!("leave /chat/completions out, it is added; {example}"));
    }
    Ok(url)
}

fn url(provider: &Provider) -> Option<String> {
    let url = match base_url(&provider.url) {
        Ok(url) => url,
        Err(what) => return Some(what),
    };
    let path = url.path().trim_end_matches('/');
    let anthropic = provider.kind == ProviderKind::Anthropic;
    (anthropic && (path.ends_with("/v1") || path.ends_with("/messages")))
        .then(|| "leave /v1/messages out, it is added; https://api.anthropic.com".to_owned())
}

/// What one dialect wants and another does not have.
fn dialect(provider: &Provider) -> Option<(&'static str, String)> {
    if provider.kind != ProviderKind::Anthropic {
        return None;
    }
    if provider.model.is_empty() {
        return Some(("model", "is missing; anthropic has no default".to_owned()));
    }
    let known = matches!(provider.continues, ContinueBy::Never | ContinueBy::Prefill);
    (!known).then(|| ("continues", "anthropic knows never and prefill".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(name: &str) -> Provider {
        let url = "https://api.example.org/v1".to_owned();
        Provider { name: name.to_owned(), url, ..Provider::default() }
    }

    fn anthropic() -> Provider {
        let url = "https://api.anthropic.com".to_owned();
        Provider { kind: ProviderKind::Anthropic, model: "m".into(), url, ..good("claude") }
    }

    fn found(providers: Vec<Provider>) -> Vec<String> {
        let found = provider_problems(&Upstream::Providers(providers));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_ones_can_be_used() {
        assert_eq!(found(vec![good("main"), good("spare"), anthropic()]), Vec::<String>::new());
        assert_eq!(provider_problems(&Upstream::Simulated), []);
    }

    #[test]
    fn each_rule_names_its_provider_and_what_is_allowed() {
        type Change = fn(&mut Provider);
        let cases: [(Change, &str); 15] = [
            (|p| p.name = "".into(), "name: is missing: 1 to 32 letters"),
            (|p| p.name = "a b".into(), "name: \"a b\" is no name"),
            (|p| p.name = "a-file".into(), "name: \"a-file\" ends as variables"),
            (|p| p.name = "Main".into(), "name: \"Main\" has the same key"),
            (|p| p.url = "".into(), "url: is missing; for example http"),
            (|p| p.url = "nonsense".into(), "url: is no URL"),
            (|p| p.url = "ftp://a".into(), "url: begins with ftp:"),
            (|p| p.url = "https://u:hunter2@a".into(), "url: holds a user or a password"),
            (|p| p.url += "/chat/completions", "url: leave /chat/completions out"),
            (
                |p| *p = Provider { url: "https://a/v1".into(), ..anthropic() },
                "url: leave /v1/mess",
            ),
            (|p| *p = Provider { model: "".into(), ..anthropic() }, "model: is missing"),
            (
                |p| *p = Provider { continues: ContinueBy::Prefix, ..anthropic() },
                "continues: anthropic knows never and prefill",
            ),
            (|p| p.connect_ms = 0, "connectMs: 0, but 1 to 86400000"),
            (|p| p.calls_per_minute = 0, "callsPerMinute: 0, but 1 to"),
            (|p| p.max_tokens = Some(0), "maxTokens: 0, but 1 to"),
        ];
        for (change, expected) in cases {
            let mut second = good("second");
            change(&mut second);
            let found = found(vec![good("main"), second]);
            assert_eq!(found.len(), 1, "{expected}: {found:?}");
            let expected = format!("upstream.providers[1].{expected}");
            assert!(found[0].starts_with(&expected), "{expected}: {found:?}");
            assert!(!found[0].contains("hunter2"));
        }
        assert!(found(Vec::new())[0].starts_with("upstream.providers: 0 of them, but 1 to 16"));
    }
}
