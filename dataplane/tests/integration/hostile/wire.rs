//! HTTP/1.1 by hand, so that nothing repairs a broken request on its way.

use super::{SECRET, Target};
use crate::fixture::PATIENCE;
use protocol::ErrorCode;
use protocol::http::Problem;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A request and the answer it must get.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) request: Vec<u8>,
    pub(super) status: u16,
    /// `None`: refused by the HTTP library, before anything of ours.
    pub(super) code: Option<ErrorCode>,
    /// Whether the connection goes on.
    pub(super) keeps: bool,
}

impl Case {
    pub(super) fn new(name: &str, request: Vec<u8>, code: ErrorCode) -> Self {
        let status = code.http_status();
        Self { name: name.to_owned(), request, status, code: Some(code), keeps: true }
    }

    /// Answered with the library's own words.
    pub(super) fn unparsed(name: &str, request: Vec<u8>, status: u16) -> Self {
        Self { name: name.to_owned(), request, status, code: None, keeps: false }
    }

    pub(super) fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(super) fn closes(self) -> Self {
        Self { keeps: false, ..self }
    }
}

/// A request's bytes.
pub(super) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: node\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() || method == "POST" {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// One connection to a node.
pub(super) struct Connection {
    tcp: TcpStream,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Self {
        Self { tcp: TcpStream::connect(address).await.unwrap() }
    }

    pub(super) async fn send(&mut self, request: &[u8]) -> Answer {
        // The server may answer and close before it has read everything.
        let _ = self.tcp.write_all(request).await;
        timeout(PATIENCE, self.answer()).await.expect("no answer")
    }

    async fn answer(&mut self) -> Answer {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert_ne!(self.tcp.read_buf(&mut bytes).await.unwrap(), 0, "closed without an answer");
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |text| text.parse::<usize>().unwrap());
        let mut body = bytes.split_off(end);
        while body.len() < length {
            assert_ne!(self.tcp.read_buf(&mut body).await.unwrap(), 0, "cut off");
        }
        Answer { status, head, body }
    }
}

/// Sends each, and after each a good request: on the same connection, where it goes on.
pub(super) async fn run(target: &Target, cases: &[Case], good: &[u8]) {
    let mut connection = Connection::open(target.fixture.address()).await;
    for case in cases {
        let name = &case.name;
        let answer = connection.send(&case.request).await;
        let body = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, case.status, "{name}: {body}");
        assert!(!body.contains(SECRET), "{name}: {body}");
        if let Some(code) = case.code {
            let problem: Problem = serde_json::from_str(&body).expect(name);
            assert_eq!((problem.code, problem.status), (code, case.status), "{name}: {body}");
            let kind = "\r\ncontent-type: application/problem+json\r\n";
            assert!(answer.head.contains(kind), "{name}: {}", answer.head);
        }
        if !case.keeps {
            connection = Connection::open(target.fixture.address()).await;
        }
        assert_eq!(connection.send(good).await.status, 200, "{name}: the node lives on");
    }
}
