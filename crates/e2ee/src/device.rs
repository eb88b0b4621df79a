//! The keys of one device.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use mildam_records::bytes::Bytes;
use mildam_records::keys::{RSA_BYTES, Signature};
use mildam_records::stack::scrubbed;
use mildam_records::{
    AccountId, Canonical, Certificate, DeviceId, DeviceList, DevicePublicKey, Hash, ListSigner, LogPosition,
    PreKeyPublic, Receipt, ReceiptKind, RoomId, SignedPreKey, WrapPublicKey, attach_bytes,
};
use rand_core::CryptoRng;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rsa::{Oaep, RsaPrivateKey};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use x_wing::{DecapsulationKeyRejectNonContrib, Decapsulator, KeyExport, TryDecapsulate};
use zeroize::Zeroizing;

use crate::KeyError;
use crate::identity::{IdentityKey, generate_rsa, spki};
use crate::secret::{self, SecretBytes};
use crate::wrap::OAEP_LABEL;

/// The private half of a wrap key, RSA-3072.
pub struct WrapKey {
    key: RsaPrivateKey,
    public: WrapPublicKey,
}

impl WrapKey {
    /// Makes a new one. Takes about a second.
    ///
    /// # Errors
    /// [`KeyError::Generation`]
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, KeyError> {
        Self::from_key(generate_rsa(rng)?)
    }

    /// Reads PKCS #8 DER.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] unless it is RSA-3072 with exponent 65537.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_key(RsaPrivateKey::from_pkcs8_der(der).map_err(|_| KeyError::Malformed("wrap key"))?)
    }

    fn from_key(key: RsaPrivateKey) -> Result<Self, KeyError> {
        let public = WrapPublicKey::from_spki(&spki(&key)?).map_err(|_| KeyError::Malformed("wrap key"))?;
        Ok(Self { key, public })
    }

    /// Opens c1, blinded. `None` for any failure: the caller goes on with a random value, so that
    /// only the last tag fails and nothing tells which step did.
    pub(crate) fn decrypt(&self, c1: &[u8], rng: &mut impl CryptoRng) -> Option<Zeroizing<[u8; 32]>> {
        if c1.len() != RSA_BYTES {
            return None;
        }
        let padding = Oaep::<Sha256>::new_with_label(OAEP_LABEL);
        let plain = Zeroizing::new(self.key.decrypt_blinded(rng, padding, c1).ok()?);
        plain.as_slice().try_into().ok().map(Zeroizing::new)
    }
}

/// 32 secret bytes in one place, which is overwritten when they are dropped.
type Seed = Box<Zeroizing<[u8; 32]>>;

/// The private half of a device key, Ed25519.
///
/// It is not moved: that would leave copies on the stack.
pub struct DeviceKey(Box<SigningKey>);

impl DeviceKey {
    /// Makes a new one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Seed::default();
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// Takes the 32-byte seed of RFC 8032.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        scrubbed(|| Self(Box::new(SigningKey::from_bytes(seed))))
    }

    fn public(&self) -> Result<DevicePublicKey, KeyError> {
        DevicePublicKey::from_bytes(self.0.verifying_key().as_bytes())
            .map_err(|_| KeyError::Malformed("device key"))
    }
}

/// The private half of a prekey, X-Wing: a 32-byte seed.
pub struct PreKey {
    seed: Seed,
    public: PreKeyPublic,
}

impl PreKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`KeyError::Generation`]
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, KeyError> {
        let mut seed = Seed::default();
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// Takes the 32-byte seed that X-Wing calls the decapsulation key.
    ///
    /// # Errors
    /// [`KeyError::Generation`]
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let mut own = Seed::default();
        own.copy_from_slice(seed);
        let public = scrubbed(|| {
            let key = DecapsulationKeyRejectNonContrib::from(*seed);
            PreKeyPublic::from_bytes(&key.encapsulation_key().to_bytes()).map_err(|_| KeyError::Generation)
        })?;
        Ok(Self { seed: own, public })
    }

    #[cfg(test)]
    pub(crate) const fn public(&self) -> &PreKeyPublic {
        &self.public
    }

    pub(crate) fn decapsulate(&self, c2: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let ciphertext = c2.try_into().ok()?;
        let shared = scrubbed(|| {
            DecapsulationKeyRejectNonContrib::from(**self.seed).try_decapsulate(&ciphertext).ok()
        })?;
        Some(Zeroizing::new(shared.into()))
    }
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}
redacted!(WrapKey, DeviceKey, PreKey);

