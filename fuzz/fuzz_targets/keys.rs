//! The public keys of an account, and the secrets and states that a vault keeps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mildam_e2ee::{DeviceSecrets, KnownAccount, Room, SealedIdentity};
use mildam_fuzz::json_reads_back;
use mildam_records::{AccountKeys, DevicePublicKey, IdentityPublicKey, PreKeyPublic, WrapPublicKey};

fuzz_target!(|bytes: &[u8]| {
    if let Some(keys) = json_reads_back::<AccountKeys>(bytes)
        && let Ok(mut known) = KnownAccount::first_contact(keys.clone())
    {
        assert_eq!(known.update(keys), Ok(false));
        let json = serde_json::to_vec(&known).expect("what is known can be written");
        assert_eq!(json_reads_back::<KnownAccount>(&json), Some(known));
    }
    if let Ok(secrets) = DeviceSecrets::from_secret_bytes(bytes) {
        let written = secrets.to_secret_bytes().expect("secrets can be written");
        let again = DeviceSecrets::from_secret_bytes(&written).expect("what was written can be read");
        assert_eq!(again.to_secret_bytes().expect("secrets can be written"), written);
    }
    if let Ok(room) = Room::from_secret_bytes(bytes) {
        let written = room.to_secret_bytes().expect("a room can be written");
        let again = Room::from_secret_bytes(&written).expect("what was written can be read");
        assert_eq!(again.to_secret_bytes().expect("a room can be written"), written);
    }
    json_reads_back::<SealedIdentity>(bytes);
    if let Ok(key) = IdentityPublicKey::from_spki(bytes) {
        assert_eq!(key.as_spki(), bytes);
    }
    if let Ok(key) = WrapPublicKey::from_spki(bytes) {
        assert_eq!(key.as_spki(), bytes);
    }
    if let Ok(key) = PreKeyPublic::from_bytes(bytes) {
        assert_eq!(key.as_bytes(), bytes);
    }
    if let Some(point) = bytes.first_chunk()
        && let Ok(key) = DevicePublicKey::from_bytes(point)
    {
        assert_eq!(key.as_bytes(), point);
    }
});
