//! Facts with a time to live, rates, hints.

use super::{Fixture, Handles, ids, user};
use crate::bus::{BUS_CAPACITY, BusEvent, Hint, Target};
use crate::registry::{Key, Rate, Space};
use futures_util::future::join_all;
use protocol::{MessageId, UserId};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

const LONG: Duration = Duration::from_secs(3_600);
/// Bound on everything that must come by itself.
const SOON: Duration = Duration::from_secs(5);
/// Long enough for what is on its way to arrive.
const A_WHILE: Duration = Duration::from_millis(100);

fn key(name: &str) -> Key {
    Key::of(Space::Request, &user(), name)
}

pub async fn a_fact_is_put_once_if_absent<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await.registry, store.incarnation("b").await.registry);
    assert_eq!(a.put_if_absent(&key("k"), b"1".to_vec(), LONG).await, Ok(None));
    assert_eq!(b.put_if_absent(&key("k"), b"2".to_vec(), LONG).await, Ok(Some(b"1".to_vec())));
    assert_eq!(a.get(&key("k")).await, Ok(Some(b"1".to_vec())));
    let (k, l) = (key("raced"), key("raced"));
    let race = tokio::join!(
        a.put_if_absent(&k, b"1".to_vec(), LONG),
        b.put_if_absent(&l, b"2".to_vec(), LONG)
    );
    let absent = [&race.0, &race.1].iter().filter(|found| matches!(found, Ok(None))).count();
    assert_eq!(absent, 1, "{race:?}");
}

pub async fn facts_are_put_read_and_removed<F: Fixture>() {
    let store = F::new().await;
    let registry = store.incarnation("a").await.registry;
    assert_eq!(registry.get(&key("k")).await, Ok(None));
    registry.put(&key("k"), b"1".to_vec(), LONG).await.unwrap();
    registry.put(&key("k"), vec![0, 255], LONG).await.unwrap();
    assert_eq!(registry.get(&key("k")).await, Ok(Some(vec![0, 255])), "any bytes");
    for other in
        [key("l"), Key::global(Space::Request, "k"), Key { space: Space::Ticket, ..key("k") }]
    {
        assert_eq!(registry.get(&other).await, Ok(None), "{other:?} is another fact");
    }
    registry.remove(&key("k")).await.unwrap();
    registry.remove(&key("k")).await.unwrap();
    assert_eq!(registry.get(&key("k")).await, Ok(None));
    assert_eq!(registry.put_if_absent(&key("k"), b"3".to_vec(), LONG).await, Ok(None));
}

pub async fn facts_end_with_their_time<F: Fixture>() {
    let store = F::new().await;
    let registry = store.incarnation("a").await.registry;
    let ttl = store.ttl();
    for name in ["put", "taken", "renewed"] {
        registry.put(&key(name), b"1".to_vec(), ttl).await.unwrap();
    }
    registry.put_if_absent(&key("absent"), b"1".to_vec(), ttl).await.unwrap();
    registry.put(&key("renewed"), b"2".to_vec(), ttl * 10).await.unwrap();
    assert_eq!(registry.list(Space::Request, user().as_str()).await.unwrap().len(), 4);
    store.advance(ttl * 2).await;
    assert_eq!(registry.get(&key("put")).await, Ok(None));
    assert_eq!(registry.take(&key("taken")).await, Ok(None));
    assert_eq!(registry.put_if_absent(&key("absent"), b"2".to_vec(), LONG).await, Ok(None));
    let mut left = registry.list(Space::Request, user().as_str()).await.unwrap();
    left.sort();
    let named = |name: &str| (name.to_owned(), b"2".to_vec());
    assert_eq!(left, [named("absent"), named("renewed")]);
}

pub async fn a_fact_is_taken_once<F: Fixture>() {
    let store = F::new().await;
    let mut takers = Vec::new();
    for at in 0..8 {
        takers.push(store.incarnation(&format!("n{at}")).await);
    }
    let ticket = Key::global(Space::Ticket, "t");
    takers[0].registry.put(&ticket, b"1".to_vec(), LONG).await.unwrap();
    let taken = join_all(takers.iter().map(|taker| taker.registry.take(&ticket))).await;
    let got = taken.iter().filter(|taken| matches!(taken, Ok(Some(_)))).count();
    assert_eq!(got, 1, "{taken:?}");
    assert_eq!(takers[0].registry.get(&ticket).await, Ok(None));
}

