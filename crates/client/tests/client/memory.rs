//! What is left in the memory of a process whose client was locked.
//!
//! The process is this test binary itself, asked to run one ignored test: this one must not know the
//! secrets before the other has forgotten them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use data_encoding::BASE64URL_NOPAD;
use mildam_vault::{Slot, Vault, hazmat};
use serde_json::Value;

use super::world::*;

const FOLDER: &str = "MILDAM_TEST_CLIENT";
const LINK: &str = "MILDAM_TEST_LINK";

fn unlock() -> Unlock {
    Unlock::Passphrase(Zeroizing::new("a passphrase".to_owned()))
}

struct Other {
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn run(test: &str, folder: &Path, link: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .env(LINK, link)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, stdin, lines }
    }

    /// Waits until the other process says this.
    fn wait_for(&mut self, word: &str) {
        let said = self.lines.by_ref().map_while(Result::ok).any(|line| line == format!("said: {word}"));
        assert!(said, "the other process ended before it said {word:?}");
    }

    fn go_on(&mut self) {
        writeln!(self.stdin).unwrap();
    }

    /// Which of the secrets are in its memory.
    fn remembers(&self, secrets: &[(String, Vec<u8>)]) -> BTreeSet<String> {
        let mut begins = [false; 256];
        for (_, secret) in secrets {
            begins[usize::from(secret[0])] = true;
        }
        let mut found = BTreeSet::new();
        for bytes in written(self.process.id()) {
            for at in (0..bytes.len()).filter(|at| begins[usize::from(bytes[*at])]) {
                let here = secrets.iter().filter(|(_, secret)| bytes[at..].starts_with(secret));
                found.extend(here.map(|(name, _)| name.clone()));
            }
        }
        found
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What a process has written to memory: its heap, its stacks, its data.
fn written(process: u32) -> Vec<Vec<u8>> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let writable = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (begin, end) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        rest.starts_with("rw").then(|| (address(begin), address(end)))
    });
    let read = writable.filter_map(|(begin, end)| {
        let mut bytes = vec![0; usize::try_from(end - begin).unwrap()];
        // Some of the system's own cannot be read.
        memory.read_exact_at(&mut bytes, begin).ok().map(|()| bytes)
    });
    read.collect()
}

/// The keys in a vault, each as it is and as it is written.
fn secrets(home: &Path) -> Vec<(String, Vec<u8>)> {
    let folder = home;
    let mut keys: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, key) in
        ["vault", "state", "index", "slot"].iter().zip(hazmat::keys(folder, &unlock()).unwrap())
    {
        keys.push((format!("the {name} key"), key.to_vec()));
    }
    let vault = Vault::open(folder, unlock()).unwrap();
    let decode = |value: &Value| BASE64URL_NOPAD.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let device: Value = serde_json::from_slice(&vault.get(Slot::Device).unwrap().unwrap()).unwrap();
    keys.push(("the device key".to_owned(), decode(&device["signer"])));
    for prekey in device["prekeys"].as_array().unwrap() {
        keys.push(("a prekey".to_owned(), decode(&prekey["seed"])));
    }
    for (_, row) in vault.rooms().unwrap() {
        let room: Value = serde_json::from_slice(&row.state).unwrap();
        keys.push(("the own chain".to_owned(), decode(&room["epoch"]["own"]["key"])));
        for chain in room["epoch"]["chains"].as_object().unwrap().values() {
            keys.push(("a chain".to_owned(), decode(&chain["key"])));
        }
    }
    assert!(keys.iter().all(|(_, key)| key.len() == 32));
    let texts = keys.iter().map(|(name, key)| {
        // Without its last character, of which not all bits are the key's.
        let text = BASE64URL_NOPAD.encode(key);
        (format!("{name}, written"), text.as_bytes()[..42].to_vec())
    });
    let texts: Vec<_> = texts.collect();
    keys.into_iter().chain(texts).collect()
}

// REQ L2
#[tokio::test(flavor = "multi_thread")]
async fn no_key_stays_in_memory_once_the_client_is_locked() {
    let world = World::new().await;
    let mut bob = world.person("bob").await;
    let home = world.folder.path().join("alice");
    let mut alice = Other::run("memory::locks_and_waits", &home, &world.server.link);
    bob.until(|event| match event {
        Event::Friends { friends } => friends.incoming.first().map(|_| ()),
        _ => None,
    })
    .await;
    bob.client.accept_friend("alice").await.unwrap();
    let said = bob.until_text("안녕, 밥!", MessageState::Received).await;
    bob.client.send(&said.room, "안녕, 앨리스!").await.unwrap();
    tokio::task::spawn_blocking(move || {
        alice.wait_for("locked");
        let secrets = secrets(&home);
        assert!(secrets.len() >= 14, "{}", secrets.len());
        assert_eq!(alice.remembers(&secrets), BTreeSet::new());
        // They would be found: a client that is open has them.
        alice.go_on();
        alice.wait_for("open");
        let open = alice.remembers(&secrets);
        for key in ["the vault key", "the state key", "the slot key", "the device key", "a prekey"] {
            assert!(open.contains(key), "{key}: {open:?}");
        }
        alice.go_on();
        alice.wait_for("locked");
        assert_eq!(alice.remembers(&secrets), BTreeSet::new());
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, in a process of its own"]
async fn locks_and_waits() {
    let (Some(home), Ok(link)) = (std::env::var_os(FOLDER), std::env::var(LINK)) else {
        return;
    };
    let mut alice = Person::sign_up(Path::new(&home), "alice", &link).await;
    alice.client.request_friend("bob", "").await.unwrap();
    alice
        .until(|event| match event {
            Event::Friends { friends } => friends.friends.first().map(|_| ()),
            _ => None,
        })
        .await;
    let room = alice.client.open_direct("bob").await.unwrap().room;
    alice.client.send(&room, "안녕, 밥!").await.unwrap();
    alice.until_text("안녕, 앨리스!", MessageState::Received).await;
    let Person { client, events, .. } = alice;
    drop(events);
    client.shut_down().await;
    say_and_wait("locked").await;
    let client = open(Path::new(&home)).await;
    client.wait_online().await.unwrap();
    say_and_wait("open").await;
    client.shut_down().await;
    say_and_wait("locked").await;
}

async fn say_and_wait(word: &str) {
    println!("said: {word}");
    std::io::stdout().flush().unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await.unwrap();
}
