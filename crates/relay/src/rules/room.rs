//! Membership and roles, by replaying changes.

use std::collections::{BTreeMap, BTreeSet};

use mildam_protocol::command::MAX_MEMBERS;
use mildam_protocol::records::id::{AccountId, Hash, RoomId};
use mildam_protocol::records::room::{Change, Member, Role, RoomChange, RoomKind, Snapshot, Suite};
use mildam_protocol::{Code, Refusal};

use super::{refuse, require};

/// Who is in a room and what they may do, at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// One to one, or a group.
    pub kind: RoomKind,
    /// The room's algorithms.
    pub suite: Suite,
    /// The version.
    pub version: u64,
    /// Hash of the change that made it.
    pub head: Hash,
    /// The members.
    pub members: BTreeMap<AccountId, Member>,
    /// Accounts that may not be added.
    pub banned: BTreeSet<AccountId>,
    /// Whether the room has ended.
    pub closed: bool,
}

/// What a change did to the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Who came in.
    pub joined: Vec<Member>,
    /// Who went.
    pub gone: Vec<AccountId>,
    /// Who got another role.
    pub promoted: Option<Member>,
    /// Who may not be added any more.
    pub banned: Option<AccountId>,
    /// Whether the next epoch must come along with the change.
    pub needs_epoch: bool,
    /// Whether somebody went by themselves, so that the next sender must announce an epoch.
    pub epoch_due: bool,
}

impl Roster {
    /// The room after its first change.
    ///
    /// # Errors
    /// [`Code::BadRecord`] for a change that cannot begin a room, [`Code::LimitReached`] for too
    /// many members.
    pub fn begin(change: &RoomChange) -> Result<Self, Refusal> {
        let Change::Created { kind, suite, members, .. } = &change.change else {
            return refuse(Code::BadRecord, "a room begins with the change created");
        };
        let first = change.room.is_none() && change.version == 1 && change.previous.is_none();
        require(first, Code::BadRecord, "created makes version 1 of a new room")?;
        require(members.len() <= MAX_MEMBERS, Code::LimitReached, "a room has at most 1000 members")?;
        sorted(members)?;
        let actor = members.iter().find(|member| member.account == change.actor);
        let shaped = actor.is_some_and(|actor| actor.role == Role::Owner)
            && match kind {
                RoomKind::Direct => members.len() == 2 && members.iter().all(|one| one.role == Role::Owner),
                RoomKind::Group => true,
            };
        require(shaped, Code::BadRecord, "who creates a room owns it, and a direct room has two owners")?;
        Ok(Self {
            kind: *kind,
            suite: *suite,
            version: 1,
            head: change.hash(),
            members: members.iter().map(|member| (member.account.clone(), member.clone())).collect(),
            banned: BTreeSet::new(),
            closed: false,
        })
    }

    /// Applies a change of `room`, if its actor may do it at this version.
    ///
    /// # Errors
    /// [`Code::NotMember`], [`Code::Stale`], [`Code::Forbidden`], [`Code::LimitReached`] or
    /// [`Code::BadRecord`]; the roster is then of no use any more.
    pub fn apply(&mut self, room: &RoomId, change: &RoomChange) -> Result<Effect, Refusal> {
        let Some(actor) = self.members.get(&change.actor) else {
            return refuse(Code::NotMember, "you are not a member of this room");
        };
        let role = actor.role;
        require(change.room == Some(*room), Code::BadRecord, "the change belongs to another room")?;
        let follows =
            Some(change.version) == self.version.checked_add(1) && change.previous == Some(self.head);
        require(follows, Code::Stale, "the room has moved on; catch up and try again")?;
        require(!self.closed, Code::Forbidden, "this room is closed")?;
        let group = self.kind == RoomKind::Group;
        require(group, Code::Forbidden, "a direct room has the same two members for ever")?;
        let effect = match &change.change {
            Change::Created { .. } => return refuse(Code::BadRecord, "the room exists already"),
            Change::Added { members, .. } => self.add(role, members)?,
            Change::Removed { account } => {
                self.put_out(role, account, &change.actor)?;
                Effect { gone: vec![account.clone()], needs_epoch: true, ..Effect::default() }
            }
            Change::Left => {
                self.members.remove(&change.actor);
                Effect { gone: vec![change.actor.clone()], epoch_due: true, ..Effect::default() }
            }
            Change::Role { account, role: to } => self.promote(role, account, *to)?,
            Change::Banned { account } => self.ban(role, account, &change.actor)?,
            Change::Closed => {
                require(role == Role::Owner, Code::Forbidden, "only owners close a room")?;
                self.closed = true;
                Effect::default()
            }
        };
        self.version = change.version;
        self.head = change.hash();
        Ok(effect)
    }

