//! The set-up and the session under attack, on a bare socket.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, Result, bail, ensure};
use mildam_protocol::ServerLink;
use mildam_protocol::command::{Command, Done, FriendList, ServerInfo};
use mildam_protocol::frame::{self, HEADER, SESSION_LIMIT, SET_UP_LIMIT};
use mildam_tests::{PATIENCE, Relay, Scene};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Outcome;
use crate::peer::{Peer, Step};

/// An RSA key of 2048 bits, in the form of the set-up: too short.
const SHORT_KEY: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwR128UDd1AXzXsDC4zte51koMjPUKSd9YjfDhACNHGH1\
    bI_jXp2-pZiBZjjUzNZuBPWKX65lBGbKCE3qLV3mrRNqIM-XzqmWHcBpG9Kfk_XdWLIwZ316vN0-J3LliddHLEqRTo3yXsuDxsIQ1T1E\
    8_lLUqZE47UKZp37Pk58qiaUvFgtpmpQznZ9PZlthQnfvs43JJyQ25MPsXfuIkcnhyyQ5cvRPD0d4FM3W07QmWcpyCx99Nj1gqVQusdN\
    Sln6K3tMU-rcghk0cHRLO88boUR655lu1IzExqX1mVg8rXVxevbhDngWapvX3oMM1TILnwSrY1jyX9qmzefjdX5f-QIDAQAB";

fn link(relay: &Relay) -> Result<ServerLink> {
    Ok(relay.link().parse()?)
}

/// Whatever was done to it, the relay still serves others.
fn check_well(relay: &Relay) -> Outcome {
    Peer::connect(relay)?.set_up_well(&link(relay)?)?.check()
}

