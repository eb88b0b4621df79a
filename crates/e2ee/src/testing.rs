//! People for tests. RSA keys take about a second each to make, so theirs are fixed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use data_encoding::BASE64URL_NOPAD;
use getrandom::SysRng;
use mildam_records::{AccountId, AccountKeys, Certificate, Hash};
use rand_core::UnwrapErr;

use crate::{DeviceKey, DeviceSecrets, IdentityKey, PreKey, WrapKey, first_device_list};

pub(crate) const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];
pub(crate) const NOW: u64 = 1_700_000_000_000;

pub(crate) fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

pub(crate) fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

fn rsa(owner: &str, key: &str) -> Vec<u8> {
    static KEYS: OnceLock<BTreeMap<String, BTreeMap<String, String>>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| serde_json::from_str(include_str!("../tests/keys.json")).unwrap());
    BASE64URL_NOPAD.decode(keys[owner][key].as_bytes()).unwrap()
}

pub(crate) fn identity(owner: &str) -> IdentityKey {
    IdentityKey::from_pkcs8(&rsa(owner, "identity")).unwrap()
}

pub(crate) fn wrap_key(owner: &str) -> Vec<u8> {
    rsa(owner, "wrap")
}

fn device(account: AccountId, owner: &str) -> DeviceSecrets {
    let wrap = WrapKey::from_pkcs8(&wrap_key(owner)).unwrap();
    let (signer, prekey) = (DeviceKey::generate(&mut rng()), PreKey::generate(&mut rng()).unwrap());
    DeviceSecrets::new(account, wrap, signer, prekey, NOW).unwrap()
}

/// An account with one device, under the RSA keys of `owner`.
pub(crate) fn make(account: AccountId, owner: &str) -> (Vec<u8>, AccountKeys) {
    let (identity, secrets) = (identity(owner), device(account.clone(), owner));
    let list = first_device_list(&identity, &secrets, 1, &mut rng()).unwrap();
    let public = AccountKeys {
        account,
        identity_key: identity.public().clone(),
        lists: vec![list],
        prekeys: vec![secrets.signed_prekey().unwrap().clone()],
    };
    (secrets.to_secret_bytes().unwrap().to_vec(), public)
}

/// One more device of an account, under the RSA key of `owner`.
pub(crate) fn other_device(name: &str, owner: &str) -> DeviceSecrets {
    device(account(name), owner)
}

/// Its certificate.
pub(crate) fn second_device(name: &str, owner: &str) -> Certificate {
    other_device(name, owner).certificate().clone()
}

fn person(name: &str) -> &'static (Vec<u8>, AccountKeys) {
    static PEOPLE: OnceLock<BTreeMap<&str, (Vec<u8>, AccountKeys)>> = OnceLock::new();
    let people =
        PEOPLE.get_or_init(|| NAMES.into_iter().map(|name| (name, make(account(name), name))).collect());
    &people[name]
}

pub(crate) fn secret_bytes(name: &str) -> &'static [u8] {
    &person(name).0
}

pub(crate) fn secrets(name: &str) -> DeviceSecrets {
    DeviceSecrets::from_secret_bytes(secret_bytes(name)).unwrap()
}

pub(crate) fn public(name: &str) -> AccountKeys {
    person(name).1.clone()
}

pub(crate) fn list_hash(name: &str) -> Hash {
    person(name).1.lists[0].hash()
}
