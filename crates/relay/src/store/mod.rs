//! What the relay keeps.
//!
//! A store knows rows, not rules: it loads and saves, all or nothing, and the handlers decide what
//! is saved. Everything a request looks at and everything it changes belongs to one transaction,
//! so no check can be out of date when its result is written.
//!
//! The traits are narrow, one for each domain, so that another database can be put behind them;
//! the tests in `conformance` are what each of them must pass.

#[cfg(test)]
pub(crate) mod conformance;
mod row;
pub mod sqlite;
pub(crate) mod turns;

use async_trait::async_trait;
use mildam_protocol::Refusal;
use mildam_protocol::command::{Friend, PendingFriend, StoredAnswer};
use mildam_protocol::records::id::{AccountId, ClientMessageId, DeviceId, Hash, RoomId};
use mildam_protocol::records::membership::Membership;
use mildam_protocol::records::{
    DeviceList, DevicePublicKey, IdentityPublicKey, LogItem, Receipt, ReceiptKind, SignedPreKey,
};

use tokio::sync::oneshot;

pub use row::{
    AccountRow, EntryRow, EpochRow, InvitationRow, KeysRow, MemberRow, NewAccount, PreKeyMark, RoomRow,
    SessionRow, Standing, TargetRow, WrapRow,
};
pub use sqlite::SqliteStore;
pub use turns::Turn;

use crate::broker::News;

/// Why a store could not do its part. Never the fault of the one who asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database refused or failed: a full disk, a broken file, an outage.
    #[error("database: {0}")]
    Database(#[source] sqlx::Error),
    /// A row contradicts one that is there. Handlers look first, so this is a mistake of theirs;
    /// it harms nobody else.
    #[error("a row contradicts one that is there")]
    Conflict,
    /// A stored row cannot be read back.
    #[error("unreadable row in {0}")]
    Corrupt(&'static str),
    /// The store was made by a newer program.
    #[error("the data were written by a newer version (schema {found}, this one knows {known})")]
    Newer {
        /// The schema found.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// The store was made by an older program, and no relay has brought it up to date since.
    #[error("the data were written by an older version: start the relay once with this one")]
    Older,
    /// Nothing could be stored; what was asked together with others was undone together with them.
    #[error("nothing could be stored")]
    Unavailable,
    /// The store has stopped.
    #[error("the store is closed")]
    Closed,
}

/// Why a piece of work came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The request was refused: its changes are undone, those of others stand.
    #[error("refused: {}", .0.code)]
    Refused(Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let kind = error.as_database_error().map(|error| error.kind());
        match kind {
            None | Some(sqlx::error::ErrorKind::Other) => Self::Database(error),
            Some(_) => Self::Conflict,
        }
    }
}

/// What a request came to, once its changes are durable.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// `data` of the answer, as JSON.
    pub answer: String,
    /// What others are told after the answer, in this order.
    pub news: Vec<News>,
}

/// A future with a borrow in it, on the heap.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One request's part with the store, run within a transaction.
pub type Work =
    Box<dyn for<'t> FnOnce(&'t mut dyn Transaction) -> BoxFuture<'t, Result<Committed, Rejection>> + Send>;

/// What is done with the outcome of a [`Work`]. It must not block.
pub type Settle = Box<dyn FnOnce(Result<Committed, Rejection>) + Send>;

/// A database.
#[async_trait]
pub trait Store: Send + Sync {
    /// Queues a piece of work that writes, among those of whose turn it is. It runs alone, all or nothing;
    /// `settle` is called with its outcome when that is durable. Works that touch the same room settle in
    /// the order in which they were committed.
    ///
    /// # Errors
    /// [`StoreError::Closed`]; `settle` is then dropped uncalled.
    async fn write(&self, turn: Turn, work: Work, settle: Settle) -> Result<(), StoreError>;

