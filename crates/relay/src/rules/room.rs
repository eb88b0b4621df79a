//! Membership: the replay itself is shared with the clients; here is what a change does to the
//! relay's own rows, and what is said of one that does not follow.

use mildam_protocol::command::{MAX_BANNED, MAX_MEMBERS};
use mildam_protocol::records::id::AccountId;
use mildam_protocol::records::membership::{ChangeError, Membership};
use mildam_protocol::records::room::{Change, Member, Snapshot};
use mildam_protocol::{Code, Refusal};

use super::require;

/// What a change did to the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Who came in.
    pub joined: Vec<Member>,
    /// Who went.
    pub gone: Vec<AccountId>,
    /// Who got another role.
    pub changed: Vec<Member>,
}

impl Effect {
    /// What lies between two versions.
    #[must_use]
    pub fn between(before: &Membership, after: &Membership) -> Self {
        let joined = |member: &&Member| before.member(&member.account).is_none();
        let changed = |member: &&Member| {
            let earlier = before.member(&member.account);
            earlier.is_some_and(|earlier| earlier != *member)
        };
        let gone = |member: &&Member| after.member(&member.account).is_none();
        Self {
            joined: after.members().filter(joined).cloned().collect(),
            gone: before.members().filter(gone).map(|member| member.account.clone()).collect(),
            changed: after.members().filter(changed).cloned().collect(),
        }
    }

    /// Whether the next epoch must come along with the change: whoever comes or is put out makes a
    /// new key due at once. Who leaves cannot make one for the others.
    #[must_use]
    pub fn needs_epoch(&self, change: &Change) -> bool {
        let moved = !self.joined.is_empty() || !self.gone.is_empty();
        moved && !matches!(change, Change::Left)
    }
}

/// What is said of a change that does not follow.
#[must_use]
pub fn refusal(error: ChangeError) -> Refusal {
    let (code, message) = match error {
        ChangeError::Stale => (Code::Stale, "the room has moved on; catch up and try again"),
        ChangeError::NotMember => (Code::NotMember, "you are not a member of this room"),
        ChangeError::Forbidden => (Code::Forbidden, "your role or the room does not allow this"),
        _ => (Code::BadRecord, "the change contradicts itself or the room"),
    };
    Refusal::new(code, message)
}

/// Checks what no replay checks: how many members a room may have, and how many may not come back. One that
/// has too many of these already takes other changes.
///
/// # Errors
/// [`Code::LimitReached`].
pub fn check_size(change: &Change, after: &Membership) -> Result<(), Refusal> {
    require(after.members().len() <= MAX_MEMBERS, Code::LimitReached, "a room has at most 1000 members")?;
    let fits = after.banned() <= MAX_BANNED || !matches!(change, Change::Banned { .. });
    require(fits, Code::LimitReached, "a room has at most 1000 banned accounts")
}

