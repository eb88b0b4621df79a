//! What a client can ask, and what it gets.
//!
//! Times are milliseconds since 1970 (UTC). Texts are UTF-8 and limited as noted, counted in
//! bytes. Unknown fields in `data` are refused.

use mildam_records::bytes::Bytes;
use mildam_records::id::{AccountId, DeviceId, Hash, RoomId};
use mildam_records::keys::{DevicePublicKey, Signature};
use mildam_records::{
    AccountKeys, DeviceList, EpochAnnouncement, IdentityPublicKey, LogItem, LogPosition, Message, Receipt,
    RoomChange, RoomKind, SealedProfile, SignedPreKey, Snapshot, Wrap,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frame::SESSION_LIMIT;

/// A command: its name on the wire and the form of its answer.
pub trait Command: Serialize + DeserializeOwned + Send + 'static {
    /// What stands in `command`.
    const NAME: &'static str;
    /// Whether the request must carry a session id.
    const NEEDS_SESSION: bool;
    /// What stands in the answer's `data`.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// The longest text of a request, in bytes, unless its command says otherwise: a relay judges it before it
/// reads `data`.
pub const REQUEST_LIMIT: usize = 64 * 1024;

macro_rules! commands {
    (@limit) => { REQUEST_LIMIT };
    (@limit $limit:expr) => { $limit };
    ($($(#[$docs:meta])* $variant:ident = $name:literal, $session:literal $(, up to $limit:expr)? => $answer:ty;)*) => {
        $(impl Command for $variant {
            const NAME: &'static str = $name;
            const NEEDS_SESSION: bool = $session;
            type Answer = $answer;
        })*

        /// Which command a request is, before its data are read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$docs])* $variant,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The command of this name.
            #[must_use]
            pub fn of(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether it needs a session id.
            #[must_use]
            pub const fn needs_session(self) -> bool {
                match self { $(Self::$variant => $session,)* }
            }

            /// The longest text that a request of it may have, in bytes.
            #[must_use]
            pub const fn limit(self) -> usize {
                match self { $(Self::$variant => commands!(@limit $($limit)?),)* }
            }
        }

        /// Any command, read from a request.
        #[derive(Clone, Debug)]
        pub enum Request {
            $($(#[$docs])* $variant(Box<$variant>),)*
        }

        impl Request {
            /// Reads a command's `data`, a text of JSON. The form says what stands where, so that nothing
            /// is kept of what does not fit it, and a key that comes twice is refused.
            ///
            /// # Errors
            /// Data of another form. The text names the field, never its value.
            pub fn read(kind: Kind, data: &str) -> Result<Self, serde_json::Error> {
                match kind {
                    $(Kind::$variant => {
                        serde_json::from_str(data).map(|command| Self::$variant(Box::new(command)))
                    })*
                }
            }

            /// Which command it is.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)* }
            }
        }
    };
}

commands! {
    /// Who is there?
    ServerInfo = "server_info", false => ServerInfoAnswer;
    /// Is anybody there?
    Ping = "ping", false => Done;
    /// Begins to choose the password of a new account.
    SignUpStart = "sign_up_start", false => PasswordAnswer;
    /// A new account.
    SignUp = "sign_up", false => SessionAnswer;
    /// Begins to show that the password is known.
    LogInStart = "log_in_start", false => PasswordAnswer;
    /// A new session for a device of an account.
    LogIn = "log_in", false => SessionAnswer;
    /// Begins to use the recovery words: what they open.
    RecoverStart = "recover_start", false => RecoverStartAnswer;
    /// Ends it: a new generation of devices, with a new password.
    Recover = "recover", false => SessionAnswer;
    /// Binds the connection to the session's device: pushes begin.
    Attach = "attach", true => AttachAnswer;
    /// Ends the session.
    LogOut = "log_out", true => Done;
    /// The account's sessions, one for each device that has one.
    SessionList = "session_list", true => SessionListAnswer;
    /// Ends another device's session.
    SessionEnd = "session_end", true => Done;
    /// Whether friends may know when the account is online.
    PresenceSet = "presence_set", true => Done;
    /// Who of the friends is online.
    PresenceList = "presence_list", true => PresenceListAnswer;
    /// Somebody is writing in a room.
    Typing = "typing", true => Done;
    /// Asks somebody to be a friend.
    FriendRequest = "friend_request", true => FriendRequestAnswer;
    /// Accepts a request.
    FriendAccept = "friend_accept", true => Done;
    /// Declines a request.
    FriendDecline = "friend_decline", true => Done;
    /// Friends and waiting requests.
    FriendList = "friend_list", true => FriendListAnswer;
    /// Public keys of accounts that the asker may know: itself, friends, members of its rooms.
    GetAccountKeys = "account_keys", true => AccountKeysAnswer;
    /// Replaces the asking device's prekey.
    PreKeyReplace = "prekey_replace", true => Done;
    /// The next version of the asker's device list.
    DevicesSet = "devices_set", true => Done;
    /// Makes a room.
    RoomCreate = "room_create", true, up to SESSION_LIMIT => RoomCreateAnswer;
    /// Changes a room.
    RoomSetChange = "room_change", true, up to SESSION_LIMIT => StoredAnswer;
    /// Announces a new epoch.
    EpochAnnounce = "epoch_announce", true, up to SESSION_LIMIT => StoredAnswer;
    /// The asker's rooms.
    RoomList = "room_list", true => RoomListAnswer;
    /// A page of a room's log.
    RoomLog = "room_log", true => RoomLogAnswer;
    /// Stores a message.
    MessageSend = "message_send", true, up to 192 * 1024 => StoredAnswer;
    /// Stores receipts.
    ReceiptSend = "receipt_send", true, up to 192 * 1024 => Done;
}

/// The longest password, in bytes. The client's to check: the relay never sees one.
pub const MAX_PASSWORD: usize = 1024;
/// The shortest password, in characters.
pub const MIN_PASSWORD: usize = 8;
/// The longest e-mail address, in bytes.
pub const MAX_EMAIL: usize = 254;
/// The longest nickname, in bytes.
pub const MAX_NICKNAME: usize = 120;
/// The longest greeting, in bytes.
pub const MAX_GREETING: usize = 600;
/// The longest message ciphertext, in bytes.
pub const MAX_CIPHERTEXT: usize = 96 * 1024;
/// The longest sealed room profile, in bytes.
pub const MAX_PROFILE: usize = 96 * 1024;
/// The longest sealed identity key, in bytes.
pub const MAX_SEALED_IDENTITY: usize = 8 * 1024;
/// The longest invitation, in bytes.
pub const MAX_INVITATION: usize = 64;
/// The most members of a room.
pub const MAX_MEMBERS: usize = 1000;
/// The most accounts that a room keeps out.
pub const MAX_BANNED: usize = 1000;
/// The most devices of an account.
pub const MAX_DEVICES: usize = 16;
/// The most devices of all members of a room: so many wraps fit a frame.
pub const MAX_ROOM_DEVICES: usize = 3_000;
/// A device whose prekey is older, in milliseconds, is left out of new epochs: 60 days.
pub const PREKEY_LIFE: u64 = 60 * 24 * 60 * 60 * 1_000;
/// The most items of a page of a log. A page also ends when it would exceed a frame.
pub const MAX_PAGE: u32 = 200;
/// The most accounts in one [`GetAccountKeys`].
pub const MAX_KEYS: usize = 100;
/// The most receipts in one [`ReceiptSend`].
pub const MAX_RECEIPTS: usize = 200;

/// `data` of an answer that says no more than "done".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// `server_info`: no parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerInfo {}

/// `ping`: no parameters. It shows whether the other side is still there, and keeps open what lies
/// between and forgets silent connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {}

/// What a relay says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfoAnswer {
    /// A name for people.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// The protocol's version.
    pub protocol: u64,
    /// The relay's clock.
    pub time: u64,
}

/// `sign_up_start`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignUpStart {
    /// The id to take.
    pub account: AccountId,
    /// The request of a [`password::Registration`](crate::password::Registration).
    pub password: Bytes,
}

/// The relay's part of a registration or login by password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordAnswer {
    /// What to finish with.
    pub password: Bytes,
}

/// `sign_up`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignUp {
    /// The id to take.
    pub account: AccountId,
    /// An address of the person's own.
    pub email: String,
    /// The password's record, [`PASSWORD_RECORD`](crate::password::PASSWORD_RECORD) bytes.
    pub password: Bytes,
    /// What others read; empty for the id.
    pub nickname: String,
    /// The identity key.
    pub identity_key: IdentityPublicKey,
    /// The identity key's private half, sealed under the recovery words: opaque to the relay.
    pub sealed_identity: Bytes,
    /// What [`RecoverStart::proof`] verifies under: Ed25519, made from the recovery words.
    pub recovery_key: DevicePublicKey,
    /// Generation 1, version 1, with the one device that signs up.
    pub device_list: DeviceList,
    /// That device's prekey.
    pub prekey: SignedPreKey,
    /// As [`LogIn::proof`]: whoever signs up with keys has them. Where the account is there already, with
    /// this very list, this is a resend whose answer was lost.
    pub proof: Signature,
    /// Where people come in by invitation, its token, at most [`MAX_INVITATION`] bytes. A resend needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<String>,
}