    /// Runs a piece of work that only reads, on one consistent state.
    ///
    /// # Errors
    /// [`Rejection`] of the work, or a failure of the store.
    async fn read(&self, work: Work) -> Result<Committed, Rejection>;

    /// Waits until the store takes no more writes, because it was closed or because it broke.
    async fn closed(&self);

    /// Finishes what is queued and closes the database.
    async fn close(&self);
}

/// Reads something of any type.
///
/// # Errors
/// [`Rejection`] of the work, or a failure of the store.
pub async fn load<T, F>(store: &dyn Store, work: F) -> Result<T, Rejection>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut dyn Transaction) -> BoxFuture<'t, Result<T, Rejection>> + Send + 'static,
{
    let (put, got) = oneshot::channel();
    let work: Work = Box::new(move |tx| {
        Box::pin(async move {
            // The other end waits below, or nobody wants to know any more.
            let _ = put.send(work(tx).await?);
            Ok(Committed::default())
        })
    });
    store.read(work).await?;
    got.await.map_err(|_| StoreError::Closed.into())
}

/// Writes for the relay itself, and waits for the outcome.
///
/// # Errors
/// As [`commit_for`].
pub async fn commit(store: &dyn Store, work: Work) -> Result<Committed, Rejection> {
    commit_for(store, Turn::of_relay(), work).await
}

/// Writes and waits for the outcome. The news are the caller's to publish.
///
/// # Errors
/// [`Rejection`] of the work, or a failure of the store.
pub async fn commit_for(store: &dyn Store, turn: Turn, work: Work) -> Result<Committed, Rejection> {
    let (put, got) = oneshot::channel();
    let settle: Settle = Box::new(move |outcome| {
        // The other end waits below, or nobody wants to know any more.
        let _ = put.send(outcome);
    });
    store.write(turn, work, settle).await?;
    got.await.map_err(|_| StoreError::Closed)?
}

/// Everything that a piece of work can do.
pub trait Transaction: Accounts + Invitations + Sessions + Friends + Rooms + Log + Send {}

/// Accounts and their public keys.
#[async_trait]
pub trait Accounts {
    /// What log-in needs.
    async fn account(&mut self, id: &AccountId) -> Result<Option<AccountRow>, StoreError>;
    /// What others' records are checked against.
    async fn standing(&mut self, id: &AccountId) -> Result<Option<Standing>, StoreError>;
    /// Whether there is any account.
    async fn has_accounts(&mut self) -> Result<bool, StoreError>;
    /// Adds an account with its first device list and prekey.
    async fn insert_account(&mut self, new: &NewAccount) -> Result<(), StoreError>;
    /// All public keys.
    async fn keys(&mut self, id: &AccountId) -> Result<Option<KeysRow>, StoreError>;
    /// The identity key, and the newest list.
    async fn newest_list(
        &mut self,
        id: &AccountId,
    ) -> Result<Option<(IdentityPublicKey, DeviceList)>, StoreError>;
    /// The key of a device that stands in the account's newest list.
    async fn device_key(
        &mut self,
        account: &AccountId,
        device: &DeviceId,
    ) -> Result<Option<DevicePublicKey>, StoreError>;
    /// Devices that stood in a list and do not any more.
    async fn removed_devices(&mut self, account: &AccountId) -> Result<Vec<DeviceId>, StoreError>;
    /// Saves the newest list. Devices that are not in it lose their prekeys and sessions; gives
    /// those that stood in the one before.
    async fn put_list(&mut self, list: &DeviceList, now: u64) -> Result<Vec<DeviceId>, StoreError>;
    /// How many lists were stored since a time.
    async fn lists_since(&mut self, account: &AccountId, since: u64) -> Result<u64, StoreError>;
    /// Puts a prekey in place of its device's current one, and forgets those that were replaced
    /// before a time.
    async fn put_prekey(
        &mut self,
        prekey: &SignedPreKey,
        now: u64,
        forget_before: u64,
    ) -> Result<(), StoreError>;
    /// Forgets prekeys of anybody that were replaced before a time, the oldest first, and at most so many.
    /// Gives how many it were: so no sweep holds up others for long.
    async fn sweep_prekeys(&mut self, before: u64, limit: u32) -> Result<u64, StoreError>;
    /// How many prekeys of a device were stored since a time.
    async fn prekeys_since(
        &mut self,
        account: &AccountId,
        device: &DeviceId,
        since: u64,
    ) -> Result<u64, StoreError>;
    /// Replaces the password's record.
    async fn set_password(&mut self, account: &AccountId, record: &[u8]) -> Result<(), StoreError>;
    /// Whether friends do not see when the account is online.
    async fn is_hidden(&mut self, account: &AccountId) -> Result<bool, StoreError>;
    /// Hides or shows it.
    async fn set_hidden(&mut self, account: &AccountId, hidden: bool) -> Result<(), StoreError>;
    /// The friends who see when the account is online, and whom it sees: none of them and not the
    /// account itself is hidden.
    async fn watchers(&mut self, account: &AccountId) -> Result<Vec<AccountId>, StoreError>;
    /// Friends, and members of common rooms at present.
    async fn acquaintances(&mut self, account: &AccountId) -> Result<Vec<AccountId>, StoreError>;
    /// The prekeys of an account's listed devices: current ones, and those that were replaced
    /// after the given time.
    async fn prekey_marks(
        &mut self,
        account: &AccountId,
        replaced_after: u64,
    ) -> Result<Vec<PreKeyMark>, StoreError>;
}

