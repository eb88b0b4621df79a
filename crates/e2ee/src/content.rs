//! What messages say, once they are open. Keys that this version does not know are passed over, so
//! that later versions can say more.

use std::fmt;

use mildam_records::bytes::Bytes;
use mildam_records::json::Unambiguous;
use mildam_records::{DeviceId, Hash};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Another message, named so that nobody can stand in for it: never by client id alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A file that lies on the relay as an encrypted blob. `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl fmt::Debug for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRef").field("blob", &self.blob).field("size", &self.size).finish_non_exhaustive()
    }
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

/// Reads JSON in which no key comes twice.
fn read<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    serde_json::from_slice::<Unambiguous>(json).ok()?;
    serde_json::from_slice(json).ok()
}

impl Content {
    /// Reads the JSON of a message that is open; `None` if it is not of that form, or has a key twice.
    #[must_use]
    pub fn read(json: &[u8]) -> Option<Self> {
        read(json)
    }
}

impl RoomProfile {
    /// Reads the JSON of a profile that is open; `None` if it is not of that form, or has a key twice.
    #[must_use]
    pub fn read(json: &[u8]) -> Option<Self> {
        read(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> MessageRef {
        let device = DeviceId::from_bytes([1; 16]);
        MessageRef { device, epoch: 2, n: 3, hash: Hash::from_bytes([4; 32]) }
    }

    fn file() -> FileRef {
        let hash = |byte| Hash::from_bytes([byte; 32]);
        FileRef {
            blob: hash(1),
            key: hash(2),
            size: 5,
            sha256: hash(3),
            media: "image/png".into(),
            name: "사진.png".into(),
            thumbnail: None,
        }
    }

    // REQ M1
    #[test]
    fn every_body_has_its_documented_form() {
        let (to, target) = (reference(), reference());
        let profile = RoomProfile { name: "우리집".into(), ..RoomProfile::default() };
        let bodies = [
            Body::Text("밀담".into()),
            Body::Reply { to, text: "그래".into() },
            Body::Edit { target: target.clone(), text: "아니".into() },
            Body::Delete { target: target.clone() },
            Body::Reaction { target: target.clone(), emoji: "👍".into() },
            Body::File(file()),
            Body::Profile(profile),
            Body::Pin { target, pinned: true },
            Body::Timer { seconds: 60 },
        ];
        let shown = bodies.map(|body| {
            let content = Content { sent_at: 5, body };
            let json = serde_json::to_string(&content).unwrap();
            assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
            json
        });
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn an_unknown_body_is_kept() {
        let more = r#"{"sent_at":5,"body":{"profile":{"name":"집","colour":"red"}},"mood":"fine"}"#;
        let content: Content = serde_json::from_str(more).unwrap();
        let profile = RoomProfile { name: "집".into(), ..RoomProfile::default() };
        assert_eq!(content.body, Body::Profile(profile));
        for body in [r#"{"hologram":{"size":3}}"#, r#"{"text":7}"#, r#""wave""#] {
            let json = format!(r#"{{"sent_at":5,"body":{body}}}"#);
            let content: Content = serde_json::from_str(&json).unwrap();
            assert!(matches!(content.body, Body::Unknown(_)), "{body}");
            assert_eq!(serde_json::to_string(&content).unwrap(), json);
        }
    }

    #[test]
    fn a_key_that_comes_twice_makes_a_content_malformed() {
        assert!(Content::read(br#"{"sent_at":5,"body":{"text":"a"}}"#).is_some());
        for doubled in [
            r#"{"sent_at":5,"sent_at":6,"body":{"text":"a"}}"#,
            r#"{"sent_at":5,"body":{"text":"a","text":"b"}}"#,
            r#"{"sent_at":5,"body":{"hologram":{"size":3,"size":4}}}"#,
            r#"{"sent_at":5,"body":{"text":"a"},"mood":1,"mood":2}"#,
        ] {
            assert_eq!(Content::read(doubled.as_bytes()), None, "{doubled}");
        }
        assert!(RoomProfile::read(br#"{"name":"a","colour":1}"#).is_some());
        assert_eq!(RoomProfile::read(br#"{"name":"a","colour":1,"colour":2}"#), None);
    }

    #[test]
    fn the_key_of_a_file_does_not_show() {
        let file = file();
        let shown = format!("{:?}", Body::File(file.clone()));
        assert!(!shown.contains(&file.key.to_string()) && shown.contains("FileRef"), "{shown}");
    }
}
