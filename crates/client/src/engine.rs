//! The engine: the one task that writes rooms and keys.
//!
//! It takes jobs from the facade and news from the connection, one at a time, so that no two of
//! them ever race. While it waits for an answer of the relay, pushes queue up behind it.

mod account;
mod contacts;
mod friends;
mod outbox;
mod presence;
mod put_off;
mod retry;
mod rooms;
mod server_key;
mod storage;
mod sync;
mod tend;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mildam_e2ee::{DeviceSecrets, Room};
use mildam_protocol::command::{Command, SessionId};
use mildam_protocol::event::Event as Push;
use mildam_protocol::link::InvitationToken;
use mildam_protocol::records::{AccountId, ClientMessageId, DeviceId, Receipt, ReceiptKind, RoomId};
use mildam_protocol::{ServerLink, command};
use mildam_vault::{Changes, RoomRow, Slot};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::client::{Recover, SignUp};
use crate::connection::News;
use crate::error::Error;
use crate::events::Events;
use crate::model::{
    AccountView, ClientState, ConnectionState, ContactView, Event, MessageView, Notice, PresenceView,
    RoomView, ServerView, SessionView,
};
use crate::server::Server;
use crate::standing::Standing;
use crate::store::{self, AccountSlot, Contacts, RoomMeta, SessionSlot, Store};
use crate::times;
use crate::wire::Wire;
use put_off::{PutOff, Step};
use retry::Retry;
use tend::TEND_EVERY;

/// How long a job waits for a connection before it says that there is none.
const CONNECT_LIMIT: Duration = Duration::from_secs(12);

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the facade asks for.
pub(crate) enum Job {
    Connect {
        link: ServerLink,
        invitation: Option<InvitationToken>,
        reply: Reply<ServerView>,
    },
    DecideServerKey {
        found: String,
        accept: bool,
        reply: Reply<ClientState>,
    },
    SignUp {
        account: AccountId,
        sign_up: SignUp,
        invitation: Option<InvitationToken>,
        reply: Reply<AccountView>,
    },
    LogIn {
        account: AccountId,
        password: Zeroizing<String>,
        reply: Reply<AccountView>,
    },
    Recover {
        account: AccountId,
        recover: Recover,
        reply: Reply<AccountView>,
    },
    LogOut {
        reply: Reply<()>,
    },
    ConfirmWords {
        reply: Reply<()>,
    },
    Dismiss {
        notice: Notice,
        reply: Reply<()>,
    },
    SetVerified {
        account: AccountId,
        verified: bool,
        reply: Reply<ContactView>,
    },
    DecideIdentity {
        account: AccountId,
        accept: bool,
        reply: Reply<ContactView>,
    },
    EraseNow {
        reply: Reply<()>,
    },
    ReplaceRoom {
        room: RoomId,
        reply: Reply<RoomView>,
    },
    EndBlock {
        room: RoomId,
        reply: Reply<RoomView>,
    },
    RequestFriend {
        account: AccountId,
        greeting: String,
        reply: Reply<()>,
    },
    AnswerFriend {
        account: AccountId,
        accept: bool,
        reply: Reply<()>,
    },
    OpenDirect {
        account: AccountId,
        reply: Reply<RoomView>,
    },
    CreateGroup {
        name: String,
        accounts: Vec<AccountId>,
        reply: Reply<RoomView>,
    },
    Invite {
        room: RoomId,
        accounts: Vec<AccountId>,
        reply: Reply<()>,
    },
    Leave {
        room: RoomId,
        reply: Reply<()>,
    },
    RetrySend {
        room: RoomId,
        id: ClientMessageId,
        reply: Reply<MessageView>,
    },
    DiscardSend {
        room: RoomId,
        id: ClientMessageId,
        reply: Reply<String>,
    },
    MarkRead {
        room: RoomId,
        seq: u64,
        reply: Reply<()>,
    },
    SetPresence {
        visible: bool,
        reply: Reply<PresenceView>,
    },
    Typing {
        room: RoomId,
    },
    ForgetAddress {
        address: String,
        reply: Reply<ServerView>,
    },
    /// Sees whether the vault can be written again.
    Reopen {
        reply: Reply<()>,
    },
    Sessions {
        reply: Reply<Vec<SessionView>>,
    },
    EndSession {
        device: DeviceId,
        reply: Reply<()>,
    },
    WaitOnline {
        reply: Reply<()>,
    },
    Flush,
}