/// Who may come in.
#[async_trait]
pub trait Invitations {
    /// Adds an invitation, by the SHA-256 of its token.
    async fn insert_invitation(&mut self, tag: &Hash, invitation: &InvitationRow) -> Result<(), StoreError>;
    /// An invitation; one that was used or has expired, too, until it is swept.
    async fn invitation(&mut self, tag: &Hash) -> Result<Option<InvitationRow>, StoreError>;
    /// Uses an invitation up; false if it is not there, was used, or has expired.
    async fn use_invitation(&mut self, tag: &Hash, by: &AccountId, now: u64) -> Result<bool, StoreError>;
    /// Forgets invitations that expired before a time, used or not, the oldest first, and at most so many.
    /// Gives how many it were.
    async fn sweep_invitations(&mut self, before: u64, limit: u32) -> Result<u64, StoreError>;
}

/// Sessions, each of one device.
#[async_trait]
pub trait Sessions {
    /// A session by the SHA-256 of its id; one that was ended, too, until it would have expired.
    async fn session(&mut self, tag: &Hash) -> Result<Option<SessionRow>, StoreError>;
    /// Adds a session and ends the device's earlier one. Forgets those of the account that had expired
    /// when the new one began.
    async fn put_session(&mut self, tag: &Hash, session: &SessionRow) -> Result<(), StoreError>;
    /// Moves the expiry.
    async fn renew_session(&mut self, tag: &Hash, expires_at: u64) -> Result<(), StoreError>;
    /// Ends the session of a device; false if there was none.
    async fn end_session(&mut self, account: &AccountId, device: &DeviceId) -> Result<bool, StoreError>;
    /// Lets all sessions last so many milliseconds longer.
    async fn extend_sessions(&mut self, by: u64) -> Result<(), StoreError>;
    /// When the relay was last at work, if that was ever noted.
    async fn last_at_work(&mut self) -> Result<Option<u64>, StoreError>;
    /// Notes when the relay was last at work.
    async fn note_at_work(&mut self, at: u64) -> Result<(), StoreError>;
    /// Forgets sessions of anybody that expired before a time, and those that were ended and would have
    /// expired; the oldest first, and at most so many. Gives how many it were.
    async fn sweep_sessions(&mut self, before: u64, limit: u32) -> Result<u64, StoreError>;
    /// The sessions that were not ended, by device.
    async fn sessions_of(&mut self, account: &AccountId) -> Result<Vec<SessionRow>, StoreError>;
}

