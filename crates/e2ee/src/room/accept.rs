//! Reading a room's log: every check that stands between the relay and what a person sees.

use mildam_records::message::MESSAGE_VERSION;
use mildam_records::{
    AccountId, Certificate, Change, DeviceId, DeviceList, EpochAnnouncement, Hash, LogEntry, LogItem,
    LogPosition, Membership, Message, Role, RoomChange, SealedProfile, Snapshot,
};
use rand_core::CryptoRng;

use super::epoch::{Arrived, Epoch};
use super::rule::{Block, ItemKind, Rule};
use super::{Accepted, NotAccepted, PastUnreadable, Reader, ReceivedMessage, Refusal, Room};
use crate::content::{Body, Content};
use crate::directory::KnownAccount;

/// A rule that an item breaks, or what is needed to tell.
enum Stop {
    Needs(Vec<AccountId>),
    Unreadable(PastUnreadable),
    Breaks(Rule),
}

impl From<PastUnreadable> for Stop {
    fn from(unreadable: PastUnreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl From<Rule> for Stop {
    fn from(rule: Rule) -> Self {
        Self::Breaks(rule)
    }
}

type Checked<T> = Result<T, Stop>;

fn needs(account: &AccountId) -> Stop {
    Stop::Needs(vec![account.clone()])
}

/// `Ok` if it holds, or else the broken rule.
fn check(holds: bool, rule: Rule) -> Checked<()> {
    if holds { Ok(()) } else { Err(Stop::Breaks(rule)) }
}

impl Reader<'_> {
    fn known(&self, account: &AccountId) -> Checked<&KnownAccount> {
        self.directory.account(account).ok_or_else(|| needs(account))
    }

    /// The certificate that a device had under the list which an entry names.
    fn certificate(&self, account: &AccountId, list: &Hash, device: &DeviceId) -> Checked<&Certificate> {
        let list = self.known(account)?.list(list).ok_or_else(|| needs(account))?;
        list.certificate(device).ok_or(Stop::Breaks(Rule::UnknownDevice))
    }

    /// Every member is known, and by the identity that the actor saw.
    fn know_all(&self, membership: &Membership) -> Checked<()> {
        let strangers: Vec<AccountId> = membership
            .members()
            .filter(|member| self.directory.account(&member.account).is_none())
            .map(|member| member.account.clone())
            .collect();
        if !strangers.is_empty() {
            return Err(Stop::Needs(strangers));
        }
        for member in membership.members() {
            let pinned = self.known(&member.account)?.identity().fingerprint();
            check(pinned == member.identity, Rule::IdentityChanged)?;
        }
        Ok(())
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
            LogItem::Epoch { after, announcement, wrap, profile, .. } => {
                let arrived = Arrived {
                    announcement,
                    wrap: wrap.as_deref(),
                    profile: profile.as_ref(),
                    taken_at: reader.now,
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
        let hash = entry.hash();
        let next = self.position.then(&self.id, &hash);
        let outcome = match entry {
            LogEntry::Withheld(_) => Ok(Accepted::Withheld),
            LogEntry::Change(change) => {
                let checked = self.read_change(change, snapshot, reader);
                self.judge(checked, ItemKind::Change, &change.actor, reader)
            }
            LogEntry::Message(message) => {
                let checked = self.read_message(message, hash, next, reader);
                self.judge(checked, ItemKind::Message, &message.header.sender, reader)
            }
        };
        if !matches!(outcome, Err(NotAccepted::NeedsKeys(_) | NotAccepted::PastUnreadable(_))) {
            self.position = next;
        }
        outcome
    }

    /// Turns a broken rule into a refusal, and blocks the room where the rule demands it.
    fn judge(
        &mut self,
        checked: Checked<Accepted>,
        kind: ItemKind,
        sender: &AccountId,
        reader: &Reader<'_>,
    ) -> Result<Accepted, NotAccepted> {
        let rule = match checked {
            Ok(accepted) => return Ok(accepted),
            Err(Stop::Needs(accounts)) if !reader.keys_are_fresh => {
                return Err(NotAccepted::NeedsKeys(accounts));
            }
            Err(Stop::Needs(_)) => Rule::UnknownKeys,
            Err(Stop::Unreadable(unreadable)) => return Err(unreadable.into()),
            Err(Stop::Breaks(rule)) => rule,
        };
        if let Some(block) = Block::by(rule, kind)
            && self.blocked.is_none_or(|before| before.heals)
        {
            self.blocked = Some(block);
        }
        Err(NotAccepted::Refused(Refusal { code: rule.code(), sender: Some(sender.clone()) }))
    }

    fn read_change(
        &mut self,
        change: &RoomChange,
        snapshot: Option<&Snapshot>,
        reader: &Reader<'_>,
    ) -> Checked<Accepted> {
        let next = match (&self.membership, snapshot) {
            (Some(membership), _) => membership.after(change),
            (None, Some(snapshot)) if self.start.seq > 0 => Membership::joined(change, snapshot),
            (None, _) => Membership::created(change),
        };
        let next = next.map_err(|_| Rule::ChainBroken)?;
        let begins = match (&self.membership, &change.change) {
            (None, Change::Added { members, .. }) => {
                members.iter().any(|member| member.account == *reader.secrets.account())
            }
            (None, _) => self.position == LogPosition::START,
            (Some(_), _) => true,
        };
        check(begins && next.room() == self.id, Rule::ChainBroken)?;
        check(self.membership.is_some() || next.version() > self.after_version, Rule::BadStart)?;
        let certificate = reader.certificate(&change.actor, &change.actor_list, &change.actor_device)?;
        certificate
            .device_key
            .verify(change.signed_bytes().as_bytes(), &change.signature, "room change")
            .map_err(|_| Rule::ChainBroken)?;
        check(self.is_not_older(reader.known(&change.actor)?, &change.actor_list), Rule::WrongList)?;
        reader.know_all(&next)?;
        self.membership = Some(next);
        if let Change::Created { replaces: Some(replaced), .. } = &change.change {
            self.replaces = Some(replaced.room);
        }
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

    /// Whether a known device list is at least as new as the one that the current epoch names: what
    /// an epoch has left behind does not come back.
    fn is_not_older(&self, known: &KnownAccount, list: &Hash) -> bool {
        let before = self.epoch.as_ref().and_then(|epoch| epoch.list_of(known.account()));
        let before = before.and_then(|hash| known.list(hash));
        known.list(list).is_some_and(|list| before.is_none_or(|before| !before.is_newer_than(list)))
    }

    /// Whether a place that a sender saw is the one that this reader saw. Places before the
    /// reader's start cannot be compared.
    fn check_seen(&self, seq: u64, hash: &Hash, reader: &Reader<'_>) -> Checked<()> {
        let fits = seq < self.start.seq || self.hash_at(seq, reader.hashes)? == Some(*hash);
        check(fits, Rule::LogMismatch)
    }

    fn read_message(
        &mut self,
        message: &Message,
        hash: Hash,
        at: LogPosition,
        reader: &Reader<'_>,
    ) -> Checked<Accepted> {
        let header = &message.header;
        check(header.room == self.id, Rule::OtherRoom)?;
        let certificate = reader.certificate(&header.sender, &header.sender_list, &header.sender_device)?;
        certificate
            .device_key
            .verify(message.signed_bytes().as_bytes(), &message.signature, "message")
            .map_err(|_| Rule::BadSignature)?;
        check(header.format == MESSAGE_VERSION, Rule::NeedsNewerVersion)?;
        let membership = self.membership.as_ref().ok_or(Rule::NotMember)?;
        let role = membership.member(&header.sender).ok_or(Rule::NotMember)?.role;
        check(!membership.closed(), Rule::Closed)?;
        check(header.seen_seq < at.seq, Rule::LogMismatch)?;
        self.check_seen(header.seen_seq, &header.seen_hash, reader)?;
        let (version, head) = (membership.version(), membership.head());
        let epoch = self.epoch.as_mut().ok_or(Rule::NoKey)?;
        let current = header.epoch == epoch.number()
            && epoch.version() == version
            && header.version == version
            && header.head == head;
        check(current, Rule::Stale)?;
        check(epoch.list_of(&header.sender) == Some(&header.sender_list), Rule::WrongList)?;
        let chain = epoch.chains.get_mut(&header.sender_device).ok_or(epoch.without)?;
        let missing = header.n.checked_sub(chain.n()).ok_or(Rule::Replayed)?;
        let key = chain.step_to(header.n).map_err(|_| Rule::JumpTooFar)?;
        epoch.messages = epoch.messages.saturating_add(1);
        let plain = key
            .with_salt(&header.salt)
            .and_then(|cipher| cipher.open(&header.commit, &message.ciphertext, &header.canonical()))
            .map_err(|_| Rule::DoesNotOpen)?;
        let content = Content::read(&plain).ok_or(Rule::MalformedContent)?;
        if let Body::Profile(profile) = &content.body {
            check(role >= Role::Admin, Rule::Forbidden)?;
            self.profile = Some(profile.clone());
            self.profile_is_settled = true;
        }
        let own = header.sender_device == reader.secrets.device();
        let unknown_own = own && epoch.own.as_ref().is_some_and(|own| own.n() <= header.n);
        if unknown_own {
            // This device sent it and does not know: its state was put back to an earlier one. It
            // must not go on with a chain that it has gone along already.
            epoch.own = None;
        }
        Ok(Accepted::Message(Box::new(ReceivedMessage {
            sender: header.sender.clone(),
            device: header.sender_device,
            epoch: header.epoch,
            n: header.n,
            id: header.id,
            content,
            missing,
            unknown_own,
            hash,
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
        let checked = match self.check_origin(announcement, reader) {
            Err(stop) => Err(stop),
            Ok(()) => {
                let read = self.read_epoch(arrived, reader, rng);
                let refused = match &read {
                    // What stands before where this reader begins may be an epoch of any time.
                    Err(Stop::Breaks(Rule::BadStart)) => false,
                    Err(Stop::Breaks(_)) => true,
                    Err(Stop::Needs(_)) => reader.keys_are_fresh,
                    Err(Stop::Unreadable(_)) | Ok(_) => false,
                };
                if refused {
                    // A member did announce it: it counts, and the next one will name it as its
                    // predecessor. Its key does not, and neither do the lists that it names: what
                    // an epoch has left behind must not come back by a bad one.
                    let mut refused = Epoch::without_key(announcement, arrived.taken_at, Rule::NoKey);
                    if let Some(before) = &self.epoch {
                        refused.recipients.clone_from(&before.recipients);
                    }
                    self.epoch = Some(refused);
                }
                read
            }
        };
        self.judge(checked, ItemKind::Epoch, &announcement.announcer, reader)
    }

    /// The announcement is the next one, and a member's device made it.
    fn check_origin(&self, announcement: &EpochAnnouncement, reader: &Reader<'_>) -> Checked<()> {
        let membership = self.membership.as_ref().ok_or(Rule::EpochBroken)?;
        // A joiner's first epoch has a predecessor that the joiner has not seen.
        let follows = match &self.epoch {
            Some(epoch) => {
                epoch.number().checked_add(1) == Some(announcement.epoch)
                    && announcement.previous == Some(epoch.hash())
            }
            None if self.start.seq == 0 => announcement.epoch == 1 && announcement.previous.is_none(),
            None => announcement.epoch > 1 && announcement.previous.is_some(),
        };
        let member = membership.member(&announcement.announcer).is_some() && !membership.closed();
        check(announcement.room == self.id && follows && member, Rule::EpochBroken)?;
        let recipient =
            announcement.recipients.iter().find(|recipient| recipient.account == announcement.announcer);
        let list = recipient.ok_or(Rule::WrongRecipients)?.list;
        let certificate =
            reader.certificate(&announcement.announcer, &list, &announcement.announcer_device)?;
        certificate
            .device_key
            .verify(announcement.signed_bytes().as_bytes(), &announcement.signature, "epoch")
            .map_err(|_| Stop::Breaks(Rule::EpochBroken))
    }

    fn read_epoch(
        &mut self,
        arrived: &Arrived<'_>,
        reader: &Reader<'_>,
        rng: &mut impl CryptoRng,
    ) -> Checked<Accepted> {
        let announcement = arrived.announcement;
        let membership = self.membership.as_ref().ok_or(Rule::EpochBroken)?;
        let current = announcement.version == membership.version()
            && announcement.head == membership.head()
            && announcement.profile == arrived.profile.map(SealedProfile::hash);
        check(current, Rule::EpochBroken)?;
        check(announcement.seen_seq <= self.position.seq, Rule::LogMismatch)?;
        // Where a joiner begins is the relay's word, until the first announcer has signed a place
        // that is no earlier.
        check(self.epoch.is_some() || announcement.seen_seq >= self.start.seq, Rule::BadStart)?;
        self.check_seen(announcement.seen_seq, &announcement.seen_hash, reader)?;
        let lists = self.check_recipients(announcement, membership, reader)?;
        let role = membership.member(&announcement.announcer).map(|member| member.role);
        let device = reader.secrets.device();
        let own = lists.iter().find(|(known, _)| known.account() == reader.secrets.account());
        let (epoch, profile) = if own.is_some_and(|(_, list)| list.certificate(&device).is_none()) {
            // It was made when this device was not listed, and is nothing to worry about.
            (Epoch::without_key(announcement, arrived.taken_at, Rule::BeforeDevice), None)
        } else {
            arrived.take(reader.secrets, &lists, rng)?
        };
        let number = epoch.number();
        self.epoch = Some(epoch);
        // Announcements copy the profile for those who have none. A member's copy is taken as long
        // as no admin's word is known.
        let settles = role >= Some(Role::Admin);
        if profile.is_some() && (self.profile.is_none() || (settles && !self.profile_is_settled)) {
            self.profile = profile;
            self.profile_is_settled = settles;
        }
        if self.blocked.is_some_and(|block| block.heals) {
            self.blocked = None;
        }
        Ok(Accepted::Epoch { epoch: number })
    }

    /// The recipients are the members, each under its identity and under a list that is no older
    /// than the one of the epoch before.
    fn check_recipients<'a>(
        &self,
        announcement: &EpochAnnouncement,
        membership: &Membership,
        reader: &'a Reader<'_>,
    ) -> Checked<Vec<(&'a KnownAccount, &'a DeviceList)>> {
        let members = membership.members().map(|member| &member.account);
        let same = members.eq(announcement.recipients.iter().map(|recipient| &recipient.account));
        check(same, Rule::WrongRecipients)?;
        reader.know_all(membership)?;
        let mut lists = Vec::new();
        for recipient in &announcement.recipients {
            let known = reader.known(&recipient.account)?;
            let list = known.list(&recipient.list).ok_or_else(|| needs(&recipient.account))?;
            check(self.is_not_older(known, &recipient.list), Rule::WrongRecipients)?;
            lists.push((known, list));
        }
        Ok(lists)
    }
}
