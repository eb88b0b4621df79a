//! Peers that are slow, broken or hostile.

use std::time::Duration;

use mildam_protocol::command::{FriendList, FriendRequest, ServerInfo};
use mildam_protocol::frame::{SESSION_LIMIT, SET_UP_LIMIT};
use mildam_protocol::records::Hash;
use mildam_protocol::set_up::{SetUpError, client};
use mildam_protocol::{Code, Event};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::client::{Client, Wire, client_key, tls};
use crate::person::{Person, code};
use crate::relay::{TestRelay, rng, server_key};

/// A set-up limit that a test can wait for. What is shown is what happens then, not when.
const SHORT: Duration = Duration::from_millis(300);

async fn still_serves(relay: &TestRelay) {
    let mut client = Client::connect(relay).await;
    client.ask(&ServerInfo {}).await.unwrap();
}

// REQ T2
#[tokio::test]
async fn the_server_speaks_first_and_in_the_form_of_the_protocol() {
    let relay = TestRelay::start_with(|config| config.name = "우리 서버".into()).await;
    let mut wire = Wire::plain(relay.plain).await;
    let greeting = wire.read_json().await;
    assert_eq!(greeting["header"]["status"], "connecting");
    assert_eq!(greeting["header"]["server_info"], "우리 서버");
    assert!(greeting["header"]["message"].is_string() && greeting["publicKey"].is_string());
    relay.stop().await;
}

// REQ T3
#[tokio::test]
async fn a_set_up_that_stalls_fails_and_is_closed() {
    let relay = TestRelay::start_with(|config| config.limits.set_up = SHORT).await;
    // After the greeting, and after the session key.
    for answers in [false, true] {
        let mut wire = Wire::plain(relay.plain).await;
        let greeting = wire.read().await.unwrap();
        if answers {
            let state = client::start(*relay.link.fingerprint(), client_key(), None);
            let (answer, _) = state.handle(&greeting, &mut rng()).unwrap();
            wire.write(&answer).await;
            wire.read().await.unwrap();
        }
        let last = wire.read_json().await;
        assert_eq!(last["header"]["status"], "fail");
        assert!(last["header"]["message"].is_string());
        assert_eq!(wire.read().await, None);
    }
    relay.stop().await;
}

// REQ T3
#[tokio::test]
async fn a_tls_handshake_that_never_comes_is_closed() {
    let relay = TestRelay::start_with(|config| config.limits.set_up = SHORT).await;
    let mut silent = TcpStream::connect(relay.tls).await.unwrap();
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
    relay.stop().await;
}

// REQ T1, T2
#[tokio::test]
async fn garbage_in_the_set_up_gets_fail() {
    let relay = TestRelay::start().await;
    let oversized = u32::try_from(SET_UP_LIMIT + 1).unwrap().to_be_bytes();
    let framed = |payload: &[u8]| mildam_protocol::frame::encode(payload).unwrap();
    let inputs = [
        oversized.to_vec(),
        vec![0xff; 64],
        vec![0; 4],
        framed(b"GET / HTTP/1.1\r\n\r\n"),
        framed(b"{}"),
        framed(br#"{"publicKey":"AAAA","nonce":"AAAA"}"#),
        framed(&[0; 9]),
    ];
    for input in inputs {
        let mut wire = Wire::plain(relay.plain).await;
        wire.read().await.unwrap();
        wire.write_raw(&input).await;
        let last = wire.read_json().await;
        assert_eq!(last["header"]["status"], "fail", "{input:?}");
        assert_eq!(wire.read().await, None);
    }
    still_serves(&relay).await;
    relay.stop().await;
}

// REQ T2, T5
#[tokio::test]
async fn a_false_confirmation_activates_nothing() {
    let relay = TestRelay::start().await;
    let mut wire = Wire::plain(relay.plain).await;
    let state = client::start(*relay.link.fingerprint(), client_key(), None);
    let (answer, _) = state.handle(&wire.read().await.unwrap(), &mut rng()).unwrap();
    wire.write(&answer).await;
    wire.read().await.unwrap();
    let false_proof = Hash::ZERO;
    let confirmation = format!(r#"{{"status":"session_key_received","confirm":"{false_proof}"}}"#);
    wire.write(confirmation.as_bytes()).await;
    assert_eq!(wire.read_json().await["header"]["status"], "fail");
    assert_eq!(wire.read().await, None);
    relay.stop().await;
}

// REQ T7
#[tokio::test]
async fn one_fingerprint_pins_tls_and_set_up() {
    let relay = TestRelay::start().await;
    let (mut wire, binding, chain) = tls(relay.tls, &[b"mildam/1"]).await.unwrap();
    // The certificate was issued by the very key that the link names.
    let spki = mildam_protocol::set_up::ServerKey::from_pkcs8(server_key()).unwrap().spki().to_vec();
    let [leaf, issuer] = chain.as_slice() else { panic!("{} certificates", chain.len()) };
    let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
    let (_, issuer) = X509Certificate::from_der(issuer).unwrap();
    assert_eq!(issuer.public_key().raw, spki);
    leaf.verify_signature(Some(issuer.public_key())).unwrap();
    assert_eq!(Sha256::digest(&spki).as_slice(), relay.link.fingerprint().as_bytes());
    // And the set-up within is bound to this TLS connection.
    let state = client::start(*relay.link.fingerprint(), client_key(), Some([1; 32]));
    let (answer, state) = state.handle(&wire.read().await.unwrap(), &mut rng()).unwrap();
    wire.write(&answer).await;
    let refused = state.handle(&wire.read().await.unwrap(), &mut rng()).unwrap_err();
    assert_eq!(refused, SetUpError::BadSignature);
    assert_ne!(binding, [1; 32]);
    relay.stop().await;
}

// REQ T1
#[tokio::test]
async fn plain_tcp_serves_the_same_protocol() {
    let relay = TestRelay::start().await;
    let mut alice = Person::with(Client::connect_plain(&relay).await, "alice");
    alice.sign_up().await.unwrap();
    assert_eq!(alice.client.ask(&FriendList {}).await.unwrap().friends, []);
    relay.stop().await;
}

// REQ T4
#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_and_the_connection_lives() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    for (command, expected) in
        [(Odd::Unknown, Code::UnknownCommand), (Odd::Fields, Code::Malformed), (Odd::Type, Code::Malformed)]
    {
        assert_eq!(odd::ask(&mut alice.client, command).await, expected);
    }
    alice.client.ask(&FriendList {}).await.unwrap();
    relay.stop().await;
}

#[derive(Clone, Copy, Debug)]
enum Odd {
    Unknown,
    Fields,
    Type,
}

/// Commands that a well-made client cannot even write.
mod odd {
    use super::{Client, Code, Odd};
    use mildam_protocol::command::{Command, Done};
    use serde::{Deserialize, Serialize};

    macro_rules! odd {
        ($name:ident, $command:literal, $data:expr) => {
            #[derive(Deserialize)]
            struct $name {}
            impl Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    $data.serialize(serializer)
                }
            }
            impl Command for $name {
                const NAME: &'static str = $command;
                const NEEDS_SESSION: bool = true;
                type Answer = Done;
            }
        };
    }
    odd!(Unknown, "make_coffee", serde_json::json!({}));
    odd!(Fields, "friend_list", serde_json::json!({ "page": 1 }));
    odd!(Type, "friend_accept", serde_json::json!({ "account": 7 }));

    pub async fn ask(client: &mut Client, odd: Odd) -> Code {
        let outcome = match odd {
            Odd::Unknown => client.ask(&Unknown {}).await,
            Odd::Fields => client.ask(&Fields {}).await,
            Odd::Type => client.ask(&Type {}).await,
        };
        crate::person::code(outcome)
    }
}

