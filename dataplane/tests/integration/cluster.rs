//! Nodes in one process over one memory store, without sockets, under paused time: what the tests
//! of streams, takeovers and drains stand on.

use async_trait::async_trait;
use dataplane::admit::Keys;
use dataplane::node::{Engines, Node, NodeConfig};
use dataplane::upstream::{Ask, Continues, Events, Upstream, UpstreamError, UpstreamEvent};
use futures_util::StreamExt;
use protocol::server_frame::{Accepted, ResetReason, TakeoverMode};
use protocol::sim::Directive;
use protocol::{
    ChatOptions, ChatRequest, Chunk, Epoch, ErrorCode, Incarnation, Index, MessageId, NodeName,
    OnDisconnect, RequestId, Seal, SealStatus, Settings, Usage, UserId,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use streamlog::memory::{MemoryHandle, MemoryStore};
use streamlog::{Clock, Cursor, Event, FollowError, Ids, Opening, Owner};
use uuid::Uuid;

/// Calls of the upstream, as it saw them: (message, epoch, first chunk asked for).
pub(crate) type Calls = Arc<Mutex<Vec<(MessageId, Epoch, Index)>>>;

/// Writes what the directive says.
pub(crate) struct Scripted {
    pub(crate) calls: Calls,
    pub(crate) can_continue: bool,
}

#[async_trait]
impl Upstream for Scripted {
    async fn call(&self, ask: Ask) -> Result<Events, UpstreamError> {
        dataplane::telemetry::provider::served_by("scripted");
        self.calls.lock().unwrap().push((ask.opening.message, ask.epoch, ask.from));
        let directive = Directive::parse(&ask.opening.content)
            .map_err(|bad| UpstreamError::Refused(bad.to_string()))?;
        let gap = Duration::from_secs(1) / directive.rate.max(1);
        let model = "scripted".to_owned();
        // By the clock, as a provider on its own machine goes on whether it is read or not.
        let begin = tokio::time::Instant::now() + Duration::from_millis(directive.ttft_ms);
        let from = ask.from.0;
        let chunks = futures_util::stream::iter(ask.from.0..directive.tokens).then(move |at| {
            let directive = directive.clone();
            async move {
                let at = Index(at);
                if directive.stall == Some(at) {
                    std::future::pending::<()>().await;
                }
                if directive.fail == Some(at) {
                    return Err(UpstreamError::Unavailable("as asked".to_owned()));
                }
                let nth = (at.0 - from + 1) as u32;
                tokio::time::sleep_until(begin + gap * nth).await;
                Ok(UpstreamEvent::Chunk(directive.chunk(at, ask.epoch)))
            }
        });
        let usage = Usage { prompt_tokens: 1, completion_tokens: 2 };
        let end = UpstreamEvent::Finished { reason: "stop".to_owned(), model, usage };
        Ok(chunks.chain(futures_util::stream::iter([Ok(end)])).boxed())
    }

    fn continues(&self, _: &Opening) -> Continues {
        if self.can_continue { Continues::Anything } else { Continues::Never }
    }
}

/// One node and its way to the store.
pub(crate) struct Member {
    pub(crate) node: Arc<Node>,
    pub(crate) handle: MemoryHandle,
}

impl Member {
    /// As SIGKILL: no later call reaches the store, then everything is dropped.
    pub(crate) fn kill(&self) {
        self.handle.cut();
        self.node.stop.cancel();
    }
}

pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) calls: Calls,
    store: MemoryStore,
    settings: Settings,
    clock: Clock,
    ids: Ids,
}

impl Cluster {
    /// Nodes that are in touch with the store long enough to take over.
    pub(crate) async fn start(count: usize, settings: Settings) -> Self {
        let start = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let clock = Clock::starting_at(start);
        let ids = Ids::seeded(clock.clone(), 7);
        let store = MemoryStore::new(clock.clone(), Uuid::from_u128(1));
        let calls = Calls::default();
        let mut cluster = Self { members: Vec::new(), calls, store, settings, clock, ids };
        for _ in 0..count {
            cluster.join(true, |engines| engines);
        }
        tokio::time::sleep(Duration::from_secs(7)).await;
        cluster
    }

