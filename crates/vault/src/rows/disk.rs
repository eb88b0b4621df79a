//! Rows in sled 0.34, lived with as its weaknesses ask for.
//!
//! * **One tree.** A table is one byte in front of the key, so that one commit is one
//!   [`sled::Batch`], which sled recovers as a whole or not at all.
//! * **Durable means fsync.** sled's `flush` writes its buffers and, on Linux, mostly asks for
//!   `sync_file_range`, which does not flush the drive's cache nor the file's length. So `sync`
//!   calls `flush` and then `sync_all` on sled's one data file, through a handle of its own: fsync
//!   is about the file, not about the handle.
//! * **No blobs.** Pages over 128 KiB go to files that sled never syncs. A leaf holds up to 17
//!   rows; the vault cuts values into pieces of 4 KiB, so no page gets there.
//! * **No background thread.** With nothing to flush on its own, sled's flusher would only wake
//!   the processor; and a panic of that thread over a damaged page would hang the closing. sled
//!   also cleans segments as it writes.
//! * **Panics are caught.** sled asserts where it should report. On a damaged file that must lead
//!   to an error that a person can be told, so every call goes through [`guarded`].
//! * **Its snapshots are only an index.** One that was left half-written, or is damaged, is set aside: sled
//!   would refuse the whole store for it.
//! * **A failed write wakes nobody.** sled may leave whoever waits for a flush waiting for ever, when one of
//!   its own threads finds that a write fails. Another flush sees the failure at once, and wakes the
//!   first one: see [`flush`].
//! * **Losses are noticed.** sled cuts its log at the first bytes that do not add up, without a
//!   word. [`head`](crate::head) and [`sum`](crate::sum) tell.

use std::fs::{self, File, OpenOptions};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{Batch, Direction, KeyRange, Rows, Visit};
use crate::error::VaultError;
use crate::folder::sync_folder;

/// sled's cache, in bytes; its own default is 1 GiB.
const CACHE_CAPACITY: u64 = 64 * 1024 * 1024;

/// How long to wait for sled's worker threads of a vault that this process has just closed: they
/// may hold the lock on the data file for a moment longer. Other processes are kept out by the
/// vault's own lock, which is taken before.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How long to wait for a flush before another one is begun, the first time.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);

const DAMAGED: VaultError = VaultError::Damaged { what: "store" };

pub(crate) struct DiskRows {
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    /// sled's data file, opened once more to sync it.
    data: File,
}

impl DiskRows {
    /// Opens the store in `folder`, or makes it.
    pub(crate) fn open(folder: &Path) -> Result<Self, VaultError> {
        remove_unfinished(folder)?;
        let db = match guarded(|| open_patiently(folder)) {
            Err(VaultError::Damaged { .. }) => open_without_snapshots(folder)?,
            opened => opened?,
        };
        let data = OpenOptions::new().read(true).write(true).open(folder.join("db"))?;
        let rows = Self { db: Some(db), data };
        rows.sync()?;
        // The files themselves must be findable after a power cut.
        if let Ok(settings) = File::open(folder.join("conf")) {
            settings.sync_all()?;
        }
        sync_folder(folder)?;
        Ok(rows)
    }

    fn db(&self) -> Result<&sled::Db, VaultError> {
        self.db.as_ref().ok_or(VaultError::Halted)
    }
}

impl Rows for DiskRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        let db = self.db()?;
        guarded(|| db.get(key).map(|value| value.map(|value| value.to_vec())).map_err(from_sled))
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<(), VaultError> {
        if range.from >= range.to {
            return Ok(());
        }
        let db = self.db()?;
        guarded(|| {
            let mut rows = db.range(range.from.as_slice()..range.to.as_slice());
            loop {
                let row = match direction {
                    Direction::Up => rows.next(),
                    Direction::Down => rows.next_back(),
                };
                let Some(row) = row else { return Ok(()) };
                let (key, value) = row.map_err(from_sled)?;
                if let ControlFlow::Break(()) = visit(&key, &value)? {
                    return Ok(());
                }
            }
        })
    }

    fn apply(&self, batch: Batch) -> Result<(), VaultError> {
        let db = self.db()?;
        let mut sled_batch = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => sled_batch.insert(key, value),
                None => sled_batch.remove(key),
            }
        }
        guarded(|| db.apply_batch(sled_batch).map_err(from_sled))
    }

    fn sync(&self) -> Result<(), VaultError> {
        flush(self.db()?)?;
        self.data.sync_all()?;
        Ok(())
    }
}

