//! Chat completions, as OpenAI and the servers that are compatible with it have them. Pure: a
//! request's body, and what its events mean.

use super::answer::{Answer, Reason, Source};
use super::failure::{ErrorBody, unreadable};
use super::seam::Seam;
use super::text::{Text, said};
use super::{Ask, UpstreamError, prompt};
use protocol::Usage;
use protocol::settings::{ContinueBy, Provider};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What ends a stream.
const DONE: &str = "[DONE]";

#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(flatten)]
    final_message: Option<FinalMessage>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// vLLM's words for going on with the last message, which others took over.
#[derive(Serialize)]
struct FinalMessage {
    continue_final_message: bool,
    add_generation_prompt: bool,
    echo: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'a str,
    content: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    prefix: bool,
}

/// The body of a request; `prefix` is what earlier owners wrote.
pub(super) fn request(provider: &Provider, model: &str, ask: &Ask, prefix: &str) -> Vec<u8> {
    let options = &ask.opening.options;
    let message = |(role, content)| Message { role, content, prefix: false };
    let mut messages: Vec<_> = prompt::turns(&ask.opening).map(message).collect();
    let sent = Seam::sent(prefix);
    if !sent.is_empty() {
        let prefix = provider.continues == ContinueBy::Prefix;
        messages.push(Message { role: prompt::ASSISTANT, content: sent, prefix });
    }
    let final_message = provider.continues == ContinueBy::FinalMessage && !sent.is_empty();
    let bound = options.max_tokens.or(provider.max_tokens);
    let request = Request {
        model,
        messages,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        temperature: options.temperature,
        max_tokens: bound.filter(|_| !provider.max_completion_tokens),
        max_completion_tokens: bound.filter(|_| provider.max_completion_tokens),
        final_message: final_message.then_some(FinalMessage {
            continue_final_message: true,
            add_generation_prompt: false,
            echo: false,
        }),
    };
    // Strings and numbers: nothing here can fail.
    serde_json::to_vec(&request).unwrap_or_default()
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(default)]
    usage: Option<Counts>,
    #[serde(borrow, default)]
    error: Option<ErrorBody<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    /// What OpenAI's models say instead of an answer that they refuse.
    #[serde(borrow, default)]
    refusal: Option<Text<'a>>,
    /// DeepSeek's name, which most servers took over.
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    /// The same at OpenRouter and at newer vLLM; some send both.
    #[serde(borrow, default)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow, default)]
    annotations: Option<Vec<Annotation<'a>>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Default, Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    arguments: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    #[serde(borrow, default)]
    url_citation: Option<UrlCitation<'a>>,
}

#[derive(Deserialize)]
struct UrlCitation<'a> {
    #[serde(borrow, default)]
    url: Option<Text<'a>>,
    #[serde(borrow, default)]
    title: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

impl Event<'_> {
    /// The text, as it stands in the event, where that says nothing else that matters.
    fn only_text(&self) -> Option<&str> {
        let Self { choices: Some(choices), usage: None, error: None, .. } = self else {
            return None;
        };
        let [Choice { index: 0, delta: Some(delta), finish_reason: None }] = &choices[..] else {
            return None;
        };
        match delta {
            Delta {
                content: Some(Text(Cow::Borrowed(text))),
                refusal: None,
                reasoning_content: None,
                reasoning: None,
                tool_calls: None,
                annotations: None,
            } => Some(text),
            _ => None,
        }
    }
}

/// Reads the data of one event.
///
/// # Errors
/// What the event says went wrong, or that it cannot be read.
pub(super) fn read(data: &str, answer: &mut Answer) -> Result<(), UpstreamError> {
    if let Some(text) = answer.alike.text(data) {
        answer.text(text);
        return Ok(());
    }
    if data == DONE {
        answer.finish();
        return Ok(());
    }
    let event: Event<'_> = serde_json::from_str(data).map_err(|error| unreadable(&error))?;
    if let Some(text) = event.only_text() {
        answer.alike.keep(data, text);
    }
    if let Some(error) = event.error {
        return Err(error.within_stream());
    }
    if answer.model.is_empty()
        && let Some(model) = event.model
    {
        answer.model = model.0.into_owned();
    }
    if let Some(Counts { prompt_tokens, completion_tokens }) = event.usage {
        let (prompt_tokens, completion_tokens) =
            (prompt_tokens.unwrap_or_default(), completion_tokens.unwrap_or_default());
        answer.usage = Some(Usage { prompt_tokens, completion_tokens });
    }
    for choice in event.choices.into_iter().flatten().filter(|choice| choice.index == 0) {
        if let Some(delta) = choice.delta {
            read_delta(&delta, answer)?;
        }
        if let Some(reason) = choice.finish_reason {
            answer.reason = Some(reason_of(&reason.0));
        }
    }
    Ok(())
}

