//! The session: what encrypts everything after the set-up.
//!
//! Each direction has its own AES-256-GCM key and its own count of frames. A frame's position and
//! direction are in the AAD, so a frame that is replayed, reordered, reflected, left out or altered
//! does not open, and the connection ends there.
//!
//! ```text
//! request  = IV (16) || ciphertext of {"command", "id", "session"?, "data"} || tag (16)
//!            AAD = T("mildam/request/v1", position)
//! answer   = {"status": "success", "id"?, "data": base64url(IV (16) || ciphertext || tag (16))}
//!            {"status": "invalid" | "fail", "id"?, "code", "message", "retry_after"?, "proof": base64url(IV || tag)}
//!            AAD = T("mildam/answer/v1", position, status, id?, code?, message?, retry_after?)
//! ```
//!
//! What stands in clear in an answer is authenticated with it. An answer without an id is a push.

mod cipher;
pub mod client;
mod envelope;
pub mod server;

pub use client::{ClientSession, Incoming};
pub use server::{IncomingRequest, ServerSession};

use mildam_records::json::Unambiguous;
use serde::de::DeserializeOwned;

use crate::code::Code;

/// Frames that one key may carry in one direction; then a new connection is due.
pub const FRAME_LIMIT: u64 = 1 << 32;

/// A request that was not done: what an answer tells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people; without data of users.
    pub message: String,
    /// In so many seconds it is worth trying again.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal with its words.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// A refusal that will not last.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

/// Why a session ends. Each is fatal: the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The frame does not open at this place: altered, replayed, reordered, or from another
    /// session.
    #[error("a frame does not open at this place of the session")]
    NotAuthentic,
    /// The frame opened, but is not of the form that it must have.
    #[error("a frame is malformed")]
    Malformed,
    /// The key has carried as many frames as it may.
    #[error("the session key is used up")]
    UsedUp,
    /// Something this side wanted to send cannot be written.
    #[error("a frame could not be written")]
    Local,
}

/// Reads the JSON of a frame, in which no key may come twice.
fn read_json<T: DeserializeOwned>(plain: &[u8]) -> Result<T, SessionError> {
    serde_json::from_slice::<Unambiguous>(plain)
        .and_then(|_| serde_json::from_slice(plain))
        .map_err(|_| SessionError::Malformed)
}

#[cfg(test)]
mod tests;
