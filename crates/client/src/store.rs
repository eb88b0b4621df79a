//! The vault, as the client uses it: what lies in which slot, and how rows become views.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use mildam_e2ee::recovery::WordLanguage;
use mildam_e2ee::{Directory, KnownAccount, PastHashes, PastUnreadable, RecoveryWords, SafetyNumber};
use mildam_protocol::command::{FriendListAnswer, PendingFriend, SessionId, SignUp};
use mildam_protocol::records::text::is_name;
use mildam_protocol::records::{
    AccountId, AccountKeys, ClientMessageId, Hash, IdentityPublicKey, ReceiptKind, Role, RoomId, RoomKind,
};
use mildam_vault::{Changes, HistoryRow, OutboxRow, ReceiptRow, Slot, Vault, VaultError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use unicode_normalization::UnicodeNormalization;
use unicode_security::skeleton;

use crate::clock::Clock;
use crate::error::Error;
use crate::model::{
    AccountView, ContactView, DeviceView, FriendRequestView, FriendView, FriendsView, HistoryPage,
    MemberView, MessageContent, MessageState, MessageView, Notice, RecoveryWordsView, RoomKindView, RoomView,
    SafetyNumberView, SearchHit, ServerView, TrustView,
};
use crate::server::Server;
use crate::times;

/// What lies in [`Slot::Account`].
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AccountSlot {
    pub(crate) account: AccountId,
    pub(crate) nickname: String,
    pub(crate) identity: Hash,
    pub(crate) device: String,
    /// The sign-up that the relay has not confirmed, without its password: a lost answer is asked
    /// for again with the same keys.
    pub(crate) pending: Option<PendingSignUp>,
    /// What the person is to be told, until dismissed.
    #[serde(default)]
    pub(crate) notices: Vec<Notice>,
}

/// The public part of a sign-up.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PendingSignUp {
    /// The command, with the password record and proof of the last try.
    pub(crate) command: Box<SignUp>,
}

/// What lies in [`Slot::Session`].
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SessionSlot {
    pub(crate) session: SessionId,
    pub(crate) expires_at: u64,
}

/// What is kept of another account, and of the own one.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContactRow {
    pub(crate) nickname: String,
    pub(crate) known: KnownAccount,
    /// The fingerprint of the identity that the person has compared.
    #[serde(default)]
    pub(crate) verified: Option<Hash>,
    /// Keys under another identity that the relay shows, until the person decides.
    #[serde(default)]
    pub(crate) offered: Option<Box<AccountKeys>>,
    /// The other identity that the person did not want.
    #[serde(default)]
    pub(crate) declined: Option<Hash>,
}

impl ContactRow {
    pub(crate) const fn first(nickname: String, known: KnownAccount) -> Self {
        Self { nickname, known, verified: None, offered: None, declined: None }
    }

    fn is_verified(&self) -> bool {
        self.offered.is_none() && self.verified == Some(self.known.identity().fingerprint())
    }
}

/// Everybody whose keys are known, in memory.
#[derive(Default)]
pub(crate) struct Contacts(BTreeMap<AccountId, ContactRow>);

impl Contacts {
    pub(crate) fn read(vault: &Vault) -> Result<Self, Error> {
        let mut contacts = BTreeMap::new();
        for (account, bytes) in vault.accounts()? {
            contacts.insert(account, serde_json::from_slice(&bytes)?);
        }
        Ok(Self(contacts))
    }

    pub(crate) fn get(&self, account: &AccountId) -> Option<&ContactRow> {
        self.0.get(account)
    }

    pub(crate) fn insert(&mut self, account: AccountId, row: ContactRow) {
        self.0.insert(account, row);
    }

    fn has_changed(&self, account: &AccountId) -> bool {
        self.0.get(account).is_some_and(|row| row.offered.is_some())
    }

    /// Nothing is sent to anybody for whom the relay shows another identity than the known one, until
    /// the person has decided.
    pub(crate) fn check_unchanged<'a>(
        &self,
        accounts: impl IntoIterator<Item = &'a AccountId>,
    ) -> Result<(), Error> {
        match accounts.into_iter().find(|account| self.has_changed(account)) {
            None => Ok(()),
            Some(account) => Err(Error::identity_changed(account)),
        }
    }
}

