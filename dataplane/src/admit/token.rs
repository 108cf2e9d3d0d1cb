//! Users' tokens: JWTs (RFC 7519), checked and minted.

use super::key_set::NotRead;
use super::public_keys::PublicKeys;
use super::{Identity, install_crypto};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use protocol::client_frame::MAX_TOKEN_BYTES;
use protocol::{UserId, settings};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use streamlog::Clock;

/// Longest `sub`, in bytes: it is part of every key in the store.
pub const MAX_USER_BYTES: usize = 256;
/// What a token may be signed with where the secret is shared.
const SHARED: Algorithm = Algorithm::HS256;

/// What we read of a token. Dates are RFC 7519's NumericDate: seconds, fractions allowed.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
}

/// Reads tokens: by shared secrets, by public keys, or both. A token's header chooses between the
/// two and among the keys; what each key is good for is not the token's to say.
pub(super) struct Tokens {
    validation: Validation,
    pub(super) public: Option<PublicKeys>,
}

impl Tokens {
    pub(super) fn new(auth: &settings::Auth, clock: &Clock) -> Self {
        let validation = validation(auth);
        let public = auth.jwks.clone();
        let public = public.map(|jwks| PublicKeys::new(jwks, validation.clone(), clock.clone()));
        Self { validation, public }
    }

    /// Everything but `exp`, which the caller checks last: an expired token must be good otherwise.
    pub(super) fn read(
        &self,
        secrets: &[DecodingKey],
        token: &str,
        now: jiff::Timestamp,
        leeway: Duration,
    ) -> Result<Identity, NotRead> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(NotRead::Refused);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| NotRead::Refused)?;
        // RFC 7515 section 4.1.11: an extension we do not know makes the token invalid.
        if header.crit.is_some() {
            return Err(NotRead::Refused);
        }
        let Claims { sub, exp, nbf } = self.claims(secrets, token, &header)?;
        let names_somebody =
            (1..=MAX_USER_BYTES).contains(&sub.len()) && !sub.chars().any(char::is_control);
        let begun = nbf.is_none_or(|nbf| nbf <= seconds(now) + leeway.as_secs_f64());
        if !(names_somebody && begun) {
            return Err(NotRead::Refused);
        }
        Ok(Identity { user: UserId::new(&sub), expires_at: timestamp(exp) })
    }

    fn claims(
        &self,
        secrets: &[DecodingKey],
        token: &str,
        header: &Header,
    ) -> Result<Claims, NotRead> {
        match (header.alg, &self.public) {
            (SHARED, _) => {
                let read = |key| jsonwebtoken::decode(token, key, &self.validation).ok();
                let data = secrets.iter().find_map(read).ok_or(NotRead::Refused)?;
                Ok(data.claims)
            }
            (Algorithm::HS384 | Algorithm::HS512, _) | (_, None) => Err(NotRead::Refused),
            (_, Some(public)) => public.read(token, header),
        }
    }
}

/// What is asked of every token; the algorithm is the shared secrets'.
pub(crate) fn validation(auth: &settings::Auth) -> Validation {
    let mut validation = Validation::new(SHARED);
    // The library would ask the machine's clock; ours is injected, see `read`.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let mut required = vec!["exp", "sub"];
    if let Some(issuer) = &auth.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.validate_aud = auth.audience.is_some();
    if let Some(audience) = &auth.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}

/// The nearest time that can be told; a cast from `f64` saturates.
fn timestamp(seconds: f64) -> jiff::Timestamp {
    let millis = (seconds * 1e3) as i64;
    let end = if millis < 0 { jiff::Timestamp::UNIX_EPOCH } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_millisecond(millis).unwrap_or(end)
}

#[derive(Serialize)]
struct Minted<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
}

