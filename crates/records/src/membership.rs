//! Who is in a room: what follows from the chain of its changes. The relay and every member replay
//! the same chain with this code and come to the same members.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, Hash, RoomId};
use crate::room::{Change, Member, Role, RoomChange, RoomKind, Snapshot, Suite};

/// Why a change does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// It names another room.
    #[error("the change belongs to another room")]
    OtherRoom,
    /// It does not follow the current version: somebody else was faster, or it is old.
    #[error("the room has moved on")]
    Stale,
    /// The actor is no member.
    #[error("the actor is not a member")]
    NotMember,
    /// The actor's role does not allow it, or the room's kind knows no such change.
    #[error("the actor may not do this")]
    Forbidden,
    /// The change contradicts itself or the room: members twice, not sorted, already there.
    #[error("the change is inconsistent")]
    Inconsistent,
}

/// The members of a room at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    room: RoomId,
    kind: RoomKind,
    suite: Suite,
    version: u64,
    head: Hash,
    members: BTreeMap<AccountId, Member>,
    banned: BTreeSet<AccountId>,
    closed: bool,
}

fn sorted(members: &[Member]) -> bool {
    members.windows(2).all(|pair| match pair {
        [one, two] => one.account < two.account,
        _ => true,
    })
}

impl Membership {
    /// Reads the `created` change.
    ///
    /// # Errors
    /// [`ChangeError::Inconsistent`] for anything but a well-formed beginning.
    pub fn created(change: &RoomChange) -> Result<Self, ChangeError> {
        let Change::Created { kind, suite, members, .. } = &change.change else {
            return Err(ChangeError::Inconsistent);
        };
        let begins = change.room.is_none() && change.version == 1 && change.previous.is_none();
        let actor = members.iter().find(|member| member.account == change.actor);
        let owned = actor.is_some_and(|actor| actor.role == Role::Owner);
        let direct = members.len() == 2 && members.iter().all(|member| member.role == Role::Owner);
        if !begins || !owned || !sorted(members) || (*kind == RoomKind::Direct && !direct) {
            return Err(ChangeError::Inconsistent);
        }
        Ok(Self {
            room: change.room_id(),
            kind: *kind,
            suite: *suite,
            version: 1,
            head: change.hash(),
            members: members.iter().map(|member| (member.account.clone(), member.clone())).collect(),
            banned: BTreeSet::new(),
            closed: false,
        })
    }

    /// Starts from the snapshot that came with the `added` change by which the reader comes in.
    /// The change's signature and the adder's membership are the caller's to check.
    ///
    /// # Errors
    /// [`ChangeError`] if snapshot and change do not belong together or the adder could not add.
    pub fn joined(change: &RoomChange, snapshot: &Snapshot) -> Result<Self, ChangeError> {
        let Change::Added { members, snapshot: hash } = &change.change else {
            return Err(ChangeError::Inconsistent);
        };
        if change.room != Some(snapshot.room) {
            return Err(ChangeError::OtherRoom);
        }
        let membership = Self {
            room: snapshot.room,
            kind: snapshot.kind,
            suite: snapshot.suite,
            version: change.version,
            head: change.hash(),
            members: snapshot.members.iter().map(|member| (member.account.clone(), member.clone())).collect(),
            banned: snapshot.banned.iter().cloned().collect(),
            closed: false,
        };
        let belongs = *hash == snapshot.hash()
            && snapshot.version == change.version
            && membership.snapshot() == *snapshot
            && !members.is_empty()
            && sorted(members)
            && members.iter().all(|member| {
                member.role == Role::Member && membership.member(&member.account) == Some(member)
            });
        if !belongs {
            return Err(ChangeError::Inconsistent);
        }
        match membership.member(&change.actor) {
            None => Err(ChangeError::NotMember),
            Some(actor) if actor.role < Role::Admin || snapshot.kind == RoomKind::Direct => {
                Err(ChangeError::Forbidden)
            }
            Some(_) => Ok(membership),
        }
    }

