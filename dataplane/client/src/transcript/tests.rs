//! Every kind of violation is caught; valid histories are accepted.

use super::*;
use proptest::prelude::*;
use protocol::http::MessageView;
use protocol::server_frame::{ChunkData, ChunksData, Source, Status, TakeoverMode};
use protocol::{Chunk, ConversationId, Usage};

const TOKENS: u64 = 12;

fn message() -> MessageId {
    MessageId::parse("018f4d5e-0000-7000-8000-000000000001").unwrap()
}

fn directive() -> Directive {
    Directive::parse(&format!("[sim tokens={TOKENS} seed=7 vary=epoch]")).unwrap()
}

fn wire(index: u64, epoch: u64) -> WireChunk {
    let chunk = directive().chunk(Index(index), Epoch(epoch));
    WireChunk { kind: chunk.kind, content: chunk.content, metadata: None }
}

fn chunk(index: u64, epoch: u64) -> ServerFrame {
    ServerFrame::Chunk(ChunkData {
        message_id: message(),
        index: Index(index),
        chunk: wire(index, epoch),
        epoch: Epoch(epoch),
    })
}

fn digest(epochs: &[u64]) -> Digest {
    let chunks = epochs.iter().enumerate().map(|(i, epoch)| wire(i as u64, *epoch).to_chunk());
    Digest::EMPTY.with_all(chunks.collect::<Vec<Chunk>>().iter())
}

fn complete(epochs: &[u64]) -> ServerFrame {
    let whole = epochs.len() as u64 == TOKENS;
    ServerFrame::Complete(Complete {
        message_id: message(),
        conversation_id: ConversationId(message().0),
        status: if whole { SealStatus::Completed } else { SealStatus::Cancelled },
        total_chunks: Index(epochs.len() as u64),
        digest: digest(epochs),
        finish_reason: "stop".into(),
        model: "sim".into(),
        usage: Usage::default(),
        latency_ms: 1,
        first_token_ms: None,
        code: None,
        retryable: None,
        content: None,
    })
}

fn recovery(from: u64, epochs: &[u64]) -> ServerFrame {
    ServerFrame::Recovery(Recovery {
        message_id: message(),
        status: RecoveryStatus::Recovered,
        from: Index(from),
        tail: Index(epochs.len() as u64),
        epoch: Epoch(1),
        live: true,
        digest: digest(&epochs[..from as usize]),
        source: Source::Memory,
    })
}

fn reset(to: u64, reason: ResetReason) -> ServerFrame {
    ServerFrame::Reset(Reset {
        message_id: message(),
        reason,
        truncate_to: Index(to),
        epoch: Epoch(2),
    })
}

fn takeover(epoch: u64) -> ServerFrame {
    ServerFrame::Takeover(Takeover {
        message_id: message(),
        epoch: Epoch(epoch),
        from: Index(0),
        mode: TakeoverMode::Continue,
    })
}

fn whole() -> Vec<ServerFrame> {
    let mut frames: Vec<_> = (0..TOKENS).map(|i| chunk(i, 1)).collect();
    frames.push(complete(&[1; TOKENS as usize]));
    frames
}

fn fed(frames: &[ServerFrame]) -> Transcript {
    let mut transcript = Transcript::new(message(), Some(directive()));
    transcript.on_follow(0, Index::ZERO);
    frames.iter().for_each(|frame| transcript.on_frame(0, frame));
    transcript
}

fn judged(frames: &[ServerFrame]) -> Verdict {
    fed(frames).verdict()
}

#[track_caller]
fn assert_clean(verdict: &Verdict) {
    assert!(verdict.is_clean(Allowed::default()), "{verdict:#?}");
}

#[test]
fn a_whole_answer_is_clean() {
    let verdict = judged(&whole());
    assert_clean(&verdict);
    assert_eq!((verdict.completed, verdict.chunks, verdict.transcripts), (1, TOKENS, 1));
}

#[test]
fn chunks_travel_together() {
    let chunks = (0..TOKENS).map(|i| wire(i, 1)).collect();
    let body = ChunksData { message_id: message(), epoch: Epoch(1), index: Index(0), chunks };
    assert_clean(&judged(&[ServerFrame::Chunks(body.clone()), complete(&[1; 12])]));
    let empty = ChunksData { chunks: Vec::new(), ..body };
    assert_eq!(judged(&[ServerFrame::Chunks(empty)]).malformed, 1);
}

#[test]
fn a_missing_chunk_is_lost() {
    let mut frames = whole();
    frames.remove(4);
    assert_eq!(judged(&frames).lost, 1);
    let mut frames = whole();
    frames.remove(TOKENS as usize - 1);
    assert_eq!(judged(&frames).lost, 1);
}