    /// Adds a node.
    pub(crate) fn join(
        &mut self,
        can_continue: bool,
        wrap: impl FnOnce(Engines) -> Engines,
    ) -> Arc<Node> {
        let owner = Owner {
            node: NodeName::new(&format!("node-{}", self.members.len() + 1)),
            incarnation: Incarnation(self.ids.uuid()),
        };
        let handle = self.store.handle(owner.clone());
        let engines = Engines {
            log: Arc::new(handle.clone()),
            directory: Arc::new(handle.clone()),
            registry: Arc::new(handle.clone()),
            bus: Arc::new(handle.clone()),
        };
        let node = Node::new(NodeConfig {
            owner,
            settings: self.settings.clone(),
            keys: Keys::default(),
            engines: wrap(engines),
            upstream: Arc::new(Scripted { calls: self.calls.clone(), can_continue }),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        });
        node.run();
        self.members.push(Member { node: node.clone(), handle });
        node
    }

    pub(crate) fn node(&self, at: usize) -> Arc<Node> {
        self.members[at].node.clone()
    }

    pub(crate) fn calls_of(&self, message: MessageId) -> Vec<(Epoch, Index)> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| call.0 == message).map(|call| (call.1, call.2)).collect()
    }
}

pub(crate) fn alice() -> UserId {
    UserId::new("alice")
}

pub(crate) fn request(content: &str) -> ChatRequest {
    ChatRequest {
        content: content.to_owned(),
        conversation_id: None,
        request_id: None,
        options: ChatOptions::default(),
        on_disconnect: OnDisconnect::Continue,
    }
}

pub(crate) fn request_named(content: &str, id: &str) -> ChatRequest {
    ChatRequest { request_id: RequestId::parse(id), ..request(content) }
}

pub(crate) async fn ask(node: &Arc<Node>, content: &str) -> Accepted {
    node.accept(&alice(), request(content)).await.unwrap()
}

/// What one follower was told, checked on the way: contiguous indexes, one end.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) chunks: Vec<(Epoch, Chunk)>,
    pub(crate) takeovers: Vec<TakeoverMode>,
    pub(crate) resets: Vec<ResetReason>,
    pub(crate) seal: Option<Seal>,
    pub(crate) longest_pause: Duration,
}

impl Seen {
    /// Follows to the end.
    pub(crate) async fn all(node: &Node, message: MessageId) -> Self {
        Self::until(node, message, usize::MAX).await.unwrap()
    }

    /// Follows until so many chunks were seen, or to the end.
    pub(crate) async fn until(
        node: &Node,
        message: MessageId,
        count: usize,
    ) -> Result<Self, FollowError> {
        let mut follower = node.follow(&alice(), message, Cursor::START);
        let mut seen = Self::default();
        let mut last = tokio::time::Instant::now();
        while let Some(event) = follower.next().await {
            let pause = last.elapsed();
            match event? {
                Event::Batch(slice) => {
                    assert_eq!(slice.first(), Index(seen.chunks.len() as u64), "contiguous");
                    let epoch = slice.batch().epoch;
                    seen.chunks.extend(slice.chunks().iter().map(|chunk| (epoch, chunk.clone())));
                    seen.longest_pause = seen.longest_pause.max(pause);
                    last = tokio::time::Instant::now();
                    if seen.chunks.len() >= count {
                        break;
                    }
                }
                Event::TakenOver { mode, .. } => seen.takeovers.push(mode),
                Event::Reset { reason, .. } => {
                    seen.resets.push(reason);
                    seen.chunks.clear();
                }
                Event::Sealed { seal, tail, .. } => {
                    assert_eq!(tail.0 as usize, seen.chunks.len(), "everything was delivered");
                    assert!(seen.seal.replace((*seal).clone()).is_none(), "one end");
                }
                Event::Attached(_) | Event::Paused | Event::Live => {}
            }
        }
        Ok(seen)
    }

    /// Every chunk is what the directive says for the epoch it was appended under.
    pub(crate) fn assert_text(&self, content: &str) {
        let directive = Directive::parse(content).unwrap();
        for (at, (epoch, chunk)) in self.chunks.iter().enumerate() {
            assert_eq!(*chunk, directive.chunk(Index(at as u64), *epoch), "chunk {at}");
        }
    }

    pub(crate) fn assert_completed(&self, content: &str) {
        self.assert_text(content);
        assert_eq!(self.chunks.len() as u64, Directive::parse(content).unwrap().tokens);
        assert_eq!(self.seal.as_ref().unwrap().status, SealStatus::Completed);
    }

    pub(crate) fn assert_failed(&self, code: ErrorCode) {
        let seal = self.seal.as_ref().unwrap();
        assert_eq!((seal.status, seal.code), (SealStatus::Failed, Some(code)));
    }
}
