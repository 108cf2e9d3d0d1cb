//! Shows one answer as it arrives: its text on stdout, everything else on stderr (or all of it as
//! NDJSON on stdout), and turns Ctrl-C into CANCEL_STREAM.

use crate::Global;
use crate::exit::Outcome;
use crate::output::{self, Paint};
use client::recorder::Recorder;
use client::session::{Event, Session};
use client::transcript::Verdict;
use protocol::server_frame::{Complete, StreamState};
use protocol::{ChunkType, ConversationId, MessageId, SealStatus};
use serde_json::{Value, json};
use tokio::time::Instant;

/// How to show an answer.
pub(crate) struct Screen {
    json: bool,
    out: Paint,
    note: Paint,
    /// Something was printed and the line is open.
    open_line: bool,
    reconnects: u32,
    takeovers: u32,
    began: Instant,
}

/// What came of it.
pub(crate) struct Shown {
    pub(crate) outcome: Outcome,
    pub(crate) conversation: Option<ConversationId>,
}

impl Screen {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            json: global.json,
            out: Paint::stdout(global),
            note: Paint::stderr(global),
            open_line: false,
            reconnects: 0,
            takeovers: 0,
            began: Instant::now(),
        }
    }

    /// Runs the session until the answer ends; the first Ctrl-C cancels it, the second quits.
    pub(crate) async fn show(
        &mut self,
        session: &mut Session<Recorder>,
        mut message: Option<MessageId>,
    ) -> anyhow::Result<Shown> {
        let mut conversation = None;
        let mut interrupted = false;
        loop {
            let event = tokio::select! {
                event = session.next() => event,
                signal = tokio::signal::ctrl_c() => {
                    signal?;
                    let Some(id) = message.filter(|_| !interrupted) else {
                        anyhow::bail!("interrupted");
                    };
                    interrupted = true;
                    self.say("cancelling; Ctrl-C again quits")?;
                    session.cancel(id);
                    continue;
                }
            };
            let Some(event) = event else { anyhow::bail!("the session is over") };
            self.event(&event)?;
            match event {
                Event::Accepted(body) => {
                    message = Some(body.message_id);
                    conversation = Some(body.conversation_id);
                }
                Event::Complete(body) => {
                    let conversation = conversation.or(Some(body.conversation_id));
                    let outcome = self.summary(session, &body)?;
                    return Ok(Shown { outcome, conversation });
                }
                Event::Failed(_) => return Ok(Shown { outcome: Outcome::Red, conversation }),
                Event::Stopped(stop) => return Err(stop.into()),
                _ => {}
            }
        }
    }

    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        if self.json {
            return output::json(&as_json(event));
        }
        match event {
            Event::Chunks { chunks, .. } => {
                let mut text = String::new();
                for chunk in chunks {
                    text.push_str(&match chunk.kind {
                        ChunkType::Text | ChunkType::Code => chunk.content.to_string(),
                        ChunkType::Thinking => self.out.dim(&chunk.content),
                        ChunkType::ToolUse | ChunkType::Citation => {
                            self.out.dim(&format!("[{}] ", chunk.kind.as_str()))
                        }
                    });
                }
                self.open_line = !text.ends_with('\n');
                output::print(&text)
            }
            Event::Connected { node, took, .. } if self.reconnects > 0 => {
                self.say(&format!("on {node} after {} ms", took.as_millis()))
            }
            Event::Reconnecting { attempt, delay, why } => {
                self.reconnects += 1;
                let ms = delay.as_millis();
                self.say(&format!("{why}; reconnecting in {ms} ms (attempt {attempt})"))
            }
            Event::Goaway(body) => {
                self.reconnects += 1;
                self.say(&format!("the node goes away ({}); moving on", body.reason))
            }
            Event::Takeover(body) => {
                self.takeovers += 1;
                let (epoch, from) = (body.epoch, body.from);
                self.say(&format!("another node goes on at chunk {from} (epoch {epoch})"))
            }
            Event::Reset(body) => {
                let to = body.truncate_to;
                self.warn(&format!("{:?}: chunks from {to} on are void", body.reason))
            }
            Event::Gap { expected, got, .. } => {
                self.warn(&format!("chunk {expected} expected, {got} came; asking again"))
            }
            Event::Status(body) if body.state == StreamState::Paused => {
                self.say("paused: the store is away; nothing is lost")
            }
            Event::Status(body) if body.state == StreamState::Waiting => {
                self.say("waiting for the provider")
            }
            Event::Warning(body) => self.say(&format!("{}: {}", body.code, body.error)),
            Event::Failed(body) => self.warn(&format!("{}: {}", body.code, body.error)),
            _ => Ok(()),
        }
    }

    fn summary(
        &mut self,
        session: &mut Session<Recorder>,
        end: &Complete,
    ) -> anyhow::Result<Outcome> {
        let transcript = session.observer().transcript(end.message_id);
        let verdict = transcript.map(client::transcript::Transcript::verdict).unwrap_or_default();
        let sound = verdict.violations().iter().all(|(name, count)| {
            // A rolled-back store was told and mended; the text is whole all the same.
            *count == 0 || *name == "resets rolled back"
        });
        let fine = sound && end.status != SealStatus::Failed;
        let outcome = if fine { Outcome::Fine } else { Outcome::Red };
        if self.json {
            return Ok(outcome);
        }
        let status = match (end.status, end.code) {
            (SealStatus::Failed, Some(code)) => format!("failed: {code}"),
            (SealStatus::Failed, None) => "failed".into(),
            (SealStatus::Completed, _) => "completed".into(),
            (SealStatus::Cancelled, _) => "cancelled".into(),
        };
        let digest = if sound { "digest ok".to_owned() } else { problems(&verdict) };
        let line = format!(
            "{status} · {} chunks · {} reconnects · {} takeovers · {digest} · {:.1} s · {}",
            end.total_chunks,
            self.reconnects,
            self.takeovers,
            self.began.elapsed().as_secs_f64(),
            end.message_id,
        );
        if fine {
            self.say(&line)?
        } else {
            self.warn(&line)?
        }
        Ok(outcome)
    }

    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let text = self.note.dim(text);
        self.line(&text)
    }

    fn warn(&mut self, text: &str) -> anyhow::Result<()> {
        let text = self.note.yellow(text);
        self.line(&text)
    }

    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        if std::mem::take(&mut self.open_line) {
            output::print("\n")?;
        }
        eprintln!("{text}");
        Ok(())
    }
}

