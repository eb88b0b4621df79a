//! Somebody who says much: messages are sealed as a client seals them, and nothing is opened or stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use mildam_e2ee::records::{AccountId, ClientMessageId, Hash, LogEntry, LogItem, Message};
use mildam_e2ee::{Body, Content, DeviceSecrets, KnownAccount, Reader, Room, RoomError};
use mildam_protocol::command::{EpochAnnounce, MessageSend, NewEpoch};
use rand_core::Rng as _;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::connection::{Connection, Heard, Pushed, Requests};
use super::now;
use crate::people::rng;

/// What everybody knows of everybody.
pub type Directory = Arc<BTreeMap<AccountId, KnownAccount>>;

/// About 200 bytes of UTF-8.
const SENTENCE: &str = "가나다라 마바사 ";
const SENTENCES: usize = 9;

/// A room as its only speaker has it.
pub struct Speaker {
    pub secrets: DeviceSecrets,
    pub directory: Directory,
    pub room: Room,
}

impl Speaker {
    /// A message, or none if an epoch is due before.
    fn seal(&mut self) -> Result<Option<Message>> {
        let mut id = [0; ClientMessageId::LENGTH];
        rng().fill_bytes(&mut id);
        let (id, now) = (ClientMessageId::from_bytes(id), now()?);
        let content = Content { sent_at: now, body: Body::Text(SENTENCE.repeat(SENTENCES)) };
        match self.room.seal(&content, id, &self.secrets, &*self.directory, now, &mut rng()) {
            Ok(message) => Ok(Some(message)),
            Err(RoomError::EpochDue) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A new epoch, which counts here at once.
    pub fn announce(&mut self) -> Result<EpochAnnounce> {
        let new = self.room.announce(&self.secrets, &*self.directory, now()?, &mut rng())?;
        let epoch = NewEpoch { announcement: new.announcement, wraps: new.wraps, profile: new.profile };
        let own = epoch.wraps.iter().find(|wrap| wrap.device == self.secrets.device());
        let item = LogItem::Epoch {
            after: self.room.position().seq,
            stored_at: 0,
            announcement: Box::new(epoch.announcement.clone()),
            wrap: own.cloned().map(Box::new),
            profile: epoch.profile.clone(),
        };
        self.accept(&item)?;
        Ok(EpochAnnounce { epoch })
    }

    /// One of its own messages has its place in the log. It need not be opened to go on from there.
    fn follow(&mut self, message: Hash) -> Result<()> {
        let seq = self.room.position().seq.saturating_add(1);
        self.accept(&LogItem::Entry { seq, stored_at: 0, entry: LogEntry::Withheld(message), snapshot: None })
    }

    pub fn accept(&mut self, item: &LogItem) -> Result<()> {
        let hashes: BTreeMap<u64, Hash> = BTreeMap::new();
        let reader = Reader {
            secrets: &self.secrets,
            directory: &*self.directory,
            hashes: &hashes,
            keys_are_fresh: true,
            now: now()?,
        };
        let accepted = self.room.accept(item, &reader, &mut rng());
        accepted.map(drop).map_err(|error| anyhow!("the speaker's own item: {error}"))
    }
}

/// A message that was sent.
#[derive(Clone, Copy)]
struct Sent {
    id: u64,
    hash: Hash,
    at: Instant,
}

/// A speaker and its connection.
pub struct Talk {
    speaker: Speaker,
    requests: Requests,
    heard: UnboundedReceiver<Heard>,
    /// Messages without an answer, and those with one before which others have none.
    sent: VecDeque<Sent>,
    stored: BTreeSet<u64>,
    /// How many of its own messages were pushed to it.
    pub echoes: Arc<AtomicU64>,
}

impl Talk {
    pub fn new(speaker: Speaker, connection: Connection) -> Self {
        let Connection { requests, frames, .. } = connection;
        let (sent, stored) = (VecDeque::new(), BTreeSet::new());
        Self { speaker, requests, heard: frames.into_channel(), sent, stored, echoes: Arc::default() }
    }

    /// Says so many things in one write, or in two if an epoch is due in between, and tells when.
    pub async fn say(&mut self, count: usize) -> Result<Instant> {
        let mut left = count;
        loop {
            let (mut frames, mut messages) = (Vec::new(), Vec::new());
            while messages.len() < left {
                let Some(message) = self.speaker.seal()? else { break };
                let hash = message.hash();
                frames.extend(self.requests.frame(&MessageSend { message })?);
                messages.push((self.requests.last(), hash));
            }
            left = left.saturating_sub(messages.len());
            let at = Instant::now();
            self.sent.extend(messages.into_iter().map(|(id, hash)| Sent { id, hash, at }));
            self.requests.send(&frames).await?;
            if left == 0 {
                return Ok(at);
            }
            self.renew().await?;
        }
    }

    /// Announces an epoch when nothing is on the way, so that no message comes after the next key.
    async fn renew(&mut self) -> Result<()> {
        while !self.sent.is_empty() {
            self.answered().await?;
        }
        let command = self.speaker.announce()?;
        let request = self.requests.frame(&command)?;
        let asked = self.requests.last();
        self.requests.send(&request).await?;
        loop {
            match self.next().await? {
                Heard::Done(id) if id == asked => return Ok(()),
                Heard::Refused { code, .. } => bail!("an epoch was refused: {code}"),
                Heard::Push(push) => self.echo(push),
                Heard::Done(_) => {}
            }
        }
    }

    fn echo(&self, push: Pushed) {
        if push == Pushed::Message {
            self.echoes.fetch_add(1, Relaxed);
        }
    }

    async fn next(&mut self) -> Result<Heard> {
        self.heard.recv().await.context("the relay has hung up")
    }

    /// Waits for something to come. If it is the answer to a message, tells how long that took. Waiting
    /// can be given up.
    pub async fn answered(&mut self) -> Result<Option<Duration>> {
        match self.next().await? {
            Heard::Push(push) => {
                self.echo(push);
                Ok(None)
            }
            Heard::Refused { code, .. } => bail!("a message was refused: {code}"),
            Heard::Done(id) => {
                let sent = self.sent.iter().find(|sent| sent.id == id).copied();
                self.stored.insert(id);
                while let Some(first) = self.sent.front().copied() {
                    if !self.stored.remove(&first.id) {
                        break;
                    }
                    self.sent.pop_front();
                    self.speaker.follow(first.hash)?;
                }
                Ok(sent.map(|sent| sent.at.elapsed()))
            }
        }
    }

    /// How long messages without an answer have been waiting for it.
    pub fn waiting(&self) -> impl Iterator<Item = Duration> {
        let open = self.sent.iter().filter(move |sent| !self.stored.contains(&sent.id));
        open.map(|sent| sent.at.elapsed())
    }
}

/// When somebody speaks.
pub enum Pace {
    /// As often as earlier messages have arrived.
    Credit(Arc<Semaphore>),
    /// Regularly.
    Clock(Interval),
}

impl Pace {
    /// Once in so much time, late or not.
    pub fn every(period: Duration) -> Self {
        let mut clock = interval(period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        Self::Clock(clock)
    }

    /// Waits until it is time, and tells how many things may be said at once. Waiting can be given up.
    pub async fn due(&mut self) -> Result<usize> {
        match self {
            Self::Clock(clock) => {
                clock.tick().await;
                Ok(1)
            }
            Self::Credit(credit) => {
                credit.acquire().await?.forget();
                let mut due = 1;
                while let Ok(more) = credit.try_acquire() {
                    more.forget();
                    due += 1;
                }
                Ok(due)
            }
        }
    }
}

/// Speaks at this pace, and tells of each message when it was written, if somebody listens.
pub async fn speak(mut talk: Talk, mut pace: Pace, told: UnboundedSender<Instant>) -> Result<()> {
    loop {
        tokio::select! {
            biased;
            answered = talk.answered() => {
                answered?;
            }
            due = pace.due() => {
                let due = due?;
                let at = talk.say(due).await?;
                for _ in 0..due {
                    told.send(at).ok();
                }
            }
        }
    }
}
