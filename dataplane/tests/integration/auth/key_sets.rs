//! Which keys of a document check which tokens: what a key is good for is never the token's to say.

use super::issuer::{Signer, document};
use dataplane::admit::key_set::{KeySet, MAX_KEYS, NoKeySet, NotRead};
use jsonwebtoken::{Algorithm, Header, Validation};
use protocol::settings::SigningAlgorithm;
use serde_json::{Value, json};

/// Signatures only: claims have tests of their own.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    validation
}

fn parse(keys: &[Value]) -> Result<(KeySet, Vec<&'static str>), NoKeySet> {
    KeySet::parse(&document(keys), &SigningAlgorithm::ALL, &validation())
}

fn set(keys: &[Value]) -> KeySet {
    parse(keys).ok().unwrap().0
}

fn left_out(key: Value) -> &'static str {
    let good = Signer::ed25519("good");
    let (set, left_out) = parse(&[key, good.jwk.clone()]).ok().unwrap();
    assert_eq!(set.len(), 1, "one bad key does not spoil the others");
    assert_eq!(read(&set, &good.sign(&json!({}))), Ok(json!({})));
    let [why] = left_out[..] else { panic!("{left_out:?}") };
    why
}

fn read(set: &KeySet, token: &str) -> Result<Value, NotRead> {
    set.read(token, &jsonwebtoken::decode_header(token).unwrap())
}

#[test]
fn every_kind_of_key_checks_what_it_signed() {
    let signers = [Signer::rsa("r"), Signer::p256("p"), Signer::p384("q"), Signer::ed25519("e")];
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk.clone()).collect();
    let set = set(&keys);
    for (at, signer) in signers.iter().enumerate() {
        let token = signer.sign(&json!({"n": at}));
        assert_eq!(read(&set, &token), Ok(json!({"n": at})), "{}", signer.id);
        let (rest, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{rest}.{}", "A".repeat(86));
        assert_eq!(read(&set, &forged), Err(NotRead::Refused), "{}", signer.id);
    }
}

#[test]
fn the_keys_own_algorithm_decides_and_without_one_its_type() {
    let rsa = Signer::rsa("r");
    use Algorithm::{ES256, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let sign = |algorithm| rsa.sign_with(&Header { alg: algorithm, ..rsa.header() }, &json!({}));
    let own = set(std::slice::from_ref(&rsa.jwk));
    let free = set(&[rsa.published(&json!({"alg": null}))]);
    assert_eq!(read(&own, &sign(RS256)), Ok(json!({})));
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512] {
        assert_eq!(read(&free, &sign(algorithm)), Ok(json!({})), "{algorithm:?}");
        if algorithm != RS256 {
            assert_eq!(read(&own, &sign(algorithm)), Err(NotRead::Refused), "{algorithm:?}");
        }
    }
    for (algorithm, signer) in [(ES256, Signer::p256("r")), (EdDSA, Signer::ed25519("r"))] {
        let token = signer.sign(&json!({}));
        assert_eq!(read(&free, &token), Err(NotRead::Refused), "{algorithm:?} by another key");
    }
}

#[test]
fn the_settings_narrow_what_keys_are_good_for() {
    let (rsa, ed) = (Signer::rsa("r"), Signer::ed25519("e"));
    let keys = document(&[rsa.published(&json!({"alg": null})), ed.jwk.clone()]);
    let allowed = [SigningAlgorithm::Ps256, SigningAlgorithm::Rs512];
    let (set, left_out) = KeySet::parse(&keys, &allowed, &validation()).ok().unwrap();
    assert_eq!((set.len(), left_out.len()), (1, 1));
    let sign = |alg| rsa.sign_with(&Header { alg, ..rsa.header() }, &json!({}));
    assert!(read(&set, &sign(Algorithm::PS256)).is_ok());
    assert!(read(&set, &sign(Algorithm::RS512)).is_ok());
    assert_eq!(read(&set, &sign(Algorithm::RS256)), Err(NotRead::Refused));
    let none = KeySet::parse(&document(&[ed.jwk]), &allowed, &validation());
    assert!(matches!(none, Err(NoKeySet::Empty(1, _))));
}

