//! Sockets over real TCP: upgrade, delivery, backpressure, and everything RFC 6455 asks of a server.

use crate::fixture::{Call, Fixture, Socket, texts};
use futures_util::SinkExt;
use protocol::drain::DrainRequest;
use protocol::server_frame::{RecoveryStatus, ServerFrame};
use protocol::{ErrorCode, Index, SealStatus};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

const SESSION: &str = "018f4d5e-0000-7000-8000-000000000001";

#[tokio::test]
async fn welcome_in_both_dialects() {
    let fixture = Fixture::start().await;
    let mut v1 = fixture.call().connect().await.unwrap();
    let ServerFrame::Welcome(welcome) = v1.frame().await else { panic!() };
    let more = welcome.v1.unwrap();
    assert_eq!((more.protocol.as_str(), more.node.as_str()), ("chatcluster.v1", "edge-1"));
    assert!(!more.resume_token.is_empty());
    let call = Call { protocols: None, query: format!("?sessionId={SESSION}"), ..fixture.call() };
    let mut basic = call.connect().await.unwrap();
    let ServerFrame::Welcome(welcome) = basic.frame().await else { panic!() };
    assert_eq!((welcome.session_id.to_string(), welcome.v1), (SESSION.to_owned(), None));
    assert_eq!(welcome.user_id.as_str(), "alice");
    assert_eq!(fixture.node.sockets.len(), 2);
}

#[tokio::test]
async fn who_is_not_upgraded() {
    let mut settings = dataplane::playground::settings();
    settings.auth.allowed_origins = vec!["https://chat.example".to_owned()];
    let fixture = Fixture::with(settings).await;
    let refused = async |call: Call| {
        let (status, body) = call.connect().await.err().unwrap();
        assert_eq!(body["status"], status);
        (status, body["code"].as_str().unwrap().to_owned())
    };
    let call = fixture.call();
    let nobody = Call { token: None, ..call.clone() };
    assert_eq!(refused(nobody).await, (401, "UNAUTHENTICATED".to_owned()));
    for protocols in [None, call.protocols.clone()] {
        let call = Call { protocols, ..call.clone() };
        let bad_session = Call { query: "?sessionId=7".to_owned(), ..call.clone() };
        assert_eq!(refused(bad_session).await, (400, "INVALID_MESSAGE".to_owned()));
        let stranger = Call { origin: Some("https://evil.example".to_owned()), ..call.clone() };
        assert_eq!(refused(stranger).await, (403, "FORBIDDEN".to_owned()));
        let friend = Call { origin: Some("https://chat.example".to_owned()), ..call };
        friend.welcomed().await;
    }
}

#[tokio::test]
async fn a_full_node_takes_no_other_session_and_lets_its_own_come_back() {
    let mut settings = dataplane::playground::settings();
    settings.limits.sessions = 1;
    let fixture = Fixture::with(settings).await;
    let mine = Call { query: format!("?sessionId={SESSION}"), ..fixture.call() };
    let first = mine.welcomed().await;
    let other = fixture.call();
    for protocols in [None, other.protocols.clone()] {
        let (status, body) =
            Call { protocols, ..other.clone() }.connect().await.err().expect("it is full");
        assert_eq!((status, &body["code"]), (503, &json!("AT_CAPACITY")));
        assert_eq!(body["retryAfterMs"], 5_000);
    }
    let second = mine.welcomed().await;
    assert_eq!((fixture.node.sockets.len(), fixture.node.sockets.sessions()), (2, 1));
    drop((first, second));
    let free = async {
        while other.connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), free).await.expect("the place came back");
}

#[tokio::test]
async fn of_many_that_come_at_once_a_node_lets_in_no_more_than_it_carries() {
    let mut settings = dataplane::playground::settings();
    settings.limits.sessions = 5;
    let fixture = Fixture::with(settings).await;
    let coming = (0..20).map(|_| {
        let call = fixture.call();
        async move {
            let mut socket = call.connect().await.ok()?;
            // Those that a place was lost to after their upgrade are closed with 1013.
            matches!(socket.next().await, Some(Ok(Message::Text(_)))).then_some(socket)
        }
    });
    let came: Vec<_> = futures_util::future::join_all(coming).await;
    assert_eq!(came.iter().flatten().count(), 5);
    assert_eq!(fixture.node.sockets.sessions(), 5);
}

