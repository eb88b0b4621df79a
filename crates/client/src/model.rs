//! What the client shows to a user interface: plain values, ready to display, taken from the
//! vault. Nothing here is a key or a ciphertext.

use serde::{Deserialize, Serialize};

/// Where the connection to the relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub enum ConnectionState {
    /// No relay is known yet: the first run, before a server link was entered.
    Unconfigured,
    /// Not connected; the next try comes after a pause.
    Offline,
    /// A carrier (TCP, TLS) is being opened.
    Connecting,
    /// The carrier is open, keys are being agreed on.
    SettingUp,
    /// Encrypted, but nobody is logged in.
    Connected,
    /// Encrypted and logged in: everything works.
    Online,
}

/// How the bytes get to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub enum TransportView {
    /// In TLS.
    Tls,
    /// In a WebSocket in TLS, because nothing else gets through.
    Wss,
}

/// The relay this client belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct ServerView {
    /// The server link, `mildam://host:port/#fingerprint`.
    pub link: String,
    /// Host and port, for display.
    pub address: String,
    /// The fingerprint of the server's key, in base64url.
    pub fingerprint: String,
    /// Other addresses where it was found before, for display. They are tried when the first does not answer.
    pub others: Vec<String>,
}

/// What a link that somebody gave leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct InvitationView {
    /// Host and port of the relay, for display.
    pub address: String,
    /// The fingerprint of the server's key, in base64url.
    pub fingerprint: String,
    /// What to connect by, `mildam://host:port/#fingerprint`, with what lets one sign up if it was given.
    pub link: String,
    /// The account that invites, if the link names one.
    pub account: Option<String>,
}

impl From<mildam_protocol::link::Invitation> for InvitationView {
    fn from(invitation: mildam_protocol::link::Invitation) -> Self {
        Self {
            address: invitation.link.shown_address(),
            fingerprint: invitation.link.fingerprint().to_string(),
            account: invitation.account.as_ref().map(ToString::to_string),
            link: mildam_protocol::link::Invitation { account: None, ..invitation }.to_string(),
        }
    }
}

/// Another server key than the known one, which the relay's address shows. The person has to decide:
/// it may be new, or somebody may be in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct OfferedKeyView {
    /// The fingerprint of the known key, in base64url.
    pub known: String,
    /// The fingerprint of the key that is shown, in base64url.
    pub found: String,
}

/// The account on this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct AccountView {
    /// The account id.
    pub account: String,
    /// The nickname, or the id where none was chosen.
    pub nickname: String,
    /// What the name looks like, whatever it is spelt with: two that are equal in this are told apart by
    /// the id beside them.
    pub look: String,
    /// Fingerprint of the identity key, in base64url.
    pub identity: String,
    /// This device's id, in base64url.
    pub device: String,
    /// Whether a session is at hand; without one the history can still be read.
    pub logged_in: bool,
    /// Whether the recovery words are still on this device, because nobody has confirmed that they are
    /// written down.
    pub words_pending: bool,
    /// What the user should know, until dismissed.
    pub notices: Vec<Notice>,
}

/// The recovery words. Both lists stand for the same secret: either can be typed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct RecoveryWordsView {
    /// Twelve English words.
    pub english: Vec<String>,
    /// Twelve Korean words, Hangul composed.
    pub korean: Vec<String>,
}

impl std::fmt::Debug for RecoveryWordsView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryWordsView(..)")
    }
}

/// What a repair of the vault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairView {
    /// Whether the account is there again. If not, its recovery words bring it back.
    pub account: bool,
    /// Rooms that are there again.
    pub rooms: u64,
    /// Messages that are there again.
    pub messages: u64,
    /// What was found and could not be read. What was not even found is not in it.
    pub unreadable: u64,
}

/// Something that concerns the whole account, and that the user should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub enum Notice {
    /// This device's data came from an older copy. New keys were made everywhere.
    StatePutBack,
    /// This device was taken off the account: somebody used the recovery words, or another device
    /// removed it.
    DeviceRemoved,
    /// This device was logged out, by another device or by the server, and not by its person.
    LoggedOut,
    /// Part of what is stored here is damaged: the vault should be repaired.
    VaultDamaged,
    /// The vault was damaged and was put together again from what could be read.
    VaultRepaired,
}

/// How far somebody's identity is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub enum TrustView {
    /// It was pinned at the first contact and is the same since, but was never compared.
    Unverified,
    /// The safety number was compared.
    Verified,
    /// The relay shows another one. Nothing is sent until the user decides.
    Changed,
}

/// What two people compare to know that nobody stands between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct SafetyNumberView {
    /// The 60 digits, in 12 groups of five.
    pub groups: Vec<String>,
    /// The digits as a QR code: an SVG path of unit squares, for `fill`.
    pub qr_path: String,
    /// The width and height of the QR code, in unit squares, without a margin.
    pub qr_size: u32,
}

