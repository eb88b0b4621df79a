//! What is stored on the device: damaged and repaired, locked with something else, erased.

use mildam_client::{Clock, Notice};
use mildam_protocol::records::{ClientMessageId, RoomId};
use mildam_vault::{Changes, HistoryRow, Slot, Vault};

use super::world::*;

fn passphrase() -> Unlock {
    Unlock::Passphrase(Zeroizing::new("a passphrase".to_owned()))
}

fn again(client: Client, home: &Path) -> Person {
    Person { events: client.subscribe(), client, home: home.to_owned() }
}

const DAY: u64 = 24 * 60 * 60 * 1_000;

/// A clock that goes so many milliseconds ahead.
fn clock(ahead: u64) -> Clock {
    Clock::new(move || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(since.as_millis()).unwrap() + ahead
    })
}

async fn notices(client: &Client) -> Vec<Notice> {
    client.state().await.unwrap().account.unwrap().notices
}

// REQ L1, M3
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_vault_is_repaired_and_talks_on() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let room = alice.client.open_direct("bob").await.unwrap().room;
    alice.client.send(&room, "before the snapshot").await.unwrap();
    bob.until_text("before the snapshot", MessageState::Received).await;
    bob.client.send(&room, "me too").await.unwrap();
    alice.until_text("me too", MessageState::Received).await;
    alice.client.erase_now().await.unwrap();
    alice.client.send(&room, "after it").await.unwrap();
    bob.until_text("after it", MessageState::Received).await;
    bob.client.send(&room, "the same").await.unwrap();
    alice.until_text("the same", MessageState::Received).await;
    alice.client.shut_down().await;

    std::fs::write(alice.home.join("store/db"), [0xab; 4096]).unwrap();
    let error = Client::open(&alice.home, passphrase()).await.err().unwrap();
    assert_eq!(error.code(), "vault_damaged");
    let wrong = Unlock::Passphrase(Zeroizing::new("another".to_owned()));
    assert_eq!(Client::repair(&alice.home, wrong).await.err().unwrap().code(), "wrong_passphrase");
    let (client, repair) = Client::repair(&alice.home, passphrase()).await.unwrap();
    assert!(repair.account && repair.rooms > 0 && repair.messages > 0, "{repair:?}");
    let mut alice = again(client, &alice.home);
    alice.client.wait_online().await.unwrap();
    assert!(notices(&alice.client).await.contains(&Notice::VaultRepaired));

    // What came after the snapshot is fetched once more, and the talk goes on under new keys.
    alice.client.send(&room, "and on").await.unwrap();
    bob.until_text("and on", MessageState::Received).await;
    bob.client.send(&room, "good").await.unwrap();
    alice.until_text("good", MessageState::Received).await;
    let all = ["before the snapshot", "me too", "after it", "the same", "and on", "good"];
    assert_eq!(alice.texts(&room).await, all);
    assert_eq!(bob.texts(&room).await, all);
    alice.client.shut_down().await;

    let client = open(&alice.home).await;
    assert!(notices(&client).await.contains(&Notice::VaultRepaired));
    client.dismiss(Notice::VaultRepaired).await.unwrap();
    assert!(!notices(&client).await.contains(&Notice::VaultRepaired));
    assert_eq!(client.search("snapshot", 9).await.unwrap().len(), 1);
}

/// A repair may bring lines back without the keys of their room. The log is read once more then; it
/// cannot be opened again, and what it said before stays.
#[tokio::test(flavor = "multi_thread")]
async fn lines_stay_when_the_keys_of_their_room_are_lost() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let room = alice.client.open_direct("bob").await.unwrap().room;
    for text in ["one", "two"] {
        bob.client.wait_online().await.unwrap();
        alice.client.send(&room, text).await.unwrap();
        bob.until_text(text, MessageState::Received).await;
    }
    bob.client.shut_down().await;
    // The prekeys that the room's keys came under are erased, a day later.
    for ahead in [DAY, DAY + 16 * 60 * 1_000] {
        let client = Client::open_with(&bob.home, passphrase(), clock(ahead)).await.unwrap();
        client.wait_online().await.unwrap();
        client.erase_now().await.unwrap();
        client.shut_down().await;
    }

    // All but the rooms, as a repair would leave it.
    let (whole, partly) = (Vault::open(&bob.home, passphrase()).unwrap(), bob.home.with_extension("new"));
    let left = Vault::open(&partly, passphrase()).unwrap();
    let id = room.parse().unwrap();
    let mut changes = Changes::new();
    for slot in [Slot::Server, Slot::Account, Slot::Device, Slot::Session, Slot::Friends] {
        changes.put(slot, whole.get(slot).unwrap().unwrap().to_vec());
    }
    for (account, bytes) in whole.accounts().unwrap() {
        changes.put_account(&account, bytes.to_vec());
    }
    for line in whole.history(&id, None, 99).unwrap() {
        changes.put_message(&id, line);
    }
    left.commit(changes).unwrap();
    assert!(left.rooms().unwrap().is_empty());
    drop((whole, left));

    let client = Client::open_with(&partly, passphrase(), clock(DAY + 17 * 60 * 1_000)).await.unwrap();
    let mut bob = again(client, &partly);
    bob.client.wait_online().await.unwrap();
    alice.client.send(&room, "three").await.unwrap();
    bob.until_text("three", MessageState::Received).await;
    assert_eq!(bob.texts(&room).await, ["one", "two", "three"]);
    bob.client.send(&room, "four").await.unwrap();
    alice.until_text("four", MessageState::Received).await;
}

