//! The bare primitives, as the crates give them.

use std::time::Duration;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use anyhow::{Result, anyhow};
use ed25519_dalek::{Signer as _, SigningKey};
use rand_core::Rng as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{Oaep, RsaPrivateKey};
use sha2::Sha256;
use x_wing::{
    DecapsulationKeyRejectNonContrib, Decapsulator as _, Encapsulate as _, EncapsulationKey, KeyExport as _,
    TryDecapsulate as _,
};

use crate::people::{rng, rsa};
use crate::table::{Aim, Figure, time};

/// Bytes of a short message, padded.
const PADDED: usize = 256;
/// About as many bytes as a message's header, which is its additional data and is signed.
const HEADER: usize = 512;

/// How long each takes.
pub struct Primitives {
    pub gcm_seal: Duration,
    pub gcm_open: Duration,
    pub sign: Duration,
    pub verify: Duration,
    pub rsa_encrypt: Duration,
    pub rsa_decrypt: Duration,
    pub encapsulate: Duration,
    pub decapsulate: Duration,
}

impl Primitives {
    pub fn measure() -> Result<Self> {
        let (key, iv, header, content) = ([1; 32], [2; 12], [3; HEADER], [4; PADDED]);
        let seal = |content: &[u8]| {
            let payload = Payload { msg: content, aad: &header };
            Aes256Gcm::new(&key.into()).encrypt(&iv.into(), payload).map_err(|_| anyhow!("AES-GCM"))
        };
        let sealed = seal(&content)?;
        let open = |sealed: &[u8]| {
            let payload = Payload { msg: sealed, aad: &header };
            Aes256Gcm::new(&key.into()).decrypt(&iv.into(), payload).map_err(|_| anyhow!("AES-GCM"))
        };
        let signer = SigningKey::from_bytes(&[5; 32]);
        let (signature, verifier) = (signer.sign(&header), signer.verifying_key());
        let private = RsaPrivateKey::from_pkcs8_der(&rsa("wrap")?)?;
        let public = private.to_public_key();
        let padding = || Oaep::<Sha256>::new();
        let encrypted = public.encrypt(&mut rng(), padding(), &key)?;
        let mut seed = [0; 32];
        rng().fill_bytes(&mut seed);
        // As prekeys come: keys are bytes, in which the one who wraps finds the matrix again, and a seed.
        let prekey = DecapsulationKeyRejectNonContrib::from(seed).encapsulation_key().to_bytes();
        let encapsulate = || {
            let key = EncapsulationKey::try_from(prekey.as_slice()).map_err(|_| anyhow!("X-Wing"))?;
            Ok(key.encapsulate_with_rng(&mut rng()))
        };
        let (capsule, _) = encapsulate()?;
        let decapsulate = || {
            let shared = DecapsulationKeyRejectNonContrib::from(seed).try_decapsulate(&capsule);
            shared.map_err(|_| anyhow!("X-Wing"))
        };
        let ready = || Ok(());
        Ok(Self {
            gcm_seal: time(ready, |()| seal(&content))?,
            gcm_open: time(ready, |()| open(&sealed))?,
            sign: time(ready, |()| Ok(signer.sign(&header)))?,
            verify: time(ready, |()| Ok(verifier.verify_strict(&header, &signature)?))?,
            rsa_encrypt: time(ready, |()| Ok(public.encrypt(&mut rng(), padding(), &key)?))?,
            rsa_decrypt: time(ready, |()| Ok(private.decrypt_blinded(&mut rng(), padding(), &encrypted)?))?,
            encapsulate: time(ready, |()| encapsulate())?,
            decapsulate: time(ready, |()| decapsulate())?,
        })
    }

    pub fn figures(&self) -> Vec<Figure> {
        [
            ("AES-256-GCM: seal 256 bytes", self.gcm_seal),
            ("AES-256-GCM: open 256 bytes", self.gcm_open),
            ("Ed25519: sign", self.sign),
            ("Ed25519: verify, strictly", self.verify),
            ("RSA-3072: encrypt (OAEP)", self.rsa_encrypt),
            ("RSA-3072: decrypt (OAEP), blinded", self.rsa_decrypt),
            ("X-Wing: encapsulate", self.encapsulate),
            ("X-Wing: decapsulate", self.decapsulate),
        ]
        .map(|(what, time)| Figure { what: what.to_owned(), time, primitives: None, aim: Aim::None })
        .into()
    }
}
