//! Messages as the relay sees them, and receipts.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bytes::{Bytes, fixed_bytes};
use crate::canonical::Canonical;
use crate::id::{AccountId, ClientMessageId, DeviceId, Hash, RoomId};
use crate::keys::Signature;

fixed_bytes!(
    /// The random salt of one message's key derivation, 16 bytes.
    MessageSalt,
    16
);

/// The version of the message format.
pub const MESSAGE_VERSION: u64 = 1;

/// What stands before the ciphertext in clear, authenticated by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageHeader {
    /// [`MESSAGE_VERSION`].
    pub format: u64,
    /// The room.
    pub room: RoomId,
    /// The epoch whose chains were used.
    pub epoch: u64,
    /// Who sends.
    pub sender: AccountId,
    /// With which device.
    pub sender_device: DeviceId,
    /// The number of the message in that device's chain of that epoch, from 0.
    pub n: u64,
    /// What the sender calls it.
    pub id: ClientMessageId,
    /// Salt of the key derivation.
    pub salt: MessageSalt,
    /// Commitment to the message key, 32 bytes.
    pub commit: Hash,
    /// The room's version as the sender knows it.
    pub version: u64,
    /// Hash of the change that made that version.
    pub head: Hash,
    /// The last entry of the log that the sender had seen: its place k ...
    pub seen_seq: u64,
    /// ... and the log hash H_k there.
    pub seen_hash: Hash,
    /// Hash of the sender's own device list.
    pub sender_list: Hash,
}

impl MessageHeader {
    /// `T("mildam/message-header/v1", format, room, epoch, sender, device, n, id, salt, commit,
    /// version, head, seen_seq, seen_hash, sender list)`: the AAD of the ciphertext.
    #[must_use]
    pub fn canonical(&self) -> Canonical {
        Canonical::new("mildam/message-header/v1")
            .integer(self.format)
            .bytes(self.room.as_bytes())
            .integer(self.epoch)
            .text(self.sender.as_str())
            .bytes(self.sender_device.as_bytes())
            .integer(self.n)
            .bytes(self.id.as_bytes())
            .bytes(self.salt.as_bytes())
            .bytes(self.commit.as_bytes())
            .integer(self.version)
            .bytes(self.head.as_bytes())
            .integer(self.seen_seq)
            .bytes(self.seen_hash.as_bytes())
            .bytes(self.sender_list.as_bytes())
    }
}

/// A sealed message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The header.
    pub header: MessageHeader,
    /// The padded content under AES-256-GCM, tag (16 bytes) at the end.
    pub ciphertext: Bytes,
    /// Ed25519 by the sender's device over [`Message::signed_bytes`].
    pub signature: Signature,
}

impl Message {
    /// `T("mildam/signed-message/v1", canonical header, SHA-256(ciphertext))`.
    #[must_use]
    pub fn signed_bytes(&self) -> Canonical {
        let digest: [u8; 32] = Sha256::digest(&*self.ciphertext).into();
        Canonical::new("mildam/signed-message/v1").bytes(self.header.canonical().as_bytes()).bytes(&digest)
    }

    /// `SHA-256(T("mildam/message-hash/v1", signed bytes, signature))`: the entry's hash in the log.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Canonical::new("mildam/message-hash/v1")
            .bytes(self.signed_bytes().as_bytes())
            .bytes(self.signature.as_bytes())
            .hash()
    }
}

/// What a receipt says of everything up to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptKind {
    /// The device has it, durably.
    Delivered,
    /// A person has seen it.
    Read,
}

/// A signed statement that everything in a room up to a place arrived or was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The room.
    pub room: RoomId,
    /// Delivered or read.
    pub kind: ReceiptKind,
    /// The place k in the log, all before it included.
    pub seq: u64,
    /// The log hash H_k.
    pub hash: Hash,
    /// Who says so.
    pub account: AccountId,
    /// With which device.
    pub device: DeviceId,
    /// Ed25519 by that device over [`Receipt::signed_bytes`].
    pub signature: Signature,
}

impl Receipt {
    /// `T("mildam/receipt/v1", room, "delivered" | "read", seq, hash, account, device)`.
    #[must_use]
    pub fn signed_bytes(&self) -> Canonical {
        let kind = match self.kind {
            ReceiptKind::Delivered => "delivered",
            ReceiptKind::Read => "read",
        };
        Canonical::new("mildam/receipt/v1")
            .bytes(self.room.as_bytes())
            .text(kind)
            .integer(self.seq)
            .bytes(self.hash.as_bytes())
            .text(self.account.as_str())
            .bytes(self.device.as_bytes())
    }
}
