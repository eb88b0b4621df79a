//! A relay that is too busy to take a message.

use std::sync::Arc;

use mildam_protocol::command::{
    AccountKeysAnswer, AttachAnswer, FriendListAnswer, PresenceListAnswer, RoomListAnswer, RoomLogAnswer,
    ServerInfoAnswer, StoredAnswer,
};
use mildam_protocol::records::{AccountId, DeviceId, Message};
use mildam_protocol::session::IncomingRequest;
use mildam_protocol::session::server::{Opener, Sealer};
use mildam_protocol::set_up::{self, ServerKey};
use mildam_protocol::{Code, Refusal, Request, frame};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use crate::world::*;

/// A relay that says as little as it can: it has no rooms, knows nobody, and nothing happens.
struct QuietRelay {
    stream: TlsStream<TcpStream>,
    opener: Opener,
    sealer: Sealer,
}

fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}

async fn read(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).await.unwrap();
    let mut payload = vec![0; frame::payload_length(header, frame::SESSION_LIMIT).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    payload
}

async fn write(stream: &mut TlsStream<TcpStream>, payload: &[u8]) {
    stream.write_all(&frame::encode(payload).unwrap()).await.unwrap();
    stream.flush().await.unwrap();
}

impl QuietRelay {
    /// Takes the next client, under the key of the relay that was here before.
    async fn accept(listener: &TcpListener, key: &ServerKey) -> Self {
        let der = key.to_pkcs8().unwrap();
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(der.to_vec());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], der.into())
            .unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(tcp).await.unwrap();
        let (_, session) = stream.get_ref();
        let label = b"EXPORTER-Channel-Binding";
        let binding = session.export_keying_material([0; 32], label, Some(&[])).unwrap();
        let (greeting, state) = set_up::server::start(key, "", Some(binding), &mut rng()).unwrap();
        write(&mut stream, &greeting).await;
        let (delivery, state) = state.handle(&read(&mut stream).await, &mut rng()).unwrap();
        write(&mut stream, &delivery).await;
        let (last, established) = state.handle(&read(&mut stream).await).unwrap();
        write(&mut stream, &last).await;
        let (opener, sealer) = established.session.split();
        Self { stream, opener, sealer }
    }

    async fn answer(&mut self, id: u64, outcome: Result<Value, Refusal>) {
        let outcome = outcome.map(|value| value.to_string());
        let payload = self.sealer.answer(id, &outcome, &mut rng()).unwrap();
        write(&mut self.stream, &payload).await;
    }

    /// Answers everything until a message is sent.
    async fn until_message(&mut self) -> (u64, Message) {
        loop {
            let text = self.opener.open(read(&mut self.stream).await).unwrap();
            let incoming = IncomingRequest::read(&text).unwrap();
            let id = incoming.id;
            let value = match incoming.request().unwrap() {
                Request::MessageSend(send) => return (id, send.message),
                Request::ServerInfo(_) => serde_json::to_value(ServerInfoAnswer {
                    name: String::new(),
                    version: String::new(),
                    protocol: 1,
                    time: Ahead::default().of_now(),
                }),
                Request::Attach(_) => serde_json::to_value(AttachAnswer {
                    account: "alice".parse::<AccountId>().unwrap(),
                    device: DeviceId::from_bytes([0; DeviceId::LENGTH]),
                    expires_at: u64::MAX,
                    nickname: String::new(),
                }),
                Request::GetAccountKeys(_) => {
                    serde_json::to_value(AccountKeysAnswer { accounts: Vec::new() })
                }
                Request::PresenceList(_) => {
                    serde_json::to_value(PresenceListAnswer { visible: true, online: Vec::new() })
                }
                Request::FriendList(_) => serde_json::to_value(FriendListAnswer {
                    friends: Vec::new(),
                    incoming: Vec::new(),
                    outgoing: Vec::new(),
                }),
                Request::RoomList(_) => serde_json::to_value(RoomListAnswer { rooms: Vec::new() }),
                Request::RoomLog(_) => serde_json::to_value(RoomLogAnswer { items: Vec::new(), more: false }),
                Request::Ping(_) | Request::ReceiptSend(_) => Ok(serde_json::json!({})),
                other => panic!("an unexpected {}", other.kind().name()),
            };
            self.answer(id, Ok(value.unwrap())).await;
        }
    }
}

// REQ M3
#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_as_long_as_a_busy_relay_asks_and_goes_out_then() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let room = alice.client.open_direct("bob").await.unwrap().room;
    alice.client.send(&room, "하나").await.unwrap();
    alice.until_text("하나", MessageState::Stored).await;
    let World { folder: _folder, server } = world;
    let (data, listen) = server.stop().await;
    alice.until_connection(ConnectionState::Offline).await;
    let sent = alice.client.send(&room, "둘").await.unwrap();

    let key = ServerKey::from_pkcs8(&std::fs::read(data.join("server-key.der")).unwrap()).unwrap();
    let listener = TcpListener::bind(listen).await.unwrap();
    alice.client.reconnect_now().await;
    let mut relay = QuietRelay::accept(&listener, &key).await;
    let (id, first) = relay.until_message().await;
    let mut busy = Refusal::new(Code::RateLimited, "slow down");
    busy.retry_after = Some(1);
    let refused = Instant::now();
    relay.answer(id, Err(busy)).await;
    // Another one that is written meanwhile does not go out before it, nor makes it go out earlier.
    alice.client.send(&room, "셋").await.unwrap();
    let (id, second) = relay.until_message().await;
    assert!(refused.elapsed() >= Duration::from_secs(1), "{:?}", refused.elapsed());
    assert_eq!(second, first, "a resend is the same bytes");
    let stored = StoredAnswer { seq: 2, stored_at: 0 };
    relay.answer(id, Ok(serde_json::to_value(stored).unwrap())).await;
    let (_, third) = relay.until_message().await;
    assert_ne!(third, first);
    let page = alice.client.history(&room, None, 50).await.unwrap();
    let waiting: Vec<_> = page.messages.iter().filter(|message| message.seq.is_none()).collect();
    assert_eq!(waiting[0].id, sent.id);
    assert!(waiting.iter().all(|message| message.state == MessageState::Pending));
}
