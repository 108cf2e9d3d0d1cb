//! The public keys that a node knows, and when it asks for newer ones: every `refreshMs`, sooner
//! where a token names a key that is not here or where the last read failed, and never twice within
//! `minIntervalMs`. One task reads; whoever needs what it will find waits for it.
//!
//! Keys stay good until a document without them was read: an issuer that is away locks nobody out.

use super::key_set::{self, KeySet};
use super::key_source;
use crate::metrics::Metrics;
use jsonwebtoken::{Header, Validation};
use protocol::settings::Jwks;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use streamlog::Clock;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// A request waits no longer than this for a read that is under way.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// Keys of one source.
pub(super) struct PublicKeys {
    settings: Jwks,
    validation: Validation,
    clock: Clock,
    known: watch::Sender<Known>,
    wanted: Notify,
}

/// What the last reads found.
#[derive(Default)]
struct Known {
    set: Option<Arc<KeySet>>,
    /// How many reads ended.
    reads: u64,
    /// When the last one began.
    began: Option<Instant>,
    under_way: bool,
    failed: bool,
}

/// A token names a key that no set of this node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The newest set does not have it.
    ToTheIssuer,
    /// The newest set could not be read: nobody knows.
    ToThisNode,
}

impl PublicKeys {
    /// Nothing is read before [`Self::keep`] runs.
    pub(super) fn new(settings: Jwks, validation: Validation, clock: Clock) -> Self {
        let known = watch::Sender::new(Known::default());
        Self { settings, validation, clock, known, wanted: Notify::new() }
    }

    /// Claims of a token, by the keys that are here.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        token: &str,
        header: &Header,
    ) -> Result<T, key_set::NotRead> {
        let set = self.known.borrow().set.clone();
        set.ok_or(key_set::NotRead::UnknownKey)?.read(token, header)
    }

    /// How many keys are here; `None` before the first good read.
    pub(super) fn count(&self) -> Option<usize> {
        self.known.borrow().set.as_ref().map(|set| set.len())
    }

    /// Whose matter a key is that is not here.
    pub(super) fn unknown(&self) -> Unknown {
        let known = self.known.borrow();
        if known.set.is_none() || known.failed { Unknown::ToThisNode } else { Unknown::ToTheIssuer }
    }

    /// Has the source read again, where that may be, and waits for it. `false`: it takes too long.
    pub(super) async fn refresh(&self) -> bool {
        let mut known = self.known.subscribe();
        let reads = {
            let known = known.borrow_and_update();
            if !known.under_way {
                if !self.may_read(known.began) {
                    return true;
                }
                self.wanted.notify_one();
            }
            known.reads
        };
        let read = known.wait_for(|known| known.reads > reads);
        matches!(timeout(PATIENCE, read).await, Ok(Ok(_)))
    }

    fn may_read(&self, began: Option<Instant>) -> bool {
        began.is_none_or(|began| began + self.min_interval() <= self.clock.now())
    }

    fn min_interval(&self) -> Duration {
        Duration::from_millis(self.settings.min_interval_ms)
    }

    /// Reads again and again, for ever.
    pub(super) async fn keep(&self, metrics: &Metrics) {
        let mut document = Vec::new();
        loop {
            let began = self.clock.now();
            self.known.send_modify(|known| {
                known.under_way = true;
                known.began = Some(began);
            });
            let good = self.read_once(&mut document).await;
            metrics.key_set_read(good);
            self.rest(began, good).await;
        }
    }

    async fn read_once(&self, document: &mut Vec<u8>) -> bool {
        let found = key_source::read(&self.settings).await.and_then(|found| {
            let allowed = &self.settings.algorithms;
            let set = KeySet::parse(&found, allowed, &self.validation);
            let (set, left_out) = set.map_err(key_source::NotRead::new)?;
            if found != *document {
                let (keys, left_out) = (set.len(), left_out.join("; "));
                tracing::info!(keys, left_out, "users' tokens are checked with a new key set");
                *document = found;
            }
            Ok(set)
        });
        if let Err(why) = &found {
            tracing::warn!(%why, "the key set of auth.jwks could not be read; known keys stay good");
        }
        let good = found.is_ok();
        self.known.send_modify(|known| {
            known.under_way = false;
            known.reads += 1;
            known.failed = !good;
            if let Ok(set) = found {
                known.set = Some(Arc::new(set));
            }
        });
        good
    }

    async fn rest(&self, began: Instant, good: bool) {
        let soon = began + self.min_interval();
        let refresh = began + Duration::from_millis(self.settings.refresh_ms);
        let asked = async {
            self.wanted.notified().await;
            sleep_until(soon).await;
        };
        tokio::select! {
            () = sleep_until(if good { refresh.max(soon) } else { soon }) => {}
            () = asked => {}
        }
    }
}
