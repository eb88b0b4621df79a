//! Rooms: their beginning, their changes, and their epochs.

use std::collections::HashMap;
use std::sync::Arc;

use mildam_protocol::command::{
    EpochAnnounce, NewEpoch, PREKEY_LIFE, RoomCreate, RoomCreateAnswer, RoomSetChange, StoredAnswer,
};
use mildam_protocol::records::id::{AccountId, DeviceId, Hash, RoomId};
use mildam_protocol::records::membership::Membership;
use mildam_protocol::records::room::{Change, Member, RoomChange, RoomKind, Snapshot};
use mildam_protocol::records::{LogEntry, LogItem, LogPosition};
use mildam_protocol::{Code, Event, Refusal};

use super::device::DAY;
use super::{Scene, done, news, tell};
use crate::broker::{Address, Devices, News};
use crate::rules::epoch::NextEpoch;
use crate::rules::room::{self as rules, Effect};
use crate::rules::{require, stale};
use crate::store::{
    Committed, EntryRow, EpochRow, MemberRow, Rejection, RoomRow, StoreError, Transaction, WrapRow,
};

/// A prekey may be used so long after it was replaced, in milliseconds.
const PREKEY_GRACE: u64 = 10 * 60 * 1000;
/// So many epochs a room may have ...
const EPOCH_BURST: u64 = 100;
/// ... in so many milliseconds, not counting those that come with changes.
const EPOCH_WINDOW: u64 = 10 * 60 * 1000;

/// What is said to those who are not, or no longer, in a room.
pub(super) const NOT_MEMBER: &str = "you are not a member of this room";

/// `room_create`. A pair that has a direct room already is told which, unless the new one takes its place.
pub(super) async fn create(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: RoomCreate,
) -> Result<Committed, Rejection> {
    let change = command.change;
    check_actor(&scene, &change.actor, &change.actor_device)?;
    let membership = Membership::created(&change).map_err(rules::refusal)?;
    rules::check_size(&change.change, &membership)?;
    let room = membership.room();
    let made = |room, created| RoomCreateAnswer { room, created };
    if tx.find_entry(&room, &membership.head()).await?.is_some() {
        return done(&made(room, true));
    }
    check_changer(tx, &change).await?;
    let own = &scene.caller.account;
    let other = membership.members().find(|member| member.account != *own);
    let other = other.filter(|_| membership.kind() == RoomKind::Direct).map(|member| member.account.clone());
    let replaced = match &change.change {
        Change::Created { replaces, .. } => replaces.map(|replaced| replaced.room),
        _ => None,
    };
    let direct = match &other {
        Some(other) => tx.direct_room(own, other).await?,
        None => None,
    };
    match direct {
        Some(room) if replaced != Some(room) => return done(&made(room, false)),
        None if replaced.is_some() && other.is_some() => {
            return Err(Refusal::new(Code::NotFound, "there is no such room to replace").into());
        }
        _ => {}
    }
    let before = match &replaced {
        Some(room) => tx.membership(room).await?.filter(|before| before.member(own).is_some()),
        None => None,
    };
    for member in membership.members() {
        let same_company = before.as_ref().is_some_and(|before| before.member(&member.account).is_some());
        check_newcomer(tx, &scene, member, same_company).await?;
    }
    let mut head = RoomRow {
        id: room,
        kind: membership.kind(),
        suite: membership.suite(),
        version: membership.version(),
        head: membership.head(),
        epoch: 0,
        epoch_hash: None,
        epoch_version: 0,
        end: LogPosition::START,
        closed: false,
    };
    tx.save_room(&head).await?;
    tx.save_membership(&membership).await?;
    if let Some(other) = &other {
        tx.name_direct_room(own, other, &room).await?;
    }
    let effect = Effect { joined: membership.members().cloned().collect(), ..Effect::default() };
    let entry = LogEntry::Change(Box::new(change));
    let item = append(tx, &mut head, entry, None, scene.now).await?;
    save_effect(tx, &head, &effect, LogPosition::START).await?;
    let accounts = membership.members().map(|member| &member.account);
    let mut told = vec![log_news(&room, item, accounts)?];
    let start = Some(LogPosition::START);
    told.extend(take_epoch(tx, &scene, &mut head, command.epoch, start).await?);
    tx.save_room(&head).await?;
    tell(&made(room, true), told)
}

