//! The simulated provider: it obeys the directive at the start of the user's content
//! (`protocol::sim`, protocol section 7).

use super::{Ask, Continues, Events, Upstream, UpstreamError, UpstreamEvent};
use crate::telemetry::provider;
use async_trait::async_trait;
use futures_util::Stream;
use protocol::sim::Directive;
use protocol::{ChunkType, Epoch, Index, Usage};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use streamlog::{Clock, Opening};
use tokio::task::coop;
use tokio::time::{Instant, Sleep};

const NANOS: u64 = 1_000_000_000;

/// A provider that needs nothing and whose text everybody can foretell.
pub struct Simulated {
    clock: Clock,
}

impl Simulated {
    /// By this clock.
    pub fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

#[async_trait]
impl Upstream for Simulated {
    async fn call(&self, ask: Ask) -> Result<Events, UpstreamError> {
        provider::served_by("simulated");
        let directive = Directive::parse(&ask.opening.content)
            .map_err(|bad| UpstreamError::Refused(bad.to_string()))?;
        Ok(Box::pin(Call::new(&ask, directive, self.clock.clone())))
    }

    fn continues(&self, _: &Opening) -> Continues {
        Continues::Anything
    }
}

/// The events of one call. One timer for its whole life; a chunk costs no allocation of its own.
struct Call {
    directive: Directive,
    epoch: Epoch,
    from: Index,
    next: Index,
    /// First index that is not sent.
    end: Index,
    /// When `from` is due; every later chunk is due by the rate, counted from here.
    origin: Instant,
    sleep: Pin<Box<Sleep>>,
    /// What the timer last waited for; several chunks may be due at one moment.
    passed: Option<Instant>,
    used_tools: bool,
    ended: bool,
    /// What `Finished` says besides the reason.
    model: String,
    prompt_tokens: u64,
}

/// What the directive wants next.
enum Turn {
    Send,
    Finish,
    Break,
    Silence,
}

impl Call {
    fn new(ask: &Ask, directive: Directive, clock: Clock) -> Self {
        let opening = &ask.opening;
        let limit = opening.options.max_tokens.unwrap_or(u64::MAX);
        let said = opening.context.iter().map(|turn| turn.content.as_str());
        let words = said.chain([opening.content.as_str()]).flat_map(str::split_whitespace);
        let mut call = Self {
            epoch: ask.epoch,
            from: ask.from,
            next: ask.from,
            end: Index(directive.tokens.min(limit)),
            origin: clock.now() + Duration::from_millis(directive.ttft_ms),
            sleep: Box::pin(tokio::time::sleep_until(clock.now())),
            passed: None,
            ended: false,
            used_tools: ask.prefix.iter().any(|chunk| chunk.kind == ChunkType::ToolUse),
            model: opening.options.model.clone().unwrap_or_else(|| "simulated".to_owned()),
            prompt_tokens: words.count() as u64,
            directive,
        };
        call.pause();
        call
    }

    /// Moves the schedule where the silence before the next chunk begins.
    fn pause(&mut self) {
        if let Some((at, ms)) = self.directive.pause
            && at == self.next
        {
            self.origin += Duration::from_millis(ms);
        }
    }

    /// Where an answer breaks or falls silent depends on its position alone, so that a successor's
    /// call does what the first one would have done.
    fn turn(&self) -> Turn {
        let passed = |at: Option<Index>| at.filter(|at| *at < self.next);
        match (passed(self.directive.fail), passed(self.directive.stall)) {
            (Some(fail), Some(stall)) if stall < fail => Turn::Silence,
            (Some(_), _) => Turn::Break,
            (None, Some(_)) => Turn::Silence,
            (None, None) if self.next >= self.end => Turn::Finish,
            (None, None) => Turn::Send,
        }
    }

    /// When the next chunk is due. Late chunks do not move later ones: they follow at once.
    fn due(&self) -> Instant {
        let (nth, rate) = (self.next.0 - self.from.0, u64::from(self.directive.rate));
        if rate == 0 {
            return self.origin;
        }
        self.origin + Duration::new(nth / rate, (nth % rate * NANOS / rate) as u32)
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The timer alone knows the time: it is over at once for what is late.
        let due = self.due();
        if self.passed == Some(due) {
            return Poll::Ready(());
        }
        if self.sleep.deadline() != due {
            self.sleep.as_mut().reset(due);
        }
        ready!(self.sleep.as_mut().poll(cx));
        self.passed = Some(due);
        Poll::Ready(())
    }

    fn send(&mut self) -> UpstreamEvent {
        let chunk = self.directive.chunk(self.next, self.epoch);
        self.used_tools |= chunk.kind == ChunkType::ToolUse;
        self.next = self.next.plus(1);
        self.pause();
        UpstreamEvent::Chunk(chunk)
    }

