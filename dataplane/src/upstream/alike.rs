//! Events that differ from the one before in their text alone: most of a stream. They are known again
//! by comparing what stands around the text, which spares reading it all once more. Pure.

/// What stood around the text of an event that said nothing else.
#[derive(Clone, Debug, Default)]
pub(super) struct Alike {
    /// Up to the quotation mark before the text; empty where nothing is remembered.
    before: String,
    /// From the quotation mark behind the text.
    behind: String,
}

impl Alike {
    /// Keeps what stands around `text`, which is a part of `data`.
    pub(super) fn keep(&mut self, data: &str, text: &str) {
        let begin = (text.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
        let around = begin.checked_add(text.len()).and_then(|end| data.get(end..));
        let around = data.get(..begin).zip(around);
        let quoted =
            |(before, behind): &(&str, &str)| before.ends_with('"') && behind.starts_with('"');
        let (before, behind) = around.filter(quoted).unwrap_or_default();
        before.clone_into(&mut self.before);
        behind.clone_into(&mut self.behind);
    }

    /// The text of an event that differs in nothing else, if this is one: a JSON string without
    /// escapes between what was kept.
    pub(super) fn text<'d>(&self, data: &'d str) -> Option<&'d str> {
        if self.before.is_empty() {
            return None;
        }
        let text = data.strip_prefix(self.before.as_str())?.strip_suffix(self.behind.as_str())?;
        text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\').then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(text: &str) -> (Alike, String) {
        let data = format!(r#"{{"id":"1","delta":{{"content":"{text}"}}}}"#);
        let begin = data.len() - 3 - text.len();
        let mut alike = Alike::default();
        alike.keep(&data, &data[begin..begin + text.len()]);
        (alike, data)
    }

    #[test]
    fn only_the_text_may_differ() {
        let (alike, data) = kept("one");
        assert_eq!(alike.text(&data), Some("one"));
        assert_eq!(alike.text(&data.replace("one", "zwölf")), Some("zwölf"));
        assert_eq!(alike.text(&data.replace("one", "")), Some(""));
        for other in [
            data.replace("\"1\"", "\"2\""),
            data.replace("one", "o\\ne"),
            data.replace("one", "o\",\"x\":\"ne"),
            data.replace("one", "o\nne"),
            data.replace("}}", "}, \"usage\":{}}"),
            data[..data.len() - 3].to_owned(),
        ] {
            assert_eq!(alike.text(&other), None, "{other}");
        }
        assert_eq!(Alike::default().text(&data), None);
    }

    #[test]
    fn a_text_of_somewhere_else_is_not_kept() {
        let (mut alike, data) = kept("one");
        alike.keep(&data, "elsewhere");
        assert_eq!(alike.text(&data), None);
        alike.keep(&data, &data[..3]);
        assert_eq!(alike.text(&data), None);
    }

    proptest! {
        #[test]
        fn what_is_known_again_says_what_reading_it_says(first in "[ -!#-\\[\\]-~]{0,6}", second in any::<String>()) {
            let (alike, _) = kept(&first);
            let content = serde_json::to_string(&second).unwrap();
            let data = format!(r#"{{"id":"1","delta":{{"content":{content}}}}}"#);
            let value: serde_json::Value = serde_json::from_str(&data).unwrap();
            let read = value["delta"]["content"].as_str().unwrap();
            if let Some(text) = alike.text(&data) {
                prop_assert_eq!(text, read);
            } else {
                prop_assert!(content.contains('\\'), "known again where nothing is escaped");
            }
        }
    }
}
