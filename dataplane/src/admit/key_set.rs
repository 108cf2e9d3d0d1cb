//! A key set (RFC 7517): which keys of a document may check tokens, and with which algorithms. Pure:
//! bytes in, keys out.
//!
//! What a key is good for is the key's own matter and never the token's: a token's header only
//! chooses among the keys, and among the algorithms that its key allows.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Header, Validation};
use protocol::settings::SigningAlgorithm;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Most keys that are taken from one document; the first ones.
pub const MAX_KEYS: usize = 64;
/// Sizes of an RSA modulus that the crypto library checks with, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// Keys of one document. At least one.
pub struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    decoding: DecodingKey,
    /// What is checked with this key; `algorithms` are those that it may be used with.
    validation: Validation,
}

/// Keys that were left out, and why: one bad key does not spoil the others.
pub type LeftOut = Vec<&'static str>;

/// Why a document has no key set in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKeySet {
    /// Not `{"keys": […]}`.
    #[error("it is no key set (RFC 7517): {0}")]
    Shape(String),
    /// Nothing that could check a token.
    #[error("none of its {0} keys can check a token{why}", why = self.first())]
    Empty(usize, LeftOut),
}

impl NoKeySet {
    fn first(&self) -> String {
        match self {
            Self::Empty(_, left_out) if !left_out.is_empty() => {
                format!("; the first {}", left_out[0])
            }
            _ => String::new(),
        }
    }
}

/// A token that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRead {
    /// By the key that it names.
    Refused,
    /// It names a key that is not here, or none and none fits: a newer set may have it.
    UnknownKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// The usable keys of a document, each with those of the `allowed` algorithms that fit it.
    ///
    /// # Errors
    /// [`NoKeySet`].
    pub fn parse(
        document: &[u8],
        allowed: &[SigningAlgorithm],
        validation: &Validation,
    ) -> Result<(Self, LeftOut), NoKeySet> {
        let Document { keys: found } =
            serde_json::from_slice(document).map_err(|error| NoKeySet::Shape(error.to_string()))?;
        let (count, mut left_out, mut keys) = (found.len(), LeftOut::new(), Vec::new());
        for jwk in found {
            if keys.len() == MAX_KEYS {
                left_out.push("is one too many");
                break;
            }
            match usable(jwk, allowed, validation) {
                Ok(key) => keys.push(key),
                Err(why) => left_out.push(why),
            }
        }
        if keys.is_empty() {
            return Err(NoKeySet::Empty(count, left_out));
        }
        Ok((Self { keys }, left_out))
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none, which [`Self::parse`] does not return.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The claims of a token that one of these keys signed.
    ///
    /// # Errors
    /// [`NotRead`].
    pub fn read<T: DeserializeOwned>(&self, token: &str, header: &Header) -> Result<T, NotRead> {
        let named = header.kid.as_deref();
        let fits = |key: &&Key| named.is_none() || key.id.as_deref() == named;
        let mut known = false;
        for key in self.keys.iter().filter(fits) {
            known = true;
            if !key.validation.algorithms.contains(&header.alg) {
                continue;
            }
            if let Ok(data) = jsonwebtoken::decode(token, &key.decoding, &key.validation) {
                return Ok(data.claims);
            }
        }
        let refused = known && named.is_some();
        Err(if refused { NotRead::Refused } else { NotRead::UnknownKey })
    }
}

fn usable(
    jwk: Value,
    allowed: &[SigningAlgorithm],
    validation: &Validation,
) -> Result<Key, &'static str> {
    if jwk.get("d").is_some() {
        return Err("publishes its private part");
    }
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| "cannot be read as a key")?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("is not for signatures (`use`)");
    }
    let verifies = |ops: &Vec<KeyOperations>| ops.contains(&KeyOperations::Verify);
    if !jwk.common.key_operations.as_ref().is_none_or(verifies) {
        return Err("is not for verifying (`key_ops`)");
    }
    let own = jwk.common.key_algorithm;
    let algorithms: Vec<_> = family(&jwk.algorithm)?
        .iter()
        .filter(|algorithm| allowed.iter().any(|allowed| library(*allowed) == **algorithm))
        .filter(|algorithm| own.is_none_or(|own| own == KeyAlgorithm::from(**algorithm)))
        .copied()
        .collect();
    if algorithms.is_empty() {
        return Err("has no algorithm that its type and auth.jwks.algorithms allow");
    }
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| "has parameters that are no numbers")?;
    if let DecodingKeyKind::RsaModulusExponent { n, .. } = decoding.kind()
        && !RSA_BITS.contains(&bits(n))
    {
        return Err("has an RSA modulus of less than 2048 or more than 8192 bits");
    }
    let validation = Validation { algorithms, ..validation.clone() };
    Ok(Key { id: jwk.common.key_id, decoding, validation })
}

/// What keys of this type and curve are good for. A symmetric key has no place in a document that
/// everybody may read: whoever reads it could sign.
fn family(parameters: &AlgorithmParameters) -> Result<&'static [Algorithm], &'static str> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::RSA(_) => Ok(&[RS256, RS384, RS512, PS256, PS384, PS512]),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Ok(&[ES256]),
            EllipticCurve::P384 => Ok(&[ES384]),
            _ => Err("is on a curve that is not supported"),
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => Ok(&[EdDSA]),
            _ => Err("is on a curve that is not supported"),
        },
        AlgorithmParameters::OctetKey(_) => Err("is symmetric"),
        _ => Err("is of a type that is not supported"),
    }
}

const fn library(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Rs384 => Algorithm::RS384,
        SigningAlgorithm::Rs512 => Algorithm::RS512,
        SigningAlgorithm::Ps256 => Algorithm::PS256,
        SigningAlgorithm::Ps384 => Algorithm::PS384,
        SigningAlgorithm::Ps512 => Algorithm::PS512,
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::Es384 => Algorithm::ES384,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// Of a number in big-endian bytes.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let first = number.get(zeros).map_or(8, |byte| byte.leading_zeros() as usize);
    (number.len() - zeros) * 8 - if zeros == number.len() { 0 } else { first }
}
