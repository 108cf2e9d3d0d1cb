//! Reads one message every way there is, from the start on every node, over SSE and by GET, and
//! compares what came.

use crate::api::{Api, ApiError};
use crate::recorder::Recorder;
use crate::session::{Event, Observer, Options, Session};
use crate::token::{TokenError, TokenSource};
use crate::transcript::{Transcript, Verdict, agree, agrees_with};
use protocol::server_frame::ServerFrame;
use protocol::{Index, MessageId};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;
use std::time::Duration;

/// One way of reading and what it gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// The node's base URL.
    pub url: String,
    /// `websocket`, `sse` or `get`.
    pub way: &'static str,
    /// Chunks read.
    pub chunks: u64,
    /// Digest of what was read.
    pub digest: Option<String>,
    /// Why nothing was read.
    pub failure: Option<String>,
}

/// What all ways together say.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The message.
    pub message_id: MessageId,
    /// Each way on each node.
    pub readings: Vec<Reading>,
    /// What the transcripts say, and whether they agree.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Everything was read and agrees.
    pub green: bool,
}

/// Reads `message` on every node; a running answer is followed to its end, each way within `limit`.
///
/// # Errors
/// Where there is no token.
pub async fn run(
    http: &reqwest::Client,
    urls: &[String],
    tokens: &TokenSource,
    message: MessageId,
    limit: Duration,
) -> Result<Verified, TokenError> {
    let token = tokens.token().await?;
    let mut transcripts = Vec::new();
    let mut readings = Vec::new();
    let mut verdict = Verdict::default();
    for url in urls {
        let api = Api::new(http.clone(), url, &token);
        let ways = [
            ("websocket", Box::pin(over_websocket(url, &token, message, limit)).await),
            ("sse", Box::pin(over_sse(&api, message, limit)).await),
        ];
        for (way, result) in ways {
            let (transcript, failure) = match result {
                Ok(transcript) => (Some(transcript), None),
                Err(why) => (None, Some(why)),
            };
            readings.push(reading(url, way, transcript.as_ref(), failure));
            if let Some(transcript) = transcript {
                verdict.merge(&transcript.verdict());
                transcripts.push(transcript);
            }
        }
        readings.push(by_get(&api, url, message, &transcripts, &mut verdict).await);
    }
    verdict.merge(&agree(&transcripts.iter().collect::<Vec<_>>()));
    let whole = readings.iter().all(|reading| reading.failure.is_none()) && !readings.is_empty();
    let sound = verdict.violations().iter().all(|(_, count)| *count == 0);
    Ok(Verified { message_id: message, readings, verdict, green: whole && sound })
}

fn reading(
    url: &str,
    way: &'static str,
    transcript: Option<&Transcript>,
    failure: Option<String>,
) -> Reading {
    Reading {
        url: url.to_owned(),
        way,
        chunks: transcript.map_or(0, |transcript| transcript.tail().0),
        digest: transcript.and_then(Transcript::digest).map(|digest| digest.to_string()),
        failure,
    }
}

async fn over_websocket(
    url: &str,
    token: &str,
    message: MessageId,
    limit: Duration,
) -> Result<Transcript, String> {
    let mut options = Options::new(vec![url.to_owned()]);
    options.give_up_after = Some(limit.min(Duration::from_secs(10)));
    // One node and no chance of another: the jitter needs no seed.
    let rng = SmallRng::seed_from_u64(0);
    let tokens = TokenSource::Fixed(token.to_owned());
    let mut session = Session::new(options, tokens, rng, Recorder::default());
    session.follow(message, Index::ZERO);
    let end = async {
        loop {
            match session.next().await {
                Some(Event::Complete(_)) => return Ok(()),
                Some(Event::Failed(body)) => return Err(format!("{}: {}", body.code, body.error)),
                Some(Event::Stopped(stop)) => return Err(stop.to_string()),
                None => return Err("the session ended".to_owned()),
                Some(_) => {}
            }
        }
    };
    let ended = tokio::time::timeout(limit, Box::pin(end)).await;
    let mut recorder = session.close().await;
    ended.map_err(|_| format!("no end within {limit:?}"))??;
    Ok(recorder.take(message))
}

async fn over_sse(api: &Api, message: MessageId, limit: Duration) -> Result<Transcript, String> {
    let mut recorder = Recorder::default();
    let read = async {
        let mut follow = api.follow(message, None).await?;
        recorder.on_follow(0, message, Index::ZERO);
        while let Some(event) = follow.next().await? {
            recorder.on_frame(0, &event.frame);
            if let ServerFrame::Error(body) = &event.frame {
                return Ok(Some(format!("{}: {}", body.code, body.error)));
            }
        }
        Ok::<_, ApiError>(None)
    };
    let read = tokio::time::timeout(limit, Box::pin(read)).await;
    match read.map_err(|_| format!("no end within {limit:?}"))? {
        Ok(None) => Ok(recorder.take(message)),
        Ok(Some(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}

async fn by_get(
    api: &Api,
    url: &str,
    message: MessageId,
    transcripts: &[Transcript],
    verdict: &mut Verdict,
) -> Reading {
    let mut reading = reading(url, "get", None, None);
    match api.message(message).await {
        Ok(view) => {
            reading.chunks = view.total_chunks.0;
            reading.digest = Some(view.digest.to_string());
            for transcript in transcripts.iter().filter(|transcript| transcript.end().is_some()) {
                verdict.merge(&agrees_with(transcript, &view));
            }
        }
        Err(error) => reading.failure = Some(error.to_string()),
    }
    reading
}
