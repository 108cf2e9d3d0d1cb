//! A provider's server of the tests' own: real TCP, scripted to the byte, in either dialect.

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What the server does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The head of an event stream.
    Head,
    /// A whole response.
    Refuse {
        status: u16,
        headers: String,
        body: String,
    },
    /// A piece of the body, in a segment of its own.
    Send(Vec<u8>),
    Wait(Duration),
    /// The regular end of the body.
    End,
    /// Nothing more, until the client goes.
    Silence,
    /// The connection breaks.
    Reset,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Request {
    /// The text it wants the answer to go on with.
    pub(crate) fn prefix(&self) -> Option<&str> {
        let last = self.body["messages"].as_array()?.last()?;
        (last["role"] == "assistant").then(|| last["content"].as_str()).flatten()
    }
}

type Script = Arc<dyn Fn(&Request, usize) -> Vec<Step> + Send + Sync>;

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    /// Clients that went while the server had more to say.
    hangups: AtomicUsize,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Answers the n-th request (from 0) as `script` says.
    pub(crate) async fn start(
        script: impl Fn(&Request, usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let script: Script = Arc::new(script);
        let mut tasks = JoinSet::new();
        let shared = seen.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, script.clone(), shared.clone()));
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    /// Every request in the same way.
    pub(crate) async fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_, _| steps.clone()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub(crate) fn hangups(&self) -> usize {
        self.seen.hangups.load(Ordering::SeqCst)
    }
}

/// Requests of one connection, as long as both sides keep it.
async fn connection(stream: TcpStream, script: Script, seen: Arc<Seen>) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let nth = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let mut closes = true;
        for step in script(&request, nth) {
            closes = matches!(step, Step::Silence | Step::Reset);
            if !take(&mut stream, step).await {
                seen.hangups.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
        if closes {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Some(Request { path, head, body: serde_json::from_slice(&body).unwrap() })
}

/// Whether the client is still there.
async fn take(stream: &mut BufReader<TcpStream>, step: Step) -> bool {
    let bytes = match step {
        Step::Head => b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                        transfer-encoding: chunked\r\n\r\n"
            .to_vec(),
        Step::Refuse { status, headers, body } => format!(
            "HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\n{headers}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
        Step::Send(piece) => {
            [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat()
        }
        Step::End => b"0\r\n\r\n".to_vec(),
        Step::Wait(time) => {
            let mut byte = [0];
            return tokio::select! {
                () = sleep(time) => true,
                _ = stream.read(&mut byte) => false,
            };
        }
        Step::Silence => {
            let mut byte = [0];
            let _ = stream.read(&mut byte).await;
            return false;
        }
        Step::Reset => {
            // The client must have read what was sent: a reset throws away what is on its way.
            sleep(Duration::from_millis(50)).await;
            stream.get_ref().set_zero_linger().unwrap();
            return true;
        }
    };
    stream.get_mut().write_all(&bytes).await.is_ok()
}

/// An event of chat completions with this delta.
pub(crate) fn delta(delta: &Value) -> Vec<u8> {
    let event = json!({"model": "test-model", "choices": [{"index": 0, "delta": delta}]});
    format!("data: {event}\n\n").into_bytes()
}

pub(crate) fn text(text: &str) -> Step {
    Step::Send(delta(&json!({"content": text})))
}

/// The regular end of chat completions.
pub(crate) fn finish(reason: &str) -> Vec<Step> {
    let reason = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 22}});
    let end = format!("data: {reason}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
    vec![Step::Send(end.into_bytes()), Step::End]
}

/// A whole answer of chat completions, one delta a piece.
pub(crate) fn answer(texts: &[&str]) -> Vec<Step> {
    let texts = texts.iter().map(|piece| text(piece));
    [Step::Head].into_iter().chain(texts).chain(finish("stop")).collect()
}

/// An event of messages, named as they are there.
pub(crate) fn event(event: &Value) -> Step {
    let kind = event["type"].as_str().unwrap();
    Step::Send(format!("event: {kind}\ndata: {event}\n\n").into_bytes())
}

pub(crate) fn anthropic_text(text: &str) -> Step {
    event(&json!({
        "type": "content_block_delta", "index": 0,
        "delta": {"type": "text_delta", "text": text},
    }))
}

/// A whole answer of messages, one delta a piece.
pub(crate) fn anthropic_answer(texts: &[&str]) -> Vec<Step> {
    let usage = json!({"input_tokens": 11, "output_tokens": 1});
    let begin = [
        Step::Head,
        event(
            &json!({"type": "message_start", "message": {"model": "test-model", "usage": usage}}),
        ),
        event(&json!({"type": "ping"})),
        event(&json!({
            "type": "content_block_start", "index": 0,
            "content_block": {"type": "text", "text": ""},
        })),
    ];
    let end = [
        event(&json!({"type": "content_block_stop", "index": 0})),
        event(&json!({
            "type": "message_delta", "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 22},
        })),
        event(&json!({"type": "message_stop"})),
        Step::End,
    ];
    let texts = texts.iter().map(|text| anthropic_text(text));
    begin.into_iter().chain(texts).chain(end).collect()
}

pub(crate) fn refuse(status: u16, headers: &str, body: &Value) -> Vec<Step> {
    let headers = headers.to_owned();
    vec![Step::Refuse { status, headers, body: body.to_string() }]
}
