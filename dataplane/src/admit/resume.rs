//! Resume tokens (protocol section 1): proof, for the accept bucket only, that this session was
//! here a moment ago.
//!
//! `base64url(slot: u64 | expiry: i64 | HMAC-SHA256)`, times in milliseconds since 1970. User and
//! session are under the HMAC and not in the token: whoever presents it names them anyway.

use super::Identity;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use protocol::{SessionId, UserId};

/// Longest life of a resume token, in milliseconds.
const MAX_LIFE_MS: i64 = 10 * 60 * 1_000;
/// What else the shared key may sign must not pass for a resume token.
const PURPOSE: &[u8] = b"chatcluster resume v1";
const TIMES_BYTES: usize = 16;
const TOKEN_BYTES: usize = TIMES_BYTES + 32;

/// Makes and reads resume tokens.
pub(super) struct Resumes {
    keys: Vec<hmac::Key>,
}

impl Resumes {
    pub(super) fn new(secrets: &[Vec<u8>]) -> Self {
        let usable = secrets.iter().filter(|secret| !secret.is_empty());
        Self { keys: usable.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret)).collect() }
    }

    pub(super) fn issue(
        &self,
        identity: &Identity,
        session: SessionId,
        slot_ms: u64,
        now: Timestamp,
    ) -> String {
        let Some(key) = self.keys.first() else { return String::new() };
        let now = now.as_millisecond();
        let slot = (now.max(0) as u64).saturating_add(slot_ms);
        let expiry = (now + MAX_LIFE_MS).min(identity.expires_at.as_millisecond());
        let mut token = Vec::with_capacity(TOKEN_BYTES);
        token.extend_from_slice(&slot.to_be_bytes());
        token.extend_from_slice(&expiry.to_be_bytes());
        let tag = hmac::sign(key, &signed(&token, &identity.user, session));
        token.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    pub(super) fn is_good(
        &self,
        token: &str,
        user: &UserId,
        session: SessionId,
        now: Timestamp,
    ) -> bool {
        let mut bytes = [0; TOKEN_BYTES];
        if URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) != Ok(TOKEN_BYTES) {
            return false;
        }
        let (times, tag) = bytes.split_at(TIMES_BYTES);
        let message = signed(times, user, session);
        let expiry = times.last_chunk::<8>().copied().map_or(0, i64::from_be_bytes);
        now.as_millisecond() < expiry
            && self.keys.iter().any(|key| hmac::verify(key, &message, tag).is_ok())
    }
}

/// Fixed lengths first, the user last: no two meanings have the same bytes.
fn signed(times: &[u8], user: &UserId, session: SessionId) -> Vec<u8> {
    [PURPOSE, times, session.0.as_bytes(), user.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn alice(lives_ms: i64) -> Identity {
        let expires_at = Timestamp::from_millisecond(lives_ms).unwrap();
        Identity { user: UserId::new("alice"), expires_at }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn good_for_this_user_and_session_only() {
        let resumes = Resumes::new(&[b"k".to_vec()]);
        let session = SessionId(Uuid::from_u128(1));
        let token = resumes.issue(&alice(3_600_000), session, 250, NOW);
        let user = UserId::new("alice");
        assert!(resumes.is_good(&token, &user, session, NOW));
        assert!(!resumes.is_good(&token, &UserId::new("bob"), session, NOW));
        assert!(!resumes.is_good(&token, &user, SessionId(Uuid::from_u128(2)), NOW));
    }

    #[test]
    fn ends_after_ten_minutes_or_with_the_users_own_token() {
        let resumes = Resumes::new(&[b"k".to_vec()]);
        let (user, session) = (UserId::new("alice"), SessionId(Uuid::nil()));
        let long = resumes.issue(&alice(3_600_000), session, 0, NOW);
        assert!(resumes.is_good(&long, &user, session, at(599_999)));
        assert!(!resumes.is_good(&long, &user, session, at(600_000)));
        let short = resumes.issue(&alice(5_000), session, 0, NOW);
        assert!(resumes.is_good(&short, &user, session, at(4_999)));
        assert!(!resumes.is_good(&short, &user, session, at(5_000)));
    }

    #[test]
    fn an_older_key_still_verifies_and_a_strangers_does_not() {
        let (user, session) = (UserId::new("alice"), SessionId(Uuid::nil()));
        let old = Resumes::new(&[b"old".to_vec()]);
        let token = old.issue(&alice(3_600_000), session, 0, NOW);
        let rotated = Resumes::new(&[b"new".to_vec(), b"old".to_vec()]);
        assert!(rotated.is_good(&token, &user, session, NOW));
        let foreign = Resumes::new(&[b"new".to_vec()]);
        assert!(!foreign.is_good(&token, &user, session, NOW));
        let keyless = Resumes::new(&[Vec::new()]);
        assert_eq!(keyless.issue(&alice(3_600_000), session, 0, NOW), "");
        assert!(!keyless.is_good("", &user, session, NOW));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let resumes = Resumes::new(&[b"k".to_vec()]);
        let (user, session) = (UserId::new("alice"), SessionId(Uuid::nil()));
        let token = resumes.issue(&alice(3_600_000), session, 0, NOW);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let forged = URL_SAFE_NO_PAD.encode(forged);
            assert!(!resumes.is_good(&forged, &user, session, NOW), "bit {bit}");
        }
        for garbage in ["", "x", "!!", &token[1..], &format!("{token}A"), &format!("{token}=")] {
            assert!(!resumes.is_good(garbage, &user, session, NOW), "{garbage}");
        }
    }
}
