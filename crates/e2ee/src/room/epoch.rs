//! Epochs: announcing a room key, and taking one.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use mildam_records::keys::Signature;
use mildam_records::{
    AccountId, Canonical, DeviceId, DeviceList, EpochAnnouncement, Hash, LogPosition, Membership, Recipient,
    RoomId, SealedProfile, SignedPreKey, Wrap,
};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::rule::Rule;
use super::{EPOCH_MESSAGES, EPOCH_MILLISECONDS, PREKEY_MILLISECONDS, Room, RoomError};
use crate::KeyError;
use crate::chain::Chain;
use crate::content::RoomProfile;
use crate::device::DeviceSecrets;
use crate::directory::{Directory, KnownAccount};
use crate::seal::{self, IV, Key};
use crate::wrap::{self, Purpose};

/// A clock that goes back by less, in milliseconds, was not wrong before: an hour.
const CLOCK_SLACK: u64 = 60 * 60 * 1_000;

/// An epoch as this device holds it: its sender chains, but no room key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Epoch {
    number: u64,
    hash: Hash,
    /// The room's version that it was announced for.
    version: u64,
    /// Sorted by account.
    pub(super) recipients: Vec<Recipient>,
    /// When this device took it, by its own clock: the relay must not be able to put the next one off.
    #[serde(alias = "stored_at")]
    taken_at: u64,
    /// Messages that were read under it.
    pub(super) messages: u64,
    /// The chains of all devices, as a receiver follows them.
    pub(super) chains: BTreeMap<DeviceId, Chain>,
    /// This device's own chain, as the sender moves it. None if the key was refused, or is not to
    /// be used any more.
    pub(super) own: Option<Chain>,
    /// Why there is no chain for a device that is not found in `chains`.
    #[serde(default = "no_key")]
    pub(super) without: Rule,
    /// The announcement brought no profile.
    #[serde(default)]
    pub(super) bare: bool,
    /// The device that announced it.
    #[serde(default)]
    announcer: Option<DeviceId>,
}

const fn no_key() -> Rule {
    Rule::NoKey
}

impl Epoch {
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn hash(&self) -> Hash {
        self.hash
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// The list that the room key was wrapped for.
    pub(super) fn list_of(&self, account: &AccountId) -> Option<&Hash> {
        let found = self.recipients.binary_search_by(|recipient| recipient.account.cmp(account));
        found.ok().and_then(|at| self.recipients.get(at)).map(|recipient| &recipient.list)
    }

    /// An epoch that exists but gave this device no key.
    pub(super) fn without_key(announcement: &EpochAnnouncement, taken_at: u64, why: Rule) -> Self {
        // They are, unless it is refused.
        let mut recipients = announcement.recipients.clone();
        recipients.sort_by(|one, two| one.account.cmp(&two.account));
        Self {
            number: announcement.epoch,
            hash: announcement.hash(),
            version: announcement.version,
            recipients,
            taken_at,
            messages: 0,
            chains: BTreeMap::new(),
            own: None,
            without: why,
            bare: announcement.profile.is_none(),
            announcer: Some(announcement.announcer_device),
        }
    }
}

/// What an announcer sends: the announcement, the wraps, and the sealed profile.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEpoch {
    /// The announcement.
    pub announcement: EpochAnnouncement,
    /// One for each device that has a prekey.
    pub wraps: Vec<Wrap>,
    /// The room's profile under the new key.
    pub profile: Option<SealedProfile>,
}

fn commitment(room_key: &[u8; 32], announcement: &EpochAnnouncement) -> Result<Hmac<Sha256>, KeyError> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(room_key).map_err(|_| KeyError::Primitive("HMAC"))?;
    Ok(mac.chain_update(announcement.committed_bytes().as_bytes()))
}

/// `HKDF-SHA-256(salt "mildam/profile-key/v1", RoomKey, T("mildam/profile-key/v1", room, epoch))`,
/// and the AAD `T("mildam/profile/v1", room, epoch)`.
fn profile_key(room_key: &[u8; 32], room: &RoomId, epoch: u64) -> Result<(Key, Canonical), KeyError> {
    let bound = |label| Canonical::new(label).bytes(room.as_bytes()).integer(epoch);
    let key = seal::derive(b"mildam/profile-key/v1", room_key, &bound("mildam/profile-key/v1"))?;
    Ok((key, bound("mildam/profile/v1")))
}

