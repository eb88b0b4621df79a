//! Announcements: whether an epoch is the next one, and wrapped for exactly those who are in.

use std::collections::{HashMap, HashSet};

use mildam_protocol::command::{MAX_PROFILE, MAX_ROOM_DEVICES, NewEpoch};
use mildam_protocol::records::id::{AccountId, DeviceId, Hash, RoomId};
use mildam_protocol::records::keys::RSA_BYTES;
use mildam_protocol::records::room::{EpochAnnouncement, Wrap};
use mildam_protocol::{Code, Refusal};

use super::{require, stale};
use crate::store::TargetRow;

/// Bytes of an X-Wing ciphertext.
const KEM_BYTES: usize = 1120;
/// Bytes of a sealed room key: 32 and the tag.
const SEALED_KEY_BYTES: usize = 48;

/// What the next announcement in a room must say.
#[derive(Clone, Debug)]
pub struct NextEpoch {
    /// The room.
    pub room: RoomId,
    /// The announcement's number.
    pub epoch: u64,
    /// Hash of the announcement before.
    pub previous: Option<Hash>,
    /// The room's version when it is in force.
    pub version: u64,
    /// Hash of the change that made that version.
    pub head: Hash,
    /// Devices whose prekey was made before this time may be left out, in milliseconds since 1970
    /// (UTC).
    pub active_since: u64,
}

impl NextEpoch {
    /// Judges whether an announcement that the announcer's device has signed is the next one. For that
    /// nobody's keys need be known.
    ///
    /// # Errors
    /// [`Code::BadRecord`] for what could never fit, [`Code::Stale`] for what did fit once.
    pub fn judge_place(&self, epoch: &NewEpoch) -> Result<(), Refusal> {
        let announcement = &epoch.announcement;
        Self::judge_profile(epoch)?;
        require(announcement.room == self.room, Code::BadRecord, "the announcement belongs to another room")?;
        let next = announcement.epoch == self.epoch
            && announcement.previous == self.previous
            && announcement.version == self.version
            && announcement.head == self.head;
        require(next, Code::Stale, "the room has moved on; catch up and try again")
    }

    /// Judges whether it is for exactly those who are in, by account.
    ///
    /// # Errors
    /// As [`NextEpoch::judge_place`].
    pub fn judge_company(&self, epoch: &NewEpoch, members: &[TargetRow]) -> Result<(), Refusal> {
        Self::judge_recipients(&epoch.announcement, members)?;
        self.judge_wraps(&epoch.wraps, members)
    }

    fn judge_profile(epoch: &NewEpoch) -> Result<(), Refusal> {
        if let Some(profile) = &epoch.profile {
            require(
                profile.0.len() <= MAX_PROFILE,
                Code::TooLarge,
                "a sealed room profile may have at most 96 KiB",
            )?;
        }
        let hash = epoch.profile.as_ref().map(|profile| profile.hash());
        require(
            hash == epoch.announcement.profile,
            Code::BadRecord,
            "the sealed profile is not the one announced",
        )
    }

    fn judge_recipients(announcement: &EpochAnnouncement, members: &[TargetRow]) -> Result<(), Refusal> {
        let same = announcement.recipients.len() == members.len()
            && announcement.recipients.iter().zip(members).all(|(recipient, target)| {
                recipient.account == target.account && recipient.list == target.list
            });
        if same { Ok(()) } else { Err(stale("the room's members or one of their device lists")) }
    }

