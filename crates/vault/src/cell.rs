//! How a sealed row lies in the store, and how a long one is cut.
//!
//! ```text
//! row    = format (1 byte, 1) || pieces (u16) || bucket (u32) || sealed bytes, at most 4096
//! piece  = format (1 byte, 1) || the next sealed bytes, at most 4096
//! ```
//!
//! `sealed bytes` is what [`crate::seal`] makes. `pieces` and `bucket` are not secret and need no
//! protection of their own: with either changed, the tag does not fit.

use crate::error::VaultError;
use crate::rows::{Batch, Rows};
use crate::table::{BucketNumber, RowKey};

const FORMAT: u8 = 1;
const PIECE_LENGTH: usize = 4096;

/// A row as it was found.
pub(crate) struct Cell {
    /// Whose key seals it; 0 for the vault and state keys.
    pub(crate) bucket: BucketNumber,
    /// Generation, nonce, ciphertext and tag.
    pub(crate) sealed: Vec<u8>,
}

impl Cell {
    /// Puts together the row whose first part is `value`.
    pub(crate) fn read(rows: &dyn Rows, key: &RowKey, value: &[u8]) -> Result<Self, VaultError> {
        let damaged = || VaultError::Damaged { what: key.table().name() };
        let (header, first) = Header::split(value, key)?;
        let mut sealed = first.to_vec();
        for piece in 1..=header.pieces {
            let value = rows.get(&key.piece(piece))?.ok_or_else(damaged)?;
            let (format, more) = value.split_first().ok_or_else(damaged)?;
            known_format(*format)?;
            sealed.extend_from_slice(more);
        }
        Ok(Self { bucket: header.bucket, sealed })
    }

    /// Whose key seals the row whose first part is `value`.
    pub(crate) fn bucket_of(key: &RowKey, value: &[u8]) -> Result<BucketNumber, VaultError> {
        Ok(Header::split(value, key)?.0.bucket)
    }

    /// Writes the row into a batch, over what stands there.
    pub(crate) fn write(self, rows: &dyn Rows, batch: &mut Batch, key: &RowKey) -> Result<(), VaultError> {
        let mut parts = self.sealed.chunks(PIECE_LENGTH);
        let first = parts.next().unwrap_or_default();
        let pieces =
            u16::try_from(parts.len()).map_err(|_| VaultError::RowTooLong { length: self.sealed.len() })?;
        remove_pieces(rows, batch, key)?;
        for (part, piece) in parts.zip(1..=pieces) {
            let mut value = vec![FORMAT];
            value.extend_from_slice(part);
            batch.insert(key.piece(piece), Some(value));
        }
        let mut value = vec![FORMAT];
        value.extend_from_slice(&pieces.to_be_bytes());
        value.extend_from_slice(&self.bucket.to_be_bytes());
        value.extend_from_slice(first);
        batch.insert(key.as_bytes().to_vec(), Some(value));
        Ok(())
    }

    /// Removes a row with all its pieces.
    pub(crate) fn remove(rows: &dyn Rows, batch: &mut Batch, key: &RowKey) -> Result<(), VaultError> {
        remove_pieces(rows, batch, key)?;
        batch.insert(key.as_bytes().to_vec(), None);
        Ok(())
    }
}

struct Header {
    pieces: u16,
    bucket: BucketNumber,
}

impl Header {
    fn split<'a>(value: &'a [u8], key: &RowKey) -> Result<(Self, &'a [u8]), VaultError> {
        let damaged = || VaultError::Damaged { what: key.table().name() };
        let (format, rest) = value.split_first().ok_or_else(damaged)?;
        known_format(*format)?;
        let (pieces, rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
        let (bucket, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        Ok((Self { pieces: u16::from_be_bytes(*pieces), bucket: BucketNumber::from_be_bytes(*bucket) }, rest))
    }
}

fn known_format(format: u8) -> Result<(), VaultError> {
    match format {
        FORMAT => Ok(()),
        0 => Err(VaultError::Damaged { what: "row format" }),
        newer => Err(VaultError::Newer { found: u64::from(newer) }),
    }
}

/// Marks the pieces of what stands under a key, here or in the batch, as removed.
fn remove_pieces(rows: &dyn Rows, batch: &mut Batch, key: &RowKey) -> Result<(), VaultError> {
    let old = match batch.get(key.as_bytes()) {
        Some(written) => written.clone(),
        None => rows.get(key.as_bytes())?,
    };
    if let Some(value) = old {
        let (header, _) = Header::split(&value, key)?;
        batch.extend((1..=header.pieces).map(|piece| (key.piece(piece), None)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::MemoryRows;
    use crate::table::Table;

    fn put(rows: &MemoryRows, key: &RowKey, sealed: Vec<u8>) {
        let mut batch = Batch::new();
        Cell { bucket: 3, sealed }.write(rows, &mut batch, key).unwrap();
        rows.apply(batch).unwrap();
    }

    #[test]
    fn long_rows_are_cut_and_leave_nothing_behind() {
        let rows = MemoryRows::default();
        let key = RowKey::slot(1);
        for length in [0, 1, 4096, 4097, 20_000, 100] {
            let sealed: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            put(&rows, &key, sealed.clone());
            let value = rows.get(key.as_bytes()).unwrap().unwrap();
            assert!(value.len() <= 7 + PIECE_LENGTH);
            let cell = Cell::read(&rows, &key, &value).unwrap();
            assert_eq!((cell.bucket, cell.sealed), (3, sealed));
        }
        assert!(rows.get(&key.piece(1)).unwrap().is_none());
        put(&rows, &key, vec![7; 9000]);
        assert!(rows.get(&key.piece(2)).unwrap().is_some());
        let mut batch = Batch::new();
        Cell::remove(&rows, &mut batch, &key).unwrap();
        rows.apply(batch).unwrap();
        for left in [key.as_bytes().to_vec(), key.piece(1), key.piece(2)] {
            assert!(rows.get(&left).unwrap().is_none());
        }
    }

    #[test]
    fn a_row_of_a_newer_format_is_told_from_damage() {
        let rows = MemoryRows::default();
        let key = RowKey::new(Table::Head);
        let read = |value: &[u8]| Cell::read(&rows, &key, value).err().unwrap();
        assert_eq!(read(&[2, 0, 0, 0, 0, 0, 0]).code(), "vault_newer");
        assert_eq!(read(&[1, 0, 0]).code(), "vault_damaged");
        assert_eq!(read(&[1, 0, 1, 0, 0, 0, 0]).code(), "vault_damaged");
        assert_eq!(read(&[]).code(), "vault_damaged");
    }
}
