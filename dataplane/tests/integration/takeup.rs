//! What a running process takes up: limits, drains and keys, while nobody is disturbed. Real processes.

use crate::fixture::{Call, KEY, Socket};
use crate::playground::eventually;
use crate::process::{Running, Setup, yaml};
use protocol::{DrainReport, ServerFrame};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use streamlog::Clock;

const ADMIN: &str = "the admin key of before";
const NEW: &str = "another key, thirty-two bytes or so";

/// A process with a file of hot settings, and with its keys as files.
struct Place {
    setup: Setup,
    folder: PathBuf,
}

fn place() -> Place {
    let mut setup = Setup::new(&yaml("limits:\n  socketsPerUser: 100\n"));
    let folder = setup.folder().to_owned();
    for (name, file, key) in [
        ("CHAT_JWT_SECRET", "jwt", KEY),
        ("CHAT_RESUME_SECRET", "resume", KEY),
        ("CHAT_ADMIN_KEY", "admin", ADMIN.as_bytes()),
    ] {
        write(&folder.join(file), key);
        setup.set(name, "");
        setup.set(&format!("{name}_FILE"), folder.join(file).to_str().unwrap());
        let previous = folder.join(format!("{file}-previous"));
        setup.set(&format!("{name}_PREVIOUS_FILE"), previous.to_str().unwrap());
    }
    setup.set("CHAT_HOT", folder.join("hot.yaml").to_str().unwrap());
    Place { setup, folder }
}

/// As a mounted volume changes: in one step.
fn write(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, path).unwrap();
}

async fn report(running: &Running, key: &str) -> Option<DrainReport> {
    let url = format!("http://{}/admin/drain", running.admin);
    let answer = reqwest::Client::new().get(url).bearer_auth(key).send().await.unwrap();
    answer.error_for_status().ok()?.json().await.ok()
}

async fn generation(running: &Running, wanted: u64) {
    eventually(async || report(running, ADMIN).await.unwrap().settings_generation == wanted).await;
}

async fn refused(call: &Call) -> u16 {
    match call.connect().await {
        Ok(_) => panic!("it was let in"),
        Err((status, _)) => status,
    }
}

/// It is open, and the node answers on it.
async fn beats(socket: &mut Socket) {
    socket.say(json!({"type": "HEARTBEAT"})).await;
    while !matches!(socket.frame().await, ServerFrame::HeartbeatAck(_)) {}
}

async fn sockets(running: &Running, count: usize) -> Vec<Socket> {
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(running.call().welcomed().await);
    }
    open
}

#[tokio::test]
async fn limits_change_while_it_runs_and_whoever_is_in_stays() {
    let place = place();
    let running = place.setup.run();
    eventually(async || running.ready().await == 200).await;
    assert_eq!(
        report(&running, ADMIN).await.unwrap().settings_generation,
        0,
        "there is no file yet"
    );
    let mut open = sockets(&running, 3).await;
    write(&place.folder.join("hot.yaml"), b"generation: 4\nlimits: {sessions: 2}\n");
    generation(&running, 4).await;
    let told = report(&running, ADMIN).await.unwrap();
    assert_eq!((told.capacity, told.sessions, told.accepting), (2, 3, true));
    assert_eq!(refused(&running.call()).await, 503, "it is full now");
    for socket in &mut open {
        beats(socket).await;
    }
    write(&place.folder.join("hot.yaml"), b"generation: 5\nlimits: {sessions: 9}\n");
    generation(&running, 5).await;
    open.extend(sockets(&running, 1).await);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_told_and_the_old_stays() {
    let place = place();
    let hot = place.folder.join("hot.yaml");
    write(&hot, b"generation: 1\nlimits: {sessions: 7}\n");
    let mut running = place.setup.run();
    eventually(async || running.ready().await == 200).await;
    for bad in [
        "generation: 2\nlimits: {sessions: none}\n",
        "generation: 2\nstream: {coalesceMs: 5}\n",
        "generation: 2\nlimits: {streams: 0}\n",
    ] {
        write(&hot, bad.as_bytes());
        let told =
            running.hears("a change of the files is refused; what was read before stays in force");
        assert!(told["why"].as_str().unwrap().contains("hot.yaml"), "{told}");
        let report = report(&running, ADMIN).await.unwrap();
        assert_eq!((report.settings_generation, report.capacity), (1, 7), "{bad}");
    }
    write(&hot, b"generation: 3\nlimits: {sessions: 8}\n");
    generation(&running, 3).await;
    // At the start there is nothing old to stay with.
    write(&hot, b"stream: {coalesceMs: 5}\n");
    let (code, _, said) = place.setup.check();
    assert!(code == Some(2) && said.contains("hot.yaml") && said.contains("stream"), "{said}");
}

#[tokio::test]
async fn keys_rotate_while_old_and_new_tokens_are_good_and_nobody_is_disturbed() {
    let place = place();
    let running = place.setup.run();
    eventually(async || running.ready().await == 200).await;
    let mut before = running.call().welcomed().await;
    let first = report(&running, ADMIN).await.unwrap().key_ids;
    assert_eq!((first.jwt.len(), first.resume.len(), first.admin.len()), (1, 1, 1));
    let with_new = || {
        let ttl = Duration::from_secs(600);
        let token = dataplane::admit::token::mint(NEW.as_bytes(), "alice", ttl, &Clock::system());
        let mut call = running.call();
        call.token = Some(token);
        call
    };
    assert_eq!(refused(&with_new()).await, 401);
    // Accepted first, then in use, then alone.
    write(&place.folder.join("jwt-previous"), NEW.as_bytes());
    write(&place.folder.join("admin-previous"), NEW.as_bytes());
    eventually(async || {
        report(&running, NEW).await.is_some_and(|told| told.key_ids.jwt.len() == 2)
    })
    .await;
    with_new().welcomed().await;
    running.call().welcomed().await;
    write(&place.folder.join("jwt"), NEW.as_bytes());
    write(&place.folder.join("jwt-previous"), KEY);
    eventually(async || report(&running, ADMIN).await.unwrap().key_ids.jwt[1] == first.jwt[0])
        .await;
    with_new().welcomed().await;
    running.call().welcomed().await;
    write(&place.folder.join("jwt-previous"), b"");
    eventually(async || report(&running, ADMIN).await.unwrap().key_ids.jwt.len() == 1).await;
    assert_eq!(refused(&running.call()).await, 401, "the old key has had its time");
    with_new().welcomed().await;
    beats(&mut before).await;
    // A key that cannot be one changes nothing.
    write(&place.folder.join("jwt"), b"short");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    with_new().welcomed().await;
}
