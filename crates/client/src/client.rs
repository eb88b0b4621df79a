//! The facade.

use std::path::Path;
use std::sync::Arc;

use mildam_protocol::link::{Invitation, InvitationToken};
use mildam_protocol::records::text::{is_name, tidy_name};
use mildam_protocol::records::{AccountId, ClientMessageId, RecordError, RoomId};
use mildam_vault::{OutboxRow, Unlock, Vault};
use rand_core::Rng;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::connection::Keeper;
use crate::engine::{Engine, Job};
use crate::error::Error;
use crate::events::{EventStream, Events};
use crate::model::{
    AccountView, ClientState, ContactView, Event, FriendsView, HistoryPage, MessageView, Notice,
    PresenceView, RecoveryWordsView, RepairView, RoomView, SearchHit, ServerView, SessionView,
};
use crate::safety;
use crate::standing::Standing;
use crate::store::{self, Outgoing, Store};

/// What a person gives to get an account.
pub struct SignUp {
    /// The id to take.
    pub account: String,
    /// An e-mail address of their own.
    pub email: String,
    /// The password.
    pub password: Zeroizing<String>,
    /// What others read; empty for the id.
    pub nickname: String,
}

/// What a person gives to get an account back that was on other devices.
pub struct Recover {
    /// The account.
    pub account: String,
    /// The twelve recovery words, in either language, as typed or pasted.
    pub words: Zeroizing<String>,
    /// A new password, which replaces the old one.
    pub password: Zeroizing<String>,
}

/// The messenger of one account on one device. Clones share it.
#[derive(Clone)]
pub struct Client {
    store: Store,
    events: Events,
    jobs: mpsc::Sender<Job>,
    standing: watch::Receiver<Standing>,
    presence: watch::Receiver<PresenceView>,
    hurry: Arc<Notify>,
    stop: CancellationToken,
    tasks: Arc<std::sync::Mutex<Vec<JoinHandle<()>>>>,
}

fn parse_account(account: &str) -> Result<AccountId, Error> {
    account.trim().parse().map_err(|_: RecordError| {
        Error::new(
            "bad_account",
            "An id has 3 to 32 characters: small letters a-z, digits, _ and ., a letter first.",
        )
    })
}

/// A token, alone or at the end of a link.
fn parse_invitation(text: &str) -> Result<InvitationToken, Error> {
    let text = text.trim();
    let token = text.parse::<InvitationToken>().ok().or_else(|| text.parse::<Invitation>().ok()?.token);
    token.ok_or_else(|| Error::new("invitation_invalid", "This is no invitation: copy it whole."))
}

fn parse_accounts(accounts: &[String]) -> Result<Vec<AccountId>, Error> {
    accounts.iter().map(|account| parse_account(account)).collect()
}

fn parse_room(room: &str) -> Result<RoomId, Error> {
    room.parse().map_err(|_| Error::not_found("room"))
}

fn parse_message(id: &str) -> Result<ClientMessageId, Error> {
    id.parse().map_err(|_| Error::not_found("message"))
}

/// Refuses names that show nothing, or that would turn or break the text around them.
fn check_name(name: &str) -> Result<(), Error> {
    if is_name(name) {
        return Ok(());
    }
    Err(Error::new("bad_name", "A name is one line, with something to see in it."))
}

/// Refuses what no reader could do anything with, before it costs anything.
fn check_text(text: &str) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::new("empty", "There is nothing to send."));
    }
    if text.len() > crate::MAX_TEXT {
        return Err(Error::new("too_long", "The text is too long: at most 16 KiB go into one message."));
    }
    Ok(())
}

impl Client {
    /// Opens the vault in `home`, or makes one, and starts: connects if a relay is known.
    ///
    /// # Errors
    /// What is wrong with the vault: `wrong_passphrase`, `vault_locked`, `vault_damaged`,
    /// `vault_newer`, `keyring_unavailable`, `disk_full`.
    pub async fn open(home: &Path, unlock: Unlock) -> Result<Self, Error> {
        Self::open_with(home, unlock, Clock::system()).await
    }