#[test]
fn keys_that_cannot_check_tokens_are_left_out_and_the_others_stay() {
    let (rsa, ec) = (Signer::rsa("r"), Signer::p256("p"));
    let rsa = |changes: Value| rsa.published(&changes);
    for (key, why) in [
        (json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256"}), "symmetric"),
        (json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "RS256"}), "symmetric"),
        (rsa(json!({"use": "enc"})), "not for signatures"),
        (rsa(json!({"use": "tls"})), "not for signatures"),
        (rsa(json!({"use": null, "key_ops": ["encrypt"]})), "not for verifying"),
        (rsa(json!({"alg": "RSA-OAEP"})), "no algorithm"),
        (rsa(json!({"alg": "HS256"})), "no algorithm"),
        (rsa(json!({"alg": "ES256"})), "no algorithm"),
        (rsa(json!({"alg": "none"})), "no algorithm"),
        (rsa(json!({"n": "!!"})), "no numbers"),
        (rsa(json!({"n": "AQAB"})), "2048"),
        (rsa(json!({"n": 7})), "type that is not supported"),
        (rsa(json!({"n": null})), "type that is not supported"),
        (rsa(json!({"kty": "DSA"})), "type that is not supported"),
        (rsa(json!({"kid": 7})), "cannot be read"),
        (rsa(json!({"d": "AQAB"})), "private"),
        (ec.published(&json!({"crv": "P-521"})), "curve"),
        (ec.published(&json!({"crv": "Ed25519"})), "curve"),
        (json!("key"), "cannot be read"),
        (json!(null), "cannot be read"),
        (json!({}), "type that is not supported"),
    ] {
        let said = left_out(key.clone());
        assert!(said.contains(why), "{key}: {said}");
    }
}

#[test]
fn a_symmetric_key_in_a_document_checks_nothing() {
    let good = Signer::p256("p");
    let oct = json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256", "use": "sig"});
    let set = set(&[oct, good.jwk]);
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let header = Header { kid: Some("o".into()), ..Header::new(Algorithm::HS256) };
    let token = jsonwebtoken::encode(&header, &json!({}), &key).unwrap();
    assert_eq!(read(&set, &token), Err(NotRead::UnknownKey));
}

#[test]
fn a_token_that_names_no_key_may_be_signed_by_any_of_them() {
    let signers = [Signer::p256("a"), Signer::ed25519("b"), Signer::p256("c")];
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk.clone()).collect();
    let set = set(&keys);
    for signer in &signers {
        let token = signer.sign_with(&Header::new(signer.algorithm), &json!({}));
        assert_eq!(read(&set, &token), Ok(json!({})), "{}", signer.id);
    }
    let stranger = Signer::p256("a");
    let nameless = stranger.sign_with(&Header::new(Algorithm::ES256), &json!({}));
    assert_eq!(read(&set, &nameless), Err(NotRead::UnknownKey), "a newer set may have its key");
    assert_eq!(read(&set, &stranger.sign(&json!({}))), Err(NotRead::Refused));
    let other = Header { kid: Some("d".into()), ..Header::new(Algorithm::ES256) };
    assert_eq!(read(&set, &stranger.sign_with(&other, &json!({}))), Err(NotRead::UnknownKey));
}

#[test]
fn two_keys_of_one_name_are_both_tried() {
    let (first, second) = (Signer::p256("same"), Signer::p256("same"));
    let set = set(&[first.jwk.clone(), second.jwk.clone()]);
    for signer in [&first, &second] {
        assert_eq!(read(&set, &signer.sign(&json!({}))), Ok(json!({})));
    }
}

#[test]
fn what_is_no_key_set_is_said_to_be_none() {
    let parse = |text: &[u8]| KeySet::parse(text, &SigningAlgorithm::ALL, &validation());
    for bad in ["", "{", "[]", "7", "null", "{}", r#"{"keys": {}}"#, "<html>", "\u{feff}{}"] {
        assert!(matches!(parse(bad.as_bytes()), Err(NoKeySet::Shape(_))), "{bad}");
    }
    assert!(matches!(parse(b"{\"keys\": []}"), Err(NoKeySet::Empty(0, _))));
    let text = parse(br#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#).err().unwrap().to_string();
    assert_eq!(text, "none of its 1 keys can check a token; the first is symmetric");
}

#[test]
fn only_so_many_keys_are_taken() {
    let signer = Signer::p256("p");
    let mut keys: Vec<_> =
        (0..MAX_KEYS).map(|n| signer.published(&json!({"kid": n.to_string()}))).collect();
    keys.push(signer.jwk.clone());
    let (set, left_out) = parse(&keys).ok().unwrap();
    assert_eq!((set.len(), left_out), (MAX_KEYS, vec!["is one too many"]));
    assert_eq!(read(&set, &signer.sign(&json!({}))), Err(NotRead::UnknownKey));
}