#[test]
fn a_repeated_chunk_is_twice_and_a_late_one_out_of_order() {
    let mut frames = whole();
    frames.insert(5, chunk(2, 1));
    assert_eq!(judged(&frames).twice, 1);
    let mut frames = whole();
    frames.swap(4, 5);
    let verdict = judged(&frames);
    assert_eq!((verdict.out_of_order, verdict.lost, verdict.twice), (1, 0, 0));
}

#[test]
fn a_foreign_text_is_a_phantom_and_breaks_the_digest() {
    let mut frames = whole();
    if let ServerFrame::Chunk(body) = &mut frames[3] {
        body.chunk.content = "other".into();
    }
    let verdict = judged(&frames);
    assert_eq!((verdict.phantom, verdict.digest_mismatch), (1, 1));
}

#[test]
fn a_text_under_the_wrong_epoch_is_a_phantom() {
    let mut frames = whole();
    if let ServerFrame::Chunk(body) = &mut frames[3] {
        body.epoch = Epoch(2);
    }
    assert_eq!(judged(&frames).phantom, 1);
}

#[test]
fn a_chunk_beyond_the_tokens_is_a_phantom() {
    let mut frames = whole();
    frames.insert(TOKENS as usize, chunk(TOKENS, 1));
    assert_eq!(judged(&frames).phantom, 2, "by the directive and by COMPLETE");
}