/// Everything that a new epoch is announced for.
pub(super) struct Announcing<'a> {
    pub(super) membership: &'a Membership,
    pub(super) number: u64,
    pub(super) previous: Option<Hash>,
    pub(super) seen: LogPosition,
    pub(super) profile: Option<&'a RoomProfile>,
    /// Milliseconds since 1970 (UTC).
    pub(super) now: u64,
}

impl Announcing<'_> {
    pub(super) fn announce(
        &self,
        secrets: &DeviceSecrets,
        directory: &dyn Directory,
        rng: &mut impl CryptoRng,
    ) -> Result<NewEpoch, RoomError> {
        let room = self.membership.room();
        let mut room_key = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *room_key);
        let profile = match self.profile {
            Some(profile) => Some(seal_profile(profile, &room_key, &room, self.number, rng)?),
            None => None,
        };
        let device = secrets.device();
        let purpose = Purpose { room: &room, epoch: self.number, announcer: &device };
        let mut recipients = Vec::new();
        let mut wraps = Vec::new();
        for member in self.membership.members() {
            let unknown = || RoomError::UnknownKeys(member.account.clone());
            let known = directory.account(&member.account).ok_or_else(unknown)?;
            if known.identity().fingerprint() != member.identity {
                return Err(RoomError::Blocked("identity_changed"));
            }
            let list = known.newest().ok_or_else(unknown)?;
            let hash = known.newest_hash().ok_or_else(unknown)?;
            recipients.push(Recipient { account: member.account.clone(), list: hash });
            for certificate in &list.certificates {
                // A device that was away for so long is inactive: it gets a key when it is back.
                let active = |prekey: &&SignedPreKey| {
                    self.now.saturating_sub(prekey.created_at) <= PREKEY_MILLISECONDS
                };
                if let Some(prekey) = known.prekey(&certificate.device).filter(active) {
                    wraps.push(wrap::wrap(&room_key, purpose, certificate, prekey, rng)?);
                }
            }
        }
        let mut announcement = EpochAnnouncement {
            room,
            epoch: self.number,
            previous: self.previous,
            announcer: secrets.account().clone(),
            announcer_device: device,
            version: self.membership.version(),
            head: self.membership.head(),
            seen_seq: self.seen.seq,
            seen_hash: self.seen.hash,
            recipients,
            profile: profile.as_ref().map(SealedProfile::hash),
            commitment: Hash::ZERO,
            signature: Signature::from_bytes([0; 64]),
        };
        let mac = commitment(&room_key, &announcement)?;
        announcement.commitment = Hash::from_bytes(mac.finalize().into_bytes().into());
        announcement.signature = secrets.sign(&announcement.signed_bytes());
        Ok(NewEpoch { announcement, wraps, profile })
    }
}

fn seal_profile(
    profile: &RoomProfile,
    room_key: &[u8; 32],
    room: &RoomId,
    epoch: u64,
    rng: &mut impl CryptoRng,
) -> Result<SealedProfile, KeyError> {
    let (key, aad) = profile_key(room_key, room, epoch)?;
    let mut iv = [0; IV];
    rng.fill_bytes(&mut iv);
    let json = serde_json::to_vec(profile).map_err(|_| KeyError::Primitive("encoding"))?;
    let sealed = seal::seal(&key, &iv, &crate::padding::pad(&json), &aad)?;
    Ok(SealedProfile([iv.as_slice(), &sealed].concat().into()))
}

fn open_profile(
    sealed: &SealedProfile,
    room_key: &[u8; 32],
    room: &RoomId,
    epoch: u64,
) -> Result<RoomProfile, KeyError> {
    let (key, aad) = profile_key(room_key, room, epoch)?;
    let (iv, ciphertext) = sealed.0.split_first_chunk::<IV>().ok_or(KeyError::DoesNotOpen)?;
    let padded = seal::open(&key, iv, ciphertext, &aad)?;
    let json = crate::padding::unpad(&padded).ok_or(KeyError::DoesNotOpen)?;
    RoomProfile::read(json).ok_or(KeyError::Malformed("room profile"))
}

/// What arrived with an announcement.
pub(super) struct Arrived<'a> {
    pub(super) announcement: &'a EpochAnnouncement,
    pub(super) wrap: Option<&'a Wrap>,
    pub(super) profile: Option<&'a SealedProfile>,
    pub(super) taken_at: u64,
}