impl Directory for Contacts {
    fn account(&self, account: &AccountId) -> Option<&KnownAccount> {
        self.0.get(account).map(|row| &row.known)
    }
}

/// What is kept of a room beside its end-to-end state.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RoomMeta {
    pub(crate) kind: RoomKind,
    pub(crate) name: String,
    pub(crate) members: Vec<(AccountId, Role)>,
    /// The newest line and its place.
    pub(crate) last: Option<MessageView>,
    pub(crate) unread: u64,
    /// The last place that the user has seen.
    pub(crate) read_seq: u64,
    pub(crate) left: bool,
    /// Whether somebody put this account out.
    #[serde(default)]
    pub(crate) removed: bool,
    pub(crate) blocked: Option<String>,
    /// Whether only a room in its place helps.
    #[serde(default)]
    pub(crate) beyond_repair: bool,
    /// The room that has taken this one's place.
    #[serde(default)]
    pub(crate) replaced_by: Option<RoomId>,
    /// When the room was first seen here, for the order of rooms without lines.
    pub(crate) since: u64,
    /// When its newest line arrived.
    #[serde(default)]
    pub(crate) arrived: Arrival,
}

/// The place of a room among all, by what arrived last. The relay's clock orders what came over one
/// connection; that of a later connection comes after it, whatever the clocks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Arrival {
    /// Counts the connections of this device over which something came.
    pub(crate) connection: u64,
    /// Milliseconds since 1970 (UTC).
    pub(crate) time: u64,
}

impl Arrival {
    /// Later than everything that arrived: of what waits to be sent. A double holds the number exactly.
    const WAITING: u64 = (1 << 53) - 1;
}

impl RoomMeta {
    pub(crate) fn check_not_replaced(&self) -> Result<(), Error> {
        match &self.replaced_by {
            None => Ok(()),
            Some(room) => {
                let message = format!("Another room has taken this one's place: {room}.");
                Err(Error::new("room_replaced", message).with("room", room))
            }
        }
    }

    fn check_open(&self, contacts: &Contacts) -> Result<(), Error> {
        if self.left {
            return Err(Error::new("not_member", "You are not a member of this room."));
        }
        self.check_not_replaced()?;
        if matches!(self.blocked.as_deref(), None | Some("identity_changed")) {
            contacts.check_unchanged(self.members.iter().map(|(account, _)| account))?;
        }
        match &self.blocked {
            None => Ok(()),
            Some(code) => Err(Error::new(
                "blocked_room",
                format!("Nothing can be sent to this room at the moment ({code})."),
            )),
        }
    }
}

/// What an outbox row says.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    pub(crate) text: String,
    /// Why the relay refused it for good, if it did.
    pub(crate) failed: Option<Error>,
}

/// The vault behind a task that may block, and the time.
#[derive(Clone)]
pub(crate) struct Store {
    vault: Arc<RwLock<Vault>>,
    clock: Clock,
    /// Why the vault cannot be written until it is opened again.
    fault: watch::Sender<Option<Error>>,
    /// Messages of which somebody was told that they are not written. They may be, once it is opened again.
    unwritten: Arc<Mutex<Vec<(RoomId, ClientMessageId)>>>,
}

impl Store {
    pub(crate) fn new(vault: Vault, clock: Clock) -> Self {
        let (vault, fault) = (Arc::new(RwLock::new(vault)), watch::Sender::new(None));
        Self { vault, clock, fault, unwritten: Arc::default() }
    }

    /// Why nothing can be written, as long as that is so.
    pub(crate) fn fault(&self) -> watch::Receiver<Option<Error>> {
        self.fault.subscribe()
    }

    pub(crate) fn has_fault(&self) -> bool {
        self.fault.borrow().is_some()
    }

