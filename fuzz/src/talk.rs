//! Four people, one room, and a relay that keeps its rules but delivers as the schedule says. What
//! somebody makes is judged against the log as it is by then; who is refused reads on and makes it
//! anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use mildam_e2ee::{
    Accepted, Body, Content, KnownAccount, NewChange, NewEpoch, NotAccepted, Reader, Room, RoomError,
    RoomProfile,
};
use mildam_records::{
    AccountId, ClientMessageId, DeviceId, Hash, LogEntry, LogItem, LogPosition, Membership, Message,
    RoomKind, Snapshot, Wrap,
};

use crate::{NOW, Person, rng};

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// Who makes the room, and who is in it at first besides.
const FOUNDERS: [usize; 2] = [1, 2];

/// What stays the same in all conversations.
struct Cast {
    people: [Person; 4],
    directory: BTreeMap<AccountId, KnownAccount>,
}

static CAST: LazyLock<Cast> = LazyLock::new(|| {
    let people = NAMES.map(Person::new);
    let known = |person: &Person| (person.secrets.account().clone(), person.known.clone());
    Cast { directory: people.iter().map(known).collect(), people }
});

impl Cast {
    fn account(&self, who: usize) -> &AccountId {
        self.people[who].secrets.account()
    }
}

/// What was made, and waits for the relay's judgement.
enum Made {
    /// A message, and what it says.
    Message(Box<Message>, String),
    Epoch(Box<NewEpoch>),
    Change(Box<NewChange>),
}

/// A device that is or was in the room.
struct Device {
    /// Its room, as it lies in a vault.
    state: Vec<u8>,
    hashes: BTreeMap<u64, Hash>,
    /// How many items it has read.
    read: usize,
    made: Option<Made>,
}

/// An item, the wraps of all, and, for a message, what it says.
struct Item {
    item: LogItem,
    wraps: BTreeMap<AccountId, Wrap>,
    said: Option<String>,
}

/// The relay with everybody around it.
pub struct Talk {
    items: Vec<Item>,
    end: LogPosition,
    membership: Membership,
    epoch: u64,
    epoch_hash: Option<Hash>,
    epoch_version: u64,
    last_n: BTreeMap<(DeviceId, u64), u64>,
    devices: BTreeMap<usize, Device>,
    /// All message keys that ever sealed something.
    used: BTreeSet<(DeviceId, u64, u64)>,
    said: u64,
}

impl Talk {
    /// Alice has made a group with Bob and Carol. Nobody has read anything yet.
    pub fn begin() -> Self {
        let cast = &*CAST;
        let secrets = &cast.people[0].secrets;
        let others = FOUNDERS.map(|who| cast.account(who).clone());
        let profile = RoomProfile { name: "우리집".to_owned(), ..RoomProfile::default() };
        let made =
            Room::create(RoomKind::Group, &others, Some(&profile), secrets, &cast.directory, NOW, &mut rng());
        let made = made.expect("a room");
        let mut talk = Self {
            items: Vec::new(),
            end: LogPosition::START,
            membership: Membership::created(&made.change).expect("a room begins"),
            epoch: 0,
            epoch_hash: None,
            epoch_version: 0,
            last_n: BTreeMap::new(),
            devices: BTreeMap::new(),
            used: BTreeSet::new(),
            said: 0,
        };
        talk.append(LogEntry::Change(Box::new(made.change)), None, None);
        assert!(talk.take_epoch(made.epoch, false), "the first epoch fits");
        for who in [0].into_iter().chain(FOUNDERS) {
            talk.devices.insert(who, Device::new(&Room::empty(talk.membership.room()), 0));
        }
        talk
    }