// REQ T5
#[tokio::test]
async fn an_altered_or_repeated_request_is_not_acted_on() {
    let relay = TestRelay::start().await;
    let mut bob = Person::new(&relay, "bob").await;
    for repeat in [false, true] {
        let name = if repeat { "carol" } else { "alice" };
        let mut person = Person::new(&relay, name).await;
        let request = FriendRequest { account: bob.account.clone(), greeting: String::new() };
        let (_, mut payload) = person.client.seal(&request);
        if repeat {
            person.client.wire().write(&payload).await;
        } else {
            let middle = payload.len() / 2;
            payload[middle] ^= 1;
        }
        person.client.wire().write(&payload).await;
        assert!(person.client.is_closed().await);
        let events = bob.client.events_until_now().await;
        let asked = events.iter().filter(|event| matches!(event, Event::FriendRequested { .. }));
        assert_eq!(asked.count(), usize::from(repeat));
    }
    relay.stop().await;
}

// REQ T1
#[tokio::test]
async fn an_oversized_frame_ends_the_connection_and_no_other() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    let length = u32::try_from(SESSION_LIMIT + 1).unwrap().to_be_bytes();
    alice.client.wire().write_raw(&length).await;
    assert!(alice.client.is_closed().await);
    bob.client.ask(&FriendList {}).await.unwrap();
    alice.reconnect(&relay).await;
    relay.stop().await;
}

// REQ S5
#[tokio::test]
async fn more_connections_than_allowed_are_turned_away() {
    let relay = TestRelay::start_with(|config| config.limits.connections = 1).await;
    let knock = async || {
        let mut wire = Wire::plain(relay.plain).await;
        let words = wire.read_json().await;
        (wire, words)
    };
    let mut inside = Vec::new();
    // That one, and those that are kept for the machine itself.
    for _ in 0..17 {
        let (wire, words) = knock().await;
        assert_eq!(words["header"]["status"], "connecting");
        inside.push(wire);
    }
    let (_, words) = knock().await;
    assert_eq!(words["header"]["status"], "fail");
    assert!(words["header"]["retry_after"].as_u64().unwrap() > 0, "{words}");
    drop(inside);
    while knock().await.1["header"]["status"] != "connecting" {}
    relay.stop().await;
}

// REQ S2
#[tokio::test]
async fn who_drains_answers_what_it_took() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(alice.client.send(&FriendList {}).await);
    }
    relay.begin_to_stop();
    let mut stopped = false;
    for id in ids {
        // First come answers, then at most refusals because of the stop, then nothing.
        match alice.client.answer_if_any(id).await {
            Some(Ok(_)) => assert!(!stopped, "an answer behind the end"),
            Some(refused) => {
                assert_eq!(code(refused), Code::Draining);
                stopped = true;
            }
            None => stopped = true,
        }
    }
    relay.stop().await;
}
