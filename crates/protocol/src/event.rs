//! What a relay tells without being asked.

use mildam_records::id::{AccountId, RoomId};
use mildam_records::{LogItem, Receipt};
use serde::{Deserialize, Serialize};

/// A push, `{event, data}` inside an answer that bears no request's id. Events about a room come
/// in the order of its log; what a client misses it gets by [`crate::command::RoomLog`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", content = "data", rename_all = "snake_case")]
pub enum Event {
    /// A room's log has grown. The first one of a room that the reader does not know means that
    /// the reader came in: read the log from the beginning.
    Log {
        /// The room.
        room: RoomId,
        /// What was appended.
        item: Box<LogItem>,
    },
    /// A member's receipt.
    Receipt {
        /// The receipt.
        receipt: Receipt,
    },
    /// Somebody asks to be a friend.
    FriendRequested {
        /// Who.
        account: AccountId,
        /// Their nickname.
        nickname: String,
        /// Their words.
        greeting: String,
        /// When.
        requested_at: u64,
    },
    /// A request of the reader's was accepted (or, on the reader's other devices, the reader
    /// accepted one).
    FriendAccepted {
        /// The new friend.
        account: AccountId,
        /// Their nickname.
        nickname: String,
        /// Since when.
        since: u64,
    },
    /// A request of the reader's was declined (or, on the reader's other devices, the reader
    /// declined one).
    FriendDeclined {
        /// The other side.
        account: AccountId,
    },
    /// An account's public keys have changed: ask for them again.
    KeysChanged {
        /// Whose.
        account: AccountId,
    },
    /// A friend came or went.
    Presence {
        /// Who.
        account: AccountId,
        /// Whether any of the friend's devices is connected.
        online: bool,
    },
    /// A member of a room is writing.
    Typing {
        /// Where.
        room: RoomId,
        /// Who.
        account: AccountId,
    },
    /// More was to tell than the connection took: read lists and logs from the cursor on.
    CatchUp {},
    /// The session has ended.
    SessionEnded {},
    /// The device was taken off its account's list, and the session has ended.
    DeviceRemoved {},
}

impl Event {
    /// The event as JSON, written once for everybody who gets it.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every part is a string, a number or a record: none of them can fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}