/// `log_in_start`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInStart {
    /// The account.
    pub account: AccountId,
    /// The request of a [`password::Login`](crate::password::Login).
    pub password: Bytes,
    /// The device that logs in, if it shows right away that it is one of the account's: then it is not counted
    /// among those who try passwords from anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// As [`LogIn::proof`], by that device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Signature>,
}

/// `log_in`, from a device that stands in the account's list, after `log_in_start` on the same
/// connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    /// The account.
    pub account: AccountId,
    /// The last word of the [`password::Login`](crate::password::Login).
    pub password: Bytes,
    /// The device.
    pub device: DeviceId,
    /// By the device key over `T("mildam/login/v1", account, device, transcript hash of this
    /// connection's set-up)`.
    pub proof: Signature,
}

/// `recover_start`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverStart {
    /// The account.
    pub account: AccountId,
    /// The request of a [`password::Registration`](crate::password::Registration) of the new password.
    pub password: Bytes,
    /// By the recovery key over `T("mildam/recover/v1", account, transcript)`.
    pub proof: Signature,
}

/// What the recovery words open, and the account as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverStartAnswer {
    /// The sealed private half of the identity key.
    pub sealed_identity: Bytes,
    /// The account's public keys.
    pub keys: AccountKeys,
    /// The account's nickname.
    pub nickname: String,
    /// What to finish the new password with.
    pub password: Bytes,
}

