//! An issuer of tokens: keys of every type, and a real HTTP server that publishes them, breaks, goes
//! away and comes back on the same port.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair,
};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::LOCATION;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// One key pair and its name.
pub(super) struct Signer {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
    key: EncodingKey,
    /// As it is published, with its own `alg`.
    pub(super) jwk: Value,
}

impl Signer {
    pub(super) fn rsa(id: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let pem = pem(der.as_ref());
        Self::new(id, Algorithm::RS256, EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap())
    }

    pub(super) fn p256(id: &str) -> Self {
        Self::ec(id, Algorithm::ES256, &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub(super) fn p384(id: &str) -> Self {
        Self::ec(id, Algorithm::ES384, &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn ec(id: &str, algorithm: Algorithm, curve: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
        Self::new(id, algorithm, EncodingKey::from_ec_der(pair.as_ref()))
    }

    pub(super) fn ed25519(id: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        Self::new(id, Algorithm::EdDSA, EncodingKey::from_ed_der(der.as_ref()))
    }

    fn new(id: &str, algorithm: Algorithm, key: EncodingKey) -> Self {
        dataplane::admit::install_crypto();
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(id);
        jwk["use"] = json!("sig");
        Self { id: id.to_owned(), algorithm, key, jwk }
    }

    /// As it is published, some fields replaced; `null` leaves one out.
    pub(super) fn published(&self, changes: &Value) -> Value {
        let mut jwk = self.jwk.clone();
        for (name, value) in changes.as_object().into_iter().flatten() {
            if value.is_null() {
                jwk.as_object_mut().unwrap().remove(name);
            } else {
                jwk[name] = value.clone();
            }
        }
        jwk
    }

    pub(super) fn header(&self) -> Header {
        Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) }
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    pub(super) fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }
}

pub(super) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

/// The document of some keys.
pub(super) fn document(keys: &[Value]) -> Vec<u8> {
    json!({"keys": keys}).to_string().into_bytes()
}

/// What the server says.
#[derive(Clone)]
pub(super) enum Says {
    Document(Vec<u8>),
    Status(u16),
    Redirect(String),
    /// A document, when it is told to.
    Held(Vec<u8>, Arc<Notify>),
    /// Nothing, for ever.
    Nothing,
}

/// The server. Dropping it takes it away.
pub(super) struct KeyServer {
    pub(super) address: SocketAddr,
    says: Arc<Mutex<Says>>,
    reads: Arc<watch::Sender<usize>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl KeyServer {
    pub(super) async fn start(signers: &[&Signer]) -> Self {
        let keys: Vec<_> = signers.iter().map(|signer| signer.jwk.clone()).collect();
        let mut server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            says: Arc::new(Mutex::new(Says::Document(document(&keys)))),
            reads: Arc::default(),
            task: None,
        };
        server.go_on().await;
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    pub(super) fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    pub(super) fn publish(&self, signers: &[&Signer]) {
        let keys: Vec<_> = signers.iter().map(|signer| signer.jwk.clone()).collect();
        self.say(Says::Document(document(&keys)));
    }

    /// How often it was asked.
    pub(super) fn reads(&self) -> usize {
        *self.reads.borrow()
    }

    /// Waits until it was asked `count` times.
    pub(super) async fn read(&self, count: usize) {
        let mut reads = self.reads.subscribe();
        let read = reads.wait_for(|reads| *reads >= count);
        tokio::time::timeout(super::PATIENCE, read).await.expect("not asked").unwrap();
    }

    /// Nobody listens any more.
    pub(super) fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Listens, on the same port as before.
    pub(super) async fn go_on(&mut self) {
        let listening = async {
            loop {
                match dataplane::listen::listen(self.address) {
                    Ok(listener) => return listener,
                    // The one before has not ended yet.
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let listener = tokio::time::timeout(super::PATIENCE, listening).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (says, reads) = (self.says.clone(), self.reads.clone());
        let answer = async move || {
            reads.send_modify(|reads| *reads += 1);
            let says = says.lock().unwrap().clone();
            respond(says).await
        };
        let router = Router::new().route("/keys", get(answer));
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        self.task = Some(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
    }
}

async fn respond(says: Says) -> Response {
    match says {
        Says::Document(document) => document.into_response(),
        Says::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Says::Redirect(to) => (StatusCode::FOUND, [(LOCATION, to)]).into_response(),
        Says::Held(document, told) => {
            told.notified().await;
            document.into_response()
        }
        Says::Nothing => std::future::pending().await,
    }
}
