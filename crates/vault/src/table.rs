//! The tables, and the keys of their rows.
//!
//! All rows stand in one ordered space. The first byte of a key is its table; the rest are local
//! integers, big-endian, or 16 bytes of an HMAC, so that no name of the world outside is readable.

use hmac::{Hmac, KeyInit, Mac};
use mildam_records::{AccountId, Canonical, ClientMessageId, RoomId};
use sha2::Sha256;

/// A room on this device: numbers from 1, in the order in which rooms came.
pub(crate) type RoomNumber = u32;

/// A room's messages of one period on this device: numbers from 1, in the order of their making.
pub(crate) type BucketNumber = u32;

/// What a row is. The code is the first byte of its key and never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Table {
    /// One row: the format of the rows and the number of commits.
    Head = 0x01,
    /// `slot`.
    Slot = 0x02,
    /// `HMAC(account)`.
    Account = 0x03,
    /// `room`: which room the number stands for.
    RoomName = 0x04,
    /// `room`.
    RoomMeta = 0x05,
    /// `room`.
    RoomState = 0x06,
    /// `room, seq`.
    LogHash = 0x07,
    /// `bucket`: room, period and key of a bucket.
    Bucket = 0x08,
    /// `room, seq`.
    History = 0x09,
    /// `room, HMAC(message id)`: the place of the message.
    MessageId = 0x0a,
    /// `order`.
    Outbox = 0x0b,
    /// `room, HMAC(account), kind`.
    Receipt = 0x0c,
    /// `bucket, block`: search postings.
    Postings = 0x0d,
    /// `key of another row, piece`: what does not fit into that row.
    Piece = 0x7f,
}

impl Table {
    /// The name that the AAD of its rows bears, and that errors give.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Slot => "slot",
            Self::Account => "account",
            Self::RoomName => "room-name",
            Self::RoomMeta => "room-meta",
            Self::RoomState => "room-state",
            Self::LogHash => "log-hash",
            Self::Bucket => "bucket",
            Self::History => "history",
            Self::MessageId => "message-id",
            Self::Outbox => "outbox",
            Self::Receipt => "receipt",
            Self::Postings => "postings",
            Self::Piece => "piece",
        }
    }
}

/// The key of a row: its table and what tells it from the others there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowKey {
    table: Table,
    bytes: Vec<u8>,
}

impl RowKey {
    pub(crate) fn new(table: Table) -> Self {
        Self { table, bytes: vec![table as u8] }
    }

    pub(crate) fn slot(slot: u8) -> Self {
        Self::new(Table::Slot).with(&[slot])
    }

    /// A row, or the common beginning of many, that belongs to a numbered room or bucket.
    pub(crate) fn numbered(table: Table, number: u32) -> Self {
        Self::new(table).with(&number.to_be_bytes())
    }

    pub(crate) fn placed(table: Table, number: u32, place: u64) -> Self {
        Self::numbered(table, number).with(&place.to_be_bytes())
    }

    pub(crate) fn outbox(order: u64) -> Self {
        Self::new(Table::Outbox).with(&order.to_be_bytes())
    }

    pub(crate) fn postings(bucket: BucketNumber, block: u32) -> Self {
        Self::numbered(Table::Postings, bucket).with(&block.to_be_bytes())
    }

    #[must_use]
    pub(crate) fn with(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A row that was found under these bytes in a table.
    pub(crate) fn found(table: Table, bytes: &[u8]) -> Self {
        Self { table, bytes: bytes.to_vec() }
    }

    pub(crate) const fn table(&self) -> Table {
        self.table
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where a further piece of this row's value stands; pieces count from 1.
    pub(crate) fn piece(&self, piece: u16) -> Vec<u8> {
        let mut key = vec![Table::Piece as u8];
        key.extend_from_slice(&self.bytes);
        key.extend_from_slice(&piece.to_be_bytes());
        key
    }

    /// The last four bytes as a number: the room, bucket or block of a key that ends so.
    pub(crate) fn last_number(bytes: &[u8]) -> Option<u32> {
        bytes.last_chunk::<4>().map(|tail| u32::from_be_bytes(*tail))
    }
}

/// The key under which names become row keys, and rows are summed. It never changes: rows must be
/// found again.
pub(crate) struct IndexKey(Hmac<Sha256>);

impl IndexKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(<Hmac<Sha256> as KeyInit>::new(&hmac_block(key)))
    }

    /// First 16 bytes of `HMAC-SHA-256(index key, T("mildam/vault-account-key/v1", account))`.
    pub(crate) fn account(&self, account: &AccountId) -> [u8; 16] {
        self.name(&Canonical::new("mildam/vault-account-key/v1").text(account.as_str()))
    }

    /// First 16 bytes of `HMAC-SHA-256(index key, T("mildam/vault-message-key/v1", id))`.
    pub(crate) fn message(&self, id: &ClientMessageId) -> [u8; 16] {
        self.name(&Canonical::new("mildam/vault-message-key/v1").bytes(id.as_bytes()))
    }

    /// First 16 bytes of `HMAC-SHA-256(index key, T("mildam/vault-given-id/v1", room, key))`.
    pub(crate) fn given(&self, room: &RoomId, key: &str) -> [u8; 16] {
        self.name(&Canonical::new("mildam/vault-given-id/v1").bytes(room.as_bytes()).text(key))
    }

    /// `HMAC-SHA-256(index key, T("mildam/vault-row-sum/v1", key, value))`.
    pub(crate) fn row_sum(&self, key: &[u8], value: &[u8]) -> [u8; 32] {
        self.mac(&Canonical::new("mildam/vault-row-sum/v1").bytes(key).bytes(value))
    }

    fn name(&self, input: &Canonical) -> [u8; 16] {
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(self.mac(input)) {
            *to = from;
        }
        name
    }

    fn mac(&self, input: &Canonical) -> [u8; 32] {
        self.0.clone().chain_update(input.as_bytes()).finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IndexKey(..)")
    }
}

/// A key as HMAC-SHA-256 takes it without hashing: filled up with zeros to one block.
fn hmac_block(key: &[u8; 32]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    block
}