/// `room_change`. The same change again gets the first answer.
pub(super) async fn change(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: RoomSetChange,
) -> Result<Committed, Rejection> {
    let change = command.change;
    check_actor(&scene, &change.actor, &change.actor_device)?;
    let room = change.room.ok_or_else(|| Refusal::new(Code::BadRecord, "a change names its room"))?;
    let (mut head, member) = of_member(tx, &room, &change.actor).await?;
    if let Some(stored) = tx.find_entry(&room, &change.hash()).await? {
        return done(&stored);
    }
    require(member.is_present(), Code::NotMember, NOT_MEMBER)?;
    check_changer(tx, &change).await?;
    let before = membership_of(tx, &room).await?;
    let after = before.after(&change).map_err(rules::refusal)?;
    rules::check_size(&change.change, &after)?;
    let effect = Effect::between(&before, &after);
    let epochs = (effect.needs_epoch(&change.change), command.epoch.is_some());
    let snapshot = rules::check_company(&change.change, &after, command.snapshot.as_ref(), epochs)?;
    for member in &effect.joined {
        check_newcomer(tx, &scene, member, false).await?;
    }
    let position = head.end;
    head.version = after.version();
    head.head = after.head();
    head.closed = after.closed();
    let entry = LogEntry::Change(Box::new(change));
    let item = append(tx, &mut head, entry, snapshot.as_ref(), scene.now).await?;
    save_effect(tx, &head, &effect, position).await?;
    tx.save_membership(&after).await?;
    // A joiner's log begins right before the change: the adder's view of it vouches for that.
    let seen = (!effect.joined.is_empty()).then_some(position);
    let mut told = change_news(&room, item, snapshot, &after, &effect)?;
    if let Some(epoch) = command.epoch {
        told.extend(take_epoch(tx, &scene, &mut head, epoch, seen).await?);
    }
    tx.save_room(&head).await?;
    let stored = StoredAnswer { seq: head.end.seq, stored_at: scene.now };
    tell(&stored, told)
}

/// `epoch_announce`. The same announcement again gets the first answer.
pub(super) async fn announce(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: EpochAnnounce,
) -> Result<Committed, Rejection> {
    let announcement = &command.epoch.announcement;
    let id = announcement.room;
    check_actor(&scene, &announcement.announcer, &announcement.announcer_device)?;
    let (mut head, member) = of_member(tx, &id, &scene.caller.account).await?;
    if let Some(stored) = tx.find_epoch(&id, &announcement.hash()).await? {
        return done(&stored);
    }
    require(member.is_present(), Code::NotMember, NOT_MEMBER)?;
    require(!head.closed, Code::Forbidden, "this room is closed")?;
    let first_of_burst = head.epoch.saturating_add(1).saturating_sub(EPOCH_BURST);
    let since = tx.epoch_time(&id, first_of_burst).await?;
    let calm = since.is_none_or(|since| since.saturating_add(EPOCH_WINDOW) <= scene.now);
    require(calm, Code::LimitReached, "this room gets new keys too often; wait a little")?;
    let told = take_epoch(tx, &scene, &mut head, command.epoch, None).await?;
    tx.save_room(&head).await?;
    let stored = StoredAnswer { seq: head.end.seq, stored_at: scene.now };
    tell(&stored, told)
}

/// A room and the membership of an account, present or past. To everybody else a room does not
/// exist.
pub(super) async fn of_member(
    tx: &mut dyn Transaction,
    room: &RoomId,
    account: &AccountId,
) -> Result<(RoomRow, MemberRow), Rejection> {
    let member = tx.member(room, account).await?;
    let head = tx.room(room).await?;
    head.zip(member).ok_or_else(|| Refusal::new(Code::NotFound, "there is no such room").into())
}

/// Appends an entry to the log: the next number, the next log hash. The head is the caller's to
/// save.
pub(super) async fn append(
    tx: &mut dyn Transaction,
    head: &mut RoomRow,
    entry: LogEntry,
    snapshot: Option<&Snapshot>,
    now: u64,
) -> Result<LogItem, Rejection> {
    let hash = entry.hash();
    head.end = head.end.then(&head.id, &hash);
    let row = EntryRow { at: head.end, hash, entry, snapshot: snapshot.cloned(), stored_at: now };
    tx.insert_entry(&head.id, &row).await?;
    Ok(LogItem::Entry { seq: row.at.seq, stored_at: now, entry: row.entry, snapshot: None })
}