struct OwnPreKey {
    key: PreKey,
    signed: SignedPreKey,
    /// When the relay took another in its place.
    replaced_at: Option<u64>,
}

/// How long a prekey is current, in milliseconds: a day.
pub const PREKEY_TURN: u64 = 24 * 60 * 60 * 1_000;
/// How long a replaced prekey can still be of use, in milliseconds: the relay takes wraps to it for
/// 10 minutes, and 5 are for the clocks.
pub const PREKEY_GRACE: u64 = 15 * 60 * 1_000;
/// By how much a prekey's date may be ahead of the time, in milliseconds: an hour.
const PREKEY_AHEAD: u64 = 60 * 60 * 1_000;

/// Everything secret of one device, and its certificate.
pub struct DeviceSecrets {
    wrap: WrapKey,
    signer: DeviceKey,
    /// The newest prekey first, then earlier ones that may still be needed.
    prekeys: Vec<OwnPreKey>,
    certificate: Certificate,
}

impl DeviceSecrets {
    /// Joins the keys of a new device. `created_at` is milliseconds since 1970 (UTC).
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for a device key that is a weak point, which no generator makes.
    pub fn new(
        account: AccountId,
        wrap: WrapKey,
        signer: DeviceKey,
        prekey: PreKey,
        created_at: u64,
    ) -> Result<Self, KeyError> {
        let device_key = signer.public()?;
        let device = Certificate::device_id(&account, &wrap.public, &device_key);
        let mut certificate = Certificate {
            account,
            device,
            wrap_key: wrap.public.clone(),
            device_key,
            created_at,
            signature: Signature::from_bytes([0; 64]),
        };
        certificate.signature = sign(&signer, &certificate.signed_bytes());
        let mut secrets = Self { wrap, signer, prekeys: Vec::new(), certificate };
        secrets.add_prekey(prekey, created_at);
        Ok(secrets)
    }

    /// Makes a new prekey if it is time, and says which one the relay must be told: the newest, as
    /// long as the relay has not confirmed it. `published` is the one that the relay has; one that
    /// this device does not know shows that its state was put back. A prekey that was dated by a clock
    /// more than an hour ahead, and that the relay does not have, is dropped: nobody wraps to it, and
    /// the relay would not take it.
    ///
    /// # Errors
    /// [`KeyError::Generation`]
    pub fn prekey_due(
        &mut self,
        published: Option<&SignedPreKey>,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Option<&SignedPreKey>, KeyError> {
        self.drop_unpublished_ahead(published, now.saturating_add(PREKEY_AHEAD));
        let newest = self.signed_prekey().map_or(0, |signed| signed.created_at);
        let known = published.is_some_and(|published| self.prekey(&published.public.hash()).is_some());
        let late = newest.saturating_add(PREKEY_TURN) <= now;
        if (published.is_some() && !known) || late {
            let after = published.map_or(0, |published| published.created_at).max(newest);
            self.add_prekey(PreKey::generate(rng)?, now.max(after.saturating_add(1)));
        }
        let newest = self.signed_prekey();
        Ok(newest.filter(|newest| published != Some(*newest)))
    }

    /// Drops prekeys that are dated later than `limit` and newer than the published one.
    fn drop_unpublished_ahead(&mut self, published: Option<&SignedPreKey>, limit: u64) {
        let unpublished = match published {
            None => self.prekeys.len(),
            // One that this device does not know may have come after any of these.
            Some(published) => self.prekeys.iter().position(|own| own.signed == *published).unwrap_or(0),
        };
        let mut place = 0..;
        self.prekeys.retain(|own| {
            place.next().is_some_and(|place| place >= unpublished) || own.signed.created_at <= limit
        });
    }

    /// The relay has taken the newest prekey.
    pub fn prekey_confirmed(&mut self, now: u64) {
        for earlier in self.prekeys.iter_mut().skip(1) {
            earlier.replaced_at.get_or_insert(now);
        }
    }

    /// Whether a replaced prekey is past its grace, so that it is to be erased once every log was
    /// read up to now.
    #[must_use]
    pub fn has_old_prekeys(&self, now: u64) -> bool {
        self.prekeys.iter().any(|earlier| earlier.is_old(now))
    }

    /// Erases the replaced prekeys that are past their grace. Only after every log was read up to
    /// `now`, or what was wrapped to them is lost.
    pub fn drop_old_prekeys(&mut self, now: u64) {
        self.prekeys.retain(|prekey| !prekey.is_old(now));
    }

    fn add_prekey(&mut self, prekey: PreKey, created_at: u64) {
        let mut signed = SignedPreKey {
            account: self.account().clone(),
            device: self.device(),
            public: prekey.public.clone(),
            created_at,
            signature: Signature::from_bytes([0; 64]),
        };
        signed.signature = self.sign(&signed.signed_bytes());
        self.prekeys.insert(0, OwnPreKey { key: prekey, signed, replaced_at: None });
    }

    /// Whose device it is.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        &self.certificate.account
    }

