//! [`Directory`] over Redis. Its clock decides about leases.
//!
//! Who owns what stands in a set for each incarnation, written before the stream is opened, claimed
//! or restored: looking for orphans costs as much as there are dead owners, not streams. An entry
//! names the epoch, so that one which is over can be taken out without harm to a later one.

use super::RedisEngine;
use super::TRIES;
use super::link::AWAY;
use super::meta::{self, State};
use super::reply;
use super::scripts::Name;
use super::writing::{Wrote, of_member};
use crate::directory::{
    Claim, Claimed, Directory, Mark, NodeRecord, NodeStats, Orphan, OrphanCause, Renewal, Restore,
};
use crate::error::LogError;
use crate::log::Owner;
use async_trait::async_trait;
use protocol::{Epoch, Incarnation, MessageId, NodeName};
use redis::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A dead node is still listed this long.
const REMEMBER_DEAD: Duration = Duration::from_secs(60);
/// Most orphans of one answer, whatever was asked for.
const MOST_ORPHANS: usize = 4_096;
/// Entries read beyond what was asked for: some may be over.
const SPARE: usize = 64;

/// What a node says with each renewal.
#[derive(Serialize, Deserialize)]
struct Said {
    node: NodeName,
    stats: NodeStats,
}

/// A lease as it is stored.
struct Leased {
    ends: u64,
    said: Said,
}

impl Leased {
    fn parse(text: &str) -> Option<Self> {
        let (ends, said) = text.split_once(' ')?;
        Some(Self { ends: ends.parse().ok()?, said: serde_json::from_str(said).ok()? })
    }
}

type Leases = BTreeMap<Incarnation, Leased>;

fn leases(value: Value) -> Leases {
    let mut items = reply::items(value).into_iter();
    let mut leases = Leases::new();
    while let (Some(name), Some(lease)) = (items.next(), items.next()) {
        let named = reply::text(name).and_then(|name| Incarnation::parse(&name));
        let lease = reply::text(lease).and_then(|lease| Leased::parse(&lease));
        leases.extend(named.zip(lease));
    }
    leases
}

/// Everything that a look for orphans begins with.
struct Survey {
    now: u64,
    leases: Leases,
    dead: Vec<Incarnation>,
    offered: Vec<String>,
}

impl Survey {
    /// How long ago the lease of an owner ended; `None` while it is alive.
    fn dead_for(&self, owner: Incarnation) -> Option<Duration> {
        match self.leases.get(&owner) {
            Some(lease) if lease.ends > self.now => None,
            Some(lease) => Some(Duration::from_millis(self.now - lease.ends)),
            None => Some(REMEMBER_DEAD),
        }
    }

    fn orphan(&self, state: &State) -> Option<Orphan> {
        let hot = &state.hot;
        if hot.sealed {
            return None;
        }
        let dead = self.dead_for(hot.owner).map(|since| (OrphanCause::Dead, since));
        let marked = state.meta.hand_over.filter(|_| hot.hand_over);
        let marked = marked.map(|at| Duration::from_millis(self.now.saturating_sub(at)));
        let (cause, since) = dead.or(marked.map(|since| (OrphanCause::HandOver, since)))?;
        Some(Orphan {
            stream: state.opening.message,
            opening: state.opening.clone(),
            epoch: hot.epoch,
            owner: state.owner(),
            cause,
            since,
            barren: state.barren(),
            cancel: hot.cancel,
            used_tools: state.used_tools,
        })
    }
}

/// An entry of one of the sets.
struct Entry {
    set: String,
    member: String,
    stream: MessageId,
    epoch: Epoch,
}

impl RedisEngine {
    async fn survey(&self, limit: usize) -> Result<Survey, LogError> {
        let keys = &self.inner.keys;
        let mut pipeline = redis::Pipeline::new();
        pipeline.cmd("TIME");
        pipeline.cmd("HGETALL").arg(keys.leases());
        pipeline.cmd("SMEMBERS").arg(keys.owners());
        pipeline.cmd("SRANDMEMBER").arg(keys.offered()).arg(limit + SPARE);
        let mut answers = self.inner.writes.send(&pipeline).await?.into_iter();
        let mut next = || answers.next().unwrap_or_default();
        let now = reply::milliseconds(next()).ok_or(AWAY)?;
        let leases = leases(next());
        let owners = reply::items(next()).into_iter().filter_map(reply::text);
        let owners = owners.filter_map(|name| Incarnation::parse(&name)).collect();
        let offered = reply::items(next()).into_iter().filter_map(reply::text).collect();
        let mut survey = Survey { now, leases, dead: owners, offered };
        let mut dead = std::mem::take(&mut survey.dead);
        dead.retain(|owner| survey.dead_for(*owner).is_some());
        Ok(Survey { dead, ..survey })
    }

    /// Streams that may be orphans: of dead owners, and those that were offered.
    async fn suspects(&self, survey: &Survey, limit: usize) -> Result<Vec<Entry>, LogError> {
        let keys = &self.inner.keys;
        let offered = survey.offered.iter().map(|member| (keys.offered(), member.clone()));
        let mut members: Vec<_> = offered.collect();
        if !survey.dead.is_empty() {
            let mut pipeline = redis::Pipeline::new();
            for owner in &survey.dead {
                let set = keys.owned_by(&owner.to_string());
                pipeline.cmd("SRANDMEMBER").arg(set).arg(limit + SPARE);
            }
            let answers = self.inner.writes.send(&pipeline).await?;
            for (owner, answer) in survey.dead.iter().zip(answers) {
                let set = keys.owned_by(&owner.to_string());
                let owned = reply::items(answer).into_iter().filter_map(reply::text);
                members.extend(owned.map(|member| (set.clone(), member)));
            }
        }
        let entry = |(set, member): (String, String)| {
            let (stream, epoch) = of_member(&member)?;
            Some(Entry { set, member, stream, epoch })
        };
        Ok(members.into_iter().filter_map(entry).collect())
    }