    /// One step: two bits say who, three say what, three say how far.
    pub fn step(&mut self, byte: u8) {
        let (who, what, far) = (usize::from(byte & 3), byte >> 2 & 7, usize::from(byte >> 5));
        let Some(device) = self.devices.get(&who) else { return };
        let to = self.items.len().min(device.read + far);
        let other = (who + 1 + far % 3) % NAMES.len();
        match what {
            0 => self.read(who, to),
            1 => self.judge(who),
            2 => self.announce(who),
            3 => self.change(who, |room, cast, secrets| {
                room.add(&[cast.account(other).clone()], secrets, &cast.directory, NOW, &mut rng())
            }),
            4 => self.change(who, |room, cast, secrets| {
                room.remove(cast.account(other), secrets, &cast.directory, NOW, &mut rng())
            }),
            5 if far == 0 => {
                self.change(who, |room, cast, secrets| room.leave(secrets, &cast.directory, NOW));
            }
            6 => self.meddle(who, far),
            _ => self.say(who),
        }
    }

    /// Everybody reads to the end. All members see the same, and can go on.
    pub fn end(mut self) {
        for who in 0..NAMES.len() {
            self.judge(who);
        }
        for _ in 0..2 {
            let to = self.items.len();
            for who in self.devices.keys().copied().collect::<Vec<_>>() {
                self.read(who, to);
            }
            let names: Vec<&AccountId> = self.membership.members().map(|member| &member.account).collect();
            for who in (0..NAMES.len()).filter(|who| names.contains(&CAST.account(*who))) {
                let room = self.devices[&who].room();
                assert_eq!((room.position(), room.epoch()), (self.end, self.epoch), "{}", NAMES[who]);
                assert!(room.members().eq(self.membership.members()), "{}", NAMES[who]);
                assert_eq!(room.blocked(), None, "{}", NAMES[who]);
            }
            let first = (0..NAMES.len()).find(|who| names.contains(&CAST.account(*who)));
            let Some(first) = first else { return };
            let (before, mut tries) = (self.said, 0);
            while self.said == before {
                tries += 1;
                assert!(tries < 4, "{} cannot say anything any more", NAMES[first]);
                self.say(first);
                self.judge(first);
                self.read(first, self.items.len());
            }
        }
    }

    fn read(&mut self, who: usize, to: usize) {
        let cast = &*CAST;
        let Some(device) = self.devices.get_mut(&who) else { return };
        while device.read < to {
            let item = &self.items[device.read];
            device.read += 1;
            let left = !device.room().members().any(|member| member.account == *cast.account(who));
            let outcome = device.offer(who, &item.for_reader(cast.account(who)));
            match (outcome, &item.said) {
                (Ok(Accepted::Message(message)), Some(said)) => {
                    assert_eq!(message.content.body, Body::Text(said.clone()));
                    assert_eq!((message.missing, message.unknown_own), (0, false));
                }
                (Ok(Accepted::Message(_)), None) => panic!("nobody said that"),
                (Ok(_), None) => {}
                // Who was put out reads nothing any more; nobody but a test would show it.
                (_, _) if left && device.read > 1 => return,
                (outcome, said) => panic!("{} reads {said:?}: {outcome:?}", NAMES[who]),
            }
        }
    }

    /// Seals a text, or announces an epoch if one is due.
    fn say(&mut self, who: usize) {
        let (cast, count) = (&*CAST, self.used.len());
        let Some(device) = self.devices.get_mut(&who).filter(|device| device.made.is_none()) else { return };
        let (mut room, secrets) = (device.room(), &cast.people[who].secrets);
        let text = format!("{} {count}", NAMES[who]);
        let content = Content { sent_at: NOW, body: Body::Text(text.clone()) };
        let id = ClientMessageId::from_bytes([who as u8; 16]);
        match room.seal(&content, id, secrets, &cast.directory, NOW, &mut rng()) {
            Ok(message) => {
                let header = &message.header;
                let key = (header.sender_device, header.epoch, header.n);
                assert!(self.used.insert(key), "{} uses the key of {key:?} twice", NAMES[who]);
                device.made = Some(Made::Message(Box::new(message), text));
                device.keep(&room);
            }
            Err(RoomError::EpochDue) => self.announce(who),
            Err(RoomError::NotMember) => {}
            Err(error) => panic!("{} cannot say anything: {error}", NAMES[who]),
        }
    }

