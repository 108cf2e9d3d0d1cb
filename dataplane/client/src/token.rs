//! Tokens: minting HS256 JWTs for development, and where a session gets its own from.

use crate::api::{ApiError, Dev};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The claims or the secret cannot be used.
    #[error("no token could be signed: {0}")]
    Unsigned(String),
    /// The playground refused.
    #[error("the playground gives no token: {0}")]
    Refused(String),
    /// The playground does not answer.
    #[error("no playground to ask for a token: {0}")]
    Unreachable(String),
}

/// Makes the crypto provider known; once per process, before any token is signed. More often does
/// no harm.
pub fn install_crypto() {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// What a minted token says.
#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// Issued, in seconds since 1970.
    pub iat: i64,
    /// Ends, in seconds since 1970.
    pub exp: i64,
    /// Issuer, where the server checks one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Audience, where the server checks one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
}

impl Claims {
    /// For `user`, from `now` on for `ttl`.
    pub fn new(user: &str, now: Timestamp, ttl: Duration) -> Self {
        let iat = now.as_second();
        let exp = iat.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        Self { sub: user.to_owned(), iat, exp, iss: None, aud: None }
    }
}

/// Signs a token with HS256.
///
/// # Errors
/// [`TokenError::Unsigned`] for an empty secret, and where no crypto provider was installed.
pub fn mint(secret: &[u8], claims: &Claims) -> Result<String, TokenError> {
    if secret.is_empty() {
        return Err(TokenError::Unsigned("the secret is empty".into()));
    }
    let header = Header::new(Algorithm::HS256);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret))
        .map_err(|error| TokenError::Unsigned(error.to_string()))
}

/// Where tokens come from.
#[derive(Clone)]
pub enum TokenSource {
    /// One token, as long as it lasts.
    Fixed(String),
    /// `GET /dev/token?user=` of a playground: a new one whenever the last one ends.
    Playground {
        /// The playground's front.
        dev: Dev,
        /// Whose.
        user: String,
    },
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed"),
            Self::Playground { user, .. } => write!(f, "Playground({user})"),
        }
    }
}

impl TokenSource {
    /// A token.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn token(&self) -> Result<String, TokenError> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::Playground { dev, user } => dev.token(user).await.map_err(|error| match error {
                ApiError::Unreachable { .. } => TokenError::Unreachable(error.to_string()),
                _ => TokenError::Refused(error.to_string()),
            }),
        }
    }

    /// Whether asking again gives another token.
    pub fn can_renew(&self) -> bool {
        matches!(self, Self::Playground { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};

    #[derive(serde::Deserialize)]
    struct Read {
        sub: String,
        exp: i64,
        iat: i64,
    }

    #[test]
    fn a_minted_token_is_accepted_with_its_secret_alone() {
        install_crypto();
        let now: Timestamp = "2100-01-01T00:00:00Z".parse().unwrap();
        let claims = Claims::new("alice", now, Duration::from_secs(3_600));
        let token = mint(b"a secret of some length", &claims).unwrap();
        let validation = Validation::new(Algorithm::HS256);
        let key = |secret: &[u8]| DecodingKey::from_secret(secret);
        let read =
            jsonwebtoken::decode::<Read>(&token, &key(b"a secret of some length"), &validation);
        let read = read.unwrap().claims;
        assert_eq!((read.sub.as_str(), read.exp - read.iat), ("alice", 3_600));
        assert!(jsonwebtoken::decode::<Read>(&token, &key(b"other"), &validation).is_err());
        assert!(mint(b"", &claims).is_err());
    }
}
