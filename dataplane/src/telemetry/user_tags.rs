//! Names of users as logs and spans show them: equal for equal users on every node of a cluster, and
//! nothing that somebody without the cluster's key could turn back into a user id, or guess one by.

use aws_lc_rs::hmac;
use protocol::UserId;
use std::fmt::Write as _;

/// Bytes of a tag: enough to tell users apart in one log.
const TAG_BYTES: usize = 8;
/// What the same key is used for elsewhere must never look like a tag.
const DOMAIN: &[u8] = b"chatcluster user tag\n";

/// Makes tags. Not `Debug`: it holds a key.
pub struct UserTags(hmac::Key);

impl UserTags {
    /// `key` is a secret that all nodes share: the one that signs resume tokens. After its rotation
    /// users have other tags.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// 16 hexadecimal digits.
    pub fn tag(&self, user: &UserId) -> String {
        let mut hash = hmac::Context::with_key(&self.0);
        hash.update(DOMAIN);
        hash.update(user.as_str().as_bytes());
        let mut text = String::with_capacity(2 * TAG_BYTES);
        for byte in hash.sign().as_ref().iter().take(TAG_BYTES) {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_tag_a_key_and_no_other_user_has_it() {
        let (tags, same, other) = (UserTags::new(b"k"), UserTags::new(b"k"), UserTags::new(b"l"));
        let (alice, bob) = (UserId::new("alice"), UserId::new("bob"));
        assert_eq!(tags.tag(&alice), same.tag(&alice));
        assert_ne!(tags.tag(&alice), tags.tag(&bob));
        assert_ne!(tags.tag(&alice), other.tag(&alice));
        assert!(tags.tag(&alice).len() == 16 && !tags.tag(&alice).contains("alice"));
    }
}