#[test]
fn an_epoch_that_falls_is_a_mixture() {
    let epochs = [1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    let mut frames: Vec<_> = (0..TOKENS).map(|i| chunk(i, epochs[i as usize])).collect();
    frames.push(complete(&epochs));
    let verdict = judged(&frames);
    assert_eq!((verdict.mixed, verdict.phantom, verdict.digest_mismatch), (1, 0, 0));
}

#[test]
fn an_epoch_that_rises_is_a_takeover() {
    let epochs = [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 4, 4];
    let mut frames: Vec<_> = (0..TOKENS).map(|i| chunk(i, epochs[i as usize])).collect();
    frames.insert(5, takeover(2));
    frames.insert(5, takeover(2));
    frames.push(complete(&epochs));
    let verdict = judged(&frames);
    assert_clean(&verdict);
    assert_eq!(verdict.takeovers, 1);
}

#[test]
fn an_answer_without_end_is_counted() {
    let mut frames = whole();
    frames.pop();
    assert_eq!(judged(&frames).without_end, 1);
}

#[test]
fn nothing_may_follow_the_end() {
    for late in [chunk(0, 1), complete(&[1; 12]), takeover(2)] {
        let mut frames = whole();
        frames.push(late);
        assert_eq!(judged(&frames).after_end, 1);
    }
    let mut frames = whole();
    let state = StreamState::Sealed;
    frames.push(ServerFrame::Status(Status { message_id: message(), state, reason: None }));
    assert_clean(&judged(&frames));
}

#[test]
fn a_short_completed_answer_is_lost() {
    let mut frames: Vec<_> = (0..4).map(|i| chunk(i, 1)).collect();
    let ServerFrame::Complete(mut end) = complete(&[1; 4]) else { panic!() };
    frames.push(ServerFrame::Complete(end.clone()));
    assert_clean(&judged(&frames));
    end.status = SealStatus::Completed;
    frames[4] = ServerFrame::Complete(end);
    assert_eq!(judged(&frames).lost, TOKENS - 4);
}

#[test]
fn a_reset_voids_what_came_and_is_counted_by_reason() {
    let mut frames: Vec<_> = (0..6).map(|i| chunk(i, 1)).collect();
    frames.push(reset(0, ResetReason::Restarted));
    frames.extend((0..TOKENS).map(|i| chunk(i, 2)));
    frames.push(complete(&[2; 12]));
    let verdict = judged(&frames);
    assert_eq!((verdict.resets_restarted, verdict.lost, verdict.twice), (1, 0, 0));
    assert!(!verdict.is_clean(Allowed::default()));
    assert!(verdict.is_clean(Allowed { restarted: true, ..Allowed::default() }));
    frames[6] = reset(0, ResetReason::RolledBack);
    assert!(!judged(&frames).is_clean(Allowed { restarted: true, ..Allowed::default() }));
}

#[test]
fn a_partial_reset_keeps_the_prefix() {
    let mut frames: Vec<_> = (0..6).map(|i| chunk(i, 1)).collect();
    frames.push(reset(4, ResetReason::Restarted));
    frames.extend((4..TOKENS).map(|i| chunk(i, 2)));
    frames.push(complete(&[1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]));
    assert!(judged(&frames).is_clean(Allowed { restarted: true, ..Allowed::default() }));
    frames[6] = reset(9, ResetReason::Restarted);
    assert!(judged(&frames).malformed > 0, "a RESET ahead of the follow");
}

#[test]
fn another_socket_may_deliver_again_but_only_the_same() {
    let mut transcript = Transcript::new(message(), Some(directive()));
    transcript.on_follow(0, Index::ZERO);
    (0..6).for_each(|i| transcript.on_frame(0, &chunk(i, 1)));
    transcript.on_follow(1, Index(4));
    transcript.on_frame(0, &chunk(6, 1));
    transcript.on_frame(1, &recovery(4, &[1; 7]));
    (4..TOKENS).for_each(|i| transcript.on_frame(1, &chunk(i, 1)));
    transcript.on_frame(0, &chunk(7, 1));
    transcript.on_frame(1, &complete(&[1; 12]));
    let verdict = transcript.verdict();
    assert_clean(&verdict);
    assert_eq!(verdict.redelivered, 3);
    let mut other = Transcript::new(message(), Some(directive()));
    other.on_follow(0, Index::ZERO);
    (0..6).for_each(|i| other.on_frame(0, &chunk(i, 1)));
    other.on_follow(1, Index(4));
    other.on_frame(1, &chunk(4, 2));
    assert_eq!(other.verdict().mixed, 1);
}

#[test]
fn a_resume_must_begin_where_it_was_asked_for() {
    let resumed = |frames: &[ServerFrame]| {
        let mut transcript = Transcript::new(message(), Some(directive()));
        transcript.on_follow(0, Index::ZERO);
        (0..6).for_each(|i| transcript.on_frame(0, &chunk(i, 1)));
        transcript.on_closed(0);
        transcript.on_follow(1, Index(6));
        frames.iter().for_each(|frame| transcript.on_frame(1, frame));
        transcript.verdict()
    };
    assert_eq!(resumed(&[recovery(6, &[1; 9]), chunk(6, 1)]).malformed, 0);
    assert_eq!(resumed(&[recovery(6, &[1; 9]), chunk(7, 1)]).lost, 1);
    assert_eq!(resumed(&[recovery(6, &[1; 9]), chunk(5, 1)]).twice, 1);
    assert_eq!(resumed(&[recovery(6, &[2; 9])]).digest_mismatch, 1);
    assert_eq!(resumed(&[recovery(4, &[1; 9]), chunk(4, 1)]).malformed, 1);
    let told = resumed(&[recovery(0, &[2; 9]), reset(0, ResetReason::RolledBack), chunk(0, 2)]);
    assert_eq!((told.malformed, told.mixed, told.resets_rolled_back), (0, 0, 1));
    let told = resumed(&[reset(0, ResetReason::RolledBack), recovery(0, &[2; 9]), chunk(0, 2)]);
    assert_eq!((told.malformed, told.mixed, told.resets_rolled_back), (0, 0, 1));
}

#[test]
fn a_new_follow_on_the_same_socket_begins_with_its_recovery() {
    let mut transcript = fed(&[chunk(0, 1), chunk(1, 1)]);
    transcript.on_follow(0, Index(1));
    transcript.on_frame(0, &chunk(2, 1));
    transcript.on_frame(0, &recovery(1, &[1; 3]));
    transcript.on_frame(0, &chunk(1, 1));
    let verdict = transcript.verdict();
    assert_eq!((verdict.twice, verdict.malformed, verdict.redelivered), (0, 0, 1));
}

#[test]
fn a_device_that_joins_late_checks_the_digest_from_the_recovery() {
    let joined = |claimed: &[u64]| {
        let mut transcript = Transcript::new(message(), Some(directive()));
        transcript.on_follow(0, Index(4));
        transcript.on_frame(0, &recovery(4, claimed));
        (4..TOKENS).for_each(|i| transcript.on_frame(0, &chunk(i, 1)));
        transcript.on_frame(0, &complete(&[1; 12]));
        transcript.verdict()
    };
    assert_clean(&joined(&[1; 12]));
    assert_eq!(joined(&[2; 12]).digest_mismatch, 1);
}

#[test]
fn after_unfollow_frames_on_their_way_are_ignored() {
    let mut transcript = fed(&[chunk(0, 1)]);
    transcript.on_unfollow(0);
    transcript.on_frame(0, &chunk(1, 1));
    let verdict = transcript.verdict();
    assert_eq!((verdict.malformed, verdict.after_end, verdict.chunks), (0, 0, 1));
}

#[test]
fn a_final_error_ends_the_follow_and_only_a_lasting_one_the_answer() {
    let refused = ServerFrame::Error(ErrorData::last(ErrorCode::NotFound, message()));
    let verdict = judged(&[chunk(0, 1), refused]);
    assert_eq!((verdict.failed, verdict.without_end), (1, 0));
    let draining = ServerFrame::Error(ErrorData::last(ErrorCode::Draining, message()));
    assert_eq!(judged(&[chunk(0, 1), draining.clone()]).without_end, 1);
    assert_eq!(judged(&[chunk(0, 1), draining, chunk(1, 1)]).after_end, 1);
}

#[test]
fn frames_on_a_socket_that_does_not_follow_are_malformed() {
    let mut transcript = Transcript::new(message(), None);
    transcript.on_frame(3, &chunk(0, 1));
    assert_eq!(transcript.verdict().malformed, 1);
}

#[test]
fn devices_agree_or_not() {
    let (one, two) = (fed(&whole()), fed(&whole()));
    assert_eq!(agree(&[&one, &two]).disagree, 0);
    let mut frames: Vec<_> = (0..TOKENS).map(|i| chunk(i, 2)).collect();
    frames.push(complete(&[2; 12]));
    assert_eq!(agree(&[&one, &fed(&frames)]).disagree, 1);
    let prefix = fed(&whole()[..5]);
    assert_eq!(agree(&[&one, &prefix]).disagree, 0, "a prefix without end is not a difference");
    let shorter = fed(&[chunk(0, 1), complete(&[1])]);
    assert_eq!(agree(&[&one, &shorter]).disagree, 1);
}

#[test]
fn devices_that_could_not_read_all_agree_as_far_as_they_read() {
    let whole = fed(&whole());
    let short = fed(&[chunk(0, 1), chunk(1, 1)]);
    assert_eq!(agree_as_far(&[&whole, &short]).disagree, 0);
    let other = fed(&[chunk(0, 1), chunk(1, 2)]);
    assert_eq!(agree_as_far(&[&whole, &other, &short]).disagree, 1);
}

fn refused(code: ErrorCode) -> ServerFrame {
    let message_id = Some(message());
    ServerFrame::Error(ErrorData { message_id, last: true, ..ErrorData::new(code) })
}

#[test]
fn what_is_lost_with_its_owner_may_be_refused_interrupted_or_reset_and_nothing_else() {
    let lost = |frames: &[ServerFrame]| fed(frames).verdict_if_lost();
    let begun = [chunk(0, 1), chunk(1, 1)];
    let gone = [&begun[..], &[refused(ErrorCode::NotFound)]].concat();
    assert_clean(&lost(&gone));
    assert_eq!(judged(&gone).failed, 1, "in any other run it is a fault");
    let again = (0..TOKENS).map(|i| chunk(i, 2));
    let mut began_again = [&begun[..], &[reset(0, ResetReason::RolledBack)]].concat();
    began_again.extend(again);
    began_again.push(complete(&[2; TOKENS as usize]));
    assert_clean(&lost(&began_again));
    let mut interrupted = begun.to_vec();
    interrupted.push(match complete(&[1, 1]) {
        ServerFrame::Complete(body) => ServerFrame::Complete(Complete {
            status: SealStatus::Failed,
            code: Some(ErrorCode::Interrupted),
            ..body
        }),
        other => other,
    });
    assert_clean(&lost(&interrupted));

    assert_eq!(lost(&begun).without_end, 1, "silence is a fault");
    assert_eq!(lost(&[refused(ErrorCode::Expired)]).failed, 1);
    assert_eq!(lost(&[chunk(1, 1), refused(ErrorCode::NotFound)]).lost, 1);
    assert_eq!(lost(&[&begun[..], &[complete(&[1; TOKENS as usize])]].concat()).lost, TOKENS - 2);
}

#[test]
fn the_read_side_must_say_the_same() {
    let transcript = fed(&whole());
    let mut view = MessageView {
        message_id: message(),
        conversation_id: ConversationId(message().0),
        role: "assistant".into(),
        status: protocol::http::MessageStatus::Completed,
        content: transcript.content(),
        total_chunks: Index(TOKENS),
        digest: digest(&[1; 12]),
        epoch: Epoch(1),
    };
    assert_eq!(agrees_with(&transcript, &view).disagree, 0);
    view.content.push('x');
    view.total_chunks = Index(3);
    assert_eq!(agrees_with(&transcript, &view).disagree, 2);
}

#[test]
fn verdicts_add_up() {
    let mut sum = judged(&whole());
    sum.merge(&judged(&whole()[..4]));
    assert_eq!((sum.transcripts, sum.without_end, sum.chunks), (2, 1, TOKENS + 4));
    let text = serde_json::to_string(&sum).unwrap();
    assert!(text.contains("\"outOfOrder\":0"), "{text}");
    assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), sum);
}

