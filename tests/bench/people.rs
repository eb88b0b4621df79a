//! Accounts by the thousand. An RSA key takes about a second to make, so all of them have the test
//! keys of one; everything else is their own.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use data_encoding::BASE64URL_NOPAD as B64;
use ed25519_dalek::{Signer as _, SigningKey};
use getrandom::SysRng;
use mildam_e2ee::records::keys::Signature;
use mildam_e2ee::records::{AccountId, AccountKeys, Canonical};
use mildam_e2ee::{DeviceKey, DeviceSecrets, IdentityKey, KnownAccount, PreKey, WrapKey, first_device_list};
use rand_core::{Rng as _, UnwrapErr};

/// When everything happens, in milliseconds since 1970 (UTC).
pub const NOW: u64 = 1_700_000_000_000;

/// The operating system's random source.
pub fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// PKCS #8 DER of a test key.
pub fn rsa(key: &str) -> Result<Vec<u8>> {
    let keys: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(include_str!("../../crates/e2ee/tests/keys.json"))?;
    let text = keys.get("alice").and_then(|keys| keys.get(key)).context("no such test key")?;
    Ok(B64.decode(text.as_bytes())?)
}

/// An account with one device, and that device's hand.
pub struct Person {
    pub secrets: DeviceSecrets,
    signer: SigningKey,
}

impl Person {
    fn new(account: AccountId, wrap: &[u8]) -> Result<Self> {
        let mut seed = [0; 32];
        rng().fill_bytes(&mut seed);
        let (wrap, prekey) = (WrapKey::from_pkcs8(wrap)?, PreKey::generate(&mut rng())?);
        let secrets = DeviceSecrets::new(account, wrap, DeviceKey::from_seed(&seed), prekey, NOW)?;
        Ok(Self { secrets, signer: SigningKey::from_bytes(&seed) })
    }

    pub fn sign(&self, bytes: &Canonical) -> Signature {
        Signature::from_bytes(self.signer.sign(bytes.as_bytes()).to_bytes())
    }

    fn known(&self, identity: &IdentityKey) -> Result<KnownAccount> {
        let list = first_device_list(identity, &self.secrets, 1, &mut rng())?;
        let prekey = self.secrets.signed_prekey().context("a device has a prekey")?;
        Ok(KnownAccount::first_contact(AccountKeys {
            account: self.secrets.account().clone(),
            identity_key: identity.public().clone(),
            lists: vec![list],
            prekeys: vec![prekey.clone()],
        })?)
    }
}

/// Many people who know each other, sorted by account.
pub struct Crowd {
    pub people: Vec<Person>,
    pub directory: BTreeMap<AccountId, KnownAccount>,
}

impl Crowd {
    pub fn new(size: usize) -> Result<Self> {
        let (identity, wrap) = (IdentityKey::from_pkcs8(&rsa("identity")?)?, rsa("wrap")?);
        let mut people = Vec::new();
        let mut directory = BTreeMap::new();
        for number in 0..size {
            let person = Person::new(format!("person{number:04}").parse()?, &wrap)?;
            directory.insert(person.secrets.account().clone(), person.known(&identity)?);
            people.push(person);
        }
        Ok(Self { people, directory })
    }
}
