//! Turning changes into one batch of sealed rows.

use std::collections::BTreeMap;

use mildam_records::{AccountId, Canonical, ClientMessageId, Hash, RoomId};
use zeroize::Zeroizing;

use crate::changes::Change;
use crate::directory::{Bucket, Directory, Period};
use crate::error::VaultError;
use crate::head::HeadRow;
use crate::postings::{BLOCK_LENGTH, Entry, Fingerprints};
use crate::row::{HistoryRow, OutboxRow, ReceiptRow, RoomRow, Secret, Slot};
use crate::rows::Batch;
use crate::seal::random_key;
use crate::sealed_rows::SealedRows;
use crate::table::{BucketNumber, RoomNumber, RowKey, Table};

/// There are more rooms or buckets than numbers: 2^32 of them cannot be honest.
const NO_NUMBERS_LEFT: VaultError = VaultError::Damaged { what: "numbers" };

/// A batch in the making. The directory runs ahead of the store; if the commit fails, the vault
/// halts, so nobody builds on it.
pub(crate) struct Draft<'a> {
    rows: &'a SealedRows,
    directory: &'a mut Directory,
    batch: Batch,
    /// The last block of postings of each bucket that the batch touches: number and content.
    blocks: BTreeMap<BucketNumber, (u32, Secret)>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(rows: &'a SealedRows, directory: &'a mut Directory) -> Self {
        Self { rows, directory, batch: Batch::new(), blocks: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, change: Change) -> Result<(), VaultError> {
        match change {
            Change::Slot(slot, bytes) => self.slot(slot, bytes),
            Change::Account(account, bytes) => self.account(&account, &bytes),
            Change::Room(room, row) => self.room(&room, &row),
            Change::LogHash(room, seq, hash) => self.log_hash(&room, seq, &hash),
            Change::Message(room, row) => self.message(&room, &row),
            Change::Outbox(row) => self.outbox(row),
            Change::OutboxRemoved(room, id) => self.outbox_removed(&room, &id),
            Change::Receipt(room, row) => self.receipt(&room, &row),
        }
    }

    /// Closes the batch with the head that it makes.
    pub(crate) fn finish(mut self, head: &mut HeadRow) -> Result<Batch, VaultError> {
        for (bucket, (block, content)) in std::mem::take(&mut self.blocks) {
            self.put_in(bucket, &RowKey::postings(bucket, block), &content)?;
        }
        head.commits = head.commits.saturating_add(1);
        head.sums = self.rows.sums_after(head.sums, &self.batch)?;
        self.put(&RowKey::new(Table::Head), &head.encode())?;
        Ok(self.batch)
    }

    fn slot(&mut self, slot: Slot, bytes: Option<Secret>) -> Result<(), VaultError> {
        let key = RowKey::slot(slot as u8);
        match bytes {
            Some(bytes) => self.put(&key, &bytes),
            None => self.rows.remove(&mut self.batch, &key),
        }
    }

    fn account(&mut self, account: &AccountId, bytes: &[u8]) -> Result<(), VaultError> {
        let key = RowKey::new(Table::Account).with(&self.rows.index.account(account));
        let row = Canonical::element().text(account.as_str()).bytes(bytes);
        self.put(&key, &Zeroizing::new(row.into_bytes()))
    }

    fn room(&mut self, room: &RoomId, row: &RoomRow) -> Result<(), VaultError> {
        let number = self.room_number(room)?;
        self.put(&RowKey::numbered(Table::RoomMeta, number), &row.meta)?;
        self.put(&RowKey::numbered(Table::RoomState, number), &row.state)
    }

    fn log_hash(&mut self, room: &RoomId, seq: u64, hash: &Hash) -> Result<(), VaultError> {
        let number = self.room_number(room)?;
        self.put(&RowKey::placed(Table::LogHash, number, seq), hash.as_bytes())
    }

    fn message(&mut self, room: &RoomId, row: &HistoryRow) -> Result<(), VaultError> {
        let number = self.room_number(room)?;
        let bucket = self.bucket_number(number, Period::of(row.sent_at))?;
        self.put_in(bucket, &RowKey::placed(Table::History, number, row.seq), &row.encode())?;
        self.put(
            &RowKey::numbered(Table::MessageId, number).with(&self.rows.index.message(&row.id)),
            &row.seq.to_be_bytes(),
        )?;
        match &row.text {
            Some(text) => self.post(bucket, row, &Fingerprints::of_text(text)),
            None => Ok(()),
        }
    }

    /// Adds a message to the last block of its bucket, or begins a new one.
    fn post(
        &mut self,
        bucket: BucketNumber,
        row: &HistoryRow,
        found: &Fingerprints,
    ) -> Result<(), VaultError> {
        let (mut block, mut content) = match self.blocks.remove(&bucket) {
            Some(open) => open,
            None => self.rows.last_block(bucket, self.directory)?.unwrap_or_default(),
        };
        if content.len() >= BLOCK_LENGTH {
            self.put_in(bucket, &RowKey::postings(bucket, block), &content)?;
            block = block.checked_add(1).ok_or(NO_NUMBERS_LEFT)?;
            content = Secret::default();
        }
        Entry::append(&mut content, row.seq, row.sent_at, found);
        self.blocks.insert(bucket, (block, content));
        Ok(())
    }

    fn outbox(&mut self, mut row: OutboxRow) -> Result<(), VaultError> {
        row.order = self.directory.order(row.room, row.id);
        self.put(&RowKey::outbox(row.order), &row.encode())
    }

    fn outbox_removed(&mut self, room: &RoomId, id: &ClientMessageId) -> Result<(), VaultError> {
        match self.directory.remove_order(room, id) {
            Some(order) => self.rows.remove(&mut self.batch, &RowKey::outbox(order)),
            None => Ok(()),
        }
    }

    fn receipt(&mut self, room: &RoomId, row: &ReceiptRow) -> Result<(), VaultError> {
        let number = self.room_number(room)?;
        let key = RowKey::numbered(Table::Receipt, number)
            .with(&self.rows.index.account(&row.account))
            .with(&[ReceiptRow::kind_code(row.kind)]);
        self.put(&key, &row.encode())
    }

    fn room_number(&mut self, room: &RoomId) -> Result<RoomNumber, VaultError> {
        if let Some(number) = self.directory.number(room) {
            return Ok(number);
        }
        let number = self.directory.next_room_number().ok_or(NO_NUMBERS_LEFT)?;
        self.put(&RowKey::numbered(Table::RoomName, number), room.as_bytes())?;
        self.directory.add_room(number, *room);
        Ok(number)
    }

    fn bucket_number(&mut self, room: RoomNumber, period: Period) -> Result<BucketNumber, VaultError> {
        if let Some(number) = self.directory.bucket_number(room, period) {
            return Ok(number);
        }
        let number = self.directory.next_bucket_number().ok_or(NO_NUMBERS_LEFT)?;
        let key = random_key()?;
        let (bucket, row) = Bucket::new(room, period, &key);
        self.put(&RowKey::numbered(Table::Bucket, number), &row)?;
        self.directory.add_bucket(number, bucket);
        Ok(number)
    }

    fn put(&mut self, key: &RowKey, plain: &[u8]) -> Result<(), VaultError> {
        self.put_in(0, key, plain)
    }

    fn put_in(&mut self, bucket: BucketNumber, key: &RowKey, plain: &[u8]) -> Result<(), VaultError> {
        self.rows.put(&mut self.batch, key, bucket, self.directory, plain)
    }
}
