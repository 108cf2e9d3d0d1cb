//! Names of keys and channels. What one script touches carries one hash tag, so that all of it lies
//! in one slot of a cluster.

use crate::registry::{Key, Space};
use protocol::{Incarnation, MessageId};

/// Makes names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// Head, text and meta of a stream, in the order in which every script takes them.
    pub(super) fn stream(&self, stream: MessageId) -> [String; 3] {
        let key = |kind| format!("{}{kind}:{{{stream}}}", self.prefix);
        [key("head"), key("text"), key("meta")]
    }

    /// Bytes of the name of every head.
    pub(super) fn head_length(&self) -> usize {
        self.prefix.len() + "head:{}".len() + uuid::fmt::Hyphenated::LENGTH
    }

    /// The stream whose head has this name.
    pub(super) fn stream_of(&self, head: &str) -> Option<MessageId> {
        let name = head.strip_prefix(&self.prefix)?.strip_prefix("head:{")?;
        MessageId::parse(name.strip_suffix('}')?)
    }

    /// What stands before a node's inbox; its incarnation follows, as the heads name it.
    pub(super) fn inboxes(&self) -> String {
        format!("{}inbox:", self.prefix)
    }

    pub(super) fn inbox(&self, node: Incarnation) -> String {
        format!("{}{}", self.inboxes(), node.0.simple())
    }

    /// How a head names a follower.
    pub(super) fn follower(node: Incarnation) -> String {
        format!(":{}", node.0.simple())
    }

    pub(super) fn bus(&self, to: Option<Incarnation>) -> String {
        match to {
            None => format!("{}bus", self.prefix),
            Some(node) => format!("{}bus:{}", self.prefix, node.0.simple()),
        }
    }

    /// Leases of all nodes.
    pub(super) fn leases(&self) -> String {
        format!("{}{{nodes}}:leases", self.prefix)
    }

    /// Incarnations that own streams, or did.
    pub(super) fn owners(&self) -> String {
        format!("{}{{nodes}}:owners", self.prefix)
    }

    /// Streams that an incarnation owns, or did.
    pub(super) fn owned_by(&self, node: &str) -> String {
        format!("{}{{nodes}}:owned:{node}", self.prefix)
    }

    /// Streams marked to be handed over.
    pub(super) fn offered(&self) -> String {
        format!("{}{{nodes}}:offered", self.prefix)
    }

    pub(super) fn fact(&self, key: &Key) -> String {
        format!("{}{}", self.facts_before(key.space, &key.user), key.name)
    }

    /// What stands before the names of a user's facts. The length keeps users apart whose names
    /// contain what separates here.
    pub(super) fn facts_before(&self, space: Space, user: &str) -> String {
        format!("{}fact:{}:{}:{{{user}}}:", self.prefix, space_name(space), user.len())
    }

    /// Names of a user's facts, each with its end.
    pub(super) fn facts(&self, space: Space, user: &str) -> String {
        format!("{}facts:{}:{}:{{{user}}}", self.prefix, space_name(space), user.len())
    }
}

fn space_name(space: Space) -> &'static str {
    match space {
        Space::Request => "request",
        Space::Ticket => "ticket",
        Space::Session => "session",
        Space::Conversation => "conversation",
        Space::Followed => "followed",
        Space::Answer => "answer",
        Space::Rate => "rate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_head_names_its_stream() {
        let keys = Keys::new("cc:".to_owned());
        let stream = MessageId(Uuid::from_u128(7));
        let [head, text, meta] = keys.stream(stream);
        assert_eq!(head, "cc:head:{00000000-0000-0000-0000-000000000007}");
        assert_eq!(keys.stream_of(&head), Some(stream));
        assert_eq!(keys.head_length(), head.len());
        for other in [text, meta, "head:{}".to_owned(), "cc:head:{7".to_owned()] {
            assert_eq!(keys.stream_of(&other), None);
        }
    }

    #[test]
    fn no_two_facts_share_a_name() {
        let keys = Keys::new(String::new());
        let fact = |user: &str, name: &str| {
            keys.fact(&Key { space: Space::Session, user: user.to_owned(), name: name.to_owned() })
        };
        assert_ne!(fact("a", "b}:c"), fact("a}:b", "c"));
        assert_ne!(fact("", "a"), fact("a", ""));
    }
}