fn read_delta(delta: &Delta<'_>, answer: &mut Answer) -> Result<(), UpstreamError> {
    let thoughts = [said(&delta.reasoning_content), said(&delta.reasoning)].into_iter().flatten();
    if let Some(thought) = thoughts.into_iter().find(|thought| !thought.is_empty()) {
        answer.thinking(thought);
    }
    for text in [said(&delta.content), said(&delta.refusal)].into_iter().flatten() {
        answer.text(text);
    }
    for ToolCall { index, id, function } in delta.tool_calls.iter().flatten() {
        let name = function.as_ref().and_then(|function| said(&function.name));
        let arguments = function.as_ref().and_then(|function| said(&function.arguments));
        answer.tool(*index, said(id), name, arguments.unwrap_or_default())?;
    }
    for source in delta.annotations.iter().flatten().filter_map(|note| note.url_citation.as_ref()) {
        let (url, title) = (said(&source.url), said(&source.title));
        answer.citation(&Source { url, title, cited_text: None });
    }
    Ok(())
}

fn reason_of(reason: &str) -> Reason {
    match reason {
        "length" => Reason::Length,
        "tool_calls" | "function_call" => Reason::ToolUse,
        "content_filter" => Reason::ContentFilter,
        _ => Reason::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::answer::tests::drain;
    use crate::upstream::prompt::tests::ask;
    use serde_json::{Value, json};

    fn body(provider: &Provider, model: &str, prefix: &str) -> Value {
        serde_json::from_slice(&request(provider, model, &ask(), prefix)).unwrap()
    }

    #[test]
    fn a_request_carries_the_conversation_and_the_options() {
        let provider = Provider { max_tokens: Some(7), ..Provider::default() };
        let expected = json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true},
            "temperature": 0.5, "max_tokens": 7,
            "messages": [
                {"role": "assistant", "content": "earlier"},
                {"role": "user", "content": "before"},
                {"role": "assistant", "content": "answered"},
                {"role": "user", "content": "now"},
            ],
        });
        assert_eq!(body(&provider, "m", ""), expected);
        let newer = Provider { max_completion_tokens: true, ..provider };
        let body = body(&newer, "", "");
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(7), None));
        assert_eq!(body.get("model"), None);
    }

    #[test]
    fn each_way_to_go_on_has_its_words() {
        let with = |continues| {
            let body = body(&Provider { continues, ..Provider::default() }, "m", "so far \n");
            let last = body["messages"].as_array().unwrap().last().unwrap().clone();
            let flags = ["continue_final_message", "add_generation_prompt", "echo"];
            (last, flags.map(|flag| body.get(flag).cloned()))
        };
        let plain = json!({"role": "assistant", "content": "so far"});
        assert_eq!(with(ContinueBy::Prefill), (plain.clone(), [None, None, None]));
        let flags = [true, false, false].map(|flag| Some(json!(flag)));
        assert_eq!(with(ContinueBy::FinalMessage), (plain, flags));
        let marked = json!({"role": "assistant", "content": "so far", "prefix": true});
        assert_eq!(with(ContinueBy::Prefix), (marked, [None, None, None]));
        let provider = Provider { continues: ContinueBy::FinalMessage, ..Provider::default() };
        let nothing = body(&provider, "m", " \n");
        assert_eq!(nothing["messages"].as_array().unwrap().len(), 4, "blanks are no message");
        assert_eq!(nothing.get("continue_final_message"), None);
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
            r#"{"id":"1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
            r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm","reasoning":"hm"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"H\u00e4llo\n```x"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"another answer"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":null,"annotations":[{"type":"url_citation","url_citation":{"url":"https://a.example","title":"A"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}}"#,
            "[DONE]",
            "[DONE]",
        ]);
        let expected = [
            "THINKING hm",
            "TEXT Hällo\n",
            "CODE ```x",
            r#"CITATION https://a.example {"url":"https://a.example","title":"A"}"#,
            "length gpt-x 5+9",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn tool_calls_come_in_parts() {
        let seen = reading(&[
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"finish_reason":"tool_calls"}]}"#,
            "[DONE]",
        ]);
        let f = r#"{"callId":"c","name":"f"}"#;
        let expected =
            [format!("TOOL_USE {{\"a\": {f}"), format!("TOOL_USE 1}} {f}"), "tool_use  0+2".into()];
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_error_or_nonsense_ends_it_without_a_quotation() {
        let mut answer = Answer::after("", false);
        let error = read(r#"{"error":{"message":"x","code":503}}"#, &mut answer).unwrap_err();
        assert!(matches!(error, UpstreamError::Unavailable(_)), "{error}");
        let secret = r#"{"choices":"hunter2"}"#;
        let error = read(secret, &mut answer).unwrap_err().to_string();
        assert!(error.contains("cannot be read") && !error.contains("hunter2"), "{error}");
        assert!(read("", &mut answer).is_err());
    }

    #[test]
    fn every_finish_reason_has_a_name() {
        for (reason, expected) in [
            ("stop", Reason::Stop),
            ("length", Reason::Length),
            ("tool_calls", Reason::ToolUse),
            ("content_filter", Reason::ContentFilter),
            ("something new", Reason::Stop),
        ] {
            assert_eq!(reason_of(reason), expected);
        }
    }
}
