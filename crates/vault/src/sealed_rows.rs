//! Rows with their keys: what goes in is plain, what lies in the store is not.

use std::ops::ControlFlow;

use crate::cell::Cell;
use crate::directory::Directory;
use crate::error::VaultError;
use crate::key_slot::VaultKeys;
use crate::row::Secret;
use crate::rows::{Batch, ClosedRows, Direction, KeyRange, Rows, Visit};
use crate::seal::SealingKey;
use crate::sum::Sums;
use crate::table::{BucketNumber, IndexKey, RowKey, Table};

/// Called with the key and the opened row of each row of a scan, until it breaks.
pub(crate) type VisitOpened<'a> = dyn FnMut(&[u8], Secret) -> Result<ControlFlow<()>, VaultError> + 'a;

pub(crate) struct SealedRows {
    rows: Box<dyn Rows>,
    vault: SealingKey,
    pub(crate) index: IndexKey,
}

impl SealedRows {
    pub(crate) fn new(rows: Box<dyn Rows>, keys: &VaultKeys) -> Self {
        Self { rows, vault: SealingKey::new(&keys.vault, 1), index: IndexKey::new(&keys.index) }
    }

    /// Lets the store go. From here on nothing can be read or written.
    pub(crate) fn close(&mut self) {
        self.rows = Box::new(ClosedRows);
    }

    /// One row.
    pub(crate) fn get(&self, key: &RowKey, directory: &Directory) -> Result<Option<Secret>, VaultError> {
        self.rows.get(key.as_bytes())?.map(|value| self.open(key, &value, directory)).transpose()
    }

    /// Whether there is a row.
    pub(crate) fn has(&self, key: &RowKey) -> Result<bool, VaultError> {
        Ok(self.rows.get(key.as_bytes())?.is_some())
    }

    /// Visits the rows of a range of a table, opened, until the visitor breaks.
    pub(crate) fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        directory: &Directory,
        visit: &mut VisitOpened<'_>,
    ) -> Result<(), VaultError> {
        self.rows.scan(range, direction, &mut |key, value| {
            let row = self.open(&RowKey::found(table, key), value, directory)?;
            visit(key, row)
        })
    }

    /// Reads all rows whose keys begin alike.
    pub(crate) fn collect<T>(
        &self,
        prefix: &RowKey,
        directory: &Directory,
        decode: impl Fn(&[u8], &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, VaultError> {
        let mut found = Vec::new();
        self.scan(
            prefix.table(),
            &KeyRange::prefix(prefix.as_bytes()),
            Direction::Up,
            directory,
            &mut |key, row| {
                found.push(decode(key, &row).ok_or(VaultError::Damaged { what: prefix.table().name() })?);
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(found)
    }

    /// The last row of a range of a table, opened, with its key.
    pub(crate) fn last(
        &self,
        table: Table,
        range: &KeyRange,
        directory: &Directory,
    ) -> Result<Option<(Vec<u8>, Secret)>, VaultError> {
        let mut last = None;
        self.scan(table, range, Direction::Down, directory, &mut |key, row| {
            last = Some((key.to_vec(), row));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(last)
    }

    /// Number and content of a bucket's last block of postings.
    pub(crate) fn last_block(
        &self,
        bucket: BucketNumber,
        directory: &Directory,
    ) -> Result<Option<(u32, Secret)>, VaultError> {
        let blocks = RowKey::numbered(Table::Postings, bucket);
        let last = self.last(Table::Postings, &KeyRange::prefix(blocks.as_bytes()), directory)?;
        Ok(last.and_then(|(key, block)| RowKey::last_number(&key).map(|number| (number, block))))
    }

    /// Visits the rows of a range as they lie in the store.
    pub(crate) fn scan_sealed(
        &self,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), VaultError> {
        self.rows.scan(range, direction, visit)
    }

    /// Whose key seals a row, if there is the row.
    pub(crate) fn bucket_of(&self, key: &RowKey) -> Result<Option<BucketNumber>, VaultError> {
        self.rows.get(key.as_bytes())?.map(|value| self.sealed_by(key, &value)).transpose()
    }

    /// Whose key seals a row that was found.
    pub(crate) fn sealed_by(&self, key: &RowKey, value: &[u8]) -> Result<BucketNumber, VaultError> {
        Cell::bucket_of(key, value)
    }

    /// Seals a row into a batch.
    pub(crate) fn put(
        &self,
        batch: &mut Batch,
        key: &RowKey,
        bucket: BucketNumber,
        directory: &Directory,
        plain: &[u8],
    ) -> Result<(), VaultError> {
        self.put_under(self.key(key.table(), bucket, directory)?, batch, key, bucket, plain)
    }

    /// Seals a row into a batch, under a key that is not yet in the directory.
    pub(crate) fn put_under(
        &self,
        seal: &SealingKey,
        batch: &mut Batch,
        key: &RowKey,
        bucket: BucketNumber,
        plain: &[u8],
    ) -> Result<(), VaultError> {
        Cell { bucket, sealed: seal.seal(key, plain)? }.write(&*self.rows, batch, key)
    }

    /// Removes a row, in a batch.
    pub(crate) fn remove(&self, batch: &mut Batch, key: &RowKey) -> Result<(), VaultError> {
        Cell::remove(&*self.rows, batch, key)
    }

    /// What the sums will be when a batch has been written.
    pub(crate) fn sums_after(&self, mut sums: Sums, batch: &Batch) -> Result<Sums, VaultError> {
        for (key, new) in batch {
            if let Some(old) = self.rows.get(key)? {
                sums.toggle(&self.index, key, &old);
            }
            if let Some(new) = new {
                sums.toggle(&self.index, key, new);
            }
        }
        Ok(sums)
    }

    /// The sums of all rows in these ranges, as they lie in the store.
    pub(crate) fn sums_of(&self, ranges: impl IntoIterator<Item = KeyRange>) -> Result<Sums, VaultError> {
        let mut sums = Sums::EMPTY;
        for range in ranges {
            self.scan_sealed(&range, Direction::Up, &mut |key, value| {
                sums.toggle(&self.index, key, value);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(sums)
    }

    /// Writes a batch as a whole; not yet durable.
    pub(crate) fn apply(&self, batch: Batch) -> Result<(), VaultError> {
        self.rows.apply(batch)
    }

    /// Makes everything applied durable.
    pub(crate) fn sync(&self) -> Result<(), VaultError> {
        self.rows.sync()
    }

    /// Opens a row that was found under a key.
    pub(crate) fn open(
        &self,
        key: &RowKey,
        value: &[u8],
        directory: &Directory,
    ) -> Result<Secret, VaultError> {
        let cell = Cell::read(&*self.rows, key, value)?;
        self.key(key.table(), cell.bucket, directory)?
            .open(key, &cell.sealed)
            .ok_or(VaultError::Damaged { what: key.table().name() })
    }

    /// Which key seals the rows of a table.
    fn key<'a>(
        &'a self,
        table: Table,
        bucket: BucketNumber,
        directory: &'a Directory,
    ) -> Result<&'a SealingKey, VaultError> {
        match table {
            Table::History | Table::Postings => directory
                .bucket(bucket)
                .map(|bucket| &bucket.key)
                .ok_or(VaultError::Damaged { what: table.name() }),
            Table::Slot | Table::RoomMeta | Table::RoomState | Table::Bucket | Table::Outbox => {
                Ok(directory.state())
            }
            Table::Head
            | Table::Account
            | Table::RoomName
            | Table::LogHash
            | Table::MessageId
            | Table::Receipt
            | Table::Piece => Ok(&self.vault),
        }
    }
}
