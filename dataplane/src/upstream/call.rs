//! A provider's response as events: bytes are split, read and counted. Dropping it ends the
//! connection at once.

use super::answer::Answer;
use super::health::Attempt;
use super::{UpstreamError, UpstreamEvent};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use sse_stream::{Sse, SseByteStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// Largest event, in bytes; what is read at once may add to it.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// After its reason to end a provider has this long for what may follow: counts, an end mark.
const GRACE: Duration = Duration::from_secs(2);

/// Reads the data of an event of one dialect.
pub(super) type Read = fn(&str, &mut Answer) -> Result<(), UpstreamError>;
type Item = Result<UpstreamEvent, UpstreamError>;

/// The events of one response.
pub(super) struct Call {
    body: SseByteStream<Metered>,
    /// Bytes since the last event.
    fed: Arc<AtomicUsize>,
    read: Read,
    answer: Answer,
    attempt: Attempt,
    /// Of the last event that had one; the same one again is a repetition.
    last_id: Option<String>,
    error: Option<UpstreamError>,
    /// What was read to know that the answer begins.
    first: Option<Item>,
    grace: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Call {
    pub(super) fn new(
        body: BoxStream<'static, reqwest::Result<Bytes>>,
        read: Read,
        answer: Answer,
        attempt: Attempt,
    ) -> Self {
        let fed = Arc::<AtomicUsize>::default();
        Self {
            body: SseByteStream::new(Metered { bytes: body, fed: fed.clone() }),
            fed,
            read,
            answer,
            attempt,
            last_id: None,
            error: None,
            first: None,
            grace: None,
            ended: false,
        }
    }

    /// Waits until the answer begins; `silence`: how long it may then pause.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn begun(mut self, silence: Duration) -> Result<Self, UpstreamError> {
        match self.next().await {
            Some(Err(error)) => Err(error),
            first => {
                self.attempt.wait_at_most(silence);
                self.first = first;
                Ok(self)
            }
        }
    }

    fn hear(&mut self, event: Option<Result<Sse, sse_stream::Error>>) {
        self.fed.store(0, Ordering::Relaxed);
        let read = match event {
            Some(Ok(event)) => {
                if event.id.is_some() && event.id == self.last_id {
                    return;
                }
                self.last_id = event.id.or(self.last_id.take());
                // A block without data is a keep-alive.
                let Some(data) = event.data.filter(|data| !data.is_empty()) else { return };
                (self.read)(&data, &mut self.answer)
            }
            Some(Err(error)) => self.answer.ended(&causes(&error)),
            None => self.answer.ended("the connection ended without a finish reason"),
        };
        if let Err(error) = read {
            self.answer.flush_text();
            self.error = Some(error);
        }
    }

    fn finished(&mut self, end: UpstreamEvent) -> Item {
        self.ended = true;
        if self.answer.is_refused() {
            self.attempt.ended();
            return Err(UpstreamError::Refused("a content filter refused the request".to_owned()));
        }
        self.attempt.succeeded();
        Ok(end)
    }

    fn failed(&mut self, error: UpstreamError) -> Item {
        self.ended = true;
        match error {
            UpstreamError::Unavailable(_) => self.attempt.failed(),
            UpstreamError::Refused(_) => self.attempt.ended(),
        }
        Err(error)
    }

    /// Whether a provider that has said why it ends takes too long to end.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        self.answer.reason.is_some()
            && self.grace.get_or_insert_with(|| Box::pin(sleep(GRACE))).as_mut().poll(cx).is_ready()
    }
}

