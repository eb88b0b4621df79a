//! What messages say, once they are open.

use mildam_records::bytes::Bytes;
use mildam_records::{DeviceId, Hash};
use serde::{Deserialize, Serialize};

/// Another message, named so that nobody can stand in for it: never by client id alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageRef {
    /// The sending device.
    pub device: DeviceId,
    /// The epoch.
    pub epoch: u64,
    /// The number in that device's chain.
    pub n: u64,
    /// The hash of the log entry.
    pub hash: Hash,
}

/// What everybody in a room reads above it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomProfile {
    /// The name; may be empty in a direct room.
    pub name: String,
    /// What it is about; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub topic: String,
    /// A small picture, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<Bytes>,
}

/// A file that lies on the relay as an encrypted blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// The blob's id.
    pub blob: Hash,
    /// The key of the blob.
    pub key: Hash,
    /// Size in bytes, before padding.
    pub size: u64,
    /// SHA-256 of the ciphertext.
    pub sha256: Hash,
    /// Media type.
    pub media: String,
    /// File name.
    pub name: String,
    /// A small picture to show before the file is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<Bytes>,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Text.
    Text(String),
    /// Text that answers another message.
    Reply {
        /// Which.
        to: MessageRef,
        /// The text.
        text: String,
    },
    /// New text for a message of one's own.
    Edit {
        /// Which.
        target: MessageRef,
        /// The text.
        text: String,
    },
    /// A message is to be gone for all.
    Delete {
        /// Which.
        target: MessageRef,
    },
    /// A reaction to a message; an empty one takes the sender's own back.
    Reaction {
        /// Which.
        target: MessageRef,
        /// An emoji, or nothing.
        emoji: String,
    },
    /// A file.
    File(FileRef),
    /// The room's profile changes.
    Profile(RoomProfile),
    /// A message is pinned or unpinned.
    Pin {
        /// Which.
        target: MessageRef,
        /// Pinned or not.
        pinned: bool,
    },
    /// Messages disappear after so many seconds; 0 for never.
    Timer {
        /// Seconds.
        seconds: u64,
    },
    /// Something that this version does not know, kept as it came.
    #[serde(untagged)]
    Unknown(serde_json::Value),
}

/// A message's content: JSON, `{"sent_at": ..., "body": {"text": "..."}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// When it was written, in milliseconds since 1970 (UTC), by the sender's clock.
    pub sent_at: u64,
    /// What it says.
    pub body: Body,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_body_is_kept() {
        let json = r#"{"sent_at":5,"body":{"hologram":{"size":3}}}"#;
        let content: Content = serde_json::from_str(json).unwrap();
        assert!(matches!(content.body, Body::Unknown(_)));
        assert_eq!(serde_json::to_string(&content).unwrap(), json);
        let text: Content = serde_json::from_str(r#"{"sent_at":5,"body":{"text":"밀담"}}"#).unwrap();
        assert_eq!(text.body, Body::Text("밀담".into()));
    }
}
