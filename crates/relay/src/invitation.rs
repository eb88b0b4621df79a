//! Invitations: who may come in, once each.
//!
//! The token is known to who makes the invitation and to who gets it; the relay keeps its hash.

use std::path::{Path, PathBuf};

use mildam_protocol::link::{Invitation, InvitationToken};
use mildam_protocol::records::id::Hash;
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::data_dir;
use crate::relay::{RelayError, last_link};
use crate::store::{Committed, InvitationRow, Rejection, SqliteStore, Store, StoreError, Work, commit};

/// For so many days an invitation is good unless it is made for more or less.
pub const INVITATION_DAYS: u32 = 14;

/// A day, in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// Why nobody can be invited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// No relay has been started with this data directory.
    #[error("there is no relay in {0} yet: start it once")]
    NoRelay(PathBuf),
    /// The operating system gives no random numbers.
    #[error("there are no random numbers: {0}")]
    Random(getrandom::Error),
    /// The database.
    #[error("the database cannot be used: {0}")]
    Store(#[from] StoreError),
    /// The data directory.
    #[error(transparent)]
    Relay(#[from] RelayError),
}

impl From<Rejection> for InviteError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Store(error) => Self::Store(error),
            // Nothing here refuses.
            Rejection::Refused(_) => Self::Store(StoreError::Unavailable),
        }
    }
}

/// SHA-256 of a token: what the relay keeps of it.
pub(crate) fn tag(token: &InvitationToken) -> Hash {
    Hash::from_bytes(Sha256::digest(token.as_bytes()).into())
}

fn make(now: u64, days: u32) -> Result<(InvitationToken, InvitationRow), InviteError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(InviteError::Random)?;
    let expires_at = now.saturating_add(u64::from(days).saturating_mul(DAY));
    Ok((InvitationToken::from_bytes(bytes), InvitationRow { created_at: now, expires_at, used_by: None }))
}

/// An invitation for the first one, as long as there is no account: who starts a relay comes in by it. Those
/// of earlier starts are as good until they expire.
pub(crate) async fn first(store: &dyn Store, now: u64) -> Result<Option<InvitationToken>, InviteError> {
    let (token, row) = make(now, INVITATION_DAYS)?;
    let tag = tag(&token);
    let work: Work = Box::new(move |tx| {
        Box::pin(async move {
            let empty = !tx.has_accounts().await?;
            if empty {
                tx.insert_invitation(&tag, &row).await?;
            }
            Ok(Committed { answer: empty.to_string(), ..Committed::default() })
        })
    });
    let made = commit(store, work).await?.answer == "true";
    Ok(made.then_some(token))
}

/// Makes an invitation for one person, good for so many days from now. The relay of this data directory may
/// be running.
///
/// # Errors
/// [`InviteError::NoRelay`] before its first start, and what else keeps the directory from being used.
pub async fn invite(data: &Path, days: u32) -> Result<Invitation, InviteError> {
    let none = || InviteError::NoRelay(data.to_owned());
    let link = last_link(data)?.ok_or_else(none)?;
    let database = data.join(data_dir::DATABASE);
    if !database.exists() {
        return Err(none());
    }
    let (token, row) = make(Clock::system().now(), days)?;
    SqliteStore::invite(&database, &tag(&token), &row).await?;
    Ok(Invitation { link, account: None, token: Some(token) })
}