/// Damage that shows only when everything is read: the person is told, and the earlier snapshot stays.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_of_before_anybody_stumbles_over_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.client.shut_down().await;
    let vault = Vault::open(&alice.home, passphrase()).unwrap();
    for seq in 1..=20 {
        let mut changes = Changes::new();
        changes.put_message(
            &RoomId::from_bytes([7; 32]),
            HistoryRow {
                seq,
                id: ClientMessageId::from_bytes([7; 16]),
                from: "bob".parse().unwrap(),
                sent_at: seq,
                body: vec![b'x'; 4000],
                text: None,
            },
        );
        vault.commit(changes).unwrap();
    }
    vault.snapshot().unwrap();
    drop(vault);
    let snapshot = alice.home.join("snapshot.mildam");
    let before = std::fs::read(&snapshot).unwrap();
    // One line vanishes, as when the store loses a page: its table is 09.
    let store = sled::open(alice.home.join("store")).unwrap();
    let (line, _) = store.scan_prefix([9]).next().unwrap().unwrap();
    store.remove(line).unwrap();
    drop(store);

    let client = open(&alice.home).await;
    assert_eq!(notices(&client).await, []);
    assert_eq!(client.erase_now().await.unwrap_err().code(), "vault_damaged");
    assert_eq!(notices(&client).await, [Notice::VaultDamaged]);
    assert_eq!(std::fs::read(&snapshot).unwrap(), before);
    client.shut_down().await;
    let (client, repair) = Client::repair(&alice.home, passphrase()).await.unwrap();
    assert!(repair.account && repair.messages == 20, "{repair:?}");
    let damaged = alice.home.join("store-damaged");
    assert!(damaged.is_dir());
    client.wait_online().await.unwrap();
    assert_eq!(notices(&client).await, [Notice::VaultRepaired]);
    client.erase_now().await.unwrap();
    assert!(damaged.is_dir(), "it is kept until somebody has seen what came back");
    client.dismiss(Notice::VaultRepaired).await.unwrap();
    assert!(!damaged.exists());
    client.shut_down().await;
    // The snapshot was spared, so the line that had vanished is there again.
    let vault = Vault::open(&alice.home, passphrase()).unwrap();
    assert_eq!(vault.history(&RoomId::from_bytes([7; 32]), None, 99).unwrap().len(), 20);
}

// REQ L1
#[tokio::test(flavor = "multi_thread")]
async fn the_passphrase_is_changed_while_running() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let next = || Unlock::Passphrase(Zeroizing::new("새 비밀번호".to_owned()));
    let refused = async |current, next| {
        let error = alice.client.change_unlock(current, next).await.unwrap_err();
        error.code().to_owned()
    };
    assert_eq!(refused(next(), next()).await, "wrong_passphrase");
    let empty = Unlock::Passphrase(Zeroizing::new(String::new()));
    assert_eq!(refused(passphrase(), empty).await, "empty");
    alice.client.change_unlock(passphrase(), next()).await.unwrap();
    alice.client.confirm_recovery_words().await.unwrap();
    alice.client.shut_down().await;
    assert_eq!(Client::open(&alice.home, passphrase()).await.err().unwrap().code(), "wrong_passphrase");
    let client = Client::open(&alice.home, next()).await.unwrap();
    client.wait_online().await.unwrap();
    assert!(!client.state().await.unwrap().account.unwrap().words_pending);
    assert_eq!(client.recovery_words().await.unwrap(), None);
    // There is a snapshot under the new keys.
    client.shut_down().await;
    std::fs::remove_dir_all(alice.home.join("store")).unwrap();
    let (client, _) = Client::repair(&alice.home, next()).await.unwrap();
    assert_eq!(client.state().await.unwrap().account.unwrap().account, "alice");
}