    fn announce(&mut self, who: usize) {
        let cast = &*CAST;
        let Some(device) = self.devices.get_mut(&who).filter(|device| device.made.is_none()) else { return };
        match device.room().announce(&cast.people[who].secrets, &cast.directory, NOW, &mut rng()) {
            Ok(epoch) => device.made = Some(Made::Epoch(Box::new(epoch))),
            Err(RoomError::NotMember) => {}
            Err(error) => panic!("{} cannot announce: {error}", NAMES[who]),
        }
    }

    fn change(
        &mut self,
        who: usize,
        make: impl FnOnce(&Room, &Cast, &mildam_e2ee::DeviceSecrets) -> Result<NewChange, RoomError>,
    ) {
        let cast = &*CAST;
        let Some(device) = self.devices.get_mut(&who).filter(|device| device.made.is_none()) else { return };
        match make(&device.room(), cast, &cast.people[who].secrets) {
            Ok(change) => device.made = Some(Made::Change(Box::new(change))),
            Err(RoomError::NotMember | RoomError::Change(_)) => {}
            Err(error) => panic!("{} cannot change the room: {error}", NAMES[who]),
        }
    }

    /// The relay judges what somebody has made. Who is refused reads to the end.
    fn judge(&mut self, who: usize) {
        let Some(made) = self.devices.get_mut(&who).and_then(|device| device.made.take()) else { return };
        let taken = match made {
            Made::Message(message, text) => self.take_message(*message, text),
            Made::Epoch(epoch) => self.take_epoch(*epoch, false),
            Made::Change(change) => self.take_change(*change),
        };
        if !taken {
            self.read(who, self.items.len());
        }
    }

    /// The relay shows an item out of its turn, or altered. No state comes of it that could not be
    /// read, and what is out of turn changes nothing.
    fn meddle(&self, who: usize, far: usize) {
        let device = &self.devices[&who];
        let Some(item) = self.items.get(device.read + far) else { return };
        let mut item = item.for_reader(CAST.account(who));
        let state = |device: &Device| device.state.clone();
        let mut victim = Device { state: state(device), hashes: device.hashes.clone(), read: 0, made: None };
        if far > 0 {
            let entry = matches!(item, LogItem::Entry { .. });
            let outcome = victim.offer(who, &item);
            let next = self.items[device.read..device.read + far]
                .iter()
                .all(|passed| matches!(passed.item, LogItem::Epoch { .. }));
            if entry && !next {
                assert_eq!(outcome, Err(NotAccepted::OutOfOrder));
                assert_eq!(victim.state, state(device));
            }
            return;
        }
        match &mut item {
            LogItem::Entry { entry: LogEntry::Message(message), .. } => message.header.n ^= 1,
            LogItem::Entry { entry: LogEntry::Change(change), .. } => change.at ^= 1,
            LogItem::Epoch { announcement, .. } => announcement.seen_seq ^= 1,
            LogItem::Entry { entry: LogEntry::Withheld(_), .. } => return,
        }
        assert!(victim.offer(who, &item).is_err(), "{} takes what nobody signed", NAMES[who]);
    }

    fn append(&mut self, entry: LogEntry, snapshot: Option<Snapshot>, said: Option<String>) {
        self.end = self.end.then(&self.membership.room(), &entry.hash());
        let snapshot = snapshot.map(Box::new);
        let item = LogItem::Entry { seq: self.end.seq, stored_at: NOW, entry, snapshot };
        self.items.push(Item { item, wraps: BTreeMap::new(), said });
    }

