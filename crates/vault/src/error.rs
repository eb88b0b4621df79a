//! What can go wrong, told apart so that a user interface can say what to do.

use std::io;

/// Why the vault could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The passphrase does not open the key slot.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The vault is sealed under a passphrase, but the keyring was asked for.
    #[error("this vault is opened by a passphrase")]
    PassphraseNeeded,
    /// The vault is sealed under a key in the system's keyring, but a passphrase was given.
    #[error("this vault is opened by the system keyring, not by a passphrase")]
    KeyringNeeded,
    /// The system's keyring cannot be reached.
    #[error("the system keyring is not available: {0}")]
    KeyringUnavailable(String),
    /// The keyring works, but holds no key for this vault.
    #[error("the system keyring holds no key for this vault")]
    KeyringEntryMissing,
    /// Another process has the vault open.
    #[error("another process is using this vault")]
    Locked,
    /// What is on disk is not what was written. `what` names the part.
    #[error("the vault is damaged: {what}")]
    Damaged {
        /// Which part does not hold.
        what: &'static str,
    },
    /// The vault was written by a newer version of the program.
    #[error("the vault has format {found}, which this version does not know")]
    Newer {
        /// The format that was found.
        found: u64,
    },
    /// There is no room on the disk.
    #[error("the disk is full")]
    DiskFull,
    /// An earlier write was interrupted within the program: the vault must be opened again.
    #[error("an earlier write failed; the vault must be opened again")]
    Halted,
    /// A row is longer than the vault can hold.
    #[error("a row of {length} bytes is too long")]
    RowTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The operating system's random source failed.
    #[error("the system's random source failed")]
    NoRandomness,
    /// Any other failure of the file system.
    #[error("the vault's files cannot be used: {0}")]
    Io(io::Error),
}

impl VaultError {
    /// A stable name for user interfaces, in snake_case.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongPassphrase | Self::PassphraseNeeded => "wrong_passphrase",
            Self::KeyringNeeded | Self::KeyringUnavailable(_) | Self::KeyringEntryMissing => {
                "keyring_unavailable"
            }
            Self::Locked => "vault_locked",
            Self::Damaged { .. } => "vault_damaged",
            Self::Newer { .. } => "vault_newer",
            Self::DiskFull => "disk_full",
            Self::RowTooLong { .. } => "too_long",
            Self::Io(_) => "disk_failed",
            Self::Halted | Self::NoRandomness => "internal",
        }
    }

    /// The same error once more: for everybody who meets a vault that it has halted.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::WrongPassphrase => Self::WrongPassphrase,
            Self::PassphraseNeeded => Self::PassphraseNeeded,
            Self::KeyringNeeded => Self::KeyringNeeded,
            Self::KeyringUnavailable(why) => Self::KeyringUnavailable(why.clone()),
            Self::KeyringEntryMissing => Self::KeyringEntryMissing,
            Self::Locked => Self::Locked,
            Self::Damaged { what } => Self::Damaged { what },
            Self::Newer { found } => Self::Newer { found: *found },
            Self::DiskFull => Self::DiskFull,
            Self::Halted => Self::Halted,
            Self::RowTooLong { length } => Self::RowTooLong { length: *length },
            Self::NoRandomness => Self::NoRandomness,
            Self::Io(error) => Self::Io(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

impl From<io::Error> for VaultError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull
            }
            _ => Self::Io(error),
        }
    }
}