    /// Its id.
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        self.certificate.device
    }

    /// Its certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its current prekey, signed.
    #[must_use]
    pub fn signed_prekey(&self) -> Option<&SignedPreKey> {
        self.prekeys.first().map(|prekey| &prekey.signed)
    }

    /// Whether this device has the private half of a prekey.
    #[must_use]
    pub fn has_prekey(&self, prekey: &SignedPreKey) -> bool {
        self.prekey(&prekey.public.hash()).is_some()
    }

    pub(crate) fn prekey(&self, hash: &Hash) -> Option<&PreKey> {
        self.prekeys.iter().map(|prekey| &prekey.key).find(|key| key.public.hash() == *hash)
    }

    pub(crate) const fn wrap_key(&self) -> &WrapKey {
        &self.wrap
    }

    pub(crate) fn sign(&self, bytes: &Canonical) -> Signature {
        sign(&self.signer, bytes)
    }

    /// Says that everything in a room up to a position arrived, or was read.
    #[must_use]
    pub fn sign_receipt(&self, room: RoomId, kind: ReceiptKind, position: LogPosition) -> Receipt {
        let mut receipt = Receipt {
            room,
            kind,
            seq: position.seq,
            hash: position.hash,
            account: self.account().clone(),
            device: self.device(),
            signature: Signature::from_bytes([0; 64]),
        };
        receipt.signature = self.sign(&receipt.signed_bytes());
        receipt
    }

    /// Proves, for a login, that this device is at the other end of the connection whose set-up
    /// has this transcript.
    #[must_use]
    pub fn sign_login_proof(&self, transcript: &Hash) -> Signature {
        self.sign(&self.certificate.login_bytes(transcript))
    }

    /// Proves, to attach the connection with this transcript to a session, that the session's device
    /// is at its other end.
    #[must_use]
    pub fn sign_attach_proof(&self, transcript: &Hash) -> Signature {
        self.sign(&attach_bytes(self.account(), &self.device(), transcript))
    }

    /// Proves, to end a recovery, that this device is at the other end of the connection, and that
    /// password record and list are its own.
    #[must_use]
    pub fn sign_recovered(&self, transcript: &Hash, password_record: &[u8], list: &Hash) -> Signature {
        self.sign(&self.certificate.recovered_bytes(transcript, password_record, list))
    }

    /// The next version of the own account's device list, with these devices. This device must
    /// stand in the present one.
    #[must_use]
    pub fn next_device_list(&self, present: &DeviceList, certificates: Vec<Certificate>) -> DeviceList {
        let mut list = DeviceList {
            version: present.version.saturating_add(1),
            previous: Some(present.hash()),
            certificates,
            signer: ListSigner::Device(self.device()),
            ..present.clone()
        };
        list.signature = Bytes(self.sign(&list.signed_bytes()).as_bytes().to_vec());
        list
    }

    /// The secrets as bytes, for the vault.
    ///
    /// # Errors
    /// [`KeyError::Primitive`] if a key cannot be encoded.
    pub fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let wrap = self.wrap.key.to_pkcs8_der().map_err(|_| KeyError::Primitive("key encoding"))?;
        let stored = Stored {
            format: FORMAT,
            account: self.account().clone(),
            created_at: self.certificate.created_at,
            wrap: wrap.as_bytes().into(),
            signer: self.signer.0.as_bytes().as_slice().into(),
            prekeys: self
                .prekeys
                .iter()
                .map(|prekey| StoredPreKey {
                    seed: prekey.key.seed.as_slice().into(),
                    created_at: prekey.signed.created_at,
                    replaced_at: prekey.replaced_at,
                })
                .collect(),
        };
        secret::to_json(&stored)
    }

    /// Reads what [`Self::to_secret_bytes`] wrote. Certificates and signatures are made again:
    /// Ed25519 is deterministic, so they are the same.
    ///
    /// # Errors
    /// [`KeyError::Malformed`]
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        scrubbed(|| Self::read(bytes))
    }

    fn read(bytes: &[u8]) -> Result<Self, KeyError> {
        let malformed = KeyError::Malformed("device secrets");
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| malformed)?;
        if stored.format != FORMAT {
            return Err(malformed);
        }
        let seed = |bytes: &SecretBytes| (**bytes).try_into().map(Zeroizing::new).map_err(|_| malformed);
        let mut prekeys = stored.prekeys.iter().rev();
        let oldest = prekeys.next().ok_or(malformed)?;
        let mut secrets = Self::new(
            stored.account.clone(),
            WrapKey::from_pkcs8(&stored.wrap)?,
            DeviceKey::from_seed(&*seed(&stored.signer)?),
            PreKey::from_seed(&*seed(&oldest.seed)?)?,
            stored.created_at,
        )?;
        secrets.prekeys.clear();
        for prekey in stored.prekeys.iter().rev() {
            secrets.add_prekey(PreKey::from_seed(&*seed(&prekey.seed)?)?, prekey.created_at);
            if let Some(newest) = secrets.prekeys.first_mut() {
                newest.replaced_at = prekey.replaced_at;
            }
        }
        Ok(secrets)
    }
}

