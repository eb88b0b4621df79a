//! Floods, and those who are slow: what they get, and that others do not notice.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mildam_protocol::command::{Command, Done, FriendList, LogInStart, Ping, ServerInfo};
use mildam_protocol::frame;
use mildam_protocol::password::Login;
use mildam_protocol::session::IncomingRequest;
use mildam_protocol::{Code, Refusal};
use mildam_relay::Rate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::client::{Client, Wire};
use crate::person::{Person, account, code};
use crate::relay::{TestRelay, TestStopwatch, rng};

/// The `retry_after` of what is refused for being too much.
fn rate_limited<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> u32 {
    let refusal = outcome.unwrap_err();
    assert_eq!(refusal.code, Code::RateLimited, "{}", refusal.message);
    refusal.retry_after.unwrap()
}

fn log_in_start(name: &str) -> LogInStart {
    let (_, password) = Login::start("a password to try", &mut rng()).unwrap();
    LogInStart { account: account(name), password, device: None, proof: None }
}

/// A connection from another address of this machine.
async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// A client that is set up on a connection without TLS.
async fn client_on(stream: TcpStream, relay: &TestRelay) -> Client {
    let mut wire = Wire::over(stream);
    let established = wire.set_up(*relay.link.fingerprint(), None).await;
    Client::begin(wire, established)
}

// REQ A1, S5
#[tokio::test]
async fn a_flood_of_sign_ups_is_told_when_to_go_on_and_then_goes_on() {
    let stopwatch = TestStopwatch::default();
    let relay = TestRelay::start_with(|config| {
        config.limits.sign_ups = Rate::new(2, 1, 10);
        config.stopwatch = stopwatch.stopwatch();
    })
    .await;
    let mut alice = Person::stranger(&relay, "alice").await;
    let mut bob = Person::stranger(&relay, "bob").await;
    let mut carol = Person::stranger(&relay, "carol").await;
    alice.sign_up().await.unwrap();
    bob.sign_up().await.unwrap();
    let seconds = rate_limited(carol.sign_up().await);
    assert_eq!(seconds, 10);
    // Who has an account works on.
    alice.attach().await.unwrap();
    alice.client.ask(&FriendList {}).await.unwrap();
    stopwatch.advance(Duration::from_secs(u64::from(seconds) - 1));
    assert_eq!(rate_limited(carol.sign_up().await), 1);
    stopwatch.advance(Duration::from_secs(1));
    carol.sign_up().await.unwrap();
    relay.stop().await;
}

// REQ A3, A5, S5
#[tokio::test]
async fn passwords_are_guessed_so_often_also_on_many_connections() {
    let stopwatch = TestStopwatch::default();
    let relay = TestRelay::start_with(|config| {
        config.limits.guesses = Rate::new(3, 1, 30);
        config.stopwatch = stopwatch.stopwatch();
    })
    .await;
    Person::new(&relay, "alice").await;
    // The sign-up was one. Whether there is such an account makes no difference.
    Client::connect(&relay).await.ask(&log_in_start("nobody")).await.unwrap();
    for name in ["alice", "nobody"] {
        for _ in 0..2 {
            Client::connect(&relay).await.ask(&log_in_start(name)).await.unwrap();
        }
        let mut guesser = Client::connect(&relay).await;
        assert_eq!(rate_limited(guesser.ask(&log_in_start(name)).await), 30, "{name}");
        // The connection lives on.
        guesser.ask(&ServerInfo {}).await.unwrap();
    }
    stopwatch.advance(Duration::from_secs(30));
    Client::connect(&relay).await.ask(&log_in_start("alice")).await.unwrap();
    relay.stop().await;
}

// REQ A3, S5
#[tokio::test]
async fn what_others_try_keeps_no_device_from_logging_in() {
    let relay = TestRelay::start_with(|config| {
        config.limits.guesses = Rate::new(3, 1, 3_600);
        config.limits.account_guesses = Rate::new(3, 1, 3_600);
    })
    .await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut guesser = Client::connect(&relay).await;
    while guesser.ask(&log_in_start("alice")).await.is_ok() {}
    // With her device she shows that it is she, and neither the guesses nor her words count for her.
    alice.client = Client::connect(&relay).await;
    let plain = log_in_start("alice");
    assert_eq!(code(alice.client.ask(&plain).await), Code::RateLimited, "as clients of before log in");
    let (device, proof) = (alice.secrets.device(), alice.secrets.sign_login_proof(&alice.client.transcript));
    let shown =
        |device, proof| LogInStart { device: Some(device), proof: Some(proof), ..log_in_start("alice") };
    let other = mildam_protocol::records::DeviceId::from_bytes([7; 16]);
    assert_eq!(code(alice.client.ask(&shown(other, proof)).await), Code::RateLimited);
    alice.client.ask(&shown(device, proof)).await.unwrap();
    // A proof is for one connection.
    let old = alice.secrets.sign_login_proof(&alice.client.transcript);
    alice.client = Client::connect(&relay).await;
    assert_eq!(code(alice.client.ask(&shown(device, old)).await), Code::RateLimited);
    relay.stop().await;
}

