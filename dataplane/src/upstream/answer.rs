//! One answer as it is read: what the dialects have in common. Pure: pieces of a provider's events
//! in, [`UpstreamEvent`]s out.

use super::alike::Alike;
use super::fences::Fences;
use super::seam::Seam;
use super::{UpstreamError, UpstreamEvent};
use protocol::{Chunk, ChunkType, Usage};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::VecDeque;
use std::sync::Arc;

/// Most tool calls of one answer that are told apart.
const MAX_TOOLS: usize = 128;

/// Why an answer ended, in the words of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Stop,
    Length,
    ToolUse,
    ContentFilter,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolUse => "tool_use",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// A tool call that is being read.
struct Tool {
    index: u64,
    id: String,
    name: String,
    metadata: Option<Arc<RawValue>>,
    /// Whether any of its arguments came.
    spoke: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolMetadata<'a> {
    call_id: &'a str,
    name: &'a str,
}

/// A source, as far as the provider names it.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Source<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cited_text: Option<&'a str>,
}

/// What was read of an answer.
pub(super) struct Answer {
    /// The model that answers; empty while it is not known.
    pub(super) model: String,
    /// Why it ended, once the provider said so.
    pub(super) reason: Option<Reason>,
    pub(super) usage: Option<Usage>,
    /// The last event that was nothing but text.
    pub(super) alike: Alike,
    seam: Seam,
    fences: Fences,
    tools: Vec<Tool>,
    /// Chunks that were handed out: tokens, where the provider does not count them.
    chunks: u64,
    ready: VecDeque<UpstreamEvent>,
    finished: bool,
}

impl Answer {
    /// After the text that earlier owners wrote; `echoes`: see [`Seam::after`].
    pub(super) fn after(prefix: &str, echoes: bool) -> Self {
        Self {
            model: String::new(),
            reason: None,
            usage: None,
            alike: Alike::default(),
            seam: Seam::after(prefix, echoes),
            fences: Fences::after(prefix),
            tools: Vec::new(),
            chunks: 0,
            ready: VecDeque::new(),
            finished: false,
        }
    }

    /// What can be handed out.
    pub(super) fn next(&mut self) -> Option<UpstreamEvent> {
        self.ready.pop_front()
    }

    pub(super) fn text(&mut self, text: &str) {
        let text = self.seam.push(text);
        let (ready, chunks) = (&mut self.ready, &mut self.chunks);
        self.fences.push(&text, |kind, held, part| {
            let chunk = match held {
                "" => Chunk::new(kind, part),
                held => Chunk::new(kind, &[held, part].concat()),
            };
            *chunks += 1;
            ready.push_back(UpstreamEvent::Chunk(chunk));
        });
    }

    pub(super) fn thinking(&mut self, text: &str) {
        if !text.is_empty() {
            self.flush_text();
            self.push(Chunk::new(ChunkType::Thinking, text));
        }
    }

    /// A source; one that nothing names is none.
    pub(super) fn citation(&mut self, source: &Source<'_>) {
        let named = [source.url, source.title, source.cited_text].into_iter().flatten();
        let Some(content) = named.into_iter().find(|name| !name.is_empty()) else { return };
        self.flush_text();
        let metadata = to_raw_value(source).ok().map(Arc::from);
        self.push(Chunk { kind: ChunkType::Citation, content: content.into(), metadata });
    }

    /// A part of a tool call: the first one names it, any may carry arguments.
    ///
    /// # Errors
    /// Where there are too many calls.
    pub(super) fn tool(
        &mut self,
        index: u64,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
    ) -> Result<(), UpstreamError> {
        self.flush_text();
        let at = self.tool_at(index, id, name)?;
        if let Some(tool) = self.tools.get_mut(at).filter(|_| !arguments.is_empty()) {
            let chunk = tool.chunk(arguments);
            self.push(chunk);
        }
        Ok(())
    }

    fn tool_at(
        &mut self,
        index: u64,
        id: Option<&str>,
        name: Option<&str>,
    ) -> Result<usize, UpstreamError> {
        let id = id.filter(|id| !id.is_empty());
        // Some servers count every call as the first one and tell them apart by id.
        let same = |tool: &Tool| tool.index == index && id.is_none_or(|id| id == tool.id);
        if let Some(at) = self.tools.iter().rposition(same) {
            return Ok(at);
        }
        if self.tools.len() >= MAX_TOOLS {
            return Err(UpstreamError::Unavailable(format!("more than {MAX_TOOLS} tool calls")));
        }
        self.tools.push(Tool {
            index,
            id: id.unwrap_or_default().to_owned(),
            name: name.unwrap_or_default().to_owned(),
            metadata: None,
            spoke: false,
        });
        Ok(self.tools.len() - 1)
    }

    /// A tool call is complete. One without arguments has the empty object for them.
    pub(super) fn tool_ended(&mut self, index: u64) {
        for at in 0..self.tools.len() {
            if self.tools[at].index == index && !self.tools[at].spoke {
                let chunk = self.tools[at].chunk("{}");
                self.push(chunk);
            }
        }
    }

