//! The public records of Mildam: what clients sign, the relay stores, and everybody hashes.
//!
//! Every record travels as JSON and is signed over its *canonical bytes* ([`canonical`]), so that
//! no freedom of JSON (order, spaces, escapes) can change what a signature means. This crate knows
//! shapes, canonical bytes, hashes and the checks that need public keys only. It names no private
//! key and no plaintext: the relay is built on it.

pub mod account;
pub mod bytes;
pub mod canonical;
pub mod id;
pub mod json;
pub mod keys;
pub mod log;
pub mod membership;
pub mod message;
pub mod room;
pub mod stack;
pub mod text;

pub use account::{
    AccountKeys, Certificate, DeviceList, ListSigner, SignedPreKey, attach_bytes, login_bytes, recover_bytes,
};
pub use canonical::Canonical;
pub use id::{AccountId, ClientMessageId, DeviceId, Hash, RoomId};
pub use keys::{DevicePublicKey, IdentityPublicKey, PreKeyPublic, RecordError, WrapPublicKey};
pub use log::{LogEntry, LogHash, LogItem, LogPosition};
pub use membership::{ChangeError, Membership};
pub use message::{Message, MessageHeader, Receipt, ReceiptKind};
pub use room::{
    Change, EpochAnnouncement, Member, Recipient, Replaced, Role, RoomChange, RoomKind, SealedProfile,
    Snapshot, Suite, Wrap,
};