/// A valid history: sockets that end anywhere, resumes that overlap, epochs that rise.
#[derive(Clone, Debug)]
struct History {
    epochs: Vec<u64>,
    /// Per cut: after how many chunks, and how many are asked for again.
    cuts: Vec<(usize, usize)>,
}

fn histories() -> impl Strategy<Value = History> {
    let rises = prop::collection::vec(prop::bool::weighted(0.2), TOKENS as usize);
    let cuts = prop::collection::vec((1..TOKENS as usize, 0..4_usize), 0..4);
    (rises, cuts).prop_map(|(rises, mut cuts)| {
        let mut epoch = 1;
        let epochs = rises.iter().map(|rise| {
            epoch += u64::from(*rise);
            epoch
        });
        let epochs = epochs.collect();
        cuts.sort_unstable();
        cuts.dedup_by_key(|cut| cut.0);
        History { epochs, cuts }
    })
}

/// The frames of the history with their sockets, and what the device noted before each.
fn play(history: &History) -> Vec<(SocketNo, Option<Index>, ServerFrame)> {
    let mut out = Vec::new();
    let (mut socket, mut from) = (0, 0);
    for (end, again) in history.cuts.iter().copied().chain([(TOKENS as usize, 0)]) {
        let begin = if socket == 0 { chunk(0, 1) } else { recovery(from as u64, &history.epochs) };
        let mut frames = Vec::new();
        if socket > 0 {
            frames.push(begin);
        }
        frames.extend((from..end).map(|i| chunk(i as u64, history.epochs[i])));
        for (k, frame) in frames.into_iter().enumerate() {
            out.push((socket, (k == 0).then_some(Index(from as u64)), frame));
        }
        from = end.saturating_sub(again);
        socket += 1;
    }
    out.push((socket - 1, None, complete(&history.epochs)));
    out
}

