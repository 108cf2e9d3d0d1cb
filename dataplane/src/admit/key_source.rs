//! Where a key set is read: a URL or a file. I/O only; nothing is decided here.

use http::header::ACCEPT;
use protocol::settings::Jwks;
use reqwest::redirect::Policy;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use url::{Host, Url};

/// RFC 7517 section 8.5, and what everybody sends.
const MEDIA_TYPES: &str = "application/jwk-set+json, application/json";

/// Why a document could not be read. Told to operators only; it names no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotRead(String);

impl NotRead {
    /// A read that failed, and why.
    pub fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// Reads the document that the settings name, once, within its time and size.
///
/// # Errors
/// [`NotRead`].
pub async fn read(settings: &Jwks) -> Result<Vec<u8>, NotRead> {
    let patience = Duration::from_millis(settings.timeout_ms);
    let document = async {
        match (&settings.url, &settings.file) {
            (Some(url), None) => fetch(url, settings.max_bytes).await,
            (None, Some(path)) => read_file(path, settings.max_bytes).await,
            _ => Err(NotRead::new("set one of auth.jwks.url and auth.jwks.file")),
        }
    };
    let late = |_| NotRead::new(format!("no answer within {} ms", settings.timeout_ms));
    timeout(patience, document).await.map_err(late)?
}

/// Whether this URL does not leave the machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A client of its own for each read: reads are rare, and so a renewed CA bundle is noticed.
async fn fetch(url: &str, max_bytes: usize) -> Result<Vec<u8>, NotRead> {
    let url = Url::parse(url).map_err(NotRead::new)?;
    // A redirect could lead from the issuer to anybody.
    let mut client = reqwest::Client::builder().redirect(Policy::none());
    if is_loopback(&url) {
        client = client.no_proxy();
    }
    let request = client.build().map_err(failed)?.get(url).header(ACCEPT, MEDIA_TYPES);
    let mut response = request.send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(NotRead::new(format!("the answer is {}", response.status())));
    }
    let mut document = Vec::new();
    while let Some(part) = response.chunk().await.map_err(failed)? {
        if document.len() + part.len() > max_bytes {
            return Err(too_large(max_bytes));
        }
        document.extend_from_slice(&part);
    }
    Ok(document)
}

async fn read_file(path: &str, max_bytes: usize) -> Result<Vec<u8>, NotRead> {
    let file = tokio::fs::File::open(path).await.map_err(NotRead::new)?;
    let mut document = Vec::new();
    let one_more = max_bytes as u64 + 1;
    file.take(one_more).read_to_end(&mut document).await.map_err(NotRead::new)?;
    if document.len() > max_bytes {
        return Err(too_large(max_bytes));
    }
    Ok(document)
}

fn too_large(max_bytes: usize) -> NotRead {
    NotRead::new(format!("it has more than auth.jwks.maxBytes, {max_bytes}"))
}

/// The cause says what failed; the outer texts only that something did.
fn failed(error: reqwest::Error) -> NotRead {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    NotRead::new(cause)
}