    /// The regular end. A second one is none.
    pub(super) fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.flush_text();
        for at in 0..self.tools.len() {
            self.tool_ended(self.tools[at].index);
        }
        let counted = Usage { prompt_tokens: 0, completion_tokens: self.chunks };
        self.ready.push_back(UpstreamEvent::Finished {
            reason: self.reason.unwrap_or(Reason::Stop).as_str().to_owned(),
            model: std::mem::take(&mut self.model),
            usage: self.usage.unwrap_or(counted),
        });
    }

    /// The connection ended. What was held back is text all the same.
    ///
    /// # Errors
    /// `Unavailable`, where the provider had not said why it ends.
    pub(super) fn ended(&mut self, why: &str) -> Result<(), UpstreamError> {
        if self.reason.is_some() || self.finished {
            self.finish();
            return Ok(());
        }
        self.flush_text();
        Err(UpstreamError::Unavailable(why.to_owned()))
    }

    /// The request was refused by a filter before anything was said.
    pub(super) fn is_refused(&self) -> bool {
        self.reason == Some(Reason::ContentFilter) && self.chunks == 0
    }

    /// Hands out what was held back while it could still have become something else.
    pub(super) fn flush_text(&mut self) {
        let meant = self.seam.flush();
        if !meant.is_empty() {
            self.text(&meant);
        }
        let held = self.fences.flush();
        if !held.is_empty() {
            self.push(Chunk::new(ChunkType::Text, held));
        }
    }

    fn push(&mut self, chunk: Chunk) {
        self.chunks += 1;
        self.ready.push_back(UpstreamEvent::Chunk(chunk));
    }
}

impl Tool {
    fn chunk(&mut self, arguments: &str) -> Chunk {
        self.spoke = true;
        if self.metadata.is_none() {
            let metadata = ToolMetadata { call_id: &self.id, name: &self.name };
            self.metadata = to_raw_value(&metadata).ok().map(Arc::from);
        }
        let metadata = self.metadata.clone();
        Chunk { kind: ChunkType::ToolUse, content: arguments.into(), metadata }
    }
}

/// What a test sees of events: kinds, contents, metadata, and the end.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Everything that is ready: `KIND content metadata`, or the end.
    pub(in crate::upstream) fn drain(answer: &mut Answer) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(event) = answer.next() {
            seen.push(match event {
                UpstreamEvent::Chunk(chunk) => {
                    let metadata = chunk.metadata.map(|m| format!(" {}", m.get()));
                    let metadata = metadata.unwrap_or_default();
                    format!("{} {}{metadata}", chunk.kind.as_str(), chunk.content)
                }
                UpstreamEvent::Finished { reason, model, usage } => {
                    let Usage { prompt_tokens, completion_tokens } = usage;
                    format!("{reason} {model} {prompt_tokens}+{completion_tokens}")
                }
            });
        }
        seen
    }

    #[test]
    fn held_backticks_come_before_what_is_no_text() {
        let mut answer = Answer::after("", false);
        answer.text("a\n``");
        answer.thinking("");
        answer.thinking("hm");
        answer.text("b\n`");
        answer.finish();
        answer.finish();
        let expected = ["TEXT a\n", "TEXT ``", "THINKING hm", "TEXT b\n", "TEXT `", "stop  0+5"];
        assert_eq!(drain(&mut answer), expected);
    }

    #[test]
    fn an_end_without_a_reason_keeps_the_text() {
        let mut answer = Answer::after("a prefix of some length", false);
        answer.text("a prefix");
        answer.text(" of");
        assert_eq!(drain(&mut answer), Vec::<String>::new(), "perhaps a repetition");
        let broken = UpstreamError::Unavailable("cut".into());
        assert_eq!(answer.ended("cut"), Err(broken));
        assert_eq!(drain(&mut answer), ["TEXT a prefix of"]);
    }

    #[test]
    fn a_successor_in_a_fence_writes_code() {
        let mut answer = Answer::after("see\n```rust\nfn a() {\n", false);
        answer.text("}\n```\nso");
        assert_eq!(drain(&mut answer), ["CODE }\n```\n", "TEXT so"]);
    }

    #[test]
    fn tools_are_told_apart_and_one_without_arguments_has_none() {
        let mut answer = Answer::after("", false);
        for (index, id, name, arguments) in [
            (0, Some("c1"), Some("search"), ""),
            (0, None, None, "{\"q\""),
            (0, Some("c1"), Some("search"), ":1}"),
            (0, Some("c2"), Some("now"), ""),
        ] {
            answer.tool(index, id, name, arguments).unwrap();
        }
        answer.reason = Some(Reason::ToolUse);
        answer.finish();
        let search = r#"{"callId":"c1","name":"search"}"#;
        let expected = [
            format!("TOOL_USE {{\"q\" {search}"),
            format!("TOOL_USE :1}} {search}"),
            r#"TOOL_USE {} {"callId":"c2","name":"now"}"#.to_owned(),
            "tool_use  0+3".to_owned(),
        ];
        assert_eq!(drain(&mut answer), expected);
        let more = (0..MAX_TOOLS as u64).map(|index| answer.tool(index + 9, None, None, "x"));
        assert_eq!(more.filter(Result::is_err).count(), 2);
    }

    #[test]
    fn a_source_needs_a_name() {
        let mut answer = Answer::after("", false);
        answer.citation(&Source::default());
        answer.citation(&Source { title: Some("T"), url: Some(""), ..Source::default() });
        assert_eq!(drain(&mut answer), [r#"CITATION T {"url":"","title":"T"}"#]);
    }
}
