//! The key slot: the one small file that holds the keys of everything else.
//!
//! It stands outside sled, because sled's log keeps what was overwritten: here the old keys are
//! gone when the file is replaced.
//!
//! ```text
//! offset length
//!      0      8  "MILDAMKS"
//!      8      2  format, 1
//!     10      1  1 = passphrase, 2 = keyring
//!     11     16  vault id, random; names the keyring entry
//!     27      4  Argon2id memory, KiB       \
//!     31      4  Argon2id passes             | 0 for a keyring
//!     35      4  Argon2id lanes              |
//!     39     16  Argon2id salt              /
//!     55     12  nonce, random
//!     67    120  AES-256-GCM(slot key, nonce, plain, AAD = T("mildam/vault-slot/v1", bytes 0..67))
//!    187     32  SHA-256 of bytes 0..187
//!
//! plain    = state key generation (8) || vault key (32) || state key (32) || index key (32)
//! slot key = Argon2id(NFC(passphrase), salt), or the 32 bytes in the keyring
//! ```
//!
//! Integers are big-endian. The checksum tells damage from a wrong passphrase; it protects from
//! accidents, the tag from people.

use aes_gcm::aead::Payload;
use argon2::{Algorithm, Argon2, Params, Version};
use mildam_records::Canonical;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::keyring::SecretStore;
use crate::seal::{self, KEY_LENGTH, Key, NONCE_LENGTH, key_from, random, random_key};
use crate::unlock::{Unlock, UnlockKind};

const MAGIC: &[u8; 8] = b"MILDAMKS";
const FORMAT: u16 = 1;
const HEADER_LENGTH: usize = 67;
const SEALED_LENGTH: usize = 8 + 3 * KEY_LENGTH + 16;
const LENGTH: usize = HEADER_LENGTH + SEALED_LENGTH + 32;

const DAMAGED: VaultError = VaultError::Damaged { what: "key slot" };

/// What Argon2id costs. The header carries it, so it can be raised later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB, 8 to 1,048,576 and at least 8 for each lane.
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 16.
    pub passes: u32,
    /// Lanes, 1 to 4.
    pub lanes: u32,
}

impl Argon2Cost {
    /// 64 MiB, 3 passes, 1 lane: a good part of a second on a small laptop.
    pub const STRONG: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };

    /// What a new slot costs: [`Self::STRONG`], but in tests that make quick keys.
    pub(crate) fn of_new_slots() -> Self {
        #[cfg(feature = "testing")]
        if mildam_test_keys::quick_passwords() {
            return Self::LEAST;
        }
        Self::STRONG
    }

    /// What is allowed at least: for what is never written.
    pub(crate) const LEAST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    /// Within bounds: a file must not be able to ask for all memory, or for a day.
    fn params(self) -> Option<Params> {
        let bounded = (8..=1024 * 1024).contains(&self.memory_kib)
            && (1..=16).contains(&self.passes)
            && (1..=4).contains(&self.lanes);
        if !bounded {
            return None;
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_LENGTH)).ok()
    }
}

/// The keys of a vault.
#[derive(Clone)]
pub(crate) struct VaultKeys {
    /// Grows with each new state key; from 1.
    pub(crate) state_generation: u64,
    /// Seals rows that hold nothing that must be erasable.
    pub(crate) vault: Key,
    /// Seals secrets, and the bucket keys.
    pub(crate) state: Key,
    /// Makes row keys of names.
    pub(crate) index: Key,
}

impl VaultKeys {
    /// The same keys with a new state key.
    pub(crate) fn next(&self) -> Result<Self, VaultError> {
        let state_generation = self.state_generation.saturating_add(1);
        Ok(Self { state_generation, state: random_key()?, ..self.clone() })
    }

    /// New random keys, of the first generation.
    pub(crate) fn generate() -> Result<Self, VaultError> {
        Ok(Self { state_generation: 1, vault: random_key()?, state: random_key()?, index: random_key()? })
    }

    fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(8 + 3 * KEY_LENGTH));
        plain.extend_from_slice(&self.state_generation.to_be_bytes());
        for key in [&self.vault, &self.state, &self.index] {
            plain.extend_from_slice(key.as_slice());
        }
        plain
    }

    fn from_plain(plain: &[u8]) -> Option<Self> {
        let mut rest = Reader(plain);
        Some(Self {
            state_generation: u64::from_be_bytes(rest.take()?),
            vault: rest.take_key()?,
            state: rest.take_key()?,
            index: rest.take_key()?,
        })
    }
}