/// A room in memory.
struct OpenRoom {
    room: Room,
    meta: RoomMeta,
    /// Whether the log was read to its end on this connection. Before that nothing is sealed: the
    /// log may show that this device's state was put back to an earlier one.
    read_back: bool,
    /// What is known of it, while it is read from another beginning that is the relay's word alone.
    before: Option<Box<Room>>,
    /// How the log that the relay keeps of it differs from the one that was read here.
    differs: Option<Differs>,
}

/// The relay was put back to an earlier state, and takes nothing that builds on what came after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differs {
    /// Its log is shorter than what was read here.
    Behind,
    /// It has refused something, because its log is another one; that stands until something new is read.
    Refused,
}

impl Differs {
    /// What the room is blocked for.
    const fn code(self) -> &'static str {
        match self {
            Self::Behind => "server_went_back",
            Self::Refused => "server_log_differs",
        }
    }

    fn of(meta: &RoomMeta) -> Option<Self> {
        let blocked = meta.blocked.as_deref();
        [Self::Behind, Self::Refused].into_iter().find(|differs| blocked == Some(differs.code()))
    }
}

impl OpenRoom {
    /// Whether nothing can be said here again, so that only another room in its place helps.
    fn is_beyond_repair(&self, contacts: &Contacts) -> bool {
        self.differs.is_some() || self.room.is_beyond_repair(contacts)
    }

    fn row(&self) -> Result<RoomRow, Error> {
        Ok(RoomRow { state: self.room.to_secret_bytes()?, meta: serde_json::to_vec(&self.meta)? })
    }
}

/// The account on this device.
struct Own {
    slot: AccountSlot,
    secrets: DeviceSecrets,
}

pub(crate) struct Engine {
    store: Store,
    events: Events,
    jobs: mpsc::Receiver<Job>,
    news: mpsc::Receiver<News>,
    hurry: Arc<Notify>,
    server: watch::Sender<Option<Server>>,
    standing: watch::Sender<Standing>,
    presence: watch::Sender<PresenceView>,
    wire: Option<Wire>,
    /// Why there is no connection.
    down: Error,
    /// The server key that was offered last and that the person does not want, by its fingerprint.
    declined_key: Option<String>,
    /// The address that showed the offered one.
    offered_at: Option<ServerLink>,
    session: Option<SessionId>,
    own: Option<Own>,
    contacts: Contacts,
    rooms: BTreeMap<RoomId, OpenRoom>,
    /// Counts connections, so that what came over a later one is known to have come later.
    connections: u64,
    /// By how many milliseconds this computer's clock is ahead of the relay's, as last compared.
    clock_ahead: i64,
    /// Whether what was missed has been read on this connection.
    attached: bool,
    /// What the relay was too busy for.
    put_off: PutOff,
    /// Receipts that the relay has not got yet.
    receipts_due: BTreeMap<(RoomId, ReceiptKind), u64>,
    /// Receipts of others that came before the entries that they are about, by room.
    early_receipts: BTreeMap<RoomId, BTreeMap<(AccountId, ReceiptKind), Receipt>>,
    /// Why the vault cannot be written, as long as that is so.
    fault: watch::Receiver<Option<Error>>,
    /// When it is tried again.
    reopening: Retry,
    snapshots: Retry,
}

/// Everything that the engine keeps in memory, as it lies in the vault.
struct Loaded {
    server: Option<Server>,
    session: Option<SessionId>,
    own: Option<Own>,
    contacts: Contacts,
    rooms: BTreeMap<RoomId, OpenRoom>,
}

