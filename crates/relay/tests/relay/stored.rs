//! What the relay keeps: what it takes over from earlier versions, and what a thief finds.

use std::path::Path;

use mildam_protocol::command::{FriendList, GetAccountKeys, SessionId};
use mildam_protocol::records::{DeviceList, SignedPreKey};
use mildam_protocol::{Code, Event};
use sha2::{Digest, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use crate::person::{Person, code, new_device, password, two_talking};
use crate::relay::{TestRelay, files, now, server_key};

/// The first schema, as the relay's first version ran it.
const FIRST_SCHEMA: &str = include_str!("../../src/store/sqlite/migrations/0001.sql");
/// A password of that time.
const ARGON2_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2g";

async fn database(dir: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(dir.join("relay.db")).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal).pragma("secure_delete", "ON");
    options.foreign_keys(true).connect().await.unwrap()
}

/// Adds a person with a session, as the relay's first version did.
async fn insert_person(database: &mut SqliteConnection, person: &Person, session: &SessionId) {
    let (id, device) = (person.account.as_str(), person.secrets.device());
    let (list, prekey): (&DeviceList, &SignedPreKey) = (&person.keys.lists[0], &person.keys.prekeys[0]);
    sqlx::query("INSERT INTO account VALUES (?1, ?2, ?3, ?4, x'01', ?5, ?6, ?7, ?8, 1)")
        .bind(id)
        .bind(format!("{id} 님"))
        .bind(ARGON2_HASH)
        .bind(Sha256::digest(id).to_vec())
        .bind(person.keys.identity_key.as_spki())
        .bind(person.keys.identity_key.fingerprint().as_bytes().as_slice())
        .bind([7; 100].as_slice())
        .bind(list.hash().as_bytes().as_slice())
        .execute(&mut *database)
        .await
        .unwrap();
    sqlx::query("INSERT INTO device_list VALUES (?1, 1, 1, ?2)")
        .bind(id)
        .bind(serde_json::to_string(list).unwrap())
        .execute(&mut *database)
        .await
        .unwrap();
    sqlx::query("INSERT INTO device VALUES (?1, ?2, ?3)")
        .bind(id)
        .bind(device.as_bytes().as_slice())
        .bind(person.secrets.certificate().device_key.as_bytes().as_slice())
        .execute(&mut *database)
        .await
        .unwrap();
    sqlx::query("INSERT INTO prekey VALUES (?1, ?2, ?3, ?4, NULL)")
        .bind(id)
        .bind(device.as_bytes().as_slice())
        .bind(prekey.public.hash().as_bytes().as_slice())
        .bind(serde_json::to_string(prekey).unwrap())
        .execute(&mut *database)
        .await
        .unwrap();
    sqlx::query("INSERT INTO session VALUES (?1, ?2, ?3, ?4)")
        .bind(Sha256::digest(session.as_bytes()).to_vec())
        .bind(id)
        .bind(device.as_bytes().as_slice())
        .bind(i64::try_from(now() + 60_000).unwrap())
        .execute(&mut *database)
        .await
        .unwrap();
}

fn session(byte: u8) -> SessionId {
    SessionId::from_bytes([byte; 32])
}

/// The data directory of the relay's first version: Alice and Bob, friends, with a session each.
async fn first_version(people: [&Person; 2]) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("server-key.der"), server_key()).unwrap();
    let mut database = database(data.path()).await;
    sqlx::raw_sql(FIRST_SCHEMA).execute(&mut database).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 1").execute(&mut database).await.unwrap();
    for (person, byte) in people.into_iter().zip(1..) {
        insert_person(&mut database, person, &session(byte)).await;
    }
    for (one, other) in [(0, 1), (1, 0)] {
        sqlx::query("INSERT INTO friend VALUES (?1, ?2, 5)")
            .bind(people[one].account.as_str())
            .bind(people[other].account.as_str())
            .execute(&mut database)
            .await
            .unwrap();
    }
    // And many others: what is erased must be so in pages that nothing is written over.
    let others = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500)
        INSERT INTO account SELECT 'other' || n, '', ?1 || n, CAST('tag' || n AS BLOB), x'', zeroblob(422),
            x'', zeroblob(2000), x'', 1 FROM n";
    sqlx::query(others).bind(ARGON2_HASH).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    data
}

fn shows(data: &Path, secret: &[u8]) -> Option<String> {
    let found =
        files(data).into_iter().find(|(_, bytes)| bytes.windows(secret.len()).any(|window| window == secret));
    found.map(|(path, _)| path.display().to_string())
}

