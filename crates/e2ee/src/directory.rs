//! What is known of other accounts: pinned at the first contact, and only ever moving forward.

use std::collections::BTreeMap;

use mildam_records::{
    AccountId, AccountKeys, Certificate, DeviceId, DeviceList, Hash, IdentityPublicKey, RecordError,
    SignedPreKey,
};
use serde::{Deserialize, Serialize};

/// Why new keys of an account are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// They do not verify.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// They belong to another account.
    #[error("the keys belong to another account")]
    OtherAccount,
    /// The account has another identity than the pinned one: a new person, or an attack.
    #[error("the account's identity has changed")]
    IdentityChanged,
    /// An older generation or version than the known one was shown.
    #[error("older keys than the known ones were shown")]
    RolledBack,
    /// Two different histories of the same list were shown.
    #[error("the account's device list has two histories")]
    Forked,
}

/// An account as it is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAccount {
    keys: AccountKeys,
    /// Lists of earlier generations, for entries that were written under them.
    past: Vec<DeviceList>,
}

impl KnownAccount {
    /// Meets an account for the first time and pins its identity (trust on first use).
    ///
    /// # Errors
    /// [`DirectoryError::Record`]
    pub fn first_contact(keys: AccountKeys) -> Result<Self, DirectoryError> {
        keys.verify()?;
        Ok(Self { keys, past: Vec::new() })
    }

    /// Takes newer keys of the same account. True if anything changed.
    ///
    /// # Errors
    /// [`DirectoryError`]; what was known stays.
    pub fn update(&mut self, keys: AccountKeys) -> Result<bool, DirectoryError> {
        if keys.account != self.keys.account {
            return Err(DirectoryError::OtherAccount);
        }
        if keys.identity_key != self.keys.identity_key {
            return Err(DirectoryError::IdentityChanged);
        }
        let new = keys.verify()?;
        let (generation, known) = (new.generation, self.newest_generation());
        if generation < known || (generation == known && keys.lists.len() < self.keys.lists.len()) {
            return Err(DirectoryError::RolledBack);
        }
        if generation == known && !keys.lists.starts_with(&self.keys.lists) {
            return Err(DirectoryError::Forked);
        }
        if generation > known {
            self.past.append(&mut self.keys.lists);
        }
        let changed = keys != self.keys;
        self.keys = keys;
        Ok(changed)
    }

    fn newest_generation(&self) -> u64 {
        self.keys.lists.last().map_or(0, |list| list.generation)
    }

    /// Whose keys.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        &self.keys.account
    }

    /// The pinned identity key.
    #[must_use]
    pub const fn identity(&self) -> &IdentityPublicKey {
        &self.keys.identity_key
    }

    /// The newest device list. There is one, since the keys were verified.
    #[must_use]
    pub fn newest(&self) -> Option<&DeviceList> {
        self.keys.lists.last()
    }

    /// A known list, by its hash.
    #[must_use]
    pub fn list(&self, hash: &Hash) -> Option<&DeviceList> {
        self.place(hash).map(|(_, list)| list)
    }

    /// Where a list stands among all that are known: later ones have higher places.
    pub(crate) fn place(&self, hash: &Hash) -> Option<(usize, &DeviceList)> {
        self.past.iter().chain(&self.keys.lists).enumerate().find(|(_, list)| list.hash() == *hash)
    }

    /// A device's certificate under the list with that hash.
    pub(crate) fn certificate(&self, list: &Hash, device: &DeviceId) -> Option<&Certificate> {
        self.list(list)?.certificate(device)
    }

    /// A device's certificate under any known list of the newest generation, newest first.
    #[must_use]
    pub fn any_certificate(&self, device: &DeviceId) -> Option<&Certificate> {
        self.keys.lists.iter().rev().find_map(|list| list.certificate(device))
    }

    pub(crate) fn prekey(&self, device: &DeviceId) -> Option<&SignedPreKey> {
        self.keys.prekey(device)
    }
}

/// Where known accounts are looked up.
pub trait Directory {
    /// What is known of an account.
    fn account(&self, account: &AccountId) -> Option<&KnownAccount>;
}

impl Directory for BTreeMap<AccountId, KnownAccount> {
    fn account(&self, account: &AccountId) -> Option<&KnownAccount> {
        self.get(account)
    }
}