    /// Opens the vault again after a write that failed. What is in it may differ from what was read last.
    pub(crate) async fn reopen(&self) -> Result<(), Error> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut vault = store.vault.write().unwrap_or_else(PoisonError::into_inner);
            let outcome = vault.reopen().map_err(Error::from);
            store.fault.send_replace(outcome.as_ref().err().cloned());
            outcome
        })
        .await?
    }

    /// Notes a message whose writing failed.
    pub(crate) fn note_unwritten(&self, room: RoomId, id: ClientMessageId) {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).push((room, id));
    }

    /// The messages that must not be sent though they may lie in the outbox.
    pub(crate) fn take_unwritten(&self) -> Vec<(RoomId, ClientMessageId)> {
        std::mem::take(&mut *self.unwritten.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Milliseconds since 1970 (UTC).
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Reads, away from the threads that must not block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Vault) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || {
            let vault = store.vault.read().unwrap_or_else(PoisonError::into_inner);
            read(&vault).map_err(|error| {
                // The vault is asked only where something is wrong: while its keys are changed it does not
                // answer.
                let suspect = error.is_of_storage() || error.code() == "internal";
                let Some(fault) = suspect.then(|| vault.fault()).flatten() else { return error };
                let fault = Error::from(fault);
                store.fault.send_replace(Some(fault.clone()));
                fault
            })
        })
        .await?
    }

    /// Stores, durably, all or nothing.
    pub(crate) async fn commit(&self, changes: Changes) -> Result<(), Error> {
        self.read(|vault| Ok(vault.commit(changes)?)).await
    }

    pub(crate) fn log_hash(&self, room: &RoomId, seq: u64) -> Result<Option<Hash>, VaultError> {
        self.vault.read().unwrap_or_else(PoisonError::into_inner).log_hash(room, seq)
    }
}

/// The log hashes of one room: those of the batch in hand, then those in the vault.
pub(crate) struct Hashes<'a> {
    pub(crate) store: &'a Store,
    pub(crate) room: RoomId,
    pub(crate) batch: &'a BTreeMap<u64, Hash>,
}

impl PastHashes for Hashes<'_> {
    fn log_hash(&self, seq: u64) -> Result<Option<Hash>, PastUnreadable> {
        if let Some(hash) = self.batch.get(&seq) {
            return Ok(Some(*hash));
        }
        let unreadable =
            |error: VaultError| PastUnreadable { code: error.code(), message: format!("{error}.") };
        self.store.log_hash(&self.room, seq).map_err(unreadable)
    }
}

