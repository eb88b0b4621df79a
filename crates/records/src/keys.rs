//! Public keys, checked when they are imported: a key of a wrong size, exponent or kind never
//! becomes a value.

use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature as Ed25519Signature, VerifyingKey};
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};
use rsa::pss;
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, RsaPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;

use crate::canonical::Canonical;
use crate::id::Hash;

/// Why a record or a part of one is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not of the form that it must have.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A public key of a wrong size, exponent or order.
    #[error("unacceptable {0} key")]
    BadKey(&'static str),
    /// A signature that does not fit.
    #[error("signature of the {0} does not verify")]
    BadSignature(&'static str),
    /// Parts of a record that contradict each other.
    #[error("inconsistent {0}")]
    Inconsistent(&'static str),
}

/// Bits of every RSA modulus in Mildam.
pub const RSA_BITS: u32 = 3072;
/// Bytes of an RSA signature or ciphertext.
pub const RSA_BYTES: usize = 384;
/// The public exponent of every RSA key in Mildam.
pub const RSA_EXPONENT: u64 = 65_537;
/// Bytes of the salt of an RSA-PSS signature.
pub const PSS_SALT_BYTES: usize = 32;

/// Reads an RSA public key from SubjectPublicKeyInfo DER and checks size and exponent.
///
/// # Errors
/// [`RecordError::BadKey`] unless it is exactly [`RSA_BITS`] bits, e = [`RSA_EXPONENT`], and in
/// the one DER form.
pub fn rsa_from_spki(spki: &[u8], name: &'static str) -> Result<RsaPublicKey, RecordError> {
    let key = RsaPublicKey::from_public_key_der(spki).map_err(|_| RecordError::BadKey(name))?;
    let one_form = key.to_public_key_der().is_ok_and(|der| der.as_bytes() == spki);
    let fits = key.n().bits() == RSA_BITS && *key.e() == BoxedUint::from(RSA_EXPONENT);
    if one_form && fits { Ok(key) } else { Err(RecordError::BadKey(name)) }
}

macro_rules! rsa_public_key {
    ($(#[$docs:meta])* $name:ident, $label:literal, $what:literal) => {
        $(#[$docs])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name {
            spki: Vec<u8>,
            key: RsaPublicKey,
            fingerprint: Hash,
        }

        impl $name {
            /// Reads SubjectPublicKeyInfo DER (422 bytes for RSA-3072).
            ///
            /// # Errors
            /// [`RecordError::BadKey`] unless the key is RSA-3072 with e = 65537.
            pub fn from_spki(spki: &[u8]) -> Result<Self, RecordError> {
                let fingerprint = Canonical::new($label).bytes(spki).hash();
                Ok(Self { key: rsa_from_spki(spki, $what)?, spki: spki.to_vec(), fingerprint })
            }

            /// SubjectPublicKeyInfo DER.
            #[must_use]
            pub fn as_spki(&self) -> &[u8] {
                &self.spki
            }

            /// The key itself.
            #[must_use]
            pub fn as_rsa(&self) -> &RsaPublicKey {
                &self.key
            }

            /// `SHA-256(T(label, SPKI))`, 32 bytes.
            #[must_use]
            pub const fn fingerprint(&self) -> Hash {
                self.fingerprint
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.fingerprint())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.spki))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = crate::bytes::Bytes::deserialize(deserializer)?;
                Self::from_spki(&bytes).map_err(serde::de::Error::custom)
            }
        }
    };
}

rsa_public_key!(
    /// The public half of an account's identity key: RSA-3072, PSS-SHA-256 with a 32-byte salt.
    /// Its fingerprint is what contacts pin.
    IdentityPublicKey,
    "mildam/identity/v1",
    "identity"
);

rsa_public_key!(
    /// The public half of a device's wrap key: RSA-3072, OAEP-SHA-256.
    WrapPublicKey,
    "mildam/wrap-key/v1",
    "wrap"
);