    fn finish(&mut self) -> UpstreamEvent {
        self.ended = true;
        let cut = self.end.0 < self.directive.tokens;
        let reason = if cut { "length" } else { "stop" };
        let reason = if self.used_tools && !cut { "tool_use" } else { reason };
        UpstreamEvent::Finished {
            reason: reason.to_owned(),
            model: std::mem::take(&mut self.model),
            usage: Usage { prompt_tokens: self.prompt_tokens, completion_tokens: self.end.0 },
        }
    }

    fn fail(&mut self) -> UpstreamError {
        self.ended = true;
        let last = self.directive.fail.unwrap_or_default();
        UpstreamError::Unavailable(format!("the connection broke after chunk {last}, as asked"))
    }
}

impl Stream for Call {
    type Item = Result<UpstreamEvent, UpstreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // Without a rate the call is always ready: it must give way like any other source.
        let budget = ready!(coop::poll_proceed(cx));
        let event = match self.turn() {
            Turn::Silence => return Poll::Pending,
            Turn::Break => Err(self.fail()),
            Turn::Finish => Ok(self.finish()),
            Turn::Send => {
                ready!(self.poll_due(cx));
                Ok(self.send())
            }
        };
        budget.made_progress();
        Poll::Ready(Some(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::calls::{CallLog, MAX_CALLS, Recorded};
    use futures_util::StreamExt;
    use protocol::{Chunk, ConversationId, OnDisconnect, UserId};
    use protocol::{NodeName, RequestId};
    use std::sync::Arc;
    use streamlog::log::Opening;
    use uuid::Uuid;

    struct Stage {
        calls: Arc<CallLog>,
        clock: Clock,
        provider: Recorded,
    }

    fn stage() -> Stage {
        let calls = Arc::new(CallLog::default());
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let simulated = Arc::new(Simulated::new(clock.clone()));
        let node = NodeName::new("node-1");
        let provider = Recorded::new(simulated, calls.clone(), clock.clone(), node);
        Stage { calls, clock, provider }
    }

    fn ask(content: &str, from: u64) -> Ask {
        let opening = Opening {
            message: protocol::MessageId(Uuid::from_u128(1)),
            user: UserId::new("alice"),
            conversation: ConversationId(Uuid::from_u128(2)),
            user_message: protocol::MessageId(Uuid::from_u128(3)),
            request_id: RequestId::parse("r-1"),
            content: content.to_owned(),
            options: protocol::ChatOptions::default(),
            on_disconnect: OnDisconnect::Continue,
            context: Vec::new(),
            started_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            trace: None,
        };
        Ask { opening: Arc::new(opening), epoch: Epoch(3), from: Index(from), prefix: Vec::new() }
    }

    impl Stage {
        /// Every event with the milliseconds since the call.
        async fn run(&self, ask: Ask) -> Vec<(u64, Result<UpstreamEvent, UpstreamError>)> {
            let start = self.clock.now();
            let events = self.provider.call(ask).await.unwrap();
            let stamped =
                events.map(|event| ((self.clock.now() - start).as_millis() as u64, event));
            stamped.collect().await
        }

        fn ends(&self) -> Vec<(u64, Option<String>)> {
            self.calls.list().into_iter().map(|call| (call.chunks, call.end)).collect()
        }
    }

    fn chunks(events: &[(u64, Result<UpstreamEvent, UpstreamError>)]) -> Vec<Chunk> {
        let chunk = |event: &Result<UpstreamEvent, UpstreamError>| match event {
            Ok(UpstreamEvent::Chunk(chunk)) => Some(chunk.clone()),
            _ => None,
        };
        events.iter().filter_map(|(_, event)| chunk(event)).collect()
    }

    fn times(events: &[(u64, Result<UpstreamEvent, UpstreamError>)]) -> Vec<u64> {
        events.iter().map(|(at, _)| *at).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_text_is_the_directives_and_the_end_says_so() {
        let stage = stage();
        let events = stage.run(ask("[sim tokens=4 rate=0 seed=7 vary=epoch] hi there", 1)).await;
        let directive = Directive::parse("[sim tokens=4 rate=0 seed=7 vary=epoch]").unwrap();
        let expected: Vec<_> = (1..4).map(|i| directive.chunk(Index(i), Epoch(3))).collect();
        assert_eq!(chunks(&events), expected);
        let finished = UpstreamEvent::Finished {
            reason: "stop".to_owned(),
            model: "simulated".to_owned(),
            usage: Usage { prompt_tokens: 7, completion_tokens: 4 },
        };
        assert_eq!(events.last().unwrap().1, Ok(finished));
        let call = &stage.calls.list()[0];
        assert_eq!((call.from, call.chunks, call.epoch), (Index(1), 3, Epoch(3)));
        assert_eq!((call.node.as_str(), call.end.as_deref()), ("node-1", Some("stop")));
        assert_eq!(call.request_id, RequestId::parse("r-1"));
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_come_by_the_schedule_with_its_silences() {
        let stage = stage();
        let events = stage.run(ask("[sim tokens=5 rate=100 ttft=30 pause=2:500]", 0)).await;
        assert_eq!(times(&events), [30, 40, 550, 560, 570, 570]);
        let first = stage.run(ask("[sim tokens=2 rate=10 pause=0:200]", 0)).await;
        assert_eq!(times(&first), [200, 300, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_reader_gets_what_it_missed_at_once_and_the_rest_in_time() {
        let stage = stage();
        let start = stage.clock.now();
        let mut events = stage.provider.call(ask("[sim tokens=9 rate=100]", 0)).await.unwrap();
        events.next().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(45)).await;
        let mut at = Vec::new();
        for _ in 0..6 {
            events.next().await.unwrap().unwrap();
            at.push((stage.clock.now() - start).as_millis());
        }
        assert_eq!(at, [45, 45, 45, 45, 50, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn max_tokens_ends_it_with_length() {
        let stage = stage();
        let mut ask = ask("[sim tokens=10 rate=0]", 0);
        Arc::get_mut(&mut ask.opening).unwrap().options.max_tokens = Some(3);
        let events = stage.run(ask).await;
        assert_eq!(chunks(&events).len(), 3);
        let Some((_, Ok(UpstreamEvent::Finished { reason, .. }))) = events.last() else {
            panic!("{events:?}")
        };
        assert_eq!(reason, "length");
        assert_eq!(stage.ends(), [(3, Some("length".to_owned()))]);
    }

    #[tokio::test(start_paused = true)]
    async fn fail_breaks_after_that_chunk_for_a_successor_too() {
        let stage = stage();
        let events = stage.run(ask("[sim tokens=9 rate=0 fail=2]", 0)).await;
        assert_eq!(chunks(&events).len(), 3);
        assert!(matches!(events.last().unwrap().1, Err(UpstreamError::Unavailable(_))));
        let later = stage.run(ask("[sim tokens=9 rate=0 fail=2]", 3)).await;
        assert!(matches!(later[..], [(_, Err(UpstreamError::Unavailable(_)))]));
        let error = Some("error".to_owned());
        assert_eq!(stage.ends(), [(3, error.clone()), (0, error)]);
    }

    #[tokio::test(start_paused = true)]
    async fn stall_is_silent_and_a_dropped_call_is_noted() {
        let stage = stage();
        let mut events =
            stage.provider.call(ask("[sim tokens=9 rate=0 stall=1]", 0)).await.unwrap();
        assert!(events.next().await.is_some() && events.next().await.is_some());
        let silence = tokio::time::timeout(Duration::from_secs(3_600), events.next()).await;
        assert!(silence.is_err());
        assert_eq!(stage.ends(), [(2, None)]);
        drop(events);
        assert_eq!(stage.ends(), [(2, Some("dropped".to_owned()))]);
    }

    #[tokio::test(start_paused = true)]
    async fn tools_end_with_tool_use() {
        let stage = stage();
        let events = stage.run(ask("[sim tokens=3 rate=0 types=tool]", 0)).await;
        let Some((_, Ok(UpstreamEvent::Finished { reason, .. }))) = events.last() else {
            panic!("{events:?}")
        };
        assert_eq!(reason, "tool_use");
        assert_eq!(stage.ends(), [(3, Some("tool_use".to_owned()))]);
    }

    #[tokio::test]
    async fn a_bad_directive_is_refused_with_its_text() {
        let stage = stage();
        let refused = stage.provider.call(ask("[sim tokens=many]", 0)).await.err().unwrap();
        assert_eq!(refused, UpstreamError::Refused("bad [sim] directive: tokens=many".to_owned()));
        assert_eq!(stage.ends(), [(0, Some("error".to_owned()))]);
    }

    #[tokio::test]
    async fn without_a_rate_it_gives_way_to_others() {
        let stage = stage();
        let events = stage.provider.call(ask("[sim tokens=100000 rate=0]", 0)).await.unwrap();
        let all = async { events.count().await };
        // The other side is polled second: it only runs if the first one gives way.
        tokio::select! {
            biased;
            count = all => panic!("{count} events without giving way"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test]
    async fn the_log_forgets_the_oldest_call() {
        let stage = stage();
        for from in 0..=MAX_CALLS as u64 {
            drop(stage.provider.call(ask("[sim tokens=1 rate=0]", from)).await.unwrap());
        }
        let calls = stage.calls.list();
        assert_eq!((calls.len(), calls[0].from), (MAX_CALLS, Index(1)));
    }
}