// REQ T1, T2, T4: the order and the field names of the set-up, and a first request.
#[test]
fn the_server_speaks_first_and_the_session_key_is_confirmed_by_both() -> Outcome {
    let scene = Scene::start()?;
    let mut seen = Vec::new();
    let mut peer = Peer::connect(&scene.relay)?;
    let mut session = peer.set_up(&link(&scene.relay)?, &mut |step, payload| {
        seen.push((step, serde_json::from_slice::<Value>(payload).unwrap_or_default()));
    })?;
    session.check()?;
    let [greeting, answer, delivery, confirmation, success] = seen.as_slice() else {
        bail!("not five messages: {seen:?}");
    };
    let has = |(step, message): &(Step, Value), fields: &[&str]| {
        for field in fields {
            let found = message.pointer(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
            ensure!(found, "{step:?} lacks {field}: {message}");
        }
        Ok(())
    };
    has(greeting, &["/header/status", "/header/server_info", "/header/message", "/publicKey"])?;
    has(answer, &["/publicKey"])?;
    has(delivery, &["/header/status", "/sessionKey", "/signature"])?;
    has(confirmation, &["/status", "/confirm"])?;
    has(success, &["/header/status", "/confirm"])?;
    assert_eq!(greeting.1.pointer("/header/status"), Some(&json!("connecting")));
    assert_eq!(delivery.1.pointer("/header/status"), Some(&json!("connecting")));
    assert_eq!(confirmation.1.pointer("/status"), Some(&json!("session_key_received")));
    assert_eq!(success.1.pointer("/header/status"), Some(&json!("success")));
    Ok(())
}

// REQ T2: no step is skipped for a client that stops in the middle of a frame.
#[test]
fn a_set_up_that_is_cut_anywhere_gets_nothing_and_hurts_nobody() -> Outcome {
    let scene = Scene::start()?;
    let link = link(&scene.relay)?;
    let mut frames = Vec::new();
    Peer::connect(&scene.relay)?.set_up(&link, &mut |step, payload| {
        if step == Step::Answer {
            frames = frame::encode(payload).unwrap_or_default();
        }
    })?;
    ensure!(frames.len() > 500, "no client key was seen");
    for cut in sample(frames.len()) {
        let mut peer = Peer::connect(&scene.relay)?;
        peer.receive()?.context("a greeting")?;
        peer.send_bytes(frames.get(..cut).context("a prefix")?);
        peer.finish();
        let statuses = peer.statuses_to_the_end()?;
        ensure!(!statuses.contains(&"connecting".to_owned()), "cut at {cut}, yet it got a session key");
    }
    check_well(&scene.relay)
}

// REQ T2, T5: one flipped bit anywhere in what either side says, and there is no session.
#[test]
fn a_set_up_with_a_flipped_bit_never_succeeds() -> Outcome {
    let scene = Scene::start()?;
    let link = link(&scene.relay)?;
    for flipped in [Step::Greeting, Step::Answer, Step::Delivery, Step::Confirmation, Step::Success] {
        let mut length = 0;
        let mut first = 0;
        Peer::connect(&scene.relay)?.set_up(&link, &mut |step, payload| {
            if step == flipped {
                length = payload.len();
                // The words of the last message are for people; what counts is its proof.
                first = if step == Step::Success { find(payload, b"\"confirm\"") } else { 0 };
            }
        })?;
        for at in sample(length - first).map(|at| at + first) {
            let mut peer = Peer::connect(&scene.relay)?;
            let outcome = peer.set_up(&link, &mut |step, payload| {
                if let (true, Some(byte)) = (step == flipped, payload.get_mut(at)) {
                    *byte ^= 1;
                }
            });
            ensure!(outcome.is_err(), "{flipped:?} with bit 0 of byte {at} flipped was accepted");
        }
    }
    check_well(&scene.relay)
}

// REQ T5: what was said in one set-up is worth nothing in another.
#[test]
fn a_set_up_that_is_replayed_is_refused() -> Outcome {
    let scene = Scene::start()?;
    let mut said = Vec::new();
    Peer::connect(&scene.relay)?.set_up(&link(&scene.relay)?, &mut |step, payload| {
        if matches!(step, Step::Answer | Step::Confirmation) {
            said.push(payload.clone());
        }
    })?;
    let mut peer = Peer::connect(&scene.relay)?;
    for payload in &said {
        peer.receive()?.context("the relay speaks first")?;
        peer.send(payload)?;
    }
    assert_eq!(peer.statuses_to_the_end()?, ["fail"]);
    check_well(&scene.relay)
}

// REQ T3: both sides of the limit of 10 seconds: who says nothing, and who says half a frame.
#[test]
fn a_set_up_that_takes_too_long_ends_with_fail_and_a_closed_socket() -> Outcome {
    let scene = Scene::start()?;
    let mut silent = Peer::connect(&scene.relay)?;
    let mut halting = Peer::connect(&scene.relay)?;
    halting.send_bytes(&[0, 0, 2, 0, b'{']);
    // Who does not even begin TLS cannot be told anything, but is cut off too.
    let mut without_tls = TcpStream::connect(scene.relay.tls())?;
    without_tls.set_read_timeout(Some(PATIENCE))?;
    for peer in [&mut silent, &mut halting] {
        assert_eq!(peer.statuses_to_the_end()?, ["connecting", "fail"]);
    }
    assert_eq!(without_tls.read(&mut [0; 64])?, 0, "the TLS port closes the connection");
    check_well(&scene.relay)
}

// REQ T1: a length is judged before anything is kept of the payload.
#[test]
fn frames_of_no_or_too_much_length_end_the_connection() -> Outcome {
    let scene = Scene::start()?;
    for length in [0, u32::try_from(SET_UP_LIMIT)? + 1, u32::MAX] {
        let mut peer = Peer::connect(&scene.relay)?;
        peer.send_bytes(&length.to_be_bytes());
        assert_eq!(peer.statuses_to_the_end()?, ["connecting", "fail"], "length {length}");
    }
    for length in [0, u32::try_from(SESSION_LIMIT)? + 1, u32::MAX] {
        let mut peer = Peer::connect(&scene.relay)?;
        let mut session = peer.set_up_well(&link(&scene.relay)?)?;
        session.peer().send_bytes(&length.to_be_bytes());
        assert!(session.peer().receive()?.is_none(), "length {length} in a session");
    }
    check_well(&scene.relay)
}

// REQ T2: whatever comes instead of a client's key is refused in words.
#[test]
fn garbage_instead_of_a_key_is_refused() -> Outcome {
    let scene = Scene::start()?;
    let nonce = "A".repeat(43);
    let payloads: Vec<Vec<u8>> = vec![
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        "밀담".as_bytes().to_vec(),
        vec![b'['; SET_UP_LIMIT],
        json!({"publicKey": 7, "nonce": nonce}).to_string().into_bytes(),
        json!({"publicKey": "", "nonce": nonce}).to_string().into_bytes(),
        json!({"publicKey": "not base64!", "nonce": nonce}).to_string().into_bytes(),
        json!({"publicKey": SHORT_KEY, "nonce": nonce}).to_string().into_bytes(),
        json!({"status": "session_key_received"}).to_string().into_bytes(),
        json!({"status": "fail"}).to_string().into_bytes(),
    ];
    for payload in &payloads {
        let mut peer = Peer::connect(&scene.relay)?;
        peer.send(payload)?;
        let shown = String::from_utf8_lossy(payload.get(..40.min(payload.len())).unwrap_or_default());
        assert_eq!(peer.statuses_to_the_end()?, ["connecting", "fail"], "{shown}");
    }
    // Not even frames: the length reads as "GET ".
    let mut browser = Peer::connect(&scene.relay)?;
    browser.send_bytes(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n");
    assert_eq!(browser.statuses_to_the_end()?, ["connecting", "fail"]);
    let mut browser = TcpStream::connect(scene.relay.tls())?;
    browser.set_read_timeout(Some(PATIENCE))?;
    browser.write_all(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")?;
    let mut answer = Vec::new();
    // A TLS alert, or a reset: anything but an answer.
    browser.read_to_end(&mut answer).ok();
    ensure!(!answer.starts_with(b"HTTP"), "the TLS port speaks HTTP in clear");
    check_well(&scene.relay)
}

// REQ T7: a relay with another key than the link names is not spoken to.
#[test]
fn a_link_with_another_fingerprint_is_refused_before_anything_is_said() -> Outcome {
    let scene = Scene::start()?;
    let other = Relay::start(&scene.relay.data().with_file_name("other"))?;
    let right: ServerLink = link(&scene.relay)?;
    let theirs: ServerLink = link(&other)?;
    let wrong = ServerLink::new(right.host(), right.port(), *theirs.fingerprint())?.to_string();
    let mallory = scene.stranger("mallory");
    assert_eq!(mallory.refused(&["connect", &wrong])?, (1, "wrong_fingerprint".to_owned()));
    // On a bare socket the same check stands in the set-up itself.
    let mut said = 0;
    let mut peer = Peer::connect(&scene.relay)?;
    let outcome = peer.set_up(&theirs, &mut |step, _| said += usize::from(step == Step::Answer));
    ensure!(outcome.is_err() && said == 0, "a key was sent to a relay that is not trusted");
    mallory.done(&["connect", scene.relay.link()]).map(drop)
}

// REQ T7: a relay that comes back with another key at the same address is another relay.
#[test]
fn a_relay_that_comes_back_with_another_key_is_refused() -> Outcome {
    let mut scene = Scene::start()?;
    let alice = scene.alice()?;
    scene.relay.stop()?;
    let stolen = scene.relay.data().with_file_name("stolen-address");
    std::fs::rename(scene.relay.data(), &stolen)?;
    scene.relay.restart()?;
    let (_, code) = alice.refused(&["friend", "request", "bob"])?;
    assert_eq!(code, "wrong_fingerprint");
    Ok(())
}

/// Somebody between a client and the relay who has the relay's key, changes nothing and reads along.
struct Between {
    _runtime: tokio::runtime::Runtime,
    link: String,
    /// What the client and the relay have said, of each connection that is over.
    heard: Receiver<[Vec<u8>; 2]>,
}

impl Between {
    /// Passes TLS on as it is.
    fn passes_tls_on(relay: &Relay) -> Result<Self> {
        Self::start(relay, None)
    }

    /// Ends TLS on both sides, with the key from the relay's folder, and passes on what is in it.
    fn ends_tls(relay: &Relay) -> Result<Self> {
        let der = std::fs::read(relay.data().join("server-key.der"))?;
        let der = PrivatePkcs8KeyDer::from(der.as_slice());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256)?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&pair)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], der.clone_key().into())?;
        let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Careless(provider)))
            .with_no_client_auth();
        server.alpn_protocols = vec![b"mildam/1".to_vec()];
        client.alpn_protocols.clone_from(&server.alpn_protocols);
        Self::start(relay, Some((TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))))
    }

    fn start(relay: &Relay, tls: Option<(TlsAcceptor, TlsConnector)>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let port = listener.local_addr()?.port();
        let link = ServerLink::new("127.0.0.1", port, *link(relay)?.fingerprint())?.to_string();
        let upstream = relay.tls().to_owned();
        let (sender, heard) = channel();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (tls, upstream, sender) = (tls.clone(), upstream.clone(), sender.clone());
                tokio::spawn(async move {
                    let relay = tokio::net::TcpStream::connect(upstream).await?;
                    let said = match tls {
                        None => listen(client, relay).await,
                        Some((acceptor, connector)) => {
                            let name = ServerName::try_from("localhost")?;
                            let client = acceptor.accept(client).await?;
                            listen(client, connector.connect(name, relay).await?).await
                        }
                    };
                    // Nobody may want to know.
                    sender.send(said).ok();
                    anyhow::Ok(())
                });
            }
        });
        Ok(Self { _runtime: runtime, link, heard })
    }
}

