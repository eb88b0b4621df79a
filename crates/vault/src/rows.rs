//! The narrow waist between the vault and what keeps its bytes: sealed rows under ordered keys,
//! and batches that happen as a whole.

mod disk;
mod memory;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

pub(crate) use disk::DiskRows;
pub(crate) use memory::MemoryRows;

use crate::error::VaultError;

/// What a commit writes (`Some`) and removes (`None`).
pub(crate) type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Called for each row of a scan, until it breaks.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, VaultError> + 'a;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Keys from `from` on, up to but not including `to`.
#[derive(Clone, Debug)]
pub(crate) struct KeyRange {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl KeyRange {
    /// All keys: no table has code 255.
    pub(crate) fn everything() -> Self {
        Self { from: vec![0], to: vec![u8::MAX] }
    }

    /// All keys that begin with `prefix`, which does not end in 255.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        while let Some(last) = to.pop() {
            if let Some(next) = last.checked_add(1) {
                to.push(next);
                break;
            }
        }
        Self { from: prefix.to_vec(), to }
    }
}

/// Ordered rows. Only ciphertexts pass through here.
pub(crate) trait Rows: Send + Sync {
    /// The value under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError>;

    /// Visits the rows of a range in order.
    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<(), VaultError>;

    /// Writes a batch: all of it or nothing. Readers see it from here on; a crash may still take
    /// it back, as a whole.
    fn apply(&self, batch: Batch) -> Result<(), VaultError>;

    /// Returns when everything that was applied will survive a power cut.
    fn sync(&self) -> Result<(), VaultError>;
}

/// Rows of a store that was let go.
pub(crate) struct ClosedRows;

impl Rows for ClosedRows {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        Err(VaultError::Halted)
    }

    fn scan(&self, _: &KeyRange, _: Direction, _: &mut Visit<'_>) -> Result<(), VaultError> {
        Err(VaultError::Halted)
    }

    fn apply(&self, _: Batch) -> Result<(), VaultError> {
        Err(VaultError::Halted)
    }

    fn sync(&self) -> Result<(), VaultError> {
        Err(VaultError::Halted)
    }
}
