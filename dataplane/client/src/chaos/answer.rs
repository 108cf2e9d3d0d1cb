//! One answer of a chaos run: all its devices, the cancel, and the judgement.

use super::Wall;
use super::device::{Device, Role, Seen};
use super::losses::{self, Fate};
use super::schedule::AnswerPlan;
use crate::api::{Api, ApiError};
use crate::token::TokenSource;
use crate::transcript::{End, Transcript, Verdict, agree, agrees_with};
use futures_util::future::join_all;
use jiff::Timestamp;
use protocol::http::MessageView;
use protocol::{ChatOptions, ChatRequest, MessageId, OnDisconnect, RequestId, SealStatus};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// How long the read side may take to be reachable again.
const READ_WITHIN: Duration = Duration::from_secs(20);
/// Between two tries of a call.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// What every answer of a run shares.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) http: reqwest::Client,
    pub(super) urls: Vec<String>,
    pub(super) tokens: TokenSource,
    /// Makes request ids of different runs differ.
    pub(super) run: u64,
    /// Added to an answer's planned time.
    pub(super) slack: Duration,
    /// The run's clock.
    pub(super) wall: Wall,
}

/// One message of a request, judged twice.
pub(super) struct Told {
    pub(super) message: MessageId,
    /// As it must be.
    pub(super) verdict: Verdict,
    pub(super) unread: u64,
    /// As it may be where it was lost together with its owner.
    pub(super) if_lost: Verdict,
    pub(super) fate: Fate,
    pub(super) devices_not_found: u64,
}

/// What became of one answer.
#[derive(Default)]
pub(super) struct Judged {
    /// What belongs to no message.
    pub(super) verdict: Verdict,
    /// What the first device's request was accepted as.
    pub(super) message: Option<MessageId>,
    /// That one, and others where a repetition of the request was answered otherwise.
    pub(super) messages: Vec<Told>,
    /// When the last device was done.
    pub(super) ended: Timestamp,
    pub(super) pauses: Vec<Duration>,
    pub(super) cuts: u64,
    pub(super) stalls: u64,
    pub(super) duplicates: u64,
    pub(super) cancels: u64,
    pub(super) reconnects: u64,
    pub(super) unaccepted: u64,
    pub(super) wrong_end: u64,
}

/// Runs one answer to its end and judges it.
pub(super) async fn run(field: Field, plan: AnswerPlan) -> Judged {
    let began = Instant::now();
    let deadline = began + plan.planned + field.slack;
    let (tell, _) = watch::channel(None);
    let mut devices = Vec::new();
    for (k, device) in plan.devices.iter().enumerate() {
        let role = if k == 0 { ask(&field, &plan) } else { Role::Join };
        devices.push((device.clone(), role));
    }
    if let Some(device) = &plan.duplicate {
        devices.push((device.clone(), ask(&field, &plan)));
    }
    let runs = devices.into_iter().map(|(device, role)| {
        let device = Device {
            plan: device,
            role,
            directive: plan.directive.clone(),
            urls: field.urls.clone(),
            tokens: field.tokens.clone(),
            began,
            deadline,
        };
        Box::pin(device.run(&tell))
    });
    let cancel = cancel(&field, &plan, began, deadline, &tell);
    let (seen, cancels) = tokio::join!(join_all(runs), Box::pin(cancel));
    judge(&field, &plan, seen, cancels).await
}

fn ask(field: &Field, plan: &AnswerPlan) -> Role {
    let id = format!("chaos-{:x}-{}", field.run, plan.number);
    Role::Ask(Box::new(ChatRequest {
        content: plan.prompt.clone(),
        conversation_id: None,
        request_id: RequestId::parse(&id),
        options: ChatOptions::default(),
        on_disconnect: OnDisconnect::Continue,
    }))
}

