//! How a vault is opened.

use zeroize::Zeroizing;

/// What opens the key slot.
pub enum Unlock {
    /// A passphrase, through Argon2id. It is brought to Unicode NFC first, so that the same keys
    /// typed on another system open the same vault.
    Passphrase(Zeroizing<String>),
    /// A random key in the operating system's keyring.
    Keyring,
}

impl Unlock {
    /// Which of the two it is.
    #[must_use]
    pub const fn kind(&self) -> UnlockKind {
        match self {
            Self::Passphrase(_) => UnlockKind::Passphrase,
            Self::Keyring => UnlockKind::Keyring,
        }
    }
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passphrase(_) => f.write_str("Passphrase(..)"),
            Self::Keyring => f.write_str("Keyring"),
        }
    }
}

/// What an existing vault wants to be opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlockKind {
    /// A passphrase.
    Passphrase,
    /// The operating system's keyring.
    Keyring,
}