impl Arrived<'_> {
    /// Opens the room key, checks the commitment, derives every chain, and lets the key go.
    pub(super) fn take(
        &self,
        secrets: &DeviceSecrets,
        lists: &[(&KnownAccount, &DeviceList)],
        rng: &mut impl CryptoRng,
    ) -> Result<(Epoch, Option<RoomProfile>), Rule> {
        let announcement = self.announcement;
        let (room, number) = (&announcement.room, announcement.epoch);
        let purpose = Purpose { room, epoch: number, announcer: &announcement.announcer_device };
        let wrap = self.wrap.filter(|wrap| wrap.device == secrets.device()).ok_or(Rule::NoKey)?;
        let room_key = wrap::unwrap(wrap, purpose, secrets, rng).map_err(|_| Rule::NoKey)?;
        commitment(&room_key, announcement)
            .map_err(|_| Rule::BadCommitment)?
            .verify_slice(announcement.commitment.as_bytes())
            .map_err(|_| Rule::BadCommitment)?;
        let profile = match self.profile {
            Some(sealed) => {
                Some(open_profile(sealed, &room_key, room, number).map_err(|_| Rule::BadProfile)?)
            }
            None => None,
        };
        let chain = |device| Chain::derive(&room_key, room, number, device).map_err(|_| Rule::NoKey);
        let mut chains = BTreeMap::new();
        for certificate in lists.iter().flat_map(|(_, list)| &list.certificates) {
            chains.insert(certificate.device, chain(&certificate.device)?);
        }
        let own = Some(chain(&secrets.device())?);
        let bare = Epoch::without_key(announcement, self.taken_at, Rule::NoKey);
        Ok((Epoch { chains, own, ..bare }, profile))
    }
}

impl Room {
    /// Whether a new epoch must be announced before anything is sent: after a change, when a
    /// member's devices changed, after [`EPOCH_MESSAGES`] or [`EPOCH_MILLISECONDS`], or when this
    /// device has no key.
    #[must_use]
    pub fn needs_epoch(&self, now: u64, directory: &dyn Directory) -> bool {
        let (Some(membership), Some(epoch)) = (&self.membership, &self.epoch) else {
            return self.membership.is_some();
        };
        let lists_moved = || {
            epoch.recipients.iter().any(|recipient| {
                let newest = directory.account(&recipient.account).and_then(KnownAccount::newest_hash);
                newest.is_some_and(|hash| hash != recipient.list)
            })
        };
        epoch.own.as_ref().is_none_or(|own| own.n() >= EPOCH_MESSAGES)
            || epoch.version != membership.version()
            || epoch.messages >= EPOCH_MESSAGES
            || now.saturating_sub(epoch.taken_at) >= EPOCH_MILLISECONDS
            // It was taken when this device's clock was ahead.
            || epoch.taken_at.saturating_sub(now) >= CLOCK_SLACK
            // Its announcer had none, and whoever came with it has none now.
            || (epoch.bare && self.profile.is_some())
            || lists_moved()
    }

    /// Whether this device should announce an epoch at once, and not only before it sends: it could
    /// not get at the key of the present one, so it would read nothing of what others write. Not if
    /// it announced that one itself: whoever spoiled its key would spoil the next one too.
    #[must_use]
    pub fn lacks_key(&self, device: &DeviceId) -> bool {
        let other = |epoch: &Epoch| epoch.own.is_none() && epoch.announcer.is_none_or(|by| by != *device);
        self.blocked.is_none() && self.membership.is_some() && self.epoch.as_ref().is_some_and(other)
    }

    /// Makes a new epoch for the room as it is.
    ///
    /// # Errors
    /// [`RoomError`]
    pub fn announce(
        &self,
        secrets: &DeviceSecrets,
        directory: &dyn Directory,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<NewEpoch, RoomError> {
        self.announcing(self.active(secrets.account())?, now)?.announce(secrets, directory, rng)
    }

    pub(super) fn announcing<'a>(
        &'a self,
        membership: &'a Membership,
        now: u64,
    ) -> Result<Announcing<'a>, RoomError> {
        Ok(Announcing {
            now,
            membership,
            number: self.epoch().checked_add(1).ok_or(RoomError::EpochDue)?,
            previous: self.epoch.as_ref().map(Epoch::hash),
            seen: self.position,
            profile: self.profile.as_ref(),
        })
    }
}
