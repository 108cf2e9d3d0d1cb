//! A device of the reference client that asks one question, and what it saw, judged by its transcript.

use super::server::Server;
use client::recorder::Recorder;
use client::session::{Event, Options, Session};
use client::token::TokenSource;
use client::transcript::{Allowed, Transcript};
use dataplane::playground::{Fleet, FleetOptions};
use dataplane::upstream::ProviderKeys;
use protocol::server_frame::{Complete, TakeoverMode};
use protocol::settings::{Provider, Upstream};
use protocol::{ChatRequest, ChunkType, MessageId, Settings};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// Settings of nodes that ask these providers, lose patience soon, and take over soon.
pub(crate) fn settings(providers: Vec<Provider>) -> Settings {
    let mut settings = dataplane::playground::settings();
    settings.upstream = Upstream::Providers(providers);
    let ownership = &mut settings.ownership;
    (ownership.lease_ms, ownership.renew_ms, ownership.look_ms) = (1_000, 300, 20);
    settings
}

pub(crate) fn openai(name: &str, server: &Server) -> Provider {
    Provider { name: name.to_owned(), url: server.url(), ..Provider::default() }
}

/// Nodes as threads over one memory store.
pub(crate) async fn fleet(nodes: usize, settings: Settings) -> Fleet {
    client::token::install_crypto();
    let mut provider_keys = ProviderKeys::default();
    provider_keys.insert("main", "hunter2".to_owned());
    let options = FleetOptions { nodes, settings, provider_keys, ..FleetOptions::default() };
    Fleet::start(options).await.unwrap()
}

/// What one device saw of one answer.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) transcript: Transcript,
    /// As it holds it in the end.
    pub(crate) chunks: Vec<(ChunkType, String)>,
    pub(crate) complete: Complete,
    pub(crate) takeovers: Vec<TakeoverMode>,
    pub(crate) resets: usize,
}

impl Seen {
    /// Text and code.
    pub(crate) fn content(&self) -> String {
        self.transcript.content()
    }

    /// The text of one kind.
    pub(crate) fn of(&self, kind: ChunkType) -> String {
        let chunks = self.chunks.iter().filter(|(other, _)| *other == kind);
        chunks.map(|(_, text)| text.as_str()).collect()
    }

    /// Nothing lost, doubled, mixed; digest and totals fit.
    #[track_caller]
    pub(crate) fn assert_clean(&self, allowed: Allowed) {
        let verdict = self.transcript.clone().verdict();
        assert!(verdict.is_clean(allowed), "{verdict:#?}");
    }
}

/// Asks node 0 and reads to the end; `happen` is told of all text that came so far.
pub(crate) async fn ask(
    fleet: &Fleet,
    request: ChatRequest,
    mut happen: impl AsyncFnMut(MessageId, &str),
) -> Seen {
    let tokens = TokenSource::Fixed(fleet.token("alice"));
    let options = Options { first: 0, ..Options::new(fleet.node_urls()) };
    // Equal chance would make equal request ids, and a second request nothing but the first again.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let rng = SmallRng::seed_from_u64(NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut device = Session::new(options, tokens, rng, Recorder::default());
    device.chat(request);
    let (mut message, mut takeovers, mut resets) = (None, Vec::new(), 0);
    let mut chunks: Vec<(ChunkType, String)> = Vec::new();
    let complete = loop {
        let event = timeout(PATIENCE, device.next()).await.expect("nothing came").unwrap();
        match event {
            Event::Accepted(accepted) => message = Some(accepted.message_id),
            Event::Chunks { message_id, chunks: more, .. } => {
                chunks
                    .extend(more.into_iter().map(|chunk| (chunk.kind, chunk.content.to_string())));
                let text: String = chunks.iter().map(|(_, text)| text.as_str()).collect();
                happen(message_id, &text).await;
            }
            Event::Reset(reset) => {
                resets += 1;
                chunks.truncate(reset.truncate_to.0 as usize);
            }
            Event::Takeover(takeover) => takeovers.push(takeover.mode),
            Event::Complete(complete) => break complete,
            Event::Failed(error) => panic!("{error:?}"),
            Event::Stopped(stop) => panic!("{stop}"),
            _ => {}
        }
    };
    let transcript = device.close().await.take(message.unwrap());
    Seen { transcript, chunks, complete, takeovers, resets }
}

/// Nothing happens.
pub(crate) async fn nothing(_: MessageId, _: &str) {}