async fn listen(
    client: impl AsyncRead + AsyncWrite + Unpin,
    relay: impl AsyncRead + AsyncWrite + Unpin,
) -> [Vec<u8>; 2] {
    let ((from_client, to_client), (from_relay, to_relay)) = (split(client), split(relay));
    let (client, relay) = tokio::join!(pass(from_client, to_relay), pass(from_relay, to_client));
    [client, relay]
}

/// Passes everything on, and tells in the end what it was.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> Vec<u8> {
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let read = chunk.get(..length).unwrap_or_default();
        said.extend_from_slice(read);
        if to.write_all(read).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    to.shutdown().await.ok();
    said
}

/// Takes every certificate: it knows where it connects to.
#[derive(Debug)]
pub struct Careless(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The messages of a set-up that one side has said.
fn messages(mut said: &[u8]) -> Result<Vec<Value>> {
    let mut messages = Vec::new();
    while let Some((header, rest)) = said.split_first_chunk::<HEADER>() {
        let length = frame::payload_length(*header, SET_UP_LIMIT)?;
        let (payload, rest) = rest.split_at_checked(length).context("half a frame")?;
        messages.push(serde_json::from_slice(payload)?);
        said = rest;
    }
    Ok(messages)
}

// REQ T5, T7: even who has the relay's key, and so its certificate, is no part of a TLS connection unseen: the
// set-up signs the channel in which the relay sees it.
#[test]
fn a_machine_that_ends_tls_on_both_sides_is_refused() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.stranger("alice");
    // Who only passes TLS on is a router like any other, and the same way leads to the relay.
    let router = Between::passes_tls_on(&scene.relay)?;
    alice.done(&["connect", &router.link])?;

    let bob = scene.stranger("bob");
    let between = Between::ends_tls(&scene.relay)?;
    let answer = bob.run(&["connect", &between.link], None)?;
    let (code, message) = answer.error.context("the client was not refused anything")?;
    ensure!(answer.code != 0, "{code}");
    assert_eq!(code, "set_up_failed", "{message}");
    ensure!(message.contains("signature does not verify"), "{message}");
    // TLS was made on both sides, and the set-up went on until the relay had signed.
    let [client, relay] = between.heard.recv_timeout(PATIENCE)?;
    let (client, relay) = (messages(&client)?, messages(&relay)?);
    let [greeting, delivery, ..] = relay.as_slice() else { bail!("the relay said {relay:?}") };
    ensure!(greeting.get("publicKey").is_some(), "{greeting}");
    ensure!(delivery.get("sessionKey").is_some() && delivery.get("signature").is_some(), "{delivery}");
    let [key, refusal] = client.as_slice() else { bail!("the client said {client:?}") };
    ensure!(key.get("publicKey").is_some(), "{key}");
    assert_eq!(refusal.get("status"), Some(&json!("fail")));
    check_well(&scene.relay)
}

