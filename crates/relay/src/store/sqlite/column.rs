//! Columns to values and back. A column that does not read back is [`StoreError::Corrupt`], never
//! a panic and never a guess.

use mildam_protocol::records::id::{AccountId, DeviceId, Hash, RoomId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::super::StoreError;

/// A number as SQLite keeps it. Numbers here are counters, places and times: none comes near 2^63,
/// and one that a client claims to be larger is stored as the largest.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A record as JSON.
pub(super) fn json<T: Serialize>(value: &T, table: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Corrupt(table))
}

/// The name of a value of an enum without fields.
pub(super) fn name<T: Serialize>(value: &T, table: &'static str) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => Ok(name),
        _ => Err(StoreError::Corrupt(table)),
    }
}

/// Reads the columns of a row of `table`.
pub(super) struct Columns<'r> {
    row: &'r SqliteRow,
    table: &'static str,
}

impl<'r> Columns<'r> {
    pub(super) const fn new(row: &'r SqliteRow, table: &'static str) -> Self {
        Self { row, table }
    }

    const fn corrupt(&self) -> StoreError {
        StoreError::Corrupt(self.table)
    }

    pub(super) fn text(&self, column: &str) -> Result<&'r str, StoreError> {
        self.row.try_get(column).map_err(|_| self.corrupt())
    }

    pub(super) fn bytes(&self, column: &str) -> Result<&'r [u8], StoreError> {
        self.row.try_get(column).map_err(|_| self.corrupt())
    }

    pub(super) fn optional_bytes(&self, column: &str) -> Result<Option<&'r [u8]>, StoreError> {
        self.row.try_get(column).map_err(|_| self.corrupt())
    }

    pub(super) fn integer(&self, column: &str) -> Result<u64, StoreError> {
        self.optional_integer(column)?.ok_or(self.corrupt())
    }

    pub(super) fn optional_integer(&self, column: &str) -> Result<Option<u64>, StoreError> {
        let value: Option<i64> = self.row.try_get(column).map_err(|_| self.corrupt())?;
        value.map(|value| u64::try_from(value).map_err(|_| self.corrupt())).transpose()
    }

    pub(super) fn flag(&self, column: &str) -> Result<bool, StoreError> {
        self.integer(column).map(|value| value != 0)
    }

    pub(super) fn hash(&self, column: &str) -> Result<Hash, StoreError> {
        Hash::from_slice(self.bytes(column)?).ok_or(self.corrupt())
    }

    pub(super) fn optional_hash(&self, column: &str) -> Result<Option<Hash>, StoreError> {
        self.optional_bytes(column)?.map(|bytes| Hash::from_slice(bytes).ok_or(self.corrupt())).transpose()
    }

    pub(super) fn room(&self, column: &str) -> Result<RoomId, StoreError> {
        self.hash(column).map(RoomId::from)
    }

    pub(super) fn device(&self, column: &str) -> Result<DeviceId, StoreError> {
        DeviceId::from_slice(self.bytes(column)?).ok_or(self.corrupt())
    }

    pub(super) fn account(&self, column: &str) -> Result<AccountId, StoreError> {
        self.text(column)?.parse().map_err(|_| self.corrupt())
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(self.text(column)?).map_err(|_| self.corrupt())
    }

    pub(super) fn optional_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = self.row.try_get(column).map_err(|_| self.corrupt())?;
        text.map(|text| serde_json::from_str(text).map_err(|_| self.corrupt())).transpose()
    }

    pub(super) fn name<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_value(self.text(column)?.into()).map_err(|_| self.corrupt())
    }
}
