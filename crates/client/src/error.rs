//! What a user interface is told when something is not done.

use std::collections::BTreeMap;
use std::time::Duration;

use mildam_e2ee::{KeyError, PastUnreadable, RoomError, WordsError};
use mildam_protocol::code::Code;
use mildam_protocol::link::LinkError;
use mildam_protocol::password::PasswordError;
use mildam_protocol::records::{AccountId, Hash};
use mildam_protocol::session::{Refusal, SessionError};
use mildam_protocol::set_up::SetUpError;
use mildam_vault::VaultError;
use unicode_normalization::UnicodeNormalization;

/// The detail of `busy` that says in how many seconds it is worth trying again.
pub(crate) const RETRY_AFTER: &str = "retry_after";
/// The detail of `wrong_fingerprint` that says what was found.
const FOUND: &str = "found";

/// A stable code for programs and translations, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{message}")]
pub struct Error {
    code: std::borrow::Cow<'static, str>,
    message: String,
    /// What a translation puts in, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    details: BTreeMap<String, String>,
}

impl Error {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: BTreeMap::new() }
    }

    /// There is no connection, and none came in time.
    #[must_use]
    pub fn offline() -> Self {
        Self::new("offline", "There is no connection to the server.")
    }

    /// A repair did not find the account.
    #[must_use]
    pub fn account_lost() -> Self {
        Self::new("account_lost", "The account could not be read: its recovery words bring it back.")
    }

    /// A message has not come as far as somebody waited for.
    #[must_use]
    pub fn pending() -> Self {
        Self::new("pending", "It has not come so far in time.")
    }

    /// The account is logged out on this device.
    pub(crate) fn session_expired() -> Self {
        Self::new("session_expired", "You are logged out: log in again.")
    }

    /// Whether nothing more can be asked at the moment: the connection or the session has ended, or the
    /// relay wants to be asked later.
    pub(crate) fn ends_connection(&self) -> bool {
        self.is_offline() || self.is_session_end() || self.retry_after().is_some()
    }

    /// Whether the session has ended, by itself or by somebody's will.
    pub(crate) fn is_session_end(&self) -> bool {
        matches!(self.code(), "session_expired" | "session_revoked")
    }

    /// Whether it is this computer's disk, or what lies on it, that failed.
    #[must_use]
    pub fn is_of_storage(&self) -> bool {
        matches!(self.code(), "disk_full" | "disk_failed" | "vault_damaged")
    }

    pub(crate) fn internal(what: &str) -> Self {
        Self::new("internal", format!("Something went wrong inside the program ({what})."))
    }

    pub(crate) fn no_account() -> Self {
        Self::new("no_account", "There is no account on this device yet.")
    }

    pub(crate) fn identity_changed(account: &AccountId) -> Self {
        Self::new(
            "identity_changed",
            format!("The identity of {account} has changed. Decide about it first."),
        )
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new("not_found", format!("There is no such {what}."))
    }

    /// The code, in snake_case.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What a translation of the code needs to know, by name: `position` and `word` of
    /// `words_unknown`, `count` of `words_count` and `bad_safety_number`, `retry_after` in seconds of
    /// `busy`, if the relay said so, `found` of `wrong_fingerprint`, if the server showed a server key,
    /// `proxy` of `proxy_failed`.
    #[must_use]
    pub const fn details(&self) -> &BTreeMap<String, String> {
        &self.details
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.details.insert(name.to_owned(), value.to_string());
        self
    }

    /// Whether the relay could not be reached, by itself or through the system's proxy, so that trying
    /// again later can help.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        matches!(self.code(), "offline" | "proxy_failed")
    }
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        Self::new("bad_link", format!("This is not a server link: {error}."))
    }
}

impl From<SetUpError> for Error {
    fn from(error: SetUpError) -> Self {
        match error {
            SetUpError::WrongFingerprint { found } => Self::wrong_fingerprint(&found),
            SetUpError::Refused { message, retry_after: Some(seconds) } => {
                let message = format!("The server asks to try again in {seconds} seconds: {message}.");
                Self::new("busy", message).with(RETRY_AFTER, seconds)
            }
            other => {
                Self::new("set_up_failed", format!("The encrypted connection could not be set up: {other}."))
            }
        }
    }
}

impl Error {
    /// The server shows another server key.
    pub(crate) fn wrong_fingerprint(found: &Hash) -> Self {
        let message = format!(
            "The server shows another key ({found}) than the link names. Somebody may be in between."
        );
        Self::new("wrong_fingerprint", message).with(FOUND, found)
    }

