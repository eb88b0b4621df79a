//! Accounts and rooms for the generator, made once by requests as clients make them, and kept together with
//! the folder of the relay that knows them. Every measurement works on a copy.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mildam_e2ee::records::bytes::Bytes;
use mildam_e2ee::records::{AccountId, AccountKeys, DevicePublicKey, LogEntry, LogItem, RoomKind};
use mildam_e2ee::{
    DeviceKey, DeviceSecrets, IdentityKey, KnownAccount, PreKey, RecoveryWords, Room, WrapKey,
    first_device_list,
};
use mildam_protocol::command::{
    FriendAccept, FriendRequest, NewEpoch, RoomCreate, SessionId, SignUp, SignUpStart,
};
use mildam_protocol::password::Registration;
use serde::{Deserialize, Serialize};

use super::connection::{Connection, Target};
use super::now;
use super::process::Serving;
use super::speaker::{Directory, Speaker};
use crate::people::{rng, rsa};

/// Pairs that talk: the first speaks, the second listens.
pub const PAIRS: usize = 50;
/// Members of the room in which the first account speaks: the people of the pairs.
pub const GROUP: usize = 100;
/// Who is hostile. It owns a room with everybody but the first pair.
pub const HOSTILE: usize = 2;
/// Members of that room.
pub const CROWD: usize = 200;
/// Sessions and prekeys last for weeks. These are made anew long before.
const FRESH: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// An account as its device has it.
#[derive(Serialize, Deserialize)]
struct Kept {
    secrets: Bytes,
    session: SessionId,
    keys: AccountKeys,
}

/// All accounts, and the rooms as those have them who speak there.
#[derive(Serialize, Deserialize)]
pub struct Fixtures {
    accounts: Vec<Kept>,
    pairs: Vec<Bytes>,
    group: Bytes,
    crowd: Bytes,
}

/// The folder of the relay.
pub fn data(home: &Path) -> PathBuf {
    home.join("kept")
}

/// Where an account connects from: a network of its own, as people have.
fn address(number: usize) -> Result<Ipv4Addr> {
    let number = u8::try_from(number / 250).ok().zip(u8::try_from(number % 250).ok());
    let (high, low) = number.context("too many addresses")?;
    Ok(Ipv4Addr::new(127, high.saturating_add(1), low, 1))
}

impl Fixtures {
    /// Those in this folder, made under this configuration if there are none, or only old ones.
    pub async fn of(home: &Path, config: &Path) -> Result<Self> {
        let file = home.join("accounts.json");
        let age = fs::metadata(&file).and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < FRESH) {
            return serde_json::from_slice(&fs::read(&file)?)
                .with_context(|| format!("{} is of another version: delete it", file.display()));
        }
        eprintln!("Making accounts in {} …", home.display());
        let data = data(home);
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        let relay = Serving::start(&data, Some(config))?;
        let made = Making::new(Target::new(relay.tls, relay.link.clone())?).await?.finish().await?;
        relay.stop()?;
        // It is there only when all else is.
        fs::write(&file, serde_json::to_vec(&made)?)?;
        Ok(made)
    }

    /// Everybody's keys.
    pub fn directory(&self) -> Result<Directory> {
        let known = |kept: &Kept| {
            let known = KnownAccount::first_contact(kept.keys.clone())?;
            anyhow::Ok((kept.keys.account.clone(), known))
        };
        Ok(Arc::new(self.accounts.iter().map(known).collect::<Result<BTreeMap<_, _>>>()?))
    }

    fn kept(&self, account: usize) -> Result<&Kept> {
        self.accounts.get(account).context("no such account")
    }

    /// The secrets of an account's device, as bytes.
    pub fn secret_bytes(&self, account: usize) -> Result<&Bytes> {
        Ok(&self.kept(account)?.secrets)
    }

    /// What makes a connection belong to an account.
    pub fn attaching(&self, account: usize) -> Result<Attaching> {
        let kept = self.kept(account)?;
        let secrets = DeviceSecrets::from_secret_bytes(&kept.secrets)?;
        Ok(Attaching { secrets, session: kept.session.clone(), from: address(account)? })
    }

    /// A connection that belongs to an account.
    pub async fn connect(&self, target: &Target, account: usize) -> Result<Connection> {
        self.attaching(account)?.connect(target).await
    }

    fn speaker(&self, account: usize, room: &Bytes, directory: &Directory) -> Result<Speaker> {
        Ok(Speaker {
            secrets: DeviceSecrets::from_secret_bytes(&self.kept(account)?.secrets)?,
            directory: Arc::clone(directory),
            room: Room::from_secret_bytes(room)?,
        })
    }

    /// Who speaks in a pair: account `2 * pair`. The one after it listens.
    pub fn of_pair(&self, pair: usize, directory: &Directory) -> Result<Speaker> {
        self.speaker(2 * pair, self.pairs.get(pair).context("no such pair")?, directory)
    }

    /// Who speaks in the room of many: the first account.
    pub fn of_group(&self, directory: &Directory) -> Result<Speaker> {
        self.speaker(0, &self.group, directory)
    }

    /// The owner of the largest room: [`HOSTILE`].
    pub fn of_crowd(&self, directory: &Directory) -> Result<Speaker> {
        self.speaker(HOSTILE, &self.crowd, directory)
    }
}

