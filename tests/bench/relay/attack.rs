//! The worst that one account does on one connection: requests that cost the relay more than their sender.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use ed25519_dalek::{Signer as _, SigningKey};
use mildam_e2ee::records::bytes::Bytes;
use mildam_e2ee::records::keys::Signature;
use mildam_e2ee::records::{Change, Hash, ReceiptKind, RoomChange};
use mildam_protocol::command::{EpochAnnounce, MAX_RECEIPTS, PreKeyReplace, ReceiptSend, RoomSetChange};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use super::connection::{Connection, Heard, Requests};
use super::fixtures::{Fixtures, HOSTILE};
use super::now;
use super::speaker::{Directory, Speaker};

/// Requests that are in hand at a time: as many as the relay takes of a connection.
const IN_HAND: usize = 64;

/// What is asked again and again.
#[derive(Clone, Copy)]
pub enum Attack {
    /// Receipts that change nothing, as many as fit: each has a signature.
    Receipts,
    /// The prekey that the device has.
    PreKey,
    /// An epoch whose signature holds and that comes after one which the relay has never seen.
    Epoch,
    /// Changes that are in order, each of which makes the room's list of banned accounts longer.
    Bans,
}

/// What became of a request.
pub enum Tried {
    Done,
    Refused,
}

/// The requests of an attack.
pub enum Work {
    Receipts(ReceiptSend),
    PreKey(Box<PreKeyReplace>),
    Epoch(Box<EpochAnnounce>),
    Bans(Box<Bans>),
}

impl Attack {
    /// Makes all that it takes.
    pub fn prepare(self, fixtures: &Fixtures, directory: &Directory) -> Result<Work> {
        let mut owner = fixtures.of_crowd(directory)?;
        Ok(match self {
            Self::Receipts => {
                let Speaker { secrets, room, .. } = &owner;
                let receipt = secrets.sign_receipt(room.id(), ReceiptKind::Delivered, room.position());
                Work::Receipts(ReceiptSend { receipts: vec![receipt; MAX_RECEIPTS] })
            }
            Self::PreKey => {
                let prekey = owner.secrets.signed_prekey().context("a device has a prekey")?.clone();
                Work::PreKey(Box::new(PreKeyReplace { prekey }))
            }
            Self::Epoch => {
                owner.announce()?;
                Work::Epoch(Box::new(owner.announce()?))
            }
            Self::Bans => {
                let secrets: Value = serde_json::from_slice(fixtures.secret_bytes(HOSTILE)?)?;
                let seed = secrets.get("signer").context("a device has a signing key")?.clone();
                let seed: Bytes = serde_json::from_value(seed)?;
                let seed = <[u8; 32]>::try_from(&*seed).context("a signing key has 32 bytes")?;
                Work::Bans(Box::new(Bans::new(owner, SigningKey::from_bytes(&seed))?))
            }
        })
    }
}

impl Work {
    /// The next request, if it makes sense to ask it now.
    fn next(&mut self, requests: &mut Requests) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Receipts(command) => requests.frame(&*command).map(Some),
            Self::PreKey(command) => requests.frame(&**command).map(Some),
            Self::Epoch(command) => requests.frame(&**command).map(Some),
            Self::Bans(bans) => bans.next(requests),
        }
    }

    fn answered(&mut self, id: u64, done: bool) {
        if let Self::Bans(bans) = self {
            bans.answered(id, done);
        }
    }
}

/// A place in a room's chain of changes: a version, and the hash of the change that made it.
type Tip = (u64, Hash);

/// A chain of bans that is written ahead of its answers.
pub struct Bans {
    owner: Speaker,
    signer: SigningKey,
    list: Hash,
    /// The last change that was written, and the last one that is stored.
    tip: Tip,
    stored: Tip,
    waiting: BTreeMap<u64, Tip>,
    /// One was refused, so that what follows it will be, too.
    torn: bool,
    names: u64,
}

impl Bans {
    fn new(owner: Speaker, signer: SigningKey) -> Result<Self> {
        let known = owner.directory.get(owner.secrets.account()).context("the owner knows itself")?;
        let list = known.newest_hash().context("the owner has a device list")?;
        // A room is named by the change that made it.
        let tip = (1, Hash::from_bytes(*owner.room.id().as_bytes()));
        let waiting = BTreeMap::new();
        Ok(Self { owner, signer, list, tip, stored: tip, waiting, torn: false, names: 0 })
    }

    fn next(&mut self, requests: &mut Requests) -> Result<Option<Vec<u8>>> {
        if self.torn {
            if !self.waiting.is_empty() {
                return Ok(None);
            }
            (self.tip, self.torn) = (self.stored, false);
        }
        self.names += 1;
        let (version, previous) = self.tip;
        let mut change = RoomChange {
            room: Some(self.owner.room.id()),
            version: version + 1,
            previous: Some(previous),
            actor: self.owner.secrets.account().clone(),
            actor_device: self.owner.secrets.device(),
            actor_list: self.list,
            at: now()?,
            change: Change::Banned { account: format!("nobody{:09}", self.names).parse()? },
            signature: Signature::from_bytes([0; 64]),
        };
        let signature = self.signer.sign(change.signed_bytes().as_bytes());
        change.signature = Signature::from_bytes(signature.to_bytes());
        self.tip = (change.version, change.hash());
        let request = requests.frame(&RoomSetChange { change, snapshot: None, epoch: None })?;
        self.waiting.insert(requests.last(), self.tip);
        Ok(Some(request))
    }

    fn answered(&mut self, id: u64, done: bool) {
        match self.waiting.remove(&id) {
            Some(tip) if done => self.stored = self.stored.max(tip),
            Some(_) => self.torn = true,
            None => {}
        }
    }
}

/// Keeps as many requests in hand as the relay takes, whatever it says to them.
pub async fn attack(mut work: Work, connection: Connection, told: UnboundedSender<Tried>) -> Result<()> {
    let Connection { mut requests, frames, .. } = connection;
    let mut heard = frames.into_channel();
    let mut in_hand = BTreeSet::new();
    loop {
        while in_hand.len() < IN_HAND {
            let Some(request) = work.next(&mut requests)? else { break };
            in_hand.insert(requests.last());
            requests.send(&request).await?;
        }
        let (id, done) = match heard.recv().await.context("the relay has hung up")? {
            Heard::Done(id) => (id, true),
            Heard::Refused { id, .. } => (id, false),
            Heard::Push(_) => continue,
        };
        in_hand.remove(&id);
        work.answered(id, done);
        told.send(if done { Tried::Done } else { Tried::Refused }).ok();
    }
}