// REQ T5: position, direction and session are bound to every frame.
#[test]
fn session_frames_that_are_replayed_reordered_or_altered_end_the_connection() -> Outcome {
    let scene = Scene::start()?;
    let link = link(&scene.relay)?;
    let info = ServerInfo {};

    let mut peer = Peer::connect(&scene.relay)?;
    let mut session = peer.set_up_well(&link)?;
    let first = session.seal(1, &info)?;
    session.peer().send(&first)?;
    ensure!(session.answer(1)?.is_ok(), "the first time it is a request like any other");
    session.peer().send(&first)?;
    assert!(session.peer().receive()?.is_none(), "replayed");

    let mut peer = Peer::connect(&scene.relay)?;
    let mut session = peer.set_up_well(&link)?;
    let (_first, second) = (session.seal(1, &info)?, session.seal(2, &info)?);
    session.peer().send(&second)?;
    assert!(session.peer().receive()?.is_none(), "reordered");

    let mut peer = Peer::connect(&scene.relay)?;
    let mut session = peer.set_up_well(&link)?;
    session.peer().send(&first)?;
    assert!(session.peer().receive()?.is_none(), "from another session");

    for at in sample(first.len()) {
        let mut peer = Peer::connect(&scene.relay)?;
        let mut session = peer.set_up_well(&link)?;
        let mut request = session.seal(1, &info)?;
        *request.get_mut(at).context("a byte")? ^= 0x80;
        session.peer().send(&request)?;
        assert!(session.peer().receive()?.is_none(), "byte {at} altered");
    }

    let mut peer = Peer::connect(&scene.relay)?;
    let mut session = peer.set_up_well(&link)?;
    let request = session.seal(1, &info)?;
    session.peer().send(&request)?;
    let answer = session.peer().receive()?.context("an answer")?;
    session.peer().send(&answer)?;
    assert!(session.peer().receive()?.is_none(), "reflected");
    check_well(&scene.relay)
}

