//! What a lost hint cannot delay for longer than this, and cleaning.

use super::Inner;
use super::head::{Hot, LENGTH, is_absent};
use super::keys::Keys;
use super::reply;
use super::scripts::Name;
use super::stats::add;
use protocol::MessageId;
use redis::Value;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often the followed streams are looked at.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// Commands of one pipeline.
const AT_ONCE: usize = 1_000;

/// Sweeps for ever.
pub(super) async fn run(inner: &Arc<Inner>) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        add(&inner.shore.counters.sweeps, 1);
        for part in inner.kept.followed().chunks(AT_ONCE) {
            look(inner, part).await;
        }
        clean(inner).await;
    }
}

/// Compares the heads in the store with what is known here.
async fn look(inner: &Inner, streams: &[MessageId]) {
    let mut pipeline = redis::Pipeline::with_capacity(streams.len());
    for stream in streams {
        let [head, ..] = inner.keys.stream(*stream);
        pipeline.cmd("GET").arg(head);
    }
    let Ok(answers) = inner.reads.send(&pipeline).await else { return };
    let me = Keys::follower(inner.owner.incarnation);
    for (stream, answer) in streams.iter().zip(answers) {
        let found = match answer {
            Value::Nil => None,
            answer => {
                let Some(head) = reply::bytes(answer) else { continue };
                Some(head).filter(|head| !is_absent(head))
            }
        };
        let Some(found) = found else {
            inner.kept.lost(*stream);
            continue;
        };
        let Some((head, followers)) = parted(found) else { continue };
        if inner.kept.learn(*stream, head) {
            add(&inner.shore.counters.backfills, 1);
        }
        let listed = followers.windows(me.len()).any(|name| name == me.as_bytes());
        if !listed && !head.sealed {
            inner.kept.close(Some(*stream));
        }
    }
}

fn parted(mut head: Vec<u8>) -> Option<(Hot, Vec<u8>)> {
    let followers = head.split_off(LENGTH.min(head.len()));
    Some((Hot::parse(&head)?, followers))
}

/// Takes this node off the lists of streams that nobody here follows, and out of the sets of what it
/// owned.
async fn clean(inner: &Inner) {
    let strangers = inner.kept.tidy();
    let leaving = {
        let mut leaving = inner.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *leaving)
    };
    let me = Keys::follower(inner.owner.incarnation);
    let strange = strangers.iter().map(|stream| {
        let [head, ..] = inner.keys.stream(*stream);
        let mut cmd = inner.scripts.call(Name::Unfollow, &[head]);
        cmd.arg(&me);
        cmd
    });
    let left = leaving.iter().map(|(owner, member)| {
        let mut cmd = redis::cmd("SREM");
        cmd.arg(inner.keys.owned_by(&owner.to_string())).arg(member);
        cmd
    });
    let commands: Vec<_> = strange.chain(left).collect();
    for part in commands.chunks(AT_ONCE) {
        let mut pipeline = redis::Pipeline::with_capacity(part.len());
        for cmd in part {
            pipeline.add_command(cmd.clone());
        }
        // What fails is found by whoever looks for orphans, or told again by the stream.
        let _ = inner.writes.send(&pipeline).await;
    }
}
