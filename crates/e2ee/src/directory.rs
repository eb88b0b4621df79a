//! What is known of other accounts: pinned at the first contact, and only ever moving forward.

use std::collections::BTreeMap;

use mildam_records::{
    AccountId, AccountKeys, DeviceId, DeviceList, Hash, IdentityPublicKey, RecordError, SignedPreKey,
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
    /// An older generation, version or prekey than the known one was shown.
    #[error("older keys than the known ones were shown")]
    RolledBack,
    /// Two different histories of the same list were shown.
    #[error("the account's device list has two histories")]
    Forked,
}

/// An account as it is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct KnownAccount {
    keys: AccountKeys,
    /// Lists that the relay no longer shows: a new generation replaced their branch. Entries that
    /// were written under them stay readable.
    past: Vec<DeviceList>,
    /// The hash of each list, those of `keys` first: every message names one, and an epoch one for
    /// each member.
    hashes: Vec<Hash>,
}

/// What is kept of it.
#[derive(Serialize, Deserialize)]
#[serde(rename = "KnownAccount")]
struct Stored {
    keys: AccountKeys,
    past: Vec<DeviceList>,
}

impl From<Stored> for KnownAccount {
    fn from(Stored { keys, past }: Stored) -> Self {
        let hashes = keys.lists.iter().chain(&past).map(DeviceList::hash).collect();
        Self { keys, past, hashes }
    }
}

impl From<KnownAccount> for Stored {
    fn from(KnownAccount { keys, past, .. }: KnownAccount) -> Self {
        Self { keys, past }
    }
}

impl KnownAccount {
    /// Meets an account for the first time and pins its identity (trust on first use).
    ///
    /// # Errors
    /// [`DirectoryError::Record`]
    pub fn first_contact(keys: AccountKeys) -> Result<Self, DirectoryError> {
        keys.verify()?;
        Ok(Stored { keys, past: Vec::new() }.into())
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
        if let Some(known) = self.newest() {
            if known.is_newer_than(new) {
                return Err(DirectoryError::RolledBack);
            }
            // The owner of the words overrules whatever was said in a generation before.
            if new.generation == known.generation && !keys.lists.starts_with(&self.keys.lists) {
                return Err(DirectoryError::Forked);
            }
        }
        let older = |old: &SignedPreKey| {
            keys.prekey(&old.device).is_some_and(|new| new != old && new.created_at <= old.created_at)
        };
        if self.keys.prekeys.iter().any(older) {
            return Err(DirectoryError::RolledBack);
        }
        if keys == self.keys {
            return Ok(false);
        }
        let mut past = std::mem::take(&mut self.past);
        past.extend(self.keys.lists.iter().filter(|list| !keys.lists.contains(list)).cloned());
        *self = Stored { keys, past }.into();
        Ok(true)
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

    /// The hash of the newest device list.
    #[must_use]
    pub fn newest_hash(&self) -> Option<Hash> {
        self.hashes.get(self.keys.lists.len().checked_sub(1)?).copied()
    }

    /// A known list, by its hash.
    #[must_use]
    pub fn list(&self, hash: &Hash) -> Option<&DeviceList> {
        let mut lists = self.keys.lists.iter().chain(&self.past).zip(&self.hashes);
        lists.find(|(_, known)| *known == hash).map(|(list, _)| list)
    }

    /// The current prekey of a device.
    #[must_use]
    pub fn prekey(&self, device: &DeviceId) -> Option<&SignedPreKey> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, NOW, account, rng};
    use crate::{DeviceSecrets, PreKey};
    use mildam_records::ListSigner;
    use mildam_records::bytes::Bytes;

    /// A further list of the same generation, signed by the device of the first.
    fn extended(keys: &AccountKeys, secrets: &DeviceSecrets, version: u64) -> DeviceList {
        let first = &keys.lists[0];
        let mut list = DeviceList {
            version,
            previous: Some(first.hash()),
            signer: ListSigner::Device(secrets.device()),
            ..first.clone()
        };
        list.signature = Bytes(secrets.sign(&list.signed_bytes()).as_bytes().to_vec());
        list
    }

