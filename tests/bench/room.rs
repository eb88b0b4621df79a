//! What happens in a room, on one core.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mildam_e2ee::records::keys::Signature;
use mildam_e2ee::records::{Change, ClientMessageId, LogEntry, LogItem, Role, RoomChange, RoomKind, Wrap};
use mildam_e2ee::{Accepted, Body, Content, NewRoom, Reader, Room};

use crate::people::{Crowd, NOW, Person, rng};
use crate::primitives::Primitives;
use crate::table::{Aim, Figure, time};

/// The devices of the largest room, and the changes of the longest chain.
const LARGE: usize = 1_000;
const CHANGES: u64 = 1_000;
/// Members while the chain is replayed.
const REPLAYED: usize = 100;
const TEXT: &str = "냉면 좋지. See you at noon, in front of the station!";

/// A room of the first people of a crowd: what its first member has made.
struct Scene<'a> {
    crowd: &'a Crowd,
    new: NewRoom,
}

impl<'a> Scene<'a> {
    fn new(crowd: &'a Crowd, size: usize) -> Result<Self> {
        let (owner, others) =
            crowd.people.get(..size).and_then(<[Person]>::split_first).context("too few people")?;
        let others: Vec<_> = others.iter().map(|person| person.secrets.account().clone()).collect();
        let (secrets, directory) = (&owner.secrets, &crowd.directory);
        let new = Room::create(RoomKind::Group, &others, None, secrets, directory, NOW, &mut rng())?;
        Ok(Self { crowd, new })
    }

    fn person(&self, number: usize) -> Result<&Person> {
        self.crowd.people.get(number).context("no such person")
    }

    fn created(&self) -> LogItem {
        entry(1, LogEntry::Change(Box::new(self.new.change.clone())))
    }

    fn epoch_for(&self, reader: &Person) -> LogItem {
        let wrap: Option<&Wrap> =
            self.new.epoch.wraps.iter().find(|wrap| wrap.device == reader.secrets.device());
        LogItem::Epoch {
            after: 1,
            stored_at: NOW,
            announcement: Box::new(self.new.epoch.announcement.clone()),
            wrap: wrap.cloned().map(Box::new),
            profile: None,
        }
    }

    fn accept(&self, room: &mut Room, item: &LogItem, reader: &Person) -> Result<Accepted> {
        let hashes = BTreeMap::new();
        let reader = Reader {
            secrets: &reader.secrets,
            directory: &self.crowd.directory,
            hashes: &hashes,
            keys_are_fresh: false,
            now: 0,
        };
        Ok(room.accept(item, &reader, &mut rng())?)
    }

    /// The room as somebody has it who has read it up to its first epoch.
    fn read_by(&self, reader: &Person) -> Result<Room> {
        let mut room = Room::empty(self.new.room);
        self.accept(&mut room, &self.created(), reader)?;
        self.accept(&mut room, &self.epoch_for(reader), reader)?;
        Ok(room)
    }

    fn announce(&self) -> Result<Duration> {
        let owner = self.person(0)?;
        let room = self.read_by(owner)?;
        time(|| Ok(()), |()| Ok(room.announce(&owner.secrets, &self.crowd.directory, NOW, &mut rng())?))
    }

    fn take(&self) -> Result<Duration> {
        let reader = self.person(1)?;
        let mut before = Room::empty(self.new.room);
        self.accept(&mut before, &self.created(), reader)?;
        let (state, item) = (before.to_secret_bytes()?, self.epoch_for(reader));
        time(
            || Ok(Room::from_secret_bytes(&state)?),
            |mut room| Ok((self.accept(&mut room, &item, reader)?, room)),
        )
    }

    fn seal(&self) -> Result<Duration> {
        let sender = self.person(0)?;
        let state = self.read_by(sender)?.to_secret_bytes()?;
        time(|| Ok(Room::from_secret_bytes(&state)?), |mut room| Ok((self.say(&mut room, sender)?, room)))
    }

    fn say(&self, room: &mut Room, sender: &Person) -> Result<LogItem> {
        let content = Content { sent_at: NOW, body: Body::Text(TEXT.to_owned()) };
        let (id, directory) = (ClientMessageId::from_bytes([1; 16]), &self.crowd.directory);
        let message = room.seal(&content, id, &sender.secrets, directory, NOW, &mut rng())?;
        Ok(entry(2, LogEntry::Message(Box::new(message))))
    }

