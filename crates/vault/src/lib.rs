//! The encrypted store of one device: everything a user interface shows comes from here, so it
//! works with no network.

mod changes;
mod error;
mod fields;
mod row;
mod unlock;
mod vault;

pub use changes::Changes;
pub use error::VaultError;
pub use row::{HistoryRow, Hit, OutboxRow, ReceiptRow, RoomRow, Secret, Slot};
pub use unlock::{Unlock, UnlockKind};
pub use vault::Vault;
