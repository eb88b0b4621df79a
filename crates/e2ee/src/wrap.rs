//! The hybrid wrap: an epoch's room key for one device, under RSA and X-Wing together. Both must be
//! broken to open it.
//!
//! ```text
//! s1  = 32 random bytes;  c1 = RSA-OAEP-SHA-256(WrapKey, s1, label "mildam/oaep/v1")
//! (s2, c2) = X-Wing.Encapsulate(PreKey)
//! I   = T("mildam/wrap/v1", room, epoch, announcing device, receiving device, SHA-256(c1),
//!         SHA-256(c2), WrapKey fingerprint, SHA-256(PreKey))
//! KEK = HKDF-SHA-256(salt "mildam/wrap/v1", s1 || s2, I)
//! wrapped = AES-256-GCM(KEK, IV 0^12, RoomKey, AAD I)
//! ```

use mildam_records::{Canonical, Certificate, DeviceId, RoomId, SignedPreKey, Wrap};
use rand_core::CryptoRng;
use rsa::Oaep;
use sha2::{Digest, Sha256};
use x_wing::{Encapsulate, EncapsulationKey};
use zeroize::Zeroizing;

use crate::KeyError;
use crate::device::DeviceSecrets;
use crate::seal::{self, IV, Key};

pub(crate) const OAEP_LABEL: &[u8] = b"mildam/oaep/v1";
const SALT: &[u8] = b"mildam/wrap/v1";
/// Each KEK seals one key, so the IV need not differ.
const ZERO_IV: [u8; IV] = [0; IV];

/// What a wrap is for.
#[derive(Clone, Copy)]
pub(crate) struct Purpose<'a> {
    pub(crate) room: &'a RoomId,
    pub(crate) epoch: u64,
    pub(crate) announcer: &'a DeviceId,
}

impl Purpose<'_> {
    fn info(&self, receiver: &Certificate, prekey: &mildam_records::Hash, c1: &[u8], c2: &[u8]) -> Canonical {
        Canonical::new("mildam/wrap/v1")
            .bytes(self.room.as_bytes())
            .integer(self.epoch)
            .bytes(self.announcer.as_bytes())
            .bytes(receiver.device.as_bytes())
            .bytes(&Sha256::digest(c1))
            .bytes(&Sha256::digest(c2))
            .bytes(receiver.wrap_key.fingerprint().as_bytes())
            .bytes(prekey.as_bytes())
    }
}

fn kek(s1: &[u8; 32], s2: &[u8; 32], info: &Canonical) -> Result<Key, KeyError> {
    let both = Zeroizing::new([s1.as_slice(), s2.as_slice()].concat());
    seal::derive(SALT, &both, info)
}

pub(crate) fn wrap(
    room_key: &[u8; 32],
    purpose: Purpose<'_>,
    receiver: &Certificate,
    prekey: &SignedPreKey,
    rng: &mut impl CryptoRng,
) -> Result<Wrap, KeyError> {
    let mut s1 = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *s1);
    let c1 = receiver
        .wrap_key
        .as_rsa()
        .encrypt(rng, Oaep::<Sha256>::new_with_label(OAEP_LABEL), &*s1)
        .map_err(|_| KeyError::Primitive("RSA encryption"))?;
    let kem_key =
        EncapsulationKey::try_from(prekey.public.as_bytes()).map_err(|_| KeyError::Malformed("prekey"))?;
    let (c2, s2) = kem_key.encapsulate_with_rng(rng);
    let s2: Key = Zeroizing::new(s2.into());
    let hash = prekey.public.hash();
    let info = purpose.info(receiver, &hash, &c1, &c2);
    let wrapped = seal::seal(&*kek(&s1, &s2, &info)?, &ZERO_IV, room_key, &info)?;
    Ok(Wrap {
        account: receiver.account.clone(),
        device: receiver.device,
        prekey: hash,
        rsa: c1.into(),
        kem: c2.to_vec().into(),
        key: wrapped.into(),
    })
}

/// Opens a wrap. Whatever is wrong with it, the error is the same, and so is the work.
pub(crate) fn unwrap(
    wrap: &Wrap,
    purpose: Purpose<'_>,
    secrets: &DeviceSecrets,
    rng: &mut impl CryptoRng,
) -> Result<Key, KeyError> {
    let mut random = Zeroizing::new([0; 64]);
    rng.fill_bytes(&mut *random);
    let (instead1, instead2) = random.split_first_chunk::<32>().ok_or(KeyError::DoesNotOpen)?;
    let instead2 = instead2.first_chunk::<32>().ok_or(KeyError::DoesNotOpen)?;
    let s1 = secrets.wrap_key().decrypt(&wrap.rsa, rng).unwrap_or_else(|| Zeroizing::new(*instead1));
    let s2 = secrets
        .prekey(&wrap.prekey)
        .and_then(|prekey| prekey.decapsulate(&wrap.kem))
        .unwrap_or_else(|| Zeroizing::new(*instead2));
    let info = purpose.info(secrets.certificate(), &wrap.prekey, &wrap.rsa, &wrap.kem);
    let opened = seal::open(&*kek(&s1, &s2, &info)?, &ZERO_IV, &wrap.key, &info)?;
    opened.as_slice().try_into().map(Zeroizing::new).map_err(|_| KeyError::DoesNotOpen)
}
