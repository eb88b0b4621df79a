//! What an account publishes: its identity key, the signed list of its devices, and their prekeys.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bytes::Bytes;
use crate::canonical::Canonical;
use crate::id::{AccountId, DeviceId, Hash};
use crate::keys::{DevicePublicKey, IdentityPublicKey, PreKeyPublic, RecordError, Signature, WrapPublicKey};

/// One device's keys, countersigned by its own device key so that nobody can list a key that is
/// not theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Whose device.
    pub account: AccountId,
    /// Its id, which follows from the keys.
    pub device: DeviceId,
    /// What room keys are wrapped to.
    pub wrap_key: WrapPublicKey,
    /// What its signatures verify under.
    pub device_key: DevicePublicKey,
    /// When it was made, in milliseconds since 1970 (UTC), by the device's clock.
    pub created_at: u64,
    /// Ed25519 by `device_key` over [`Certificate::signed_bytes`].
    pub signature: Signature,
}

impl Certificate {
    /// The id that belongs to a pair of keys.
    #[must_use]
    pub fn device_id(
        account: &AccountId,
        wrap_key: &WrapPublicKey,
        device_key: &DevicePublicKey,
    ) -> DeviceId {
        let hash = Canonical::new("mildam/device-id/v1")
            .text(account.as_str())
            .bytes(wrap_key.as_spki())
            .bytes(device_key.as_bytes())
            .hash();
        let mut id = [0; DeviceId::LENGTH];
        id.copy_from_slice(hash.as_bytes().first_chunk::<{ DeviceId::LENGTH }>().unwrap_or(&[0; 16]));
        DeviceId::from_bytes(id)
    }

    /// `T("mildam/certificate/v1", account, device, wrap key SPKI, device key, created_at)`.
    #[must_use]
    pub fn signed_bytes(&self) -> Canonical {
        Canonical::new("mildam/certificate/v1")
            .text(self.account.as_str())
            .bytes(self.device.as_bytes())
            .bytes(self.wrap_key.as_spki())
            .bytes(self.device_key.as_bytes())
            .integer(self.created_at)
    }

    /// Checks the id and the countersignature.
    ///
    /// # Errors
    /// [`RecordError::Inconsistent`] or [`RecordError::BadSignature`].
    pub fn verify(&self) -> Result<(), RecordError> {
        if Self::device_id(&self.account, &self.wrap_key, &self.device_key) != self.device {
            return Err(RecordError::Inconsistent("certificate"));
        }
        self.device_key.verify(self.signed_bytes().as_bytes(), &self.signature, "certificate")
    }
}

impl Certificate {
    /// What a device signs to log in: `T("mildam/login/v1", account, device, transcript)`, where
    /// `transcript` is the hash of the connection's set-up.
    #[must_use]
    pub fn login_bytes(&self, transcript: &Hash) -> Canonical {
        login_bytes(&self.account, &self.device, transcript)
    }

    /// What the one device of a new generation signs to end a recovery: `T("mildam/recovered/v1",
    /// account, device, transcript, SHA-256(password record), device list hash)`.
    #[must_use]
    pub fn recovered_bytes(&self, transcript: &Hash, password_record: &[u8], list: &Hash) -> Canonical {
        Canonical::new("mildam/recovered/v1")
            .text(self.account.as_str())
            .bytes(self.device.as_bytes())
            .bytes(transcript.as_bytes())
            .bytes(&Sha256::digest(password_record))
            .bytes(list.as_bytes())
    }

    /// Checks that the device is at the other end of the connection with that transcript.
    ///
    /// # Errors
    /// [`RecordError::BadSignature`]
    pub fn verify_login(&self, transcript: &Hash, proof: &Signature) -> Result<(), RecordError> {
        self.device_key.verify(self.login_bytes(transcript).as_bytes(), proof, "login proof")
    }
}

/// What [`Certificate::login_bytes`] are of a device whose certificate is not at hand.
#[must_use]
pub fn login_bytes(account: &AccountId, device: &DeviceId, transcript: &Hash) -> Canonical {
    Canonical::new("mildam/login/v1")
        .text(account.as_str())
        .bytes(device.as_bytes())
        .bytes(transcript.as_bytes())
}

