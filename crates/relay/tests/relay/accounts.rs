//! Accounts and sessions.

use mildam_protocol::command::{
    Attach, FriendList, LogOut, MAX_SEALED_IDENTITY, Ping, RoomList, ServerInfo, SessionId, SignUp,
};
use mildam_protocol::records::bytes::Bytes;
use mildam_protocol::records::keys::Signature;
use mildam_protocol::{Code, Event};
use mildam_relay::Clock;

use crate::client::Client;
use crate::person::{Person, account, code, password};
use crate::relay::{TestClock, TestRelay, files};

// REQ A1, A4, T6
#[tokio::test]
async fn a_new_account_gets_a_session_that_survives_the_connection() {
    let relay = TestRelay::start().await;
    let mut alice = Person::stranger(&relay, "alice").await;
    alice.sign_up().await.unwrap();
    let attached = alice.attach().await.unwrap();
    assert_eq!(attached.account, alice.account);
    assert_eq!(attached.device, alice.secrets.device());
    assert_eq!(attached.nickname, "alice 님");
    let relay = relay.restart().await;
    alice.reconnect(&relay).await;
    assert_eq!(alice.client.ask(&FriendList {}).await.unwrap().friends, []);
    relay.stop().await;
}

// REQ T6
#[tokio::test]
async fn what_needs_no_authority_needs_no_session_and_the_rest_does() {
    let relay = TestRelay::start().await;
    let mut client = Client::connect(&relay).await;
    let info = client.ask(&ServerInfo {}).await.unwrap();
    assert_eq!((info.protocol, info.version.as_str()), (1, env!("CARGO_PKG_VERSION")));
    assert_eq!(code(client.ask(&FriendList {}).await), Code::SessionRequired);
    let attach = Attach { proof: Signature::from_bytes([0; Signature::LENGTH]) };
    assert_eq!(code(client.ask(&attach).await), Code::SessionRequired);
    client.session = Some(SessionId::from_bytes([7; 32]));
    assert_eq!(code(client.ask(&FriendList {}).await), Code::SessionExpired);
    assert_eq!(code(client.ask(&attach).await), Code::SessionExpired);
    client.ask(&Ping {}).await.unwrap();
    relay.stop().await;
}

// REQ T6
#[tokio::test]
async fn sessions_expire() {
    let relay = TestRelay::start_with(|config| config.limits.session = std::time::Duration::ZERO).await;
    let mut alice = Person::stranger(&relay, "alice").await;
    alice.sign_up().await.unwrap();
    assert_eq!(code(alice.attach().await), Code::SessionExpired);
    assert_eq!(code(alice.client.ask(&RoomList {}).await), Code::SessionExpired);
    relay.stop().await;
}

// REQ A4: sessions age by the time that the relay is at work.
#[tokio::test]
async fn a_session_does_not_age_while_the_relay_is_off() {
    const DAYS_60: u64 = 60 * 24 * 60 * 60 * 1000;
    let clock = TestClock::new();
    let relay = TestRelay::start_with(|config| config.clock = clock.clock()).await;
    let mut alice = Person::new(&relay, "alice").await;
    let folder = relay.stop().await;
    clock.advance(DAYS_60);
    let relay = TestRelay::start_in(folder, |config| config.clock = clock.clock()).await;
    alice.reconnect(&relay).await;
    assert_eq!(alice.client.ask(&RoomList {}).await.unwrap().rooms, []);
    // While it is at work, it does.
    clock.advance(DAYS_60);
    assert_eq!(code(alice.client.ask(&RoomList {}).await), Code::SessionExpired);
    relay.stop().await;
}

// REQ A4
#[tokio::test]
async fn a_session_outlives_a_clock_that_jumps_ahead() {
    let clock = TestClock::new();
    let jumping = clock.clone();
    let watched = Clock::watched(move || jumping.now(), || 0);
    let relay = TestRelay::start_with(|config| config.clock = watched.clone()).await;
    let mut alice = Person::new(&relay, "alice").await;
    clock.advance(60 * 24 * 60 * 60 * 1000);
    assert_eq!(alice.client.ask(&RoomList {}).await.unwrap().rooms, []);
    relay.stop().await;
}

