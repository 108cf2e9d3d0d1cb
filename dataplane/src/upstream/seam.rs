//! Where the text of another call begins after a prefix: what the provider repeats is left out.
//! Pure.
//!
//! White space at the end of a prefix is not sent: Anthropic refuses it, and templates cut it off.
//! Whatever of it comes again is dropped. Some servers begin with the whole prefix; then that is
//! dropped, and if it was only its beginning, it was meant.

use std::borrow::Cow;

/// Shortest prefix that is known again where a server is not expected to repeat it: shorter ones may
/// be what the answer really goes on with.
const LEAST_ECHO: usize = 16;

/// Leaves out what was there already.
#[derive(Clone, Debug, Default)]
pub struct Seam {
    sent: String,
    /// So much of `sent` came again, in bytes.
    echoed: usize,
    /// Whether it may still come.
    listens: bool,
    /// White space after `sent` that was not sent, as far as it did not come again.
    blanks: String,
}

impl Seam {
    /// After `prefix`. `echoes`: the server is known to repeat it.
    pub fn after(prefix: &str, echoes: bool) -> Self {
        let sent = prefix.trim_end();
        let least = if echoes { 1 } else { LEAST_ECHO };
        Self {
            listens: sent.len() >= least,
            blanks: prefix[sent.len()..].to_owned(),
            sent: sent.to_owned(),
            echoed: 0,
        }
    }

    /// What of a prefix a provider is given.
    pub fn sent(prefix: &str) -> &str {
        prefix.trim_end()
    }

    /// The new part of the next text.
    pub fn push<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        if !self.listens {
            return Cow::Borrowed(self.after_blanks(text));
        }
        let missing = &self.sent[self.echoed..];
        if let Some(rest) = text.strip_prefix(missing) {
            self.listens = false;
            return Cow::Borrowed(self.after_blanks(rest));
        }
        if missing.starts_with(text) {
            self.echoed += text.len();
            return Cow::Borrowed("");
        }
        let meant = self.flush() + text;
        Cow::Owned(self.after_blanks(&meant).to_owned())
    }

    /// What was held back as a repetition and was none.
    pub fn flush(&mut self) -> String {
        let listened = std::mem::take(&mut self.listens);
        if listened { self.sent[..self.echoed].to_owned() } else { String::new() }
    }

    fn after_blanks<'t>(&mut self, text: &'t str) -> &'t str {
        if self.blanks.is_empty() || text.is_empty() {
            return text;
        }
        let same = text.chars().zip(self.blanks.chars()).take_while(|(a, b)| a == b);
        let same: usize = same.map(|(a, _)| a.len_utf8()).sum();
        if same < text.len() {
            self.blanks.clear();
        } else {
            self.blanks.drain(..same);
        }
        &text[same..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "Once upon a time, \n\n";

    fn joined(seam: Seam, pieces: &[&str]) -> String {
        let mut seam = seam;
        let text: String = pieces.iter().map(|piece| seam.push(piece).into_owned()).collect();
        text + &seam.flush()
    }

    #[test]
    fn blanks_that_come_again_are_left_out_once() {
        for (pieces, expected) in [
            (&[" \n\nthere"][..], "there"),
            (&[" ", "\n", "\nthere"], "there"),
            (&["there", " \n\nwas"], "there \n\nwas"),
            (&[" there"], "there"),
            (&[" \n\n\nthere"], "\nthere"),
            (&["", "\n"], "\n"),
        ] {
            assert_eq!(joined(Seam::after(PREFIX, false), pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_repeated_prefix_is_left_out_and_a_similar_beginning_is_meant() {
        for (pieces, expected) in [
            (&["Once upon a time, \n\nthere"][..], "there"),
            (&["Once", " upon", " a time,", " \n\n", "there"], "there"),
            (&["Once", " more"], "Once more"),
            (&["Once"], "Once"),
            (&["Once upon a time,", "Once upon a time,"], "Once upon a time,"),
        ] {
            assert_eq!(joined(Seam::after(PREFIX, false), pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_short_prefix_is_known_again_only_where_it_is_expected() {
        assert_eq!(joined(Seam::after("ha", false), &["haha"]), "haha");
        assert_eq!(joined(Seam::after("ha", true), &["haha"]), "ha");
        assert_eq!(joined(Seam::after("", true), &["x"]), "x");
        assert_eq!(joined(Seam::default(), &[" x"]), " x");
        assert_eq!(joined(Seam::after("ä", true), &["ö"]), "ö");
    }
}