    /// The proxy that stands before the server does not lead there.
    pub(crate) fn proxy_failed(proxy: &str, reason: &dyn std::fmt::Display) -> Self {
        let message = format!("The proxy {proxy} does not lead to the server: {reason}.");
        Self::new("proxy_failed", message).with("proxy", proxy)
    }

    /// The server shows a certificate that has to do with no server key.
    pub(crate) fn unknown_certificate() -> Self {
        Self::new(
            "wrong_fingerprint",
            "The server's certificate does not belong to the key that the link names. Somebody may be in between.",
        )
    }

    /// In how long the relay wants to be asked again, if it said so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.details.get(RETRY_AFTER)?.parse().ok()?))
    }

    /// The fingerprint of the server key that was shown in place of the link's, if one was.
    pub(crate) fn found_key(&self) -> Option<&str> {
        self.details.get(FOUND).map(String::as_str)
    }
}

impl From<SessionError> for Error {
    fn from(_: SessionError) -> Self {
        Self::offline()
    }
}

impl From<std::io::Error> for Error {
    fn from(_: std::io::Error) -> Self {
        Self::offline()
    }
}

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        Self::new(error.code(), format!("{error}."))
    }
}

impl From<PastUnreadable> for Error {
    fn from(error: PastUnreadable) -> Self {
        Self::new(error.code, error.message)
    }
}

impl From<PasswordError> for Error {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Wrong => Self::new("wrong_credentials", "Id and password do not go together."),
            other => Self::internal(&other.to_string()),
        }
    }
}

impl From<WordsError> for Error {
    fn from(error: WordsError) -> Self {
        match error {
            WordsError::Count(count) => {
                Self::new("words_count", format!("There must be 12 words; these are {count}."))
                    .with("count", count)
            }
            WordsError::UnknownWord { position, suggestion } => {
                let word: String = suggestion.unwrap_or_default().nfc().collect();
                let guess = match suggestion {
                    Some(_) => format!(" Did you mean \u{201c}{word}\u{201d}?"),
                    None => String::new(),
                };
                Self::new("words_unknown", format!("Word {position} is not in the list.{guess}"))
                    .with("position", position)
                    .with("word", word)
            }
            WordsError::Checksum => Self::new(
                "words_checksum",
                "Each word is in the list, but together they do not fit: one is wrong, or two are swapped.",
            ),
        }
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Self::internal(&error.to_string())
    }
}

impl From<RoomError> for Error {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Blocked("identity_changed") => Self::new(
                "identity_changed",
                "A member's identity is not the one that this room was made with.",
            ),
            RoomError::Blocked(code) => Self::new(
                "blocked_room",
                format!("Nothing can be sent here: the room's log does not fit ({code})."),
            ),
            RoomError::NotMember => Self::new("not_member", "You are not a member of this room."),
            RoomError::PastUnreadable(unreadable) => unreadable.into(),
            RoomError::TooLong => Self::new("too_long", "The message is too long."),
            RoomError::Change(_) => Self::new("forbidden", "This cannot be done in this room."),
            RoomError::UnknownKeys(account) => {
                Self::new("not_found", format!("The keys of {account} are not known."))
            }
            other => Self::internal(&other.to_string()),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.code {
            Code::SessionExpired | Code::SessionRequired => "session_expired",
            Code::Draining | Code::StorageUnavailable | Code::LimitReached | Code::RateLimited => "busy",
            Code::TooLarge => "too_long",
            Code::Malformed
            | Code::UnknownCommand
            | Code::BadRecord
            | Code::WrongConnection
            | Code::NotAttached
            | Code::Unknown => "internal",
            Code::LogMismatch => "blocked_room",
            other => other.as_str(),
        };
        let message = match refusal.code {
            Code::InvitationNeeded => {
                "This server takes people by invitation: ask the person who runs it for an invitation link."
                    .to_owned()
            }
            Code::InvitationInvalid => {
                "This invitation was used, has expired, or is of another server: ask the person who runs \
                 this one for a new invitation link."
                    .to_owned()
            }
            Code::SignUpClosed => "This server takes nobody new: ask the person who runs it.".to_owned(),
            _ => refusal.message,
        };
        let error = Self::new(code, message);
        match refusal.retry_after {
            Some(seconds) => error.with(RETRY_AFTER, seconds),
            None => error,
        }
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::internal("a task ended")
    }
}

impl From<serde_json::Error> for Error {
    fn from(_: serde_json::Error) -> Self {
        Self::internal("a stored value is malformed")
    }
}
