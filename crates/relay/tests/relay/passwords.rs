//! Passwords that the relay never sees: what its answers show, and how often it gives them.

use mildam_protocol::command::{LogIn, LogInStart, LogOut, Recover, RecoverStart, SignUp, SignUpStart};
use mildam_protocol::password::{LOGIN_FINISH, LOGIN_RESPONSE, Login, Registration};
use mildam_protocol::records::AccountId;
use mildam_protocol::records::bytes::Bytes;
use mildam_protocol::records::keys::Signature;
use mildam_protocol::{Code, Refusal};
use mildam_relay::{Config, Rate};

use crate::client::Client;
use crate::person::{Person, account, code, new_device, password};
use crate::relay::{TestRelay, rng};

/// The first bytes of a login's answer: the OPRF under the account's own key.
const EVALUATED: usize = 32;

fn log_in_start(account: &AccountId) -> LogInStart {
    let (_, password) = Login::start("a password to try", &mut rng()).unwrap();
    LogInStart { account: account.clone(), password, device: None, proof: None }
}

fn sign_up_start(account: &AccountId) -> SignUpStart {
    let (_, password) = Registration::start("a password to try", &mut rng()).unwrap();
    SignUpStart { account: account.clone(), password }
}

/// What is tried here is limited for a connection, not for an account.
fn many_guesses(config: &mut Config) {
    config.limits.guesses = Rate::new(1_000, 1, 1);
}

/// The same bytes and one more, and all but the last.
fn other_lengths(bytes: &[u8]) -> [Bytes; 2] {
    [Bytes([bytes, &[0]].concat()), Bytes(bytes[..bytes.len() - 1].to_vec())]
}

// REQ A3
#[tokio::test]
async fn an_account_that_is_not_there_is_answered_like_one_that_is() {
    let relay = TestRelay::start().await;
    Person::new(&relay, "alice").await;
    let mut refusals: Vec<Refusal> = Vec::new();
    for name in ["alice", "nobody"] {
        let mut client = Client::connect(&relay).await;
        let start = log_in_start(&account(name));
        let one = client.ask(&start).await.unwrap().password;
        let two = client.ask(&start).await.unwrap().password;
        assert_eq!((one.len(), two.len()), (LOGIN_RESPONSE, LOGIN_RESPONSE), "{name}");
        // One key for one account, there or not; everything else is made anew.
        assert_eq!(one[..EVALUATED], two[..EVALUATED], "{name}");
        let same = one.iter().zip(&*two).skip(EVALUATED).filter(|(one, two)| one == two).count();
        assert!(same < 64, "{name}: {same} bytes are those of before");
        let last = LogIn {
            account: account(name),
            password: Bytes(vec![0; LOGIN_FINISH]),
            device: new_device(&account(name)).device(),
            proof: Signature::from_bytes([0; 64]),
        };
        refusals.push(client.ask(&last).await.unwrap_err());
    }
    assert_eq!(refusals[0].code, Code::WrongCredentials);
    assert_eq!(refusals[0], refusals[1]);
    relay.stop().await;
}

// REQ T4, A3
#[tokio::test]
async fn a_message_of_the_password_protocol_has_one_length() {
    let relay = TestRelay::start_with(many_guesses).await;
    let mut alice = Person::stranger(&relay, "alice").await;
    let id = alice.account.clone();
    let register = sign_up_start(&id);
    for bytes in other_lengths(&register.password) {
        let start = SignUpStart { password: bytes, ..register.clone() };
        assert_eq!(code(alice.client.ask(&start).await), Code::BadPassword);
    }
    let neutral = SignUpStart { password: Bytes(vec![0; 32]), ..register };
    assert_eq!(code(alice.client.ask(&neutral).await), Code::BadPassword);
    let command = alice.sign_up_command().await;
    for bytes in other_lengths(&command.password) {
        let sign_up = SignUp { password: bytes, ..command.clone() };
        assert_eq!(code(alice.client.ask(&sign_up).await), Code::BadPassword);
    }
    alice.sign_up().await.unwrap();

    alice.client = Client::connect(&relay).await;
    let start = log_in_start(&id);
    for bytes in other_lengths(&start.password) {
        let start = LogInStart { password: bytes, ..start.clone() };
        assert_eq!(code(alice.client.ask(&start).await), Code::BadPassword);
    }
    for longer in [true, false] {
        let mut log_in = alice.log_in_command(&password("alice")).await;
        let [long, short] = other_lengths(&log_in.password);
        log_in.password = if longer { long } else { short };
        assert_eq!(code(alice.client.ask(&log_in).await), Code::WrongCredentials);
    }

    alice = alice.at(new_device(&id));
    let (_, request) = Registration::start("a new password", &mut rng()).unwrap();
    let start = alice.recover_start(request);
    for bytes in other_lengths(&start.password) {
        let start = RecoverStart { password: bytes, ..start.clone() };
        assert_eq!(code(alice.client.ask(&start).await), Code::BadPassword);
    }
    let good = alice.recover_command("a new password").await;
    for bytes in other_lengths(&good.password) {
        // Proven as it is, so that only its length can be what is refused.
        let recover = alice.recover_with(bytes, good.device_list.clone());
        assert_eq!(code(alice.client.ask(&recover).await), Code::BadPassword);
    }
    alice.client.ask(&good).await.unwrap();
    relay.stop().await;
}