impl Stream for Call {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match self.answer.next() {
                Some(UpstreamEvent::Chunk(chunk)) => {
                    self.attempt.heard();
                    return Poll::Ready(Some(Ok(UpstreamEvent::Chunk(chunk))));
                }
                Some(end) => return Poll::Ready(Some(self.finished(end))),
                None => {}
            }
            if let Some(error) = self.error.take() {
                return Poll::Ready(Some(self.failed(error)));
            }
            match self.body.poll_next_unpin(cx) {
                Poll::Ready(event) => self.hear(event),
                Poll::Pending if self.is_overdue(cx) => self.answer.finish(),
                Poll::Pending => {
                    self.attempt.waits();
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Why bytes stop coming.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("the connection broke")]
    Broken(#[source] reqwest::Error),
    #[error("an event has more than {MAX_EVENT_BYTES} bytes")]
    Oversized,
}

/// The bytes of a response, counted: the splitter itself would take an event of any size.
struct Metered {
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    fed: Arc<AtomicUsize>,
}

impl Stream for Metered {
    type Item = Result<Bytes, Stopped>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.bytes.poll_next_unpin(cx).map(|bytes| {
            Some(match bytes? {
                Ok(bytes) => {
                    let fed = self.fed.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
                    if fed > MAX_EVENT_BYTES { Err(Stopped::Oversized) } else { Ok(bytes) }
                }
                // A URL may hold what is not for a log.
                Err(error) => Err(Stopped::Broken(error.without_url())),
            })
        })
    }
}

/// An error with everything that caused it, in one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors say their cause as well as having it.
        if !text.ends_with(&cause_text) {
            text = text + ": " + &cause_text;
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::health::Health;
    use crate::upstream::openai;
    use futures_util::stream;
    use proptest::prelude::*;
    use streamlog::Clock;

    /// Events of a body that comes in these pieces.
    async fn call(pieces: Vec<Vec<u8>>) -> (Vec<Item>, Arc<Health>) {
        let health = Arc::new(Health::new("p", Clock::system()));
        let attempt = health.begin(Duration::from_secs(1)).unwrap();
        let body = stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece)))).boxed();
        let call = Call::new(body, openai::read, Answer::after("", false), attempt);
        (call.collect().await, health)
    }

    fn text(items: &[Item]) -> String {
        let chunk = |item: &Item| match item {
            Ok(UpstreamEvent::Chunk(chunk)) => Some(chunk.content.to_string()),
            _ => None,
        };
        items.iter().filter_map(chunk).collect()
    }

    fn event(content: &str) -> String {
        let content = serde_json::to_string(content).unwrap();
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{content}}}}}]}}\n\n")
    }

    const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

    #[tokio::test]
    async fn an_event_that_comes_twice_under_one_id_is_read_once() {
        let body = format!(
            ": hello\n\nid: 1\n{a}id: 1\n{a}id: 2\n{b}: ping\n\ndata:\n\nevent: x\n\n{STOP}{STOP}",
            a = event("a"),
            b = event("b"),
        );
        let (items, health) = call(vec![body.into_bytes()]).await;
        assert_eq!((text(&items).as_str(), items.len()), ("ab", 3));
        assert_eq!(health.statistics().failed, 0, "no [DONE], but a reason to end");
    }

    #[tokio::test]
    async fn a_body_without_a_reason_to_end_is_broken() {
        let (items, health) = call(vec![event("a\n`").into_bytes()]).await;
        assert_eq!(text(&items), "a\n`");
        let Some(Err(UpstreamError::Unavailable(why))) = items.last() else { panic!("{items:?}") };
        assert!(why.contains("without a finish reason"), "{why}");
        assert_eq!(health.statistics().failed, 1);
    }

    #[tokio::test]
    async fn an_event_that_never_ends_is_not_kept() {
        let pieces = (0..64).map(|_| vec![b'x'; 64 * 1024]).collect();
        let (items, health) = call(pieces).await;
        let [Err(UpstreamError::Unavailable(why))] = &items[..] else { panic!("{items:?}") };
        assert!(why.contains("more than 1048576 bytes"), "{why}");
        assert_eq!(health.statistics().failed, 1);
        let whole: Vec<_> = (0..64).map(|_| event(&"x".repeat(64 * 1024)).into_bytes()).collect();
        let (items, _) = call([whole, vec![STOP.into()]].concat()).await;
        assert_eq!(text(&items).len(), 64 * 64 * 1024, "the answer may be longer");
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_end_it() {
        let (items, _) = call(vec![b"data: \xff\xfe\n\n".to_vec()]).await;
        assert!(matches!(items[..], [Err(UpstreamError::Unavailable(_))]), "{items:?}");
    }

    #[tokio::test]
    async fn a_filter_that_refuses_is_a_refusal_and_one_that_cuts_an_end() {
        let end = STOP.replace("stop", "content_filter");
        let (items, health) = call(vec![end.clone().into_bytes()]).await;
        assert!(matches!(items[..], [Err(UpstreamError::Refused(_))]), "{items:?}");
        assert_eq!(health.statistics().failed, 0);
        let (items, _) = call(vec![(event("a") + &end).into_bytes()]).await;
        let Some(Ok(UpstreamEvent::Finished { reason, .. })) = items.last() else { panic!() };
        assert_eq!(reason, "content_filter");
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_gave_its_reason_and_hangs_has_ended() {
        let health = Arc::new(Health::new("p", Clock::system()));
        let attempt = health.begin(Duration::from_secs(1)).unwrap();
        let body = stream::iter([Ok(Bytes::from(event("a") + STOP))]).chain(stream::pending());
        let call = Call::new(body.boxed(), openai::read, Answer::after("", false), attempt);
        let items: Vec<Item> = call.collect().await;
        assert!(matches!(items[..], [Ok(_), Ok(UpstreamEvent::Finished { .. })]), "{items:?}");
    }

    proptest! {
        #[test]
        fn where_the_network_cuts_changes_nothing(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20), crlf in any::<bool>()) {
            let mut body = event("Grüße 🎉") + ": ping\n\n" + &event("\n```x") + &event("") + &event("ü\n```\n") + STOP;
            if crlf {
                body = body.replace('\n', "\r\n");
            }
            let body = body.into_bytes();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let whole = runtime.block_on(call(vec![body.clone()])).0;
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| body[pair[0]..pair[1]].to_vec()).collect();
            prop_assert_eq!(runtime.block_on(call(pieces)).0, whole.clone());
            prop_assert_eq!(text(&whole), "Grüße 🎉\n```xü\n```\n");
        }
    }
}