impl std::fmt::Debug for VaultKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VaultKeys(generation {})", self.state_generation)
    }
}

/// A key slot as it stands in its file.
pub(crate) struct KeySlot {
    kind: UnlockKind,
    vault_id: [u8; 16],
    cost: Argon2Cost,
    salt: [u8; 16],
    nonce: [u8; NONCE_LENGTH],
    header: [u8; HEADER_LENGTH],
    sealed: [u8; SEALED_LENGTH],
}

impl KeySlot {
    /// Reads a slot without opening it.
    ///
    /// # Errors
    /// [`VaultError::Newer`] or [`VaultError::Damaged`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, VaultError> {
        let mut rest = Reader(bytes);
        if rest.take::<8>().as_ref() != Some(MAGIC) {
            return Err(DAMAGED);
        }
        let format = u16::from_be_bytes(rest.take().ok_or(DAMAGED)?);
        if format > FORMAT {
            return Err(VaultError::Newer { found: u64::from(format) });
        }
        if format != FORMAT || bytes.len() != LENGTH {
            return Err(DAMAGED);
        }
        let (covered, checksum) = bytes.split_last_chunk::<32>().ok_or(DAMAGED)?;
        if Sha256::digest(covered).as_slice() != checksum {
            return Err(DAMAGED);
        }
        Self::fields(bytes, rest).ok_or(DAMAGED)
    }

    fn fields(bytes: &[u8], mut rest: Reader<'_>) -> Option<Self> {
        let kind = match rest.take::<1>()? {
            [1] => UnlockKind::Passphrase,
            [2] => UnlockKind::Keyring,
            _ => return None,
        };
        Some(Self {
            kind,
            vault_id: rest.take()?,
            cost: Argon2Cost {
                memory_kib: u32::from_be_bytes(rest.take()?),
                passes: u32::from_be_bytes(rest.take()?),
                lanes: u32::from_be_bytes(rest.take()?),
            },
            salt: rest.take()?,
            nonce: rest.take()?,
            header: *bytes.first_chunk()?,
            sealed: rest.take()?,
        })
    }

    /// What opens it.
    /// The file that [`KeySlot::parse`] has read.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let covered = [self.header.as_slice(), &self.sealed].concat();
        let checksum = Sha256::digest(&covered);
        [covered.as_slice(), &checksum].concat()
    }

    pub(crate) const fn kind(&self) -> UnlockKind {
        self.kind
    }

    /// Opens the slot: the keys in it, and what they are sealed under.
    ///
    /// # Errors
    /// [`VaultError::WrongPassphrase`], one of the keyring's, or [`VaultError::Damaged`].
    pub(crate) fn open(
        &self,
        unlock: &Unlock,
        keyring: &dyn SecretStore,
    ) -> Result<(VaultKeys, SlotKey), VaultError> {
        let (key, refused) = match (unlock, self.kind) {
            (Unlock::Passphrase(passphrase), UnlockKind::Passphrase) => {
                (stretch(passphrase, &self.salt, self.cost)?, VaultError::WrongPassphrase)
            }
            // A key from the keyring that does not fit was not mistyped.
            (Unlock::Keyring, UnlockKind::Keyring) => (keyring.get(&self.vault_id)?, DAMAGED),
            (Unlock::Passphrase(_), UnlockKind::Keyring) => return Err(VaultError::KeyringNeeded),
            (Unlock::Keyring, UnlockKind::Passphrase) => return Err(VaultError::PassphraseNeeded),
        };
        let sealed = Payload { msg: &self.sealed, aad: &aad(&self.header) };
        let plain = seal::decrypt(&key, self.nonce, sealed).ok_or(refused)?;
        let keys = VaultKeys::from_plain(&plain).ok_or(DAMAGED)?;
        let slot_key =
            SlotKey { kind: self.kind, vault_id: self.vault_id, cost: self.cost, salt: self.salt, key };
        Ok((keys, slot_key))
    }
}

/// What a slot is sealed under. It stays in memory while the vault is open, so that the state key
/// can be replaced without asking for the passphrase again.
#[derive(Clone)]
pub(crate) struct SlotKey {
    kind: UnlockKind,
    vault_id: [u8; 16],
    cost: Argon2Cost,
    salt: [u8; 16],
    key: Key,
}