/// Cancels over HTTP from the planned node, or from the next one that answers. Counts 1 when done.
async fn cancel(
    field: &Field,
    plan: &AnswerPlan,
    began: Instant,
    deadline: Instant,
    tell: &watch::Sender<Option<MessageId>>,
) -> u64 {
    let Some((node, at)) = plan.cancel else { return 0 };
    sleep_until(began + at).await;
    let mut told = tell.subscribe();
    let Ok(Ok(id)) = timeout_at(deadline, told.wait_for(Option::is_some)).await.map(|id| {
        // The guard must not live across the calls.
        id.map(|id| *id)
    }) else {
        return 0;
    };
    let Some(id) = id else { return 0 };
    let call = |api: Api| async move { api.cancel(id).await };
    on_some_node(field, node, deadline, call).await.map_or(0, |()| 1)
}

/// Tries nodes in turn, from `first` on, until one answers or the time is over.
async fn on_some_node<T, F>(
    field: &Field,
    first: usize,
    deadline: Instant,
    call: impl Fn(Api) -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let token = field.tokens.token().await.ok()?;
    let mut node = first;
    loop {
        let url = &field.urls[node % field.urls.len()];
        let answer = call(Api::new(field.http.clone(), url, &token));
        match timeout_at(deadline, Box::pin(answer)).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) if error.is_passing() => sleep(TRY_AGAIN).await,
            Ok(Err(_)) | Err(_) => return None,
        }
        node += 1;
    }
}

async fn judge(field: &Field, plan: &AnswerPlan, seen: Vec<Seen>, cancels: u64) -> Judged {
    let ended = field.wall.now();
    let mut judged = Judged { cancels, message: seen[0].message, ended, ..Judged::default() };
    judged.unaccepted = u64::from(judged.message.is_none());
    judged.duplicates = u64::from(plan.duplicate.is_some());
    let mut messages: Vec<MessageId> = Vec::new();
    for device in &seen {
        judged.cuts += device.cuts;
        judged.stalls += device.stalls;
        judged.reconnects += device.reconnects;
        judged.pauses.push(device.longest_pause);
        judged.verdict.merge(&device.stray);
        match device.message {
            Some(message) if messages.contains(&message) => {}
            Some(message) => messages.push(message),
            None => judged.verdict.problems.extend(device.failure.clone()),
        }
    }
    for message in messages {
        let of_it = |device: &&Seen| device.message == Some(message);
        let devices: Vec<&Seen> = seen.iter().filter(of_it).collect();
        judged.messages.push(told(field, plan, message, &devices).await);
        let mut transcripts = devices.iter().filter_map(|device| device.transcript.as_ref());
        if let Some(first) = transcripts.next() {
            judge_end(first, plan, &mut judged);
        }
    }
    judged
}

/// Judges all devices of one message, by each other and by the read side.
async fn told(field: &Field, plan: &AnswerPlan, message: MessageId, devices: &[&Seen]) -> Told {
    let transcripts: Vec<&Transcript> =
        devices.iter().filter_map(|device| device.transcript.as_ref()).collect();
    let mut verdict = agree(&transcripts);
    for device in devices {
        verdict.problems.extend(device.failure.clone());
    }
    for transcript in &transcripts {
        verdict.merge(&transcript.verdict());
    }
    let (mut if_lost, fate, devices_not_found) = losses::judge(&transcripts);
    let view = read(field, plan, message).await;
    for transcript in &transcripts {
        let Some(view) = &view else { break };
        let agreement = agrees_with(transcript, view);
        // A device without an end is counted already.
        if transcript.end().is_some() {
            verdict.merge(&agreement);
        }
        if matches!(transcript.end(), Some(End::Sealed { .. })) {
            if_lost.merge(&agreement);
        }
    }
    let unread = u64::from(view.is_none());
    Told { message, verdict, unread, if_lost, fate, devices_not_found }
}

/// An answer that nobody cancelled must complete.
fn judge_end(first: &Transcript, plan: &AnswerPlan, judged: &mut Judged) {
    let Some(End::Sealed { status: SealStatus::Cancelled, .. }) = first.end() else { return };
    if plan.cancel.is_none() {
        judged.wrong_end += 1;
        let message = first.message();
        judged.verdict.note(|| format!("{message}: sealed cancelled, but nobody asked for it"));
    }
}

async fn read(field: &Field, plan: &AnswerPlan, id: MessageId) -> Option<MessageView> {
    let deadline = Instant::now() + READ_WITHIN;
    let node = plan.devices.len();
    on_some_node(field, node, deadline, |api| async move { api.message(id).await }).await
}