fn judge(frames: &[(SocketNo, Option<Index>, ServerFrame)], known: bool) -> Verdict {
    let mut transcript = Transcript::new(message(), known.then(directive));
    for (socket, follows, frame) in frames {
        if let Some(from) = follows {
            transcript.on_follow(*socket, *from);
        }
        transcript.on_frame(*socket, frame);
    }
    transcript.verdict()
}

proptest! {
    #[test]
    fn valid_histories_are_accepted(history in histories(), known: bool) {
        let verdict = judge(&play(&history), known);
        prop_assert!(verdict.is_clean(Allowed::default()), "{verdict:#?}");
    }

    #[test]
    fn a_single_mutation_is_caught(
        history in histories(),
        known: bool,
        at: prop::sample::Index,
        kind in 0..4_u8,
    ) {
        let mut frames = play(&history);
        let is_chunk = |frame: &ServerFrame| matches!(frame, ServerFrame::Chunk(_));
        let chunks: Vec<usize> =
            (0..frames.len()).filter(|i| is_chunk(&frames[*i].2)).collect();
        let at = chunks[at.index(chunks.len())];
        match kind {
            0 => {
                // Without its last chunk a cut socket is a socket cut earlier, which is valid.
                if frames[at + 1].0 != frames[at].0 {
                    return Ok(());
                }
                let follows = frames.remove(at).1;
                // The device's own note stays where it was.
                if follows.is_some() && frames[at].1.is_none() {
                    frames[at].1 = follows;
                }
            }
            1 => {
                let (socket, _, frame) = frames[at].clone();
                frames.insert(at + 1, (socket, None, frame));
            }
            2 => {
                let next = (at + 1 < frames.len() && frames[at + 1].0 == frames[at].0)
                    .then_some(at + 1)
                    .filter(|next| is_chunk(&frames[*next].2));
                let Some(next) = next else { return Ok(()) };
                let first = frames[at].2.clone();
                frames[at].2 = std::mem::replace(&mut frames[next].2, first);
            }
            _ => {
                if let ServerFrame::Chunk(body) = &mut frames[at].2 {
                    body.chunk.content = format!("{}!", body.chunk.content).into();
                }
            }
        }
        let verdict = judge(&frames, known);
        prop_assert!(!verdict.is_clean(Allowed::default()), "{kind} at {at}: {frames:#?}");
    }
}
