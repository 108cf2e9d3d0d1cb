//! Admission: which tokens open which door, what becomes of a rotation and of an issuer that is away,
//! and that nobody reaches what is somebody else's, by any route.

mod issuer;
mod key_sets;
mod resilience;
mod rotation;
mod strangers;
mod table;
mod tickets;

use crate::fixture::{Fixture, PATIENCE};
use issuer::{KeyServer, Signer};
use protocol::Settings;
use protocol::settings::Jwks;
use serde_json::{Value, json};
use std::time::Duration;

const ISSUER: &str = "https://login.example";
const AUDIENCE: &str = "chat";

/// Keys of a server, asked for again as soon as something is missing and never unasked.
fn jwks(url: &str) -> Jwks {
    Jwks {
        url: Some(url.to_owned()),
        refresh_ms: 3_600_000,
        min_interval_ms: 50,
        timeout_ms: 2_000,
        ..Jwks::default()
    }
}

fn settings(jwks: Jwks) -> Settings {
    let mut settings = dataplane::playground::settings();
    settings.auth.issuer = Some(ISSUER.to_owned());
    settings.auth.audience = Some(AUDIENCE.to_owned());
    settings.auth.jwks = Some(jwks);
    settings
}

/// A node that has read the keys of a server, and may ask for more.
async fn node_of(server: &KeyServer) -> Fixture {
    let jwks = jwks(&server.url());
    let interval = Duration::from_millis(jwks.min_interval_ms);
    let fixture = Fixture::with(settings(jwks)).await;
    until(async || fixture.node.admit.public_keys() > Some(0)).await;
    tokio::time::sleep(interval).await;
    fixture
}

/// What a good token says, some of it replaced; `null` leaves one out.
fn claims(fixture: &Fixture, changes: &Value) -> Value {
    let now = fixture.node.clock.wall().as_second();
    let mut claims = json!({"sub": "alice", "exp": now + 600, "iss": ISSUER, "aud": AUDIENCE});
    for (name, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// A good token.
fn token(fixture: &Fixture, signer: &Signer) -> String {
    signer.sign(&claims(fixture, &json!({})))
}

/// Waits until something holds.
async fn until(holds: impl AsyncFn() -> bool) {
    let holding = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holding).await.expect("it never holds");
}
