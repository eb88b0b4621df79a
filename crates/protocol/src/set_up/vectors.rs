//! The vectors in `docs/vectors/protocol.json`: a whole set-up and session frames in both
//! directions, from fixed keys and fixed randomness. The test computes them anew and compares;
//! `MILDAM_WRITE_VECTORS=1 cargo test -p mildam-protocol vectors` writes the file.

use std::path::PathBuf;

use mildam_records::bytes::Bytes;
use mildam_records::id::Hash;
use rand_core::{TryCryptoRng, TryRng, utils};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{ClientKey, ServerKey, client, server};
use crate::code::Code;
use crate::command::{FriendRequest, ServerInfo, SessionId};
use crate::session::{Incoming, IncomingRequest, Refusal};

/// Random bytes that anybody can make: SHA-256 over a name and a counter, block after block.
struct Counted {
    name: &'static str,
    counter: u64,
    rest: Vec<u8>,
}

impl Counted {
    fn new(name: &'static str) -> Self {
        Self { name, counter: 0, rest: Vec::new() }
    }
}

impl TryRng for Counted {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Self::Error> {
        for byte in to {
            if self.rest.is_empty() {
                let block = Sha256::new().chain_update(self.name).chain_update(self.counter.to_be_bytes());
                self.rest = block.finalize().to_vec();
                self.rest.reverse();
                self.counter += 1;
            }
            *byte = self.rest.pop().unwrap();
        }
        Ok(())
    }
}

impl TryCryptoRng for Counted {}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/protocol.json")
}

fn text(payload: &[u8]) -> Value {
    String::from_utf8(payload.to_vec()).unwrap().into()
}

fn b64(bytes: &[u8]) -> Value {
    serde_json::to_value(Bytes(bytes.to_vec())).unwrap()
}

