//! One socket of dialect v1: the reference client, watched by the oracle.

use super::{Pace, Place, Told};
use crate::recorder::Recorder;
use crate::session::{Event, Options, Session};
use crate::transcript::{Transcript, Verdict};
use protocol::{ChatOptions, ChatRequest, MessageId, OnDisconnect};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Answers that are remembered after their end.
const KEPT: usize = 4;
/// After a session was ended for good.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks until the run ends.
pub(super) async fn run(place: Place) {
    let mut rng = SmallRng::seed_from_u64(place.seed());
    while !place.is_ending() {
        let mut options = Options::new(place.options.urls.clone());
        options.first = place.number;
        // What takes too long hangs, and is counted as that.
        options.give_up_after = None;
        let tokens = place.options.tokens.clone();
        let mut session =
            Session::new(options, tokens, SmallRng::from_rng(&mut rng), Recorder::default());
        let mut judged = VecDeque::new();
        while !place.is_ending() {
            if answer(&place, &mut session, &mut judged).await.is_none() {
                sleep(PAUSE).await;
                break;
            }
        }
        let mut ended = session.close().await;
        for (message, before) in judged {
            stray(&place, ended.take(message).verdict().since(&before)).await;
        }
        stray(&place, ended.stray().clone()).await;
    }
}

/// One question and its answer. `None`: the session is over.
async fn answer(
    place: &Place,
    session: &mut Session<Recorder>,
    judged: &mut VecDeque<(MessageId, Verdict)>,
) -> Option<()> {
    let deadline = Instant::now() + place.options.answer_within;
    let request = ChatRequest {
        content: place.prompt(),
        conversation_id: None,
        request_id: None,
        options: ChatOptions::default(),
        on_disconnect: OnDisconnect::Continue,
    };
    let id = session.chat(request)?;
    session.observer().expect_request(id, place.options.directive.clone());
    let (mut message, mut pace) = (None, Pace::default());
    loop {
        let Ok(event) = timeout_at(deadline, session.next()).await else {
            if let Some(message) = message {
                session.unfollow(message);
            }
            return judge(place, session, message, true, pace, judged).await;
        };
        match event {
            Some(Event::Accepted(body)) => message = Some(body.message_id),
            Some(Event::Chunks { message_id, .. }) if Some(message_id) == message => {
                pace.beat(place.phase());
            }
            Some(Event::Complete(body)) if Some(body.message_id) == message => {
                return judge(place, session, message, false, pace, judged).await;
            }
            Some(Event::Failed(body)) => {
                place.tell(Told::Refused(body.code.to_string())).await;
                return judge(place, session, message, false, pace, judged).await;
            }
            Some(Event::Stopped(stop)) => {
                place.tell(Told::Refused(stop.to_string())).await;
                judge(place, session, message, true, pace, judged).await;
                return None;
            }
            None => {
                judge(place, session, message, true, pace, judged).await;
                return None;
            }
            Some(Event::Warning(body)) => place.tell(Told::Refused(body.code.to_string())).await,
            Some(Event::Goaway(_)) => place.tell(Told::Goaway).await,
            Some(Event::Reconnecting { .. }) => place.tell(Told::Reconnect).await,
            Some(_) => {}
        }
    }
}

async fn judge(
    place: &Place,
    session: &mut Session<Recorder>,
    message: Option<MessageId>,
    hung: bool,
    pace: Pace,
    judged: &mut VecDeque<(MessageId, Verdict)>,
) -> Option<()> {
    let Some(message) = message else {
        // Refused before there was an answer: it failed.
        tell(place, Verdict { failed: 1, ..Verdict::default() }, hung, pace).await;
        return Some(());
    };
    let told = session.observer().transcript(message);
    let verdict = told.map(Transcript::verdict).unwrap_or_default();
    judged.push_back((message, verdict.clone()));
    tell(place, verdict, hung, pace).await;
    // A socket that goes may still be told of an answer that has ended on another one.
    if judged.len() > KEPT
        && let Some((oldest, before)) = judged.pop_front()
    {
        stray(place, session.observer().take(oldest).verdict().since(&before)).await;
    }
    Some(())
}

/// What came after an end, where it should not have.
async fn stray(place: &Place, verdict: Verdict) {
    if !verdict.problems.is_empty() {
        place.tell(Told::Stray(Box::new(verdict))).await;
    }
}

async fn tell(place: &Place, verdict: Verdict, hung: bool, pace: Pace) {
    let verdict = Box::new(verdict);
    place.tell(Told::Answer { basic: false, verdict, hung, gaps: pace.longest }).await;
}