    // REQ C4
    #[test]
    fn an_account_only_moves_forward() {
        let (keys, secrets) = (testing::public("alice"), testing::secrets("alice"));
        let mut known = KnownAccount::first_contact(keys.clone()).unwrap();
        assert_eq!(known.update(keys.clone()), Ok(false));
        assert_eq!(known.update(testing::public("bob")), Err(DirectoryError::OtherAccount));
        let imposter = testing::make(account("alice"), "dave").1;
        assert_eq!(known.update(imposter), Err(DirectoryError::IdentityChanged));

        let mut newer = keys.clone();
        newer.lists.push(extended(&keys, &secrets, 2));
        assert_eq!(known.update(newer.clone()), Ok(true));
        assert_eq!(known.newest().unwrap().version, 2);
        assert_eq!(known.update(keys.clone()), Err(DirectoryError::RolledBack));
        assert!(known.list(&keys.lists[0].hash()).is_some());

        let mut skipped = keys.clone();
        skipped.lists.push(extended(&keys, &secrets, 3));
        assert!(matches!(known.update(skipped), Err(DirectoryError::Record(_))));
        let mut empty = AccountKeys { prekeys: Vec::new(), ..keys };
        empty.lists.clear();
        assert!(matches!(known.update(empty), Err(DirectoryError::Record(_))));
    }

    // REQ A4
    #[test]
    fn a_new_generation_overrules_every_earlier_one() {
        let (mut keys, secrets) = (testing::public("alice"), testing::secrets("alice"));
        let mut known = KnownAccount::first_contact(keys.clone()).unwrap();
        // Somebody with the device went on with the list; the relay shows it to this reader only.
        let mut thief = keys.clone();
        thief.lists.push(extended(&keys, &secrets, 2));
        assert_eq!(known.update(thief.clone()), Ok(true));
        let identity = testing::identity("alice");
        keys.lists.push(crate::first_device_list(&identity, &secrets, 2, &mut rng()).unwrap());
        assert_eq!(known.update(keys.clone()), Ok(true));
        assert_eq!(known.newest().unwrap().generation, 2);
        assert!(known.list(&thief.lists[1].hash()).is_some());
        assert!(known.list(&keys.lists[0].hash()).is_some());
        assert_eq!(known.update(thief), Err(DirectoryError::RolledBack));
    }

    // REQ C4
    #[test]
    fn two_histories_are_a_fork() {
        let (keys, secrets) = (testing::public("alice"), testing::secrets("alice"));
        let mut known = KnownAccount::first_contact(keys.clone()).unwrap();
        let mut one = keys.clone();
        one.lists.push(extended(&keys, &secrets, 2));
        known.update(one).unwrap();
        let mut other = keys.clone();
        let mut list = extended(&keys, &secrets, 2);
        list.certificates.push(testing::second_device("alice", "dave"));
        list.signature = Bytes(secrets.sign(&list.signed_bytes()).as_bytes().to_vec());
        other.lists.push(list);
        assert_eq!(known.update(other), Err(DirectoryError::Forked));
    }

    #[test]
    fn a_prekey_does_not_go_back() {
        let (keys, secrets) = (testing::public("alice"), testing::secrets("alice"));
        let with_prekey = |created_at| {
            let mut prekey = SignedPreKey {
                public: PreKey::generate(&mut rng()).unwrap().public().clone(),
                created_at,
                ..keys.prekeys[0].clone()
            };
            prekey.signature = secrets.sign(&prekey.signed_bytes());
            AccountKeys { prekeys: vec![prekey], ..keys.clone() }
        };
        let mut known = KnownAccount::first_contact(keys.clone()).unwrap();
        assert_eq!(known.update(with_prekey(NOW)), Err(DirectoryError::RolledBack));
        assert_eq!(known.update(with_prekey(NOW + 1)), Ok(true));
        assert_eq!(known.update(keys.clone()), Err(DirectoryError::RolledBack));
    }

    #[test]
    fn altered_keys_are_no_contact() {
        let mut keys = testing::public("alice");
        keys.lists[0].certificates[0].created_at += 1;
        assert!(matches!(KnownAccount::first_contact(keys), Err(DirectoryError::Record(_))));
        let mut keys = testing::public("alice");
        keys.prekeys[0].created_at += 1;
        assert!(matches!(KnownAccount::first_contact(keys), Err(DirectoryError::Record(_))));
    }

    #[test]
    fn what_is_known_survives_the_vault() {
        let known = KnownAccount::first_contact(testing::public("alice")).unwrap();
        let json = serde_json::to_vec(&known).unwrap();
        assert_eq!(serde_json::from_slice::<KnownAccount>(&json).unwrap(), known);
    }
}