/// News of a log item.
pub(super) fn log_news<'a>(
    room: &RoomId,
    item: LogItem,
    audience: impl Iterator<Item = &'a AccountId>,
) -> Result<News, Refusal> {
    let event = Event::Log { room: *room, item: Box::new(item) };
    news(audience.cloned().map(Address::all).collect(), &event)
}

/// A device as a record names it.
#[derive(Clone, Copy)]
pub(super) struct Device<'a> {
    pub(super) account: &'a AccountId,
    pub(super) device: &'a DeviceId,
    /// Hash of the device list that the record names.
    pub(super) list: &'a Hash,
}

/// Checks that the device that has signed a record stands in the account's newest list, and that the record
/// names that list. The signature was checked before.
pub(super) async fn check_listed(tx: &mut dyn Transaction, signer: Device<'_>) -> Result<(), Rejection> {
    if tx.device_key(signer.account, signer.device).await?.is_none() {
        return Err(unlisted().into());
    }
    let standing = tx.standing(signer.account).await?;
    if standing.is_some_and(|standing| standing.list == *signer.list) {
        Ok(())
    } else {
        Err(stale("your own device list").into())
    }
}

/// Checks that a client saw the log that the relay keeps.
pub(super) async fn check_seen(
    tx: &mut dyn Transaction,
    head: &RoomRow,
    seq: u64,
    hash: &Hash,
) -> Result<(), Rejection> {
    let ours = match seq {
        0 => Some(Hash::ZERO),
        seq if seq == head.end.seq => Some(head.end.hash),
        seq => tx.log_hash(&head.id, seq).await?,
    };
    let same = ours == Some(*hash);
    Ok(require(same, Code::LogMismatch, "the log that you saw is not the log of this room")?)
}

/// What is said to a device that stands in no list.
pub(crate) fn unlisted() -> Refusal {
    Refusal::new(Code::DeviceUnknown, "this device does not belong to the account")
}

fn check_actor(scene: &Scene, account: &AccountId, device: &DeviceId) -> Result<(), Refusal> {
    let own = *account == scene.caller.account && *device == scene.caller.device;
    require(own, Code::BadRecord, "a record is sent by the device that signed it")
}

async fn check_changer(tx: &mut dyn Transaction, change: &RoomChange) -> Result<(), Rejection> {
    let signer = Device { account: &change.actor, device: &change.actor_device, list: &change.actor_list };
    check_listed(tx, signer).await
}

/// Checks that an account may come into a room: it exists under the signed identity, is a friend
/// of the actor, and is not in too many rooms. Whoever was in the same room before (`same_company`) need
/// not be a friend in the one that takes its place.
async fn check_newcomer(
    tx: &mut dyn Transaction,
    scene: &Scene,
    member: &Member,
    same_company: bool,
) -> Result<(), Rejection> {
    let own = &scene.caller.account;
    let account = &member.account;
    // Whether an account exists is told to its friends only.
    let friends = own == account || same_company || tx.friends_since(own, account).await?.is_some();
    require(friends, Code::NotFriends, "you can bring friends into a room, nobody else")?;
    let standing = tx.standing(account).await?;
    let same = standing.is_some_and(|standing| standing.identity == member.identity);
    require(
        same,
        Code::BadRecord,
        "a member's identity key is another one by now; check it before you invite",
    )?;
    let rooms = tx.room_count(account).await?;
    Ok(require(rooms < scene.limits.rooms, Code::LimitReached, "one of the members is in too many rooms")?)
}

async fn membership_of(tx: &mut dyn Transaction, room: &RoomId) -> Result<Membership, Rejection> {
    let membership = tx.membership(room).await?;
    Ok(membership.ok_or(StoreError::Corrupt("membership"))?)
}

/// Saves who came and went, after the entry was appended and before its epoch is taken. `before`
/// is the position right before the entry.
async fn save_effect(
    tx: &mut dyn Transaction,
    head: &RoomRow,
    effect: &Effect,
    before: LogPosition,
) -> Result<(), Rejection> {
    for member in &effect.joined {
        let row = MemberRow { member: member.clone(), start: before, gone: None };
        tx.save_member(&head.id, &row).await?;
    }
    for account in &effect.gone {
        if let Some(row) = tx.member(&head.id, account).await? {
            let gone = Some((head.end.seq, head.epoch));
            tx.save_member(&head.id, &MemberRow { gone, ..row }).await?;
        }
    }
    for member in &effect.changed {
        if let Some(row) = tx.member(&head.id, &member.account).await? {
            let member = member.clone();
            tx.save_member(&head.id, &MemberRow { member, ..row }).await?;
        }
    }
    Ok(())
}

