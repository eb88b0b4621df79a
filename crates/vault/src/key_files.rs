//! Where the key slot lies, and how it is replaced so that there is always one that fits the rows.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::error::VaultError;

/// The files that hold a key slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyFile {
    /// The slot in force.
    Slot,
    /// One that has not yet taken its place.
    New,
    /// The slot in force once more: so few bytes must not be able to take everything with them.
    Copy,
}

impl KeyFile {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Slot => "keys.mildam",
            Self::New => "keys.mildam-new",
            Self::Copy => "keys-copy.mildam",
        }
    }
}

pub(crate) trait KeyFiles: Send + Sync {
    /// A file's content; none if there is no such file.
    fn read(&self, file: KeyFile) -> Result<Option<Vec<u8>>, VaultError>;

    /// Writes a file, durably when this returns; until then it may be torn.
    fn write(&self, file: KeyFile, bytes: &[u8]) -> Result<(), VaultError>;

    /// Puts [`KeyFile::New`] in the place of [`KeyFile::Slot`], durably when this returns; until
    /// then there is the old one or the new one.
    fn put_in_place(&self) -> Result<(), VaultError>;

    /// Removes [`KeyFile::New`], if it is there.
    fn remove_new(&self) -> Result<(), VaultError>;
}

/// Of a vault that is never written to disk.
#[derive(Default)]
pub(crate) struct MemoryFiles(Mutex<BTreeMap<KeyFile, Vec<u8>>>);

impl KeyFiles for MemoryFiles {
    fn read(&self, file: KeyFile) -> Result<Option<Vec<u8>>, VaultError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&file).cloned())
    }

    fn write(&self, file: KeyFile, bytes: &[u8]) -> Result<(), VaultError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(file, bytes.to_vec());
        Ok(())
    }

    fn put_in_place(&self) -> Result<(), VaultError> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(new) = files.remove(&KeyFile::New) {
            files.insert(KeyFile::Slot, new);
        }
        Ok(())
    }

    fn remove_new(&self) -> Result<(), VaultError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&KeyFile::New);
        Ok(())
    }
}
