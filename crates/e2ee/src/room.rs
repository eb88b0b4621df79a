//! One room on one device: who is in it, which keys hold, and where in the log it stands.
//!
//! A room changes only by what is read from its log ([`Room::accept`]); sending moves only the own
//! sender chain. What this device announces or changes it learns back from the log like everybody
//! else, so that there is one order of things for all.

mod accept;
mod epoch;
mod make;
mod message;
mod rule;

use std::collections::BTreeMap;
use std::fmt;

use mildam_records::{
    AccountId, ChangeError, ClientMessageId, DeviceId, Hash, LogPosition, Member, Membership, Receipt,
    RoomId, RoomKind,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::KeyError;
use crate::content::{Content, RoomProfile};
use crate::device::DeviceSecrets;
use crate::directory::Directory;
use crate::secret;
use epoch::Epoch;
use rule::{Block, Rule};

pub use epoch::NewEpoch;
pub use make::{NewChange, NewRoom};

/// A new epoch is due after so many messages.
pub const EPOCH_MESSAGES: u64 = 1_000;
/// A new epoch is due after so many milliseconds: 7 days.
pub const EPOCH_MILLISECONDS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// A device whose prekey is older, in milliseconds, gets no key: 60 days.
pub const PREKEY_MILLISECONDS: u64 = 60 * 24 * 60 * 60 * 1_000;
/// The longest content of a message, in bytes of JSON: padded and sealed it fits into 96 KiB.
pub const MAX_CONTENT: usize = 96_255;

/// Where log hashes of the past are looked up: the vault keeps them all.
pub trait PastHashes {
    /// `H_k` at place `seq`, if this device has read that far and began no later.
    ///
    /// # Errors
    /// [`PastUnreadable`] if it cannot be told: that is nobody else's fault.
    fn log_hash(&self, seq: u64) -> Result<Option<Hash>, PastUnreadable>;
}

impl PastHashes for BTreeMap<u64, Hash> {
    fn log_hash(&self, seq: u64) -> Result<Option<Hash>, PastUnreadable> {
        Ok(self.get(&seq).copied())
    }
}

/// This device cannot read what it has kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PastUnreadable {
    /// A stable name of the reason.
    pub code: &'static str,
    /// The reason in words.
    pub message: String,
}

/// Who reads, and what the reader knows.
pub struct Reader<'a> {
    /// The reading device.
    pub secrets: &'a DeviceSecrets,
    /// What is known of others.
    pub directory: &'a dyn Directory,
    /// The room's log hashes so far.
    pub hashes: &'a dyn PastHashes,
    /// Whether the directory was refreshed for this very item: then what is still unknown is
    /// refused, and not asked for again.
    pub keys_are_fresh: bool,
    /// The reading device's time, in milliseconds since 1970 (UTC).
    pub now: u64,
}

/// What an item of the log did.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// The room was made.
    Created {
        /// By whom.
        by: AccountId,
    },
    /// Members came in; the reader too, if it is among them.
    Added {
        /// By whom.
        by: AccountId,
        /// Who.
        accounts: Vec<AccountId>,
    },
    /// A member was put out, or banned.
    Removed {
        /// By whom.
        by: AccountId,
        /// Who.
        account: AccountId,
    },
    /// A member left.
    Left {
        /// Who.
        by: AccountId,
    },
    /// A role changed, an account that is no member was banned, or the room was closed.
    Changed {
        /// By whom.
        by: AccountId,
    },
    /// A message opened.
    Message(Box<ReceivedMessage>),
    /// A new epoch is in force.
    Epoch {
        /// Its number.
        epoch: u64,
    },
    /// An entry whose content is not for this reader; its hash was taken.
    Withheld,
}

/// A message that passed every check.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedMessage {
    /// Who sent it.
    pub sender: AccountId,
    /// With which device.
    pub device: DeviceId,
    /// The epoch.
    pub epoch: u64,
    /// Its number in that device's chain.
    pub n: u64,
    /// What the sender calls it.
    pub id: ClientMessageId,
    /// What it says.
    pub content: Content,
    /// How many messages of this device are missing before it.
    pub missing: u64,
    /// The reading device sent it and does not know that: its state was put back to an earlier
    /// one. It sends nothing more in this epoch; the person is to be told.
    pub unknown_own: bool,
    /// The hash of the log entry: with device, epoch and n, what later messages refer to it by.
    pub hash: Hash,
}