fn load(vault: &mildam_vault::Vault) -> Result<Loaded, Error> {
    let slot: Option<AccountSlot> = store::slot(vault, Slot::Account)?;
    let own = match (slot, vault.get(Slot::Device)?) {
        (Some(slot), Some(secrets)) => {
            Some(Own { slot, secrets: DeviceSecrets::from_secret_bytes(&secrets)? })
        }
        _ => None,
    };
    let mut rooms = BTreeMap::new();
    for (id, row) in vault.rooms()? {
        let room = Room::from_secret_bytes(&row.state)?;
        let meta: RoomMeta = serde_json::from_slice(&row.meta)?;
        let differs = Differs::of(&meta);
        let open = OpenRoom { room, meta, read_back: false, before: None, differs };
        rooms.insert(id, open);
    }
    Ok(Loaded {
        server: store::known_server(vault)?,
        session: store::slot::<SessionSlot>(vault, Slot::Session)?.map(|slot| slot.session),
        own,
        contacts: Contacts::read(vault)?,
        rooms,
    })
}

type ServerReceiver = watch::Receiver<Option<Server>>;

impl Engine {
    pub(crate) async fn load(
        store: Store,
        events: Events,
        jobs: mpsc::Receiver<Job>,
        news: mpsc::Receiver<News>,
        hurry: Arc<Notify>,
        presence: watch::Sender<PresenceView>,
    ) -> Result<(Self, ServerReceiver, watch::Receiver<Standing>), Error> {
        let Loaded { server, session, own, contacts, rooms } = store.read(load).await?;
        let state = if server.is_some() { ConnectionState::Offline } else { ConnectionState::Unconfigured };
        let (server, server_out) = watch::channel(server);
        let (standing, standing_out) = watch::channel(Standing::new(state));
        let fault = store.fault();
        let connections = rooms.values().map(|open| open.meta.arrived.connection).max().unwrap_or(0);
        let engine = Self {
            store,
            events,
            jobs,
            news,
            hurry,
            server,
            standing,
            presence,
            wire: None,
            down: Error::offline(),
            declined_key: None,
            offered_at: None,
            session,
            own,
            contacts,
            rooms,
            connections,
            clock_ahead: 0,
            attached: false,
            put_off: PutOff::default(),
            receipts_due: BTreeMap::new(),
            early_receipts: BTreeMap::new(),
            fault,
            reopening: storage::reopening(),
            snapshots: tend::snapshots(),
        };
        Ok((engine, server_out, standing_out))
    }

