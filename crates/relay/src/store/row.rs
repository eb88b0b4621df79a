//! Rows, as the handlers see them.

use std::sync::Arc;

use mildam_protocol::records::id::{AccountId, DeviceId, Hash, RoomId};
use mildam_protocol::records::room::Member;
use mildam_protocol::records::{
    AccountKeys, DevicePublicKey, EpochAnnouncement, IdentityPublicKey, LogEntry, LogPosition, RoomKind,
    SealedProfile, Snapshot, Suite, Wrap,
};

use super::FirstKeys;

/// What log-in needs of an account.
#[derive(Clone)]
pub struct AccountRow {
    /// Its nickname.
    pub nickname: String,
    /// The password's OPAQUE record, 192 bytes; none for an account of before passwords were kept
    /// so.
    pub password: Option<Vec<u8>>,
    /// What proofs of the recovery words verify under; none as before.
    pub recovery_key: Option<DevicePublicKey>,
    /// The identity key's private half, sealed by the client.
    pub sealed_identity: Vec<u8>,
    /// Hash of the newest device list.
    pub list: Hash,
}

/// An account that begins.
#[derive(Clone)]
pub struct NewAccount {
    /// Its id.
    pub id: AccountId,
    /// Its nickname.
    pub nickname: String,
    /// The password's OPAQUE record, 192 bytes.
    pub password: Vec<u8>,
    /// What proofs of the recovery words verify under.
    pub recovery_key: DevicePublicKey,
    /// Keyed hash of the e-mail address.
    pub email_tag: Hash,
    /// The e-mail address, sealed.
    pub email_sealed: Vec<u8>,
    /// The identity key.
    pub identity_key: IdentityPublicKey,
    /// The identity key's private half, sealed by the client.
    pub sealed_identity: Vec<u8>,
    /// Device list and prekey.
    pub keys: FirstKeys,
    /// When.
    pub created_at: u64,
}

/// What records of an account are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The account.
    pub account: AccountId,
    /// Its nickname.
    pub nickname: String,
    /// Fingerprint of its identity key.
    pub identity: Hash,
    /// Hash of its newest device list.
    pub list: Hash,
}

/// Public keys with the nickname that goes along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysRow {
    /// The nickname.
    pub nickname: String,
    /// The keys.
    pub keys: AccountKeys,
}

/// A prekey that a wrap may be made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreKeyMark {
    /// The device.
    pub device: DeviceId,
    /// Hash of the prekey.
    pub hash: Hash,
    /// Whether it is the device's current one.
    pub current: bool,
    /// When it was made, by the device's clock, in milliseconds since 1970 (UTC).
    pub created_at: u64,
}

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationRow {
    /// When it was made.
    pub created_at: u64,
    /// From when on it is not good any more.
    pub expires_at: u64,
    /// Who came in by it.
    pub used_by: Option<AccountId>,
}

impl InvitationRow {
    /// Whether somebody can come in by it.
    #[must_use]
    pub const fn is_good(&self, now: u64) -> bool {
        self.used_by.is_none() && now < self.expires_at
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Whose.
    pub account: AccountId,
    /// Which device's.
    pub device: DeviceId,
    /// When it began.
    pub created_at: u64,
    /// When it ends by itself.
    pub expires_at: u64,
    /// Whether it was ended before.
    pub ended: bool,
}

/// A room's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRow {
    /// The room.
    pub id: RoomId,
    /// One to one, or a group.
    pub kind: RoomKind,
    /// Its algorithms.
    pub suite: Suite,
    /// The version that the last change made.
    pub version: u64,
    /// Hash of the last change.
    pub head: Hash,
    /// The newest epoch; 0 before the first.
    pub epoch: u64,
    /// Hash of its announcement.
    pub epoch_hash: Option<Hash>,
    /// The version that the newest epoch was announced for. Nothing may be sent under an epoch of
    /// an older version than the room's.
    pub epoch_version: u64,
    /// The end of the log.
    pub end: LogPosition,
    /// Whether the room has ended.
    pub closed: bool,
}

/// A member, present or past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The account under the identity that was signed.
    pub member: Member,
    /// The position right before the entry by which it came in.
    pub start: LogPosition,
    /// For one who went: the last entry and the last epoch that it may read.
    pub gone: Option<(u64, u64)>,
}

impl MemberRow {
    /// Whether it is still a member.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.gone.is_none()
    }
}

/// An entry to append.
#[derive(Clone, Debug)]
pub struct EntryRow {
    /// Its place and the log hash there.
    pub at: LogPosition,
    /// Its hash.
    pub hash: Hash,
    /// The entry.
    pub entry: LogEntry,
    /// The room after it, for those who come in by it.
    pub snapshot: Option<Snapshot>,
    /// When.
    pub stored_at: u64,
}

/// An epoch to add.
#[derive(Clone, Debug)]
pub struct EpochRow {
    /// The announcement.
    pub announcement: EpochAnnouncement,
    /// Its hash.
    pub hash: Hash,
    /// The place of the last entry before it is in force.
    pub after_seq: u64,
    /// The wraps.
    pub wraps: Vec<WrapRow>,
    /// The sealed room profile.
    pub profile: Option<SealedProfile>,
    /// When.
    pub stored_at: u64,
}

/// A wrap to add: the text is written once, and is stored and told as it is.
#[derive(Clone, Debug)]
pub struct WrapRow {
    /// For whom.
    pub account: AccountId,
    /// For which device.
    pub device: DeviceId,
    /// The wrap as JSON.
    pub text: Arc<str>,
}

impl WrapRow {
    /// The row of a wrap. `None` if it cannot be written as JSON, which no wrap of ours is.
    #[must_use]
    pub fn new(wrap: &Wrap) -> Option<Self> {
        let text = serde_json::to_string(wrap).ok()?.into();
        Some(Self { account: wrap.account.clone(), device: wrap.device, text })
    }
}

/// A member for whose devices an epoch's key must be wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRow {
    /// The account.
    pub account: AccountId,
    /// Hash of its newest device list.
    pub list: Hash,
    /// Its devices' prekeys: current ones, and ones that were current a moment ago.
    pub prekeys: Vec<PreKeyMark>,
}