/// A device that is about to connect.
pub struct Attaching {
    secrets: DeviceSecrets,
    session: SessionId,
    from: Ipv4Addr,
}

impl Attaching {
    pub async fn connect(self, target: &Target) -> Result<Connection> {
        let mut connection = target.connect(self.from).await?;
        connection.attach(self.session, &self.secrets).await?;
        Ok(connection)
    }
}

/// What all accounts have in common, because it takes time to make and nobody will use it: only the keys of
/// devices are everybody's own.
struct Common {
    identity: IdentityKey,
    wrap: Vec<u8>,
    password: Option<Bytes>,
    recovery: Option<(Bytes, DevicePublicKey)>,
}

impl Common {
    fn new() -> Result<Self> {
        let identity = IdentityKey::from_pkcs8(&rsa("identity")?)?;
        Ok(Self { identity, wrap: rsa("wrap")?, password: None, recovery: None })
    }

    /// What the relay keeps of a password: of the first account's.
    async fn password(&mut self, account: &AccountId, connection: &mut Connection) -> Result<Bytes> {
        if let Some(made) = &self.password {
            return Ok(made.clone());
        }
        let (registration, request) = Registration::start("correct horse battery", &mut rng())?;
        let start = SignUpStart { account: account.clone(), password: request };
        let response = connection.ask(&start).await?.password;
        let made = registration.finish(account, &response, &mut rng())?;
        Ok(self.password.insert(made).clone())
    }

    /// The identity key under the first account's words, and what proves that these are known.
    fn recovery(&mut self, account: &AccountId) -> Result<(Bytes, DevicePublicKey)> {
        if let Some(made) = &self.recovery {
            return Ok(made.clone());
        }
        let words = RecoveryWords::generate(&mut rng());
        let sealed = self.identity.seal(&words, account, &mut rng())?.0;
        let key = words.recovery_key(account)?;
        Ok(self.recovery.insert((sealed, key)).clone())
    }

    async fn sign_up(&mut self, number: usize, connection: &mut Connection) -> Result<Kept> {
        let account: AccountId = format!("person{number:04}").parse()?;
        let (wrap, prekey) = (WrapKey::from_pkcs8(&self.wrap)?, PreKey::generate(&mut rng())?);
        let device = DeviceKey::generate(&mut rng());
        let secrets = DeviceSecrets::new(account.clone(), wrap, device, prekey, now()?)?;
        let list = first_device_list(&self.identity, &secrets, 1, &mut rng())?;
        let prekey = secrets.signed_prekey().context("a device has a prekey")?.clone();
        let (sealed_identity, recovery_key) = self.recovery(&account)?;
        let command = SignUp {
            account: account.clone(),
            email: format!("{account}@example.org"),
            password: self.password(&account, connection).await?,
            nickname: String::new(),
            identity_key: self.identity.public().clone(),
            sealed_identity,
            recovery_key,
            device_list: list.clone(),
            prekey: prekey.clone(),
            proof: secrets.sign_login_proof(&connection.transcript),
            invitation: None,
        };
        let session = connection.ask(&command).await?.session;
        connection.attach(session.clone(), &secrets).await?;
        let identity_key = self.identity.public().clone();
        Ok(Kept {
            secrets: secrets.to_secret_bytes()?.to_vec().into(),
            session,
            keys: AccountKeys { account, identity_key, lists: vec![list], prekeys: vec![prekey] },
        })
    }
}

