//! Why a request was not done.

use serde::{Deserialize, Serialize};

/// The two ways in which a request fails, as they stand in an answer's `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `invalid`: the request cannot be done as it is; asking again the same way is no use.
    Invalid,
    /// `fail`: the relay could not do it now.
    Fail,
}

macro_rules! codes {
    ($($(#[$docs:meta])* $name:ident = $text:literal, $failure:ident;)*) => {
        /// A stable, machine-readable reason. The text that goes with it is for people.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$docs])* #[serde(rename = $text)] $name,)*
            /// A code that this version does not know.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl Code {
            /// All codes that a relay of this version sends.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it stands on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* Self::Unknown => "unknown" }
            }

            /// Whether an answer with this code is `invalid` or `fail`.
            #[must_use]
            pub const fn failure(self) -> Failure {
                match self { $(Self::$name => Failure::$failure,)* Self::Unknown => Failure::Fail }
            }
        }
    };
}

codes! {
    /// The frame's content is not a request, or `data` is not of the command's form.
    Malformed = "malformed", Invalid;
    /// No such command.
    UnknownCommand = "unknown_command", Invalid;
    /// The command needs a session id and there was none.
    SessionRequired = "session_required", Invalid;
    /// The session was not used for too long, or was never issued.
    SessionExpired = "session_expired", Invalid;
    /// The session was ended: by a log-out, from another device, or by a later session of the device.
    SessionRevoked = "session_revoked", Invalid;
    /// The session is good, but this connection was not attached to it.
    NotAttached = "not_attached", Invalid;
    /// The connection already serves another account; open a new one.
    WrongConnection = "wrong_connection", Invalid;
    /// Account id and password do not go together (or there is no such account).
    WrongCredentials = "wrong_credentials", Invalid;
    /// Account id and recovery words do not go together (or there is no such account).
    WrongWords = "wrong_words", Invalid;
    /// The device is not in the account's device list, or its proof does not verify.
    DeviceUnknown = "device_unknown", Invalid;
    /// Not a usable account id.
    BadAccount = "bad_account", Invalid;
    /// Not a usable e-mail address.
    BadEmail = "bad_email", Invalid;
    /// Not a message of the password protocol.
    BadPassword = "bad_password", Invalid;
    /// People sign up by invitation here, and there was none.
    InvitationNeeded = "invitation_needed", Invalid;
    /// The invitation is none of this relay's, was used, or has expired.
    InvitationInvalid = "invitation_invalid", Invalid;
    /// Nobody can sign up here.
    SignUpClosed = "sign_up_closed", Invalid;
    /// Another account has this id.
    AccountTaken = "account_taken", Invalid;
    /// Another account has this address. A relay of this version never says so; clients know it for older ones.
    EmailTaken = "email_taken", Invalid;
    /// A signed record does not verify or contradicts what the relay has.
    BadRecord = "bad_record", Invalid;
    /// No such account, request or room, or none that the asker may know of.
    NotFound = "not_found", Invalid;
    /// This needs friendship first.
    NotFriends = "not_friends", Invalid;
    /// They are friends already.
    AlreadyFriends = "already_friends", Invalid;
    /// The asker is not a member of the room.
    NotMember = "not_member", Invalid;
    /// The asker's role does not allow it.
    Forbidden = "forbidden", Invalid;
    /// The room has moved on (version, epoch, device list): catch up, then try again.
    Stale = "stale", Invalid;
    /// The log hash in the record is not the relay's.
    LogMismatch = "log_mismatch", Invalid;
    /// Something is longer than its limit.
    TooLarge = "too_large", Invalid;
    /// Too many members, devices, or requests that wait.
    LimitReached = "limit_reached", Invalid;
    /// Too much at once, from this account or address: the answer says when to try again.
    RateLimited = "rate_limited", Fail;
    /// The relay is stopping: connect again.
    Draining = "draining", Fail;
    /// The relay cannot store anything at the moment (disk full, for example).
    StorageUnavailable = "storage_unavailable", Fail;
    /// A bug or an outage on the relay's side.
    Internal = "internal", Fail;
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