/// Speaks HTTP by hand and returns the head of the answer.
async fn head_of(fixture: &Fixture, headers: &str) -> String {
    let mut tcp = TcpStream::connect(fixture.address()).await.unwrap();
    let request = format!("GET /ws/chat HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut head = vec![0; 4_096];
    let read = tcp.read(&mut head).await.unwrap();
    String::from_utf8_lossy(&head[..read]).to_lowercase()
}

#[tokio::test]
async fn what_is_no_handshake() {
    let fixture = Fixture::start().await;
    let plain = head_of(&fixture, "").await;
    assert!(plain.starts_with("http/1.1 426") && plain.contains("upgrade: websocket"), "{plain}");
    let old = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n";
    let old = head_of(&fixture, old).await;
    assert!(old.starts_with("http/1.1 426") && old.contains("version: 13"), "{old}");
    let keyless = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    assert!(head_of(&fixture, keyless).await.starts_with("http/1.1 400"));
}

#[tokio::test]
async fn who_is_upgraded_only_to_be_closed() {
    let mut settings = dataplane::playground::settings();
    settings.limits.sockets_per_user = 2;
    let fixture = Fixture::with(settings).await;
    let call = fixture.call();
    let nobody = Call { token: Some("x.y.z".to_owned()), protocols: None, ..call.clone() };
    let mut socket = nobody.connect().await.unwrap();
    let ServerFrame::Error(error) = socket.frame().await else { panic!() };
    assert_eq!(error.error, "Authentication failed");
    assert_eq!(socket.closed().await, 4500);

    let mine = Call { query: format!("?sessionId={SESSION}"), ..call.clone() };
    let _first = mine.welcomed().await;
    let token = Some(fixture.token("bob", Duration::from_secs(60)));
    let his = Call { token, ..mine.clone() };
    assert_eq!(his.connect().await.unwrap().closed().await, 4501);
    let _second = mine.welcomed().await;
    assert_eq!(call.connect().await.unwrap().closed().await, 4504);

    let offer = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: other.v9\r\n";
    let head = head_of(&fixture, offer).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
}

#[tokio::test]
async fn unknown_subprotocols_close_4503() {
    let fixture = Fixture::start().await;
    let mut tcp = TcpStream::connect(fixture.address()).await.unwrap();
    let request = "GET /ws/chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: other.v9\r\n\r\n";
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    while !all.windows(2).any(|pair| pair == 4503_u16.to_be_bytes()) {
        assert!(tcp.read_buf(&mut all).await.unwrap() > 0, "{all:?}");
    }
}

#[tokio::test]
async fn a_live_answer_arrives_as_it_is_written() {
    let fixture = Fixture::start().await;
    let mut writer = fixture.writer().await;
    writer.append(&["a"]).await;
    let mut socket = fixture.v1().await;
    socket.reconnect(writer.message, -1).await;
    let ServerFrame::Recovery(recovery) = socket.frame().await else { panic!() };
    assert_eq!((recovery.status, recovery.live), (RecoveryStatus::Recovered, true));
    assert_eq!(texts(&[socket.frame().await], 0), ["a"]);
    writer.append(&["b", "c"]).await;
    assert_eq!(texts(&[socket.frame().await], 1), ["b", "c"]);
    assert_eq!(fixture.node.sockets.all()[0].live_follows(), 1);
    writer.seal(SealStatus::Completed).await;
    let ServerFrame::Complete(complete) = socket.frame().await else { panic!() };
    assert_eq!((complete.total_chunks, complete.digest), (Index(3), writer.digest));
}

#[tokio::test]
async fn a_request_is_accepted_followed_and_completed() {
    let fixture = Fixture::start().await;
    for mut socket in [fixture.v1().await, fixture.basic().await] {
        let content = "[sim tokens=20 rate=200 seed=3] hello";
        socket.say(json!({"type": "CHAT_REQUEST", "content": content})).await;
        let frames = socket.until_end().await;
        assert_eq!(texts(&frames, 0).len(), 20);
        let Some(ServerFrame::Complete(complete)) = frames.last() else { panic!("{frames:?}") };
        if let Some(content) = &complete.content {
            assert_eq!(*content, texts(&frames, 0).concat());
            assert!(frames[..frames.len() - 1].iter().all(|f| matches!(f, ServerFrame::Chunk(_))));
        } else {
            assert!(matches!(frames[0], ServerFrame::Accepted(_)), "{frames:?}");
        }
    }
}

#[tokio::test]
async fn a_replay_is_few_messages_with_every_chunk() {
    let fixture = Fixture::start().await;
    let mut writer = fixture.writer().await;
    let all: Vec<String> = (0..200).map(|n| format!("chunk {n} ")).collect();
    for text in &all {
        writer.append(&[text]).await;
    }
    writer.seal(SealStatus::Completed).await;
    let mut socket = fixture.v1().await;
    socket.reconnect(writer.message, -1).await;
    let frames = socket.until_end().await;
    assert_eq!(texts(&frames, 0), all);
    assert!(frames.len() < 10, "{} frames", frames.len());
    socket.reconnect(writer.message, 149).await;
    assert_eq!(texts(&socket.until_end().await, 150), all[150..]);
    let mut basic = fixture.basic().await;
    basic.reconnect(writer.message, 99).await;
    let frames = basic.until_end().await;
    assert_eq!(texts(&frames, 100), all[100..]);
    let Some(ServerFrame::Complete(complete)) = frames.last() else { panic!() };
    assert_eq!(complete.content.as_deref(), Some(all.concat().as_str()));
}

#[tokio::test]
async fn a_slow_reader_costs_bounded_memory_and_slows_nobody() {
    let fixture = Fixture::start().await;
    let mut writer = fixture.writer().await;
    let (mut slow, mut fast) = (fixture.v1().await, fixture.v1().await);
    slow.reconnect(writer.message, -1).await;
    fast.reconnect(writer.message, -1).await;
    let text = "x".repeat(1_000);
    let page: Vec<&str> = (0..50).map(|_| text.as_str()).collect();
    let reading = async {
        let mut seen = 0;
        while seen < 10_000 {
            let frame = fast.frame().await;
            seen += texts_from(&frame, seen).len() as u64;
        }
    };
    let writing = async {
        for _ in 0..200 {
            writer.append(&page).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(reading, writing);
    // Ten megabytes passed; the one that reads nothing has at most its queue and one round.
    let queued: Vec<usize> = fixture.node.sockets.all().iter().map(|s| s.queued_bytes()).collect();
    let bound = fixture.node.settings.socket.queue_bytes + 256 * 1_024;
    assert!(queued.iter().any(|bytes| *bytes > 0), "nobody is slow: {queued:?}");
    assert!(queued.iter().all(|bytes| *bytes <= bound), "{queued:?}");
    writer.seal(SealStatus::Completed).await;
    assert_eq!(texts(&slow.until_end().await, 0).len(), 10_000);
}

fn texts_from(frame: &ServerFrame, first: u64) -> Vec<String> {
    texts(std::slice::from_ref(frame), first)
}

#[tokio::test]
async fn heartbeats_pings_and_fragments() {
    let fixture = Fixture::start().await;
    let mut socket = fixture.v1().await;
    socket.say(json!({"type": "HEARTBEAT", "t": {"n": 1}})).await;
    let ServerFrame::HeartbeatAck(ack) = socket.frame().await else { panic!() };
    assert_eq!(ack.t, Some(json!({"n": 1})));
    socket.raw(Message::Ping("hello".into())).await;
    let pong = socket.next().await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("hello".into()));
    let text = r#"{"type":"HEARTBEAT","t":"grüß"}"#.as_bytes();
    // Cut inside of a character, with a ping in between.
    let cut = text.iter().position(|byte| *byte >= 0x80).unwrap() + 1;
    let part = |bytes: &[u8], kind, last| {
        Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(kind), last))
    };
    socket.raw(part(&text[..cut], Data::Text, false)).await;
    socket.raw(Message::Ping("in between".into())).await;
    socket.raw(part(&text[cut..], Data::Continue, true)).await;
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("in between".into()));
    let ServerFrame::HeartbeatAck(ack) = socket.frame().await else { panic!() };
    assert_eq!(ack.t, Some(json!("grüß")));
}

