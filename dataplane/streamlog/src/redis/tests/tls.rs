//! The engine over TLS, as an ACL user: a server of its own, with a certificate of an authority that
//! nobody else knows.

use super::{SOON, Stage, handles, until};
use crate::conformance::{Writer, text};
use crate::log::StreamLog;
use protocol::Index;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// An authority, and a certificate for `localhost` that it signed, in the working directory.
const CERTIFICATES: &str = "set -e
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -subj /CN=test-authority -days 2 -out ca.crt
openssl ecparam -name prime256v1 -genkey -noout -out server.key
openssl req -new -key server.key -subj /CN=localhost -out server.csr
printf 'subjectAltName=DNS:localhost\\n' > server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.crt";

struct TlsServer {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl TlsServer {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made =
            Command::new("sh").args(["-c", CERTIFICATES]).current_dir(dir.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--tls-cert-file", "server.crt", "--tls-key-file", "server.key"])
            .args(["--tls-ca-cert-file", "ca.crt", "--tls-auth-clients", "no", "--save", ""])
            .args(["--user", "default", "off"])
            .args(["--user", "chat", "on", ">hush", "~*", "&*", "+@all"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()).await;
        Self { process, port, dir }
    }

    fn stage(&self, authority: &Path) -> Stage {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut stage = Stage::shared();
        stage.config.url = format!("rediss://chat:hush@localhost:{}", self.port);
        stage.config.authority = Some(std::fs::read(authority).unwrap());
        stage
    }
}

#[tokio::test]
async fn chunks_hints_and_pages_go_over_tls_as_an_acl_user() {
    let server = TlsServer::start().await;
    let stage = server.stage(&server.dir.path().join("ca.crt"));
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    let (_, mut watch) = b.attach(writer.stream, Index::ZERO, 1).await.unwrap();
    writer.append(3).await.unwrap();
    tokio::time::timeout(SOON, watch.changed()).await.expect("told").unwrap();
    assert_eq!(text(&writer.seen_by(&handles(&b)).await).len(), 3);
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_not_believed() {
    let (server, other) = (TlsServer::start().await, TlsServer::start().await);
    let stage = server.stage(&other.dir.path().join("ca.crt"));
    let engine = stage.idle("a");
    let nobody = protocol::MessageId(stage.ids.uuid());
    let read = engine.read(nobody, Index::ZERO, 1).await;
    assert!(matches!(read, Err(crate::LogError::Unavailable { .. })), "{read:?}");
}

#[tokio::test]
async fn an_authority_that_is_none_is_refused_at_once() {
    use crate::{Clock, RedisConfig, RedisEngine};
    let stage = Stage::shared();
    for (url, pem) in [("rediss://h", "no certificate"), ("redis://h", "no certificate")] {
        let authority = Some(pem.as_bytes().to_vec());
        let config = RedisConfig { url: url.to_owned(), authority, ..RedisConfig::default() };
        assert!(RedisEngine::new(config, stage.owner("a"), Clock::system()).is_err(), "{url}");
    }
}
