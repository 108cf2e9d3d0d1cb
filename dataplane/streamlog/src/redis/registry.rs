//! [`Registry`] over Redis: strings that expire, and for each user an index of their names.

use super::RedisEngine;
use super::link::AWAY;
use super::reply;
use super::scripts::Name;
use crate::error::LogError;
use crate::registry::{Key, Rate, Registry, Space};
use async_trait::async_trait;
use redis::Value;
use std::time::Duration;

impl RedisEngine {
    fn put_command(&self, key: &Key, value: Vec<u8>, ttl: Duration, absent: bool) -> redis::Cmd {
        let keys = &self.inner.keys;
        let mut names = vec![keys.fact(key)];
        // What belongs to no user is in no list.
        if !key.user.is_empty() {
            names.push(keys.facts(key.space, &key.user));
        }
        let mut cmd = self.inner.scripts.call(Name::Put, &names);
        let live = (ttl.as_millis() as u64).max(1);
        cmd.arg(value).arg(live).arg(u8::from(absent)).arg(&key.name);
        cmd
    }

    /// One command on the fact, and its name out of the index.
    fn removal(&self, key: &Key, command: &str) -> redis::Pipeline {
        let keys = &self.inner.keys;
        let mut pipeline = redis::Pipeline::new();
        pipeline.cmd(command).arg(keys.fact(key));
        if !key.user.is_empty() {
            pipeline.cmd("ZREM").arg(keys.facts(key.space, &key.user)).arg(&key.name);
        }
        pipeline
    }
}

fn value(answer: Value) -> Result<Option<Vec<u8>>, LogError> {
    match answer {
        Value::Nil => Ok(None),
        other => reply::bytes(other).map(Some).ok_or(AWAY),
    }
}

#[async_trait]
impl Registry for RedisEngine {
    async fn put_if_absent(
        &self,
        key: &Key,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<Option<Vec<u8>>, LogError> {
        // Repeated by itself, it would find its own value.
        if key.space.is_promise() && self.absent() != LogError::NotFound {
            // Only what is there may be told; nothing new is promised meanwhile.
            return self.get(key).await;
        }
        self::value(self.inner.writes.ask_once(self.put_command(key, value, ttl, true)).await?)
    }

    async fn put(&self, key: &Key, value: Vec<u8>, ttl: Duration) -> Result<(), LogError> {
        self.inner.writes.ask(self.put_command(key, value, ttl, false)).await.map(drop)
    }

    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, LogError> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(self.inner.keys.fact(key));
        let found = value(self.inner.reads.ask(cmd).await?)?;
        match self.absent() {
            away @ LogError::Unavailable { .. } if found.is_none() && key.space.is_promise() => {
                Err(away)
            }
            _ => Ok(found),
        }
    }

    async fn take(&self, key: &Key) -> Result<Option<Vec<u8>>, LogError> {
        let answers = self.inner.writes.send_once(&self.removal(key, "GETDEL")).await?;
        value(answers.into_iter().next().ok_or(AWAY)?)
    }

    async fn remove(&self, key: &Key) -> Result<(), LogError> {
        self.inner.writes.send(&self.removal(key, "DEL")).await.map(drop)
    }

    async fn list(&self, space: Space, user: &str) -> Result<Vec<(String, Vec<u8>)>, LogError> {
        let keys = &self.inner.keys;
        let mut cmd = self.inner.scripts.call(Name::List, &[keys.facts(space, user)]);
        cmd.arg(keys.facts_before(space, user));
        let mut items = reply::items(self.inner.writes.ask(cmd).await?).into_iter();
        let mut found = Vec::new();
        while let (Some(name), Some(value)) = (items.next(), items.next()) {
            found.extend(reply::text(name).zip(reply::bytes(value)));
        }
        Ok(found)
    }

    async fn spend(&self, key: &Key, n: u32, rate: Rate) -> Result<Result<(), Duration>, LogError> {
        let mut cmd = self.inner.scripts.call(Name::Spend, &[self.inner.keys.fact(key)]);
        cmd.arg(rate.period.as_micros() as u64).arg(rate.burst).arg(n);
        let wait = reply::number(self.inner.writes.ask_once(cmd).await?).ok_or(AWAY)?;
        Ok(if wait == 0 { Ok(()) } else { Err(Duration::from_micros(wait)) })
    }
}