// REQ S1, A3
#[tokio::test]
async fn an_account_of_the_first_version_stays_logged_in_and_has_no_password_any_more() {
    let elsewhere = TestRelay::start().await;
    let mut alice = Person::stranger(&elsewhere, "alice").await;
    let mut bob = Person::stranger(&elsewhere, "bob").await;
    let data = first_version([&alice, &bob]).await;
    assert!(shows(data.path(), ARGON2_HASH.as_bytes()).is_some());

    let relay = TestRelay::start_in(data, |_| ()).await;
    alice.client.session = Some(session(1));
    bob.client.session = Some(session(2));
    for person in [&mut alice, &mut bob] {
        person.reconnect(&relay).await;
    }
    // Everything is there: nickname, friends, keys.
    let known = GetAccountKeys { accounts: vec![bob.account.clone()] };
    let keys = alice.client.ask(&known).await.unwrap().accounts.remove(0);
    assert_eq!((keys.nickname.as_str(), &keys.keys), ("bob 님", &bob.keys));
    assert_eq!(alice.client.ask(&FriendList {}).await.unwrap().friends[0].since, 5);
    alice.learn(std::slice::from_ref(&bob.account)).await;
    bob.learn(std::slice::from_ref(&alice.account)).await;
    // The prekeys count by the time at which they were made, and are turned over as ever.
    let room = alice.create(mildam_protocol::records::RoomKind::Direct, &[&bob.account.clone()]).await;
    bob.catch_up(&room).await;
    let mut without_bob = alice.announcement(&room);
    without_bob.epoch.wraps.retain(|wrap| wrap.account == alice.account);
    assert_eq!(code(alice.client.ask(&without_bob).await), Code::Stale);
    let day = 24 * 60 * 60 * 1_000;
    bob.update_own_prekey(bob.keys.prekeys[0].created_at + day).await;
    // The list goes on: a device that is taken on and off again does not come back.
    let phone = new_device(&alice.account);
    let both = alice.list_of(&alice.keys.lists[0], &[&alice.secrets, &phone]);
    alice.client.ask(&both).await.unwrap();
    let without = alice.list_of(&both.device_list, &[&alice.secrets]);
    alice.client.ask(&without).await.unwrap();
    let back = alice.list_of(&without.device_list, &[&alice.secrets, &phone]);
    assert_eq!(code(alice.client.ask(&back).await), Code::BadRecord);

    // Without its session there is no way in: no password, and no words that the relay could check.
    let mut late = Person::stranger(&relay, "alice").await;
    assert_eq!(code(late.log_in().await), Code::WrongCredentials);
    let (_, request) =
        mildam_protocol::password::Registration::start("new", &mut crate::relay::rng()).unwrap();
    let start = late.recover_start(request);
    assert_eq!(code(late.client.ask(&start).await), Code::WrongWords);
    alice.attach().await.unwrap();

    // No trace is left of the password's hash.
    let data = relay.stop().await;
    assert_eq!(shows(data.path(), b"$argon2id$"), None);
    elsewhere.stop().await;
}

// REQ S1
#[tokio::test]
async fn a_device_of_the_first_version_that_signed_up_gets_a_new_session_by_its_sign_up() {
    let elsewhere = TestRelay::start().await;
    let alice = Person::stranger(&elsewhere, "alice").await;
    let bob = Person::stranger(&elsewhere, "bob").await;
    let relay = TestRelay::start_in(first_version([&alice, &bob]).await, |_| ()).await;
    let mut alice = Person::stranger(&relay, "alice").await;
    alice.sign_up().await.unwrap();
    alice.attach().await.unwrap();
    // It is a session, and no password.
    assert_eq!(code(alice.log_in().await), Code::WrongCredentials);
    relay.stop().await;
    elsewhere.stop().await;
}

