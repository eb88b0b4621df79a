//! A device that fills a room without storing anything: what would wait on the disk of a client for
//! minutes is sealed and sent in seconds.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};
use mildam_e2ee::records::{AccountId, ClientMessageId, Hash, LogEntry, LogItem};
use mildam_e2ee::{Body, Content, DeviceSecrets, KnownAccount, Reader, Room, RoomError};
use mildam_protocol::command::{self, Command, SessionId, StoredAnswer};
use mildam_protocol::session::{ClientSession, Incoming};
use mildam_protocol::set_up::{self, ClientKey, Established};
use mildam_protocol::{ServerLink, frame};
use mildam_vault::{Slot, Unlock, Vault};
use serde_json::Value;

use crate::people::rng;

/// Milliseconds since 1970 (UTC).
fn now() -> Result<u64> {
    Ok(u64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?)
}

/// A connection over plain TCP that asks one thing after the other.
struct Wire {
    stream: TcpStream,
    session: SessionId,
    transcript: Hash,
    sealer: mildam_protocol::session::client::Sealer,
    opener: mildam_protocol::session::client::Opener,
    asked: u64,
}

fn send(stream: &mut TcpStream, payload: &[u8]) -> Result<()> {
    Ok(stream.write_all(&frame::encode(payload)?)?)
}

fn receive(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header)?;
    let mut payload = vec![0; frame::payload_length(header, frame::SESSION_LIMIT)?];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

impl Wire {
    fn open(address: SocketAddr, link: &ServerLink, session: SessionId) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let state = set_up::client::start(*link.fingerprint(), ClientKey::generate(&mut rng())?, None);
        let (answer, state) = state.handle(&receive(&mut stream)?, &mut rng())?;
        send(&mut stream, &answer)?;
        let (confirmation, state) = state.handle(&receive(&mut stream)?, &mut rng())?;
        send(&mut stream, &confirmation)?;
        let established: Established<ClientSession> = state.handle(&receive(&mut stream)?)?;
        let (sealer, opener) = established.session.split();
        Ok(Self { stream, session, transcript: established.transcript, sealer, opener, asked: 0 })
    }

    fn ask<C: Command>(&mut self, command: &C) -> Result<C::Answer> {
        self.asked += 1;
        let request = self.sealer.request(self.asked, Some(&self.session), command, &mut rng())?;
        send(&mut self.stream, &request)?;
        loop {
            match self.opener.open(&receive(&mut self.stream)?)? {
                Incoming::Answer { outcome, .. } => return Ok(serde_json::from_value(outcome?)?),
                // What it sends is pushed to this device, too.
                Incoming::Push(_) | Incoming::UnknownPush => {}
            }
        }
    }
}

/// What lies in the vault of a client that is closed, and a connection of its device.
pub struct Sender {
    secrets: DeviceSecrets,
    directory: BTreeMap<AccountId, KnownAccount>,
    room: Room,
    wire: Wire,
}

impl Sender {
    pub fn open(
        home: &Path,
        unlock: Unlock,
        room: &str,
        address: SocketAddr,
        link: &ServerLink,
    ) -> Result<Self> {
        let vault = Vault::open(home, unlock)?;
        let mut directory = BTreeMap::new();
        for (account, row) in vault.accounts()? {
            let row: Value = serde_json::from_slice(&row)?;
            directory.insert(account, serde_json::from_value(row.get("known").context("no keys")?.clone())?);
        }
        let (_, row) =
            vault.rooms()?.into_iter().find(|(id, _)| id.to_string() == room).context("no such room")?;
        let session: Value = serde_json::from_slice(&vault.get(Slot::Session)?.context("no session")?)?;
        let session = serde_json::from_value(session.get("session").context("no session")?.clone())?;
        let mut wire = Wire::open(address, link, session)?;
        let secrets = DeviceSecrets::from_secret_bytes(&vault.get(Slot::Device)?.context("no device")?)?;
        wire.ask(&command::Attach { proof: secrets.sign_attach_proof(&wire.transcript) })?;
        Ok(Self { secrets, directory, room: Room::from_secret_bytes(&row.state)?, wire })
    }

    /// Says something, and announces a new epoch first if one is due.
    pub fn say(&mut self, text: String, number: u64) -> Result<()> {
        let content = Content { sent_at: now()?, body: Body::Text(text) };
        let mut id = [0; ClientMessageId::LENGTH];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let id = ClientMessageId::from_bytes(id);
        let message = loop {
            let (secrets, directory) = (&self.secrets, &self.directory);
            match self.room.seal(&content, id, secrets, directory, now()?, &mut rng()) {
                Ok(message) => break message,
                Err(RoomError::EpochDue) => self.announce()?,
                Err(error) => return Err(error.into()),
            }
        };
        let stored = self.wire.ask(&command::MessageSend { message: message.clone() })?;
        let StoredAnswer { seq, stored_at } = stored;
        let entry = LogEntry::Message(Box::new(message));
        self.accept(&LogItem::Entry { seq, stored_at, entry, snapshot: None })
    }

    fn announce(&mut self) -> Result<()> {
        let new = self.room.announce(&self.secrets, &self.directory, now()?, &mut rng())?;
        let epoch = command::NewEpoch {
            announcement: new.announcement.clone(),
            wraps: new.wraps.clone(),
            profile: new.profile.clone(),
        };
        let StoredAnswer { seq: after, stored_at } = self.wire.ask(&command::EpochAnnounce { epoch })?;
        let own = new.wraps.into_iter().find(|wrap| wrap.device == self.secrets.device());
        self.accept(&LogItem::Epoch {
            after,
            stored_at,
            announcement: Box::new(new.announcement),
            wrap: own.map(Box::new),
            profile: new.profile,
        })
    }

    fn accept(&mut self, item: &LogItem) -> Result<()> {
        let hashes: BTreeMap<u64, Hash> = BTreeMap::new();
        let reader = Reader {
            secrets: &self.secrets,
            directory: &self.directory,
            hashes: &hashes,
            keys_are_fresh: true,
            now: 0,
        };
        match self.room.accept(item, &reader, &mut rng()) {
            Ok(_) => Ok(()),
            Err(error) => bail!("the sender's own item: {error}"),
        }
    }
}
