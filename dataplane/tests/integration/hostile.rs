//! Hostile input: bad tokens, URLs, headers, bodies, upgrades and frames, each with the answer that
//! protocol section 5 names. After each one connection and node live on, nothing of another user is
//! readable, and no log shows a token or what somebody said.

mod doors;
mod frames;
mod requests;
mod tokens;
mod wire;

use crate::fixture::Fixture;
use dataplane::telemetry;
use protocol::{ConversationId, MessageId};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// What bob said and was told: it must turn up nowhere.
const SECRET: &str = "bobs-secret-words";
/// What alice said in hostile frames: not in a log.
const SAID: &str = "alices-own-words";

/// A node that is attacked, and another user's answer on it.
struct Target {
    fixture: Fixture,
    bobs_message: MessageId,
    bobs_conversation: ConversationId,
    logs: Logs,
    _guard: DefaultGuard,
}

impl Target {
    async fn start() -> Self {
        let logs = Logs::default();
        // Everything that is ever logged, whatever the level.
        let guard =
            tracing::subscriber::set_default(telemetry::subscriber(true, logs.clone(), false));
        let mut settings = dataplane::playground::settings();
        settings.auth.allowed_origins = vec!["https://good.example".to_owned()];
        let fixture = Fixture::with(settings).await;
        let bob = crate::api::Caller::new(&fixture, "bob");
        let content = format!("[sim tokens=1000000 rate=20 seed=1] {SECRET}");
        let accepted = bob.ask(&content).await;
        Self {
            fixture,
            bobs_message: accepted.message_id,
            bobs_conversation: accepted.conversation_id,
            logs,
            _guard: guard,
        }
    }

    /// No log line shows any of these, and there are log lines.
    fn assert_discreet(&self, secrets: &[String]) {
        let text = self.logs.text();
        assert!(
            text.contains("\"trace_id\":\""),
            "requests are logged with their trace ids\n{text}"
        );
        for secret in secrets.iter().map(String::as_str).chain([SECRET, SAID, "Bearer "]) {
            assert!(!text.contains(secret), "{secret:?} is in the logs");
        }
        assert!(!text.contains("panic"), "{text}");
    }
}

/// Collects what is logged on this thread, which is where the whole node runs.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Logs {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}
