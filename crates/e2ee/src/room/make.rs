//! Making a room, and changing it.

use mildam_records::keys::Signature;
use mildam_records::{
    AccountId, Change, Hash, LogPosition, Member, Membership, Replaced, Role, RoomChange, RoomId, RoomKind,
    Snapshot, Suite,
};
use rand_core::CryptoRng;

use super::epoch::{Announcing, NewEpoch};
use super::{Room, RoomError};
use crate::content::RoomProfile;
use crate::device::DeviceSecrets;
use crate::directory::{Directory, KnownAccount};

/// A room that this device wants to make: nothing of it is kept until it comes back in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRoom {
    /// Its id.
    pub room: RoomId,
    /// The `created` change.
    pub change: RoomChange,
    /// The first epoch.
    pub epoch: NewEpoch,
}

/// A change that this device wants to make.
#[derive(Clone, Debug, PartialEq)]
pub struct NewChange {
    /// The change.
    pub change: RoomChange,
    /// With `added`: the room after it.
    pub snapshot: Option<Snapshot>,
    /// The next epoch, where the change needs one at once.
    pub epoch: Option<NewEpoch>,
}

/// Who acts, and when.
struct Act<'a> {
    secrets: &'a DeviceSecrets,
    directory: &'a dyn Directory,
    now: u64,
}

impl Act<'_> {
    fn member(&self, account: &AccountId, role: Role) -> Result<Member, RoomError> {
        let known = self.directory.account(account).ok_or_else(|| RoomError::UnknownKeys(account.clone()))?;
        Ok(Member { account: account.clone(), identity: known.identity().fingerprint(), role })
    }

    fn sign(&self, on: Option<&Membership>, change: Change) -> Result<RoomChange, RoomError> {
        let account = self.secrets.account();
        let own = self.directory.account(account).and_then(KnownAccount::newest_hash);
        let mut change = RoomChange {
            room: on.map(Membership::room),
            version: on.map_or(0, Membership::version).saturating_add(1),
            previous: on.map(Membership::head),
            actor: account.clone(),
            actor_device: self.secrets.device(),
            actor_list: own.ok_or_else(|| RoomError::UnknownKeys(account.clone()))?,
            at: self.now,
            change,
            signature: Signature::from_bytes([0; 64]),
        };
        change.signature = self.secrets.sign(&change.signed_bytes());
        Ok(change)
    }
}

impl Room {
    /// Makes a room with others. The directory must know this account itself, too.
    ///
    /// # Errors
    /// [`RoomError::UnknownKeys`], or [`RoomError::Change`] for members that make no room of that
    /// kind.
    pub fn create(
        kind: RoomKind,
        others: &[AccountId],
        profile: Option<&RoomProfile>,
        secrets: &DeviceSecrets,
        directory: &dyn Directory,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<NewRoom, RoomError> {
        let act = Act { secrets, directory, now };
        act.create(kind, others, profile, None, rng)
    }

    /// Makes a room of the same kind with these others in the place of this one, under the identities that the
    /// directory has, and with what is known of its name. Its beginning names the last change that was
    /// accepted here; all zeros for none.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn replace(
        &self,
        others: &[AccountId],
        secrets: &DeviceSecrets,
        directory: &dyn Directory,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<NewRoom, RoomError> {
        let head = self.membership.as_ref().map_or(Hash::ZERO, Membership::head);
        let replaced = Replaced { room: self.id, head };
        let act = Act { secrets, directory, now };
        let kind = self.kind().unwrap_or(RoomKind::Direct);
        act.create(kind, others, self.profile.as_ref(), Some(replaced), rng)
    }
}

impl Act<'_> {
    fn create(
        &self,
        kind: RoomKind,
        others: &[AccountId],
        profile: Option<&RoomProfile>,
        replaces: Option<Replaced>,
        rng: &mut impl CryptoRng,
    ) -> Result<NewRoom, RoomError> {
        let (secrets, now) = (self.secrets, self.now);
        let role = if kind == RoomKind::Direct { Role::Owner } else { Role::Member };
        let mut members = vec![self.member(secrets.account(), Role::Owner)?];
        for other in others {
            members.push(self.member(other, role)?);
        }
        members.sort_by(|one, two| one.account.cmp(&two.account));
        members.dedup_by(|one, two| one.account == two.account);
        let mut nonce = [0; Hash::LENGTH];
        rng.fill_bytes(&mut nonce);
        let created = Change::Created {
            nonce: Hash::from_bytes(nonce),
            kind,
            suite: Suite::Mildam1,
            members,
            replaces,
        };
        let change = self.sign(None, created)?;
        let membership = Membership::created(&change)?;
        let announcing = Announcing {
            membership: &membership,
            number: 1,
            previous: None,
            seen: LogPosition::START,
            profile,
            now,
        };
        let epoch = announcing.announce(secrets, self.directory, rng)?;
        Ok(NewRoom { room: membership.room(), change, epoch })
    }
}

