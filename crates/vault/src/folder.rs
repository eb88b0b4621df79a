//! The vault's folder: where its files are, who may use it, and replacing a file for good.
//!
//! ```text
//! lock.mildam    empty; locked as long as a process has the vault open
//! keys.mildam    the key slot
//! head.mildam    how many commits there were
//! store/         sled's files
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::VaultError;

/// The folder of a vault that this process alone may use, until this is dropped.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if there is none, readable by its owner only, and locks it.
    ///
    /// # Errors
    /// [`VaultError::Locked`] while another process, or another part of this one, has it.
    pub(crate) fn lock(path: &Path) -> Result<Self, VaultError> {
        make_private_folder(path)?;
        let lock = private_file().create(true).truncate(false).open(path.join("lock.mildam"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(VaultError::Locked),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    pub(crate) fn key_slot(&self) -> PathBuf {
        Self::key_slot_in(&self.path)
    }

    pub(crate) fn key_slot_in(path: &Path) -> PathBuf {
        path.join("keys.mildam")
    }

    pub(crate) fn head(&self) -> PathBuf {
        self.path.join("head.mildam")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where a file is written before it takes the place of the old one.
    pub(crate) fn beside(file: &Path) -> PathBuf {
        file.with_extension("mildam-new")
    }

    /// Writes a file that is not yet in its place, durably.
    pub(crate) fn write_beside(&self, file: &Path, bytes: &[u8]) -> Result<(), VaultError> {
        let mut new = private_file().create(true).truncate(true).open(Self::beside(file))?;
        new.write_all(bytes)?;
        new.sync_all()?;
        sync_folder(&self.path)
    }

    /// Puts what [`Folder::write_beside`] wrote in its place, durably: after a power cut there is
    /// the old file or the new one.
    pub(crate) fn put_in_place(&self, file: &Path) -> Result<(), VaultError> {
        fs::rename(Self::beside(file), file)?;
        sync_folder(&self.path)
    }
}

/// Makes the names in a folder durable.
#[cfg(unix)]
pub(crate) fn sync_folder(path: &Path) -> Result<(), VaultError> {
    File::open(path)?.sync_all()?;
    Ok(())
}

/// Windows has no handle for this; NTFS journals names by itself.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_path: &Path) -> Result<(), VaultError> {
    Ok(())
}

/// Options for a file that only its owner may read.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

fn make_private_folder(path: &Path) -> Result<(), VaultError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)?;
    if let Some(parent) = path.parent().filter(|parent| parent.is_dir()) {
        sync_folder(parent)?;
    }
    Ok(())
}
