//! What several devices hold of one message, and what the read side says, must be the same.

use super::{Transcript, Verdict};
use protocol::Index;
use protocol::http::MessageView;

/// Devices of one message must hold the same; counts those that differ from the longest one.
pub fn agree(transcripts: &[&Transcript]) -> Verdict {
    let mut verdict = Verdict::default();
    let longest = transcripts.iter().max_by_key(|transcript| transcript.tail());
    let Some(longest) = longest else { return verdict };
    for (device, transcript) in transcripts.iter().enumerate() {
        let both_ended = transcript.end.is_some() && longest.end.is_some();
        let differs = transcript.log.first_difference(&longest.log);
        if let Some(index) = differs {
            verdict.disagree += 1;
            verdict.note(|| format!("{}: device {device} differs at {index}", longest.message));
        } else if both_ended && transcript.tail() != longest.tail() {
            verdict.disagree += 1;
            let (tail, most) = (transcript.tail(), longest.tail());
            verdict.note(|| format!("{}: device {device} holds {tail} of {most}", longest.message));
        } else if both_ended && transcript.end != longest.end {
            verdict.disagree += 1;
            verdict.note(|| format!("{}: device {device} saw another end", longest.message));
        }
    }
    verdict
}

/// Devices of one message must hold the same as far as both hold it; counts those that differ from the
/// longest one. For answers that not every device could read to its end.
pub fn agree_as_far(transcripts: &[&Transcript]) -> Verdict {
    let mut verdict = Verdict::default();
    let longest = transcripts.iter().max_by_key(|transcript| transcript.tail());
    let Some(longest) = longest else { return verdict };
    for (device, transcript) in transcripts.iter().enumerate() {
        if let Some(index) = transcript.log.first_difference(&longest.log) {
            verdict.disagree += 1;
            verdict.note(|| format!("{}: device {device} differs at {index}", longest.message));
        }
    }
    verdict
}

/// A device that has ended must hold what `GET /api/v1/messages/{id}` says.
pub fn agrees_with(transcript: &Transcript, view: &MessageView) -> Verdict {
    let mut verdict = Verdict::default();
    let message = transcript.message;
    let mut differs = |what: &str| {
        verdict.disagree += 1;
        verdict.note(|| format!("{message}: GET has another {what}"));
    };
    if view.total_chunks != transcript.tail() {
        differs("totalChunks");
    }
    if transcript.digest().is_some_and(|own| own != view.digest) {
        differs("digest");
    }
    if transcript.log.base() == Index::ZERO && view.content != transcript.content() {
        differs("content");
    }
    verdict
}