/// Computes everything from the two keys.
fn vectors(server_pkcs8: &Bytes, client_pkcs8: &Bytes) -> Value {
    let server_key = ServerKey::from_pkcs8(server_pkcs8).unwrap();
    let client_key = ClientKey::danger_from_pkcs8(client_pkcs8).unwrap();
    let (mut of_server, mut of_client) = (Counted::new("server"), Counted::new("client"));
    let binding = Some([0x42; 32]);
    let awaiting = client::start(server_key.fingerprint(), client_key, binding);
    let (greeting, server) = server::start(&server_key, "a relay", binding, &mut of_server).unwrap();
    let (answer, awaiting) = awaiting.handle(&greeting, &mut of_client).unwrap();
    let (delivery, server) = server.handle(&answer, &mut of_server).unwrap();
    let (confirmation, awaiting) = awaiting.handle(&delivery, &mut of_client).unwrap();
    let keys = server.keys_for_vectors();
    let (success, established) = server.handle(&confirmation).unwrap();
    let transcript = established.transcript;
    let client = awaiting.handle(&success).unwrap();
    assert_eq!(client.transcript, transcript);

    let (mut opener, mut sealer) = established.session.split();
    let (mut asking, mut reading) = client.session.split();
    let session = SessionId::from_bytes([7; 32]);
    let command = FriendRequest { account: "bob".parse().unwrap(), greeting: "안녕".into() };
    let requests = [
        asking.request(1, None, &ServerInfo {}, &mut of_client).unwrap(),
        asking.request(2, Some(&session), &command, &mut of_client).unwrap(),
    ];
    for request in &requests {
        let text = opener.open(request.clone()).unwrap();
        IncomingRequest::read(&text).unwrap().request().unwrap();
    }
    let refusal = Refusal::new(Code::NotFound, "there is no such account");
    let event = r#"{"event":"friend_declined","data":{"account":"bob"}}"#;
    let answers = [
        sealer.answer(1, &Ok(r#"{"protocol":1}"#.to_owned()), &mut of_server).unwrap(),
        sealer.answer(2, &Err(refusal), &mut of_server).unwrap(),
        sealer.push(event, &mut of_server).unwrap(),
    ];
    let opened: Vec<_> = answers.iter().map(|answer| reading.open(answer).unwrap()).collect();
    assert!(matches!(&opened[2], Incoming::Push(_)));

    json!({
        "about": "A set-up and session frames from fixed keys. Random bytes of a side are the blocks \
                  SHA-256(name || u64 big-endian counter) from 0 on, name \"server\" or \"client\". \
                  Byte strings are base64url; texts are payloads of frames, without the length.",
        "server_key_pkcs8": server_pkcs8,
        "client_key_pkcs8": client_pkcs8,
        "server_fingerprint": server_key.fingerprint(),
        "channel_binding": b64(&[0x42; 32]),
        "set_up": {
            "1_server_greeting": text(&greeting),
            "2_client_key": text(&answer),
            "3_session_key": text(&delivery),
            "4_client_confirmation": text(&confirmation),
            "5_server_confirmation": text(&success),
            "transcript": transcript,
            "client_to_server_key": b64(&keys[0]),
            "server_to_client_key": b64(&keys[1]),
            "client_confirm_key": b64(&keys[2]),
            "server_confirm_key": b64(&keys[3]),
        },
        "session": {
            "requests": [
                {"plain": r#"{"command":"server_info","id":1,"data":{}}"#, "payload": b64(&requests[0])},
                {"plain": format!(
                    r#"{{"command":"friend_request","id":2,"session":"{}","data":{{"account":"bob","greeting":"안녕"}}}}"#,
                    Hash::from_bytes([7; 32])
                ), "payload": b64(&requests[1])},
            ],
            "answers": [
                {"plain": r#"{"protocol":1}"#, "payload": text(&answers[0])},
                {"plain": "", "payload": text(&answers[1])},
                {"plain": event, "payload": text(&answers[2])},
            ],
        },
    })
}

// REQ T2, T4
#[test]
fn the_vectors_are_the_ones_in_the_docs() {
    if std::env::var_os("MILDAM_WRITE_VECTORS").is_some() {
        let known: Option<Value> =
            std::fs::read(file()).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap());
        let key =
            |name: &str| known.as_ref().map(|known| serde_json::from_value(known[name].clone()).unwrap());
        let server = key("server_key_pkcs8").unwrap_or_else(|| {
            Bytes(ServerKey::generate(&mut super::tests::rng()).unwrap().to_pkcs8().unwrap().to_vec())
        });
        let client = key("client_key_pkcs8").unwrap_or_else(|| {
            Bytes(ServerKey::generate(&mut super::tests::rng()).unwrap().to_pkcs8().unwrap().to_vec())
        });
        let written = serde_json::to_string_pretty(&vectors(&server, &client)).unwrap();
        std::fs::write(file(), written + "\n").unwrap();
    }
    let read: Value = serde_json::from_slice(&std::fs::read(file()).unwrap()).unwrap();
    let key = |name: &str| serde_json::from_value::<Bytes>(read[name].clone()).unwrap();
    let computed = vectors(&key("server_key_pkcs8"), &key("client_key_pkcs8"));
    assert_eq!(computed, read);
    // The plain texts are what the requests really hold.
    for request in read["session"]["requests"].as_array().unwrap() {
        assert!(serde_json::from_str::<Value>(request["plain"].as_str().unwrap()).unwrap()["id"].is_u64());
    }
}

/// The text and the program name the same commands, events, codes and version.
#[test]
fn the_text_names_what_the_program_knows() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let text = std::fs::read_to_string(path).unwrap();
    let headed = |prefix: &str| -> std::collections::BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(prefix)?.strip_suffix('`'));
        lines.map(str::to_owned).collect()
    };
    let commands = headed("### `");
    let known = crate::command::Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(commands, known);
    for code in Code::ALL {
        assert!(text.contains(&format!("| `{code}` |")), "{code} is not in the table of codes");
    }
    for event in [
        "log",
        "receipt",
        "friend_requested",
        "friend_accepted",
        "friend_declined",
        "keys_changed",
        "catch_up",
        "session_ended",
        "device_removed",
    ] {
        assert!(text.contains(&format!("| `{event}` |")), "{event} is not in the table of events");
    }
    assert!(text.contains(&format!("Version {} of the protocol", super::PROTOCOL_VERSION)));
}