// REQ A3, T6
#[tokio::test]
async fn what_lets_a_password_be_tried_counts_as_a_try() {
    let relay = TestRelay::start_with(many_guesses).await;
    let alice = Person::new(&relay, "alice").await;
    // Who has the answer to a first step knows whether a password is right without the second.
    for sign_ups in 0..=5 {
        let mut client = Client::connect(&relay).await;
        for n in 0..5 {
            if n < sign_ups {
                client.ask(&sign_up_start(&alice.account)).await.unwrap();
            } else {
                client.ask(&log_in_start(&alice.account)).await.unwrap();
            }
        }
        let one_more = if sign_ups % 2 == 0 {
            client.ask(&log_in_start(&alice.account)).await
        } else {
            client.ask(&sign_up_start(&alice.account)).await
        };
        assert_eq!(code(one_more), Code::LimitReached, "{sign_ups} sign-ups");
        assert!(client.is_closed().await);
    }
    relay.stop().await;
}

// REQ A3, T6
#[tokio::test]
async fn what_leads_to_a_session_is_no_guess() {
    let relay = TestRelay::start_with(many_guesses).await;
    let mut alice = Person::stranger(&relay, "alice").await;
    for _ in 0..3 {
        alice.sign_up().await.unwrap();
        alice.log_in().await.unwrap();
    }
    // It forgives no other guess, and nothing is forgiven for a session that no first step of this
    // connection led to.
    for _ in 0..3 {
        alice.client.ask(&log_in_start(&account("bob"))).await.unwrap();
        alice.sign_up().await.unwrap();
    }
    let again = alice.sign_up_command().await;
    for _ in 0..3 {
        alice.client.ask(&again).await.unwrap();
    }
    for _ in 0..2 {
        alice.client.ask(&log_in_start(&account("bob"))).await.unwrap();
    }
    let late = log_in_start(&alice.account);
    assert_eq!(code(alice.client.ask(&late).await), Code::LimitReached);
    assert!(alice.client.is_closed().await);
    relay.stop().await;
}

// REQ A3, T6
#[tokio::test]
async fn guessing_words_ends_the_connection() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let bob = Person::stranger(&relay, "bob").await;
    let (_, request) = Registration::start("a new password", &mut rng()).unwrap();
    for unprepared in [false, true] {
        alice.client = Client::connect(&relay).await;
        let start = RecoverStart {
            proof: bob.words.sign(&alice.account, &alice.client.transcript).unwrap(),
            ..alice.recover_start(request.clone())
        };
        let recover: Recover = alice.recover_with(Bytes::default(), alice.keys.lists[0].clone());
        for _ in 0..5 {
            let refused = if unprepared {
                code(alice.client.ask(&recover).await)
            } else {
                code(alice.client.ask(&start).await)
            };
            assert_eq!(refused, Code::WrongWords);
        }
        assert!(alice.client.is_closed().await);
    }
    relay.stop().await;
}

// REQ A3, T6
#[tokio::test]
async fn a_login_that_was_not_begun_is_a_guess() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    alice.client = Client::connect(&relay).await;
    let done = alice.log_in_command(&password("alice")).await;
    alice.client.ask(&done).await.unwrap();
    for _ in 0..5 {
        assert_eq!(code(alice.client.ask(&done).await), Code::WrongCredentials);
    }
    assert!(alice.client.is_closed().await);
    relay.stop().await;
}

// REQ A3, T6
#[tokio::test]
async fn a_login_is_used_up_whatever_comes_of_it() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    // On a connection that is somebody else's.
    std::mem::swap(&mut alice.client, &mut bob.client);
    let log_in = alice.log_in_command(&password("alice")).await;
    assert_eq!(code(alice.client.ask(&log_in).await), Code::WrongConnection);
    alice.client.ask(&LogOut {}).await.unwrap();
    assert_eq!(code(alice.client.ask(&log_in).await), Code::WrongCredentials);
    // Begun for one account, ended for another.
    alice.client = Client::connect(&relay).await;
    let mut crossed = alice.log_in_command(&password("alice")).await;
    crossed.account = bob.account.clone();
    assert_eq!(code(alice.client.ask(&crossed).await), Code::WrongCredentials);
    // The one begun last is the one that counts.
    let earlier = alice.log_in_command(&password("alice")).await;
    let later = alice.log_in_command(&password("alice")).await;
    assert_eq!(code(alice.client.ask(&earlier).await), Code::WrongCredentials);
    assert_eq!(code(alice.client.ask(&later).await), Code::WrongCredentials);
    alice.log_in().await.unwrap();
    alice.attach().await.unwrap();
    relay.stop().await;
}