/// A slot's value, if there is one.
pub(crate) fn slot<T: DeserializeOwned>(vault: &Vault, slot: Slot) -> Result<Option<T>, Error> {
    match vault.get(slot)? {
        Some(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        None => Ok(None),
    }
}

/// Puts a value into a slot.
pub(crate) fn put(changes: &mut Changes, slot: Slot, value: &impl Serialize) -> Result<(), Error> {
    changes.put(slot, serde_json::to_vec(value)?);
    Ok(())
}

/// What people are called, and how far they are known.
pub(crate) struct People {
    names: BTreeMap<AccountId, String>,
    contacts: Contacts,
}

impl People {
    pub(crate) fn read(vault: &Vault) -> Result<Self, Error> {
        let contacts = Contacts::read(vault)?;
        let mut names: BTreeMap<_, _> =
            contacts.0.iter().map(|(account, row)| (account.clone(), row.nickname.clone())).collect();
        let friends: FriendListAnswer = slot(vault, Slot::Friends)?.unwrap_or_default();
        names.extend(friends.friends.into_iter().map(|friend| (friend.account, friend.nickname)));
        if let Some(own) = slot::<AccountSlot>(vault, Slot::Account)? {
            names.insert(own.account, own.nickname);
        }
        Ok(Self { names, contacts })
    }

    fn name(&self, account: &AccountId) -> String {
        shown_name(account, self.names.get(account).map_or("", String::as_str))
    }

    fn trust(&self, account: &AccountId) -> TrustView {
        match self.contacts.get(account) {
            Some(row) if row.offered.is_some() => TrustView::Changed,
            Some(row) if row.is_verified() => TrustView::Verified,
            _ => TrustView::Unverified,
        }
    }
}

/// What a name looks like: letters that are drawn alike in whatever script are one, capital or not.
fn look_of(name: &str) -> String {
    let look: String = skeleton(&name.to_lowercase()).collect();
    look.to_lowercase()
}

/// A nickname that is none, because it shows nothing or would turn the text around it, gives way to the id.
fn shown_name(account: &AccountId, nickname: &str) -> String {
    if is_name(nickname) { nickname.to_owned() } else { account.to_string() }
}

pub(crate) fn server(vault: &Vault) -> Result<Option<ServerView>, Error> {
    Ok(known_server(vault)?.map(|server| server.view()))
}

pub(crate) fn known_server(vault: &Vault) -> Result<Option<Server>, Error> {
    vault.get(Slot::Server)?.map(|bytes| Server::from_slot(&bytes)).transpose()
}

pub(crate) fn account(vault: &Vault) -> Result<Option<AccountView>, Error> {
    let Some(own) = slot::<AccountSlot>(vault, Slot::Account)?.filter(|own| own.pending.is_none()) else {
        return Ok(None);
    };
    let nickname = shown_name(&own.account, &own.nickname);
    Ok(Some(AccountView {
        look: look_of(&nickname),
        nickname,
        account: own.account.to_string(),
        identity: own.identity.to_string(),
        device: own.device,
        logged_in: vault.get(Slot::Session)?.is_some(),
        words_pending: vault.get(Slot::RecoveryWords)?.is_some(),
        notices: own.notices,
    }))
}

fn own_account(vault: &Vault) -> Result<AccountId, Error> {
    slot::<AccountSlot>(vault, Slot::Account)?.map(|own| own.account).ok_or_else(Error::no_account)
}

pub(crate) fn friends(vault: &Vault) -> Result<FriendsView, Error> {
    let list: FriendListAnswer = slot(vault, Slot::Friends)?.unwrap_or_default();
    let people = People::read(vault)?;
    let mut friends: Vec<FriendView> = list
        .friends
        .iter()
        .map(|friend| {
            let nickname = people.name(&friend.account);
            FriendView {
                account: friend.account.to_string(),
                look: look_of(&nickname),
                nickname,
                trust: people.trust(&friend.account),
            }
        })
        .collect();
    friends.sort_by(|one, two| (&one.nickname, &one.account).cmp(&(&two.nickname, &two.account)));
    let requests = |waiting: &[PendingFriend]| {
        let mut views: Vec<_> = waiting.iter().map(request_view).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.requested_at));
        views
    };
    Ok(FriendsView { friends, incoming: requests(&list.incoming), outgoing: requests(&list.outgoing) })
}

fn request_view(request: &PendingFriend) -> FriendRequestView {
    let nickname = shown_name(&request.account, &request.nickname);
    FriendRequestView {
        account: request.account.to_string(),
        look: look_of(&nickname),
        nickname,
        greeting: request.greeting.clone(),
        requested_at: times::bounded(request.requested_at),
    }
}