/// Checks what travels beside a change: `added` brings the snapshot after it, and only a change
/// that needs one an epoch. Gives the snapshot to keep.
///
/// # Errors
/// [`Code::BadRecord`].
pub fn check_company(
    change: &Change,
    after: &Membership,
    snapshot: Option<&Snapshot>,
    (wanted, there): (bool, bool),
) -> Result<Option<Snapshot>, Refusal> {
    let ours = matches!(change, Change::Added { .. }).then(|| after.snapshot());
    require(
        ours.as_ref() == snapshot,
        Code::BadRecord,
        "added, and nothing else, brings the snapshot of the room after it along",
    )?;
    require(!wanted || there, Code::BadRecord, "this change brings the next epoch along")?;
    require(wanted || !there, Code::BadRecord, "no epoch comes with this change")?;
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mildam_protocol::records::id::{DeviceId, Hash};
    use mildam_protocol::records::keys::Signature;
    use mildam_protocol::records::room::{Role, RoomChange, RoomKind, Suite};

    fn account(name: &str) -> AccountId {
        name.parse().unwrap()
    }

    fn member(name: &str, role: Role) -> Member {
        Member { account: account(name), identity: Hash::ZERO, role }
    }

    fn signed(on: Option<&Membership>, change: Change) -> RoomChange {
        RoomChange {
            room: on.map(Membership::room),
            version: on.map_or(1, |on| on.version() + 1),
            previous: on.map(Membership::head),
            actor: account("alice"),
            actor_device: DeviceId::from_bytes([1; 16]),
            actor_list: Hash::ZERO,
            at: 0,
            change,
            signature: Signature::from_bytes([0; 64]),
        }
    }

    fn group() -> Membership {
        let created = Change::Created {
            nonce: Hash::ZERO,
            kind: RoomKind::Group,
            suite: Suite::Mildam1,
            members: vec![
                member("alice", Role::Owner),
                member("bob", Role::Member),
                member("carol", Role::Member),
            ],
            replaces: None,
        };
        Membership::created(&signed(None, created)).unwrap()
    }

    fn effect(change: Change) -> (Effect, bool) {
        let before = group();
        let after = before.after(&signed(Some(&before), change.clone())).unwrap();
        let effect = Effect::between(&before, &after);
        let needs = effect.needs_epoch(&change);
        (effect, needs)
    }

    fn added(name: &str) -> Change {
        let members = vec![member(name, Role::Member)];
        Change::Added { snapshot: group().snapshot_with(&members).hash(), members }
    }

    // REQ C5
    #[test]
    fn every_coming_and_going_but_a_leave_brings_an_epoch() {
        let (effect_of_added, needs) = effect(added("dave"));
        assert!(needs);
        assert_eq!(effect_of_added.joined, [member("dave", Role::Member)]);
        let put_out = Change::Removed { account: account("bob") };
        let (removed, needs) = effect(put_out);
        assert!(needs);
        assert_eq!(removed.gone, [account("bob")]);
        let (left, needs) = effect(Change::Left);
        assert!(!needs);
        assert_eq!(left.gone, [account("alice")]);
    }

    // REQ C2
    #[test]
    fn roles_and_bans_of_strangers_move_nobody() {
        let role = Change::Role { account: account("bob"), role: Role::Admin };
        let (promoted, needs) = effect(role);
        assert!(!needs);
        assert_eq!(promoted.changed, [member("bob", Role::Admin)]);
        let ban = |name| Change::Banned { account: account(name) };
        assert_eq!(effect(ban("dave")), (Effect::default(), false));
        let (banned, needs) = effect(ban("bob"));
        assert!(needs);
        assert_eq!(banned.gone, [account("bob")]);
    }

    // REQ C2, S5
    #[test]
    fn a_room_keeps_out_so_many_and_still_takes_other_changes() {
        let mut room = group();
        for n in 0..=MAX_BANNED {
            let ban = Change::Banned { account: account(&format!("ban{n}")) };
            room = room.after(&signed(Some(&room), ban.clone())).unwrap();
            let judged = check_size(&ban, &room).map_err(|refusal| refusal.code);
            assert_eq!(judged, if n < MAX_BANNED { Ok(()) } else { Err(Code::LimitReached) });
        }
        assert!(check_size(&Change::Left, &room).is_ok());
    }

    #[test]
    fn a_change_comes_with_what_belongs_to_it_and_nothing_else() {
        let before = group();
        let change = added("dave");
        let after = before.after(&signed(Some(&before), change.clone())).unwrap();
        let right = after.snapshot();
        let mut wrong = right.clone();
        wrong.members.pop();
        let code = |change: &Change, snapshot, epochs| {
            let checked = check_company(change, &after, snapshot, epochs);
            checked.map_err(|refusal| refusal.code).err()
        };
        let bad = Some(Code::BadRecord);
        assert_eq!(code(&change, Some(&right), (true, true)), None);
        assert_eq!(code(&change, Some(&wrong), (true, true)), bad);
        assert_eq!(code(&change, None, (true, true)), bad);
        assert_eq!(code(&change, Some(&right), (true, false)), bad);
        assert_eq!(code(&Change::Left, None, (false, false)), None);
        assert_eq!(code(&Change::Left, None, (false, true)), bad);
        assert_eq!(code(&Change::Left, Some(&right), (false, false)), bad);
    }
}