impl SlotKey {
    /// What the slot is sealed under.
    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    /// Chooses id and salt of a new slot, and, for a keyring, puts a new random key there.
    ///
    /// # Errors
    /// [`VaultError::KeyringUnavailable`] or [`VaultError::NoRandomness`].
    pub(crate) fn new(
        unlock: &Unlock,
        cost: Argon2Cost,
        keyring: &dyn SecretStore,
    ) -> Result<Self, VaultError> {
        let vault_id = random::<16>()?;
        let (cost, salt, key) = match unlock {
            Unlock::Passphrase(passphrase) => {
                let salt = random::<16>()?;
                (cost, salt, stretch(passphrase, &salt, cost)?)
            }
            Unlock::Keyring => {
                let key = random_key()?;
                keyring.set(&vault_id, &key)?;
                (Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 }, [0; 16], key)
            }
        };
        Ok(Self { kind: unlock.kind(), vault_id, cost, salt, key })
    }

    /// Takes the key out of the keyring, if it is there.
    pub(crate) fn forget(&self, keyring: &dyn SecretStore) {
        if self.kind == UnlockKind::Keyring
            && let Err(error) = keyring.remove(&self.vault_id)
        {
            tracing::warn!(%error, "the old key stays in the keyring");
        }
    }

    /// The slot's file.
    ///
    /// # Errors
    /// [`VaultError::NoRandomness`].
    pub(crate) fn seal(&self, keys: &VaultKeys) -> Result<Vec<u8>, VaultError> {
        let code = match self.kind {
            UnlockKind::Passphrase => 1,
            UnlockKind::Keyring => 2,
        };
        let nonce = random::<NONCE_LENGTH>()?;
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.push(code);
        bytes.extend_from_slice(&self.vault_id);
        for cost in [self.cost.memory_kib, self.cost.passes, self.cost.lanes] {
            bytes.extend_from_slice(&cost.to_be_bytes());
        }
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&nonce);
        let plain = Payload { msg: &keys.to_plain(), aad: &aad(&bytes) };
        let sealed = seal::encrypt(&self.key, nonce, plain).ok_or(DAMAGED)?;
        bytes.extend_from_slice(&sealed);
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        Ok(bytes)
    }
}

impl std::fmt::Debug for SlotKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlotKey({:?})", self.kind)
    }
}

fn aad(header: &[u8]) -> Vec<u8> {
    Canonical::new("mildam/vault-slot/v1").bytes(header).into_bytes()
}

fn stretch(passphrase: &str, salt: &[u8; 16], cost: Argon2Cost) -> Result<Key, VaultError> {
    let params = cost.params().ok_or(DAMAGED)?;
    let mut typed = Zeroizing::new(String::with_capacity(4 * passphrase.len()));
    typed.extend(passphrase.nfc());
    let mut key = Key::default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(typed.as_bytes(), salt, key.as_mut_slice())
        .map_err(|_| DAMAGED)?;
    Ok(key)
}