// REQ A3, A4, T6
#[tokio::test]
async fn no_file_shows_what_a_person_knows() {
    const NEW_PASSWORD: &str = "a password after the loss";
    let relay = TestRelay::start().await;
    let (mut alice, _bob, room) = two_talking(&relay).await;
    alice.say(&room, "a text that nobody else reads").await.unwrap();
    let mut sessions = vec![alice.client.session.clone().unwrap()];
    let mut again = Person::stranger(&relay, "alice").await.at(new_device(&alice.account));
    again.recover(NEW_PASSWORD).await.unwrap();
    sessions.push(again.client.session.clone().unwrap());
    let phone = new_device(&alice.account);
    let present = again.published().await.lists.pop().unwrap();
    again.client.ask(&again.list_of(&present, &[&again.secrets, &phone])).await.unwrap();
    let mut phone = Person::stranger(&relay, "alice").await.at(phone);
    phone.log_in_with(NEW_PASSWORD).await.unwrap();
    sessions.push(phone.client.session.clone().unwrap());
    assert_eq!(alice.client.events_until_now().await.last(), Some(&Event::DeviceRemoved {}));

    // While it runs, with what waits in the log of the database, and when it has stopped.
    let check = |data: &Path| {
        let words = alice.words.words(mildam_e2ee::recovery::WordLanguage::English).join(" ");
        let mut secrets: Vec<(&str, Vec<u8>)> = vec![
            ("the first password", password("alice").into()),
            ("the new password", NEW_PASSWORD.into()),
            ("the words", words.into()),
            ("a text", b"a text that nobody else reads".to_vec()),
            ("an address", b"alice@example.org".to_vec()),
        ];
        for session in &sessions {
            secrets.push(("a session", session.as_bytes().to_vec()));
            let id = serde_json::to_value(session).unwrap();
            secrets.push(("a session as text", id.as_str().unwrap().into()));
        }
        for (what, secret) in secrets {
            assert_eq!(shows(data, &secret), None, "{what}");
        }
        // What the search looks for it would find.
        assert!(shows(data, again.account.as_str().as_bytes()).is_some());
    };
    check(relay.data());
    let data = relay.stop().await;
    check(data.path());

    // Who steals the database alone cannot even try passwords: what they are mixed with is elsewhere.
    let keys = std::fs::read(data.path().join("password-keys.bin")).unwrap();
    for part in keys.chunks(32) {
        let database: Vec<_> =
            files(data.path()).into_iter().filter(|(path, _)| !path.ends_with("password-keys.bin")).collect();
        assert!(database.iter().all(|(_, bytes)| !bytes.windows(part.len()).any(|window| window == part)));
    }
    std::fs::remove_file(data.path().join("password-keys.bin")).unwrap();
    let relay = TestRelay::start_in(data, |_| ()).await;
    let mut phone = Person::stranger(&relay, "alice").await.at(phone.secrets);
    assert_eq!(code(phone.log_in_with(NEW_PASSWORD).await), Code::WrongCredentials);
    // That is also what losing the file means: sessions last, and the words set a password anew.
    again.reconnect(&relay).await;
    let mut once_more = Person::stranger(&relay, "alice").await.at(new_device(&alice.account));
    once_more.recover("the third password").await.unwrap();
    once_more.log_in_with("the third password").await.unwrap();
    relay.stop().await;
}

// REQ A3, S1
#[tokio::test]
async fn the_file_with_the_password_keys_is_private_and_never_taken_damaged() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let data = relay.stop().await;
    let path = data.path().join("password-keys.bin");
    let keys = std::fs::read(&path).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    for damaged in [&keys[..keys.len() - 1], &[keys.as_slice(), &[0]].concat(), &[]] {
        std::fs::write(&path, damaged).unwrap();
        let mut config = mildam_relay::Config::new(data.path().to_owned());
        config.listen = Some(crate::relay::loopback());
        let refused = mildam_relay::Relay::bind(config).await.unwrap_err();
        assert!(refused.to_string().contains("password-keys.bin"), "{refused}");
    }
    // From a backup, everything goes on as before.
    std::fs::write(&path, &keys).unwrap();
    let relay = TestRelay::start_in(data, |_| ()).await;
    alice.client = crate::client::Client::connect(&relay).await;
    alice.log_in().await.unwrap();
    relay.stop().await;
}

// REQ S5
#[cfg(unix)]
#[tokio::test]
async fn files_are_their_owners_only_whatever_was_before() {
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::Mode;

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let check = |folder: &Path| {
        assert_eq!(mode(folder), 0o700);
        let files = files(folder);
        for (path, _) in &files {
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
        files.into_iter().map(|(path, _)| path)
    };
    // As most systems have it, and as the program of its own does not leave it.
    let umask = rustix::process::umask(Mode::from_raw_mode(0o022));
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("server-key.der"), server_key()).unwrap();
    open(data.path(), 0o755);
    let relay = TestRelay::start_in(data, |_| ()).await;
    let _alice = Person::new(&relay, "alice").await;
    let names: Vec<_> =
        check(relay.data()).filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect();
    for name in ["relay.db", "relay.db-wal", "relay.db-shm", "tls.pem", "secrets.bin", "link.txt", "lock"] {
        assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
    }
    // As a backup may have put them back.
    let data = relay.stop().await;
    for (path, _) in files(data.path()) {
        open(&path, 0o644);
    }
    open(data.path(), 0o755);
    let relay = TestRelay::start_in(data, |_| ()).await;
    drop(check(relay.data()));
    relay.stop().await;
    rustix::process::umask(umask);
}
