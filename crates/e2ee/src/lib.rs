//! The end-to-end encryption of Mildam.
//!
//! Keys, device lists, rooms, epochs and messages, sans-I/O: time and randomness come in as
//! arguments, bytes and records go out. `docs/e2ee.md` is the normative text; what is public and
//! signed stands in `mildam-records`, what is secret only here.
//!
//! - [`identity`] and [`device`]: the keys of an account and of a device;
//! - [`directory`]: what is known, and pinned, of others;
//! - [`room`]: the state machine that makes, checks and reads a room's log;
//! - [`content`]: what messages say;
//! - [`safety_number`]: what two people compare.

#[cfg(all(feature = "testing", not(debug_assertions)))]
compile_error!("the feature `testing` makes keys that are no secret: never in a release");

mod chain;
pub mod content;
pub mod device;
pub mod directory;
pub mod identity;
mod padding;
pub mod recovery;
pub mod room;
pub mod safety_number;
mod seal;
mod secret;
#[cfg(test)]
mod testing;
mod wrap;

pub use content::{Body, Content, RoomProfile};
pub use device::{DeviceKey, DeviceSecrets, PreKey, WrapKey, first_device_list};
pub use directory::{Directory, DirectoryError, KnownAccount};
pub use identity::{IdentityKey, SealedIdentity};
pub use mildam_records as records;
pub use recovery::{RecoveryWords, WordsError};
pub use room::{
    Accepted, NewChange, NewEpoch, NewRoom, NotAccepted, PastHashes, PastUnreadable, Reader, Refusal, Room,
    RoomError,
};
pub use safety_number::SafetyNumber;

/// Why a key could not be made, used or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No key could be generated.
    #[error("no key could be generated")]
    Generation,
    /// Stored bytes are not of the form that they must have.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A sealed key does not open: other words, another account, or altered bytes.
    #[error("the sealed key does not open")]
    DoesNotOpen,
    /// A primitive refused its input; with keys that were checked on import this does not occur.
    #[error("{0} failed")]
    Primitive(&'static str),
}
