//! Identities, recovery, prekeys, and states that were put back.

use mildam_client::{Notice, Recover, TrustView};
use mildam_vault::{Slot, Vault};
use serde_json::Value;

use crate::world::*;

fn passphrase() -> Unlock {
    Unlock::Passphrase(Zeroizing::new("a passphrase".to_owned()))
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

// REQ C4
#[tokio::test(flavor = "multi_thread")]
async fn a_safety_number_is_compared_and_its_mark_stays() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let number = bob.client.contact("alice").await.unwrap().safety_number;
    assert_eq!(number.groups.len(), 12);
    assert!(number.qr_size >= 21 && number.qr_path.starts_with('M'));
    let contact = alice.client.contact("bob").await.unwrap();
    assert_eq!((contact.trust, contact.devices.len()), (TrustView::Unverified, 1));
    assert!(contact.devices[0].active);
    let wrong = alice.client.compare_safety_number("bob", &"1".repeat(60)).await.unwrap_err();
    assert_eq!(wrong.code(), "safety_number_differs");
    assert_eq!(alice.client.contact("bob").await.unwrap().trust, TrustView::Unverified);
    let read_out = number.groups.join("-");
    let contact = alice.client.compare_safety_number("bob", &read_out).await.unwrap();
    assert_eq!(contact.trust, TrustView::Verified);
    let room = alice.client.open_direct("bob").await.unwrap();
    let bob_in_it = room.members.iter().find(|member| member.account == "bob").unwrap();
    assert_eq!(bob_in_it.trust, TrustView::Verified);
    alice.client.shut_down().await;
    let again = open(&alice.home).await;
    assert_eq!(again.friends().await.unwrap().friends[0].trust, TrustView::Verified);
    assert_eq!(again.set_verified("bob", false).await.unwrap().trust, TrustView::Unverified);
    assert_eq!(again.contact("nobody").await.unwrap_err().code(), "not_found");
    assert_eq!(again.decide_identity("bob", true).await.unwrap_err().code(), "not_found");
}

// REQ A4
#[tokio::test(flavor = "multi_thread")]
async fn twelve_words_bring_an_account_back_and_shut_the_lost_device_out() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let room = alice.client.create_group("우리 가족", &["bob".to_owned()]).await.unwrap().room;
    alice.client.send(&room, "before").await.unwrap();
    bob.until_text("before", MessageState::Received).await;
    let words = alice.client.recovery_words().await.unwrap().unwrap();

    let home = world.folder.path().join("alice again");
    let client = open(&home).await;
    client.connect(&world.server.link).await.unwrap();
    let recover = |words: &str, password: &str| Recover {
        account: "alice".to_owned(),
        words: secret(words),
        password: secret(password),
    };
    let code = async |words: &str, password: &str| {
        client.recover(recover(words, password)).await.unwrap_err().code().to_owned()
    };
    assert_eq!(code("abandon", "a new password").await, "words_count");
    assert_eq!(code(&["abandon"; 12].join(" "), "a new password").await, "words_checksum");
    let mistyped = format!("abandom {}", words.english[1..].join(" "));
    let error = client.recover(recover(&mistyped, "a new password")).await.unwrap_err();
    assert_eq!(error.code(), "words_unknown");
    assert!(error.to_string().contains("Word 1") && error.to_string().contains("abandon"), "{error}");
    let others = format!("{}about", "abandon ".repeat(11));
    assert_eq!(code(&others, "a new password").await, "wrong_words");
    assert_eq!(code(&words.korean.join(" "), "short").await, "bad_password");

    let view = client.recover(recover(&words.korean.join("  "), "a new password")).await.unwrap();
    assert_eq!((view.account.as_str(), view.logged_in, view.words_pending), ("alice", true, false));
    // The lost device is told, and is logged out.
    let told = alice
        .until(|event| match event {
            Event::State { state } => {
                state.account.clone().filter(|account| account.notices.contains(&Notice::DeviceRemoved))
            }
            _ => None,
        })
        .await;
    assert!(!told.logged_in || told.notices == [Notice::DeviceRemoved]);
    let failed = alice.client.log_in("alice", secret("a new password")).await.unwrap_err();
    assert_eq!(failed.code(), "device_unknown");

    // Both go on; Bob's safety number with her is the one it was.
    let number = bob.client.contact("alice").await.unwrap().safety_number;
    assert_eq!(client.contact("bob").await.unwrap().safety_number, number);
    let mut again = Person { events: client.subscribe(), client, home };
    bob.client.send(&room, "are you there?").await.unwrap();
    again.until_text("are you there?", MessageState::Received).await;
    again.client.send(&room, "I am back").await.unwrap();
    bob.until_text("I am back", MessageState::Received).await;
    assert_eq!(again.client.room(&room).await.unwrap().name, "우리 가족");
    let lines = again.client.history(&room, None, 50).await.unwrap().messages;
    let unread = |message: &&MessageView| message.content == MessageContent::BeforeDevice;
    assert_eq!(lines.iter().filter(unread).count(), 1);
    assert_eq!(again.texts(&room).await, ["are you there?", "I am back"]);
    assert_eq!(bob.texts(&room).await, ["before", "are you there?", "I am back"]);
    let refused = |message: &&MessageView| matches!(message.content, MessageContent::Refused { .. });
    let bobs = bob.client.history(&room, None, 50).await.unwrap().messages;
    assert_eq!(bobs.iter().filter(refused).count(), 0);
    // The new password is the one that counts.
    again.client.log_out().await.unwrap();
    let old = again.client.log_in("alice", secret("correct horse")).await.unwrap_err();
    assert_eq!(old.code(), "wrong_credentials");
    again.client.log_in("alice", secret("a new password")).await.unwrap();
}