impl Drop for DiskRows {
    fn drop(&mut self) {
        // sled unwraps an fsync when it is dropped; everything of value is durable already.
        let db = self.db.take();
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::error!("the store could not be closed in order");
        }
    }
}

/// What sled's snapshots are called. They are an index of its log, written anew at each opening, and
/// whatever is in them is in the log as well.
const SNAPSHOT: &str = "snap.";
/// The end of the name of a snapshot that is being written. sled takes one that was left behind, by a full
/// disk or a power cut, for a whole one.
const UNFINISHED: &str = ".generating";
/// What is put in front of the name of a snapshot that sled is not to see.
const ASIDE: &str = "aside-";

/// The files in a folder with such a name.
fn files(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, VaultError> {
    let mut found = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(&fits) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn remove_unfinished(folder: &Path) -> Result<(), VaultError> {
    for file in files(folder, |name| name.starts_with(SNAPSHOT) && name.ends_with(UNFINISHED))? {
        tracing::warn!("an opening of the store was interrupted before");
        fs::remove_file(file)?;
    }
    // An attempt to open it without them was interrupted: they are as good as they were.
    bring_back(folder)
}

/// A snapshot that is damaged must not keep the log from being read. What the log gives is judged by the
/// vault's own sums. If it gives nothing, the snapshots are where they were.
fn open_without_snapshots(folder: &Path) -> Result<sled::Db, VaultError> {
    let snapshots = files(folder, |name| name.starts_with(SNAPSHOT))?;
    if snapshots.is_empty() {
        return Err(DAMAGED);
    }
    for file in &snapshots {
        fs::rename(file, beside(file, |name| format!("{ASIDE}{name}")))?;
    }
    match guarded(|| open_patiently(folder)) {
        Ok(db) => {
            tracing::warn!("the store's index was damaged, and is made anew from its log");
            for file in files(folder, |name| name.starts_with(ASIDE))? {
                fs::remove_file(file)?;
            }
            Ok(db)
        }
        Err(error) => {
            bring_back(folder)?;
            Err(error)
        }
    }
}

fn bring_back(folder: &Path) -> Result<(), VaultError> {
    for file in files(folder, |name| name.starts_with(ASIDE))? {
        fs::rename(&file, beside(&file, |name| name.trim_start_matches(ASIDE).to_owned()))?;
    }
    Ok(())
}

/// The same place under another name.
fn beside(file: &Path, rename: impl Fn(&str) -> String) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(rename(&name))
}

/// sled's flush. If it takes long, another one is begun, which finds out whether a write has failed.
fn flush(db: &sled::Db) -> Result<(), VaultError> {
    let (done, outcome) = mpsc::channel();
    let mut patience = FLUSH_PATIENCE;
    loop {
        let (db, done) = (db.clone(), done.clone());
        thread::Builder::new().name("vault-flush".to_owned()).spawn(move || {
            let flushed = guarded(|| db.flush().map_err(from_sled));
            // Before anybody hears of it and closes the store.
            drop(db);
            done.send(flushed.map(drop))
        })?;
        match outcome.recv_timeout(patience) {
            Ok(flushed) => return flushed,
            Err(_) => patience = patience.saturating_mul(2),
        }
    }
}

fn open_patiently(folder: &Path) -> Result<sled::Db, VaultError> {
    let mut waited = Duration::ZERO;
    loop {
        let opened =
            sled::Config::new().path(folder).cache_capacity(CACHE_CAPACITY).flush_every_ms(None).open();
        match opened {
            Err(sled::Error::Io(error)) if is_lock_error(&error) => {
                if waited >= LOCK_PATIENCE {
                    return Err(VaultError::Locked);
                }
                thread::sleep(LOCK_PAUSE);
                waited += LOCK_PAUSE;
            }
            other => return other.map_err(from_sled),
        }
    }
}

/// sled tells a held lock only by its text.
fn is_lock_error(error: &std::io::Error) -> bool {
    error.to_string().starts_with("could not acquire lock")
}

fn from_sled(error: sled::Error) -> VaultError {
    match error {
        sled::Error::Io(error) => match error.kind() {
            // A file that ends too early is damage, not a failing drive.
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => DAMAGED,
            _ => error.into(),
        },
        sled::Error::Corruption { .. }
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::CollectionNotFound(_) => DAMAGED,
    }
}

/// Turns a panic inside sled into [`VaultError::Damaged`].
fn guarded<T>(work: impl FnOnce() -> Result<T, VaultError>) -> Result<T, VaultError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(DAMAGED))
}
