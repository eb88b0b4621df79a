//! The rows that the vault keeps, as its callers see them.

use mildam_records::{AccountId, Canonical, ClientMessageId, ReceiptKind, RoomId};
use zeroize::Zeroizing;

use crate::fields::Fields;

/// Bytes that must not outlive their use.
pub type Secret = Zeroizing<Vec<u8>>;

/// What a vault holds exactly one of. The bytes are the caller's; the vault does not look inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Slot {
    /// The relay's link.
    Server = 1,
    /// The account's own id, nickname and identity.
    Account = 2,
    /// The private keys of this device.
    Device = 3,
    /// The session that the relay gave.
    Session = 4,
    /// The recovery words, until the user has written them down.
    RecoveryWords = 5,
    /// What the user chose in the settings.
    Preferences = 6,
    /// Friends and friend requests.
    Friends = 7,
    /// How the vault was put together again, until the client has seen to it: a [`Repair`](crate::Repair).
    Repair = 8,
}

impl Slot {
    /// All that a repair takes over.
    pub(crate) const KEPT: [Self; 7] = [
        Self::Server,
        Self::Account,
        Self::Device,
        Self::Session,
        Self::RecoveryWords,
        Self::Preferences,
        Self::Friends,
    ];
}

/// A room: its end-to-end state, which is secret, and what the client wants to know of it without
/// touching that.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomRow {
    /// The chains and everything else that end-to-end encryption needs.
    pub state: Secret,
    /// The client's own bytes: kind, members, cursor, and the like.
    pub meta: Vec<u8>,
}

impl std::fmt::Debug for RoomRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomRow").finish_non_exhaustive()
    }
}

/// A line of a conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The place in the room's log, from 1.
    pub seq: u64,
    /// What the sender called it.
    pub id: ClientMessageId,
    /// Who wrote it.
    pub from: AccountId,
    /// When, in milliseconds since 1970 (UTC), by the sender's clock.
    pub sent_at: u64,
    /// The client's own bytes.
    pub body: Vec<u8>,
    /// What can be searched for.
    pub text: Option<String>,
}

impl std::fmt::Debug for HistoryRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HistoryRow").field("seq", &self.seq).field("id", &self.id).finish_non_exhaustive()
    }
}

/// A message that waits to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// The place in the outbox. The vault gives it when the row is first put (whatever stands
    /// here then is ignored) and keeps it when a row with the same room and id is put again.
    pub order: u64,
    /// Where it goes.
    pub room: RoomId,
    /// What it is called.
    pub id: ClientMessageId,
    /// The client's own bytes.
    pub body: Vec<u8>,
    /// The sealed message, once it is sealed: a resend must be the same, byte for byte.
    pub sealed: Option<Vec<u8>>,
    /// When it was written, in milliseconds since 1970 (UTC).
    pub created_at: u64,
}

impl std::fmt::Debug for OutboxRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboxRow")
            .field("order", &self.order)
            .field("room", &self.room)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// How far a member's devices have come in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Whose.
    pub account: AccountId,
    /// Delivered or read.
    pub kind: ReceiptKind,
    /// The last place that it covers.
    pub seq: u64,
}

/// A message that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Where.
    pub room: RoomId,
    /// The message.
    pub row: HistoryRow,
    /// What matched: byte ranges `[start, end)` of its text, in order and apart.
    pub ranges: Vec<(u32, u32)>,
}

impl HistoryRow {
    pub(crate) fn encode(&self) -> Secret {
        Zeroizing::new(
            Canonical::element()
                .integer(self.seq)
                .bytes(self.id.as_bytes())
                .text(self.from.as_str())
                .integer(self.sent_at)
                .bytes(&self.body)
                .optional(self.text.as_ref().map(String::as_bytes))
                .into_bytes(),
        )
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let row = Self {
            seq: fields.integer()?,
            id: ClientMessageId::from_slice(fields.bytes()?)?,
            from: fields.text()?.parse().ok()?,
            sent_at: fields.integer()?,
            body: fields.bytes()?.to_vec(),
            text: match fields.optional()? {
                None => None,
                Some(text) => Some(std::str::from_utf8(text).ok()?.to_owned()),
            },
        };
        fields.end()?;
        Some(row)
    }
}

impl OutboxRow {
    pub(crate) fn encode(&self) -> Secret {
        Zeroizing::new(
            Canonical::element()
                .integer(self.order)
                .bytes(self.room.as_bytes())
                .bytes(self.id.as_bytes())
                .bytes(&self.body)
                .optional(self.sealed.as_deref())
                .integer(self.created_at)
                .into_bytes(),
        )
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let row = Self {
            order: fields.integer()?,
            room: RoomId::from_slice(fields.bytes()?)?,
            id: ClientMessageId::from_slice(fields.bytes()?)?,
            body: fields.bytes()?.to_vec(),
            sealed: fields.optional()?.map(<[u8]>::to_vec),
            created_at: fields.integer()?,
        };
        fields.end()?;
        Some(row)
    }
}

impl ReceiptRow {
    pub(crate) const fn kind_code(kind: ReceiptKind) -> u8 {
        match kind {
            ReceiptKind::Delivered => 1,
            ReceiptKind::Read => 2,
        }
    }

    pub(crate) fn encode(&self) -> Secret {
        Zeroizing::new(
            Canonical::element()
                .text(self.account.as_str())
                .integer(u64::from(Self::kind_code(self.kind)))
                .integer(self.seq)
                .into_bytes(),
        )
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let row = Self {
            account: fields.text()?.parse().ok()?,
            kind: match fields.integer()? {
                1 => ReceiptKind::Delivered,
                2 => ReceiptKind::Read,
                _ => return None,
            },
            seq: fields.integer()?,
        };
        fields.end()?;
        Some(row)
    }
}
