//! What a request says, whatever the dialect: the conversation so far, what is asked, and the text
//! to go on with. Pure.

use super::Ask;
use protocol::ChunkType;
use streamlog::Opening;

/// Role of a message that the model wrote.
pub(super) const ASSISTANT: &str = "assistant";

/// The conversation and what is asked now, oldest first. Messages without a visible character are
/// left out: an answer that only called tools leaves one, and no provider takes it.
pub(super) fn turns(opening: &Opening) -> impl Iterator<Item = (&str, &str)> {
    let earlier = opening.context.iter().map(|turn| (turn.role.as_str(), turn.content.as_str()));
    let all = earlier.chain([("user", opening.content.as_str())]);
    all.filter(|(_, content)| !content.trim().is_empty())
}

/// The text that earlier owners wrote.
pub(super) fn prefix(ask: &Ask) -> String {
    let content = ask.prefix.iter().filter(|chunk| chunk.kind.is_content());
    content.map(|chunk| chunk.content.as_str()).collect()
}

/// Whether nothing but text was written: what a provider can be given to go on with.
pub fn is_plain<'a>(kinds: impl IntoIterator<Item = &'a ChunkType>) -> bool {
    kinds.into_iter().all(|kind| kind.is_content())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::stream::context::tests::opening;
    use protocol::{ChatOptions, Chunk, Epoch, Index};
    use std::sync::Arc;
    use streamlog::log::Turn;

    /// With a conversation, one turn of which is blank.
    pub(in crate::upstream) fn ask() -> Ask {
        let turn =
            |(role, content): (&str, &str)| Turn { role: role.into(), content: content.into() };
        let turns = [
            ("assistant", "earlier"),
            ("user", "before"),
            ("assistant", " \n"),
            ("assistant", "answered"),
        ];
        let opening = Opening {
            content: "now".into(),
            context: turns.map(turn).into(),
            options: ChatOptions { temperature: Some(0.5), ..ChatOptions::default() },
            ..(*opening("alice")).clone()
        };
        Ask { opening: Arc::new(opening), epoch: Epoch(1), from: Index::ZERO, prefix: Vec::new() }
    }

    #[test]
    fn the_text_so_far_is_text_and_code() {
        let chunk = |kind, text| Chunk::new(kind, text);
        let prefix = vec![
            chunk(ChunkType::Thinking, "hm"),
            chunk(ChunkType::Text, "a\n"),
            chunk(ChunkType::Code, "```\n"),
        ];
        let plain = |chunks: &[Chunk]| is_plain(chunks.iter().map(|chunk| &chunk.kind));
        assert!(!plain(&prefix) && plain(&prefix[1..]) && plain(&[]));
        assert_eq!(super::prefix(&Ask { prefix, ..ask() }), "a\n```\n");
    }
}