/// Another person, and how far they are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct ContactView {
    /// Their account id.
    pub account: String,
    /// Their nickname, or the id.
    pub nickname: String,
    /// How far their identity is known.
    pub trust: TrustView,
    /// Whether an identity of theirs was compared before.
    pub was_verified: bool,
    /// The safety number with the known identity.
    pub safety_number: SafetyNumberView,
    /// The safety number with the other identity that the relay shows, if it does.
    pub offered: Option<SafetyNumberView>,
    /// Their devices.
    pub devices: Vec<DeviceView>,
}

/// Who of the friends is online, as long as there is a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct PresenceView {
    /// Whether friends see when this account is online or writing. Who hides sees nobody else either.
    pub visible: bool,
    /// The friends who are, by account id.
    pub online: Vec<String>,
}

impl Default for PresenceView {
    fn default() -> Self {
        Self { visible: true, online: Vec::new() }
    }
}

/// The session of one of the account's devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct SessionView {
    /// The device's id, in base64url.
    pub device: String,
    /// Whether it is this device.
    pub current: bool,
    /// When it logged in, in milliseconds since 1970 (UTC).
    pub created_at: u64,
    /// When it ends if it is not used before.
    pub expires_at: u64,
    /// Whether it is connected now.
    pub online: bool,
}

/// A device of somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct DeviceView {
    /// Its id, in base64url.
    pub device: String,
    /// When it was made, in milliseconds since 1970 (UTC), by its own clock.
    pub added_at: u64,
    /// Whether it was online within the last 60 days. Others get no keys until they are back.
    pub active: bool,
}

/// Everything a window needs to decide what to show first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct ClientState {
    /// Where the connection stands.
    pub connection: ConnectionState,
    /// The relay, once one is known.
    pub server: Option<ServerView>,
    /// The account, once one was made or logged in on this device.
    pub account: Option<AccountView>,
    /// Another server key that waits for a decision.
    pub offered_key: Option<OfferedKeyView>,
    /// How the relay is reached, as long as it is.
    pub transport: Option<TransportView>,
    /// By how many milliseconds this computer's clock is ahead of the relay's, negative if it is behind;
    /// none as long as they agree within two minutes, or nothing is known of the relay's.
    pub clock_ahead: Option<i64>,
    /// Why nothing can be stored at the moment, as the code of an error: `disk_full`, `disk_failed`,
    /// `vault_damaged`. Nothing is received or sent meanwhile; it goes on by itself.
    pub storage_fault: Option<String>,
}

/// Another person, as this account sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct FriendView {
    /// Their account id.
    pub account: String,
    /// Their nickname, or the id where they chose none.
    pub nickname: String,
    /// What the name looks like, whatever it is spelt with: two that are equal in this are told apart by
    /// the id beside them.
    pub look: String,
    /// How far their identity is known.
    pub trust: TrustView,
}

/// A friend request that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct FriendRequestView {
    /// The other account: who asked, or who was asked.
    pub account: String,
    /// Their nickname, or the id.
    pub nickname: String,
    /// What the name looks like, whatever it is spelt with: two that are equal in this are told apart by
    /// the id beside them.
    pub look: String,
    /// The words that came with the request; may be empty.
    pub greeting: String,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub requested_at: u64,
}

/// Friends and the requests in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct FriendsView {
    /// The friends, by nickname.
    pub friends: Vec<FriendView>,
    /// Requests from others, newest first.
    pub incoming: Vec<FriendRequestView>,
    /// Requests to others, newest first.
    pub outgoing: Vec<FriendRequestView>,
}

/// The kind of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub enum RoomKindView {
    /// One to one.
    Direct,
    /// Several people.
    Group,
}

/// A member of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct MemberView {
    /// The account id.
    pub account: String,
    /// The nickname, or the id.
    pub nickname: String,
    /// What the name looks like, whatever it is spelt with: two that are equal in this are told apart by
    /// the id beside them.
    pub look: String,
    /// `owner`, `admin` or `member`.
    pub role: String,
    /// How far their identity is known.
    pub trust: TrustView,
}