// REQ A4
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_recovers_its_own_account_keeps_its_history() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let room = alice.client.open_direct("bob").await.unwrap().room;
    alice.client.send(&room, "before").await.unwrap();
    bob.until_text("before", MessageState::Received).await;
    let words = alice.client.recovery_words().await.unwrap().unwrap();
    let recover = Recover {
        account: "alice".to_owned(),
        words: secret(&words.english.join(" ")),
        password: secret("a new password"),
    };
    alice.client.recover(recover).await.unwrap();
    alice.client.send(&room, "after").await.unwrap();
    bob.until_text("after", MessageState::Received).await;
    bob.client.send(&room, "good").await.unwrap();
    alice.until_text("good", MessageState::Received).await;
    assert_eq!(alice.texts(&room).await, ["before", "after", "good"]);
    assert_eq!(bob.texts(&room).await, ["before", "after", "good"]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

// REQ C4
#[tokio::test(flavor = "multi_thread")]
async fn an_old_vault_that_is_put_back_is_noticed_before_it_sends() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let room = alice.client.open_direct("bob").await.unwrap().room;
    alice.client.send(&room, "one").await.unwrap();
    bob.until_text("one", MessageState::Received).await;
    alice.client.shut_down().await;
    let old = world.folder.path().join("old copy");
    copy(&alice.home, &old);
    let later = open(&alice.home).await;
    let events = Person { events: later.subscribe(), client: later, home: alice.home.clone() };
    events.client.wait_online().await.unwrap();
    for text in ["two", "three"] {
        events.client.send(&room, text).await.unwrap();
        bob.until_text(text, MessageState::Received).await;
    }
    events.client.shut_down().await;

    std::fs::remove_dir_all(&alice.home).unwrap();
    copy(&old, &alice.home);
    let client = open(&alice.home).await;
    // Written before the log is read: it must not go out under a chain that was used already.
    client.send(&room, "four").await.unwrap();
    client.wait_online().await.unwrap();
    bob.until_text("four", MessageState::Received).await;
    let account = client.state().await.unwrap().account.unwrap();
    assert_eq!(account.notices, [Notice::StatePutBack]);
    client.dismiss(Notice::StatePutBack).await.unwrap();
    assert_eq!(client.state().await.unwrap().account.unwrap().notices, []);
    assert_eq!(bob.texts(&room).await, ["one", "two", "three", "four"]);
    let lines = bob.client.history(&room, None, 50).await.unwrap().messages;
    assert!(!lines.iter().any(|line| matches!(line.content, MessageContent::Refused { .. })));
    let mut texts = Vec::new();
    for line in client.history(&room, None, 50).await.unwrap().messages {
        texts.extend(text_of(&line).map(str::to_owned));
    }
    assert_eq!(texts, ["one", "two", "three", "four"]);
}

/// The prekeys that lie in a vault: when they were made, and whether they were replaced.
fn prekeys(home: &Path) -> Vec<(u64, bool)> {
    let vault = Vault::open(home, passphrase()).unwrap();
    let secrets: Value = serde_json::from_slice(&vault.get(Slot::Device).unwrap().unwrap()).unwrap();
    let all = secrets["prekeys"].as_array().unwrap();
    all.iter().map(|key| (key["created_at"].as_u64().unwrap(), !key["replaced_at"].is_null())).collect()
}

// REQ C4
#[tokio::test(flavor = "multi_thread")]
async fn prekeys_turn_over_daily_and_old_ones_are_erased() {
    const DAY: i64 = 24 * 60 * 60 * 1_000;
    let ahead = Ahead::default();
    let world = World::new_by(&ahead).await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let room = alice.client.open_direct("bob").await.unwrap().room;
    alice.client.shut_down().await;
    let [(first, false)] = prekeys(&alice.home)[..] else { panic!("one prekey") };

    // The relay's clock says when it is time.
    ahead.set(DAY);
    let open = async || open_by(&ahead, &alice.home).await;
    let client = open().await;
    client.wait_online().await.unwrap();
    client.shut_down().await;
    let kept = prekeys(&alice.home);
    assert_eq!(kept.len(), 2);
    assert!(kept[0].0 >= first + DAY.unsigned_abs() && !kept[0].1);
    assert_eq!(kept[1], (first, true));

    // Bob wraps to the new one; what he says arrives.
    let client = open().await;
    let again = Person { events: client.subscribe(), client, home: alice.home.clone() };
    again.client.wait_online().await.unwrap();
    again.client.send(&room, "new keys").await.unwrap();
    bob.until_text("new keys", MessageState::Received).await;
    again.client.erase_now().await.unwrap();
    again.client.shut_down().await;
    assert_eq!(prekeys(&alice.home).len(), 2, "a quarter of an hour is not over");

    ahead.set(DAY + 16 * 60 * 1_000);
    let client = open().await;
    client.wait_online().await.unwrap();
    client.erase_now().await.unwrap();
    client.shut_down().await;
    let left = prekeys(&alice.home);
    assert_eq!((left.len(), left[0]), (1, (kept[0].0, false)));
}