// REQ A1
#[tokio::test]
async fn ids_are_unique_and_an_address_tells_of_nobody() {
    let relay = TestRelay::start().await;
    let alice = Person::new(&relay, "alice").await;
    let mut bob = Person::stranger(&relay, "bob").await;
    // Nobody has shown whose address it is: it keeps nobody out, and nobody learns that alice has it.
    let same_address = SignUp { email: " ALICE@example.org ".into(), ..bob.sign_up_command().await };
    bob.client.ask(&same_address).await.unwrap();
    let mut namesake = Person::namesake(Client::connect(&relay).await, "alice");
    assert_eq!(code(namesake.sign_up().await), Code::AccountTaken);
    // Somebody else's keys under a taken id.
    let mut thief = Person::stranger(&relay, "alice2").await;
    let mut command = thief.sign_up_command().await;
    command.account = alice.account.clone();
    assert_eq!(code(thief.client.ask(&command).await), Code::BadRecord);
    relay.stop().await;
}

// REQ A1
#[tokio::test]
async fn a_sign_up_whose_answer_was_lost_can_be_sent_again() {
    let relay = TestRelay::start().await;
    let mut alice = Person::stranger(&relay, "alice").await;
    let command = alice.sign_up_command().await;
    alice.client.send(&command).await;
    let mut again = Person::stranger(&relay, "alice").await;
    // Whichever of the two comes first, the account is there once both were answered.
    if again.sign_up().await.is_err() {
        again.sign_up().await.unwrap();
    }
    again.attach().await.unwrap();
    // The whole command, overheard, is of no use on another connection.
    let overheard = again.sign_up_command().await;
    let mut other = Client::connect(&relay).await;
    assert_eq!(code(other.ask(&overheard).await), Code::BadRecord);
    relay.stop().await;
}

// REQ A1, T6: finding H6. What is public of somebody is no account of whoever has read it.
#[tokio::test]
async fn nobody_signs_up_with_keys_that_are_somebody_elses() {
    let home = TestRelay::start().await;
    let alice = Person::new(&home, "alice").await;
    let relay = TestRelay::start().await;
    let mut thief = Person::stranger(&relay, "bob").await;
    // The password, the words and the address are the thief's own; the records are hers.
    let own = thief.sign_up_command().await;
    let hers = alice.sign_up_with(own.password.clone());
    let proofs = [
        Signature::from_bytes([0; Signature::LENGTH]),
        own.proof,
        // Of another connection, to another relay.
        alice.secrets.sign_login_proof(&alice.client.transcript),
    ];
    for proof in proofs {
        let stolen =
            SignUp { proof, email: own.email.clone(), recovery_key: own.recovery_key, ..hers.clone() };
        assert_eq!(code(thief.client.ask(&stolen).await), Code::BadRecord);
    }
    let mut alice = Person::stranger(&relay, "alice").await;
    alice.sign_up().await.unwrap();
    home.stop().await;
    relay.stop().await;
}

// REQ A1, A4
#[tokio::test]
async fn what_does_not_fit_is_not_signed_up() {
    let relay = TestRelay::start().await;
    let mut alice = Person::stranger(&relay, "alice").await;
    let bob = Person::stranger(&relay, "bob").await;
    let command = alice.sign_up_command().await;
    let good = || command.clone();
    let mut two_devices = good();
    let stranger = bob.keys.lists[0].certificates[0].clone();
    two_devices.device_list.certificates.push(stranger);
    let mut unsigned_prekey = good();
    unsigned_prekey.prekey.signature = Signature::from_bytes([1; 64]);
    let mut later_list = good();
    later_list.device_list.generation = 2;
    let table = [
        (SignUp { email: "nowhere".into(), ..good() }, Code::BadEmail),
        (SignUp { password: Bytes(vec![]), ..good() }, Code::BadPassword),
        (SignUp { password: Bytes(vec![0xff; 192]), ..good() }, Code::BadPassword),
        (SignUp { nickname: "x".repeat(121), ..good() }, Code::TooLarge),
        (SignUp { sealed_identity: Bytes(vec![0; MAX_SEALED_IDENTITY + 1]), ..good() }, Code::TooLarge),
        (SignUp { identity_key: bob.keys.identity_key.clone(), ..good() }, Code::BadRecord),
        (SignUp { prekey: bob.keys.prekeys[0].clone(), ..good() }, Code::BadRecord),
        (SignUp { account: account("carol"), ..good() }, Code::BadRecord),
        (two_devices, Code::BadRecord),
        (unsigned_prekey, Code::BadRecord),
        (later_list, Code::BadRecord),
    ];
    for (command, expected) in table {
        assert_eq!(code(alice.client.ask(&command).await), expected);
    }
    alice.sign_up().await.unwrap();
    relay.stop().await;
}

