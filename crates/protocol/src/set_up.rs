//! The set-up: how two strangers on a wire come to a session key.
//!
//! ```text
//! server -> client   header {connecting}, publicKey, protocol, nonce
//! client -> server   publicKey, nonce                         (only if it trusts that server)
//! server -> client   header {connecting}, sessionKey, signature
//! client -> server   status "session_key_received", confirm   (or status "fail")
//! server -> client   header {success}, confirm
//! ```
//!
//! `sessionKey` is 32 random bytes under RSA-OAEP for the client's key, which lives as long as the
//! client's process. The server's signature covers both keys, both nonces and the channel below;
//! both sides then prove with an HMAC that they hold the session key and saw the same transcript.
//! Neither side acts on anything before.

mod keys;
mod schedule;
mod wire;

pub mod client;
pub mod server;

use std::time::Duration;

use mildam_records::id::Hash;

pub use keys::{ClientKey, ServerKey};
pub(crate) use schedule::Keys;
pub use wire::{PROTOCOL_VERSION, timed_out, turned_away};

/// A set-up that takes longer fails (REQ T3). The caller keeps the clock.
pub const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The TLS channel below, by RFC 9266 (`tls-exporter`, 32 bytes). Absent on plain TCP, and at a
/// server behind a proxy that ends TLS.
pub type ChannelBinding = Option<[u8; 32]>;

/// What a set-up ends with.
#[derive(Debug)]
pub struct Established<S> {
    /// The session cipher.
    pub session: S,
    /// Hash of everything that was said, 32 bytes: what a login proof is bound to.
    pub transcript: Hash,
    /// Whether the session is bound to the TLS channel below: both ends of TLS are then its own.
    pub bound: bool,
}

/// Why a set-up failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetUpError {
    /// The server's key is not the one that the link names: another machine may be in between.
    #[error("the server's key has another fingerprint: {found}")]
    WrongFingerprint {
        /// What the server's key hashes to.
        found: Hash,
    },
    /// The peer speaks another version of the protocol.
    #[error("the peer speaks protocol {theirs}, this program {PROTOCOL_VERSION}")]
    Incompatible {
        /// The peer's version.
        theirs: u64,
    },
    /// The peer sent something that does not belong here.
    #[error("malformed set-up message: {0}")]
    Malformed(&'static str),
    /// A key of the wrong size or kind.
    #[error("unacceptable public key")]
    BadKey,
    /// The server's signature does not cover what this client saw.
    #[error("the server's signature does not verify")]
    BadSignature,
    /// The session key could not be decrypted.
    #[error("the session key does not decrypt")]
    BadSessionKey,
    /// The peer's confirmation does not fit: it saw another transcript or has no session key.
    #[error("the peer's confirmation does not verify")]
    BadConfirmation,
    /// The peer gave up; the text is its own.
    #[error("the peer ended the set-up: {message}")]
    Refused {
        /// Why, for people.
        message: String,
        /// In so many seconds it is worth trying again.
        retry_after: Option<u32>,
    },
    /// This side's random source or key failed.
    #[error("local failure: {0}")]
    Local(&'static str),
}

impl SetUpError {
    /// What a server says before it closes: a header with `fail` and a reason for people.
    #[must_use]
    pub fn refusal(&self) -> Vec<u8> {
        wire::failed(
            match self {
                Self::Incompatible { .. } => "this relay speaks another version of the protocol",
                Self::BadKey => "the public key is not RSA-3072 with exponent 65537",
                Self::BadConfirmation => "the confirmation does not verify",
                Self::Refused { .. } => "the client ended the set-up",
                Self::Local(_) => "the relay cannot set up a connection at the moment",
                _ => "the set-up message is malformed",
            },
            None,
        )
    }

    pub(crate) fn refused(message: &str) -> Self {
        Self::Refused { message: message.to_owned(), retry_after: None }
    }

    /// What a client says before it closes.
    #[must_use]
    pub fn client_refusal() -> Vec<u8> {
        wire::client_failed()
    }
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod vectors;
