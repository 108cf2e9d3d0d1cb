//! Which text of an answer is code: what stands between fences of backticks, the fences included.
//! Pure, and streaming: a character's kind follows from the text before it alone, wherever the text
//! was cut, and never more than two backticks are held back.

use protocol::ChunkType;

/// Backticks that open a fence (CommonMark 4.5).
const FENCE: usize = 3;
/// What may be held back.
const TICKS: &str = "``";

/// Where in the text the next character stands.
///
/// ```text
///  Start ──▶ Line          text: a line's blanks and backticks, its rest
///    │ ```
///    ▼
///  Open ──▶ Info           code: the opening fence, the rest of its line
///    │ \n     │ \n
///    ▼        ▼
///  CodeStart ──▶ CodeLine  a line's blanks and backticks, its rest
///    │ ``` blanks \n
///    ▼
///  Start
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start {
        ticks: usize,
    },
    Line,
    Open {
        fence: usize,
    },
    /// `ends`: there was a backtick, so that it was code within a line.
    Info {
        fence: usize,
        ends: bool,
    },
    CodeStart {
        fence: usize,
        ticks: usize,
    },
    /// After a closing fence, if nothing else follows in its line.
    Closing {
        fence: usize,
    },
    CodeLine {
        fence: usize,
    },
}

impl Place {
    fn after(self, byte: u8) -> Self {
        let blank = matches!(byte, b' ' | b'\t' | b'\r');
        match (self, byte) {
            (Self::Start { ticks }, b'`') if ticks + 1 == FENCE => Self::Open { fence: FENCE },
            (Self::Start { ticks }, b'`') => Self::Start { ticks: ticks + 1 },
            (Self::Start { ticks: 0 }, _) if blank => self,
            (Self::Start { .. } | Self::Line, b'\n') => Self::Start { ticks: 0 },
            (Self::Start { .. } | Self::Line, _) => Self::Line,
            (Self::Open { fence }, b'`') => Self::Open { fence: fence + 1 },
            (Self::Info { ends: true, .. }, b'\n') => Self::Start { ticks: 0 },
            (Self::Info { fence, .. }, b'`') => Self::Info { fence, ends: true },
            (Self::Info { .. }, byte) if byte != b'\n' => self,
            (Self::Open { fence }, byte) if byte != b'\n' => Self::Info { fence, ends: false },
            (Self::CodeStart { fence, ticks }, b'`') => Self::CodeStart { fence, ticks: ticks + 1 },
            (Self::CodeStart { fence, ticks }, b'\n') if ticks >= fence => Self::Start { ticks: 0 },
            (Self::CodeStart { fence, ticks }, _) if ticks >= fence && blank => {
                Self::Closing { fence }
            }
            (Self::CodeStart { ticks: 0, .. }, _) if blank => self,
            (Self::Closing { .. }, b'\n') => Self::Start { ticks: 0 },
            (Self::Closing { .. }, _) if blank => self,
            (
                Self::Open { fence }
                | Self::Info { fence, .. }
                | Self::CodeStart { fence, .. }
                | Self::Closing { fence }
                | Self::CodeLine { fence },
                byte,
            ) => match byte {
                b'\n' => Self::CodeStart { fence, ticks: 0 },
                _ => Self::CodeLine { fence },
            },
        }
    }

    const fn kind(self) -> ChunkType {
        match self {
            Self::Start { .. } | Self::Line => ChunkType::Text,
            _ => ChunkType::Code,
        }
    }

    /// Whether nothing but the end of the line matters.
    const fn is_within_a_line(self) -> bool {
        matches!(self, Self::Line | Self::CodeLine { .. })
    }

    /// Backticks that may yet become a fence.
    const fn undecided(self) -> usize {
        if let Self::Start { ticks } = self { ticks } else { 0 }
    }
}

/// Tells text from code.
#[derive(Clone, Debug)]
pub struct Fences {
    place: Place,
    /// Backticks at the end of what was pushed that were not handed out yet.
    held: usize,
}

impl Default for Fences {
    fn default() -> Self {
        Self { place: Place::Start { ticks: 0 }, held: 0 }
    }
}

impl Fences {
    /// As after `text`, all of which was handed out.
    pub fn after(text: &str) -> Self {
        let mut fences = Self::default();
        fences.push(text, |_, _, _| {});
        Self { held: 0, ..fences }
    }

