//! Anthropic's messages. Pure: a request's body, and what its events mean.

use super::answer::{Answer, Reason, Source};
use super::failure::{ErrorBody, unreadable};
use super::seam::Seam;
use super::text::{Text, said};
use super::{Ask, UpstreamError, prompt};
use protocol::Usage;
use protocol::settings::Provider;
use serde::{Deserialize, Serialize};

/// Tokens of an answer where neither request nor settings say: this dialect wants a number.
const MAX_TOKENS: u64 = 4_096;
/// The highest temperature there is here; ours goes to 2.
const MAX_TEMPERATURE: f64 = 1.0;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u64,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    system: String,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'a str,
    content: &'a str,
}

/// The body of a request; `prefix` is what earlier owners wrote.
pub(super) fn request(provider: &Provider, model: &str, ask: &Ask, prefix: &str) -> Vec<u8> {
    let options = &ask.opening.options;
    let turns: Vec<_> = prompt::turns(&ask.opening).collect();
    let (system, spoken): (Vec<_>, Vec<_>) =
        turns.into_iter().partition(|(role, _)| *role == "system");
    let system: Vec<&str> = system.into_iter().map(|(_, content)| content).collect();
    // A conversation begins with its user; the cut of the context may have left an answer there.
    let spoken = spoken.into_iter().skip_while(|(role, _)| *role == prompt::ASSISTANT);
    let mut messages: Vec<_> = spoken.map(|(role, content)| Message { role, content }).collect();
    let sent = Seam::sent(prefix);
    if !sent.is_empty() {
        messages.push(Message { role: prompt::ASSISTANT, content: sent });
    }
    let request = Request {
        model,
        max_tokens: options.max_tokens.or(provider.max_tokens).unwrap_or(MAX_TOKENS),
        messages,
        system: system.join("\n\n"),
        stream: true,
        temperature: options.temperature.map(|t| t.min(MAX_TEMPERATURE)),
    };
    // Strings and numbers: nothing here can fail.
    serde_json::to_vec(&request).unwrap_or_default()
}

/// All kinds of events in one: a tagged enum would copy every event before it is read.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    message: Option<MessageStart<'a>>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default)]
    usage: Option<Counts>,
    #[serde(borrow, default)]
    error: Option<ErrorBody<'a>>,
}

/// What `message_start` says of the message.
#[derive(Deserialize)]
struct MessageStart<'a> {
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(default)]
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Text<'a>>,
    #[serde(borrow, default)]
    partial_json: Option<Text<'a>>,
    #[serde(borrow, default)]
    citation: Option<Citation<'a>>,
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Citation<'a> {
    #[serde(borrow, default)]
    url: Option<Text<'a>>,
    #[serde(borrow, default)]
    title: Option<Text<'a>>,
    #[serde(borrow, default)]
    document_title: Option<Text<'a>>,
    #[serde(borrow, default)]
    cited_text: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
}

/// Reads the data of one event.
///
/// # Errors
/// What the event says went wrong, or that it cannot be read.
pub(super) fn read(data: &str, answer: &mut Answer) -> Result<(), UpstreamError> {
    let event: Event<'_> = serde_json::from_str(data).map_err(|error| unreadable(&error))?;
    match &*event.kind.0 {
        "content_block_delta" => {
            if let Some(delta) = &event.delta {
                read_delta(delta, event.index, answer)?;
            }
        }
        "content_block_start" => {
            if let Some(block) = &event.content_block {
                read_block(block, event.index, answer)?;
            }
        }
        "content_block_stop" => answer.tool_ended(event.index),
        "message_start" => {
            let Some(message) = event.message else { return Ok(()) };
            answer.model = message.model.map(|model| model.0.into_owned()).unwrap_or_default();
            message.usage.iter().for_each(|counts| counts.add_to(answer));
        }
        "message_delta" => {
            let reason = event.delta.as_ref().and_then(|delta| said(&delta.stop_reason));
            answer.reason = reason.map(reason_of).or(answer.reason);
            event.usage.iter().for_each(|counts| counts.add_to(answer));
        }
        "message_stop" => answer.finish(),
        "error" => return Err(event.error.unwrap_or_default().within_stream()),
        // `ping`, and whatever will be added: clients are asked to ignore it.
        _ => {}
    }
    Ok(())
}

fn read_block(block: &Block<'_>, index: u64, answer: &mut Answer) -> Result<(), UpstreamError> {
    if block.kind.0 == "tool_use" {
        return answer.tool(index, said(&block.id), said(&block.name), "");
    }
    if let Some(thinking) = said(&block.thinking) {
        answer.thinking(thinking);
    }
    if let Some(text) = said(&block.text) {
        answer.text(text);
    }
    Ok(())
}

