//! Who may come in.

use std::path::Path;

use mildam_protocol::command::{SessionAnswer, SignUp};
use mildam_protocol::link::Invitation;
use mildam_protocol::{Code, Refusal};
use mildam_relay::{Config, INVITATION_DAYS, InviteError, SignUpMode, invite};
use tokio::process::Command;

use crate::client::Client;
use crate::person::{Person, code};
use crate::program::PROGRAM;
use crate::relay::{TestClock, TestRelay, files};

fn by_invitation(config: &mut Config) {
    config.sign_up = SignUpMode::Invitation;
}

/// The token of a new invitation, made beside the relay that runs.
async fn token(relay: &TestRelay) -> String {
    let invitation = invite(relay.data(), INVITATION_DAYS).await.unwrap();
    assert_eq!(invitation.link, relay.link);
    invitation.token.unwrap().to_string()
}

async fn sign_up(person: &mut Person, invitation: Option<&str>) -> Result<SessionAnswer, Refusal> {
    let invitation = invitation.map(str::to_owned);
    let command = SignUp { invitation, ..person.sign_up_command().await };
    person.client.ask(&command).await
}

// REQ A1, S1
#[tokio::test]
async fn each_invitation_lets_one_in() {
    let relay = TestRelay::start_with(by_invitation).await;
    let mut alice = Person::stranger(&relay, "alice").await;
    let mut bob = Person::stranger(&relay, "bob").await;
    for nothing in [None, Some("")] {
        assert_eq!(code(sign_up(&mut alice, nothing).await), Code::InvitationNeeded);
    }
    for nonsense in ["please", "AAAAAAAAAAAAAAAAAAAAAA", &"A".repeat(64)] {
        assert_eq!(code(sign_up(&mut bob, Some(nonsense)).await), Code::InvitationInvalid);
    }
    let first = relay.invitation.clone().unwrap().to_string();
    let long = "A".repeat(65);
    alice = Person::stranger(&relay, "alice").await;
    assert_eq!(code(sign_up(&mut alice, Some(&long)).await), Code::TooLarge);
    sign_up(&mut alice, Some(&first)).await.unwrap();
    bob = Person::stranger(&relay, "bob").await;
    assert_eq!(code(sign_up(&mut bob, Some(&first)).await), Code::InvitationInvalid);
    let second = token(&relay).await;
    sign_up(&mut bob, Some(&second)).await.unwrap();
    // There are people: the next start shows no invitation.
    let relay = TestRelay::start_in(relay.stop().await, by_invitation).await;
    assert_eq!(relay.invitation, None);
    relay.stop().await;
}

// REQ S1
#[tokio::test]
async fn every_start_before_the_first_account_invites() {
    let relay = TestRelay::start_with(by_invitation).await;
    let first = relay.invitation.clone().unwrap();
    let relay = TestRelay::start_in(relay.stop().await, by_invitation).await;
    assert_ne!(relay.invitation, Some(first.clone()));
    // The link that was noted down at the first start is good.
    let mut alice = Person::stranger(&relay, "alice").await;
    sign_up(&mut alice, Some(&first.to_string())).await.unwrap();
    relay.stop().await;
}

// REQ A1
#[tokio::test]
async fn an_invitation_expires() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let clock = TestClock::new();
    let relay = TestRelay::start_with(|config| {
        by_invitation(config);
        config.clock = clock.clock();
    })
    .await;
    let (one, other) = (token(&relay).await, token(&relay).await);
    clock.advance(u64::from(INVITATION_DAYS - 1) * DAY);
    let mut alice = Person::stranger(&relay, "alice").await;
    sign_up(&mut alice, Some(&one)).await.unwrap();
    clock.advance(DAY + DAY / 2);
    let mut bob = Person::stranger(&relay, "bob").await;
    assert_eq!(code(sign_up(&mut bob, Some(&other)).await), Code::InvitationInvalid);
    relay.stop().await;
}