    fn take_message(&mut self, message: Message, text: String) -> bool {
        let header = &message.header;
        let key = (header.sender_device, header.epoch);
        let fits = self.membership.member(&header.sender).is_some()
            && header.epoch == self.epoch
            && header.version == self.membership.version()
            && header.head == self.membership.head()
            && self.epoch_version == header.version
            && self.last_n.get(&key).is_none_or(|last| header.n > *last);
        // A number that was left out was sealed and refused: its key is gone.
        let whole = self.last_n.get(&key).map_or(0, |last| last + 1) == header.n;
        if fits {
            assert!(whole, "a refused message is sealed anew in another epoch");
            self.last_n.insert(key, header.n);
            self.said += 1;
            self.append(LogEntry::Message(Box::new(message)), None, Some(text));
        }
        fits
    }

    fn take_epoch(&mut self, epoch: NewEpoch, joins: bool) -> bool {
        let announcement = &epoch.announcement;
        let members = self.membership.members().map(|member| &member.account);
        let fits = announcement.epoch == self.epoch + 1
            && announcement.previous == self.epoch_hash
            && announcement.version == self.membership.version()
            && announcement.head == self.membership.head()
            && self.membership.member(&announcement.announcer).is_some()
            && members.eq(announcement.recipients.iter().map(|recipient| &recipient.account))
            // A joiner's log begins right before the change, which the adder must have seen.
            && (!joins || announcement.seen_seq + 1 == self.end.seq);
        if fits {
            (self.epoch, self.epoch_version) = (announcement.epoch, announcement.version);
            self.epoch_hash = Some(announcement.hash());
            let item = LogItem::Epoch {
                after: self.end.seq,
                stored_at: NOW,
                announcement: Box::new(epoch.announcement),
                wrap: None,
                profile: epoch.profile,
            };
            let wraps = epoch.wraps.into_iter().map(|wrap| (wrap.account.clone(), wrap)).collect();
            self.items.push(Item { item, wraps, said: None });
        }
        fits
    }

    fn take_change(&mut self, new: NewChange) -> bool {
        let Ok(after) = self.membership.after(&new.change) else { return false };
        let before = (self.membership.clone(), self.end, self.items.len());
        let comes = |who: &usize| {
            let account = CAST.account(*who);
            after.member(account).is_some() && self.membership.member(account).is_none()
        };
        let joined: Vec<usize> = (0..NAMES.len()).filter(comes).collect();
        self.membership = after;
        self.append(LogEntry::Change(Box::new(new.change)), new.snapshot, None);
        let taken = new.epoch.is_none_or(|epoch| self.take_epoch(epoch, !joined.is_empty()));
        if !taken {
            self.items.truncate(before.2);
            (self.membership, self.end) = (before.0, before.1);
            return false;
        }
        for who in joined {
            let room = Room::joining(self.membership.room(), before.1);
            self.devices.insert(who, Device::new(&room, before.2));
        }
        true
    }
}

impl Item {
    /// The item as a member gets it: with its own wrap.
    fn for_reader(&self, reader: &AccountId) -> LogItem {
        let mut item = self.item.clone();
        if let LogItem::Epoch { wrap, .. } = &mut item {
            *wrap = self.wraps.get(reader).cloned().map(Box::new);
        }
        item
    }
}

impl Device {
    fn new(room: &Room, read: usize) -> Self {
        let mut device = Self { state: Vec::new(), hashes: BTreeMap::new(), read, made: None };
        device.keep(room);
        device
    }

    fn room(&self) -> Room {
        Room::from_secret_bytes(&self.state).expect("every state can be read")
    }

    fn keep(&mut self, room: &Room) {
        self.state = room.to_secret_bytes().expect("every state can be written").to_vec();
    }

    fn offer(&mut self, who: usize, item: &LogItem) -> Result<Accepted, NotAccepted> {
        let mut room = self.room();
        let reader = Reader {
            secrets: &CAST.people[who].secrets,
            directory: &CAST.directory,
            hashes: &self.hashes,
            keys_are_fresh: true,
            now: NOW,
        };
        let outcome = room.accept(item, &reader, &mut rng());
        self.hashes.insert(room.position().seq, room.position().hash);
        self.keep(&room);
        outcome
    }
}
