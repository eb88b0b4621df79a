//! The vault itself.

use std::path::Path;

use mildam_records::{AccountId, ClientMessageId, Hash, RoomId};

use crate::changes::Changes;
use crate::error::VaultError;
use crate::row::{Hit, HistoryRow, OutboxRow, ReceiptRow, RoomRow, Secret, Slot};
use crate::unlock::{Unlock, UnlockKind};

/// An opened vault.
#[derive(Debug)]
pub struct Vault(());

#[allow(missing_docs, clippy::missing_errors_doc, unused_variables)]
impl Vault {
    pub fn open(dir: &Path, unlock: Unlock) -> Result<Self, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn in_memory() -> Result<Self, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn exists(dir: &Path) -> bool {
        false
    }
    pub fn unlock_kind(dir: &Path) -> Option<UnlockKind> {
        None
    }
    pub fn commit(&self, changes: Changes) -> Result<(), VaultError> {
        Err(VaultError::Halted)
    }
    pub fn get(&self, slot: Slot) -> Result<Option<Secret>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn account(&self, account: &AccountId) -> Result<Option<Secret>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn accounts(&self) -> Result<Vec<(AccountId, Secret)>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn rooms(&self) -> Result<Vec<(RoomId, RoomRow)>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn room_metas(&self) -> Result<Vec<(RoomId, Vec<u8>)>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn log_hash(&self, room: &RoomId, seq: u64) -> Result<Option<Hash>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn history(
        &self,
        room: &RoomId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn message_by_id(
        &self,
        room: &RoomId,
        id: &ClientMessageId,
    ) -> Result<Option<HistoryRow>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn last_message(&self, room: &RoomId) -> Result<Option<HistoryRow>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn unread(
        &self,
        room: &RoomId,
        after_seq: u64,
        own: &AccountId,
    ) -> Result<u64, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn outbox(&self) -> Result<Vec<OutboxRow>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn outbox_of(&self, room: &RoomId) -> Result<Vec<OutboxRow>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn receipts(&self, room: &RoomId) -> Result<Vec<ReceiptRow>, VaultError> {
        Err(VaultError::Halted)
    }
    pub fn search(&self, query: &str, limit: usize) -> Result<Vec<Hit>, VaultError> {
        Err(VaultError::Halted)
    }
}