#[tokio::test]
async fn broken_messages_close_with_their_code() {
    let fixture = Fixture::start().await;
    let text =
        |bytes: Vec<u8>| Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true));
    let mut socket = fixture.v1().await;
    socket.raw(text(vec![b'{', 0xff, b'}'])).await;
    assert_eq!(socket.closed().await, 1007);
    let mut socket = fixture.v1().await;
    // The server does not wait for the rest of it.
    let _ = socket.socket.send(Message::text("x".repeat(256 * 1_024 + 1))).await;
    assert_eq!(socket.closed().await, 1009);
    let mut socket = fixture.v1().await;
    socket.raw(Message::text(" ".repeat(256 * 1_024))).await;
    let ServerFrame::Error(error) = socket.frame().await else { panic!() };
    assert_eq!(error.code, ErrorCode::InvalidJson);
    socket.raw(Message::binary(vec![1, 2])).await;
    let ServerFrame::Error(error) = socket.frame().await else { panic!() };
    assert_eq!(error.code, ErrorCode::InvalidMessage);
}

#[tokio::test]
async fn too_many_bad_frames_close_4502() {
    let fixture = Fixture::start().await;
    let mut socket = fixture.v1().await;
    for _ in 0..20 {
        socket.raw(Message::text("{")).await;
        assert!(matches!(socket.frame().await, ServerFrame::Error(_)));
    }
    socket.say(json!({"type": "HEARTBEAT"})).await;
    assert!(matches!(socket.frame().await, ServerFrame::HeartbeatAck(_)));
    socket.raw(Message::text("{")).await;
    assert_eq!(socket.closed().await, 4502);
}

