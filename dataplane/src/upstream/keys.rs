//! Keys of providers. In no log: not `Debug`, and headers that carry one are marked sensitive.

use std::collections::BTreeMap;

/// What the variable of a key begins with.
const PREFIX: &str = "CHAT_UPSTREAM_KEY_";

/// Keys by the names of their providers; one without a key is asked without (servers of one's own).
#[derive(Clone, Default)]
pub struct ProviderKeys(BTreeMap<String, String>);

impl ProviderKeys {
    /// Puts one.
    pub fn insert(&mut self, provider: &str, key: String) {
        self.0.insert(provider.to_owned(), key);
    }

    /// The key of a provider.
    pub fn of(&self, provider: &str) -> Option<&str> {
        self.0.get(provider).map(String::as_str)
    }

    /// The variables that carry them, for a process that is given these keys.
    pub fn variables(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().map(|(provider, key)| (variable(provider), key.as_str()))
    }
}

/// The variable that holds a provider's key: its name in capitals, `-` as `_`.
pub fn variable(provider: &str) -> String {
    let name = provider.replace('-', "_").to_ascii_uppercase();
    format!("{PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_named_after_its_provider() {
        assert_eq!(variable("open-ai_2"), "CHAT_UPSTREAM_KEY_OPEN_AI_2");
        let mut keys = ProviderKeys::default();
        keys.insert("a", "k".to_owned());
        assert_eq!((keys.of("a"), keys.of("b")), (Some("k"), None));
        assert_eq!(keys.variables().collect::<Vec<_>>(), [("CHAT_UPSTREAM_KEY_A".to_owned(), "k")]);
    }
}