    /// The room as it is now, for those who join.
    #[must_use]
    pub fn snapshot(&self, room: &RoomId) -> Snapshot {
        Snapshot {
            room: *room,
            version: self.version,
            kind: self.kind,
            suite: self.suite,
            members: self.members.values().cloned().collect(),
            banned: self.banned.iter().cloned().collect(),
        }
    }

    fn add(&mut self, by: Role, members: &[Member]) -> Result<Effect, Refusal> {
        require(by >= Role::Admin, Code::Forbidden, "only admins and owners invite")?;
        sorted(members)?;
        for member in members {
            require(
                member.role == Role::Member && !self.members.contains_key(&member.account),
                Code::BadRecord,
                "who is added was no member and begins as one without a role",
            )?;
            require(
                !self.banned.contains(&member.account),
                Code::Forbidden,
                "one of them is banned from this room",
            )?;
            self.members.insert(member.account.clone(), member.clone());
        }
        require(!members.is_empty(), Code::BadRecord, "nobody is added")?;
        require(self.members.len() <= MAX_MEMBERS, Code::LimitReached, "a room has at most 1000 members")?;
        Ok(Effect { joined: members.to_vec(), needs_epoch: true, ..Effect::default() })
    }

    fn put_out(&mut self, by: Role, who: &AccountId, actor: &AccountId) -> Result<(), Refusal> {
        let Some(member) = self.members.get(who) else {
            return refuse(Code::BadRecord, "there is no such member");
        };
        require(
            by >= Role::Admin && member.role < by && who != actor,
            Code::Forbidden,
            "only a higher role removes a member",
        )?;
        self.members.remove(who);
        Ok(())
    }

    fn promote(&mut self, by: Role, who: &AccountId, to: Role) -> Result<Effect, Refusal> {
        require(by == Role::Owner, Code::Forbidden, "only owners give roles")?;
        let Some(member) = self.members.get_mut(who) else {
            return refuse(Code::BadRecord, "there is no such member");
        };
        member.role = to;
        let member = member.clone();
        let owned = self.members.values().any(|one| one.role == Role::Owner);
        require(owned, Code::Forbidden, "a group keeps at least one owner")?;
        Ok(Effect { promoted: Some(member), ..Effect::default() })
    }

    fn ban(&mut self, by: Role, who: &AccountId, actor: &AccountId) -> Result<Effect, Refusal> {
        require(by >= Role::Admin, Code::Forbidden, "only admins and owners ban")?;
        require(who != actor, Code::Forbidden, "nobody bans themselves")?;
        let member = self.members.contains_key(who);
        if member {
            self.put_out(by, who, actor)?;
        }
        require(self.banned.insert(who.clone()), Code::BadRecord, "the account is banned already")?;
        Ok(Effect {
            gone: member.then(|| who.clone()).into_iter().collect(),
            banned: Some(who.clone()),
            needs_epoch: member,
            ..Effect::default()
        })
    }
}

/// What is said when a snapshot is not the room's.
pub(crate) fn check_snapshot(
    ours: &Snapshot,
    theirs: Option<&Snapshot>,
    signed: &Hash,
) -> Result<(), Refusal> {
    let fits = theirs == Some(ours) && ours.hash() == *signed;
    require(fits, Code::BadRecord, "the snapshot is not the room after this change")
}