pub async fn facts_are_listed_by_user_and_space<F: Fixture>() {
    let store = F::new().await;
    let registry = store.incarnation("a").await.registry;
    let mine = [("s1", b"1"), ("s2", b"2")];
    for (name, value) in mine {
        registry.put(&Key::of(Space::Session, &user(), name), value.to_vec(), LONG).await.unwrap();
    }
    // Neighbours in every direction, prefixes included.
    for user in ["alic", "alicf", "alice2", "alice:", ""] {
        let key = Key::of(Space::Session, &UserId::new(user), "other");
        registry.put(&key, b"x".to_vec(), LONG).await.unwrap();
    }
    registry.put(&key("request"), b"x".to_vec(), LONG).await.unwrap();
    let mut listed = registry.list(Space::Session, user().as_str()).await.unwrap();
    listed.sort();
    assert_eq!(listed, mine.map(|(name, value)| (name.to_owned(), value.to_vec())));
    assert_eq!(registry.list(Space::Session, "nobody").await, Ok(Vec::new()));
}

pub async fn a_rate_is_spent_as_gcra_says<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await.registry, store.incarnation("b").await.registry);
    let period = store.ttl();
    let rate = Rate { period, burst: 3 };
    let key = Key::of(Space::Rate, &user(), "requests");
    let spend = async |n| a.spend(&key, n, rate).await.unwrap();
    assert_eq!(spend(2).await, Ok(()));
    assert_eq!(b.spend(&key, 1, rate).await.unwrap(), Ok(()), "the burst, on any node");
    let wait = spend(1).await.expect_err("the burst is spent");
    assert!(wait <= period && wait > period / 2, "one unit comes back within a period: {wait:?}");
    let wait = spend(3).await.expect_err("nothing was spent by a refusal");
    assert!(wait <= period * 3 && wait > period * 2, "{wait:?}");
    store.advance(period).await;
    assert_eq!(spend(1).await, Ok(()));
    assert!(spend(1).await.is_err());
    store.advance(period * 10).await;
    assert_eq!(spend(3).await, Ok(()), "never more than the burst");
    assert!(spend(1).await.is_err());
    let other = Key::of(Space::Rate, &UserId::new("bob"), "requests");
    assert_eq!(a.spend(&other, 3, rate).await.unwrap(), Ok(()), "each key has its own");
}

async fn next(hints: &mut broadcast::Receiver<Hint>, me: &Handles) -> BusEvent {
    loop {
        let hint = tokio::time::timeout(SOON, hints.recv()).await.expect("a hint").unwrap();
        if matches!(hint.to, Target::Node(other) if other != me.owner.incarnation) {
            continue;
        }
        return hint.event;
    }
}

pub async fn hints_reach_everybody_who_listens<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    a.bus.publish(Target::All, BusEvent::Broadcast("EARLY".to_owned())).await.unwrap();
    // What was said before is not heard, once it has passed.
    store.advance(A_WHILE).await;
    let (mut at_a, mut at_b) = (a.bus.subscribe(), b.bus.subscribe());
    let cancel = BusEvent::Cancel(MessageId(ids().uuid()));
    let for_a = Target::Node(a.owner.incarnation);
    b.bus.publish(for_a, cancel.clone()).await.unwrap();
    a.bus.publish(Target::All, BusEvent::HandOver).await.unwrap();
    assert_eq!(next(&mut at_a, &a).await, cancel);
    assert_eq!(next(&mut at_a, &a).await, BusEvent::HandOver, "the sender included");
    assert_eq!(next(&mut at_b, &b).await, BusEvent::HandOver, "and nothing for somebody else");
}

pub async fn a_slow_listener_slows_nobody<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    let mut slow = b.bus.subscribe();
    let last = BusEvent::Broadcast("LAST".to_owned());
    for _ in 0..BUS_CAPACITY + 10 {
        let hint = a.bus.publish(Target::All, BusEvent::HandOver);
        tokio::time::timeout(SOON, hint).await.expect("nobody waits").unwrap();
    }
    a.bus.publish(Target::All, last.clone()).await.unwrap();
    let listen = async {
        let mut lost = 0;
        loop {
            match slow.recv().await {
                Ok(hint) if hint.event == last => return lost,
                Ok(_) => {}
                Err(RecvError::Lagged(n)) => lost += n,
                Err(RecvError::Closed) => panic!("closed"),
            }
        }
    };
    let lost = tokio::time::timeout(SOON, listen).await.expect("the newest hints are kept");
    assert!(lost > 0, "the oldest were lost, and the listener knows");
}
