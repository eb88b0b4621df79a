//! Turning changes into one batch of sealed rows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mildam_records::{AccountId, Canonical, ClientMessageId, Hash, RoomId};
use zeroize::Zeroizing;

use crate::changes::Change;
use crate::directory::{Bucket, Condition, Directory, Period};
use crate::error::VaultError;
use crate::head::HeadRow;
use crate::postings::{BLOCK_LENGTH, Entry, Fingerprints};
use crate::row::{HistoryRow, OutboxRow, ReceiptRow, RoomRow, Secret, Slot};
use crate::rows::{Batch, Direction, KeyRange};
use crate::seal::{SealingKey, random_key};
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
            Change::MessageRemoved(room, id) => self.message_removed(&room, &id),
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
        let (key, line) = (RowKey::placed(Table::History, number, row.seq), row.encode());
        if let Some(bucket) = self.rows.bucket_of(&key)?
            && self.rows.get(&key, self.directory)?.is_some_and(|old| *old != *line)
        {
            self.lost_row(bucket)?;
        }
        let bucket = self.bucket_number(number, Period::of(row.sent_at))?;
        self.put_in(bucket, &key, &line)?;
        self.put(
            &RowKey::numbered(Table::MessageId, number).with(&self.rows.index.message(&row.id)),
            &row.seq.to_be_bytes(),
        )?;
        match &row.text {
            Some(text) => self.post(bucket, row, &Fingerprints::of_text(text)),
            None => Ok(()),
        }
    }

    fn message_removed(&mut self, room: &RoomId, id: &ClientMessageId) -> Result<(), VaultError> {
        let Some(number) = self.directory.number(room) else {
            return Ok(());
        };
        let id_key = RowKey::numbered(Table::MessageId, number).with(&self.rows.index.message(id));
        let Some(place) = self.rows.get(&id_key, self.directory)? else {
            return Ok(());
        };
        let seq = u64::from_be_bytes(place.as_slice().try_into().map_err(|_| damaged(Table::MessageId))?);
        let key = RowKey::placed(Table::History, number, seq);
        // What these changes put there has replaced the line already.
        if !self.batch.contains_key(key.as_bytes())
            && let Some(bucket) = self.rows.bucket_of(&key)?
            && self.line(&key)?.is_some_and(|line| line.id == *id)
        {
            self.lost_row(bucket)?;
            self.rows.remove(&mut self.batch, &key)?;
        }
        self.rows.remove(&mut self.batch, &id_key)
    }

    fn line(&self, key: &RowKey) -> Result<Option<HistoryRow>, VaultError> {
        self.rows
            .get(key, self.directory)?
            .map(|row| HistoryRow::decode(&row).ok_or(damaged(Table::History)))
            .transpose()
    }

    /// A row that a bucket's key opens is no longer to be read.
    fn lost_row(&mut self, number: BucketNumber) -> Result<(), VaultError> {
        match self.directory.bucket(number) {
            Some(bucket) if bucket.condition == Condition::Whole => {
                let bucket = bucket.with(Condition::LostRows);
                self.put_bucket(number, bucket)
            }
            _ => Ok(()),
        }
    }

    /// From now on another bucket, with another key, stands for the room and period of this one.
    pub(crate) fn retire(&mut self, number: BucketNumber) -> Result<(), VaultError> {
        let Some(bucket) = self.directory.bucket(number) else {
            return Ok(());
        };
        let (room, period, retired) = (bucket.room, bucket.period, bucket.with(Condition::Retired));
        self.put_bucket(number, retired)?;
        self.bucket_number(room, period)?;
        Ok(())
    }

    /// Moves a line of a retired bucket into the one that stands for it.
    pub(crate) fn move_line(&mut self, from: BucketNumber, seq: u64) -> Result<(), VaultError> {
        let Some((room, period)) = self.directory.bucket(from).map(|bucket| (bucket.room, bucket.period))
        else {
            return Ok(());
        };
        let key = RowKey::placed(Table::History, room, seq);
        // It may have been replaced or removed since it was found.
        if self.rows.bucket_of(&key)? != Some(from) {
            return Ok(());
        }
        let Some(line) = self.line(&key)? else {
            return Ok(());
        };
        let to = self.bucket_number(room, period)?;
        self.put_in(to, &key, &line.encode())?;
        self.post_again(to, &line)
    }

    /// Removes an emptied bucket: its postings and its key.
    pub(crate) fn remove_bucket(&mut self, number: BucketNumber) -> Result<(), VaultError> {
        let blocks = KeyRange::prefix(RowKey::numbered(Table::Postings, number).as_bytes());
        let mut found = Vec::new();
        self.rows.scan_sealed(&blocks, Direction::Up, &mut |key, _| {
            found.push(RowKey::found(Table::Postings, key));
            Ok(ControlFlow::Continue(()))
        })?;
        for key in found.iter().chain([&RowKey::numbered(Table::Bucket, number)]) {
            self.rows.remove(&mut self.batch, key)?;
        }
        self.directory.remove_bucket(number);
        Ok(())
    }

    /// Removes some blocks of postings, wherever they lie: whether there were any.
    pub(crate) fn remove_postings(&mut self, limit: usize) -> Result<bool, VaultError> {
        let blocks = KeyRange::prefix(RowKey::new(Table::Postings).as_bytes());
        let mut found = Vec::new();
        self.rows.scan_sealed(&blocks, Direction::Up, &mut |key, _| {
            found.push(RowKey::found(Table::Postings, key));
            Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        for key in &found {
            self.rows.remove(&mut self.batch, key)?;
        }
        Ok(!found.is_empty())
    }

    /// Posts a line that is there already, in the bucket that seals it.
    pub(crate) fn post_again(&mut self, bucket: BucketNumber, line: &HistoryRow) -> Result<(), VaultError> {
        match &line.text {
            Some(text) => self.post(bucket, line, &Fingerprints::of_text(text)),
            None => Ok(()),
        }
    }

    /// Writes all buckets' rows as this version writes them.
    pub(crate) fn rewrite_buckets(&mut self) -> Result<(), VaultError> {
        let rows: Vec<_> =
            self.directory.buckets().map(|(number, bucket)| (number, bucket.encode())).collect();
        rows.into_iter()
            .try_for_each(|(number, row)| self.put(&RowKey::numbered(Table::Bucket, number), &row))
    }

    /// Seals everything that the state key seals under another one.
    pub(crate) fn reseal(&mut self, state: &SealingKey) -> Result<(), VaultError> {
        for table in [Table::Slot, Table::RoomMeta, Table::RoomState, Table::Bucket, Table::Outbox] {
            let range = KeyRange::prefix(RowKey::new(table).as_bytes());
            let (rows, batch) = (self.rows, &mut self.batch);
            rows.scan(table, &range, Direction::Up, self.directory, &mut |key, row| {
                rows.put_under(state, batch, &RowKey::found(table, key), 0, &row)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(())
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
        self.put_bucket(number, Bucket::new(room, period, Condition::Whole, random_key()?))?;
        Ok(number)
    }

    pub(crate) fn put_bucket(&mut self, number: BucketNumber, bucket: Bucket) -> Result<(), VaultError> {
        self.put(&RowKey::numbered(Table::Bucket, number), &bucket.encode())?;
        self.directory.put_bucket(number, bucket);
        Ok(())
    }

    fn put(&mut self, key: &RowKey, plain: &[u8]) -> Result<(), VaultError> {
        self.put_in(0, key, plain)
    }

    fn put_in(&mut self, bucket: BucketNumber, key: &RowKey, plain: &[u8]) -> Result<(), VaultError> {
        self.rows.put(&mut self.batch, key, bucket, self.directory, plain)
    }
}

const fn damaged(table: Table) -> VaultError {
    VaultError::Damaged { what: table.name() }
}
