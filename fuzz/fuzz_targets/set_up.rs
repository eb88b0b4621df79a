//! The five payloads of the set-up, each met by whom it is for. The keys are those of the vectors,
//! so their payloads come far.
#![no_main]

use std::sync::LazyLock;

use data_encoding::BASE64URL_NOPAD as B64;
use libfuzzer_sys::fuzz_target;
use mildam_fuzz::rng;
use mildam_protocol::set_up::{ClientKey, ServerKey, client, server};

static KEYS: LazyLock<(ClientKey, ServerKey)> = LazyLock::new(|| {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/vectors/protocol.json")).expect("the vectors");
    let der = |name: &str| B64.decode(vectors[name].as_str().expect("a text").as_bytes()).expect("b64");
    let client = ClientKey::danger_from_pkcs8(&der("client_key_pkcs8")).expect("a client key");
    (client, ServerKey::from_pkcs8(&der("server_key_pkcs8")).expect("a server key"))
});

fuzz_target!(|input: (u8, &[u8])| {
    let (role, payload) = input;
    let (client_key, server_key) = &*KEYS;
    let client = client::start(server_key.fingerprint(), client_key.clone(), None);
    if role % 4 == 0 {
        let _ = client.handle(payload, &mut rng());
        return;
    }
    let (greeting, server) = server::start(server_key, "fuzz", None, &mut rng()).expect("a greeting");
    if role % 4 == 1 {
        let _ = server.handle(payload, &mut rng());
        return;
    }
    let (answer, client) = client.handle(&greeting, &mut rng()).expect("an answer");
    if role % 4 == 2 {
        assert!(client.handle(payload, &mut rng()).is_err(), "a session key from nobody");
        return;
    }
    let (_, server) = server.handle(&answer, &mut rng()).expect("a session key");
    assert!(server.handle(payload).is_err(), "a confirmation from nobody");
});