// REQ A1
#[tokio::test]
async fn of_two_with_one_invitation_one_comes_in() {
    let relay = TestRelay::start_with(by_invitation).await;
    let invitation = Some(token(&relay).await);
    let mut alice = Person::stranger(&relay, "alice").await;
    let mut bob = Person::stranger(&relay, "bob").await;
    let hers = SignUp { invitation: invitation.clone(), ..alice.sign_up_command().await };
    let his = SignUp { invitation, ..bob.sign_up_command().await };
    let outcomes = tokio::join!(alice.client.ask(&hers), bob.client.ask(&his));
    let refused = match outcomes {
        (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused,
        other => panic!("not one of two: {other:?}"),
    };
    assert_eq!(refused.code, Code::InvitationInvalid);
    relay.stop().await;
}

// REQ A1
#[tokio::test]
async fn what_is_refused_or_sent_again_uses_no_invitation_up() {
    let relay = TestRelay::start_with(by_invitation).await;
    let (one, other) = (token(&relay).await, token(&relay).await);
    let mut alice = Person::stranger(&relay, "alice").await;
    sign_up(&mut alice, Some(&one)).await.unwrap();
    let mut namesake = Person::namesake(Client::connect(&relay).await, "alice");
    assert_eq!(code(sign_up(&mut namesake, Some(&other)).await), Code::AccountTaken);
    // An answer that was lost: with what was given then, with another one, and without any.
    for invitation in [Some(one.as_str()), Some(other.as_str()), None] {
        let mut again = Person::stranger(&relay, "alice").await;
        let session = sign_up(&mut again, invitation).await.unwrap().session;
        again.client.session = Some(session);
        again.attach().await.unwrap();
    }
    let mut bob = Person::stranger(&relay, "bob").await;
    sign_up(&mut bob, Some(&other)).await.unwrap();
    relay.stop().await;
}

// REQ A1, A3
#[tokio::test]
async fn the_uninvited_learn_nothing_of_who_is_there() {
    let relay = TestRelay::start_with(by_invitation).await;
    let mut alice = Person::stranger(&relay, "alice").await;
    let used = token(&relay).await;
    sign_up(&mut alice, Some(&used)).await.unwrap();
    let closed = |config: &mut Config| config.sign_up = SignUpMode::Closed;
    let tries = [(None, Code::InvitationNeeded), (Some(used.as_str()), Code::InvitationInvalid)];
    for (invitation, expected) in tries {
        let mut taken = Person::namesake(Client::connect(&relay).await, "alice");
        let mut free = Person::stranger(&relay, "nobody").await;
        let refused = sign_up(&mut taken, invitation).await.unwrap_err();
        assert_eq!(refused.code, expected);
        assert_eq!(refused, sign_up(&mut free, invitation).await.unwrap_err());
    }
    let relay = TestRelay::start_in(relay.stop().await, closed).await;
    let good = token(&relay).await;
    let mut taken = Person::namesake(Client::connect(&relay).await, "alice");
    let mut free = Person::stranger(&relay, "nobody").await;
    let refused = sign_up(&mut taken, Some(&good)).await.unwrap_err();
    assert_eq!(refused.code, Code::SignUpClosed);
    assert_eq!(refused, sign_up(&mut free, Some(&good)).await.unwrap_err());
    // Who is there stays, also if the answer comes late.
    alice = Person::stranger(&relay, "alice").await;
    sign_up(&mut alice, None).await.unwrap();
    relay.stop().await;
}

// REQ A3
#[tokio::test]
async fn the_relay_keeps_no_token() {
    let relay = TestRelay::start_with(by_invitation).await;
    let made = invite(relay.data(), 1).await.unwrap().token.unwrap();
    let first = relay.invitation.clone().unwrap();
    let mut alice = Person::stranger(&relay, "alice").await;
    sign_up(&mut alice, Some(&first.to_string())).await.unwrap();
    let data = relay.stop().await;
    for (path, bytes) in files(data.path()) {
        for token in [&made, &first] {
            let text = token.to_string();
            for secret in [text.as_bytes(), token.as_bytes()] {
                let shown = bytes.windows(secret.len()).any(|window| window == secret);
                assert!(!shown, "{}", path.display());
            }
        }
    }
}

async fn run_invite(data: &Path, more: &[&str]) -> std::process::Output {
    Command::new(PROGRAM).args(["invite", "--data"]).arg(data).args(more).output().await.unwrap()
}

// REQ S1
#[tokio::test]
async fn the_program_invites_or_says_why_not() {
    let empty = tempfile::tempdir().unwrap();
    for folder in [empty.path().to_owned(), empty.path().join("missing")] {
        let refused = invite(&folder, 1).await.unwrap_err();
        assert!(matches!(refused, InviteError::NoRelay(_)), "{refused}");
        let output = run_invite(&folder, &[]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("start it once"));
    }
    assert!(!empty.path().join("missing").exists());
    let relay = TestRelay::start_with(by_invitation).await;
    assert_eq!(run_invite(relay.data(), &["--days", "0"]).await.status.code(), Some(2));
    let output = run_invite(relay.data(), &["--days", "3"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let links: Vec<Invitation> = said.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(links.len() == 2 && links[0] == links[1] && said.contains("3 days"), "{said}");
    let given = links[0].token.clone().unwrap().to_string();
    let mut alice = Person::stranger(&relay, "alice").await;
    sign_up(&mut alice, Some(&given)).await.unwrap();
    relay.stop().await;
}