#[tokio::test]
async fn the_closing_handshake_of_either_side() {
    let fixture = Fixture::start().await;
    let mut socket = fixture.v1().await;
    socket.raw(Message::Close(None)).await;
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(None)))));
    assert!(socket.next().await.is_none());
    gone(&fixture).await;
    let mut socket = fixture.v1().await;
    let close = dataplane::socket::Control::Close(protocol::CloseCode::Drained);
    fixture.node.sockets.all()[0].tell(close);
    assert_eq!(socket.closed().await, 4000);
    assert!(socket.next().await.is_none());
    gone(&fixture).await;
}

/// Waits until no socket is open.
async fn gone(fixture: &Fixture) {
    tokio::time::timeout(Duration::from_secs(5), async {
        while !fixture.node.sockets.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("a socket stayed");
}

#[tokio::test]
async fn the_kill_switch_resets() {
    let fixture = Fixture::start().await;
    let mut socket = fixture.v1().await;
    fixture.node.sockets.reset();
    let tcp = socket.socket.get_mut();
    let error = tcp.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_then_closed() {
    let mut settings = dataplane::playground::settings();
    settings.socket.idle_ms = 2_000;
    let fixture = Fixture::with(settings).await;
    let mut socket = fixture.v1().await;
    // The library answers the ping only while it is read: here it is not.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert!(matches!(socket.next().await, Some(Ok(Message::Ping(_)))));
    assert_eq!(socket.closed().await, 1001);
}

#[tokio::test]
async fn a_token_that_ends() {
    let mut settings = dataplane::playground::settings();
    settings.auth.leeway_ms = 1_000;
    let fixture = Fixture::with(settings).await;
    let token = Some(fixture.token("alice", Duration::from_secs(2)));
    let mut socket = Call { token, ..fixture.call() }.welcomed().await;
    assert!(matches!(socket.frame().await, ServerFrame::TokenExpiring(_)));
    let token = fixture.token("alice", Duration::from_secs(4));
    socket.say(json!({"type": "AUTH", "token": token})).await;
    assert!(matches!(socket.frame().await, ServerFrame::Welcome(_)));
    let other = fixture.token("bob", Duration::from_secs(600));
    socket.say(json!({"type": "AUTH", "token": other})).await;
    // TOKEN_EXPIRING of the second token may come first.
    let refused = loop {
        match socket.frame().await {
            ServerFrame::TokenExpiring(_) => {}
            other => break other,
        }
    };
    assert!(matches!(&refused, ServerFrame::Error(e) if e.code == ErrorCode::Forbidden));
    assert_eq!(socket.closed().await, 4001);
}

#[tokio::test]
async fn a_draining_node_lingers_and_then_refuses() {
    let mut settings = dataplane::playground::settings();
    settings.drain.linger_ms = 300;
    let fixture = Fixture::with(settings).await;
    let mut old = fixture.v1().await;
    let request = DrainRequest { deadline_ms: Some(20_000), epoch: 1, policy: None };
    fixture.node.start_drain(&request).unwrap();
    let ServerFrame::Goaway(goaway) = old.frame().await else { panic!() };
    assert!(!goaway.resume_token.is_empty());
    let mut late = fixture.v1().await;
    assert!(matches!(late.frame().await, ServerFrame::Goaway(_)));
    tokio::time::sleep(Duration::from_millis(350)).await;
    let (status, body) = fixture.call().connect().await.err().unwrap();
    assert_eq!((status, &body["code"]), (503, &json!("DRAINING")));
}

#[tokio::test]
async fn a_session_is_listed_while_it_is_here() {
    let fixture = Fixture::start().await;
    let sessions =
        async || fixture.node.registry.list(streamlog::Space::Session, "alice").await.unwrap();
    let socket = Call { query: format!("?sessionId={SESSION}"), ..fixture.call() }.welcomed().await;
    let [(name, value)] = &sessions().await[..] else { panic!() };
    assert_eq!(name, SESSION);
    let place: serde_json::Value = serde_json::from_slice(value).unwrap();
    assert_eq!(place["node"], "edge-1");
    let Socket { socket } = socket;
    drop(socket);
    tokio::time::timeout(Duration::from_secs(5), async {
        while !sessions().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("still listed");
}