/// `recover`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// The account.
    pub account: AccountId,
    /// The new password's record.
    pub password: Bytes,
    /// Version 1 of the next generation, with the one device that recovers.
    pub device_list: DeviceList,
    /// That device's prekey.
    pub prekey: SignedPreKey,
    /// By that device's key over `T("mildam/recovered/v1", account, device, transcript,
    /// SHA-256(password record), device list hash)`.
    pub proof: Signature,
}

/// `prekey_replace`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreKeyReplace {
    /// The new one, made later than the one before.
    pub prekey: SignedPreKey,
}

/// `devices_set`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicesSet {
    /// The next version, signed by the asking device. Sessions of devices that are not in it end.
    pub device_list: DeviceList,
}

/// A session's name and proof of authority: 32 random bytes. Whoever has it acts as the device
/// that it was issued to, so it shows neither in `{:?}` nor in a log.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Hash);

impl SessionId {
    /// Takes 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Hash::from_bytes(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// A new session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAnswer {
    /// What later requests carry as `session`.
    pub session: SessionId,
    /// When it expires.
    pub expires_at: u64,
    /// The account's nickname.
    pub nickname: String,
}

/// `attach`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// By the device key over `T("mildam/attach/v1", account, device, transcript hash of this
    /// connection's set-up)`: a session id that was stolen is of no use without the device.
    pub proof: Signature,
}

/// To whom the connection belongs now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachAnswer {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// The account's nickname.
    pub nickname: String,
    /// When the session expires.
    pub expires_at: u64,
}

/// `log_out`: no parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOut {}

/// `session_list`: no parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionList {}

/// The session of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// The device.
    pub device: DeviceId,
    /// When it logged in.
    pub created_at: u64,
    /// When it expires, if it is not used before.
    pub expires_at: u64,
    /// Whether the device is connected now.
    pub online: bool,
}

/// The account's sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionListAnswer {
    /// Those that have not ended, by device.
    pub sessions: Vec<SessionSummary>,
}

/// `session_end`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEnd {
    /// Whose session.
    pub device: DeviceId,
}

/// `presence_set`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresenceSet {
    /// Whether friends see it. An account that hides itself sees nobody else either.
    pub visible: bool,
}

/// `presence_list`: no parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresenceList {}

/// Who is online.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceListAnswer {
    /// Whether the asker shows itself.
    pub visible: bool,
    /// The friends that are online and show it; none if the asker does not show itself.
    pub online: Vec<AccountId>,
}

/// `typing`. It is said again every few seconds for as long as it is true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Typing {
    /// Where.
    pub room: RoomId,
}

/// `friend_request`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FriendRequest {
    /// Whom.
    pub account: AccountId,
    /// A few words to go with it; may be empty.
    pub greeting: String,
}