// REQ A5
#[tokio::test]
async fn a_log_in_needs_password_and_device() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let elsewhere = alice.client.transcript;
    let right = password("alice");
    alice.client = Client::connect(&relay).await;

    let wrong_password = alice.log_in_command(&password("bob")).await;
    let wrong = alice.client.ask(&wrong_password).await.unwrap_err();
    let mut unknown_account = alice.log_in_command(&right).await;
    unknown_account.account = account("nobody");
    unknown_account.password = alice.client.password_proof(&account("nobody"), &right).await;
    let unknown = alice.client.ask(&unknown_account).await.unwrap_err();
    assert_eq!(wrong.code, Code::WrongCredentials);
    assert_eq!(wrong, unknown, "an account that is not there must not show");

    // The last step without the first, and of another account's login.
    let unprepared = alice.log_in_command(&right).await;
    alice.client.ask(&unprepared).await.unwrap();
    assert_eq!(code(alice.client.ask(&unprepared).await), Code::WrongCredentials);

    // A proof for another connection, and one by another device.
    alice.client = Client::connect(&relay).await;
    let mut replayed = alice.log_in_command(&right).await;
    replayed.proof = alice.secrets.sign_login_proof(&elsewhere);
    assert_eq!(code(alice.client.ask(&replayed).await), Code::DeviceUnknown);
    let bob = Person::stranger(&relay, "bob").await;
    let mut stranger = alice.log_in_command(&right).await;
    stranger.device = bob.secrets.device();
    stranger.proof = bob.secrets.sign_login_proof(&alice.client.transcript);
    assert_eq!(code(alice.client.ask(&stranger).await), Code::DeviceUnknown);

    alice.log_in().await.unwrap();
    relay.stop().await;
}

// REQ A3, T6
#[tokio::test]
async fn guessing_ends_the_connection() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    alice.client = Client::connect(&relay).await;
    for _ in 0..5 {
        let wrong = alice.log_in_command(&password("bob")).await;
        assert_eq!(code(alice.client.ask(&wrong).await), Code::WrongCredentials);
    }
    assert!(alice.client.is_closed().await);
    relay.stop().await;
}

// REQ A5, T6
#[tokio::test]
async fn a_log_out_ends_the_session_everywhere() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut other = Client::connect(&relay).await;
    other.session = alice.client.session.clone();
    let proof = alice.secrets.sign_attach_proof(&other.transcript);
    other.ask(&Attach { proof }).await.unwrap();
    alice.client.ask(&LogOut {}).await.unwrap();
    assert_eq!(other.event().await, Event::SessionEnded {});
    assert_eq!(code(other.ask(&FriendList {}).await), Code::SessionRevoked);
    assert_eq!(code(alice.client.ask(&FriendList {}).await), Code::SessionRevoked);
    assert_eq!(alice.client.events_until_now().await, []);
    // The connection is free again.
    alice.log_in().await.unwrap();
    relay.stop().await;
}

// REQ T6
#[tokio::test]
async fn a_connection_belongs_to_one_device() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    let bobs = bob.client.session.clone();
    let alices = std::mem::replace(&mut alice.client.session, bobs);
    assert_eq!(code(alice.client.ask(&FriendList {}).await), Code::WrongConnection);
    assert_eq!(code(alice.attach().await), Code::WrongConnection);
    let log_in = bob.log_in_command(&password("bob")).await;
    assert_eq!(code(alice.client.ask(&log_in).await), Code::WrongConnection);
    alice.client.session = alices;
    alice.client.ask(&FriendList {}).await.unwrap();
    bob.client.ask(&FriendList {}).await.unwrap();
    relay.stop().await;
}

// REQ A3, T6
#[tokio::test]
async fn no_file_shows_a_password_an_address_or_a_session() {
    let relay = TestRelay::start().await;
    let alice = Person::new(&relay, "alice").await;
    let session = alice.client.session.clone().unwrap();
    let data = relay.stop().await;
    let mut seen = 0;
    for (path, bytes) in files(data.path()) {
        seen += bytes.len();
        let shows = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        for secret in [password("alice").as_bytes(), b"alice@example.org", session.as_bytes()] {
            assert!(!shows(secret), "{}", path.display());
        }
    }
    assert!(seen > 10_000, "there was something to look through");
}
