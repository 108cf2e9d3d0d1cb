//! The simulated provider's text, as a pure function. The provider writes it and the oracle knows
//! it, so that "no phantom" and "who wrote this chunk" can be checked without any history.
//!
//! A directive stands at the start of the user's content: `[sim tokens=200 rate=50 seed=7 …]`.

mod essay;

use crate::chunk::{Chunk, ChunkType};
use crate::id::{Epoch, Index};
use smol_str::format_smolstr;
use std::sync::Arc;

/// What `[sim …]` asks for (protocol section 7).
#[derive(Clone, Debug, PartialEq)]
pub struct Directive {
    /// Chunks of the answer.
    pub tokens: u64,
    /// Chunks a second; 0: as fast as possible.
    pub rate: u32,
    /// Chooses the text.
    pub seed: u64,
    /// Silence before the first chunk, in milliseconds.
    pub ttft_ms: u64,
    /// Silence of so many milliseconds before the chunk of that index.
    pub pause: Option<(Index, u64)>,
    /// The connection breaks after the chunk of that index.
    pub fail: Option<Index>,
    /// Silence for ever after the chunk of that index.
    pub stall: Option<Index>,
    /// Types of the chunks, taken in turns.
    pub types: Vec<ChunkType>,
    /// A Markdown text for people, instead of words; it has its own types.
    pub essay: bool,
    /// The text also depends on the epoch that asked.
    pub vary_epoch: bool,
}

impl Default for Directive {
    fn default() -> Self {
        Self {
            tokens: 120,
            rate: 30,
            seed: 1,
            ttft_ms: 0,
            pause: None,
            fail: None,
            stall: None,
            types: vec![ChunkType::Text],
            essay: false,
            vary_epoch: false,
        }
    }
}

/// A directive that cannot be read; the simulated provider refuses the request with this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad [sim] directive: {0}")]
pub struct BadDirective(String);

/// Consecutive chunks of one type when several types take turns.
const RUN: u64 = 8;
const WORDS: [&str; 32] = [
    "river",
    "stone",
    "Licht",
    "über",
    "цвет",
    "море",
    "日本",
    "語",
    "signal",
    "ledger",
    "quiet",
    "north",
    "été",
    "naïve",
    "cursor",
    "epoch",
    "window",
    "garden",
    "paper",
    "copper",
    "slow",
    "bright",
    "🚀",
    "👩‍🚀",
    "answer",
    "thread",
    "\"quoted\"",
    "a\\b",
    "tab\t",
    "line\n",
    "ring",
    "seal",
];

impl Directive {
    /// Reads the directive at the start of `content`; the defaults where there is none.
    ///
    /// # Errors
    /// Names the key that cannot be read.
    ///
    /// ```
    /// use protocol::sim::Directive;
    /// let d = Directive::parse("[sim tokens=5 rate=0 seed=7 pause=2:300 vary=epoch] hello").unwrap();
    /// assert_eq!((d.tokens, d.rate, d.seed, d.vary_epoch), (5, 0, 7, true));
    /// assert_eq!(Directive::parse("hello").unwrap(), Directive::default());
    /// assert!(Directive::parse("[sim tokens=many]").is_err());
    /// ```
    pub fn parse(content: &str) -> Result<Self, BadDirective> {
        let mut directive = Self::default();
        let Some(rest) = content.strip_prefix("[sim") else { return Ok(directive) };
        let Some((pairs, _)) = rest.split_once(']') else {
            return Err(BadDirective("no closing bracket".to_owned()));
        };
        for pair in pairs.split_whitespace() {
            let bad = || BadDirective(pair.to_owned());
            let (key, value) = pair.split_once('=').ok_or_else(bad)?;
            directive.set(key, value).ok_or_else(bad)?;
        }
        if directive.essay && !pairs.contains("tokens=") {
            directive.tokens = essay::length();
        }
        Ok(directive)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "tokens" => self.tokens = value.parse().ok()?,
            "rate" => self.rate = value.parse().ok()?,
            "seed" => self.seed = value.parse().ok()?,
            "ttft" => self.ttft_ms = value.parse().ok()?,
            "pause" => {
                let (at, ms) = value.split_once(':')?;
                self.pause = Some((Index(at.parse().ok()?), ms.parse().ok()?));
            }
            "fail" => self.fail = Some(Index(value.parse().ok()?)),
            "stall" => self.stall = Some(Index(value.parse().ok()?)),
            "types" => self.types = value.split(',').map(chunk_type).collect::<Option<_>>()?,
            "text" if matches!(value, "words" | "essay") => self.essay = value == "essay",
            "vary" if value == "epoch" => self.vary_epoch = true,
            _ => return None,
        }
        Some(())
    }

    /// Chunk `index` of the answer as asked for under `epoch`.
    ///
    /// ```
    /// use protocol::{sim::Directive, Epoch, Index};
    /// let d = Directive::parse("[sim seed=7]").unwrap();
    /// assert_eq!(d.chunk(Index(3), Epoch(1)), d.chunk(Index(3), Epoch(2)));
    /// let v = Directive::parse("[sim seed=7 vary=epoch]").unwrap();
    /// assert_ne!(v.chunk(Index(3), Epoch(1)), v.chunk(Index(3), Epoch(2)));
    /// ```
    pub fn chunk(&self, index: Index, epoch: Epoch) -> Chunk {
        if self.essay && !self.vary_epoch {
            return essay::chunk(self.seed, index);
        }
        let turn = (index.0 / RUN) as usize % self.types.len().max(1);
        let kind = self.types.get(turn).copied().unwrap_or(ChunkType::Text);
        let word = WORDS[mix(self.seed ^ mix(index.0)) as usize % WORDS.len()];
        let content = match kind {
            _ if self.vary_epoch => format_smolstr!("{word}{}.{} ", epoch.0, index.0),
            ChunkType::ToolUse => format_smolstr!("{{\"q\":{}}}", index.0),
            ChunkType::Code => [word, "();\n"].into_iter().collect(),
            _ => [word, " "].into_iter().collect(),
        };
        let metadata = (kind == ChunkType::ToolUse)
            .then(|| serde_json::value::RawValue::from_string(TOOL.to_owned()).ok())
            .flatten();
        Chunk { kind, content, metadata: metadata.map(Arc::from) }
    }
}

const TOOL: &str = r#"{"callId":"call-1","name":"search"}"#;

fn chunk_type(name: &str) -> Option<ChunkType> {
    Some(match name {
        "text" => ChunkType::Text,
        "code" => ChunkType::Code,
        "thinking" => ChunkType::Thinking,
        "tool" | "tool_use" => ChunkType::ToolUse,
        "citation" => ChunkType::Citation,
        _ => return None,
    })
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): spreads a counter over all bits.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