    fn open(&self) -> Result<Duration> {
        let (sender, reader) = (self.person(0)?, self.person(1)?);
        let item = self.say(&mut self.read_by(sender)?, sender)?;
        let state = self.read_by(reader)?.to_secret_bytes()?;
        time(
            || Ok(Room::from_secret_bytes(&state)?),
            |mut room| match self.accept(&mut room, &item, reader)? {
                Accepted::Message(message) => Ok((message, room)),
                other => bail!("not a message: {other:?}"),
            },
        )
    }

    /// The changes of a room in which the owner gives and takes roles.
    fn changes(&self) -> Result<Vec<LogItem>> {
        let owner = self.person(0)?;
        let list = self.crowd.directory.get(owner.secrets.account()).and_then(|known| known.newest());
        let list = list.context("the owner has a list")?.hash();
        let mut head = self.new.change.hash();
        let mut items = vec![self.created()];
        for version in 2..=CHANGES {
            let member = self.person(1 + usize::try_from(version)? % (REPLAYED - 1))?;
            let role = if version % 2 == 0 { Role::Admin } else { Role::Member };
            let mut change = RoomChange {
                room: Some(self.new.room),
                version,
                previous: Some(head),
                actor: owner.secrets.account().clone(),
                actor_device: owner.secrets.device(),
                actor_list: list,
                at: NOW,
                change: Change::Role { account: member.secrets.account().clone(), role },
                signature: Signature::from_bytes([0; 64]),
            };
            change.signature = owner.sign(&change.signed_bytes());
            head = change.hash();
            items.push(entry(version, LogEntry::Change(Box::new(change))));
        }
        Ok(items)
    }

    fn replay(&self) -> Result<Duration> {
        let (reader, items) = (self.person(1)?, self.changes()?);
        time(
            || Ok(Room::empty(self.new.room)),
            |mut room| {
                for item in &items {
                    self.accept(&mut room, item, reader)?;
                }
                Ok(room)
            },
        )
    }
}

fn entry(seq: u64, entry: LogEntry) -> LogItem {
    LogItem::Entry { seq, stored_at: NOW, entry, snapshot: None }
}

/// Everything that happens in rooms.
pub fn figures(bare: &Primitives) -> Result<Vec<Figure>> {
    eprintln!("Making {LARGE} accounts …");
    let crowd = Crowd::new(LARGE)?;
    eprintln!("Measuring rooms …");
    let mut figures = Vec::new();
    for size in [2, LARGE] {
        let scene = Scene::new(&crowd, size)?;
        figures.push(Figure {
            what: format!("seal a message, {size} devices"),
            time: scene.seal()?,
            primitives: Some(("AES-GCM, Ed25519".to_owned(), bare.gcm_seal + bare.sign)),
            aim: Aim::Ratio(1.5),
        });
        figures.push(Figure {
            what: format!("open a message, {size} devices"),
            time: scene.open()?,
            primitives: Some(("AES-GCM, Ed25519".to_owned(), bare.gcm_open + bare.verify)),
            aim: Aim::Ratio(1.5),
        });
    }
    let second = Aim::Time(Duration::from_millis(300));
    for size in [10, 100, LARGE] {
        let each = bare.rsa_encrypt + bare.encapsulate;
        let wraps = each * u32::try_from(size)?;
        figures.push(Figure {
            what: format!("make an epoch, {size} devices"),
            time: Scene::new(&crowd, size)?.announce()?,
            primitives: Some((format!("{size} x (RSA, X-Wing), Ed25519"), wraps + bare.sign)),
            aim: if size == LARGE { second } else { Aim::None },
        });
    }
    figures.push(Figure {
        what: format!("take an epoch, {LARGE} devices"),
        time: Scene::new(&crowd, LARGE)?.take()?,
        primitives: Some((
            "RSA, X-Wing, Ed25519".to_owned(),
            bare.rsa_decrypt + bare.decapsulate + bare.verify,
        )),
        aim: second,
    });
    figures.push(Figure {
        what: format!("replay {CHANGES} changes, {REPLAYED} members"),
        time: Scene::new(&crowd, REPLAYED)?.replay()?,
        primitives: Some((format!("{CHANGES} x Ed25519"), bare.verify * u32::try_from(CHANGES)?)),
        aim: Aim::None,
    });
    Ok(figures)
}
