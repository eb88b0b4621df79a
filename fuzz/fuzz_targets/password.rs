//! The messages of OPAQUE, as either side gets them.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mildam_fuzz::rng;
use mildam_protocol::password::{
    LOGIN_REQUEST, LOGIN_RESPONSE, PASSWORD_RECORD, REGISTRATION_REQUEST, REGISTRATION_RESPONSE, ServerKeys,
    check_record,
};
use mildam_records::bytes::Bytes;
use mildam_records::{AccountId, Hash};

static KEYS: LazyLock<ServerKeys> = LazyLock::new(|| ServerKeys::generate(&mut rng()));

fuzz_target!(|bytes: &[u8]| {
    let account: AccountId = "alice".parse().expect("an account");
    let message = Bytes(bytes.to_vec());
    if let Ok(response) = KEYS.register(&account, &message) {
        assert_eq!((bytes.len(), response.len()), (REGISTRATION_REQUEST, REGISTRATION_RESPONSE));
    }
    if check_record(bytes).is_ok() {
        assert_eq!(bytes.len(), PASSWORD_RECORD);
    }
    let (request, record) = match bytes.split_at_checked(LOGIN_REQUEST) {
        Some((request, record)) if !record.is_empty() => (Bytes(request.to_vec()), Some(record)),
        _ => (message, None),
    };
    if let Ok((_, response)) = KEYS.answer(&account, record, &request, &Hash::ZERO, &mut rng()) {
        assert_eq!((request.len(), response.len()), (LOGIN_REQUEST, LOGIN_RESPONSE));
    }
    if let Ok(keys) = ServerKeys::from_bytes(bytes) {
        assert_eq!(keys.to_bytes().as_slice(), bytes);
    }
});
