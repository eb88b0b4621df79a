//! Three devices and a relay, and every order in which things can happen between them.
//!
//! What a device does is two steps, as over a network: it *makes* something from what it has read
//! so far, and later the relay *judges* it against the log as it is then. Between the two, everybody
//! else can act. A device that is refused reads on and makes it anew. [`explore`] goes through all
//! orders of the steps of a few scripts; the random schedules below go on for longer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use mildam_records::Membership;
use proptest::prelude::*;

use super::*;

use Intent::{Add, Announce, Leave, NewList, Remove, Say};

/// What somebody has in mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Intent {
    Say,
    Announce,
    Add(&'static str),
    Remove(&'static str),
    Leave,
    /// A second device comes into one's own list.
    NewList,
}

/// Accounts whose second list is meant, where others' first one is.
type Lists = BTreeSet<&'static str>;

/// What was made, and waits for the relay's judgement.
#[derive(Clone)]
enum Made {
    Message(Box<Message>),
    Epoch(Box<NewEpoch>),
    Change(Box<NewChange>),
}

/// An item of the log. The number is its own in all of the exploration: the same item is read by
/// the same device to the same end.
struct Item {
    number: usize,
    item: LogItem,
    wraps: BTreeMap<AccountId, Wrap>,
    /// For a message: what it says, and who was in.
    said: Option<(String, Vec<AccountId>)>,
    label: String,
}

/// One device. Its room lies in bytes, as in a vault.
#[derive(Clone)]
struct Device {
    name: &'static str,
    script: Vec<Intent>,
    done: usize,
    room: Rc<Vec<u8>>,
    hashes: BTreeMap<u64, Hash>,
    read: usize,
    /// Whose second lists it knows.
    lists: Lists,
    made: Option<Made>,
    /// The numbers of the items that it took, and what came of each.
    outcomes: Vec<(usize, String)>,
}

/// Everything, at one moment.
#[derive(Clone)]
struct State {
    log: Vec<Rc<Item>>,
    end: LogPosition,
    membership: Membership,
    epoch: u64,
    epoch_hash: Option<Hash>,
    epoch_version: u64,
    last_n: BTreeMap<(DeviceId, u64), u64>,
    lists: Lists,
    devices: BTreeMap<&'static str, Device>,
    /// All message keys that were ever used to seal.
    used: HashSet<(DeviceId, u64, u64)>,
}

/// What stays the same throughout.
struct Cast {
    secrets: BTreeMap<&'static str, DeviceSecrets>,
    known: BTreeMap<&'static str, [KnownAccount; 2]>,
    directories: std::cell::RefCell<BTreeMap<Lists, Rc<BTreeMap<AccountId, KnownAccount>>>>,
    numbers: std::cell::Cell<usize>,
    /// What reading an item comes to, by item, device, and state before.
    readings: std::cell::RefCell<HashMap<Offer, Reading>>,
}

/// An item, by its number, a device, its state before, and the lists that it knows.
type Offer = (usize, &'static str, Rc<Vec<u8>>, Lists);

/// The state after an item was offered, the position, and what came of it.
type Reading = (Rc<Vec<u8>>, LogPosition, Result<Accepted, NotAccepted>);

fn static_name(account: &AccountId) -> &'static str {
    NAMES.into_iter().find(|name| *name == account.as_str()).unwrap()
}

fn label_of(made: &Made) -> String {
    match made {
        Made::Message(message) => {
            let header = &message.header;
            format!("message {} {} {} seen {}", header.sender, header.epoch, header.n, header.seen_seq)
        }
        Made::Epoch(epoch) => label_of_epoch(epoch),
        Made::Change(new) => {
            let epoch = new.epoch.as_ref().map(label_of_epoch);
            format!(
                "change {} {} {:?} {epoch:?}",
                new.change.actor,
                new.change.version,
                new.change.change.name_for_tests()
            )
        }
    }
}

fn label_of_epoch(epoch: &NewEpoch) -> String {
    let announcement = &epoch.announcement;
    let lists: Vec<bool> = announcement
        .recipients
        .iter()
        .map(|recipient| recipient.list == testing::list_hash(recipient.account.as_str()))
        .collect();
    format!(
        "epoch {} by {} for {} seen {} {lists:?}",
        announcement.epoch, announcement.announcer, announcement.version, announcement.seen_seq
    )
}

trait NameForTests {
    fn name_for_tests(&self) -> String;
}

impl NameForTests for Change {
    fn name_for_tests(&self) -> String {
        match self {
            Self::Created { .. } => "created".to_owned(),
            Self::Added { members, .. } => {
                format!(
                    "added {:?}",
                    members.iter().map(|member| member.account.as_str()).collect::<Vec<_>>()
                )
            }
            Self::Removed { account } => format!("removed {account}"),
            Self::Left => "left".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

impl Cast {
    fn new() -> Self {
        let secrets: BTreeMap<_, _> = NAMES.into_iter().map(|name| (name, testing::secrets(name))).collect();
        let known = NAMES.into_iter().map(|name| {
            let first = KnownAccount::first_contact(testing::public(name)).unwrap();
            let mut second = first.clone();
            second
                .update(with_second_list(&Person::new(name, Room::empty(RoomId::from_bytes([0; 32])))))
                .unwrap();
            (name, [first, second])
        });
        Self {
            secrets,
            known: known.collect(),
            directories: BTreeMap::new().into(),
            numbers: 0.into(),
            readings: HashMap::new().into(),
        }
    }

    fn known(&self, name: &'static str, lists: &Lists) -> &KnownAccount {
        &self.known[name][usize::from(lists.contains(name))]
    }

    fn directory(&self, lists: &Lists) -> Rc<BTreeMap<AccountId, KnownAccount>> {
        let all = || NAMES.into_iter().map(|name| (account(name), self.known(name, lists).clone()));
        let mut directories = self.directories.borrow_mut();
        Rc::clone(directories.entry(lists.clone()).or_insert_with(|| Rc::new(all().collect())))
    }

    fn item(
        &self,
        item: LogItem,
        wraps: Vec<Wrap>,
        said: Option<(String, Vec<AccountId>)>,
        label: String,
    ) -> Rc<Item> {
        self.numbers.set(self.numbers.get() + 1);
        let wraps = wraps.into_iter().map(|wrap| (wrap.account.clone(), wrap)).collect();
        Rc::new(Item { number: self.numbers.get(), item, wraps, said, label })
    }

    /// Alice's group with Bob and Carol, which all have read.
    fn begin(&self, scripts: [&[Intent]; 3]) -> State {
        let names = ["alice", "bob", "carol"];
        let (log, room) = new_room(RoomKind::Group, &names[1..]);
        let LogItem::Entry { entry: LogEntry::Change(created), .. } = &log.items[0].0 else { panic!() };
        let membership = Membership::created(created).unwrap();
        let LogItem::Epoch { announcement, .. } = &log.items[1].0 else { panic!() };
        let epoch_hash = Some(announcement.hash());
        let items = log.items.iter().map(|(item, wraps)| {
            self.item(item.clone(), wraps.values().cloned().collect(), None, "begin".to_owned())
        });
        let mut state = State {
            log: items.collect(),
            end: LogPosition::START.then(&room, &created.hash()),
            membership,
            epoch: 1,
            epoch_hash,
            epoch_version: 1,
            last_n: BTreeMap::new(),
            lists: BTreeSet::new(),
            devices: BTreeMap::new(),
            used: HashSet::new(),
        };
        for (name, script) in names.into_iter().zip(scripts) {
            state.devices.insert(name, Device::new(name, script, Room::empty(room), 0));
            self.read(&mut state, name, 2);
        }
        state
    }

    /// A device reads up to `to`. What it refuses although it was in, or opens although it was not,
    /// is a fault.
    fn read(&self, state: &mut State, name: &'static str, to: usize) {
        let device = state.devices.get_mut(name).unwrap();
        let own = account(name);
        while device.read < to {
            let item = &state.log[device.read];
            let (mut reading, mut fresh) = (self.offer(device, item, false), false);
            if let Err(NotAccepted::NeedsKeys(_)) = reading.2 {
                device.lists.clone_from(&state.lists);
                fresh = true;
                reading = self.offer(device, item, fresh);
            }
            let (room, position, outcome) = reading;
            let before = Room::from_secret_bytes(&device.room).unwrap();
            let was_in = before.is_member(&own) || before.position() == before.start();
            if was_in {
                assert!(outcome.is_ok(), "{name} refuses {}: {outcome:?} (fresh: {fresh})", item.label);
            }
            match (&item.said, &outcome) {
                (Some((text, readers)), Ok(Accepted::Message(message))) => {
                    assert!(readers.contains(&own), "{name} opens {}, and was not in", item.label);
                    assert_eq!(message.content.body, Body::Text(text.clone()));
                    assert_eq!(message.missing, 0, "{}", item.label);
                }
                (Some((_, readers)), _) => {
                    assert!(!readers.contains(&own), "{name} cannot open {}", item.label)
                }
                _ => {}
            }
            if was_in {
                device.outcomes.push((item.number, format!("{outcome:?}")));
            }
            device.room = room;
            device.hashes.insert(position.seq, position.hash);
            device.read += 1;
        }
    }

    fn offer(&self, device: &Device, item: &Item, keys_are_fresh: bool) -> Reading {
        let key = (item.number, device.name, Rc::clone(&device.room), device.lists.clone());
        if !keys_are_fresh && let Some(known) = self.readings.borrow().get(&key) {
            return known.clone();
        }
        let mut room = Room::from_secret_bytes(&device.room).unwrap();
        let directory = self.directory(&device.lists);
        let secrets = &self.secrets[device.name];
        let reader =
            Reader { secrets, directory: &*directory, hashes: &device.hashes, keys_are_fresh, now: NOW };
        let mut read = item.item.clone();
        if let LogItem::Epoch { wrap, .. } = &mut read {
            *wrap = item.wraps.get(&account(device.name)).cloned().map(Box::new);
        }
        let outcome = room.accept(&read, &reader, &mut rng());
        let after = (Rc::new(room.to_secret_bytes().unwrap().to_vec()), room.position(), outcome);
        if !keys_are_fresh {
            self.readings.borrow_mut().insert(key, after.clone());
        }
        after
    }

    /// A device makes what it has in mind next.
    fn make(&self, state: &mut State, name: &'static str) {
        let newest = state.lists.clone();
        let device = state.devices.get_mut(name).unwrap();
        let Some(intent) = device.script.get(device.done).copied() else { return };
        if matches!(intent, Intent::NewList) {
            // Nothing to race with: the list is the account's own.
            state.lists.insert(name);
            device.lists.insert(name);
            device.done += 1;
            return;
        }
        let mut room = Room::from_secret_bytes(&device.room).unwrap();
        let secrets = &self.secrets[name];
        // Who announces asks for the newest lists before.
        let fresh = self.directory(&newest);
        let act = |room: &Room| match intent {
            Intent::Add(other) => room.add(&[account(other)], secrets, &*fresh, NOW, &mut rng()),
            Intent::Remove(other) => room.remove(&account(other), secrets, &*fresh, NOW, &mut rng()),
            _ => room.leave(secrets, &*fresh, NOW),
        };
        let announce = |room: &Room| {
            room.announce(secrets, &*fresh, NOW, &mut rng()).map(|new| Made::Epoch(Box::new(new)))
        };
        let made = match intent {
            Intent::Say => {
                let content = Content { sent_at: NOW, body: Body::Text(format!("{name} {}", device.done)) };
                let id = ClientMessageId::from_bytes([u8::try_from(device.done).unwrap(); 16]);
                let known = self.directory(&device.lists);
                match room.seal(&content, id, secrets, &*known, NOW, &mut rng()) {
                    Ok(message) => {
                        let header = &message.header;
                        let key = (header.sender_device, header.epoch, header.n);
                        assert!(state.used.insert(key), "{name} uses the key of {key:?} twice");
                        Ok(Made::Message(Box::new(message)))
                    }
                    Err(RoomError::EpochDue) => {
                        device.lists.clone_from(&newest);
                        announce(&room)
                    }
                    Err(error) => Err(error),
                }
            }
            Intent::Announce => {
                device.lists.clone_from(&newest);
                announce(&room)
            }
            _ => {
                device.lists.clone_from(&newest);
                act(&room).map(|new| Made::Change(Box::new(new)))
            }
        };
        match made {
            Ok(made) => device.made = Some(made),
            Err(RoomError::NotMember | RoomError::Change(_)) => device.done += 1,
            Err(error) => panic!("{name} cannot {intent:?}: {error}"),
        }
        device.room = Rc::new(room.to_secret_bytes().unwrap().to_vec());
    }

    /// The relay judges what a device has made. Who is refused reads on to the end.
    fn judge(&self, state: &mut State, name: &'static str) {
        let device = state.devices.get_mut(name).unwrap();
        let made = device.made.take().unwrap();
        let intent = device.script[device.done];
        let label = label_of(&made);
        let taken = match made {
            Made::Message(message) => state.take_message(self, *message, label),
            Made::Epoch(epoch) => state.take_epoch(self, *epoch, label, false),
            Made::Change(new) => state.take_change(self, *new, label),
        };
        // A message that waits for a key is still to be said.
        let said = state.log.last().unwrap().said.is_some();
        let done = match intent {
            Intent::Say => taken && said,
            Intent::Announce => true,
            _ => taken,
        };
        let end = state.log.len();
        state.devices.get_mut(name).unwrap().done += usize::from(done);
        if !taken || (intent == Intent::Say && !done) {
            self.read(state, name, end);
        }
    }

    /// In the end all have seen the same, nobody is blocked, and everybody can go on.
    fn check_end(&self, state: &State) {
        let mut state = state.clone();
        for round in 0..2 {
            let end = state.log.len();
            let names: Vec<&'static str> = state.devices.keys().copied().collect();
            for name in names {
                self.read(&mut state, name, end);
            }
            let mut seen: BTreeMap<usize, &String> = BTreeMap::new();
            for member in state.membership.members() {
                let device = &state.devices[member.account.as_str()];
                let room = Room::from_secret_bytes(&device.room).unwrap();
                assert_eq!(room.position(), state.end, "{}", device.name);
                assert_eq!(room.epoch(), state.epoch, "{}", device.name);
                assert_eq!(room.membership.as_ref(), Some(&state.membership), "{}", device.name);
                assert_eq!(room.blocked(), None, "{}", device.name);
            }
            for (number, outcome) in state.devices.values().flat_map(|device| &device.outcomes) {
                assert_eq!(*seen.entry(*number).or_insert(outcome), outcome);
            }
            if round == 0 {
                self.say_something(&mut state);
            }
        }
    }

    /// The first of the members says something, however many steps that takes.
    fn say_something(&self, state: &mut State) {
        let Some(name) = state.membership.members().next().map(|member| static_name(&member.account)) else {
            return;
        };
        let device = state.devices.get_mut(name).unwrap();
        device.script.push(Intent::Say);
        let target = device.script.len();
        for _ in 0..4 {
            if state.devices[name].done == target {
                return;
            }
            self.make(state, name);
            self.judge(state, name);
        }
        assert_eq!(state.devices[name].done, target, "{name} cannot say anything any more");
    }
}

impl Device {
    fn new(name: &'static str, script: &[Intent], room: Room, read: usize) -> Self {
        Self {
            name,
            script: script.to_vec(),
            done: 0,
            room: Rc::new(room.to_secret_bytes().unwrap().to_vec()),
            hashes: BTreeMap::new(),
            read,
            lists: BTreeSet::new(),
            made: None,
            outcomes: Vec::new(),
        }
    }

    /// How far its own chain has moved.
    fn own_n(&self) -> Option<u64> {
        let room = Room::from_secret_bytes(&self.room).unwrap();
        Some(room.epoch.as_ref()?.own.as_ref()?.n())
    }
}

/// The relay's rules, as crates/relay has them.
impl State {
    fn newest(&self, cast: &Cast, account: &AccountId) -> Hash {
        cast.known(static_name(account), &self.lists).newest().unwrap().hash()
    }

    fn log_hash(&self, seq: u64) -> Option<Hash> {
        let mut at = LogPosition::START;
        for item in &self.log {
            if at.seq == seq {
                break;
            }
            if let LogItem::Entry { entry, .. } = &item.item {
                at = at.then(&self.membership.room(), &entry.hash());
            }
        }
        (at.seq == seq).then_some(at.hash)
    }

    fn append(
        &mut self,
        cast: &Cast,
        entry: LogEntry,
        snapshot: Option<Snapshot>,
        said: Option<String>,
        label: String,
    ) {
        self.end = self.end.then(&self.membership.room(), &entry.hash());
        let said =
            said.map(|text| (text, self.membership.members().map(|member| member.account.clone()).collect()));
        let snapshot = snapshot.map(Box::new);
        let item = LogItem::Entry { seq: self.end.seq, stored_at: NOW, entry, snapshot };
        self.log.push(cast.item(item, Vec::new(), said, label));
    }

    fn take_message(&mut self, cast: &Cast, message: Message, label: String) -> bool {
        let header = &message.header;
        let key = (header.sender_device, header.epoch);
        let fits = self.membership.member(&header.sender).is_some()
            && self.newest(cast, &header.sender) == header.sender_list
            && header.epoch == self.epoch
            && header.version == self.membership.version()
            && header.head == self.membership.head()
            && self.epoch_version == header.version
            && self.last_n.get(&key).is_none_or(|last| header.n > *last);
        assert_eq!(self.log_hash(header.seen_seq), Some(header.seen_hash), "{label}: another log");
        if fits {
            self.last_n.insert(key, header.n);
            let device = &self.devices[header.sender.as_str()];
            let text = format!("{} {}", device.name, device.done);
            self.append(cast, LogEntry::Message(Box::new(message)), None, Some(text), label);
        }
        fits
    }

    fn take_epoch(&mut self, cast: &Cast, epoch: NewEpoch, label: String, joins: bool) -> bool {
        let announcement = &epoch.announcement;
        assert_eq!(
            self.log_hash(announcement.seen_seq),
            Some(announcement.seen_hash),
            "{label}: another log"
        );
        let recipients: Vec<(AccountId, Hash)> = self
            .membership
            .members()
            .map(|member| (member.account.clone(), self.newest(cast, &member.account)))
            .collect();
        let named =
            announcement.recipients.iter().map(|recipient| (recipient.account.clone(), recipient.list));
        let fits = announcement.epoch == self.epoch + 1
            && announcement.previous == self.epoch_hash
            && announcement.version == self.membership.version()
            && announcement.head == self.membership.head()
            && self.membership.member(&announcement.announcer).is_some()
            && recipients.into_iter().eq(named)
            // A joiner's log begins right before the change, which the adder must have seen.
            && (!joins || announcement.seen_seq + 1 == self.end.seq);
        if fits {
            assert_eq!(epoch.wraps.len(), self.membership.members().len(), "one wrap for each prekey");
            self.epoch += 1;
            self.epoch_hash = Some(announcement.hash());
            self.epoch_version = announcement.version;
            let item = LogItem::Epoch {
                after: self.end.seq,
                stored_at: NOW,
                announcement: Box::new(epoch.announcement),
                wrap: None,
                profile: epoch.profile,
            };
            self.log.push(cast.item(item, epoch.wraps, None, label));
        }
        fits
    }

    fn take_change(&mut self, cast: &Cast, new: NewChange, label: String) -> bool {
        let Ok(after) = self.membership.after(&new.change) else { return false };
        if self.newest(cast, &new.change.actor) != new.change.actor_list {
            return false;
        }
        let (before, start, at) = (self.clone(), self.end, self.log.len());
        let joined: Vec<&'static str> = after
            .members()
            .filter(|member| self.membership.member(&member.account).is_none())
            .map(|member| static_name(&member.account))
            .collect();
        self.membership = after;
        self.append(cast, LogEntry::Change(Box::new(new.change)), new.snapshot, None, label.clone());
        let taken = match new.epoch {
            Some(epoch) => self.take_epoch(cast, epoch, label, !joined.is_empty()),
            None => true,
        };
        if !taken {
            *self = before;
            return false;
        }
        for name in joined {
            let room = Room::joining(self.membership.room(), start);
            let old = self.devices.remove(name);
            // Who is new says something, too.
            let mut device = Device::new(name, &[Say], room, at);
            if let Some(old) = old {
                (device.script, device.done) = (old.script, old.done);
            }
            self.devices.insert(name, device);
        }
        true
    }

    /// What tells two moments apart, whatever the random bytes are.
    fn key(&self) -> String {
        let log: Vec<&str> = self.log.iter().map(|item| item.label.as_str()).collect();
        let devices: Vec<_> = self
            .devices
            .values()
            .map(|device| {
                let made = device.made.as_ref().map(label_of);
                (device.name, device.done, device.read, &device.lists, device.own_n(), made)
            })
            .collect();
        format!("{log:?} {:?} {devices:?}", self.lists)
    }
}

impl Cast {
    /// One step of a device: the relay's judgement of what it has made; or it reads up to `to` and
    /// makes what comes next. False if it has nothing more to do.
    fn step(&self, state: &mut State, name: &'static str, to: usize) -> bool {
        let device = &state.devices[name];
        // A script this short cannot need as many keys, unless it goes in circles.
        assert!(device.own_n() < Some(16), "{name} goes in circles");
        if device.made.is_some() {
            self.judge(state, name);
        } else if device.done < device.script.len() {
            self.read(state, name, to);
            self.make(state, name);
        } else {
            return false;
        }
        true
    }
}

/// Goes through all orders, and tells how many moments there were, and how many ends.
fn explore(scripts: [&[Intent]; 3]) -> (usize, usize) {
    let cast = Cast::new();
    let mut seen = HashSet::new();
    let mut ends = 0;
    let mut waiting = vec![cast.begin(scripts)];
    while let Some(state) = waiting.pop() {
        if !seen.insert(state.key()) {
            continue;
        }
        let before = waiting.len();
        for (name, device) in &state.devices {
            // It has read so far, or a little further, or all: what it makes is made of that.
            let most = if device.made.is_some() { device.read } else { state.log.len() };
            for to in device.read..=most {
                let mut next = state.clone();
                if cast.step(&mut next, name, to) {
                    waiting.push(next);
                }
            }
        }
        if waiting.len() == before {
            ends += 1;
            cast.check_end(&state);
        }
    }
    (seen.len(), ends)
}

fn all_orders(scripts: [&[Intent]; 3]) {
    let (moments, ends) = explore(scripts);
    println!("{moments} moments, {ends} ends");
    assert!(ends >= 3, "only {ends} ends: that is no race");
}

fn intents() -> impl Strategy<Value = Vec<Intent>> {
    let intent = prop_oneof![
        6 => Just(Say),
        2 => Just(Announce),
        1 => Just(NewList),
        1 => Just(Leave),
        2 => prop_oneof![Just("bob"), Just("carol"), Just("dave")].prop_map(Add),
        1 => prop_oneof![Just("bob"), Just("carol"), Just("dave")].prop_map(Remove),
    ];
    prop::collection::vec(intent, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    // REQ C2, C5, M2
    #[test]
    fn longer_scripts_in_random_orders_end_well(
        scripts in [intents(), intents(), intents()],
        steps in prop::collection::vec((0..NAMES.len(), 0_usize..5), 0..60),
    ) {
        let cast = Cast::new();
        let mut state = cast.begin([&scripts[0], &scripts[1], &scripts[2]]);
        for (who, further) in steps {
            if let Some(device) = state.devices.get(NAMES[who]) {
                let to = state.log.len().min(device.read + further);
                cast.step(&mut state, NAMES[who], to);
            }
        }
        // Then all come to their end.
        while NAMES.into_iter().any(|name| {
            let end = state.log.len();
            state.devices.contains_key(name) && cast.step(&mut state, name, end)
        }) {}
        cast.check_end(&state);
    }
}

// REQ C5, M2
#[test]
fn two_announcers_race_each_other_and_a_message_in_every_order() {
    all_orders([&[Announce, Say], &[Announce], &[Say]]);
}

// REQ C5, M2
#[test]
fn a_removal_races_an_announcement_and_a_message_in_every_order() {
    all_orders([&[Remove("carol")], &[Announce, Say], &[Say]]);
}

// REQ C5, M2
#[test]
fn a_leave_races_two_messages_in_every_order() {
    all_orders([&[Say], &[Say], &[Leave]]);
}

// REQ C2, C5
#[test]
fn an_invitation_races_a_leave_and_a_message_in_every_order() {
    all_orders([&[Add("dave")], &[Say], &[Leave]]);
}

// REQ C5
#[test]
fn a_new_device_list_races_an_announcement_and_a_message_in_every_order() {
    all_orders([&[Announce], &[NewList, Say], &[Say]]);
}
