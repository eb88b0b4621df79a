//! Reading a room's log: every check that stands between the relay and what a person sees.

use mildam_records::message::MESSAGE_VERSION;
use mildam_records::{
    AccountId, Certificate, Change, DeviceId, EpochAnnouncement, Hash, LogEntry, LogItem, LogPosition,
    Membership, Message, RoomChange, SealedProfile, Snapshot,
};
use rand_core::CryptoRng;

use super::epoch::{Arrived, Epoch};
use super::{Accepted, NotAccepted, Reader, ReceivedMessage, Refusal, Room};
use crate::directory::KnownAccount;

/// Codes of refusals that block a room: nothing is sent there until it fits again.
const BLOCKING: &[&str] = &[
    "log_mismatch",
    "chain_broken",
    "identity_changed",
    "wrong_recipients",
    "epoch_broken",
    "bad_commitment",
    "bad_profile",
    "bad_start",
];

pub(super) fn known_code(code: &str) -> &'static str {
    BLOCKING.iter().find(|known| **known == code).copied().unwrap_or("blocked")
}

/// A rule that an item breaks, or keys that are needed to tell.
enum Stop {
    Needs(Vec<AccountId>),
    Breaks(&'static str),
}

type Checked<T> = Result<T, Stop>;

fn needs(account: &AccountId) -> Stop {
    Stop::Needs(vec![account.clone()])
}

impl Reader<'_> {
    fn known(&self, account: &AccountId) -> Checked<&KnownAccount> {
        self.directory.account(account).ok_or_else(|| needs(account))
    }

    /// The certificate that a device had under the list which an entry names.
    fn certificate(&self, account: &AccountId, list: &Hash, device: &DeviceId) -> Checked<&Certificate> {
        let known = self.known(account)?;
        match known.list(list) {
            None => Err(needs(account)),
            Some(_) => known.certificate(list, device).ok_or(Stop::Breaks("unknown_device")),
        }
    }
}