impl IdentityPublicKey {
    /// Checks an RSA-PSS signature over `signed`.
    ///
    /// # Errors
    /// [`RecordError::BadSignature`] if it does not fit.
    pub fn verify(&self, signed: &[u8], signature: &[u8], what: &'static str) -> Result<(), RecordError> {
        let key = pss::VerifyingKey::<Sha256>::new_with_salt_len(self.key.clone(), PSS_SALT_BYTES);
        pss::Signature::try_from(signature)
            .and_then(|signature| key.verify(signed, &signature))
            .map_err(|_| RecordError::BadSignature(what))
    }
}

/// The public half of a device key: Ed25519, 32 bytes, never a weak point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DevicePublicKey(VerifyingKey);

impl DevicePublicKey {
    /// Reads 32 bytes.
    ///
    /// # Errors
    /// [`RecordError::BadKey`] for a point that is not on the curve, of small order, or not in its
    /// one form.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, RecordError> {
        let one_form = |key: &VerifyingKey| key.to_edwards().compress().as_bytes() == bytes;
        match VerifyingKey::from_bytes(bytes) {
            Ok(key) if !key.is_weak() && one_form(&key) => Ok(Self(key)),
            _ => Err(RecordError::BadKey("device")),
        }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Checks an Ed25519 signature strictly (no small-order or non-canonical parts).
    ///
    /// # Errors
    /// [`RecordError::BadSignature`] if it does not fit.
    pub fn verify(
        &self,
        signed: &[u8],
        signature: &Signature,
        what: &'static str,
    ) -> Result<(), RecordError> {
        self.0
            .verify_strict(signed, &Ed25519Signature::from_bytes(signature.as_bytes()))
            .map_err(|_| RecordError::BadSignature(what))
    }
}

impl std::fmt::Debug for DevicePublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DevicePublicKey({})", BASE64URL_NOPAD.encode(self.as_bytes()))
    }
}

impl Serialize for DevicePublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Hash::from_bytes(*self.as_bytes()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DevicePublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Hash::deserialize(deserializer)?;
        Self::from_bytes(bytes.as_bytes()).map_err(serde::de::Error::custom)
    }
}

crate::bytes::fixed_bytes!(
    /// An Ed25519 signature, 64 bytes.
    Signature,
    64
);

/// Bytes of an X-Wing encapsulation key.
pub const PREKEY_BYTES: usize = 1216;

/// Bytes of the coefficients at the front of it: 768 of 12 bits each (FIPS 203, section 4.2.1).
const COEFFICIENTS_BYTES: usize = 1152;
/// The modulus of ML-KEM: what every coefficient is below.
const MODULUS: u16 = 3329;

/// Whether bytes are pairs of 12-bit numbers, little-endian, each below [`MODULUS`].
fn are_reduced(coefficients: &[u8]) -> bool {
    let (triples, rest) = coefficients.as_chunks::<3>();
    rest.is_empty()
        && triples.iter().all(|triple| {
            let [low, middle, high] = triple.map(u16::from);
            (low | (middle & 0xf) << 8) < MODULUS && (middle >> 4 | high << 4) < MODULUS
        })
}

/// The public half of a prekey: an X-Wing (X25519 + ML-KEM-768) encapsulation key, 1216 bytes.
/// This type checks the length, that the ML-KEM part is in its one form (the modulus check of
/// FIPS 203), and that the X25519 part, the last 32 bytes, is not zero.
#[derive(Clone, PartialEq, Eq)]
pub struct PreKeyPublic(Box<[u8]>);