// Not every system has more than one address of its own. REQ S5
#[cfg(not(target_os = "macos"))]
#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_at_another_address_out() {
    let relay = TestRelay::start().await;
    let mut silent = Vec::new();
    for n in 0..32 {
        let address = if n % 2 == 0 { relay.plain } else { relay.tls };
        silent.push(connect_from(Ipv4Addr::LOCALHOST, address).await);
    }
    // Without TLS the next one is told, with TLS closed at once.
    // One that got in has a greeting waiting: all of them are counted by then.
    for stream in silent.iter_mut().step_by(2) {
        stream.read_u32().await.unwrap();
    }
    let mut late = Wire::over(connect_from(Ipv4Addr::LOCALHOST, relay.plain).await);
    let words = late.read_json().await;
    assert_eq!(words["header"]["status"], "fail");
    assert!(words["header"]["retry_after"].as_u64().unwrap() > 0, "{words}");
    assert_eq!(late.read().await, None);
    let mut nothing = Vec::new();
    let mut late = connect_from(Ipv4Addr::LOCALHOST, relay.tls).await;
    late.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
    // Another address comes in, and so does this one once there is a place.
    let elsewhere = connect_from(Ipv4Addr::new(127, 0, 0, 2), relay.plain).await;
    client_on(elsewhere, &relay).await.ask(&ServerInfo {}).await.unwrap();
    drop(silent);
    loop {
        let mut wire = Wire::over(connect_from(Ipv4Addr::LOCALHOST, relay.plain).await);
        if wire.read_json().await["header"]["status"] == "connecting" {
            break;
        }
    }
    relay.stop().await;
}

// REQ S5
#[cfg(not(target_os = "macos"))]
#[tokio::test]
async fn a_thousand_slow_set_ups_from_many_addresses_keep_nobody_out() {
    let relay = TestRelay::start_with(|config| config.limits.set_up = Duration::from_secs(600)).await;
    let mut slow = Vec::new();
    for n in 0..1_000_u16 {
        let from = Ipv4Addr::new(127, u8::try_from(n % 40).unwrap() + 1, 0, 1);
        let mut wire = Wire::over(connect_from(from, relay.plain).await);
        assert_eq!(wire.read_json().await["header"]["status"], "connecting");
        // The beginning of an answer that never ends.
        wire.write_raw(&[0, 0, 2, 0, b'{']).await;
        slow.push(wire);
    }
    // All of them are still there while somebody else does what people do.
    let mut alice = Person::new(&relay, "alice").await;
    alice.client.ask(&FriendList {}).await.unwrap();
    drop(slow);
    relay.stop().await;
}

// REQ S5
#[tokio::test]
async fn a_frame_that_does_not_end_ends_the_connection_and_no_other() {
    let relay = TestRelay::start_with(|config| config.limits.frame = Duration::from_millis(200)).await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    let (_, payload) = alice.client.seal(&FriendList {});
    let bytes = frame::encode(&payload).unwrap();
    alice.client.wire().write_raw(&bytes[..bytes.len() - 1]).await;
    assert!(alice.client.is_closed().await);
    bob.client.ask(&FriendList {}).await.unwrap();
    relay.stop().await;
}

// REQ T1
#[tokio::test]
async fn requests_in_segments_of_any_length_are_answered() {
    let relay = TestRelay::start().await;
    let mut alice = Person::with(Client::connect_plain(&relay).await, "alice");
    alice.sign_up().await.unwrap();
    alice.attach().await.unwrap();
    let length = alice.client.seal(&FriendList {}).1.len();
    alice.reconnect(&relay).await;
    // One segment for each byte, and two that are cut at every place.
    for cut in 0..length + 4 {
        let (id, payload) = alice.client.seal(&FriendList {});
        let bytes = frame::encode(&payload).unwrap();
        let (one, two) = bytes.split_at(cut);
        if cut == 0 {
            for byte in &bytes {
                alice.client.wire().write_raw(&[*byte]).await;
            }
        } else {
            alice.client.wire().write_raw(one).await;
            // An answer to nothing else can come in between.
            alice.client.wire().write_raw(two).await;
        }
        alice.client.answer::<FriendList>(id).await.unwrap();
    }
    relay.stop().await;
}

/// A request with data that are nested so deep.
struct Deep(usize);

impl Serialize for Deep {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (0..self.0).fold(Value::Array(Vec::new()), |inner, _| Value::Array(vec![inner])).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Deep {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|_| Self(0))
    }
}

impl Command for Deep {
    const NAME: &'static str = "friend_list";
    const NEEDS_SESSION: bool = true;
    type Answer = Done;
}

// REQ T1, S5
#[tokio::test]
async fn json_that_is_nested_too_deep_is_refused_and_hurts_nobody() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    for depth in [100, 200, 500] {
        assert_eq!(code(alice.client.ask(&Deep(depth)).await), Code::Malformed);
    }
    alice.client.ask(&Ping {}).await.unwrap();
    // As deep as fits a frame, which our own client cannot write.
    let nest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deepest = format!(r#"{{"command":"friend_list","id":1,"data":{}}}"#, nest(1 << 22));
    let read = IncomingRequest::read(deepest.as_bytes()).unwrap().request();
    assert_eq!(read.unwrap_err().code, Code::Malformed);
    // In the set-up, in whichever place.
    for deep in [
        nest(8_000),
        format!(r#"{{"publicKey":{}}}"#, nest(8_000)),
        format!(r#"{{"header":{}}}"#, nest(8_000)),
    ] {
        let mut wire = Wire::plain(relay.plain).await;
        wire.read().await.unwrap();
        wire.write(deep.as_bytes()).await;
        assert_eq!(wire.read_json().await["header"]["status"], "fail");
        assert_eq!(wire.read().await, None);
    }
    alice.client.ask(&Ping {}).await.unwrap();
    relay.stop().await;
}
