//! The vault's folder: where its files are, who may use it, and replacing a file for good.
//!
//! ```text
//! lock.mildam        empty; locked as long as a process has the vault open
//! keys.mildam        the key slot
//! keys-copy.mildam   the key slot once more
//! head.mildam        how many commits there were
//! store/             sled's files
//! snapshot.mildam    all rows, as they were lately
//! *.mildam-new       a file that has not yet taken its place
//! store-damaged/     a store that was replaced by what could be read of it; the next is store-damaged-2/
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::VaultError;
use crate::key_files::{KeyFile, KeyFiles};

/// The folder of a vault that this process alone may use, until this is dropped.
pub(crate) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that was just begun has it, too, until its program runs. If
        // this fails the file is closed all the same.
        let _ = self.lock.unlock();
    }
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
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(VaultError::Locked),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    pub(crate) fn key_file_in(path: &Path, file: KeyFile) -> PathBuf {
        path.join(file.name())
    }

    fn key_file(&self, file: KeyFile) -> PathBuf {
        Self::key_file_in(&self.path, file)
    }

    pub(crate) fn head(&self) -> PathBuf {
        self.path.join("head.mildam")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where a store is put together before it takes the place of a damaged one.
    pub(crate) fn new_store(&self) -> PathBuf {
        self.path.join("store-new")
    }

    /// The stores that repairs have replaced, the earliest first: `store-damaged`, `store-damaged-2`, ...
    pub(crate) fn damaged_stores(&self) -> Result<Vec<PathBuf>, VaultError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some(number) = entry.file_name().to_str().and_then(damaged_number) {
                found.push((number, entry.path()));
            }
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Where the next one goes.
    pub(crate) fn next_damaged_store(&self) -> Result<PathBuf, VaultError> {
        let last = self.damaged_stores()?.pop();
        let last = last.and_then(|path| damaged_number(path.file_name()?.to_str()?));
        Ok(self.path.join(match last {
            None => DAMAGED_STORE.to_owned(),
            Some(number) => format!("{DAMAGED_STORE}-{}", number.saturating_add(1)),
        }))
    }

    /// Sees whether anything can be written: whether there is room, and the disk takes it.
    ///
    /// # Errors
    /// [`VaultError::DiskFull`], [`VaultError::Io`]
    pub(crate) fn try_room(&self) -> Result<(), VaultError> {
        let path = self.path.join("room.mildam-new");
        let tried = private_file().create(true).truncate(true).open(&path).and_then(|mut file| {
            file.write_all(&vec![0; TRIED_ROOM])?;
            file.sync_all()
        });
        let removed = remove_if_there(fs::remove_file(&path));
        tried?;
        removed
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.path.join("snapshot.mildam")
    }

    pub(crate) fn new_snapshot(&self) -> PathBuf {
        self.path.join("snapshot.mildam-new")
    }

    /// Gives a file or folder another name, durably, over a file that bears it.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), VaultError> {
        fs::rename(from, to)?;
        sync_folder(&self.path)
    }
}

/// So many bytes are written to see whether there is room: what sled needs to open a small store.
const TRIED_ROOM: usize = 1024 * 1024;

const DAMAGED_STORE: &str = "store-damaged";

/// Which of the damaged stores has this name.
fn damaged_number(name: &str) -> Option<u32> {
    match name.strip_prefix(DAMAGED_STORE)? {
        "" => Some(1),
        number => number.strip_prefix('-')?.parse().ok(),
    }
}

impl KeyFiles for Folder {
    fn read(&self, file: KeyFile) -> Result<Option<Vec<u8>>, VaultError> {
        match fs::read(self.key_file(file)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, file: KeyFile, bytes: &[u8]) -> Result<(), VaultError> {
        let mut new = private_file().create(true).truncate(true).open(self.key_file(file))?;
        new.write_all(bytes)?;
        new.sync_all()?;
        sync_folder(&self.path)
    }

    fn put_in_place(&self) -> Result<(), VaultError> {
        self.rename(&self.key_file(KeyFile::New), &self.key_file(KeyFile::Slot))
    }

    fn remove_new(&self) -> Result<(), VaultError> {
        remove_if_there(fs::remove_file(self.key_file(KeyFile::New)))
    }
}

/// What was to be removed may be gone already.
pub(crate) fn remove_if_there(removed: io::Result<()>) -> Result<(), VaultError> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    // REQ L1
    #[test]
    fn a_folder_is_free_though_a_new_process_still_has_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::lock(dir.path()).unwrap();
        assert!(matches!(Folder::lock(dir.path()), Err(VaultError::Locked)));
        // What a process has between its beginning and its program.
        let inherited = folder.lock.try_clone().unwrap();
        drop(folder);
        Folder::lock(dir.path()).unwrap();
        drop(inherited);
    }
}
