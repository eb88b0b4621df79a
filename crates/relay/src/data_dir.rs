//! The data directory: who may use it, and files in it that are there whole or not at all.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The database.
pub const DATABASE: &str = "relay.db";
/// The server key, RSA-3072 in PKCS#8 DER.
pub const SERVER_KEY: &str = "server-key.der";
/// The keys that protect personal data in the database.
pub const SECRETS: &str = "secrets.bin";
/// What passwords are served with. Without it every password is wrong.
pub const PASSWORD_KEYS: &str = "password-keys.bin";
/// The certificate that TLS shows, its chain and its private key, in PEM.
pub const TLS: &str = "tls.pem";
/// A request to an authority for a certificate, in PEM.
pub const TLS_REQUEST: &str = "tls-request.pem";
/// The private key that the request is for, in PEM.
pub const TLS_REQUEST_KEY: &str = "tls-request-key.pem";
/// The server link of the last start.
pub const LINK: &str = "link.txt";
const LOCK: &str = "lock";

/// All files that a relay makes, for those that an earlier version or a backup left open to others. A
/// directory may hold other files too, and those are not ours to change.
#[cfg(unix)]
const FILES: [&str; 12] = [
    DATABASE,
    "relay.db-wal",
    "relay.db-shm",
    SERVER_KEY,
    "server-key.old.der",
    SECRETS,
    PASSWORD_KEYS,
    TLS,
    TLS_REQUEST,
    TLS_REQUEST_KEY,
    LINK,
    LOCK,
];
/// What a mode allows to others than the owner.
#[cfg(unix)]
const OTHERS: u32 = 0o077;
/// A directory that many users make files in, such as `/tmp`.
#[cfg(unix)]
const STICKY: u32 = 0o1000;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another relay uses it.
    #[error("another relay is using {0}")]
    InUse(PathBuf),
    /// Other users of the machine can get at it, and it is not this user's to close.
    #[error(
        "{path} is open to other users of this machine, and {why}: \
         give it to this user with mode 0700, or choose another directory"
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why it cannot be closed.
        why: String,
    },
    /// A file or the directory itself cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A data directory, held against other relays as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, and takes it. It and its files are their owner's only: where
    /// a directory of before is open to others, it is closed.
    ///
    /// # Errors
    /// [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |error| io_error(path, error);
        make_private_directory(path).map_err(failed)?;
        #[cfg(unix)]
        close(path)?;
        let lock_path = path.join(LOCK);
        let lock = private_file()
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| io_error(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(io_error(&lock_path, error)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a file; `None` if it is not there.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DataDirError> {
        read(&self.file(name))
    }

    /// As [`write()`].
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        write(&self.path, name, bytes)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), DataDirError> {
        let path = self.file(from);
        let renamed = std::fs::rename(&path, self.file(to)).and_then(|()| sync_directory(&self.path));
        renamed.map_err(|error| io_error(&path, error))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn remove(&self, name: &str) -> Result<(), DataDirError> {
        let path = self.file(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path, error)),
            _ => Ok(()),
        }
    }
}

/// Writes a file that only its owner can read. Whatever happens meanwhile, the file is the old one or
/// the new one, and when this returns the new one has reached the disk.
///
/// # Errors
/// [`DataDirError::Io`].
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
    let path = dir.join(name);
    let new = dir.join(format!("{name}.new"));
    let put = || {
        let mut file = private_file().create(true).truncate(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        sync_directory(dir)
    };
    put().map_err(|error| io_error(&path, error))
}

/// Reads a file of any data directory; `None` if it is not there.
///
/// # Errors
/// [`DataDirError::Io`].
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, DataDirError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path, error)),
    }
}

fn io_error(path: &Path, error: io::Error) -> DataDirError {
    DataDirError::Io { path: path.to_owned(), error }
}

#[cfg(unix)]
fn make_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make_private_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Closes a directory and what a relay made in it to everybody but their owner. New files are made so, but
/// the directory may have been there before.
#[cfg(unix)]
fn close(path: &Path) -> Result<(), DataDirError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let look = || std::fs::metadata(path).map_err(|error| io_error(path, error));
    let refused = |why: String| DataDirError::Open { path: path.to_owned(), why };
    let found = look()?;
    if found.mode() & OTHERS != 0 {
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(refused("it belongs to another user".to_owned()));
        }
        if found.mode() & STICKY != 0 {
            return Err(refused("it is meant for many".to_owned()));
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .map_err(|error| refused(format!("its mode cannot be changed ({error})")))?;
        if look()?.mode() & OTHERS != 0 {
            return Err(refused("its file system keeps no modes".to_owned()));
        }
        tracing::warn!("the data directory was open to other users of this machine; now it is not");
    }
    for name in FILES {
        let file = path.join(name);
        close_file(&file).map_err(|error| io_error(&file, error))?;
    }
    Ok(())
}

/// Closes a file, if it is there, to everybody but its owner.
///
/// # Errors
/// Why its mode cannot be changed.
#[cfg(unix)]
pub(crate) fn close_file(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    match std::fs::metadata(path) {
        Ok(found) if found.mode() & OTHERS != 0 => {
            let closed = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
            closed.map_err(|error| {
                let why = format!("other users can get at it, and its mode cannot be changed ({error})");
                io::Error::new(error.kind(), why)
            })
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Windows has no modes: files are whose the directory is.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(crate) fn close_file(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn private_file() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    options
}

/// Makes a rename last. Windows has no way to ask for it and does it by itself.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // REQ S1
    #[test]
    fn one_relay_uses_a_directory_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::InUse(_))));
        drop(held);
        assert!(DataDir::open(dir.path()).is_ok());
    }

    #[test]
    fn files_are_replaced_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("a/b")).unwrap();
        assert_eq!(data.read("x").unwrap(), None);
        data.write("x", b"one").unwrap();
        data.write("x", b"2").unwrap();
        assert_eq!(data.read("x").unwrap().unwrap(), b"2");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode(data.file("x")) & 0o777, 0o600);
            assert_eq!(mode(data.file("")) & 0o777, 0o700);
        }
    }

    // REQ S5
    #[cfg(unix)]
    #[test]
    fn a_directory_open_to_others_is_closed_or_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let (key, other) = (dir.path().join(SERVER_KEY), dir.path().join("a script"));
        for (file, mode) in [(&key, 0o644), (&other, 0o755)] {
            std::fs::write(file, b"x").unwrap();
            set(file, mode);
        }
        for open in [0o755, 0o750, 0o777] {
            set(dir.path(), open);
            drop(DataDir::open(dir.path()).unwrap());
            assert_eq!(mode(dir.path()), 0o700, "{open:o}");
        }
        assert_eq!((mode(&key), mode(&other)), (0o600, 0o755), "what is not the relay's stays as it is");
        // A directory as /tmp is not taken away from those who share it.
        set(dir.path(), 0o1777);
        let refused = DataDir::open(dir.path()).unwrap_err();
        assert!(refused.to_string().contains("0700"), "{refused}");
        assert_eq!(mode(dir.path()), 0o1777);
    }
}