/// A command that no relay knows.
#[derive(Serialize, Deserialize)]
struct Odd {
    word: String,
}

impl Command for Odd {
    const NAME: &'static str = "make_coffee";
    const NEEDS_SESSION: bool = false;
    type Answer = Done;
}

/// A known command with data of another form.
#[derive(Serialize, Deserialize)]
struct Malformed {
    account: u64,
}

impl Command for Malformed {
    const NAME: &'static str = "sign_up";
    const NEEDS_SESSION: bool = false;
    type Answer = Done;
}

// REQ T4, T6: what cannot be done is refused with a code, and the connection goes on.
#[test]
fn a_connection_survives_requests_that_make_no_sense() -> Outcome {
    let scene = Scene::start()?;
    let mut peer = Peer::connect(&scene.relay)?;
    let mut session = peer.set_up_well(&link(&scene.relay)?)?;
    let odd = Odd { word: "커피".to_owned() };
    assert_eq!(session.ask(7, &odd)?, Err("unknown_command".to_owned()));
    assert_eq!(session.ask(8, &Malformed { account: 7 })?, Err("malformed".to_owned()));
    assert_eq!(session.ask(9, &FriendList {})?, Err("session_required".to_owned()));
    session.check()
}

/// The first and last places, and some between that differ from run to run in nothing.
fn sample(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 24).max(1);
    (0..length).step_by(step).chain(length.checked_sub(1))
}

fn find(payload: &[u8], part: &[u8]) -> usize {
    payload.windows(part.len()).position(|window| window == part).unwrap_or_default()
}
