//! One message over Server-Sent Events: events as the frames they carry, and the id to resume with.

use super::ApiError;
use futures_util::{Stream, StreamExt};
use protocol::ServerFrame;
use reqwest::Response;
use serde_json::value::RawValue;
use sse_stream::{Sse, SseByteStream};
use std::fmt;
use std::pin::Pin;

/// Largest `data` of one event, in bytes.
const MAX_EVENT: usize = 256 * 1024;

type Events = Pin<Box<dyn Stream<Item = Result<Sse, String>> + Send>>;

/// One event.
#[derive(Clone, Debug)]
pub struct SseEvent {
    /// `<epoch>.<index>`, or `<epoch>.end`.
    pub id: Option<String>,
    /// The frame whose `data` it carries.
    pub frame: ServerFrame,
}

/// An open SSE response.
pub struct SseFollow {
    url: String,
    ended: bool,
    events: Events,
}

impl fmt::Debug for SseFollow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SseFollow({})", self.url)
    }
}

impl SseFollow {
    pub(super) fn new(response: Response) -> Self {
        let url = super::address(response.url());
        let ended = response.status().as_u16() == 204;
        let events = SseByteStream::new(response.bytes_stream());
        let events = events.map(|event| event.map_err(|error| error.to_string()));
        Self { url, ended, events: Box::pin(events) }
    }

    /// The next event; `None` at the end of the response (204 included).
    ///
    /// # Errors
    /// [`ApiError::Unreachable`] for a response that breaks off, [`ApiError::Shape`] for an event
    /// that carries no frame.
    pub async fn next(&mut self) -> Result<Option<SseEvent>, ApiError> {
        if self.ended {
            return Ok(None);
        }
        while let Some(event) = self.events.next().await {
            let event =
                event.map_err(|why| ApiError::Unreachable { url: self.url.clone(), why })?;
            let Some(data) = event.data else { continue };
            let kind = event.event.unwrap_or_default();
            let frame = frame(&kind, &data)
                .map_err(|why| ApiError::Shape { url: self.url.clone(), why })?;
            return Ok(Some(SseEvent { id: event.id, frame }));
        }
        self.ended = true;
        Ok(None)
    }
}

/// An event is a frame whose type is the event's name in upper case.
fn frame(kind: &str, data: &str) -> Result<ServerFrame, String> {
    if data.len() > MAX_EVENT {
        return Err(format!("an event of {} bytes", data.len()));
    }
    let data: &RawValue = serde_json::from_str(data).map_err(|error| error.to_string())?;
    let kind = kind.to_ascii_uppercase();
    // The envelope's timestamp is not sent over SSE.
    let text =
        format!("{{\"type\":\"{kind}\",\"timestamp\":\"1970-01-01T00:00:00Z\",\"data\":{data}}}");
    ServerFrame::parse(&text).map(|(frame, _)| frame).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_carry_frames() {
        let data = r#"{"messageId":"018f4d5e-0000-7000-8000-000000000001","index":3,"type":"TEXT","content":"hi","epoch":1}"#;
        assert!(matches!(frame("chunk", data), Ok(ServerFrame::Chunk(body)) if body.index.0 == 3));
        assert!(frame("chunk", "{").is_err());
        assert!(frame("other", "{}").is_err());
    }
}