/// Takes arrays off the front of a byte string.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn take_key(&mut self) -> Option<Key> {
        let (taken, rest) = self.0.split_at_checked(KEY_LENGTH)?;
        self.0 = rest;
        key_from(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    /// A keyring in memory.
    #[derive(Default)]
    struct Notebook(Mutex<BTreeMap<[u8; 16], [u8; KEY_LENGTH]>>);

    impl SecretStore for Notebook {
        fn get(&self, vault: &[u8; 16]) -> Result<Key, VaultError> {
            let notes = self.0.lock().unwrap();
            notes.get(vault).and_then(|secret| key_from(secret)).ok_or(VaultError::KeyringEntryMissing)
        }

        fn set(&self, vault: &[u8; 16], secret: &[u8; KEY_LENGTH]) -> Result<(), VaultError> {
            self.0.lock().unwrap().insert(*vault, *secret);
            Ok(())
        }

        fn remove(&self, vault: &[u8; 16]) -> Result<(), VaultError> {
            self.0.lock().unwrap().remove(vault);
            Ok(())
        }
    }

    const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Unlock {
        Unlock::Passphrase(text.to_owned().into())
    }

    fn sealed(unlock: &Unlock, keyring: &Notebook) -> (VaultKeys, Vec<u8>) {
        let keys = VaultKeys::generate().unwrap();
        let bytes = SlotKey::new(unlock, CHEAP, keyring).unwrap().seal(&keys).unwrap();
        (keys, bytes)
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let keyring = Notebook::default();
        let (_, bytes) = sealed(&passphrase("p"), &keyring);
        assert_eq!(bytes.len(), 219);
        assert_eq!(&bytes[..11], b"MILDAMKS\x00\x01\x01");
        assert_eq!(&bytes[27..39], [0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(bytes[187..], *Sha256::digest(&bytes[..187]));
        let (_, bytes) = sealed(&Unlock::Keyring, &keyring);
        assert_eq!(&bytes[..11], b"MILDAMKS\x00\x01\x02");
        assert_eq!(bytes[27..55], [0; 28]);
    }

    #[test]
    fn both_kinds_give_the_keys_back() {
        // REQ L1
        let keyring = Notebook::default();
        for unlock in [passphrase("비밀"), Unlock::Keyring] {
            let (keys, bytes) = sealed(&unlock, &keyring);
            let slot = KeySlot::parse(&bytes).unwrap();
            assert_eq!(slot.kind(), unlock.kind());
            let (opened, slot_key) = slot.open(&unlock, &keyring).unwrap();
            assert_eq!(opened.to_plain(), keys.to_plain());
            // Sealed once more, it is opened the same way.
            let next = opened.next().unwrap();
            let again = KeySlot::parse(&slot_key.seal(&next).unwrap()).unwrap();
            let (reopened, _) = again.open(&unlock, &keyring).unwrap();
            assert_eq!(reopened.to_plain(), next.to_plain());
            assert_eq!(reopened.state_generation, 2);
            assert_ne!(reopened.state, keys.state);
        }
    }

    #[test]
    fn what_does_not_open_says_why() {
        let keyring = Notebook::default();
        let (_, bytes) = sealed(&Unlock::Keyring, &keyring);
        let slot = KeySlot::parse(&bytes).unwrap();
        assert!(matches!(slot.open(&passphrase("p"), &keyring), Err(VaultError::KeyringNeeded)));
        assert!(matches!(
            slot.open(&Unlock::Keyring, &Notebook::default()),
            Err(VaultError::KeyringEntryMissing)
        ));
        let (_, bytes) = sealed(&passphrase("p"), &keyring);
        let slot = KeySlot::parse(&bytes).unwrap();
        assert!(matches!(slot.open(&Unlock::Keyring, &keyring), Err(VaultError::PassphraseNeeded)));
        assert!(matches!(slot.open(&passphrase("q"), &keyring), Err(VaultError::WrongPassphrase)));
    }

    #[test]
    fn the_header_is_bound_to_the_keys() {
        let keyring = Notebook::default();
        let (_, bytes) = sealed(&passphrase("p"), &keyring);
        // The vault id, with a checksum that fits again: only the tag can tell.
        let mut changed = bytes;
        changed[11] ^= 1;
        let checksum = Sha256::digest(&changed[..187]);
        changed[187..].copy_from_slice(&checksum);
        let slot = KeySlot::parse(&changed).unwrap();
        assert!(slot.open(&passphrase("p"), &keyring).is_err());
    }

    #[test]
    fn costs_are_bounded() {
        assert!(Argon2Cost::STRONG.params().is_some());
        for cost in [
            Argon2Cost { memory_kib: 1024 * 1024 + 1, ..CHEAP },
            Argon2Cost { memory_kib: 7, ..CHEAP },
            Argon2Cost { passes: 17, ..CHEAP },
            Argon2Cost { passes: 0, ..CHEAP },
            Argon2Cost { lanes: 5, memory_kib: 1024, ..CHEAP },
            Argon2Cost { lanes: 2, ..CHEAP },
        ] {
            assert!(cost.params().is_none(), "{cost:?}");
        }
    }

    #[test]
    fn keys_tell_nothing_in_debug() {
        insta::assert_debug_snapshot!(VaultKeys::generate().unwrap(), @"VaultKeys(generation 1)");
        let slot_key = SlotKey::new(&passphrase("p"), CHEAP, &Notebook::default()).unwrap();
        insta::assert_debug_snapshot!(slot_key, @"SlotKey(Passphrase)");
    }
}
