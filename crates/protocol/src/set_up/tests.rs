use std::sync::OnceLock;

use getrandom::SysRng;
use mildam_records::id::Hash;
use proptest::prelude::*;
use rand_core::UnwrapErr;

use super::*;
use crate::session::{ClientSession, ServerSession};

type Rng = UnwrapErr<SysRng>;

pub(crate) fn rng() -> Rng {
    UnwrapErr(SysRng)
}

pub(crate) fn server_key() -> &'static ServerKey {
    static KEY: OnceLock<ServerKey> = OnceLock::new();
    KEY.get_or_init(|| ServerKey::generate(&mut rng()).unwrap())
}

pub(crate) fn client_key() -> &'static ClientKey {
    static KEY: OnceLock<ClientKey> = OnceLock::new();
    KEY.get_or_init(|| ClientKey::generate(&mut rng()).unwrap())
}

pub(crate) fn established(
    binding: ChannelBinding,
) -> (Established<ClientSession>, Established<ServerSession>) {
    run(binding, binding, |_, _| {}).unwrap()
}

/// Plays a set-up; `meddle` may alter each frame (numbered from 1) on its way.
fn run(
    client_binding: ChannelBinding,
    server_binding: ChannelBinding,
    meddle: impl Fn(u8, &mut Vec<u8>),
) -> Result<(Established<ClientSession>, Established<ServerSession>), SetUpError> {
    let trusted = server_key().fingerprint();
    let client = client::start(trusted, client_key().clone(), client_binding);
    let (mut frame, server) = server::start(server_key(), "a relay", server_binding, &mut rng())?;
    meddle(1, &mut frame);
    let (mut frame, client) = client.handle(&frame, &mut rng())?;
    meddle(2, &mut frame);
    let (mut frame, server) = server.handle(&frame, &mut rng())?;
    meddle(3, &mut frame);
    let (mut frame, client) = client.handle(&frame, &mut rng())?;
    meddle(4, &mut frame);
    let (mut frame, server) = server.handle(&frame)?;
    meddle(5, &mut frame);
    Ok((client.handle(&frame)?, server))
}

// REQ T2
#[test]
fn both_sides_end_with_the_same_transcript() {
    let (client, server) = established(Some([3; 32]));
    assert_eq!(client.transcript, server.transcript);
    let (other, _) = established(Some([3; 32]));
    assert_ne!(client.transcript, other.transcript);
}

// REQ T2
#[test]
fn the_fields_are_the_seeds() {
    let (greeting, _) = server::start(server_key(), "a relay", None, &mut rng()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&greeting).unwrap();
    assert_eq!(json["header"]["status"], "connecting");
    assert_eq!(json["header"]["server_info"], "a relay");
    assert!(json["header"]["message"].is_string() && json["publicKey"].is_string());
    let timed_out: serde_json::Value = serde_json::from_slice(&timed_out()).unwrap();
    assert_eq!(timed_out["header"]["status"], "fail");
}

// REQ T2, T7
#[test]
fn another_servers_key_gets_no_answer() {
    let (greeting, _) = server::start(server_key(), "a relay", None, &mut rng()).unwrap();
    let client = client::start(Hash::ZERO, client_key().clone(), None);
    let found = server_key().fingerprint();
    let error = client.handle(&greeting, &mut rng()).unwrap_err();
    assert_eq!(error, SetUpError::WrongFingerprint { found });
}

// REQ T7
#[test]
fn a_machine_between_two_channels_is_noticed() {
    let error = run(Some([1; 32]), Some([2; 32]), |_, _| {}).unwrap_err();
    assert_eq!(error, SetUpError::BadSignature);
    assert_eq!(run(None, Some([2; 32]), |_, _| {}).unwrap_err(), SetUpError::BadSignature);
}

/// Alters one field of one frame's JSON.
fn with_field(frame: u8, path: &'static [&'static str], value: serde_json::Value) -> SetUpError {
    run(None, None, |number, bytes| {
        if number == frame {
            let mut json: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            let mut at = &mut json;
            for name in path {
                at = &mut at[*name];
            }
            *at = value.clone();
            *bytes = serde_json::to_vec(&json).unwrap();
        }
    })
    .unwrap_err()
}

