//! What the targets share: people with keys, and reading back what was written.

use std::collections::BTreeMap;
use std::fmt::Debug;

use data_encoding::BASE64URL_NOPAD as B64;
use getrandom::SysRng;
use mildam_e2ee::{DeviceKey, DeviceSecrets, IdentityKey, KnownAccount, PreKey, WrapKey, first_device_list};
use mildam_records::json::Unambiguous;
use mildam_records::{AccountId, AccountKeys};
use rand_core::UnwrapErr;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub mod talk;

/// When everything happens, in milliseconds since 1970 (UTC).
pub const NOW: u64 = 1_700_000_000_000;

/// The operating system's random source.
pub fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// Reads a record's JSON, and checks that it is read the same again when it was written, and that
/// nothing that can be read has a key twice.
pub fn json_reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    assert!(serde_json::from_slice::<Unambiguous>(bytes).is_ok(), "a key comes twice");
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, read);
    assert_eq!(serde_json::to_vec(&again).expect("what was read can be written"), written);
    Some(read)
}

/// Somebody with an account and one device.
pub struct Person {
    /// The device's keys.
    pub secrets: DeviceSecrets,
    /// What others know of it.
    pub known: KnownAccount,
}

/// The keys of a test person: identity and wrap key as PKCS #8 DER.
fn rsa(name: &str) -> BTreeMap<String, Vec<u8>> {
    let all: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(include_str!("../../crates/e2ee/tests/keys.json")).expect("the test keys");
    all[name].iter().map(|(key, text)| (key.clone(), B64.decode(text.as_bytes()).expect("b64"))).collect()
}

impl Person {
    /// One of alice, bob, carol and dave, with the same keys in every run.
    pub fn new(name: &str) -> Self {
        let (rsa, seed) = (rsa(name), [name.as_bytes()[0]; 32]);
        let account: AccountId = name.parse().expect("an account");
        let wrap = WrapKey::from_pkcs8(&rsa["wrap"]).expect("a wrap key");
        let prekey = PreKey::from_seed(&seed).expect("a prekey");
        let secrets = DeviceSecrets::new(account.clone(), wrap, DeviceKey::from_seed(&seed), prekey, NOW)
            .expect("a device");
        let identity = IdentityKey::from_pkcs8(&rsa["identity"]).expect("an identity key");
        let keys = AccountKeys {
            account,
            identity_key: identity.public().clone(),
            lists: vec![first_device_list(&identity, &secrets, 1, &mut rng()).expect("a list")],
            prekeys: secrets.signed_prekey().cloned().into_iter().collect(),
        };
        let known = KnownAccount::first_contact(keys).expect("keys that verify");
        Self { secrets, known }
    }
}