/// Makes a token for tests, the playground and `chatctl`: HS256, good for `ttl` from now. Empty
/// where the library refuses, which no secret makes it do.
pub fn mint(secret: &[u8], user: &str, ttl: Duration, clock: &Clock) -> String {
    install_crypto();
    let now = clock.wall().as_second();
    let claims = Minted { sub: user, iat: now, exp: now.saturating_add(ttl.as_secs() as i64) };
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::new(SHARED), &claims, &key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::{Admit, Keys};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use protocol::{ErrorCode, Settings};
    use serde_json::{Value, json};

    const NOW: i64 = 1_767_225_600;

    fn clock() -> Clock {
        Clock::starting_at(jiff::Timestamp::from_second(NOW).unwrap())
    }

    fn admit(change: impl FnOnce(&mut Settings)) -> Admit {
        let mut settings = Settings::default();
        change(&mut settings);
        let jwt = vec![b"new".to_vec(), b"old".to_vec(), Vec::new()];
        Admit::new(&settings, Keys { jwt, ..Keys::default() }, clock())
    }

    fn sign(secret: &[u8], header: &Header, claims: &Value) -> String {
        install_crypto();
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    fn hs256(secret: &[u8], claims: &Value) -> String {
        sign(secret, &Header::new(SHARED), claims)
    }

    #[tokio::test(start_paused = true)]
    async fn any_configured_key_is_good_and_no_other() {
        let admit = admit(|_| {});
        let claims = json!({"sub": "alice", "exp": NOW + 60});
        let alice = admit.verify(&hs256(b"new", &claims)).unwrap();
        assert_eq!(alice.user.as_str(), "alice");
        assert_eq!(alice.expires_at.as_second(), NOW + 60);
        assert_eq!(admit.verify(&hs256(b"old", &claims)).unwrap(), alice);
        for stranger in [&b"other"[..], b""] {
            let refused = admit.verify(&hs256(stranger, &claims));
            assert_eq!(refused, Err(ErrorCode::Unauthenticated), "{stranger:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn minted_tokens_are_good_for_their_time_and_the_leeway() {
        let admit = admit(|_| {});
        let token = mint(b"new", "bob", Duration::from_secs(10), &clock());
        tokio::time::advance(Duration::from_millis(14_999)).await;
        assert!(admit.verify(&token).is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(admit.verify(&token), Err(ErrorCode::TokenExpired));
    }

    #[tokio::test(start_paused = true)]
    async fn expired_is_said_only_of_a_token_that_is_good_otherwise() {
        let admit = admit(|_| {});
        let expired = json!({"sub": "alice", "exp": NOW - 6});
        assert_eq!(admit.verify(&hs256(b"new", &expired)), Err(ErrorCode::TokenExpired));
        assert_eq!(admit.verify(&hs256(b"other", &expired)), Err(ErrorCode::Unauthenticated));
        let nobody = json!({"sub": "", "exp": NOW - 6});
        assert_eq!(admit.verify(&hs256(b"new", &nobody)), Err(ErrorCode::Unauthenticated));
        let unborn = json!({"sub": "alice", "exp": NOW - 6, "nbf": NOW + 6});
        assert_eq!(admit.verify(&hs256(b"new", &unborn)), Err(ErrorCode::Unauthenticated));
    }

    #[tokio::test(start_paused = true)]
    async fn bad_claims_are_refused() {
        let admit = admit(|_| {});
        let bad = [
            json!({"exp": NOW + 60}),
            json!({"sub": "alice"}),
            json!({"sub": "alice", "exp": null}),
            json!({"sub": "alice", "exp": "2030-01-01"}),
            json!({"sub": 7, "exp": NOW + 60}),
            json!({"sub": null, "exp": NOW + 60}),
            json!({"sub": "x".repeat(257), "exp": NOW + 60}),
            json!({"sub": "a\nb", "exp": NOW + 60}),
            json!({"sub": "alice", "exp": NOW + 60, "nbf": NOW + 6}),
            json!({"sub": "alice", "exp": NOW + 60, "nbf": "now"}),
            json!({"sub": "alice", "exp": -1}),
            json!([1, 2]),
        ];
        for claims in &bad {
            let refused = admit.verify(&hs256(b"new", claims));
            assert_eq!(refused, Err(ErrorCode::Unauthenticated), "{claims}");
        }
        let good = [
            json!({"sub": "x".repeat(256), "exp": NOW + 60}),
            json!({"sub": "alice", "exp": NOW as f64 + 0.5, "nbf": NOW + 5}),
            json!({"sub": "alice", "exp": 1e18}),
            json!({"sub": "alice", "exp": NOW + 60, "aud": "anybody", "iss": 7}),
        ];
        for claims in &good {
            assert!(admit.verify(&hs256(b"new", claims)).is_ok(), "{claims}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_algorithms_and_garbage_are_refused() {
        let admit = admit(|_| {});
        let claims = json!({"sub": "alice", "exp": NOW + 60});
        let good = hs256(b"new", &claims);
        let (_, rest) = good.split_once('.').unwrap();
        let (payload, signature) = rest.split_once('.').unwrap();
        let headed = |header: Value| {
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            format!("{header}.{payload}.{signature}")
        };
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string());
        let mut extended = Header::new(SHARED);
        extended.crit = Some(vec!["exp2".to_owned()]);
        let bad = [
            String::new(),
            "..".to_owned(),
            "a.b.c".to_owned(),
            good.replace('.', ""),
            format!("{good}x"),
            format!("{good}.{signature}"),
            format!("{unsigned}.{payload}."),
            headed(json!({"alg": "none"})),
            headed(json!({"alg": "RS256"})),
            headed(json!({"typ": "JWT"})),
            sign(b"new", &Header::new(Algorithm::HS512), &claims),
            sign(b"new", &extended, &claims),
            hs256(b"new", &json!({"sub": "alice", "exp": NOW + 60, "pad": "x".repeat(20_000)})),
        ];
        for token in &bad {
            assert_eq!(admit.verify(token), Err(ErrorCode::Unauthenticated), "{token}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn issuer_and_audience_count_where_they_are_configured() {
        let admit = admit(|settings| {
            settings.auth.issuer = Some("us".to_owned());
            settings.auth.audience = Some("chat".to_owned());
        });
        let token = |iss: Value, aud: Value| {
            hs256(b"new", &json!({"sub": "alice", "exp": NOW + 60, "iss": iss, "aud": aud}))
        };
        assert!(admit.verify(&token(json!("us"), json!("chat"))).is_ok());
        assert!(admit.verify(&token(json!("us"), json!(["mail", "chat"]))).is_ok());
        for (iss, aud) in [
            (json!("them"), json!("chat")),
            (json!("us"), json!("mail")),
            (json!(null), json!("chat")),
            (json!("us"), json!(null)),
        ] {
            let refused = admit.verify(&token(iss.clone(), aud.clone()));
            assert_eq!(refused, Err(ErrorCode::Unauthenticated), "{iss} {aud}");
        }
    }
}