    /// Takes the next text and hands out its parts: their kind, backticks that were held back and
    /// come before, and the part itself, which is never empty.
    pub fn push<'t>(
        &mut self,
        text: &'t str,
        mut emit: impl FnMut(ChunkType, &'static str, &'t str),
    ) {
        let bytes = text.as_bytes();
        let (mut begin, mut run, mut at) = (0, 0, 0);
        let mut part = |held: &mut usize, kind, part: &'t str| {
            if !part.is_empty() {
                emit(kind, &TICKS[..std::mem::take(held)], part);
            }
        };
        while at < bytes.len() {
            if self.place.is_within_a_line() {
                match bytes[at..].iter().position(|byte| *byte == b'\n') {
                    Some(line) => at += line,
                    None => break,
                }
            }
            let before = self.place;
            self.place = before.after(bytes[at]);
            if before.undecided() == 0 && self.place.undecided() == 1 {
                run = at;
            }
            match (before.kind(), self.place.kind()) {
                (ChunkType::Text, ChunkType::Code) => {
                    part(&mut self.held, ChunkType::Text, &text[begin..run]);
                    begin = run;
                }
                (ChunkType::Code, ChunkType::Text) => {
                    part(&mut self.held, ChunkType::Code, &text[begin..=at]);
                    begin = at + 1;
                }
                _ => {}
            }
            at += 1;
        }
        let end = if self.place.undecided() > 0 { run.max(begin) } else { bytes.len() };
        part(&mut self.held, self.place.kind(), &text[begin..end]);
        self.held += bytes.len() - end;
    }

    /// What was held back: nothing more will come, or not as text.
    pub fn flush(&mut self) -> &'static str {
        &TICKS[..std::mem::take(&mut self.held)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: ChunkType = ChunkType::Text;
    const C: ChunkType = ChunkType::Code;

    /// Kinds of all characters, and the text, of pieces.
    fn kinds(mut fences: Fences, pieces: &[&str]) -> Vec<(ChunkType, char)> {
        let mut out = Vec::new();
        for piece in pieces {
            fences.push(piece, |kind, held, part| {
                assert!(!part.is_empty());
                out.extend(held.chars().chain(part.chars()).map(|c| (kind, c)));
            });
        }
        out.extend(fences.flush().chars().map(|c| (T, c)));
        out
    }

    fn parts(text: &str) -> Vec<(ChunkType, String)> {
        let mut parts: Vec<(ChunkType, String)> = Vec::new();
        for (kind, c) in kinds(Fences::default(), &[text]) {
            match parts.last_mut() {
                Some((last, part)) if *last == kind => part.push(c),
                _ => parts.push((kind, c.into())),
            }
        }
        parts
    }

    #[test]
    fn fences_and_what_is_between_them_are_code() {
        let cases: [(&str, &[(ChunkType, &str)]); 12] = [
            ("plain `x` and ``y``", &[(T, "plain `x` and ``y``")]),
            ("a\n```rust\nb\n```\nc", &[(T, "a\n"), (C, "```rust\nb\n```\n"), (T, "c")]),
            ("```\nb\n```", &[(C, "```\nb\n```")]),
            ("  ```\nb\n  ``` \nc", &[(T, "  "), (C, "```\nb\n  ``` \n"), (T, "c")]),
            ("a ```b\nc", &[(T, "a ```b\nc")]),
            ("````\n```\nb\n````\nc", &[(C, "````\n```\nb\n````\n"), (T, "c")]),
            ("```\n```x\n```\nc", &[(C, "```\n```x\n```\n"), (T, "c")]),
            ("```inline```\nc", &[(C, "```inline```\n"), (T, "c")]),
            ("```\r\nb\r\n```\r\nc", &[(C, "```\r\nb\r\n```\r\n"), (T, "c")]),
            ("``\n`` ```\n", &[(T, "``\n`` ```\n")]),
            ("```\nä\n```\n```\nö\n", &[(C, "```\nä\n```\n```\nö\n")]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(k, p)| (*k, (*p).to_owned())).collect();
            assert_eq!(parts(text), expected, "{text:?}");
        }
    }

    #[test]
    fn nothing_but_two_backticks_is_ever_held_back() {
        let mut fences = Fences::default();
        let mut out = String::new();
        for piece in ["a\n", "`", "`", "`r", "s\n", "`", "``", "\n"] {
            fences
                .push(piece, |kind, held, part| out += &format!("{}{held}{part}|", kind.as_str()));
        }
        assert_eq!(out, "TEXTa\n|CODE```r|CODEs\n|CODE`|CODE``|CODE\n|");
        fences.push("``", |_, _, _| panic!("undecided"));
        assert_eq!((fences.flush(), fences.flush()), ("``", ""));
    }

    /// Text in which everything that matters is frequent.
    fn text() -> impl Strategy<Value = String> {
        let word =
            prop::sample::select(vec!["`", "``", "```", "````", "\n", " ", "\r\n", "ä", "x"]);
        prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn cuts_change_neither_the_text_nor_a_kind(text in text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let whole = kinds(Fences::default(), &[&text]);
            prop_assert_eq!(whole.iter().map(|(_, c)| *c).collect::<String>(), text.clone());
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| ends[cut.index(ends.len())]).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(kinds(Fences::default(), &pieces), whole);
        }

        #[test]
        fn a_successor_goes_on_where_the_text_stopped(text in text(), cut in any::<prop::sample::Index>()) {
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let (before, after) = text.split_at(ends[cut.index(ends.len())]);
            let whole = kinds(Fences::default(), &[&text]);
            let from = before.chars().count();
            let went_on = kinds(Fences::after(before), &[after]);
            // Backticks that stood undecided at the cut are in the log as text already.
            prop_assert_eq!(&went_on[..], &whole[from..]);
        }
    }
}