/// Why an item was not taken. A refused item is still counted: the log goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// Keys of these accounts are needed first. Nothing has changed; ask, and offer it again.
    #[error("keys are needed first")]
    NeedsKeys(Vec<AccountId>),
    /// It is not the next item. Nothing has changed; read the log from the position on.
    #[error("the item is not the next one")]
    OutOfOrder,
    /// It was read before. Nothing has changed.
    #[error("the item was read before")]
    Old,
    /// What it is to be compared with cannot be read here. Nothing has changed; offer it again later.
    #[error(transparent)]
    PastUnreadable(#[from] PastUnreadable),
    /// It breaks a rule. The position has moved on; the room may be blocked.
    #[error("refused: {}", .0.code)]
    Refused(Refusal),
}

/// Which rule an item breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule: a stable name, see docs/e2ee.md.
    pub code: &'static str,
    /// Who sent it, or claims to.
    pub sender: Option<AccountId>,
}

/// Why this device cannot make something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The room is blocked: something in its log does not fit.
    #[error("the room is blocked: {0}")]
    Blocked(&'static str),
    /// This account is not a member.
    #[error("not a member")]
    NotMember,
    /// A new epoch must be announced first.
    #[error("a new epoch is due")]
    EpochDue,
    /// The content has more than [`MAX_CONTENT`] bytes.
    #[error("the content is too long")]
    TooLong,
    /// Keys of an account are not known.
    #[error("the keys of {0} are not known")]
    UnknownKeys(AccountId),
    /// The change does not follow.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A receipt does not verify or does not fit the log.
    #[error("the receipt does not fit")]
    BadReceipt,
    /// What it is to be compared with cannot be read here.
    #[error(transparent)]
    PastUnreadable(#[from] PastUnreadable),
}

/// The state of a room.
#[derive(Serialize, Deserialize)]
pub struct Room {
    format: u64,
    id: RoomId,
    /// Where the reader's part of the log begins.
    start: LogPosition,
    position: LogPosition,
    membership: Option<Membership>,
    epoch: Option<Epoch>,
    profile: Option<RoomProfile>,
    /// Whether the profile is by an admin's or owner's word.
    #[serde(default = "settled")]
    profile_is_settled: bool,
    blocked: Option<Block>,
    /// The room's version as this reader knew it when it began anew: the beginning must be newer.
    #[serde(default)]
    after_version: u64,
    /// The room whose place this one takes.
    #[serde(default)]
    replaces: Option<RoomId>,
}

/// States of before this was written down took admins' words only.
const fn settled() -> bool {
    true
}

const FORMAT: u64 = 1;

impl Room {
    /// A room whose log is read from the beginning.
    #[must_use]
    pub const fn empty(id: RoomId) -> Self {
        Self::joining(id, LogPosition::START)
    }

    /// A room whose log is read from where this account came in: `start` is the position right
    /// before that entry, as the relay tells it. The epoch that came with the entry vouches for it.
    #[must_use]
    pub const fn joining(id: RoomId, start: LogPosition) -> Self {
        Self {
            format: FORMAT,
            id,
            start,
            position: start,
            membership: None,
            epoch: None,
            profile: None,
            profile_is_settled: false,
            blocked: None,
            after_version: 0,
            replaces: None,
        }
    }

    /// The same room, for an account that was out of it and came in again at `start`, as the relay tells
    /// it. What is known stays good until [`Self::has_begun`] of the other one: an entry by which the
    /// account comes in, at a later version than any that was read here.
    #[must_use]
    pub fn joining_again(&self, start: LogPosition) -> Self {
        let version = self.membership.as_ref().map_or(0, Membership::version);
        Self { after_version: version.max(self.after_version), ..Self::joining(self.id, start) }
    }

    /// Whether the entry with which the room begins for this reader was read, and holds.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.membership.is_some() && self.blocked.is_none_or(|block| block.rule != Rule::BadStart)
    }

    /// Another beginning was told of this room that does not hold: nothing more is sent here.
    pub const fn refuse_beginning(&mut self) {
        self.blocked = Some(Block { rule: Rule::BadStart, heals: false });
    }

    /// The state as bytes, chain keys included, for the vault.
    ///
    /// # Errors
    /// [`KeyError::Primitive`]
    pub fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        secret::to_json(self)
    }

    /// Reads what [`Self::to_secret_bytes`] wrote.
    ///
    /// # Errors
    /// [`KeyError::Malformed`]
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let room: Self = serde_json::from_slice(bytes).map_err(|_| KeyError::Malformed("room"))?;
        if room.format == FORMAT { Ok(room) } else { Err(KeyError::Malformed("room")) }
    }

    /// The room's id.
    #[must_use]
    pub const fn id(&self) -> RoomId {
        self.id
    }

    /// The last entry that was read.
    #[must_use]
    pub const fn position(&self) -> LogPosition {
        self.position
    }

    /// Where this reader's part of the log begins.
    #[must_use]
    pub const fn start(&self) -> LogPosition {
        self.start
    }

    /// The last epoch that was read; 0 for none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.as_ref().map_or(0, Epoch::number)
    }

    /// The kind, once the beginning was read.
    #[must_use]
    pub fn kind(&self) -> Option<RoomKind> {
        self.membership.as_ref().map(Membership::kind)
    }

    /// All members, sorted by account.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.membership.iter().flat_map(Membership::members)
    }

    /// The room whose place this one takes.
    #[must_use]
    pub const fn replaces(&self) -> Option<RoomId> {
        self.replaces
    }

    /// Whether nothing can ever be said here again: its log is broken, or a member has another identity than
    /// the room was made with. Only [`Self::replace`] helps.
    #[must_use]
    pub fn is_beyond_repair(&self, directory: &dyn Directory) -> bool {
        let broken = self.blocked.is_some_and(|block| !block.heals && block.rule != Rule::LogMismatch);
        let is_another = |member: &Member| {
            let known = directory.account(&member.account);
            known.is_some_and(|known| known.identity().fingerprint() != member.identity)
        };
        broken || self.members().any(is_another)
    }

    /// Whether an account is a member.
    #[must_use]
    pub fn is_member(&self, account: &AccountId) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.member(account).is_some())
    }

    /// Name, topic and picture, if an epoch or message brought them.
    #[must_use]
    pub const fn profile(&self) -> Option<&RoomProfile> {
        self.profile.as_ref()
    }

    /// Why nothing may be sent here, if so.
    #[must_use]
    pub fn blocked(&self) -> Option<&'static str> {
        self.blocked.map(|block| block.rule.code())
    }

    /// Gives up the own chain, since it may not be the newest there was: the next message goes under
    /// a new epoch.
    pub fn forget_sending(&mut self) {
        if let Some(epoch) = &mut self.epoch {
            epoch.own = None;
        }
    }

    /// The person has seen that the log was shown differently to others, and wants to go on. The
    /// next message goes under a new epoch.
    ///
    /// # Errors
    /// [`RoomError::Blocked`] for every other reason: what is true of the room is not known then.
    pub fn end_block(&mut self) -> Result<(), RoomError> {
        match self.blocked {
            Some(block) if block.rule != Rule::LogMismatch => Err(RoomError::Blocked(block.rule.code())),
            _ => {
                self.blocked = None;
                self.forget_sending();
                Ok(())
            }
        }
    }

    /// Checks a receipt: that it comes from a listed device of a present member, and that it names
    /// the log which this device has read.
    ///
    /// # Errors
    /// [`RoomError::UnknownKeys`] if the device is not known (yet), [`RoomError::BadReceipt`].
    pub fn verify_receipt(
        &self,
        receipt: &Receipt,
        directory: &dyn Directory,
        hashes: &dyn PastHashes,
    ) -> Result<(), RoomError> {
        let here = receipt.room == self.id && self.is_member(&receipt.account);
        if !here || self.hash_at(receipt.seq, hashes)? != Some(receipt.hash) {
            return Err(RoomError::BadReceipt);
        }
        let certificate = directory
            .account(&receipt.account)
            .and_then(|known| known.newest()?.certificate(&receipt.device))
            .ok_or_else(|| RoomError::UnknownKeys(receipt.account.clone()))?;
        certificate
            .device_key
            .verify(receipt.signed_bytes().as_bytes(), &receipt.signature, "receipt")
            .map_err(|_| RoomError::BadReceipt)
    }

    fn hash_at(&self, seq: u64, hashes: &dyn PastHashes) -> Result<Option<Hash>, PastUnreadable> {
        if seq == self.position.seq {
            Ok(Some(self.position.hash))
        } else if seq == self.start.seq {
            Ok(Some(self.start.hash))
        } else {
            hashes.log_hash(seq)
        }
    }

    fn active(&self, account: &AccountId) -> Result<&Membership, RoomError> {
        if let Some(code) = self.blocked() {
            return Err(RoomError::Blocked(code));
        }
        self.membership
            .as_ref()
            .filter(|membership| membership.member(account).is_some() && !membership.closed())
            .ok_or(RoomError::NotMember)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("id", &self.id)
            .field("position", &self.position.seq)
            .field("epoch", &self.epoch())
            .field("blocked", &self.blocked())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