fn contact_row(vault: &Vault, account: &AccountId) -> Result<ContactRow, Error> {
    let bytes = vault.account(account)?.ok_or_else(|| Error::not_found("contact"))?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The safety number of two people.
fn safety_number(
    (one, identity): (&AccountId, &IdentityPublicKey),
    other: &KnownAccount,
) -> Result<SafetyNumberView, Error> {
    let number = SafetyNumber::of((one, identity), (other.account(), other.identity()))?;
    SafetyNumberView::new(&number)
}

/// All that is known of a contact.
pub(crate) fn contact(vault: &Vault, account: &AccountId, now: u64) -> Result<ContactView, Error> {
    let (own, row) = (contact_row(vault, &own_account(vault)?)?, contact_row(vault, account)?);
    let people = People::read(vault)?;
    let own = (own.known.account(), own.known.identity());
    let offered = match &row.offered {
        Some(keys) => {
            let another = KnownAccount::first_contact((**keys).clone())
                .map_err(|_| Error::internal("an offered identity does not verify"))?;
            Some(safety_number(own, &another)?)
        }
        None => None,
    };
    let devices = row.known.newest().map_or(&[][..], |list| &list.certificates);
    Ok(ContactView {
        account: account.to_string(),
        nickname: people.name(account),
        trust: people.trust(account),
        was_verified: row.verified.is_some(),
        safety_number: safety_number(own, &row.known)?,
        offered,
        devices: devices
            .iter()
            .map(|certificate| DeviceView {
                device: certificate.device.to_string(),
                added_at: times::bounded(certificate.created_at),
                active: row.known.prekey(&certificate.device).is_some_and(|prekey| {
                    now.saturating_sub(prekey.created_at) <= mildam_e2ee::room::PREKEY_MILLISECONDS
                }),
            })
            .collect(),
    })
}

/// The recovery words, as long as they are on this device.
pub(crate) fn recovery_words(vault: &Vault) -> Result<Option<RecoveryWordsView>, Error> {
    slot::<Vec<String>>(vault, Slot::RecoveryWords)?.map(words_view).transpose()
}

/// The words in both languages, Hangul composed.
fn words_view(english: Vec<String>) -> Result<RecoveryWordsView, Error> {
    let words = RecoveryWords::parse(&english.join(" ")).map_err(|_| Error::internal("recovery words"))?;
    let korean = words.words(WordLanguage::Korean).into_iter().map(|word| word.nfc().collect()).collect();
    Ok(RecoveryWordsView { english, korean })
}

/// Changes the vault's keys, if that was so many milliseconds ago.
pub(crate) fn rotate(vault: &Vault, now: u64, rotate_after: u64) -> Result<(), VaultError> {
    // A time to come is none: the clock was put back.
    let due = now.checked_sub(vault.rotated_at()?).is_none_or(|since| since >= rotate_after);
    if due { vault.rotate(now) } else { Ok(()) }
}

/// Writes a snapshot if one is due.
pub(crate) fn keep_snapshot(vault: &Vault) -> Result<(), VaultError> {
    if vault.snapshot_is_due()? { vault.snapshot() } else { Ok(()) }
}

pub(crate) fn room_meta(vault: &Vault, room: &RoomId) -> Result<RoomMeta, Error> {
    let row = vault.room(room)?.ok_or_else(|| Error::not_found("room"))?;
    Ok(serde_json::from_slice(&row.meta)?)
}

pub(crate) fn rooms(vault: &Vault) -> Result<Vec<RoomView>, Error> {
    let (people, own) = (People::read(vault)?, own_account(vault)?);
    let mut views = Vec::new();
    for (room, meta) in vault.room_metas()? {
        let meta: RoomMeta = serde_json::from_slice(&meta)?;
        views.push(room_view(vault, room, meta, &people, &own)?);
    }
    views.sort_by_key(|view| std::cmp::Reverse(view.order));
    Ok(views)
}

/// Whether anything can be sent to a room at the moment.
pub(crate) fn check_open(vault: &Vault, room: &RoomId) -> Result<(), Error> {
    room_meta(vault, room)?.check_open(&Contacts::read(vault)?)
}

/// Puts a message into the outbox: the message, and what is shown of its room. If one with its id is there, or
/// was sent, it is that one, and nothing new is shown.
pub(crate) fn queue(vault: &Vault, row: OutboxRow) -> Result<(MessageView, Option<RoomView>), Error> {
    let (room, id, people) = (row.room, row.id, People::read(vault)?);
    let own = own_account(vault)?;
    if let Some(before) = message(vault, &room, &id)?.filter(|before| before.from == own.as_str()) {
        return Ok((before, None));
    }
    room_meta(vault, &room)?.check_open(&people.contacts)?;
    let mut changes = Changes::new();
    changes.put_outbox(row);
    vault.commit(changes)?;
    let message = message(vault, &room, &id)?.ok_or_else(|| Error::not_found("message"))?;
    let meta = room_meta(vault, &room)?;
    let line = room_view(vault, room, meta, &people, &own)?;
    Ok((message, Some(line)))
}

pub(crate) fn room(vault: &Vault, room: &RoomId) -> Result<RoomView, Error> {
    room_view(vault, *room, room_meta(vault, room)?, &People::read(vault)?, &own_account(vault)?)
}

fn room_view(
    vault: &Vault,
    room: RoomId,
    meta: RoomMeta,
    people: &People,
    own: &AccountId,
) -> Result<RoomView, Error> {
    let role = |role: &Role| match role {
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Owner => "owner",
    };
    let others = || meta.members.iter().map(|(account, _)| account).filter(|account| *account != own);
    let name = match meta.kind {
        RoomKind::Direct => others().map(|account| people.name(account)).collect::<Vec<_>>().join(", "),
        RoomKind::Group if !is_name(&meta.name) => {
            others().map(|account| people.name(account)).collect::<Vec<_>>().join(", ")
        }
        RoomKind::Group => meta.name.clone(),
    };
    let changed = meta.members.iter().any(|(account, _)| people.contacts.has_changed(account));
    let outbox: Vec<MessageView> =
        vault.outbox_of(&room)?.into_iter().map(|row| outbox_view(row, own)).collect::<Result<_, _>>()?;
    let failed = outbox.iter().filter(|message| message.state == MessageState::Failed).count();
    // What can never go is marked, and does not stand for the room.
    let waiting = outbox.into_iter().rfind(|message| message.state == MessageState::Pending);
    let arrived = match &waiting {
        Some(waiting) => Arrival { connection: Arrival::WAITING, time: waiting.sent_at },
        // A room of before arrivals were kept.
        None if meta.arrived == Arrival::default() => {
            let time = meta.last.as_ref().map_or(meta.since, |last| last.sent_at);
            Arrival { time: times::bounded(time), ..meta.arrived }
        }
        None => meta.arrived,
    };
    let last = match (waiting, meta.last) {
        (Some(waiting), _) => Some(waiting),
        (None, Some(mut last)) => {
            last.sent_at = times::bounded(last.sent_at);
            let receipts = vault.receipts(&room)?;
            Some(with_state(last, &receipts, &meta.members, own))
        }
        (None, None) => None,
    };
    Ok(RoomView {
        room: room.to_string(),
        kind: match meta.kind {
            RoomKind::Direct => RoomKindView::Direct,
            RoomKind::Group => RoomKindView::Group,
        },
        look: look_of(&name),
        name,
        members: meta
            .members
            .iter()
            .map(|(account, held)| {
                let nickname = people.name(account);
                MemberView {
                    account: account.to_string(),
                    look: look_of(&nickname),
                    nickname,
                    role: role(held).to_owned(),
                    trust: people.trust(account),
                }
            })
            .collect(),
        last,
        unread: meta.unread,
        failed: u64::try_from(failed).unwrap_or(u64::MAX),
        order: (arrived.connection, arrived.time),
        left: meta.left,
        removed: meta.removed,
        blocked: meta.blocked.or_else(|| changed.then(|| "identity_changed".to_owned())),
        beyond_repair: meta.beyond_repair && !changed,
        replaced_by: meta.replaced_by.map(|room| room.to_string()),
    })
}

/// How far a message of one's own has come: the others' receipts cover it, or not yet.
fn with_state(
    mut view: MessageView,
    receipts: &[ReceiptRow],
    members: &[(AccountId, Role)],
    own: &AccountId,
) -> MessageView {
    let Some(seq) = view.seq.filter(|_| view.from == own.as_str()) else {
        return view;
    };
    let covered = |kinds: &[ReceiptKind]| {
        let mut others = members.iter().filter(|(account, _)| account != own).peekable();
        others.peek().is_some()
            && others.all(|(account, _)| {
                receipts.iter().any(|receipt| {
                    receipt.account == *account && kinds.contains(&receipt.kind) && receipt.seq >= seq
                })
            })
    };
    view.state = if covered(&[ReceiptKind::Read]) {
        MessageState::Read
    } else if covered(&[ReceiptKind::Read, ReceiptKind::Delivered]) {
        MessageState::Delivered
    } else {
        MessageState::Stored
    };
    view
}

/// A stored line as it was written: own lines still without the others' receipts.
pub(crate) fn line_view(room: &RoomId, row: &HistoryRow, own: &AccountId) -> Result<MessageView, Error> {
    Ok(MessageView {
        room: room.to_string(),
        seq: Some(row.seq),
        id: row.id.to_string(),
        from: row.from.to_string(),
        content: serde_json::from_slice(&row.body)?,
        sent_at: times::bounded(row.sent_at),
        state: if row.from == *own { MessageState::Stored } else { MessageState::Received },
        failure: None,
    })
}

/// What waits to be sent, and what could not be sent, in the order in which it was written.
pub(crate) fn outbox(vault: &Vault) -> Result<Vec<MessageView>, Error> {
    let own = own_account(vault)?;
    vault.outbox()?.into_iter().map(|row| outbox_view(row, &own)).collect()
}

pub(crate) fn outbox_view(row: OutboxRow, own: &AccountId) -> Result<MessageView, Error> {
    let outgoing: Outgoing = serde_json::from_slice(&row.body)?;
    Ok(MessageView {
        room: row.room.to_string(),
        seq: None,
        id: row.id.to_string(),
        from: own.to_string(),
        content: MessageContent::Text { text: outgoing.text, missing_before: 0 },
        sent_at: times::bounded(row.created_at),
        state: if outgoing.failed.is_some() { MessageState::Failed } else { MessageState::Pending },
        failure: outgoing.failed.map(|error| error.code().to_owned()),
    })
}

/// Why the relay refused a message for good.
pub(crate) fn send_failure(vault: &Vault, room: &RoomId, id: &str) -> Result<Error, Error> {
    let row = vault.outbox_of(room)?.into_iter().find(|row| row.id.to_string() == id);
    let outgoing: Outgoing = serde_json::from_slice(&row.ok_or_else(|| Error::not_found("message"))?.body)?;
    outgoing.failed.ok_or_else(|| Error::not_found("message"))
}

pub(crate) fn history(
    vault: &Vault,
    room: &RoomId,
    before: Option<u64>,
    limit: usize,
) -> Result<HistoryPage, Error> {
    let (meta, own) = (room_meta(vault, room)?, own_account(vault)?);
    let receipts = vault.receipts(room)?;
    let mut rows = vault.history(room, before, limit.saturating_add(1))?;
    let more = rows.len() > limit;
    if more {
        rows.remove(0);
    }
    let mut messages = Vec::with_capacity(rows.len());
    for row in &rows {
        messages.push(with_state(line_view(room, row, &own)?, &receipts, &meta.members, &own));
    }
    if before.is_none() {
        for row in vault.outbox_of(room)? {
            messages.push(outbox_view(row, &own)?);
        }
    }
    Ok(HistoryPage { messages, more })
}

/// One stored message with its state.
pub(crate) fn message(
    vault: &Vault,
    room: &RoomId,
    id: &ClientMessageId,
) -> Result<Option<MessageView>, Error> {
    let (meta, own) = (room_meta(vault, room)?, own_account(vault)?);
    if let Some(row) = vault.message_by_id(room, id)? {
        let receipts = vault.receipts(room)?;
        return Ok(Some(with_state(line_view(room, &row, &own)?, &receipts, &meta.members, &own)));
    }
    let waiting = vault.outbox_of(room)?.into_iter().find(|row| row.id == *id);
    waiting.map(|row| outbox_view(row, &own)).transpose()
}

/// Own lines in `(after, up_to]`, newest 100, with their states.
pub(crate) fn own_lines(
    vault: &Vault,
    room: &RoomId,
    after: u64,
    up_to: u64,
) -> Result<Vec<MessageView>, Error> {
    let own = own_account(vault)?;
    let page = history(vault, room, Some(up_to.saturating_add(1)), 100)?;
    let wanted = |view: &MessageView| view.from == own.as_str() && view.seq.is_some_and(|seq| seq > after);
    Ok(page.messages.into_iter().filter(wanted).collect())
}

pub(crate) fn search(vault: &Vault, query: &str, limit: usize) -> Result<Vec<SearchHit>, Error> {
    let (people, own) = (People::read(vault)?, own_account(vault)?);
    let mut hits = Vec::new();
    for hit in vault.search(query, limit)? {
        let meta = room_meta(vault, &hit.room)?;
        let receipts = vault.receipts(&hit.room)?;
        let message = with_state(line_view(&hit.room, &hit.row, &own)?, &receipts, &meta.members, &own);
        let room_name = room_view(vault, hit.room, meta, &people, &own)?.name;
        hits.push(SearchHit { message, room_name, ranges: hit.ranges });
    }
    Ok(hits)
}