/// What a device signs to attach a connection to its session: `T("mildam/attach/v1", account, device,
/// transcript)`.
#[must_use]
pub fn attach_bytes(account: &AccountId, device: &DeviceId, transcript: &Hash) -> Canonical {
    Canonical::new("mildam/attach/v1")
        .text(account.as_str())
        .bytes(device.as_bytes())
        .bytes(transcript.as_bytes())
}

/// What recovery words sign to begin: `T("mildam/recover/v1", account, transcript)`, under the
/// recovery key that follows from them.
#[must_use]
pub fn recover_bytes(account: &AccountId, transcript: &Hash) -> Canonical {
    Canonical::new("mildam/recover/v1").text(account.as_str()).bytes(transcript.as_bytes())
}

/// Who signed a device list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListSigner {
    /// The identity key: the first list of a generation.
    Identity,
    /// A device of the previous version.
    Device(DeviceId),
}

/// The devices of an account. Version 1 of a generation is signed by the identity key, version
/// v+1 by a device that stands in version v.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceList {
    /// Whose devices.
    pub account: AccountId,
    /// Fingerprint of the identity key.
    pub identity: Hash,
    /// Grows by one when the recovery words start anew; from 1.
    pub generation: u64,
    /// Grows by one with each change within a generation; from 1.
    pub version: u64,
    /// Hash of the version before; none for version 1.
    pub previous: Option<Hash>,
    /// The devices, at least one, in the order in which they were added.
    pub certificates: Vec<Certificate>,
    /// Who signed.
    pub signer: ListSigner,
    /// RSA-PSS (384 bytes) or Ed25519 (64 bytes) over [`DeviceList::signed_bytes`].
    pub signature: Bytes,
}

impl DeviceList {
    /// `T("mildam/device-list/v1", account, identity, generation, version, previous?,
    /// list of (certificate signed bytes, certificate signature), signing device?)`.
    #[must_use]
    pub fn signed_bytes(&self) -> Canonical {
        let signer = match &self.signer {
            ListSigner::Identity => None,
            ListSigner::Device(device) => Some(device.as_bytes().as_slice()),
        };
        Canonical::new("mildam/device-list/v1")
            .text(self.account.as_str())
            .bytes(self.identity.as_bytes())
            .integer(self.generation)
            .integer(self.version)
            .optional(self.previous.as_ref().map(|hash| hash.as_bytes().as_slice()))
            .list(self.certificates.iter().map(|certificate| {
                Canonical::element()
                    .bytes(certificate.signed_bytes().as_bytes())
                    .bytes(certificate.signature.as_bytes())
            }))
            .optional(signer)
    }

    /// `SHA-256(T("mildam/device-list-hash/v1", signed bytes, signature))`.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Canonical::new("mildam/device-list-hash/v1")
            .bytes(self.signed_bytes().as_bytes())
            .bytes(&self.signature)
            .hash()
    }

    /// The certificate of a device, if it is listed.
    #[must_use]
    pub fn certificate(&self, device: &DeviceId) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| certificate.device == *device)
    }

    /// Whether this list replaces another of the same account.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.generation, self.version) > (other.generation, other.version)
    }

    /// Checks everything that the list alone shows: certificates, their account, no device twice,
    /// numbering; and the signature, under the identity key or under a device of `previous`.
    ///
    /// # Errors
    /// [`RecordError`] with what does not fit.
    pub fn verify(
        &self,
        identity: &IdentityPublicKey,
        previous: Option<&DeviceList>,
    ) -> Result<(), RecordError> {
        const WHAT: &str = "device list";
        let first = self.version == 1;
        let numbered = self.generation >= 1
            && self.version >= 1
            && first == self.previous.is_none()
            && first == matches!(self.signer, ListSigner::Identity);
        let own = self.identity == identity.fingerprint()
            && !self.certificates.is_empty()
            && self.certificates.iter().enumerate().all(|(at, certificate)| {
                certificate.account == self.account
                    && self.certificates.iter().take(at).all(|other| other.device != certificate.device)
            });
        if !numbered || !own {
            return Err(RecordError::Inconsistent(WHAT));
        }
        for certificate in &self.certificates {
            certificate.verify()?;
        }
        let signed = self.signed_bytes();
        match &self.signer {
            ListSigner::Identity => identity.verify(signed.as_bytes(), &self.signature, WHAT),
            ListSigner::Device(device) => {
                let previous = previous.ok_or(RecordError::Inconsistent(WHAT))?;
                let follows = previous.account == self.account
                    && previous.generation == self.generation
                    && previous.version.checked_add(1) == Some(self.version)
                    && self.previous == Some(previous.hash());
                let signer = previous.certificate(device).filter(|_| follows);
                let signer = signer.ok_or(RecordError::Inconsistent(WHAT))?;
                let signature =
                    Signature::from_slice(&self.signature).ok_or(RecordError::BadSignature(WHAT))?;
                signer.device_key.verify(signed.as_bytes(), &signature, WHAT)
            }
        }
    }
}

