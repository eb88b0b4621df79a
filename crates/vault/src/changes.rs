//! What one commit changes.

use mildam_records::{AccountId, ClientMessageId, Hash, ReceiptKind, RoomId};
use zeroize::Zeroizing;

use crate::row::{HistoryRow, OutboxRow, ReceiptRow, RoomRow, Secret, Slot};

/// Changes that become durable together or not at all, by [`Vault::commit`](crate::Vault::commit).
/// They take effect in the order in which they were added.
#[derive(Default)]
#[must_use = "changes do nothing until they are committed"]
pub struct Changes(pub(crate) Vec<Change>);

pub(crate) enum Change {
    Slot(Slot, Option<Secret>),
    Account(AccountId, Secret),
    Room(RoomId, RoomRow),
    LogHash(RoomId, u64, Hash),
    Message(RoomId, HistoryRow),
    MessageRemoved(RoomId, ClientMessageId),
    Outbox(OutboxRow),
    OutboxRemoved(RoomId, ClientMessageId),
    Receipt(RoomId, ReceiptRow),
}

impl Changes {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fills a slot.
    pub fn put(&mut self, slot: Slot, bytes: impl Into<Vec<u8>>) {
        self.0.push(Change::Slot(slot, Some(Zeroizing::new(bytes.into()))));
    }

    /// Empties a slot.
    pub fn remove(&mut self, slot: Slot) {
        self.0.push(Change::Slot(slot, None));
    }

    /// Remembers what is known of an account.
    pub fn put_account(&mut self, account: &AccountId, bytes: impl Into<Vec<u8>>) {
        self.0.push(Change::Account(account.clone(), Zeroizing::new(bytes.into())));
    }

    /// Stores a room, new or changed.
    pub fn put_room(&mut self, room: &RoomId, row: RoomRow) {
        self.0.push(Change::Room(*room, row));
    }

    /// Stores the log hash H at a place of a room's log.
    pub fn put_log_hash(&mut self, room: &RoomId, seq: u64, hash: Hash) {
        self.0.push(Change::LogHash(*room, seq, hash));
    }

    /// Stores a line of a conversation and makes its text searchable. A line at the same place is
    /// replaced.
    pub fn put_message(&mut self, room: &RoomId, row: HistoryRow) {
        self.0.push(Change::Message(*room, row));
    }

    /// Removes a line of a conversation; nothing happens if it is not there. It cannot be read any more
    /// by anybody who gets the files and the keys, once [`Vault::rotate`](crate::Vault::rotate) is done.
    pub fn remove_message(&mut self, room: &RoomId, id: &ClientMessageId) {
        let same =
            |change: &Change| matches!(change, Change::Message(to, row) if to == room && row.id == *id);
        self.0.retain(|change| !same(change));
        self.0.push(Change::MessageRemoved(*room, *id));
    }

    /// Stores a message that waits to be sent, or replaces the one with the same room and id; the
    /// vault assigns [`OutboxRow::order`].
    pub fn put_outbox(&mut self, row: OutboxRow) {
        self.0.push(Change::Outbox(row));
    }

    /// Removes a message from the outbox; nothing happens if it is not there.
    pub fn remove_outbox(&mut self, room: &RoomId, id: &ClientMessageId) {
        self.0.push(Change::OutboxRemoved(*room, *id));
    }

    /// Stores how far a member has come.
    pub fn put_receipt(&mut self, room: &RoomId, account: &AccountId, kind: ReceiptKind, seq: u64) {
        self.0.push(Change::Receipt(*room, ReceiptRow { account: account.clone(), kind, seq }));
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Changes({})", self.0.len())
    }
}