impl Room {
    /// Adds members, with the next epoch.
    ///
    /// # Errors
    /// [`RoomError`]
    pub fn add(
        &self,
        accounts: &[AccountId],
        secrets: &DeviceSecrets,
        directory: &dyn Directory,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<NewChange, RoomError> {
        let act = Act { secrets, directory, now };
        let membership = self.active(secrets.account())?;
        let mut members = Vec::new();
        for account in accounts {
            members.push(act.member(account, Role::Member)?);
        }
        members.sort_by(|one, two| one.account.cmp(&two.account));
        members.dedup_by(|one, two| one.account == two.account);
        let snapshot = membership.snapshot_with(&members);
        let added = Change::Added { members, snapshot: snapshot.hash() };
        let new = self.change_with_epoch(&act, membership, added, rng)?;
        Ok(NewChange { snapshot: Some(snapshot), ..new })
    }

    /// Puts a member out, with the next epoch.
    ///
    /// # Errors
    /// [`RoomError`]
    pub fn remove(
        &self,
        account: &AccountId,
        secrets: &DeviceSecrets,
        directory: &dyn Directory,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<NewChange, RoomError> {
        let act = Act { secrets, directory, now };
        let membership = self.active(secrets.account())?;
        self.change_with_epoch(&act, membership, Change::Removed { account: account.clone() }, rng)
    }

    /// Leaves. The next sender among the others announces a new epoch.
    ///
    /// # Errors
    /// [`RoomError`]
    pub fn leave(
        &self,
        secrets: &DeviceSecrets,
        directory: &dyn Directory,
        now: u64,
    ) -> Result<NewChange, RoomError> {
        let membership = self.membership.as_ref().ok_or(RoomError::NotMember)?;
        let change = Act { secrets, directory, now }.sign(Some(membership), Change::Left)?;
        membership.after(&change)?;
        Ok(NewChange { change, snapshot: None, epoch: None })
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// [`RoomError`]
    pub fn set_role(
        &self,
        account: &AccountId,
        role: Role,
        secrets: &DeviceSecrets,
        directory: &dyn Directory,
        now: u64,
    ) -> Result<NewChange, RoomError> {
        let membership = self.active(secrets.account())?;
        let change = Change::Role { account: account.clone(), role };
        let change = Act { secrets, directory, now }.sign(Some(membership), change)?;
        membership.after(&change)?;
        Ok(NewChange { change, snapshot: None, epoch: None })
    }

    /// Who has to become owner before an account leaves, so that the group is not left without one: an
    /// admin, or else any member. None if it is not the only owner, or the only member.
    #[must_use]
    pub fn heir(&self, leaving: &AccountId) -> Option<&AccountId> {
        let others = || self.members().filter(|member| member.account != *leaving);
        let owns = self.members().any(|member| member.account == *leaving && member.role == Role::Owner);
        if !owns || others().any(|other| other.role == Role::Owner) {
            return None;
        }
        others().max_by_key(|other| other.role).map(|heir| &heir.account)
    }

    fn change_with_epoch(
        &self,
        act: &Act<'_>,
        membership: &Membership,
        change: Change,
        rng: &mut impl CryptoRng,
    ) -> Result<NewChange, RoomError> {
        let change = act.sign(Some(membership), change)?;
        let after = membership.after(&change)?;
        let epoch = self.announcing(&after, act.now)?.announce(act.secrets, act.directory, rng)?;
        Ok(NewChange { change, snapshot: None, epoch: Some(epoch) })
    }
}