/// One line of the room list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct RoomView {
    /// The room id, in base64url.
    pub room: String,
    /// One to one, or a group.
    pub kind: RoomKindView,
    /// The name to show: the friend's nickname, or the group's name.
    pub name: String,
    /// What the name looks like, whatever it is spelt with: two that are equal in this are told apart by
    /// the id beside them.
    pub look: String,
    /// The members, the own account included.
    pub members: Vec<MemberView>,
    /// The newest message or notice, if there is one.
    pub last: Option<MessageView>,
    /// How many messages from others were not read yet.
    pub unread: u64,
    /// How many messages of one's own could not be sent.
    pub failed: u64,
    /// Its place among all rooms, by what arrived last, or waits to be sent: which connection that came
    /// over, and when. Bigger is newer; both numbers are below 2^53.
    pub order: (u64, u64),
    /// Whether this account has left, or was removed: the history stays, nothing can be written.
    pub left: bool,
    /// Whether it was removed by somebody.
    pub removed: bool,
    /// Why nothing can be sent at the moment, as an error code, if so (`log_mismatch`, ...).
    pub blocked: Option<String>,
    /// Whether nothing can ever be sent here again, so that only a room in its place helps.
    pub beyond_repair: bool,
    /// The room that has taken this one's place.
    pub replaced_by: Option<String>,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub enum MessageState {
    /// Written here, not yet at the relay.
    Pending,
    /// The relay refused it for good; it was not sent.
    Failed,
    /// The relay has it.
    Stored,
    /// Every other member's device has it.
    Delivered,
    /// Every other member has read it.
    Read,
    /// It came from somebody else.
    Received,
}

/// What stands in a line of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub enum MessageContent {
    /// Text that somebody wrote.
    Text {
        /// The text, as written.
        text: String,
        /// So many earlier messages of this sender never arrived.
        #[serde(default)]
        missing_before: u64,
    },
    /// The room was made.
    RoomCreated,
    /// People came in.
    MembersAdded {
        /// Their account ids.
        accounts: Vec<String>,
    },
    /// The sender left.
    MemberLeft,
    /// The sender put somebody out.
    MemberRemoved {
        /// The account id.
        account: String,
    },
    /// Something came that could not be accepted; `code` says why.
    Refused {
        /// The error code.
        code: String,
    },
    /// Messages from before this device was part of the account: it cannot read them.
    BeforeDevice,
    /// A message of a kind that this version does not know.
    NeedsNewerVersion,
}

/// One line of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct MessageView {
    /// The room id.
    pub room: String,
    /// The place in the room, from 1; none while it waits in the outbox.
    pub seq: Option<u64>,
    /// The message id that the sender chose, in base64url; the same before and after sending.
    pub id: String,
    /// The sender's account id.
    pub from: String,
    /// What it says.
    pub content: MessageContent,
    /// When it was written by the sender's clock, in milliseconds since 1970 (UTC).
    pub sent_at: u64,
    /// How far it has come.
    pub state: MessageState,
    /// Why it could not be sent, as an error code, in the state [`MessageState::Failed`].
    #[serde(default)]
    pub failure: Option<String>,
}

/// A page of a conversation, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct HistoryPage {
    /// The lines. Those that wait in the outbox come last, and only on the newest page.
    pub messages: Vec<MessageView>,
    /// Whether older ones exist.
    pub more: bool,
}

/// A message that a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub struct SearchHit {
    /// The message.
    pub message: MessageView,
    /// The name of its room.
    pub room_name: String,
    /// Byte ranges `[start, end)` in the text that matched, for marking.
    pub ranges: Vec<(u32, u32)>,
}

/// A step of the key generation at sign-up, shown as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub enum SignUpStep {
    /// The identity key (RSA-3072).
    IdentityKey,
    /// The key that room keys are wrapped to (RSA-3072).
    WrapKey,
    /// The key that signs for this device (Ed25519).
    DeviceKey,
    /// The post-quantum prekey (X-Wing).
    PreKey,
    /// The identity key is sealed under the recovery words.
    Sealing,
    /// The relay registers the account.
    Registering,
    /// All done.
    Done,
}

/// Something changed. Every view can be read anew from the facade; events say which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, export_to = "views.ts"))]
pub enum Event {
    /// Connection, server or account changed.
    State {
        /// The new state.
        state: ClientState,
    },
    /// A step of the sign-up begins.
    SignUp {
        /// The step.
        step: SignUpStep,
    },
    /// Friends or requests changed.
    Friends {
        /// All of them.
        friends: FriendsView,
    },
    /// A room is new or its line in the list changed.
    Room {
        /// The room.
        room: RoomView,
    },
    /// A message is new, or its place or state changed (same `room` and `id`).
    Message {
        /// The message.
        message: MessageView,
    },
    /// A message of one's own that waited or was refused is discarded: its line goes.
    MessageGone {
        /// Its room.
        room: String,
        /// Its id.
        id: String,
    },
    /// A friend came or went, or the own visibility changed.
    Presence {
        /// All of it.
        presence: PresenceView,
    },
    /// A member of a room is writing, and is for some seconds if nothing else comes.
    Typing {
        /// The room.
        room: String,
        /// Who.
        account: String,
    },
    /// Events were lost because nobody read them: read every view anew.
    Resync,
}