/// Accounts that are being made, and a connection of each.
struct Making {
    fixtures: Fixtures,
    connections: Vec<Connection>,
    directory: Directory,
}

impl Making {
    async fn new(target: Target) -> Result<Self> {
        let (mut common, mut accounts, mut connections) = (Common::new()?, Vec::new(), Vec::new());
        for number in 0..HOSTILE + CROWD {
            let mut connection = target.connect(address(number)?).await?;
            accounts.push(common.sign_up(number, &mut connection).await?);
            connections.push(connection);
        }
        let (pairs, group, crowd) = (Vec::new(), Bytes::default(), Bytes::default());
        let fixtures = Fixtures { accounts, pairs, group, crowd };
        let directory = fixtures.directory()?;
        Ok(Self { fixtures, connections, directory })
    }

    async fn finish(mut self) -> Result<Fixtures> {
        for first in (0..2 * PAIRS).step_by(2) {
            self.befriend(first, first + 1).await?;
            let room = self.room(RoomKind::Direct, first, first + 1..first + 2).await?;
            self.fixtures.pairs.push(room);
        }
        for other in 2..GROUP {
            self.befriend(0, other).await?;
        }
        self.fixtures.group = self.room(RoomKind::Group, 0, 1..GROUP).await?;
        // The next one is in its pair, and is a friend already.
        for other in HOSTILE + 2..HOSTILE + CROWD {
            self.befriend(HOSTILE, other).await?;
        }
        self.fixtures.crowd = self.room(RoomKind::Group, HOSTILE, HOSTILE + 1..HOSTILE + CROWD).await?;
        Ok(self.fixtures)
    }

    fn connection(&mut self, account: usize) -> Result<&mut Connection> {
        self.connections.get_mut(account).context("no such connection")
    }

    async fn befriend(&mut self, one: usize, other: usize) -> Result<()> {
        let account = |kept: &Kept| kept.keys.account.clone();
        let from = account(self.fixtures.kept(one)?);
        let request = FriendRequest { account: account(self.fixtures.kept(other)?), greeting: String::new() };
        self.connection(one)?.ask(&request).await?;
        self.connection(other)?.ask(&FriendAccept { account: from }).await?;
        Ok(())
    }

    /// A room, as its owner has it after its beginning and its first epoch.
    async fn room(&mut self, kind: RoomKind, owner: usize, others: std::ops::Range<usize>) -> Result<Bytes> {
        let others = self.fixtures.accounts.get(others).context("no such accounts")?;
        let others: Vec<AccountId> = others.iter().map(|kept| kept.keys.account.clone()).collect();
        let secrets = DeviceSecrets::from_secret_bytes(&self.fixtures.kept(owner)?.secrets)?;
        let new = Room::create(kind, &others, None, &secrets, &*self.directory, now()?, &mut rng())?;
        let epoch = NewEpoch {
            announcement: new.epoch.announcement.clone(),
            wraps: new.epoch.wraps.clone(),
            profile: None,
        };
        let own = new.epoch.wraps.into_iter().find(|wrap| wrap.device == secrets.device());
        let command = RoomCreate { change: new.change.clone(), epoch };
        self.connection(owner)?.ask(&command).await?;
        let (directory, room) = (Arc::clone(&self.directory), Room::empty(new.room));
        let mut speaker = Speaker { secrets, directory, room };
        let entry = LogEntry::Change(Box::new(new.change));
        speaker.accept(&LogItem::Entry { seq: 1, stored_at: 0, entry, snapshot: None })?;
        speaker.accept(&LogItem::Epoch {
            after: 1,
            stored_at: 0,
            announcement: Box::new(new.epoch.announcement),
            wrap: own.map(Box::new),
            profile: None,
        })?;
        Ok(speaker.room.to_secret_bytes()?.to_vec().into())
    }
}