/// What is said when an epoch is missing or not wanted.
pub(crate) fn check_epoch_presence(wanted: bool, there: bool) -> Result<(), Refusal> {
    require(!wanted || there, Code::BadRecord, "this change brings the next epoch along")?;
    require(wanted || !there, Code::BadRecord, "no epoch comes with this change")
}

fn sorted(members: &[Member]) -> Result<(), Refusal> {
    let in_order = members.iter().zip(members.iter().skip(1)).all(|(one, next)| one.account < next.account);
    require(in_order, Code::BadRecord, "members are sorted by account, each once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mildam_protocol::records::id::DeviceId;
    use mildam_protocol::records::keys::Signature;

    fn account(name: &str) -> AccountId {
        name.parse().unwrap()
    }

    fn member(name: &str, role: Role) -> Member {
        Member { account: account(name), identity: Hash::ZERO, role }
    }

    fn change(actor: &str, change: Change) -> RoomChange {
        RoomChange {
            room: None,
            version: 1,
            previous: None,
            actor: account(actor),
            actor_device: DeviceId::from_bytes([1; 16]),
            actor_list: Hash::ZERO,
            at: 0,
            change,
            signature: Signature::from_bytes([0; 64]),
        }
    }

    fn created(kind: RoomKind, members: Vec<Member>) -> RoomChange {
        let nonce = Hash::ZERO;
        let suite = Suite::Mildam1;
        change("alice", Change::Created { nonce, kind, suite, members })
    }

    const ROOM: RoomId = RoomId::from_bytes([9; 32]);

    fn group() -> Roster {
        Roster::begin(&created(
            RoomKind::Group,
            vec![
                member("alice", Role::Owner),
                member("bob", Role::Admin),
                member("carol", Role::Admin),
                member("dave", Role::Member),
            ],
        ))
        .unwrap()
    }

    fn next(roster: &Roster, actor: &str, what: Change) -> RoomChange {
        RoomChange {
            room: Some(ROOM),
            version: roster.version + 1,
            previous: Some(roster.head),
            ..change(actor, what)
        }
    }

    fn outcome(actor: &str, what: Change) -> Result<Effect, Code> {
        let mut roster = group();
        let change = next(&roster, actor, what);
        roster.apply(&ROOM, &change).map_err(|refusal| refusal.code)
    }

    fn added(names: &[&str]) -> Change {
        Change::Added {
            members: names.iter().map(|name| member(name, Role::Member)).collect(),
            snapshot: Hash::ZERO,
        }
    }

    // REQ C2
    #[test]
    fn rights_follow_roles() {
        let removed = |name| Change::Removed { account: account(name) };
        let banned = |name| Change::Banned { account: account(name) };
        let role = |name, role| Change::Role { account: account(name), role };
        let table = [
            ("alice", added(&["erin"]), None),
            ("bob", added(&["erin"]), None),
            ("dave", added(&["erin"]), Some(Code::Forbidden)),
            ("erin", added(&["erin"]), Some(Code::NotMember)),
            ("alice", added(&["dave"]), Some(Code::BadRecord)),
            ("alice", added(&["frank", "erin"]), Some(Code::BadRecord)),
            ("alice", added(&[]), Some(Code::BadRecord)),
            ("alice", removed("bob"), None),
            ("bob", removed("dave"), None),
            ("bob", removed("carol"), Some(Code::Forbidden)),
            ("bob", removed("alice"), Some(Code::Forbidden)),
            ("bob", removed("bob"), Some(Code::Forbidden)),
            ("dave", removed("bob"), Some(Code::Forbidden)),
            ("bob", removed("erin"), Some(Code::BadRecord)),
            ("dave", Change::Left, None),
            ("erin", Change::Left, Some(Code::NotMember)),
            ("alice", role("dave", Role::Admin), None),
            ("bob", role("dave", Role::Admin), Some(Code::Forbidden)),
            ("alice", role("alice", Role::Member), Some(Code::Forbidden)),
            ("bob", banned("dave"), None),
            ("bob", banned("erin"), None),
            ("bob", banned("carol"), Some(Code::Forbidden)),
            ("dave", banned("erin"), Some(Code::Forbidden)),
            ("alice", Change::Closed, None),
            ("bob", Change::Closed, Some(Code::Forbidden)),
        ];
        for (actor, change, refused) in table {
            let shown = format!("{actor} {change:?}");
            assert_eq!(outcome(actor, change).err(), refused, "{shown}");
        }
    }

    // REQ C5
    #[test]
    fn who_comes_or_is_put_out_brings_an_epoch_and_who_leaves_makes_one_due() {
        let put_out = Change::Removed { account: account("dave") };
        assert!(outcome("bob", added(&["erin"])).unwrap().needs_epoch);
        assert!(outcome("bob", put_out).unwrap().needs_epoch);
        let left = outcome("dave", Change::Left).unwrap();
        assert!(left.epoch_due && !left.needs_epoch);
    }

    #[test]
    fn a_change_follows_the_head_of_its_room() {
        let roster = group();
        let good = next(&roster, "dave", Change::Left);
        let code =
            |change: &RoomChange| roster.clone().apply(&ROOM, change).map_err(|refusal| refusal.code).err();
        assert_eq!(code(&good), None);
        let version = RoomChange { version: 3, ..good.clone() };
        assert_eq!(code(&version), Some(Code::Stale));
        let previous = RoomChange { previous: Some(Hash::ZERO), ..good.clone() };
        assert_eq!(code(&previous), Some(Code::Stale));
        let other = RoomChange { room: Some(RoomId::from_bytes([8; 32])), ..good };
        assert_eq!(code(&other), Some(Code::BadRecord));
    }

    // REQ C2
    #[test]
    fn the_banned_stay_out_and_the_closed_stays_closed() {
        let mut roster = group();
        let ban = Change::Banned { account: account("dave") };
        let banned = next(&roster, "bob", ban);
        roster.apply(&ROOM, &banned).unwrap();
        let back = next(&roster, "alice", added(&["dave"]));
        let refusal = roster.clone().apply(&ROOM, &back).unwrap_err();
        assert_eq!(refusal.code, Code::Forbidden);
        let close = next(&roster, "alice", Change::Closed);
        roster.apply(&ROOM, &close).unwrap();
        let left = next(&roster, "carol", Change::Left);
        let refusal = roster.apply(&ROOM, &left).unwrap_err();
        assert_eq!(refusal.code, Code::Forbidden);
    }

    // REQ C1
    #[test]
    fn a_direct_room_has_two_owners_for_ever() {
        let two = |first, second| {
            let members = vec![member("alice", first), member("bob", second)];
            Roster::begin(&created(RoomKind::Direct, members))
        };
        assert!(two(Role::Owner, Role::Member).is_err());
        let one = created(RoomKind::Direct, vec![member("alice", Role::Owner)]);
        assert!(Roster::begin(&one).is_err());
        let mut roster = two(Role::Owner, Role::Owner).unwrap();
        for what in [Change::Left, added(&["carol"]), Change::Closed] {
            let change = next(&roster, "bob", what);
            let refusal = roster.apply(&ROOM, &change).unwrap_err();
            assert_eq!(refusal.code, Code::Forbidden);
        }
    }

    #[test]
    fn who_creates_owns() {
        let begin = |members| Roster::begin(&created(RoomKind::Group, members));
        assert!(begin(vec![member("alice", Role::Owner)]).is_ok());
        assert!(begin(vec![member("alice", Role::Admin)]).is_err());
        assert!(begin(vec![member("bob", Role::Owner)]).is_err());
        let twice = vec![member("alice", Role::Owner), member("alice", Role::Owner)];
        assert!(begin(twice).is_err());
    }
}
