//! Everybody does what comes to mind, and reads when it suits: in the end all have seen the same.

use mildam_records::Membership;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Deed {
    Say,
    Add(usize),
    Remove(usize),
    Leave,
    Announce,
    Read,
}

fn deeds() -> impl Strategy<Value = Vec<(usize, Deed)>> {
    let who = 0..NAMES.len();
    let deed = prop_oneof![
        5 => Just(Deed::Say),
        3 => who.clone().prop_map(Deed::Add),
        1 => who.clone().prop_map(Deed::Remove),
        1 => Just(Deed::Leave),
        1 => Just(Deed::Announce),
        4 => Just(Deed::Read),
    ];
    prop::collection::vec((who, deed), 1..24)
}

/// An honest relay: it takes what fits the end of the log, and what does not, its sender makes anew.
struct World {
    log: Log,
    membership: Membership,
    epoch: (u64, u64),
    end: LogPosition,
    people: BTreeMap<&'static str, Person>,
    /// What was said, at its place in the log, and who was in.
    said: BTreeMap<u64, (String, Vec<AccountId>)>,
}

impl World {
    fn new() -> Self {
        let (log, room) = new_room(RoomKind::Group, &["bob", "carol"]);
        let LogItem::Entry { entry: LogEntry::Change(created), .. } = &log.items[0].0 else { panic!() };
        let membership = Membership::created(created).unwrap();
        let people = ["alice", "bob", "carol"].map(|name| (name, Person::reading(name, &log, room)));
        let end = people[0].1.room.position();
        Self { log, membership, epoch: (1, 1), end, people: people.into(), said: BTreeMap::new() }
    }

    fn members(&self) -> Vec<AccountId> {
        self.membership.members().map(|member| member.account.clone()).collect()
    }

    fn push_entry(&mut self, entry: LogEntry, snapshot: Option<Snapshot>) {
        self.end = self.end.then(&self.membership.room(), &entry.hash());
        self.log.entry(entry, snapshot);
    }

    fn take_epoch(&mut self, epoch: NewEpoch) {
        let announcement = &epoch.announcement;
        let (number, version) = (announcement.epoch, announcement.version);
        if number == self.epoch.0 + 1 && version == self.membership.version() {
            self.epoch = (number, version);
            self.log.epoch(epoch);
        }
    }

    fn take_change(&mut self, new: NewChange) {
        let Ok(after) = self.membership.after(&new.change) else { return };
        let seen = new.epoch.as_ref().is_none_or(|epoch| {
            epoch.announcement.seen_seq == self.end.seq && epoch.announcement.epoch == self.epoch.0 + 1
        });
        if !seen {
            return;
        }
        let start = self.end;
        let at = self.log.items.len();
        if let Change::Added { members, .. } = &new.change.change {
            for member in members {
                let name = NAMES.into_iter().find(|name| *name == member.account.as_str()).unwrap();
                let mut joiner = Person::new(name, Room::joining(after.room(), start));
                joiner.read = at;
                self.people.insert(name, joiner);
            }
        }
        self.membership = after;
        self.push_entry(LogEntry::Change(Box::new(new.change)), new.snapshot);
        if let Some(epoch) = new.epoch {
            self.take_epoch(epoch);
        }
    }

    fn say(&mut self, name: &str, text: &str) {
        let person = self.people.get_mut(name).unwrap();
        match person.seal(text) {
            Ok(message) => {
                let (epoch, version) = (message.header.epoch, message.header.version);
                if (epoch, version) == self.epoch && version == self.membership.version() {
                    self.push_entry(LogEntry::Message(Box::new(message)), None);
                    self.said.insert(self.end.seq, (text.to_owned(), self.members()));
                }
            }
            Err(RoomError::EpochDue) => {
                let epoch = person.announce();
                self.take_epoch(epoch);
            }
            Err(error) => assert_eq!(error, RoomError::NotMember),
        }
    }

    fn act(&mut self, name: &'static str, deed: Deed, text: &str) -> Result<(), TestCaseError> {
        let Some(person) = self.people.get(name) else { return Ok(()) };
        let own = account(name);
        let inside = person.room.is_member(&own);
        match deed {
            Deed::Say if inside => self.say(name, text),
            Deed::Announce if inside => self.take_epoch(person.announce()),
            Deed::Add(other) => person.add(NAMES[other]).into_iter().for_each(|new| self.take_change(new)),
            Deed::Remove(other) => {
                person.remove(NAMES[other]).into_iter().for_each(|new| self.take_change(new))
            }
            Deed::Leave => person.leave().into_iter().for_each(|new| self.take_change(new)),
            Deed::Read => self.read(name)?,
            Deed::Say | Deed::Announce => (),
        }
        Ok(())
    }

    fn read(&mut self, name: &str) -> Result<(), TestCaseError> {
        let Some(person) = self.people.get_mut(name) else { return Ok(()) };
        let own = account(name);
        while person.read < self.log.items.len() {
            let was_in = person.room.is_member(&own);
            let item = self.log.for_reader(person.read, &own);
            let joining = person.room.position() == person.room.start();
            person.read += 1;
            let outcome = person.take(&item);
            match (&item, outcome) {
                (LogItem::Entry { seq, .. }, Ok(Accepted::Message(message))) => {
                    let (text, readers) = &self.said[seq];
                    prop_assert!(readers.contains(&own));
                    prop_assert_eq!(message.content.body, Body::Text(text.clone()));
                }
                (_, Ok(_)) => (),
                (_, Err(error)) => {
                    prop_assert!(!was_in && !joining, "{} was in, and refused: {:?}", name, error);
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    // REQ C2, C5, M2
    #[test]
    fn all_members_come_to_the_same(deeds in deeds()) {
        let mut world = World::new();
        for (at, (who, deed)) in deeds.into_iter().enumerate() {
            world.act(NAMES[who], deed, &format!("말 {at}"))?;
        }
        for name in NAMES {
            world.read(name)?;
        }
        for member in world.members() {
            let room = &world.people[member.as_str()].room;
            prop_assert_eq!(room.position(), world.end);
            prop_assert_eq!(room.epoch(), world.epoch.0);
            prop_assert_eq!(room.membership.as_ref(), Some(&world.membership));
            prop_assert_eq!(room.blocked(), None);
        }
    }
}