    /// Works until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        if let Err(error) = self.look_after_repair().await {
            tracing::error!(code = error.code(), "a repaired vault was not looked after");
        }
        let mut tend = tokio::time::interval(TEND_EVERY);
        tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tend.tick() => self.tend().await,
                () = self.put_off.due() => self.resume().await,
                Ok(()) = self.fault.changed() => self.on_fault().await,
                () = self.reopening.due() => self.reopen_later().await,
                news = self.news.recv() => match news {
                    Some(news) => self.on_news(news).await,
                    None => return,
                },
                job = self.jobs.recv() => match job {
                    Some(job) => self.on_job(job).await,
                    None => return,
                },
            }
        }
    }

    async fn on_job(&mut self, job: Job) {
        // Whoever asks for something may have made room for it.
        if self.store.has_fault() && !matches!(job, Job::Typing { .. } | Job::Flush) {
            self.reopen().await;
        }
        // A facade that no longer waits is no error.
        match job {
            Job::Connect { link, invitation, reply } => {
                drop(reply.send(self.connect(link, invitation).await));
            }
            Job::DecideServerKey { found, accept, reply } => {
                drop(reply.send(self.decide_server_key(&found, accept).await));
            }
            Job::SignUp { account, sign_up, invitation, reply } => {
                drop(reply.send(self.sign_up(account, sign_up, invitation).await));
            }
            Job::LogIn { account, password, reply } => {
                drop(reply.send(self.log_in(&account, &password).await))
            }
            Job::Recover { account, recover, reply } => {
                drop(reply.send(self.recover(account, recover).await));
            }
            Job::LogOut { reply } => drop(reply.send(self.log_out().await)),
            Job::ConfirmWords { reply } => drop(reply.send(self.confirm_words().await)),
            Job::Dismiss { notice, reply } => drop(reply.send(self.dismiss(notice).await)),
            Job::SetVerified { account, verified, reply } => {
                drop(reply.send(self.set_verified(account, verified).await));
            }
            Job::DecideIdentity { account, accept, reply } => {
                drop(reply.send(self.decide_identity(account, accept).await));
            }
            Job::EraseNow { reply } => drop(reply.send(self.erase_now().await)),
            Job::ReplaceRoom { room, reply } => drop(reply.send(self.replace_room(room).await)),
            Job::EndBlock { room, reply } => drop(reply.send(self.end_block(room).await)),
            Job::RequestFriend { account, greeting, reply } => {
                drop(reply.send(self.request_friend(account, greeting).await));
            }
            Job::AnswerFriend { account, accept, reply } => {
                drop(reply.send(self.answer_friend(account, accept).await));
            }
            Job::OpenDirect { account, reply } => drop(reply.send(self.open_direct(account).await)),
            Job::CreateGroup { name, accounts, reply } => {
                drop(reply.send(self.create_group(name, accounts).await));
            }
            Job::Invite { room, accounts, reply } => drop(reply.send(self.invite(room, accounts).await)),
            Job::Leave { room, reply } => drop(reply.send(self.leave(room).await)),
            Job::RetrySend { room, id, reply } => drop(reply.send(self.retry_send(room, id).await)),
            Job::DiscardSend { room, id, reply } => drop(reply.send(self.discard_send(room, id).await)),
            Job::MarkRead { room, seq, reply } => drop(reply.send(self.mark_read(room, seq).await)),
            Job::SetPresence { visible, reply } => drop(reply.send(self.set_presence(visible).await)),
            Job::Typing { room } => self.typing(room).await,
            Job::ForgetAddress { address, reply } => {
                drop(reply.send(self.forget_address(&address).await));
            }
            Job::Reopen { reply } => drop(reply.send(self.fault.borrow().clone().map_or(Ok(()), Err))),
            Job::Sessions { reply } => drop(reply.send(self.sessions().await)),
            Job::EndSession { device, reply } => drop(reply.send(self.end_session(device).await)),
            Job::WaitOnline { reply } => drop(reply.send(self.online().await)),
            Job::Flush => self.flush().await,
        }
    }

    async fn on_news(&mut self, news: News) {
        match news {
            // An attempt at a link that was given up meanwhile says nothing about the current one.
            News::State(link, _) | News::Up(link, _) | News::Down(link, _) if !self.is_current(&link) => {}
            News::State(_, state) => self.set_connection(state).await,
            News::Up(link, wire) => {
                let way = wire.way();
                self.put_off = PutOff::default();
                self.connections = self.connections.saturating_add(1);
                self.compare_clocks(&wire).await;
                self.wire = Some(wire);
                self.attached = false;
                self.standing.send_modify(|standing| {
                    standing.offered_key = None;
                    standing.transport = Some(way.view());
                    standing.clock_ahead = times::noticeable(self.clock_ahead);
                });
                self.set_connection(ConnectionState::Connected).await;
                if let Err(error) = self.prefer(link).await {
                    tracing::warn!(code = error.code(), "the address that works was not noted");
                }
                if let Err(error) = self.attach().await {
                    tracing::info!(code = error.code(), "not attached");
                    self.put_off.note(&error, Step::Attach, Instant::now());
                }
            }
            News::Down(link, error) => {
                tracing::info!(code = error.code(), "not connected");
                self.wire = None;
                self.attached = false;
                self.note_offered_key(&link, &error);
                self.down = error;
                self.forget_presence();
                self.early_receipts.clear();
                for open in self.rooms.values_mut() {
                    open.read_back = false;
                }
                self.set_connection(ConnectionState::Offline).await;
            }
            News::Push(push) => {
                let mut taken = self.on_push(*push).await;
                let passed_over =
                    self.wire.as_ref().is_some_and(|wire| self.news.is_empty() && wire.has_passed_over());
                if taken.is_ok() && passed_over {
                    taken = self.on_push(Push::CatchUp {}).await;
                }
                if let Err(error) = taken {
                    tracing::info!(code = error.code(), "a push was not taken");
                    self.put_off.note(&error, Step::Sync, Instant::now());
                }
            }
        }
    }

    fn is_current(&self, link: &ServerLink) -> bool {
        self.server.borrow().as_ref().is_some_and(|server| server.has(link))
    }

    async fn on_push(&mut self, push: Push) -> Result<(), Error> {
        if self.session.is_none() {
            return Ok(());
        }
        self.check_storage()?;
        match push {
            Push::Log { room, item } => self.on_log(room, *item).await,
            Push::Receipt { receipt } => self.on_receipt(receipt).await,
            Push::FriendRequested { .. } | Push::FriendAccepted { .. } | Push::FriendDeclined { .. } => {
                self.refresh_friends().await
            }
            Push::KeysChanged { account } => self.on_keys_changed(account).await,
            Push::Presence { account, online } => {
                self.on_presence(&account, online);
                Ok(())
            }
            Push::Typing { room, account } => {
                self.on_typing(&room, &account);
                Ok(())
            }
            Push::CatchUp {} => {
                self.sync().await?;
                self.refresh_presence().await
            }
            Push::SessionEnded {} => self.was_logged_out().await,
            Push::DeviceRemoved {} => self.was_removed().await,
        }
    }

    async fn set_connection(&mut self, state: ConnectionState) {
        if self.standing.send_if_modified(|standing| standing.advance(state)) {
            self.tell_state().await;
        }
    }

    async fn state(&self) -> Result<ClientState, Error> {
        let standing = self.standing.borrow().clone();
        self.store.read(move |vault| standing.state(vault)).await
    }

    /// Tells where everything stands.
    async fn tell_state(&self) {
        match self.state().await {
            Ok(state) => self.events.tell(Event::State { state }),
            Err(error) => tracing::error!(code = error.code(), "the state cannot be read"),
        }
    }

    /// Commits; on failure what is in memory may be ahead of the vault and is read anew.
    async fn commit(&mut self, changes: Changes) -> Result<(), Error> {
        let Err(error) = self.store.commit(changes).await else {
            return Ok(());
        };
        tracing::error!(code = error.code(), "the vault cannot be written");
        self.load_anew().await;
        Err(error)
    }

    /// Takes everything from the vault that is in memory of it.
    async fn load_anew(&mut self) {
        if let Ok(loaded) = self.store.read(load).await {
            self.session = loaded.session;
            self.own = loaded.own;
            self.contacts = loaded.contacts;
            self.rooms = loaded.rooms;
        }
    }

    /// A connection, waiting a moment for one that is being made.
    async fn connected(&mut self) -> Result<Wire, Error> {
        if self.server.borrow().is_none() {
            return Err(Error::new("no_server", "No server is known yet: enter a server link first."));
        }
        if self.wire.is_none() {
            self.hurry.notify_one();
            let wait = async {
                while self.wire.is_none() {
                    match self.news.recv().await {
                        Some(News::Down(link, error)) if self.is_current(&link) => {
                            self.on_news(News::Down(link, error)).await;
                            return;
                        }
                        Some(news) => self.on_news(news).await,
                        None => return,
                    }
                }
            };
            let _ = timeout(CONNECT_LIMIT, Box::pin(wait)).await;
        }
        self.wire.clone().ok_or_else(|| self.down.clone())
    }

    /// A connection that belongs to nobody yet.
    async fn fresh_connection(&mut self) -> Result<Wire, Error> {
        if self.wire.take().is_some() {
            self.down = Error::offline();
            // Said again, the server makes the keeper begin anew.
            self.server.send_modify(|_| {});
        }
        self.connected().await
    }

    /// A connection with a session, waiting a moment for one. Only jobs wait: whatever else asks
    /// takes the connection that there is, so that no news is handled in the middle of a step.
    async fn online(&mut self) -> Result<(), Error> {
        if self.own.as_ref().is_none_or(|own| own.slot.pending.is_some()) {
            return Err(Error::no_account());
        }
        self.connected().await?;
        match self.session {
            Some(_) if self.attached => Ok(()),
            // What went wrong before may go well now.
            Some(_) => self.attach().await,
            None => Err(Error::session_expired()),
        }
    }

    /// Asks with the session; one that has ended is forgotten.
    async fn ask<C: Command + Sync>(&mut self, command: &C) -> Result<C::Answer, Error> {
        let wire = self.wire.clone().ok_or_else(|| self.down.clone())?;
        let session = self.session.clone();
        let session = session.ok_or_else(Error::session_expired)?;
        let outcome = wire.ask(Some(&session), command).await;
        if let Err(error) = &outcome
            && error.is_session_end()
        {
            if error.code() == "session_revoked" {
                self.was_logged_out().await?;
            } else {
                self.forget_session().await?;
            }
        }
        outcome
    }

    fn secrets(&self) -> Result<&DeviceSecrets, Error> {
        self.own.as_ref().map(|own| &own.secrets).ok_or_else(Error::no_account)
    }

    async fn attach(&mut self) -> Result<(), Error> {
        if self.session.is_none() {
            return Ok(());
        }
        self.check_storage()?;
        let wire = self.wire.clone().ok_or_else(|| self.down.clone())?;
        let proof = self.secrets()?.sign_attach_proof(wire.transcript());
        self.ask(&command::Attach { proof }).await?;
        self.set_connection(ConnectionState::Online).await;
        let own = self.secrets()?.account().clone();
        self.on_keys_changed(own).await?;
        if let Err(error) = self.turn_prekey().await {
            if error.ends_connection() {
                return Err(error);
            }
            // It is tried again within a minute. Until then others wrap keys to the one that they know.
            tracing::warn!(code = error.code(), "the relay did not take a new prekey");
        }
        self.refresh_presence().await?;
        self.sync().await?;
        self.attached = true;
        Ok(())
    }

    /// Asks the relay for its time: keys are dated by it, since it judges their age, and a person is told
    /// of a clock that is wrong.
    async fn compare_clocks(&mut self, wire: &Wire) {
        match wire.ask(None, &command::ServerInfo {}).await {
            Ok(info) => self.clock_ahead = times::ahead(self.store.now(), info.time),
            Err(error) => tracing::info!(code = error.code(), "the relay's time is not known"),
        }
    }

    /// The relay's time, as far as it is known.
    fn relay_now(&self) -> u64 {
        times::by_relay(self.store.now(), self.clock_ahead)
    }

    /// The earlier of the two times. Devices that were away for long get no key: neither the relay nor a
    /// wrong clock may say alone that they were.
    fn wary_now(&self) -> u64 {
        self.store.now().min(self.relay_now())
    }

    async fn on_keys_changed(&mut self, account: AccountId) -> Result<(), Error> {
        self.fetch_keys(std::slice::from_ref(&account)).await?;
        let (secrets, known) = (self.secrets()?, self.contacts.get(&account));
        let listed = known.and_then(|row| row.known.newest()?.certificate(&secrets.device()));
        if *secrets.account() == account && listed.is_none() {
            return self.was_removed().await;
        }
        Ok(())
    }
}