impl PreKeyPublic {
    /// Takes 1216 bytes.
    ///
    /// # Errors
    /// [`RecordError::BadKey`] for another length, an ML-KEM key that is not reduced, or a zero
    /// X25519 key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let x25519 = bytes.get(PREKEY_BYTES - 32..);
        let fits = bytes.len() == PREKEY_BYTES
            && bytes.get(..COEFFICIENTS_BYTES).is_some_and(are_reduced)
            && x25519.is_some_and(|x| x.iter().any(|b| *b != 0));
        if fits { Ok(Self(bytes.into())) } else { Err(RecordError::BadKey("prekey")) }
    }

    /// The 1216 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the bytes: what names the prekey in a wrap.
    #[must_use]
    pub fn hash(&self) -> Hash {
        use sha2::Digest;
        Hash::from_bytes(Sha256::digest(&self.0).into())
    }
}

impl std::fmt::Debug for PreKeyPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PreKeyPublic({})", self.hash())
    }
}

impl Serialize for PreKeyPublic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for PreKeyPublic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = crate::bytes::Bytes::deserialize(deserializer)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

impl FromStr for PreKeyPublic {
    type Err = RecordError;
    fn from_str(text: &str) -> Result<Self, RecordError> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| RecordError::Malformed("prekey"))?;
        Self::from_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn rsa(name: &str) -> Vec<u8> {
        let keys: BTreeMap<String, crate::bytes::Bytes> =
            serde_json::from_str(include_str!("../tests/rsa_keys.json")).unwrap();
        keys[name].to_vec()
    }

    // REQ C4
    #[test]
    fn an_rsa_key_has_3072_bits_and_the_usual_exponent() {
        let good = rsa("good");
        assert_eq!(good.len(), 422);
        assert_eq!(IdentityPublicKey::from_spki(&good).unwrap().as_spki(), good);
        for bad in ["rsa_2048", "rsa_4096", "rsa_exponent_3"] {
            let error = WrapPublicKey::from_spki(&rsa(bad)).unwrap_err();
            assert_eq!(error, RecordError::BadKey("wrap"), "{bad}");
        }
        let longer = [good.as_slice(), &[0]].concat();
        for bad in [&good[1..], &good[..421], &longer, b""] {
            assert!(IdentityPublicKey::from_spki(bad).is_err());
        }
    }

    #[test]
    fn one_key_in_two_uses_has_two_fingerprints() {
        let good = rsa("good");
        let identity = IdentityPublicKey::from_spki(&good).unwrap();
        assert_ne!(identity.fingerprint(), WrapPublicKey::from_spki(&good).unwrap().fingerprint());
    }

    // REQ C4
    #[test]
    fn weak_points_are_no_device_keys() {
        let one = {
            let mut point = [0; 32];
            point[0] = 1;
            point
        };
        let minus_one = {
            let mut point = [0xff; 32];
            point[0] = 0xec;
            point[31] = 0x7f;
            point
        };
        for weak in [[0; 32], one, minus_one, [0xff; 32]] {
            assert_eq!(DevicePublicKey::from_bytes(&weak), Err(RecordError::BadKey("device")), "{weak:?}");
        }
        let base = {
            let mut point = [0x66; 32];
            point[0] = 0x58;
            point
        };
        assert!(DevicePublicKey::from_bytes(&base).is_ok());
    }

    // REQ C4
    #[test]
    fn a_prekey_has_its_length_and_both_parts_in_order() {
        let fits = |bytes: &[u8]| PreKeyPublic::from_bytes(bytes).is_ok();
        // 3328 and 3329, first and second of a pair.
        for (pair, good) in [
            ([0x00, 0x0d, 0], true),
            ([0x01, 0x0d, 0], false),
            ([0, 0x00, 0xd0], true),
            ([0, 0x10, 0xd0], false),
        ] {
            for place in [0, COEFFICIENTS_BYTES - 3] {
                let mut key = vec![7; PREKEY_BYTES];
                key[place..place + 3].copy_from_slice(&pair);
                assert_eq!(fits(&key), good, "{pair:?}");
            }
        }
        let mut zero = vec![7; PREKEY_BYTES];
        assert!(fits(&zero) && !fits(&zero[1..]));
        zero[PREKEY_BYTES - 32..].fill(0);
        assert!(!fits(&zero));
    }
}