fn read_delta(delta: &Delta<'_>, index: u64, answer: &mut Answer) -> Result<(), UpstreamError> {
    if let Some(text) = said(&delta.text) {
        answer.text(text);
    }
    if let Some(thinking) = said(&delta.thinking) {
        answer.thinking(thinking);
    }
    if let Some(json) = said(&delta.partial_json).filter(|json| !json.is_empty()) {
        answer.tool(index, None, None, json)?;
    }
    if let Some(citation) = &delta.citation {
        answer.citation(&Source {
            url: said(&citation.url),
            title: said(&citation.title).or(said(&citation.document_title)),
            cited_text: said(&citation.cited_text),
        });
    }
    Ok(())
}

impl Counts {
    /// Later counts replace earlier ones; what they leave out stays.
    fn add_to(&self, answer: &mut Answer) {
        let usage = answer.usage.get_or_insert_with(Usage::default);
        let cached = [self.cache_creation_input_tokens, self.cache_read_input_tokens];
        if let Some(input) = self.input_tokens {
            usage.prompt_tokens = input + cached.into_iter().flatten().sum::<u64>();
        }
        usage.completion_tokens = self.output_tokens.unwrap_or(usage.completion_tokens);
    }
}

fn reason_of(reason: &str) -> Reason {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Reason::Length,
        "tool_use" => Reason::ToolUse,
        "refusal" => Reason::ContentFilter,
        _ => Reason::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::answer::tests::drain;
    use crate::upstream::prompt::tests::ask;
    use serde_json::{Value, json};

    #[test]
    fn a_request_begins_with_its_user_and_ends_with_the_text_so_far() {
        let mut ask = ask();
        let opening = std::sync::Arc::make_mut(&mut ask.opening);
        opening.options.temperature = Some(1.5);
        opening.context.push(streamlog::log::Turn { role: "system".into(), content: "be".into() });
        let provider = Provider::default();
        let body = |prefix| -> Value {
            serde_json::from_slice(&request(&provider, "m", &ask, prefix)).unwrap()
        };
        let mut expected = json!({
            "model": "m", "stream": true, "temperature": 1.0, "max_tokens": 4096, "system": "be",
            "messages": [
                {"role": "user", "content": "before"},
                {"role": "assistant", "content": "answered"},
                {"role": "user", "content": "now"},
            ],
        });
        assert_eq!(body(""), expected);
        let last = json!({"role": "assistant", "content": "so far"});
        expected["messages"].as_array_mut().unwrap().push(last);
        assert_eq!(body("so far \n"), expected, "no blanks at its end: they are refused");
    }

    fn reading(events: &[&str]) -> Vec<String> {
        let mut answer = Answer::after("", false);
        for event in events {
            read(event, &mut answer).unwrap();
        }
        drain(&mut answer)
    }

    #[test]
    fn a_stream_becomes_chunks_and_an_end() {
        let seen = reading(&[
            r#"{"type":"message_start","message":{"id":"m","model":"claude-x","content":[],"usage":{"input_tokens":5,"cache_read_input_tokens":2,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"H\u00e4llo"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"x","document_index":0,"document_title":"D"}}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"something_new","x":[1]}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}"#,
            r#"{"type":"message_stop"}"#,
            r#"{"type":"message_stop"}"#,
        ]);
        let expected = [
            "THINKING hm",
            "TEXT Hällo",
            r#"CITATION D {"title":"D","citedText":"x"}"#,
            "stop claude-x 7+15",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn tools_are_chunks_and_an_event_that_comes_twice_begins_none() {
        let begin = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"now","input":{}}}"#;
        let seen = reading(&[
            begin,
            begin,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t2","name":"at","input":{}}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":3}}"#,
            r#"{"type":"message_stop"}"#,
        ]);
        let expected = [
            r#"TOOL_USE {} {"callId":"t1","name":"now"}"#,
            r#"TOOL_USE {"a":1} {"callId":"t2","name":"at"}"#,
            "tool_use  0+3",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_error_midway_says_whether_it_passes() {
        let mut answer = Answer::after("", false);
        let mut error = |kind: &str| {
            let event = json!({"type": "error", "error": {"type": kind, "message": "hunter2"}});
            read(&event.to_string(), &mut answer).unwrap_err()
        };
        let passing = UpstreamError::Unavailable("it sent an error: overloaded_error".into());
        assert_eq!(error("overloaded_error"), passing);
        let refused = UpstreamError::Refused("it sent an error: invalid_request_error".into());
        assert_eq!(error("invalid_request_error"), refused);
    }
}