/// Friends, and requests that wait.
#[async_trait]
pub trait Friends {
    /// Since when two accounts are friends.
    async fn friends_since(&mut self, one: &AccountId, other: &AccountId) -> Result<Option<u64>, StoreError>;
    /// Makes two accounts friends.
    async fn insert_friends(
        &mut self,
        one: &AccountId,
        other: &AccountId,
        since: u64,
    ) -> Result<(), StoreError>;
    /// All friends, by id.
    async fn friends(&mut self, account: &AccountId) -> Result<Vec<Friend>, StoreError>;
    /// How many friends.
    async fn friend_count(&mut self, account: &AccountId) -> Result<u64, StoreError>;
    /// Whether a request waits.
    async fn has_request(&mut self, sender: &AccountId, receiver: &AccountId) -> Result<bool, StoreError>;
    /// Adds a request.
    async fn insert_request(
        &mut self,
        sender: &AccountId,
        receiver: &AccountId,
        greeting: &str,
        requested_at: u64,
    ) -> Result<(), StoreError>;
    /// Removes a request; false if there was none.
    async fn delete_request(&mut self, sender: &AccountId, receiver: &AccountId) -> Result<bool, StoreError>;
    /// Forgets requests of anybody from before a time, the oldest first, and at most so many. Gives how many
    /// it were.
    async fn sweep_requests(&mut self, before: u64, limit: u32) -> Result<u64, StoreError>;
    /// Requests from others, oldest first.
    async fn requests_to(&mut self, account: &AccountId) -> Result<Vec<PendingFriend>, StoreError>;
    /// Requests to others, oldest first, without nicknames.
    async fn requests_from(&mut self, account: &AccountId) -> Result<Vec<PendingFriend>, StoreError>;
}

/// Rooms and their members.
#[async_trait]
pub trait Rooms {
    /// A room's head, held against other writers until the end of the transaction.
    async fn room(&mut self, room: &RoomId) -> Result<Option<RoomRow>, StoreError>;
    /// Adds a room or saves its head.
    async fn save_room(&mut self, room: &RoomRow) -> Result<(), StoreError>;
    /// The direct room of a pair, in whichever order it is asked for.
    async fn direct_room(&mut self, one: &AccountId, other: &AccountId)
    -> Result<Option<RoomId>, StoreError>;
    /// Names the direct room of a pair, in the place of the one before if there was one.
    async fn name_direct_room(
        &mut self,
        one: &AccountId,
        other: &AccountId,
        room: &RoomId,
    ) -> Result<(), StoreError>;
    /// A member, present or past.
    async fn member(&mut self, room: &RoomId, account: &AccountId) -> Result<Option<MemberRow>, StoreError>;
    /// The present members, by account.
    async fn members(&mut self, room: &RoomId) -> Result<Vec<MemberRow>, StoreError>;
    /// The present members, by account, with the prekeys of their listed devices: current ones, and those
    /// that were replaced after the given time.
    async fn targets(&mut self, room: &RoomId, replaced_after: u64) -> Result<Vec<TargetRow>, StoreError>;
    /// Adds a member or saves its row.
    async fn save_member(&mut self, room: &RoomId, member: &MemberRow) -> Result<(), StoreError>;
    /// Who is in a room, as its changes say.
    async fn membership(&mut self, room: &RoomId) -> Result<Option<Membership>, StoreError>;
    /// Saves it. The members' own rows are saved one by one.
    async fn save_membership(&mut self, membership: &Membership) -> Result<(), StoreError>;
    /// The rooms of an account, past ones included, with its membership.
    async fn rooms_of(&mut self, account: &AccountId) -> Result<Vec<(RoomRow, MemberRow)>, StoreError>;
    /// How many rooms an account is a member of.
    async fn room_count(&mut self, account: &AccountId) -> Result<u64, StoreError>;
    /// Whether two accounts were in one room at the same time.
    async fn have_met(&mut self, one: &AccountId, other: &AccountId) -> Result<bool, StoreError>;
}