fn problems(verdict: &Verdict) -> String {
    let found = verdict.violations().into_iter().filter(|(_, count)| *count > 0);
    let words = found.map(|(name, count)| format!("{count} {name}"));
    words.collect::<Vec<_>>().join(", ")
}

/// One event as one line of NDJSON; the names are the frames' where there is one.
pub(crate) fn as_json(event: &Event) -> Value {
    match event {
        Event::Connected { node, url, took } => {
            let ms = took.as_millis() as u64;
            json!({"event": "connected", "node": node, "url": url, "tookMs": ms})
        }
        Event::Accepted(body) => json!({"event": "accepted", "data": body}),
        Event::Chunks { message_id, index, epoch, chunks } => json!({
            "event": "chunks",
            "data": {"messageId": message_id, "index": index, "epoch": epoch, "chunks": chunks},
        }),
        Event::Recovered(body) => json!({"event": "recovery", "data": body}),
        Event::Reset(body) => json!({"event": "reset", "data": body}),
        Event::Takeover(body) => json!({"event": "takeover", "data": body}),
        Event::Status(body) => json!({"event": "status", "data": body}),
        Event::Gap { message_id, expected, got } => {
            json!({"event": "gap", "messageId": message_id, "expected": expected, "got": got})
        }
        // The resume token stays out of every output.
        Event::Goaway(body) => json!({"event": "goaway", "reason": body.reason}),
        Event::Reconnecting { attempt, delay, why } => {
            let ms = delay.as_millis() as u64;
            json!({"event": "reconnecting", "attempt": attempt, "delayMs": ms, "why": why})
        }
        Event::Complete(body) => json!({"event": "complete", "data": body}),
        Event::Failed(body) => json!({"event": "failed", "error": body.error, "data": body}),
        Event::Warning(body) => json!({"event": "warning", "error": body.error, "data": body}),
        Event::Stopped(stop) => json!({"event": "stopped", "why": stop.to_string()}),
    }
}
