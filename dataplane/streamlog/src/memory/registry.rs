//! [`Registry`] over the shared state.

use super::{MemoryHandle, State};
use crate::error::LogError;
use crate::registry::{Key, Rate, Registry, Space};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Facts {
    values: BTreeMap<Key, (Vec<u8>, Instant)>,
    /// GCRA's theoretical arrival time of each key.
    arrivals: BTreeMap<Key, Instant>,
}

impl Facts {
    pub(super) fn sweep(&mut self, now: Instant) {
        self.values.retain(|_, (_, until)| *until > now);
        self.arrivals.retain(|_, arrival| *arrival > now);
    }

    fn get(&self, key: &Key, now: Instant) -> Option<&Vec<u8>> {
        self.values.get(key).filter(|(_, until)| *until > now).map(|(value, _)| value)
    }

    fn put(&mut self, key: &Key, value: Vec<u8>, until: Instant) {
        self.values.insert(key.clone(), (value, until));
    }

    /// GCRA: an arrival may run ahead of now by at most burst × period.
    fn spend(&mut self, key: &Key, n: u32, rate: Rate, now: Instant) -> Result<(), Duration> {
        let arrival = self.arrivals.get(key).copied().unwrap_or(now).max(now);
        let next = arrival + rate.period * n;
        let horizon = now + rate.period * rate.burst;
        if next > horizon {
            return Err(next.saturating_duration_since(horizon));
        }
        self.arrivals.insert(key.clone(), next);
        Ok(())
    }
}

impl State {
    /// A promise that is not here may be about to be written back.
    fn promised(&self, key: &Key, now: Instant) -> Result<Option<Vec<u8>>, LogError> {
        let found = self.facts.get(key, now).cloned();
        match (&found, self.absent(now)) {
            (None, away @ LogError::Unavailable { .. }) if key.space.is_promise() => Err(away),
            _ => Ok(found),
        }
    }
}

#[async_trait]
impl Registry for MemoryHandle {
    async fn put_if_absent(
        &self,
        key: &Key,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<Option<Vec<u8>>, LogError> {
        self.with(|state, now| {
            let found = state.promised(key, now)?;
            if found.is_none() {
                state.facts.put(key, value, now + ttl);
            }
            Ok(found)
        })
        .await
    }

    async fn put(&self, key: &Key, value: Vec<u8>, ttl: Duration) -> Result<(), LogError> {
        self.with(|state, now| {
            state.facts.put(key, value, now + ttl);
            Ok(())
        })
        .await
    }

    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, LogError> {
        self.with(|state, now| state.promised(key, now)).await
    }

    async fn take(&self, key: &Key) -> Result<Option<Vec<u8>>, LogError> {
        self.with(|state, now| {
            let found = state.facts.get(key, now).cloned();
            state.facts.values.remove(key);
            Ok(found)
        })
        .await
    }

    async fn remove(&self, key: &Key) -> Result<(), LogError> {
        self.with(|state, _| {
            state.facts.values.remove(key);
            Ok(())
        })
        .await
    }

    async fn list(&self, space: Space, user: &str) -> Result<Vec<(String, Vec<u8>)>, LogError> {
        self.with(|state, now| {
            let start = Key { space, user: user.to_owned(), name: String::new() };
            let own = state.facts.values.range(start..);
            let own = own.take_while(|(key, _)| key.space == space && key.user == user);
            let alive = own.filter(|(_, (_, until))| *until > now);
            Ok(alive.map(|(key, (value, _))| (key.name.clone(), value.clone())).collect())
        })
        .await
    }

    async fn spend(&self, key: &Key, n: u32, rate: Rate) -> Result<Result<(), Duration>, LogError> {
        self.with(|state, now| Ok(state.facts.spend(key, n, rate, now))).await
    }
}