    fn judge_wraps(&self, wraps: &[Wrap], members: &[TargetRow]) -> Result<(), Refusal> {
        let mut open: HashSet<(&AccountId, &DeviceId)> = HashSet::new();
        let mut usable: HashMap<(&AccountId, &DeviceId), Vec<&Hash>> = HashMap::new();
        for target in members {
            for mark in &target.prekeys {
                let device = (&target.account, &mark.device);
                usable.entry(device).or_default().push(&mark.hash);
                if mark.current && mark.created_at >= self.active_since {
                    open.insert(device);
                }
            }
        }
        require(
            wraps.len() <= MAX_ROOM_DEVICES,
            Code::LimitReached,
            "the members of a room may have 3,000 devices together",
        )?;
        let mut wrapped = HashSet::new();
        for wrap in wraps {
            let shaped = wrap.rsa.len() == RSA_BYTES
                && wrap.kem.len() == KEM_BYTES
                && wrap.key.len() == SEALED_KEY_BYTES;
            require(shaped, Code::BadRecord, "a wrap has parts of the wrong length")?;
            let device = (&wrap.account, &wrap.device);
            let fresh = usable.get(&device).is_some_and(|prekeys| prekeys.contains(&&wrap.prekey));
            if !fresh {
                return Err(stale("a device or its prekey"));
            }
            require(wrapped.insert(device), Code::BadRecord, "a device has two wraps of one epoch")?;
            open.remove(&device);
        }
        if open.is_empty() { Ok(()) } else { Err(stale("the set of devices")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PreKeyMark;
    use mildam_protocol::records::bytes::Bytes;
    use mildam_protocol::records::keys::Signature;
    use mildam_protocol::records::room::{Recipient, SealedProfile};

    const ROOM: RoomId = RoomId::from_bytes([9; 32]);

    fn hash(byte: u8) -> Hash {
        Hash::from_bytes([byte; 32])
    }

    fn device(byte: u8) -> DeviceId {
        DeviceId::from_bytes([byte; 16])
    }

    fn mark(byte: u8, current: bool) -> PreKeyMark {
        let hash = hash(byte + u8::from(!current) * 100);
        PreKeyMark { device: device(byte), hash, current, created_at: 1_000 }
    }

    fn wrap(account: &str, byte: u8, prekey: Hash) -> Wrap {
        Wrap {
            account: account.parse().unwrap(),
            device: device(byte),
            prekey,
            rsa: Bytes(vec![0; RSA_BYTES]),
            kem: Bytes(vec![0; KEM_BYTES]),
            key: Bytes(vec![0; SEALED_KEY_BYTES]),
        }
    }

    /// Alice with device 1, whose prekey was replaced a moment ago; Bob with devices 2 and 3.
    fn members() -> Vec<TargetRow> {
        let target = |account: &str, list, prekeys| TargetRow {
            account: account.parse().unwrap(),
            list: hash(list),
            prekeys,
        };
        vec![
            target("alice", 11, vec![mark(1, true), mark(1, false)]),
            target("bob", 12, vec![mark(2, true), mark(3, true)]),
        ]
    }

    fn next() -> NextEpoch {
        NextEpoch {
            room: ROOM,
            epoch: 5,
            previous: Some(hash(50)),
            version: 7,
            head: hash(70),
            active_since: 1_000,
        }
    }

    fn good() -> NewEpoch {
        let recipient =
            |account: &str, list| Recipient { account: account.parse().unwrap(), list: hash(list) };
        NewEpoch {
            announcement: EpochAnnouncement {
                room: ROOM,
                epoch: 5,
                previous: Some(hash(50)),
                announcer: "alice".parse().unwrap(),
                announcer_device: device(1),
                version: 7,
                head: hash(70),
                seen_seq: 0,
                seen_hash: Hash::ZERO,
                recipients: vec![recipient("alice", 11), recipient("bob", 12)],
                profile: None,
                commitment: Hash::ZERO,
                signature: Signature::from_bytes([0; 64]),
            },
            wraps: vec![wrap("alice", 1, hash(101)), wrap("bob", 2, hash(2)), wrap("bob", 3, hash(3))],
            profile: None,
        }
    }

    fn judge(next: &NextEpoch, epoch: &NewEpoch) -> Result<(), Code> {
        let judged = next.judge_place(epoch).and_then(|()| next.judge_company(epoch, &members()));
        judged.map_err(|refusal| refusal.code)
    }

    // REQ C4
    #[test]
    fn an_epoch_is_for_exactly_the_devices_that_are_in() {
        type Bend = fn(&mut NewEpoch);
        let table: &[(&str, Bend, Option<Code>)] = &[
            ("as it should be", |_| (), None),
            ("the current prekey", |e| e.wraps[0].prekey = hash(1), None),
            ("number taken", |e| e.announcement.epoch = 4, Some(Code::Stale)),
            ("number skipped", |e| e.announcement.epoch = 6, Some(Code::Stale)),
            ("another before", |e| e.announcement.previous = None, Some(Code::Stale)),
            ("old version", |e| e.announcement.version = 6, Some(Code::Stale)),
            ("other head", |e| e.announcement.head = hash(1), Some(Code::Stale)),
            ("other room", |e| e.announcement.room = RoomId::from_bytes([1; 32]), Some(Code::BadRecord)),
            ("old list", |e| e.announcement.recipients[1].list = hash(1), Some(Code::Stale)),
            (
                "member left out",
                |e| {
                    e.announcement.recipients.pop();
                },
                Some(Code::Stale),
            ),
            (
                "device left out",
                |e| {
                    e.wraps.pop();
                },
                Some(Code::Stale),
            ),
            ("device slipped in", |e| e.wraps.push(wrap("bob", 4, hash(4))), Some(Code::Stale)),
            ("device of another account", |e| e.wraps[1] = wrap("alice", 2, hash(2)), Some(Code::Stale)),
            ("device twice", |e| e.wraps.push(wrap("bob", 3, hash(3))), Some(Code::BadRecord)),
            ("replaced prekey", |e| e.wraps[2].prekey = hash(77), Some(Code::Stale)),
            ("short part", |e| e.wraps[0].kem = Bytes(vec![0; KEM_BYTES - 1]), Some(Code::BadRecord)),
            (
                "profile that was not announced",
                |e| e.profile = Some(SealedProfile(Bytes(vec![1; 60]))),
                Some(Code::BadRecord),
            ),
            (
                "profile too large",
                |e| e.profile = Some(SealedProfile(Bytes(vec![1; MAX_PROFILE + 1]))),
                Some(Code::TooLarge),
            ),
        ];
        for (name, bend, refused) in table {
            let mut epoch = good();
            bend(&mut epoch);
            let code = judge(&next(), &epoch).err();
            assert_eq!(code, *refused, "{name}");
        }
    }

    // REQ C4
    #[test]
    fn a_device_that_was_away_for_long_may_be_left_out() {
        let mut next = next();
        next.active_since = 1_001;
        let mut epoch = good();
        assert_eq!(judge(&next, &epoch), Ok(()));
        epoch.wraps.pop();
        assert_eq!(judge(&next, &epoch), Ok(()));
        epoch.wraps.push(wrap("bob", 2, hash(2)));
        assert_eq!(judge(&next, &epoch), Err(Code::BadRecord));
    }

    #[test]
    fn an_announced_profile_comes_along() {
        let mut epoch = good();
        let profile = SealedProfile(Bytes(vec![1; 60]));
        epoch.announcement.profile = Some(profile.hash());
        assert!(judge(&next(), &epoch).is_err());
        epoch.profile = Some(profile);
        assert!(judge(&next(), &epoch).is_ok());
    }
}