/// What became of a friend request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendRequestAnswer {
    /// True if the other side had asked already, so that they are friends now.
    pub friends: bool,
}

/// `friend_accept`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FriendAccept {
    /// Whose request.
    pub account: AccountId,
}

/// `friend_decline`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FriendDecline {
    /// Whose request.
    pub account: AccountId,
}

/// `friend_list`: no parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FriendList {}

/// A friend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Friend {
    /// The account.
    pub account: AccountId,
    /// Its nickname.
    pub nickname: String,
    /// Since when.
    pub since: u64,
}

/// A friend request that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingFriend {
    /// The other account.
    pub account: AccountId,
    /// Its nickname; empty for requests to others, who have not agreed to show it.
    pub nickname: String,
    /// The words that went with it.
    pub greeting: String,
    /// When.
    pub requested_at: u64,
}

/// Friends and waiting requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendListAnswer {
    /// Friends.
    pub friends: Vec<Friend>,
    /// Requests from others.
    pub incoming: Vec<PendingFriend>,
    /// Requests to others.
    pub outgoing: Vec<PendingFriend>,
}

/// `account_keys`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetAccountKeys {
    /// Whose, at most [`MAX_KEYS`].
    pub accounts: Vec<AccountId>,
}

/// Public keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountKeysAnswer {
    /// In the order of the request. Accounts that the asker may not know of are left out.
    pub accounts: Vec<KnownKeys>,
}

/// One account's public keys and nickname.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownKeys {
    /// The nickname.
    pub nickname: String,
    /// The keys.
    pub keys: AccountKeys,
}

/// An epoch with everything that travels beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEpoch {
    /// The announcement.
    pub announcement: EpochAnnouncement,
    /// One wrap for every device of every recipient that has a prekey.
    pub wraps: Vec<Wrap>,
    /// The sealed room profile, if the announcement names one.
    pub profile: Option<SealedProfile>,
}

/// `room_create`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomCreate {
    /// The `created` change.
    pub change: RoomChange,
    /// The first epoch.
    pub epoch: NewEpoch,
}

/// The room that was made, or the direct room that the pair already had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomCreateAnswer {
    /// The room.
    pub room: RoomId,
    /// False if the pair already had a direct room: then nothing was stored.
    pub created: bool,
}

/// `room_change`. A change that adds or removes members brings the next epoch along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomSetChange {
    /// The change.
    pub change: RoomChange,
    /// With `added`: the room after it.
    pub snapshot: Option<Snapshot>,
    /// With `added`, `removed`, `banned` (of a member): the next epoch. Its announcement names
    /// the version and head that the change makes.
    pub epoch: Option<NewEpoch>,
}

/// `epoch_announce`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochAnnounce {
    /// The epoch.
    pub epoch: NewEpoch,
}

/// Where something was stored. A resend of the same gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// Its place in the log; for an epoch, the place after which it is in force.
    pub seq: u64,
    /// When it was stored, by the relay's clock.
    pub stored_at: u64,
}

/// `room_list`: no parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomList {}

/// A room of the asker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSummary {
    /// The room.
    pub room: RoomId,
    /// One to one, or a group.
    pub kind: RoomKind,
    /// The position right before the entry by which the asker came in; start of the log for
    /// those who were there from the beginning.
    pub start: LogPosition,
    /// The last entry that the asker may read. For one who has left, the leave itself.
    pub last_seq: u64,
    /// The newest epoch that the asker may read.
    pub last_epoch: u64,
    /// Whether the asker is still a member.
    pub member: bool,
    /// The newest receipts of each member and kind.
    pub receipts: Vec<Receipt>,
}

/// The asker's rooms, left ones included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomListAnswer {
    /// The rooms.
    pub rooms: Vec<RoomSummary>,
}

/// `room_log`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomLog {
    /// The room.
    pub room: RoomId,
    /// The last entry that the reader has; 0 for none. Reading begins where the reader came in.
    pub after_seq: u64,
    /// The last epoch that the reader has; 0 for none.
    pub after_epoch: u64,
    /// At most so many items, 1 to [`MAX_PAGE`].
    pub limit: u32,
}

/// A page of a log, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomLogAnswer {
    /// Entries and epochs, each exactly once, in the order in which they are in force.
    pub items: Vec<LogItem>,
    /// Whether more follows.
    pub more: bool,
}

/// `message_send`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageSend {
    /// The sealed message.
    pub message: Message,
}

/// `receipt_send`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptSend {
    /// At most [`MAX_RECEIPTS`].
    pub receipts: Vec<Receipt>,
}
