//! What makes a room: the chain of its changes, and the epochs of its key.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::canonical::Canonical;
use crate::id::{AccountId, DeviceId, Hash, RoomId};
use crate::keys::Signature;

/// One to one, or a group. Fixed for the life of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// Two members, for ever the same.
    Direct,
    /// Members come and go.
    Group,
}

/// The set of algorithms of a room, fixed in its `created` change: there is no negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suite {
    /// RSA-3072-OAEP-SHA-256 with X-Wing, AES-256-GCM, HKDF-SHA-256, Ed25519.
    #[serde(rename = "mildam-1")]
    Mildam1,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Writes and reads; in a group, leaves.
    Member,
    /// Also adds, removes and bans members.
    Admin,
    /// Also gives roles and closes the room.
    Owner,
}

impl RoomKind {
    const fn code(self) -> u64 {
        match self {
            Self::Direct => 1,
            Self::Group => 2,
        }
    }
}

impl Suite {
    const fn code(self) -> u64 {
        match self {
            Self::Mildam1 => 1,
        }
    }
}

impl Role {
    const fn code(self) -> u64 {
        match self {
            Self::Member => 1,
            Self::Admin => 2,
            Self::Owner => 3,
        }
    }
}

/// A member: an account under the identity that the actor saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The account.
    pub account: AccountId,
    /// Fingerprint of its identity key. A client that has pinned another refuses the entry.
    pub identity: Hash,
    /// What it may do.
    pub role: Role,
}

impl Member {
    fn element(&self) -> Canonical {
        Canonical::element()
            .text(self.account.as_str())
            .bytes(self.identity.as_bytes())
            .integer(self.role.code())
    }
}

/// A room that nothing can be said in any more, as whoever replaces it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// The room.
    pub room: RoomId,
    /// Hash of the last change that was accepted there.
    pub head: Hash,
}

/// What a room change does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// The room begins. Version 1, and nowhere else. The actor is among the members, as owner;
    /// in a direct room there are exactly two members, both owners.
    Created {
        /// 32 random bytes, so that no two rooms are alike.
        nonce: Hash,
        /// One to one, or a group.
        kind: RoomKind,
        /// The algorithms.
        suite: Suite,
        /// The first members, sorted by account.
        members: Vec<Member>,
        /// The room whose place this one takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<Replaced>,
    },
    /// Members come in, as [`Role::Member`]. The snapshot is the room after this change.
    Added {
        /// The new members, sorted by account.
        members: Vec<Member>,
        /// [`Snapshot::hash`] of the room after this change.
        snapshot: Hash,
    },
    /// A member is put out.
    Removed {
        /// Who.
        account: AccountId,
    },
    /// The actor leaves.
    Left,
    /// A member gets another role.
    Role {
        /// Who.
        account: AccountId,
        /// The new role.
        role: Role,
    },
    /// An account may not be added again; a member is put out with it.
    Banned {
        /// Who.
        account: AccountId,
    },
    /// The room ends.
    Closed,
}

impl Change {
    fn append_to(&self, bytes: Canonical) -> Canonical {
        match self {
            Self::Created { nonce, kind, suite, members, replaces } => {
                let bytes = bytes
                    .text("created")
                    .bytes(nonce.as_bytes())
                    .integer(kind.code())
                    .integer(suite.code())
                    .list(members.iter().map(Member::element));
                match replaces {
                    Some(Replaced { room, head }) => bytes.bytes(room.as_bytes()).bytes(head.as_bytes()),
                    None => bytes,
                }
            }
            Self::Added { members, snapshot } => {
                bytes.text("added").list(members.iter().map(Member::element)).bytes(snapshot.as_bytes())
            }
            Self::Removed { account } => bytes.text("removed").text(account.as_str()),
            Self::Left => bytes.text("left"),
            Self::Role { account, role } => bytes.text("role").text(account.as_str()).integer(role.code()),
            Self::Banned { account } => bytes.text("banned").text(account.as_str()),
            Self::Closed => bytes.text("closed"),
        }
    }
}

/// One link of a room's chain, signed by the actor's device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomChange {
    /// The room; none in `created`, whose hash names it.
    pub room: Option<RoomId>,
    /// The version that this change makes; `created` makes 1.
    pub version: u64,
    /// Hash of the change that made the version before; none in `created`.
    pub previous: Option<Hash>,
    /// Who does it.
    pub actor: AccountId,
    /// With which device.
    pub actor_device: DeviceId,
    /// Hash of the actor's device list as the actor knows it.
    pub actor_list: Hash,
    /// When, in milliseconds since 1970 (UTC), by the actor's clock.
    pub at: u64,
    /// What.
    pub change: Change,
    /// Ed25519 by the actor's device over [`RoomChange::signed_bytes`].
    pub signature: Signature,
}

impl RoomChange {
    /// `T("mildam/room-change/v1", room?, version, previous?, actor, device, list hash, at, name of
    /// the change, its fields)`.
    #[must_use]
    pub fn signed_bytes(&self) -> Canonical {
        let bytes = Canonical::new("mildam/room-change/v1")
            .optional(self.room.as_ref().map(|room| room.as_bytes().as_slice()))
            .integer(self.version)
            .optional(self.previous.as_ref().map(|hash| hash.as_bytes().as_slice()))
            .text(self.actor.as_str())
            .bytes(self.actor_device.as_bytes())
            .bytes(self.actor_list.as_bytes())
            .integer(self.at);
        self.change.append_to(bytes)
    }