impl Room {
    /// Takes the next item of the log.
    ///
    /// # Errors
    /// [`NotAccepted`]. After [`NotAccepted::Refused`] the item counts as read.
    pub fn accept(
        &mut self,
        item: &LogItem,
        reader: &Reader<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Accepted, NotAccepted> {
        match item {
            LogItem::Entry { seq, entry, snapshot, .. } => {
                self.accept_entry(*seq, entry, snapshot.as_deref(), reader)
            }
            LogItem::Epoch { after, stored_at, announcement, wrap, profile } => {
                let arrived = Arrived {
                    announcement,
                    wrap: wrap.as_deref(),
                    profile: profile.as_ref(),
                    stored_at: *stored_at,
                };
                self.accept_epoch(*after, &arrived, reader, rng)
            }
        }
    }

    fn accept_entry(
        &mut self,
        seq: u64,
        entry: &LogEntry,
        snapshot: Option<&Snapshot>,
        reader: &Reader<'_>,
    ) -> Result<Accepted, NotAccepted> {
        if seq <= self.position.seq {
            return Err(NotAccepted::Old);
        }
        if self.position.seq.checked_add(1) != Some(seq) {
            return Err(NotAccepted::OutOfOrder);
        }
        let next = self.position.then(&self.id, &entry.hash());
        let (checked, sender) = match entry {
            LogEntry::Withheld(_) => (Ok(Accepted::Withheld), None),
            LogEntry::Change(change) => (self.read_change(change, snapshot, reader), Some(&change.actor)),
            LogEntry::Message(message) => {
                (self.read_message(message, next, reader), Some(&message.header.sender))
            }
        };
        let outcome = self.judge(checked, sender, reader);
        if !matches!(outcome, Err(NotAccepted::NeedsKeys(_))) {
            self.position = next;
        }
        outcome
    }

    /// Turns a broken rule into a refusal, and blocks the room where the rule demands it.
    fn judge(
        &mut self,
        checked: Checked<Accepted>,
        sender: Option<&AccountId>,
        reader: &Reader<'_>,
    ) -> Result<Accepted, NotAccepted> {
        let code = match checked {
            Ok(accepted) => return Ok(accepted),
            Err(Stop::Needs(accounts)) if !reader.keys_are_fresh => {
                return Err(NotAccepted::NeedsKeys(accounts));
            }
            Err(Stop::Needs(_)) => "unknown_keys",
            Err(Stop::Breaks(code)) => code,
        };
        if BLOCKING.contains(&code) {
            // What blocked it first stays: a lesser fault may heal, that one must not with it.
            self.blocked.get_or_insert_with(|| code.to_owned());
        }
        Err(NotAccepted::Refused(Refusal { code, sender: sender.cloned() }))
    }

    fn read_change(
        &mut self,
        change: &RoomChange,
        snapshot: Option<&Snapshot>,
        reader: &Reader<'_>,
    ) -> Checked<Accepted> {
        let next = match (&self.membership, snapshot) {
            (Some(membership), _) => membership.after(change),
            (None, Some(snapshot)) if self.position.seq > 0 => Membership::joined(change, snapshot),
            (None, _) => Membership::created(change),
        };
        let next = next.map_err(|_| Stop::Breaks("chain_broken"))?;
        if next.room() != self.id {
            return Err(Stop::Breaks("chain_broken"));
        }
        let certificate = reader.certificate(&change.actor, &change.actor_list, &change.actor_device)?;
        certificate
            .device_key
            .verify(change.signed_bytes().as_bytes(), &change.signature, "room change")
            .map_err(|_| Stop::Breaks("chain_broken"))?;
        let strangers: Vec<AccountId> = next
            .members()
            .filter(|member| reader.directory.account(&member.account).is_none())
            .map(|member| member.account.clone())
            .collect();
        if !strangers.is_empty() {
            return Err(Stop::Needs(strangers));
        }
        for member in next.members() {
            if reader.known(&member.account)?.identity().fingerprint() != member.identity {
                return Err(Stop::Breaks("identity_changed"));
            }
        }
        self.membership = Some(next);
        let by = change.actor.clone();
        Ok(match &change.change {
            Change::Created { .. } => Accepted::Created { by },
            Change::Added { members, .. } => Accepted::Added {
                by,
                accounts: members.iter().map(|member| member.account.clone()).collect(),
            },
            Change::Removed { account } => Accepted::Removed { by, account: account.clone() },
            Change::Left => Accepted::Left { by },
            Change::Role { .. } | Change::Banned { .. } | Change::Closed => Accepted::Changed { by },
        })
    }

    /// Whether a place that a sender saw is the one that this reader saw. Places before the
    /// reader's start cannot be compared.
    fn check_seen(&self, seq: u64, hash: &Hash, reader: &Reader<'_>) -> Checked<()> {
        let fits = seq < self.start.seq || self.hash_at(seq, reader.hashes) == Some(*hash);
        if fits { Ok(()) } else { Err(Stop::Breaks("log_mismatch")) }
    }

    fn read_message(&mut self, message: &Message, at: LogPosition, reader: &Reader<'_>) -> Checked<Accepted> {
        let header = &message.header;
        if header.room != self.id {
            return Err(Stop::Breaks("other_room"));
        }
        let certificate = reader.certificate(&header.sender, &header.sender_list, &header.sender_device)?;
        certificate
            .device_key
            .verify(message.signed_bytes().as_bytes(), &message.signature, "message")
            .map_err(|_| Stop::Breaks("bad_signature"))?;
        if header.format != MESSAGE_VERSION {
            return Err(Stop::Breaks("needs_newer_version"));
        }
        let membership = self.membership.as_ref().ok_or(Stop::Breaks("chain_broken"))?;
        if membership.member(&header.sender).is_none() {
            return Err(Stop::Breaks("not_member"));
        }
        if header.seen_seq >= at.seq {
            return Err(Stop::Breaks("log_mismatch"));
        }
        self.check_seen(header.seen_seq, &header.seen_hash, reader)?;
        let (version, head) = (membership.version(), membership.head());
        let epoch = self.epoch.as_mut().ok_or(Stop::Breaks("no_key"))?;
        let current = header.epoch == epoch.number()
            && epoch.version() == version
            && header.version == version
            && header.head == head;
        if !current {
            return Err(Stop::Breaks("stale"));
        }
        let chain = epoch.chains.get_mut(&header.sender_device).ok_or(Stop::Breaks("no_key"))?;
        let missing = header.n.checked_sub(chain.n()).ok_or(Stop::Breaks("replayed"))?;
        let key = chain.step_to(header.n).map_err(|_| Stop::Breaks("jump_too_far"))?;
        epoch.messages = epoch.messages.saturating_add(1);
        let plain = key
            .with_salt(&header.salt)
            .and_then(|cipher| cipher.open(&header.commit, &message.ciphertext, &header.canonical()))
            .map_err(|_| Stop::Breaks("does_not_open"))?;
        let content = serde_json::from_slice(&plain).map_err(|_| Stop::Breaks("malformed_content"))?;
        Ok(Accepted::Message(Box::new(ReceivedMessage {
            sender: header.sender.clone(),
            device: header.sender_device,
            epoch: header.epoch,
            n: header.n,
            id: header.id,
            content,
            missing,
        })))
    }

    fn accept_epoch(
        &mut self,
        after: u64,
        arrived: &Arrived<'_>,
        reader: &Reader<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Accepted, NotAccepted> {
        let announcement = arrived.announcement;
        if announcement.epoch <= self.epoch() {
            return Err(NotAccepted::Old);
        }
        if after != self.position.seq {
            return Err(NotAccepted::OutOfOrder);
        }
        let checked = self.read_epoch(arrived, reader, rng);
        if matches!(&checked, Err(Stop::Breaks(_))) || (reader.keys_are_fresh && checked.is_err()) {
            // It exists all the same, and the next one will name it as its predecessor.
            self.epoch = Some(Epoch::without_key(announcement, arrived.stored_at));
        }
        self.judge(checked, Some(&announcement.announcer), reader)
    }

    fn read_epoch(
        &mut self,
        arrived: &Arrived<'_>,
        reader: &Reader<'_>,
        rng: &mut impl CryptoRng,
    ) -> Checked<Accepted> {
        let announcement = arrived.announcement;
        let lists = self.check_announcement(announcement, arrived.profile, reader)?;
        let (epoch, profile) = arrived.take(reader.secrets, &lists, rng).map_err(Stop::Breaks)?;
        let number = epoch.number();
        self.epoch = Some(epoch);
        if profile.is_some() {
            self.profile = profile;
        }
        if self.blocked.as_deref().is_some_and(|code| {
            matches!(code, "epoch_broken" | "wrong_recipients" | "bad_commitment" | "bad_profile")
        }) {
            // A good epoch after a bad one: everybody is on the same key again.
            self.blocked = None;
        }
        Ok(Accepted::Epoch { epoch: number })
    }

    fn check_announcement<'a>(
        &self,
        announcement: &EpochAnnouncement,
        profile: Option<&SealedProfile>,
        reader: &'a Reader<'_>,
    ) -> Checked<Vec<&'a KnownAccount>> {
        let broken = || Stop::Breaks("epoch_broken");
        let membership = self.membership.as_ref().ok_or_else(broken)?;
        // A joiner's first epoch has a predecessor that the joiner has not seen.
        let follows = match &self.epoch {
            Some(epoch) => {
                epoch.number().checked_add(1) == Some(announcement.epoch)
                    && announcement.previous == self.epoch_hash()
            }
            None if self.start.seq == 0 => announcement.epoch == 1 && announcement.previous.is_none(),
            None => announcement.previous.is_some(),
        };
        let current = announcement.room == self.id
            && announcement.version == membership.version()
            && announcement.head == membership.head()
            && announcement.profile == profile.map(SealedProfile::hash);
        if !follows || !current {
            return Err(broken());
        }
        let recipient =
            announcement.recipients.iter().find(|recipient| recipient.account == announcement.announcer);
        let list = recipient.ok_or(Stop::Breaks("wrong_recipients"))?.list;
        let certificate =
            reader.certificate(&announcement.announcer, &list, &announcement.announcer_device)?;
        certificate
            .device_key
            .verify(announcement.signed_bytes().as_bytes(), &announcement.signature, "epoch")
            .map_err(|_| broken())?;
        if announcement.seen_seq > self.position.seq {
            return Err(Stop::Breaks("log_mismatch"));
        }
        if self.epoch.is_none() && self.start.seq > 0 && announcement.seen_seq != self.start.seq {
            // The adder's own view of the log must vouch for where the joiner begins.
            return Err(Stop::Breaks("bad_start"));
        }
        self.check_seen(announcement.seen_seq, &announcement.seen_hash, reader)?;
        self.check_recipients(announcement, membership, reader)
    }

    /// The recipients are the members, each under a list that is no older than the one of the
    /// epoch before.
    fn check_recipients<'a>(
        &self,
        announcement: &EpochAnnouncement,
        membership: &Membership,
        reader: &'a Reader<'_>,
    ) -> Checked<Vec<&'a KnownAccount>> {
        let wrong = || Stop::Breaks("wrong_recipients");
        let members = membership.members().map(|member| &member.account);
        if !members.eq(announcement.recipients.iter().map(|recipient| &recipient.account)) {
            return Err(wrong());
        }
        let mut lists = Vec::new();
        for recipient in &announcement.recipients {
            let known = reader.known(&recipient.account)?;
            let (place, _) = known.place(&recipient.list).ok_or_else(|| needs(&recipient.account))?;
            let before = self.epoch.as_ref().and_then(|epoch| epoch.list_of(&recipient.account));
            if before.and_then(|hash| known.place(hash)).is_some_and(|(before, _)| before > place) {
                return Err(wrong());
            }
            lists.push(known);
        }
        Ok(lists)
    }
}