    /// The same, with a clock of one's own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(home: &Path, unlock: Unlock, clock: Clock) -> Result<Self, Error> {
        let home = home.to_owned();
        if matches!(&unlock, Unlock::Passphrase(passphrase) if passphrase.trim().is_empty())
            && !Vault::exists(&home)
        {
            return Err(Error::new("empty", "The passphrase is empty."));
        }
        let vault = tokio::task::spawn_blocking(move || Vault::open(&home, unlock)).await??;
        Self::start(vault, clock).await
    }

    /// Puts a damaged vault together again from its store and its snapshot, and starts. Everything
    /// that this device would send with is made anew, as what it had may be out of date. Tells what came back.
    ///
    /// # Errors
    /// As [`Self::open`]; `vault_damaged` if nothing can be read.
    pub async fn repair(home: &Path, unlock: Unlock) -> Result<(Self, RepairView), Error> {
        let home = home.to_owned();
        let recover = move || {
            let vault = Vault::recover(&home, &unlock)?;
            let repair = vault.repair()?.unwrap_or_default();
            Ok::<_, Error>((vault, repair))
        };
        let (vault, repair) = tokio::task::spawn_blocking(recover).await??;
        let view = RepairView {
            account: repair.account,
            rooms: repair.rooms,
            messages: repair.messages,
            unreadable: repair.unreadable,
        };
        Ok((Self::start(vault, Clock::system()).await?, view))
    }

    async fn start(vault: Vault, clock: Clock) -> Result<Self, Error> {
        let (store, events) = (Store::new(vault, clock), Events::new());
        let (jobs, jobs_in) = mpsc::channel(64);
        let (news, news_in) = mpsc::channel(256);
        let (presence, presence_out) = watch::channel(PresenceView::default());
        let (hurry, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let (engine, server, standing) =
            Engine::load(store.clone(), events.clone(), jobs_in, news_in, Arc::clone(&hurry), presence)
                .await?;
        let keeper = Keeper::new(server, news, Arc::clone(&hurry));
        let tasks = vec![tokio::spawn(keeper.run(stop.clone())), tokio::spawn(engine.run(stop.clone()))];
        let tasks = Arc::new(std::sync::Mutex::new(tasks));
        Ok(Self { store, events, jobs, standing, presence: presence_out, hurry, stop, tasks })
    }

    /// The news from now on.
    #[must_use]
    pub fn subscribe(&self) -> EventStream {
        self.events.subscribe()
    }

    /// Where everything stands.
    ///
    /// # Errors
    /// If the vault cannot be read.
    pub async fn state(&self) -> Result<ClientState, Error> {
        let standing = self.standing.borrow().clone();
        self.store.read(move |vault| standing.state(vault)).await
    }

    async fn job<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let closed = || Error::internal("the client is shut down");
        self.jobs.send(make(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Connects to the relay of a server link, or of an invitation, and remembers it, with what lets one sign
    /// up there.
    ///
    /// # Errors
    /// `bad_link`, `offline`, `proxy_failed` if the system names a proxy that does not lead there,
    /// `wrong_fingerprint`, `set_up_failed`, `busy`.
    pub async fn connect(&self, link: &str) -> Result<ServerView, Error> {
        let Invitation { link, token: invitation, .. } = link.parse()?;
        self.job(|reply| Job::Connect { link, invitation, reply }).await
    }

    /// Decides about another server key that the relay's address shows: it replaces the known one,
    /// and a connection is tried at once, or it is not asked about again until another one is shown or
    /// the program starts anew.
    ///
    /// # Errors
    /// `not_found` unless `found` is the fingerprint in
    /// [`ClientState::offered_key`](crate::ClientState::offered_key).
    pub async fn decide_server_key(&self, found: &str, accept: bool) -> Result<ClientState, Error> {
        let found = found.trim().to_owned();
        self.job(|reply| Job::DecideServerKey { found, accept, reply }).await
    }

    /// Forgets an address of the relay that is known under several.
    ///
    /// # Errors
    /// `not_found`; `forbidden` for the only one.
    pub async fn forget_address(&self, address: &str) -> Result<ServerView, Error> {
        let address = address.trim().to_owned();
        self.job(|reply| Job::ForgetAddress { address, reply }).await
    }

    /// Makes an account: generates its keys, telling each step, and registers it.
    ///
    /// # Errors
    /// `no_server`, `bad_account`, `bad_name`, `bad_email`, `bad_password`, `account_taken`,
    /// `invitation_needed`, `invitation_invalid`, `sign_up_closed`, ...
    pub async fn sign_up(&self, sign_up: SignUp) -> Result<AccountView, Error> {
        self.sign_up_by(None, sign_up).await
    }

    /// The same by an invitation: its token, or a link with it. Otherwise it is the one that came with the
    /// link of [`Self::connect`], if one did.
    ///
    /// # Errors
    /// As [`Self::sign_up`].
    pub async fn sign_up_invited(&self, sign_up: SignUp, invitation: &str) -> Result<AccountView, Error> {
        let invitation = parse_invitation(invitation)?;
        self.sign_up_by(Some(invitation), sign_up).await
    }

    async fn sign_up_by(
        &self,
        invitation: Option<InvitationToken>,
        sign_up: SignUp,
    ) -> Result<AccountView, Error> {
        let account = parse_account(&sign_up.account)?;
        let sign_up = SignUp { nickname: tidy_name(&sign_up.nickname), ..sign_up };
        if !sign_up.nickname.is_empty() {
            check_name(&sign_up.nickname)?;
        }
        self.job(|reply| Job::SignUp { account, sign_up, invitation, reply }).await
    }

    /// Logs this device's account in again.
    ///
    /// # Errors
    /// `device_unknown` for an account that was not made on this device, `wrong_credentials`, ...
    pub async fn log_in(&self, account: &str, password: Zeroizing<String>) -> Result<AccountView, Error> {
        let account = parse_account(account)?;
        self.job(|reply| Job::LogIn { account, password, reply }).await
    }

    /// Gets an account back with its recovery words: this device becomes its only one. Others are
    /// shut out and lose nothing that they have; messages of before cannot be read here.
    ///
    /// # Errors
    /// `words_count`, `words_unknown` (naming the word), `words_checksum`, `wrong_words`,
    /// `bad_account`, `bad_password`, `forbidden` if another account is on this device, `offline`.
    pub async fn recover(&self, recover: Recover) -> Result<AccountView, Error> {
        let account = parse_account(&recover.account)?;
        self.job(|reply| Job::Recover { account, recover, reply }).await
    }

    /// The person has seen a notice.
    ///
    /// # Errors
    /// If the vault cannot be written.
    pub async fn dismiss(&self, notice: Notice) -> Result<(), Error> {
        self.job(|reply| Job::Dismiss { notice, reply }).await
    }

    /// All that is known of a contact: safety number, devices, whether it was compared.
    ///
    /// # Errors
    /// `not_found` for an account whose keys are not known here.
    pub async fn contact(&self, account: &str) -> Result<ContactView, Error> {
        let account = parse_account(account)?;
        let now = self.store.now();
        self.store.read(move |vault| store::contact(vault, &account, now)).await
    }

    /// Marks a contact as compared, or takes that back.
    ///
    /// # Errors
    /// `not_found`
    pub async fn set_verified(&self, account: &str, verified: bool) -> Result<ContactView, Error> {
        let account = parse_account(account)?;
        self.job(|reply| Job::SetVerified { account, verified, reply }).await
    }

    /// Compares a safety number that the other person sent or read out, and marks the contact as
    /// compared if it is the same.
    ///
    /// # Errors
    /// `bad_safety_number` without 60 digits, `safety_number_differs`, `not_found`.
    pub async fn compare_safety_number(&self, account: &str, text: &str) -> Result<ContactView, Error> {
        self.contact(account).await?.safety_number.compare(text)?;
        self.set_verified(account, true).await
    }

    /// As [`Self::compare_safety_number`], with a picture (PNG, JPEG) of the other one's QR code.
    ///
    /// # Errors
    /// `bad_picture`, and the same.
    pub async fn compare_picture(&self, account: &str, picture: Vec<u8>) -> Result<ContactView, Error> {
        let text = tokio::task::spawn_blocking(move || safety::read_qr(&picture)).await??;
        self.compare_safety_number(account, &text).await
    }

    /// Decides about a contact whose identity has changed: the new one is taken, unverified, or the
    /// known one is kept.
    ///
    /// # Errors
    /// `not_found` if it has not changed.
    pub async fn decide_identity(&self, account: &str, accept: bool) -> Result<ContactView, Error> {
        let account = parse_account(account)?;
        self.job(|reply| Job::DecideIdentity { account, accept, reply }).await
    }

    /// Erases now what would be erased within a day: replaced prekeys whose time is over, and what was
    /// deleted, by changing the keys of the vault.
    ///
    /// # Errors
    /// If the vault cannot be written. Being offline is none: prekeys are erased the next time.
    pub async fn erase_now(&self) -> Result<(), Error> {
        self.job(|reply| Job::EraseNow { reply }).await
    }

    /// Lets the vault be opened by another passphrase, or by the system's keyring, from now on.
    ///
    /// # Errors
    /// `wrong_passphrase` if `current` is not what opens it now, `keyring_unavailable`, `disk_full`,
    /// `vault_damaged` if it must be repaired first.
    pub async fn change_unlock(&self, current: Unlock, next: Unlock) -> Result<(), Error> {
        if matches!(&next, Unlock::Passphrase(passphrase) if passphrase.trim().is_empty()) {
            return Err(Error::new("empty", "The new passphrase is empty."));
        }
        let now = self.store.now();
        self.store.read(move |vault| Ok(vault.change_unlock(&current, &next, now)?)).await
    }

    /// Whether something opens this client's vault: for those who ask another process that has it open.
    ///
    /// # Errors
    /// `wrong_passphrase`, `keyring_unavailable`
    pub async fn check_unlock(&self, unlock: Unlock) -> Result<(), Error> {
        self.store.read(move |vault| Ok(vault.check_unlock(&unlock)?)).await
    }

    /// Makes a room in the place of one in which nothing can ever be said again
    /// ([`RoomView::beyond_repair`]), with the same people. In a group, an admin or the owner can.
    ///
    /// # Errors
    /// `forbidden`, `room_replaced`, `not_found`, `offline`, ...
    pub async fn replace_room(&self, room: &str) -> Result<RoomView, Error> {
        let room = parse_room(room)?;
        self.job(|reply| Job::ReplaceRoom { room, reply }).await
    }

    /// Goes on in a room that is blocked because its log was shown differently to others.
    ///
    /// # Errors
    /// `blocked_room` if it is blocked for a reason that cannot be passed over, `forbidden` if its log is not
    /// in doubt, `not_found`.
    pub async fn end_block(&self, room: &str) -> Result<RoomView, Error> {
        let room = parse_room(room)?;
        self.job(|reply| Job::EndBlock { room, reply }).await
    }

    /// Ends the session. The history stays readable.
    ///
    /// # Errors
    /// `no_account`
    pub async fn log_out(&self) -> Result<(), Error> {
        self.job(|reply| Job::LogOut { reply }).await
    }

    /// The recovery words, which bring the account back on another device, until they are confirmed as
    /// written down. Nothing else gives them away: no state and no event.
    ///
    /// # Errors
    /// If the vault cannot be read.
    pub async fn recovery_words(&self) -> Result<Option<RecoveryWordsView>, Error> {
        self.store.read(store::recovery_words).await
    }

    /// The user has written the recovery words down: they are erased here.
    ///
    /// # Errors
    /// If the vault cannot be written.
    pub async fn confirm_recovery_words(&self) -> Result<(), Error> {
        self.job(|reply| Job::ConfirmWords { reply }).await
    }

    /// Friends and requests.
    ///
    /// # Errors
    /// If the vault cannot be read.
    pub async fn friends(&self) -> Result<FriendsView, Error> {
        self.store.read(store::friends).await
    }

    /// Asks somebody to be a friend.
    ///
    /// # Errors
    /// `bad_account`, `not_found`, `already_friends`, `offline`, ...
    pub async fn request_friend(&self, account: &str, greeting: &str) -> Result<(), Error> {
        let (account, greeting) = (parse_account(account)?, greeting.trim().to_owned());
        self.job(|reply| Job::RequestFriend { account, greeting, reply }).await
    }

    /// Accepts a request.
    ///
    /// # Errors
    /// `not_found`, `offline`, ...
    pub async fn accept_friend(&self, account: &str) -> Result<(), Error> {
        let account = parse_account(account)?;
        self.job(|reply| Job::AnswerFriend { account, accept: true, reply }).await
    }

    /// Declines a request.
    ///
    /// # Errors
    /// `not_found`, `offline`, ...
    pub async fn decline_friend(&self, account: &str) -> Result<(), Error> {
        let account = parse_account(account)?;
        self.job(|reply| Job::AnswerFriend { account, accept: false, reply }).await
    }

    /// The rooms, the one with the newest line first.
    ///
    /// # Errors
    /// `no_account`, or if the vault cannot be read.
    pub async fn rooms(&self) -> Result<Vec<RoomView>, Error> {
        self.store.read(store::rooms).await
    }

    /// One room.
    ///
    /// # Errors
    /// `not_found`
    pub async fn room(&self, room: &str) -> Result<RoomView, Error> {
        let room = parse_room(room)?;
        self.store.read(move |vault| store::room(vault, &room)).await
    }

    /// Opens the one-to-one room with a friend, or makes it.
    ///
    /// # Errors
    /// `not_friends`, `offline`, ...
    pub async fn open_direct(&self, account: &str) -> Result<RoomView, Error> {
        let account = parse_account(account)?;
        self.job(|reply| Job::OpenDirect { account, reply }).await
    }

    /// Makes a group with friends.
    ///
    /// # Errors
    /// `empty` without a name, `too_long`, `not_friends`, `offline`, ...
    pub async fn create_group(&self, name: &str, accounts: &[String]) -> Result<RoomView, Error> {
        let (name, accounts) = (tidy_name(name), parse_accounts(accounts)?);
        if name.is_empty() {
            return Err(Error::new("empty", "A group needs a name."));
        }
        check_name(&name)?;
        if name.chars().count() > 60 {
            return Err(Error::new("too_long", "A group's name has at most 60 characters."));
        }
        self.job(|reply| Job::CreateGroup { name, accounts, reply }).await
    }

    /// Brings friends into a group.
    ///
    /// # Errors
    /// `forbidden`, `not_friends`, `not_member`, `offline`, ...
    pub async fn invite(&self, room: &str, accounts: &[String]) -> Result<(), Error> {
        let (room, accounts) = (parse_room(room)?, parse_accounts(accounts)?);
        self.job(|reply| Job::Invite { room, accounts, reply }).await
    }

    /// Leaves a group. The history stays readable.
    ///
    /// # Errors
    /// `forbidden` for a one-to-one room, `not_member`, `offline`, ...
    pub async fn leave(&self, room: &str) -> Result<(), Error> {
        let room = parse_room(room)?;
        self.job(|reply| Job::Leave { room, reply }).await
    }

    /// Writes a message. It is stored at once and sent as soon as there is a connection.
    ///
    /// # Errors
    /// `empty`, `too_long`, `not_found`, `not_member`, `blocked_room`, `identity_changed`; never `offline`.
    pub async fn send(&self, room: &str, text: &str) -> Result<MessageView, Error> {
        let mut id = [0; ClientMessageId::LENGTH];
        crate::rng().fill_bytes(&mut id);
        self.send_as(room, text, ClientMessageId::from_bytes(id)).await
    }

    /// The same under a key of the caller's own: what was sent to the room with this key before is given
    /// back, and nothing is sent. So a program that does not know whether it has sent may try again.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_once(&self, room: &str, text: &str, key: &str) -> Result<MessageView, Error> {
        let (parsed, key) = (parse_room(room)?, key.to_owned());
        let id = self.store.read(move |vault| Ok(vault.given_id(&parsed, &key))).await?;
        self.send_as(room, text, id).await
    }

    async fn send_as(&self, room: &str, text: &str, id: ClientMessageId) -> Result<MessageView, Error> {
        check_text(text)?;
        let room = parse_room(room)?;
        let row = OutboxRow {
            order: 0,
            room,
            id,
            body: serde_json::to_vec(&Outgoing { text: text.to_owned(), failed: None })?,
            sealed: None,
            created_at: self.store.now(),
        };
        if self.store.has_fault() {
            self.job(|reply| Job::Reopen { reply }).await?;
        }
        let queued = self.store.read(move |vault| store::queue(vault, row)).await;
        if queued.is_err() && self.store.has_fault() {
            self.store.note_unwritten(room, id);
        }
        let (message, line) = queued?;
        let Some(line) = line else { return Ok(message) };
        self.events.tell(Event::Message { message: message.clone() });
        self.events.tell(Event::Room { room: line });
        // A full queue means that the engine will look at the outbox anyway.
        let _ = self.jobs.try_send(Job::Flush);
        Ok(message)
    }

    /// Lets a message that was refused wait again, and tries to send it.
    ///
    /// # Errors
    /// `not_found` if there is no such message in the state
    /// [`MessageState::Failed`](crate::MessageState::Failed).
    pub async fn retry_send(&self, room: &str, id: &str) -> Result<MessageView, Error> {
        let (room, id) = (parse_room(room)?, parse_message(id)?);
        self.job(|reply| Job::RetrySend { room, id, reply }).await
    }

    /// Takes a message out of the outbox that was refused, or was not sealed yet, and gives its text back.
    ///
    /// # Errors
    /// `on_its_way` if it may have been sent, `not_found`.
    pub async fn discard_send(&self, room: &str, id: &str) -> Result<String, Error> {
        let (room, id) = (parse_room(room)?, parse_message(id)?);
        self.job(|reply| Job::DiscardSend { room, id, reply }).await
    }

    /// What waits to be sent, and what could not be sent, in all rooms, oldest first.
    ///
    /// # Errors
    /// `no_account`, or if the vault cannot be read.
    pub async fn outbox(&self) -> Result<Vec<MessageView>, Error> {
        self.store.read(store::outbox).await
    }

    /// One message, whether it waits or is stored.
    ///
    /// # Errors
    /// `not_found`
    pub async fn message(&self, room: &str, id: &str) -> Result<MessageView, Error> {
        let (room, id) = (parse_room(room)?, parse_message(id)?);
        let found = self.store.read(move |vault| store::message(vault, &room, &id)).await?;
        found.ok_or_else(|| Error::not_found("message"))
    }

    /// Whether anything can be sent to a room at the moment.
    ///
    /// # Errors
    /// `not_found`, `not_member`, `blocked_room`, `identity_changed`. What waits already goes out when
    /// that has ended.
    pub async fn check_open(&self, room: &str) -> Result<(), Error> {
        let room = parse_room(room)?;
        self.store.read(move |vault| store::check_open(vault, &room)).await
    }

    /// Why a message in the state [`MessageState::Failed`](crate::MessageState::Failed) was refused.
    ///
    /// # Errors
    /// `not_found` if there is no such message.
    pub async fn send_failure(&self, room: &str, id: &str) -> Result<Error, Error> {
        let (room, id) = (parse_room(room)?, id.to_owned());
        self.store.read(move |vault| store::send_failure(vault, &room, &id)).await
    }

    /// A page of a conversation, `limit` lines before the place `before`, or the newest.
    ///
    /// # Errors
    /// `not_found`
    pub async fn history(&self, room: &str, before: Option<u64>, limit: usize) -> Result<HistoryPage, Error> {
        let room = parse_room(room)?;
        self.store.read(move |vault| store::history(vault, &room, before, limit)).await
    }

    /// Messages that contain all terms of the query, newest first.
    ///
    /// # Errors
    /// If the vault cannot be read.
    pub async fn search(&self, query: &str, limit: usize) -> Result<Vec<SearchHit>, Error> {
        let query = query.to_owned();
        self.store.read(move |vault| store::search(vault, &query, limit)).await
    }

    /// The user has seen everything up to `seq`.
    ///
    /// # Errors
    /// `not_found`
    pub async fn mark_read(&self, room: &str, seq: u64) -> Result<(), Error> {
        let room = parse_room(room)?;
        self.job(|reply| Job::MarkRead { room, seq, reply }).await
    }

    /// Who of the friends is online.
    #[must_use]
    pub fn presence(&self) -> PresenceView {
        self.presence.borrow().clone()
    }

    /// Lets friends see when this account is online or writing, or hides it from them. Who hides does
    /// not see others either.
    ///
    /// # Errors
    /// `offline`, ...
    pub async fn set_presence(&self, visible: bool) -> Result<PresenceView, Error> {
        self.job(|reply| Job::SetPresence { visible, reply }).await
    }

    /// Tells the other members of a room that the person is writing. To be called every few seconds
    /// for as long as that is so. Without a connection nobody is told, which is no error.
    ///
    /// # Errors
    /// `not_found` for what is no room.
    pub async fn typing(&self, room: &str) -> Result<(), Error> {
        let room = parse_room(room)?;
        // Where the engine is busy the word would come too late.
        let _ = self.jobs.try_send(Job::Typing { room });
        Ok(())
    }

    /// The sessions of the account, one for each device that is logged in.
    ///
    /// # Errors
    /// `offline`, ...
    pub async fn sessions(&self) -> Result<Vec<SessionView>, Error> {
        self.job(|reply| Job::Sessions { reply }).await
    }

    /// Logs a device of the account out.
    ///
    /// # Errors
    /// `not_found` if it has no session, `offline`, ...
    pub async fn end_session(&self, device: &str) -> Result<(), Error> {
        let device = device.trim().parse().map_err(|_| Error::not_found("device"))?;
        self.job(|reply| Job::EndSession { device, reply }).await
    }

    /// Waits until the connection is up, the session stands, and what was missed has been read.
    ///
    /// # Errors
    /// `offline`, `session_expired`, `no_account`, ...
    pub async fn wait_online(&self) -> Result<(), Error> {
        self.job(|reply| Job::WaitOnline { reply }).await
    }

    /// Tries to connect now and not after the current pause.
    pub async fn reconnect_now(&self) {
        self.hurry.notify_one();
    }

    /// Stops everything. What was stored stays stored.
    pub async fn shut_down(self) {
        self.stop.cancel();
        let tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for task in tasks {
            let _ = task.await;
        }
    }
}