// REQ T2, T5
#[test]
fn every_altered_field_is_refused_for_its_own_reason() {
    let hash = || serde_json::to_value(Hash::from_bytes([5; 32])).unwrap();
    let bytes = |n: usize| serde_json::to_value(mildam_records::bytes::Bytes(vec![1; n])).unwrap();
    assert_eq!(with_field(1, &["protocol"], 2.into()), SetUpError::Incompatible { theirs: 2 });
    assert_eq!(with_field(1, &["nonce"], hash()), SetUpError::BadSignature);
    assert_eq!(with_field(1, &["header", "server_info"], "x".into()), SetUpError::BadSignature);
    assert!(matches!(with_field(1, &["publicKey"], bytes(422)), SetUpError::WrongFingerprint { .. }));
    assert_eq!(with_field(1, &["extra"], 1.into()), SetUpError::Malformed("greeting"));
    assert_eq!(with_field(2, &["nonce"], hash()), SetUpError::BadSignature);
    assert_eq!(with_field(2, &["publicKey"], bytes(422)), SetUpError::BadKey);
    assert_eq!(with_field(3, &["sessionKey"], bytes(384)), SetUpError::BadSignature);
    assert_eq!(with_field(3, &["signature"], bytes(384)), SetUpError::BadSignature);
    // The header of the third frame is not signed, but both confirmations cover it.
    assert_eq!(with_field(3, &["header", "message"], "x".into()), SetUpError::BadConfirmation);
    assert_eq!(with_field(4, &["confirm"], hash()), SetUpError::BadConfirmation);
    assert!(matches!(with_field(4, &["status"], "fail".into()), SetUpError::Refused { .. }));
    assert_eq!(with_field(5, &["confirm"], hash()), SetUpError::BadConfirmation);
    let refused = SetUpError::refused("no");
    let failure = serde_json::json!({"status": "fail", "server_info": "", "message": "no"});
    let ended = run(None, None, |number, bytes| {
        if number == 3 {
            *bytes = serde_json::to_vec(&serde_json::json!({ "header": failure })).unwrap();
        }
    });
    assert_eq!(ended.unwrap_err(), refused);
}

// REQ T5
#[test]
fn a_frame_of_an_earlier_set_up_is_of_no_use() {
    for replayed in 2..=4 {
        let recorded = std::cell::RefCell::new(Vec::new());
        run(None, None, |number, bytes| {
            if number == replayed {
                recorded.replace(bytes.clone());
            }
        })
        .unwrap();
        let again = run(None, None, |number, bytes| {
            if number == replayed {
                bytes.clone_from(&recorded.borrow());
            }
        });
        assert!(again.is_err(), "frame {replayed} was taken twice");
    }
}

// REQ T2
#[test]
fn a_small_client_key_is_refused() {
    let weak = rsa::RsaPrivateKey::new(&mut rng(), 2048).unwrap();
    let spki = rsa::pkcs8::EncodePublicKey::to_public_key_der(&weak.to_public_key()).unwrap();
    let spki = mildam_records::bytes::Bytes(spki.as_bytes().to_vec());
    let error = with_field(2, &["publicKey"], serde_json::to_value(spki).unwrap());
    assert_eq!(error, SetUpError::BadKey);
}

#[test]
fn secrets_do_not_show() {
    let (client, server) = established(None);
    let shown = format!("{:?} {:?} {:?}", client, server, client_key());
    assert!(shown.contains("ClientKey(..)") && shown.contains("position: 0"));
    assert!(shown.len() < 600, "{shown}");
}

#[test]
fn keys_survive_their_file() {
    let der = server_key().to_pkcs8().unwrap();
    assert_eq!(ServerKey::from_pkcs8(&der).unwrap().fingerprint(), server_key().fingerprint());
    assert!(ServerKey::from_pkcs8(&der[1..]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_flipped_bit_passes(frame in 1_u8..=5, at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let altered = run(None, None, |number, bytes| {
            if number == frame {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
        });
        // The last frame's header is words for people and covered by nothing.
        prop_assert!(altered.is_err() || frame == 5);
    }

    #[test]
    fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let client = client::start(Hash::ZERO, client_key().clone(), None);
        prop_assert!(client.handle(&bytes, &mut rng()).is_err());
        let (_, server) = server::start(server_key(), "", None, &mut rng()).unwrap();
        prop_assert!(server.handle(&bytes, &mut rng()).is_err());
    }
}
