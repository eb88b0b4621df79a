//! The facade.

use std::path::Path;
use std::sync::Arc;

use mildam_protocol::records::{AccountId, ClientMessageId, RecordError, RoomId};
use mildam_vault::{Changes, OutboxRow, Unlock, Vault};
use rand_core::Rng;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::connection::{Keeper, SetUpKey};
use crate::engine::{Engine, Job};
use crate::error::Error;
use crate::events::{EventStream, Events};
use crate::model::{
    AccountView, ClientState, ConnectionState, Event, FriendsView, HistoryPage, MessageView, RoomView,
    SearchHit, ServerView,
};
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

/// The messenger of one account on one device. Clones share it.
#[derive(Clone)]
pub struct Client {
    store: Store,
    events: Events,
    jobs: mpsc::Sender<Job>,
    connection: watch::Receiver<ConnectionState>,
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

fn parse_accounts(accounts: &[String]) -> Result<Vec<AccountId>, Error> {
    accounts.iter().map(|account| parse_account(account)).collect()
}

fn parse_room(room: &str) -> Result<RoomId, Error> {
    room.parse().map_err(|_| Error::not_found("room"))
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
        let home = home.to_owned();
        let vault = tokio::task::spawn_blocking(move || Vault::open(&home, unlock)).await??;
        Self::start(vault).await
    }

    async fn start(vault: Vault) -> Result<Self, Error> {
        let (store, events) = (Store::new(vault), Events::new());
        let (jobs, jobs_in) = mpsc::channel(64);
        let (news, news_in) = mpsc::channel(256);
        let (hurry, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let (engine, link, connection) =
            Engine::load(store.clone(), events.clone(), jobs_in, news_in, Arc::clone(&hurry)).await?;
        let keeper =
            Keeper { link, key: SetUpKey::default(), news, hurry: Arc::clone(&hurry), stop: stop.clone() };
        let tasks = vec![tokio::spawn(keeper.run()), tokio::spawn(engine.run(stop.clone()))];
        let tasks = Arc::new(std::sync::Mutex::new(tasks));
        Ok(Self { store, events, jobs, connection, hurry, stop, tasks })
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
        let connection = *self.connection.borrow();
        self.store
            .read(move |vault| {
                Ok(ClientState { connection, server: store::server(vault)?, account: store::account(vault)? })
            })
            .await
    }

    async fn job<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let closed = || Error::internal("the client is shut down");
        self.jobs.send(make(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Connects to the relay of a server link and remembers it.
    ///
    /// # Errors
    /// `bad_link`, `offline`, `wrong_fingerprint`, `set_up_failed`.
    pub async fn connect(&self, link: &str) -> Result<ServerView, Error> {
        let link = link.parse()?;
        self.job(|reply| Job::Connect { link, reply }).await
    }

    /// Makes an account: generates its keys, telling each step, and registers it.
    ///
    /// # Errors
    /// `no_server`, `bad_account`, `bad_email`, `bad_password`, `account_taken`, `email_taken`, ...
    pub async fn sign_up(&self, sign_up: SignUp) -> Result<AccountView, Error> {
        let account = parse_account(&sign_up.account)?;
        self.job(|reply| Job::SignUp { account, sign_up, reply }).await
    }

    /// Logs this device's account in again.
    ///
    /// # Errors
    /// `device_unknown` for an account that was not made on this device, `wrong_credentials`, ...
    pub async fn log_in(&self, account: &str, password: Zeroizing<String>) -> Result<AccountView, Error> {
        let account = parse_account(account)?;
        self.job(|reply| Job::LogIn { account, password, reply }).await
    }

    /// Ends the session. The history stays readable.
    ///
    /// # Errors
    /// `no_account`
    pub async fn log_out(&self) -> Result<(), Error> {
        self.job(|reply| Job::LogOut { reply }).await
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
        let (name, accounts) = (name.trim().to_owned(), parse_accounts(accounts)?);
        if name.is_empty() {
            return Err(Error::new("empty", "A group needs a name."));
        }
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
    /// `empty`, `too_long`, `not_found`, `not_member`; never `offline`.
    pub async fn send(&self, room: &str, text: &str) -> Result<MessageView, Error> {
        check_text(text)?;
        let room = parse_room(room)?;
        let mut id = [0; ClientMessageId::LENGTH];
        crate::rng().fill_bytes(&mut id);
        let id = ClientMessageId::from_bytes(id);
        let row = OutboxRow {
            order: 0,
            room,
            id,
            body: serde_json::to_vec(&Outgoing { text: text.to_owned(), failed: None })?,
            sealed: None,
            created_at: crate::now(),
        };
        let stored = self.store.read(move |vault| {
            if store::room_meta(vault, &room)?.left {
                return Err(Error::new("not_member", "You are not a member of this room."));
            }
            let mut changes = Changes::new();
            changes.put_outbox(row);
            vault.commit(changes)?;
            let message = store::message(vault, &room, &id)?.ok_or_else(|| Error::not_found("message"))?;
            Ok((message, store::room(vault, &room)?))
        });
        let (message, line) = stored.await?;
        self.events.tell(Event::Message { message: message.clone() });
        self.events.tell(Event::Room { room: line });
        // A full queue means that the engine will look at the outbox anyway.
        let _ = self.jobs.try_send(Job::Flush);
        Ok(message)
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