    /// The members after a further change. Signatures are the caller's to check.
    ///
    /// # Errors
    /// [`ChangeError`] with why it does not follow.
    pub fn after(&self, change: &RoomChange) -> Result<Self, ChangeError> {
        if change.room != Some(self.room) {
            return Err(ChangeError::OtherRoom);
        }
        if self.version.checked_add(1) != Some(change.version) || change.previous != Some(self.head) {
            return Err(ChangeError::Stale);
        }
        let actor = self.member(&change.actor).ok_or(ChangeError::NotMember)?;
        if self.closed {
            return Err(ChangeError::Forbidden);
        }
        let mut next = self.clone();
        next.version = change.version;
        next.head = change.hash();
        next.apply(actor.role, &change.actor, &change.change)?;
        if let Change::Added { snapshot, .. } = &change.change
            && next.snapshot().hash() != *snapshot
        {
            return Err(ChangeError::Inconsistent);
        }
        Ok(next)
    }

    fn apply(&mut self, role: Role, actor: &AccountId, change: &Change) -> Result<(), ChangeError> {
        let group = self.kind == RoomKind::Group;
        match change {
            Change::Created { .. } => Err(ChangeError::Inconsistent),
            Change::Added { members, .. } => {
                if !group || role < Role::Admin {
                    return Err(ChangeError::Forbidden);
                }
                let fits = !members.is_empty()
                    && sorted(members)
                    && members.iter().all(|member| {
                        member.role == Role::Member
                            && !self.members.contains_key(&member.account)
                            && !self.banned.contains(&member.account)
                    });
                if !fits {
                    return Err(ChangeError::Inconsistent);
                }
                self.members.extend(members.iter().map(|member| (member.account.clone(), member.clone())));
                Ok(())
            }
            Change::Left if group => self.remove(actor),
            Change::Removed { account } => {
                self.may_put_out(group, role, actor, account)?;
                self.remove(account)
            }
            Change::Banned { account } => {
                if self.members.contains_key(account) {
                    self.may_put_out(group, role, actor, account)?;
                    self.remove(account)?;
                } else if !group || role < Role::Admin {
                    return Err(ChangeError::Forbidden);
                }
                if self.banned.insert(account.clone()) { Ok(()) } else { Err(ChangeError::Inconsistent) }
            }
            Change::Role { account, role: new } if group && role == Role::Owner => {
                let member = self.members.get_mut(account).ok_or(ChangeError::Inconsistent)?;
                member.role = *new;
                Ok(())
            }
            Change::Closed if role == Role::Owner => {
                self.closed = true;
                Ok(())
            }
            Change::Left | Change::Role { .. } | Change::Closed => Err(ChangeError::Forbidden),
        }
    }

    /// Admins put out members, owners also admins; nobody themselves.
    fn may_put_out(
        &self,
        group: bool,
        role: Role,
        actor: &AccountId,
        account: &AccountId,
    ) -> Result<(), ChangeError> {
        let other = self.members.get(account).ok_or(ChangeError::Inconsistent)?;
        if group && role >= Role::Admin && role > other.role && account != actor {
            Ok(())
        } else {
            Err(ChangeError::Forbidden)
        }
    }

    fn remove(&mut self, account: &AccountId) -> Result<(), ChangeError> {
        self.members.remove(account).map(|_| ()).ok_or(ChangeError::Inconsistent)
    }

    /// The room.
    #[must_use]
    pub const fn room(&self) -> RoomId {
        self.room
    }

    /// One to one, or a group.
    #[must_use]
    pub const fn kind(&self) -> RoomKind {
        self.kind
    }

    /// The algorithms.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Hash of the change that made this version.
    #[must_use]
    pub const fn head(&self) -> Hash {
        self.head
    }

    /// Whether the room has ended.
    #[must_use]
    pub const fn closed(&self) -> bool {
        self.closed
    }

    /// A member.
    #[must_use]
    pub fn member(&self, account: &AccountId) -> Option<&Member> {
        self.members.get(account)
    }

    /// All members, sorted by account.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// How many accounts may not be added.
    #[must_use]
    pub fn banned(&self) -> usize {
        self.banned.len()
    }

    /// What a joiner gets.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            room: self.room,
            version: self.version,
            kind: self.kind,
            suite: self.suite,
            members: self.members.values().cloned().collect(),
            banned: self.banned.iter().cloned().collect(),
        }
    }

    /// The snapshot after members were added: what an adder signs the hash of.
    #[must_use]
    pub fn snapshot_with(&self, members: &[Member]) -> Snapshot {
        let mut next = self.clone();
        next.version = next.version.saturating_add(1);
        next.members.extend(members.iter().map(|member| (member.account.clone(), member.clone())));
        next.snapshot()
    }
}