impl fmt::Debug for DeviceSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceSecrets(.., {:?}, {:?})", self.account(), self.device())
    }
}

fn sign(signer: &DeviceKey, bytes: &Canonical) -> Signature {
    Signature::from_bytes(signer.0.sign(bytes.as_bytes()).to_bytes())
}

const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u64,
    account: AccountId,
    created_at: u64,
    wrap: SecretBytes,
    signer: SecretBytes,
    prekeys: Vec<StoredPreKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPreKey {
    seed: SecretBytes,
    created_at: u64,
    #[serde(default)]
    replaced_at: Option<u64>,
}

impl OwnPreKey {
    fn is_old(&self, now: u64) -> bool {
        self.replaced_at.is_some_and(|at| at.saturating_add(PREKEY_GRACE) <= now)
    }
}

/// Version 1 of a generation of an account's device list: one device, signed by the identity key.
///
/// # Errors
/// [`KeyError::Primitive`]
pub fn first_device_list(
    identity: &IdentityKey,
    secrets: &DeviceSecrets,
    generation: u64,
    rng: &mut impl CryptoRng,
) -> Result<DeviceList, KeyError> {
    let mut list = DeviceList {
        account: secrets.account().clone(),
        identity: identity.public().fingerprint(),
        generation,
        version: 1,
        previous: None,
        certificates: vec![secrets.certificate().clone()],
        signer: ListSigner::Identity,
        signature: Bytes::default(),
    };
    list.signature = identity.sign(list.signed_bytes().as_bytes(), rng)?.into();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, NOW, account, rng};
    use crate::wrap::{Purpose, unwrap, wrap};

    // REQ A4
    #[test]
    fn keys_that_were_just_made_work() {
        let secrets = DeviceSecrets::new(
            account("erin"),
            WrapKey::generate(&mut rng()).unwrap(),
            DeviceKey::generate(&mut rng()),
            PreKey::generate(&mut rng()).unwrap(),
            NOW,
        )
        .unwrap();
        let identity = IdentityKey::generate(&mut rng()).unwrap();
        let list = first_device_list(&identity, &secrets, 1, &mut rng()).unwrap();
        assert_eq!(list.verify(identity.public(), None), Ok(()));
        let prekey = secrets.signed_prekey().unwrap();
        assert_eq!(prekey.verify(secrets.certificate()), Ok(()));
        let room = RoomId::from_bytes([5; 32]);
        let purpose = Purpose { room: &room, epoch: 1, announcer: &secrets.device() };
        let wrapped = wrap(&[6; 32], purpose, secrets.certificate(), prekey, &mut rng()).unwrap();
        assert_eq!(*unwrap(&wrapped, purpose, &secrets, &mut rng()).unwrap(), [6; 32]);
    }

    #[test]
    fn secrets_survive_the_vault() {
        let secrets = testing::secrets("alice");
        let stored = secrets.to_secret_bytes().unwrap();
        let read = DeviceSecrets::from_secret_bytes(&stored).unwrap();
        assert_eq!(read.certificate(), secrets.certificate());
        assert_eq!(read.signed_prekey(), secrets.signed_prekey());
        assert_eq!(*read.to_secret_bytes().unwrap(), *stored);
        let mut newer: serde_json::Value = serde_json::from_slice(&stored).unwrap();
        newer["format"] = 2.into();
        assert!(DeviceSecrets::from_secret_bytes(newer.to_string().as_bytes()).is_err());
        assert!(DeviceSecrets::from_secret_bytes(&stored[1..]).is_err());
    }

    // REQ C4
    #[test]
    fn prekeys_take_turns() {
        let mut secrets = testing::secrets("alice");
        let first = secrets.signed_prekey().unwrap().clone();
        let due = |secrets: &mut DeviceSecrets, published: Option<&SignedPreKey>, now| {
            secrets.prekey_due(published, now, &mut rng()).unwrap().cloned()
        };
        assert_eq!(due(&mut secrets, Some(&first), NOW + PREKEY_TURN - 1), None);
        // A device that was just listed tells its first one.
        assert_eq!(due(&mut secrets, None, NOW), Some(first.clone()));
        let second = due(&mut secrets, Some(&first), NOW + PREKEY_TURN).unwrap();
        assert_eq!(second.verify(secrets.certificate()), Ok(()));
        assert!(second.created_at > first.created_at);
        // Not confirmed: it is told again, and nothing is erased however long it takes.
        assert_eq!(due(&mut secrets, Some(&first), NOW + PREKEY_TURN + 1), Some(second.clone()));
        assert!(!secrets.has_old_prekeys(NOW + 9 * PREKEY_TURN));
        let confirmed = NOW + PREKEY_TURN + 2;
        secrets.prekey_confirmed(confirmed);
        let mut secrets = DeviceSecrets::from_secret_bytes(&secrets.to_secret_bytes().unwrap()).unwrap();
        assert_eq!(due(&mut secrets, Some(&second), confirmed), None);
        assert!(!secrets.has_old_prekeys(confirmed + PREKEY_GRACE - 1));
        secrets.drop_old_prekeys(confirmed + PREKEY_GRACE - 1);
        assert!(secrets.prekey(&first.public.hash()).is_some());
        assert!(secrets.has_old_prekeys(confirmed + PREKEY_GRACE));
        secrets.drop_old_prekeys(confirmed + PREKEY_GRACE);
        assert!(secrets.prekey(&first.public.hash()).is_none());
        assert!(secrets.prekey(&second.public.hash()).is_some());
    }

    #[test]
    fn a_prekey_of_a_clock_that_was_ahead_is_made_anew() {
        let mut secrets = testing::secrets("alice");
        let published = secrets.signed_prekey().unwrap().clone();
        for days in [1, 3, 400, 36_500] {
            let ahead = NOW + PREKEY_TURN + days * PREKEY_TURN;
            let early = secrets.prekey_due(Some(&published), ahead, &mut rng()).unwrap().unwrap().clone();
            assert_eq!(early.created_at, ahead);
            // The clock is right again: the relay never had it, so it is gone.
            let now = NOW + PREKEY_TURN;
            let due = secrets.prekey_due(Some(&published), now, &mut rng()).unwrap().unwrap().clone();
            assert_eq!(due.created_at, now, "{days} days ahead");
            assert!(!secrets.has_prekey(&early) && secrets.has_prekey(&published));
        }
        // What the relay did take stays, and the next one follows it.
        let taken = secrets.signed_prekey().unwrap().clone();
        assert_eq!(secrets.prekey_due(Some(&taken), NOW - 400 * PREKEY_TURN, &mut rng()).unwrap(), None);
        assert!(secrets.has_prekey(&taken) && secrets.has_prekey(&published));
        // Neither has a device whose first one was dated so.
        let mut fresh = DeviceSecrets::from_secret_bytes(testing::secret_bytes("bob")).unwrap();
        let due = fresh.prekey_due(None, NOW - 30 * PREKEY_TURN, &mut rng()).unwrap().unwrap();
        assert_eq!(due.created_at, NOW - 30 * PREKEY_TURN);
    }

    // REQ C4
    #[test]
    fn a_state_that_was_put_back_makes_a_new_prekey() {
        let mut old = testing::secrets("alice");
        let mut later = testing::secrets("alice");
        let published =
            later.prekey_due(later.signed_prekey().cloned().as_ref(), NOW + PREKEY_TURN, &mut rng());
        let published = published.unwrap().unwrap().clone();
        let fresh = old.prekey_due(Some(&published), NOW, &mut rng()).unwrap().unwrap().clone();
        assert!(fresh.created_at > published.created_at);
        assert_ne!(fresh.public, published.public);
    }

    // REQ A4
    #[test]
    fn lists_follow_one_another() {
        let (identity, secrets) = (testing::identity("alice"), testing::secrets("alice"));
        let mut keys = testing::public("alice");
        let both = vec![secrets.certificate().clone(), testing::second_device("alice", "dave")];
        keys.lists.push(secrets.next_device_list(&keys.lists[0], both));
        assert_eq!(keys.verify().unwrap().certificates.len(), 2);
        // A new generation begins anew, signed by the identity key.
        keys.lists.push(first_device_list(&identity, &secrets, 2, &mut rng()).unwrap());
        assert_eq!(keys.verify().map(|list| (list.generation, list.version)), Ok((2, 1)));
        keys.lists.push(first_device_list(&identity, &secrets, 2, &mut rng()).unwrap());
        assert!(keys.verify().is_err());
        keys.lists.pop();
        keys.lists.push(first_device_list(&identity, &secrets, 1, &mut rng()).unwrap());
        assert!(keys.verify().is_err());
    }

    // REQ T6
    #[test]
    fn a_login_proof_is_for_one_connection_and_one_device() {
        let (alice, bob) = (testing::secrets("alice"), testing::secrets("bob"));
        let (transcript, other) = (Hash::from_bytes([1; 32]), Hash::from_bytes([2; 32]));
        let proof = alice.sign_login_proof(&transcript);
        assert_eq!(alice.certificate().verify_login(&transcript, &proof), Ok(()));
        assert!(alice.certificate().verify_login(&other, &proof).is_err());
        assert!(bob.certificate().verify_login(&transcript, &proof).is_err());
    }

    #[test]
    fn a_wrap_key_has_3072_bits() {
        let small = RsaPrivateKey::new(&mut rng(), 2048).unwrap().to_pkcs8_der().unwrap();
        assert!(matches!(WrapKey::from_pkcs8(small.as_bytes()), Err(KeyError::Malformed("wrap key"))));
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!(
            "{:?} {:?} {:?}",
            WrapKey::from_pkcs8(&testing::wrap_key("alice")).unwrap(),
            DeviceKey::generate(&mut rng()),
            PreKey::generate(&mut rng()).unwrap(),
        );
        assert_eq!(shown, "WrapKey(..) DeviceKey(..) PreKey(..)");
        let secrets = testing::secrets("alice");
        let expected = format!("DeviceSecrets(.., AccountId(alice), {:?})", secrets.device());
        assert_eq!(format!("{secrets:?}"), expected);
    }
}