    /// `SHA-256(T("mildam/room-change-hash/v1", signed bytes, signature))`: the entry's hash in the
    /// log, the next change's `previous`, and, for `created`, the room's id.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Canonical::new("mildam/room-change-hash/v1")
            .bytes(self.signed_bytes().as_bytes())
            .bytes(self.signature.as_bytes())
            .hash()
    }

    /// The room that this change belongs to.
    #[must_use]
    pub fn room_id(&self) -> RoomId {
        self.room.unwrap_or_else(|| RoomId::from(self.hash()))
    }
}

/// The room after a change, for those who join by it: they cannot replay what was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The room.
    pub room: RoomId,
    /// The version that the change makes.
    pub version: u64,
    /// The kind of the room.
    pub kind: RoomKind,
    /// Its algorithms.
    pub suite: Suite,
    /// All members with their roles, sorted by account.
    pub members: Vec<Member>,
    /// Accounts that may not be added, sorted.
    pub banned: Vec<AccountId>,
}

impl Snapshot {
    /// `SHA-256(T("mildam/snapshot/v1", room, version, kind, suite, members, banned))`.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Canonical::new("mildam/snapshot/v1")
            .bytes(self.room.as_bytes())
            .integer(self.version)
            .integer(self.kind.code())
            .integer(self.suite.code())
            .list(self.members.iter().map(Member::element))
            .list(self.banned.iter().map(|account| Canonical::element().text(account.as_str())))
            .hash()
    }
}

/// An account that an epoch's key is wrapped for, under the device list that the announcer saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// The account.
    pub account: AccountId,
    /// Hash of its device list.
    pub list: Hash,
}

/// The room's name, topic and picture, encrypted under a key that follows from the epoch's room
/// key: `IV (12 bytes) || ciphertext || tag (16 bytes)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedProfile(pub Bytes);

impl SealedProfile {
    /// `SHA-256(T("mildam/sealed-profile/v1", bytes))`.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Canonical::new("mildam/sealed-profile/v1").bytes(&self.0).hash()
    }
}

/// A new key for a room, announced by a member's device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochAnnouncement {
    /// The room.
    pub room: RoomId,
    /// The epoch's number, from 1, without gaps.
    pub epoch: u64,
    /// Hash of the announcement before; none for epoch 1.
    pub previous: Option<Hash>,
    /// Who announces.
    pub announcer: AccountId,
    /// With which device.
    pub announcer_device: DeviceId,
    /// The room's version at this epoch.
    pub version: u64,
    /// Hash of the change that made that version.
    pub head: Hash,
    /// The last entry of the log that the announcer had seen: its place k ...
    pub seen_seq: u64,
    /// ... and the log hash H_k there.
    pub seen_hash: Hash,
    /// Every member with the device list that the key is wrapped for, sorted by account.
    pub recipients: Vec<Recipient>,
    /// Hash of the sealed room profile that comes along, if there is one.
    pub profile: Option<Hash>,
    /// `HMAC-SHA-256(RoomKey, T("mildam/commit/v1", every other signed field))`, 32 bytes.
    pub commitment: Hash,
    /// Ed25519 by the announcer's device over [`EpochAnnouncement::signed_bytes`].
    pub signature: Signature,
}

impl EpochAnnouncement {
    /// What the commitment covers: `T("mildam/commit/v1", room, epoch, previous?, announcer,
    /// device, version, head, seen_seq, seen_hash, recipients, profile?)`.
    #[must_use]
    pub fn committed_bytes(&self) -> Canonical {
        self.fields("mildam/commit/v1")
    }

    /// `T("mildam/epoch/v1", the committed fields, commitment)`.
    #[must_use]
    pub fn signed_bytes(&self) -> Canonical {
        self.fields("mildam/epoch/v1").bytes(self.commitment.as_bytes())
    }

    /// `SHA-256(T("mildam/epoch-hash/v1", signed bytes, signature))`.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Canonical::new("mildam/epoch-hash/v1")
            .bytes(self.signed_bytes().as_bytes())
            .bytes(self.signature.as_bytes())
            .hash()
    }

    fn fields(&self, label: &str) -> Canonical {
        Canonical::new(label)
            .bytes(self.room.as_bytes())
            .integer(self.epoch)
            .optional(self.previous.as_ref().map(|hash| hash.as_bytes().as_slice()))
            .text(self.announcer.as_str())
            .bytes(self.announcer_device.as_bytes())
            .integer(self.version)
            .bytes(self.head.as_bytes())
            .integer(self.seen_seq)
            .bytes(self.seen_hash.as_bytes())
            .list(self.recipients.iter().map(|recipient| {
                Canonical::element().text(recipient.account.as_str()).bytes(recipient.list.as_bytes())
            }))
            .optional(self.profile.as_ref().map(|hash| hash.as_bytes().as_slice()))
    }
}

/// An epoch's room key, wrapped for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrap {
    /// Whose device.
    pub account: AccountId,
    /// Which device.
    pub device: DeviceId,
    /// [`crate::PreKeyPublic::hash`] of the prekey that was used.
    pub prekey: Hash,
    /// c1: 32 random bytes under RSA-OAEP, 384 bytes.
    pub rsa: Bytes,
    /// c2: the X-Wing ciphertext, 1120 bytes.
    pub kem: Bytes,
    /// The room key under AES-256-GCM, 32 + 16 bytes.
    pub key: Bytes,
}
