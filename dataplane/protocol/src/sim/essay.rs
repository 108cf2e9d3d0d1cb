//! A Markdown text for people who look at a demonstration: `[sim text=essay …]`. The text itself is
//! `essay.md` beside the package's manifest; lines `%type` there say of which type what follows is.

use super::chunk_type;
use crate::chunk::{Chunk, ChunkType};
use crate::id::Index;
use std::sync::LazyLock;

const SOURCE: &str = include_str!("../../essay.md");

struct Essay {
    chunks: Vec<Chunk>,
    /// Chunks that begin a heading.
    sections: Vec<usize>,
}

static ESSAY: LazyLock<Essay> = LazyLock::new(|| Essay::read(SOURCE));

/// Chunks until it begins again.
pub(super) fn length() -> u64 {
    ESSAY.chunks.len() as u64
}

/// Chunk `index`: a word and the space behind it. Seed 1 begins at the beginning, every later seed a
/// section later; what has ended begins again.
pub(super) fn chunk(seed: u64, index: Index) -> Chunk {
    let Essay { chunks, sections } = &*ESSAY;
    let turns = sections.len().max(1) as u64;
    let first = match seed.saturating_sub(1) % turns {
        0 => 0,
        later => sections.get(later as usize).copied().unwrap_or_default(),
    };
    let at = (index.0 % chunks.len().max(1) as u64) as usize + first;
    chunks.get(at % chunks.len().max(1)).cloned().unwrap_or_else(|| word(ChunkType::Text, "\n"))
}

impl Essay {
    fn read(source: &str) -> Self {
        let mut essay = Self { chunks: Vec::new(), sections: Vec::new() };
        let mut kind = ChunkType::Text;
        for line in source.split_inclusive('\n') {
            if let Some(marker) = line.strip_prefix('%') {
                kind = chunk_type(marker.trim_end()).unwrap_or(ChunkType::Text);
                continue;
            }
            if line.starts_with('#') {
                essay.sections.push(essay.chunks.len());
            }
            essay.chunks.extend(words(line).map(|text| word(kind, text)));
        }
        essay
    }
}

fn word(kind: ChunkType, text: &str) -> Chunk {
    Chunk { kind, content: text.into(), metadata: None }
}

/// Words with the white space before and behind them; nothing of the line is left out.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let ink = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let gap = rest[ink..].find(char::is_whitespace).map_or(rest.len(), |gap| ink + gap);
        let next = rest[gap..].find(|c: char| !c.is_whitespace()).map_or(rest.len(), |n| gap + n);
        let (word, behind) = rest.split_at(next);
        rest = behind;
        (!word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_text_is_left_out_and_it_begins_again() {
        let text = SOURCE.split_inclusive('\n').filter(|line| !line.starts_with('%'));
        let length = length();
        let written = (0..length).map(|i| chunk(1, Index(i)).content.to_string());
        assert_eq!(written.collect::<String>(), text.collect::<String>());
        assert_eq!(chunk(1, Index(length)), chunk(1, Index(0)));
        let asked = |text: &str| super::super::Directive::parse(text).unwrap().tokens;
        assert_eq!(asked("[sim text=essay rate=9]"), length, "it is told whole");
        assert_eq!(asked("[sim tokens=9 text=essay]"), 9);
        assert_eq!(words("  a b\n").collect::<Vec<_>>(), ["  a ", "b\n"]);
        assert_eq!(words("\n").collect::<Vec<_>>(), ["\n"]);
    }

    #[test]
    fn it_shows_what_a_reader_can_see_and_a_seed_begins_at_a_section() {
        let kinds = [ChunkType::Thinking, ChunkType::Text, ChunkType::Code, ChunkType::Citation];
        for kind in kinds {
            assert!(ESSAY.chunks.iter().any(|chunk| chunk.kind == kind), "{kind:?}");
        }
        assert!(ESSAY.sections.len() > 2);
        for seed in 2..=ESSAY.sections.len() as u64 {
            assert!(chunk(seed, Index(0)).content.starts_with('#'), "seed {seed}");
        }
        assert_eq!(chunk(1 + ESSAY.sections.len() as u64, Index(0)), chunk(1, Index(0)));
        assert_eq!(chunk(0, Index(7)), chunk(1, Index(7)));
    }
}