/// Tells of a change those who are in, those who went by it, and, with the snapshot, those who
/// came in by it.
fn change_news(
    room: &RoomId,
    item: LogItem,
    snapshot: Option<Snapshot>,
    after: &Membership,
    effect: &Effect,
) -> Result<Vec<News>, Refusal> {
    let stayed =
        after.members().filter(|member| !effect.joined.contains(member)).map(|member| &member.account);
    let mut told = vec![log_news(room, item.clone(), stayed.chain(&effect.gone))?];
    if let (Some(snapshot), LogItem::Entry { seq, stored_at, entry, .. }) = (snapshot, item) {
        let item = LogItem::Entry { seq, stored_at, entry, snapshot: Some(Box::new(snapshot)) };
        let newcomers = effect.joined.iter().map(|member| &member.account);
        told.push(log_news(room, item, newcomers)?);
    }
    Ok(told)
}

/// Checks the next epoch and adds it behind the end of the log. With `seen`, the announcer must
/// have seen exactly so much of it.
async fn take_epoch(
    tx: &mut dyn Transaction,
    scene: &Scene,
    head: &mut RoomRow,
    epoch: NewEpoch,
    seen: Option<LogPosition>,
) -> Result<Vec<News>, Rejection> {
    let announcement = &epoch.announcement;
    check_actor(scene, &announcement.announcer, &announcement.announcer_device)?;
    if tx.device_key(&announcement.announcer, &announcement.announcer_device).await?.is_none() {
        return Err(unlisted().into());
    }
    check_seen(tx, head, announcement.seen_seq, &announcement.seen_hash).await?;
    if seen.is_some_and(|seen| seen.seq != announcement.seen_seq) {
        return Err(stale("the log").into());
    }
    let next = NextEpoch {
        room: head.id,
        epoch: head.epoch.saturating_add(1),
        previous: head.epoch_hash,
        version: head.version,
        head: head.head,
        active_since: scene.now.saturating_sub(PREKEY_LIFE.saturating_sub(DAY)),
    };
    next.judge_place(&epoch)?;
    let members = tx.targets(&head.id, scene.now.saturating_sub(PREKEY_GRACE)).await?;
    next.judge_company(&epoch, &members)?;
    let row = EpochRow {
        hash: announcement.hash(),
        announcement: epoch.announcement,
        after_seq: head.end.seq,
        wraps: epoch.wraps.iter().map(WrapRow::new).collect::<Option<_>>().ok_or_else(super::internal)?,
        profile: epoch.profile,
        stored_at: scene.now,
    };
    tx.insert_epoch(&row).await?;
    head.epoch = next.epoch;
    head.epoch_hash = Some(row.hash);
    head.epoch_version = next.version;
    Ok(epoch_news(&row)?)
}

/// Tells each device of an epoch together with its own wrap, and those without a wrap that there
/// is one.
fn epoch_news(row: &EpochRow) -> Result<Vec<News>, Refusal> {
    let event = Event::Log {
        room: row.announcement.room,
        item: Box::new(LogItem::Epoch {
            after: row.after_seq,
            stored_at: row.stored_at,
            announcement: Box::new(row.announcement.clone()),
            wrap: None,
            profile: row.profile.clone(),
        }),
    };
    let mut wrapped: HashMap<&AccountId, Vec<DeviceId>> = HashMap::new();
    for wrap in &row.wraps {
        wrapped.entry(&wrap.account).or_default().push(wrap.device);
    }
    let without = row.announcement.recipients.iter().map(|recipient| {
        let devices = Devices::Except(wrapped.remove(&recipient.account).unwrap_or_default());
        Address { account: recipient.account.clone(), devices }
    });
    let others = news(without.collect(), &event)?;
    let mut told = Vec::with_capacity(row.wraps.len().saturating_add(1));
    for wrap in &row.wraps {
        let to = vec![Address { account: wrap.account.clone(), devices: Devices::Only(wrap.device) }];
        told.push(News { to, event: others.event.with_wrap(Arc::clone(&wrap.text)), last: false });
    }
    told.push(others);
    Ok(told)
}