    /// Takes out what is over, and dead owners that own nothing.
    async fn clean(&self, survey: &Survey, over: &[&Entry]) {
        let keys = &self.inner.keys;
        let mut pipeline = redis::Pipeline::new();
        for entry in over {
            pipeline.cmd("SREM").arg(&entry.set).arg(&entry.member);
        }
        let long_dead = survey
            .dead
            .iter()
            .filter(|owner| survey.dead_for(**owner).is_some_and(|since| since >= REMEMBER_DEAD));
        for owner in long_dead {
            let name = owner.to_string();
            let keys = [keys.owners(), keys.owned_by(&name)];
            let mut retire = self.inner.scripts.call(Name::Retire, &keys);
            retire.arg(name);
            pipeline.add_command(retire);
        }
        if !pipeline.is_empty() {
            // What stays is found again by the next look.
            let _ = self.inner.writes.send(&pipeline).await;
        }
    }

    async fn lease(&self, owner: &Owner, ttl: Duration, said: &str) -> Result<(), LogError> {
        let mut cmd = self.inner.scripts.call(Name::Lease, &[self.inner.keys.leases()]);
        cmd.arg(owner.incarnation.to_string()).arg(ttl.as_millis() as u64).arg(said);
        cmd.arg(REMEMBER_DEAD.as_millis() as u64);
        self.inner.writes.ask(cmd).await.map(drop)
    }
}

#[async_trait]
impl Directory for RedisEngine {
    async fn renew(
        &self,
        owner: &Owner,
        ttl: Duration,
        stats: &NodeStats,
    ) -> Result<Renewal, LogError> {
        let run = self.run_of_store().await?;
        let said = Said { node: owner.node.clone(), stats: stats.clone() };
        let said = serde_json::to_string(&said).map_err(|_| AWAY)?;
        self.lease(owner, ttl, &said).await?;
        // Not the run of before the call, where the connection was made anew for it.
        match self.run_of_store().await? {
            now if now == run => Ok(Renewal { run }),
            _ => Err(AWAY),
        }
    }

    async fn release(&self, owner: &Owner) -> Result<(), LogError> {
        self.lease(owner, Duration::ZERO, "").await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, LogError> {
        let survey = self.survey(0).await?;
        let mut nodes: Vec<_> = survey
            .leases
            .iter()
            .map(|(incarnation, lease)| NodeRecord {
                owner: Owner { node: lease.said.node.clone(), incarnation: *incarnation },
                alive: lease.ends > survey.now,
                stats: lease.said.stats.clone(),
            })
            .collect();
        nodes.sort_by(|a, b| {
            let (a, b) = (&a.owner, &b.owner);
            (&a.node, a.incarnation).cmp(&(&b.node, b.incarnation))
        });
        Ok(nodes)
    }

    async fn claim(&self, claim: &Claim, by: &Owner) -> Result<Claimed, LogError> {
        let stream = claim.stream;
        let life = self.life(stream);
        let rule = |state: &State, run| state.claim(claim, by, run, life);
        let claimed = self.change(stream, Some(by), rule).await;
        let epoch = claim.expected.next();
        if matches!(claimed, Err(LogError::Fenced { epoch: stands }) if stands >= epoch) {
            self.leave(by.incarnation, stream, epoch);
        }
        let state = claimed?;
        self.inner.kept.own(stream, state.hot);
        Ok(Claimed { head: state.head(true), opening: state.opening })
    }

    async fn mark(&self, stream: MessageId, mark: Mark) -> Result<(), LogError> {
        let rule = |state: &State, _| match mark {
            Mark::Cancel => state.cancel(),
            Mark::HandOver => state.hand_over(&self.inner.owner),
        };
        self.change(stream, None, rule).await.map(drop)
    }

    async fn orphans(&self, limit: usize) -> Result<Vec<Orphan>, LogError> {
        let limit = limit.min(MOST_ORPHANS);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let survey = self.survey(limit).await?;
        // Nobody can be called dead by a store that has forgotten who lives.
        self.inner.shore.runs.settled()?;
        let suspects = self.suspects(&survey, limit).await?;
        let (mut found, mut over) = (BTreeMap::new(), Vec::new());
        for part in suspects.chunks(limit + SPARE) {
            if found.len() >= limit {
                break;
            }
            let streams: Vec<_> = part.iter().map(|entry| entry.stream).collect();
            let states = self.inner.reading.peek_all(&streams).await?;
            for (entry, state) in part.iter().zip(states) {
                // Nothing is said of what is absent: it may be about to be opened, or restored.
                let Some(state) = state else { continue };
                if state.hot.sealed || state.hot.epoch > entry.epoch {
                    over.push(entry);
                } else if let Some(orphan) = survey.orphan(&state) {
                    found.insert(entry.stream, orphan);
                }
            }
        }
        self.clean(&survey, &over).await;
        Ok(found.into_values().take(limit).collect())
    }

    async fn restore(&self, restore: &Restore, owner: &Owner) -> Result<(), LogError> {
        let stream = restore.opening.message;
        for _ in 0..TRIES {
            let run = self.run_of_store().await?;
            let stands = self.peek(stream).await?;
            let life = self.life(stream);
            let swap = meta::restore(stands.as_ref(), restore, owner, run, life)?;
            let owns = (!swap.hot.sealed).then_some(owner);
            if self.inner.writing.swap(stream, &swap, owns).await? == Wrote::Done {
                self.inner.kept.own(stream, swap.hot);
                return Ok(());
            }
        }
        Err(AWAY)
    }
}