/// Logs, epochs and receipts.
#[async_trait]
pub trait Log {
    /// Appends an entry.
    async fn insert_entry(&mut self, room: &RoomId, entry: &EntryRow) -> Result<(), StoreError>;
    /// Where an entry of this hash stands.
    async fn find_entry(&mut self, room: &RoomId, hash: &Hash) -> Result<Option<StoredAnswer>, StoreError>;
    /// The log hash at a place from 1 on.
    async fn log_hash(&mut self, room: &RoomId, seq: u64) -> Result<Option<Hash>, StoreError>;
    /// Notes that the entry at `seq` is a device's message.
    async fn insert_message(
        &mut self,
        room: &RoomId,
        device: &DeviceId,
        id: &ClientMessageId,
        place: MessagePlace,
    ) -> Result<(), StoreError>;
    /// Where a device's message of this name stands.
    async fn find_message(
        &mut self,
        room: &RoomId,
        device: &DeviceId,
        id: &ClientMessageId,
    ) -> Result<Option<StoredAnswer>, StoreError>;
    /// The last number that a device used in an epoch.
    async fn last_n(
        &mut self,
        room: &RoomId,
        device: &DeviceId,
        epoch: u64,
    ) -> Result<Option<u64>, StoreError>;
    /// Adds an epoch with its wraps.
    async fn insert_epoch(&mut self, epoch: &EpochRow) -> Result<(), StoreError>;
    /// Where an epoch of this hash came into force.
    async fn find_epoch(&mut self, room: &RoomId, hash: &Hash) -> Result<Option<StoredAnswer>, StoreError>;
    /// When an epoch was stored.
    async fn epoch_time(&mut self, room: &RoomId, epoch: u64) -> Result<Option<u64>, StoreError>;
    /// Up to `range.limit` entries, in order.
    async fn entries(&mut self, room: &RoomId, range: EntryRange) -> Result<Vec<LogItem>, StoreError>;
    /// Up to `range.limit` epochs, in order, with the wraps for `device`.
    async fn epochs(
        &mut self,
        room: &RoomId,
        device: &DeviceId,
        range: EpochRange,
    ) -> Result<Vec<LogItem>, StoreError>;
    /// The newest receipts of each member and kind.
    async fn receipts(&mut self, room: &RoomId) -> Result<Vec<Receipt>, StoreError>;
    /// How far a member's receipts of a kind go.
    async fn receipt_seq(
        &mut self,
        room: &RoomId,
        account: &AccountId,
        kind: ReceiptKind,
    ) -> Result<Option<u64>, StoreError>;
    /// Puts a receipt in place of the account's earlier one of its kind.
    async fn put_receipt(&mut self, receipt: &Receipt) -> Result<(), StoreError>;
}

/// Where a message stands in its device's chain and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePlace {
    /// The epoch.
    pub epoch: u64,
    /// The number within the epoch.
    pub n: u64,
    /// The place in the log.
    pub seq: u64,
}

/// Which entries to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRange {
    /// Those after this place ...
    pub after: u64,
    /// ... up to this one, itself included.
    pub to: u64,
    /// At most so many.
    pub limit: u32,
    /// The entry by which the reader came in, which shows its snapshot.
    pub joined_by: u64,
}

/// Which epochs to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRange {
    /// Epochs after this number ...
    pub after: u64,
    /// ... up to this one, itself included ...
    pub to: u64,
    /// ... and in force after an entry behind this place.
    pub behind: u64,
    /// At most so many.
    pub limit: u32,
}

/// What [`Accounts::insert_account`] takes apart: the parts that are signed.
#[derive(Clone, Debug)]
pub struct FirstKeys {
    /// The first device list.
    pub list: DeviceList,
    /// Its device's prekey.
    pub prekey: SignedPreKey,
}