/// A device's current prekey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedPreKey {
    /// Whose.
    pub account: AccountId,
    /// Which device's.
    pub device: DeviceId,
    /// The X-Wing encapsulation key.
    pub public: PreKeyPublic,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created_at: u64,
    /// Ed25519 by the device key over [`SignedPreKey::signed_bytes`].
    pub signature: Signature,
}

impl SignedPreKey {
    /// `T("mildam/prekey/v1", account, device, public, created_at)`.
    #[must_use]
    pub fn signed_bytes(&self) -> Canonical {
        Canonical::new("mildam/prekey/v1")
            .text(self.account.as_str())
            .bytes(self.device.as_bytes())
            .bytes(self.public.as_bytes())
            .integer(self.created_at)
    }

    /// Checks that it belongs to the certificate's device and is signed by it.
    ///
    /// # Errors
    /// [`RecordError`] with what does not fit.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), RecordError> {
        if self.account != certificate.account || self.device != certificate.device {
            return Err(RecordError::Inconsistent("prekey"));
        }
        certificate.device_key.verify(self.signed_bytes().as_bytes(), &self.signature, "prekey")
    }
}

/// Everything public of one account, as the relay hands it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountKeys {
    /// Whose.
    pub account: AccountId,
    /// The identity key.
    pub identity_key: IdentityPublicKey,
    /// All versions of the device list in all generations, oldest first: entries name the list of
    /// their time.
    pub lists: Vec<DeviceList>,
    /// The current prekey of each device in the newest list.
    pub prekeys: Vec<SignedPreKey>,
}

impl AccountKeys {
    /// Checks the whole chain of lists, each generation by itself, and every prekey, and gives the newest list.
    ///
    /// # Errors
    /// [`RecordError`] with the first thing that does not fit.
    pub fn verify(&self) -> Result<&DeviceList, RecordError> {
        let mut newest: Option<&DeviceList> = None;
        for list in &self.lists {
            let begins = newest.is_none_or(|newest| newest.generation < list.generation);
            let follows = list.account == self.account && begins == (list.version == 1);
            if !follows {
                return Err(RecordError::Inconsistent("account keys"));
            }
            list.verify(&self.identity_key, newest)?;
            newest = Some(list);
        }
        let newest = newest.ok_or(RecordError::Inconsistent("account keys"))?;
        for (at, prekey) in self.prekeys.iter().enumerate() {
            let certificate = newest
                .certificate(&prekey.device)
                .filter(|_| self.prekeys.iter().take(at).all(|other| other.device != prekey.device))
                .ok_or(RecordError::Inconsistent("prekeys"))?;
            prekey.verify(certificate)?;
        }
        Ok(newest)
    }

    /// The current prekey of a device.
    #[must_use]
    pub fn prekey(&self, device: &DeviceId) -> Option<&SignedPreKey> {
        self.prekeys.iter().find(|prekey| prekey.device == *device)
    }
}
