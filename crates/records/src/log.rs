//! A room's log: what the relay numbers, and the hash that makes its order and content agreed.

use serde::{Deserialize, Serialize};

use crate::canonical::Canonical;
use crate::id::{Hash, RoomId};
use crate::message::Message;
use crate::room::{EpochAnnouncement, RoomChange, SealedProfile, Snapshot, Wrap};

/// An entry of the log: what has a number of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEntry {
    /// A change of the room.
    Change(Box<RoomChange>),
    /// A message.
    Message(Box<Message>),
    /// An entry whose content the reader does not get: deleted by retention, or from before the
    /// reader came. Its hash remains, so that the log hash can be followed across it.
    Withheld(Hash),
}

impl LogEntry {
    /// The hash of the entry.
    #[must_use]
    pub fn hash(&self) -> Hash {
        match self {
            Self::Change(change) => change.hash(),
            Self::Message(message) => message.hash(),
            Self::Withheld(hash) => *hash,
        }
    }
}

/// A place in the log together with the log hash there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPosition {
    /// The place k; 0 before the first entry.
    pub seq: u64,
    /// H_k; [`Hash::ZERO`] at 0.
    pub hash: Hash,
}

impl LogPosition {
    /// Before the first entry.
    pub const START: Self = Self { seq: 0, hash: Hash::ZERO };

    /// The position after one more entry.
    #[must_use]
    pub fn then(&self, room: &RoomId, entry: &Hash) -> Self {
        let seq = self.seq.saturating_add(1);
        Self { seq, hash: LogHash::next(room, seq, &self.hash, entry) }
    }
}

/// The log hash.
pub struct LogHash;

impl LogHash {
    /// `H_k = SHA-256(T("mildam/log/v1", room, k, H_{k-1}, hash of entry k))`.
    #[must_use]
    pub fn next(room: &RoomId, seq: u64, previous: &Hash, entry: &Hash) -> Hash {
        Canonical::new("mildam/log/v1")
            .bytes(room.as_bytes())
            .integer(seq)
            .bytes(previous.as_bytes())
            .bytes(entry.as_bytes())
            .hash()
    }
}

/// What a member reads of a log, in order: entries, and between them the epochs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LogItem {
    /// An entry.
    Entry {
        /// Its place, from 1, without gaps.
        seq: u64,
        /// When the relay stored it, in milliseconds since 1970 (UTC).
        stored_at: u64,
        /// The entry.
        entry: LogEntry,
        /// For a reader who comes in by this very entry: the room after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<Box<Snapshot>>,
    },
    /// An epoch, in force from here on.
    Epoch {
        /// The place of the last entry before it.
        after: u64,
        /// When the relay stored it, in milliseconds since 1970 (UTC).
        stored_at: u64,
        /// The announcement.
        announcement: Box<EpochAnnouncement>,
        /// The key, wrapped for the reading device; none if it was left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wrap: Option<Box<Wrap>>,
        /// The sealed room profile that came with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<SealedProfile>,
    },
}
