//! A process that is killed in the middle of a commit, and two processes at once.
//!
//! The other process is this test binary itself, asked to run one ignored test.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use mildam_records::{ClientMessageId, Hash, RoomId};
use mildam_vault::hazmat::{Argon2Cost, open_with_argon2};
use mildam_vault::{Changes, HistoryRow, OutboxRow, RoomRow, Secret, Unlock, Vault, VaultError};

const FOLDER: &str = "MILDAM_TEST_VAULT";

fn open(folder: &Path) -> Result<Vault, VaultError> {
    let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    open_with_argon2(folder, Unlock::Passphrase("pass".to_owned().into()), cheap)
}

fn room() -> RoomId {
    RoomId::from_bytes([7; 32])
}

fn id(seq: u64) -> ClientMessageId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seq.to_be_bytes());
    ClientMessageId::from_bytes(id)
}

fn line(seq: u64, text: &str) -> HistoryRow {
    HistoryRow {
        seq,
        id: id(seq),
        from: "alice".parse().unwrap(),
        sent_at: 1_790_000_000_000 + seq,
        body: Vec::new(),
        text: Some(text.to_owned()),
    }
}

/// What a client commits for one message: several tables, short rows and long ones.
fn commit(vault: &Vault, seq: u64) {
    let mut changes = Changes::new();
    changes.put_room(
        &room(),
        RoomRow { state: Secret::new(seq.to_be_bytes().repeat(3000)), meta: seq.to_be_bytes().to_vec() },
    );
    changes.put_log_hash(&room(), seq, Hash::from_bytes([1; 32]));
    changes.put_message(&room(), line(seq, &format!("사과 n{seq}")));
    changes.remove_outbox(&room(), &id(seq));
    changes.put_outbox(OutboxRow {
        order: 0,
        room: room(),
        id: id(seq + 1),
        body: Vec::new(),
        sealed: None,
        created_at: 0,
    });
    vault.commit(changes).unwrap();
}

/// The last commit that is there, after checking that it is there as a whole.
fn last_commit(vault: &Vault) -> u64 {
    let Some(last) = vault.last_message(&room()).unwrap() else {
        assert!(vault.rooms().unwrap().is_empty());
        return 0;
    };
    let seq = last.seq;
    let row = vault.room(&room()).unwrap().unwrap();
    assert_eq!(row.meta, seq.to_be_bytes());
    assert_eq!(*row.state, seq.to_be_bytes().repeat(3000));
    assert!(vault.log_hash(&room(), seq).unwrap().is_some());
    assert!(vault.log_hash(&room(), seq + 1).unwrap().is_none());
    let outbox = vault.outbox().unwrap();
    assert_eq!(outbox.len(), 1);
    assert_eq!(outbox[0].id, id(seq + 1));
    let all = vault.history(&room(), None, usize::MAX).unwrap();
    assert!(all.iter().map(|line| line.seq).eq(1..=seq));
    assert_eq!(vault.search("사과", usize::MAX).unwrap().len(), all.len());
    seq
}

struct Other {
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn run(test: &str, folder: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, stdin, lines }
    }

    /// The next word that the other process says, if it says another.
    fn hear(&mut self) -> Option<String> {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("said: ").map(|(_, word)| word.to_owned()))
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
    }
}

fn say(word: &str) {
    println!("said: {word}");
    std::io::stdout().flush().unwrap();
}

#[test]
#[ignore = "run by other tests, in a process of its own"]
fn commits_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let vault = open(Path::new(&folder)).unwrap();
    let mut seq = last_commit(&vault);
    loop {
        seq += 1;
        commit(&vault, seq);
        say(&seq.to_string());
    }
}

#[test]
#[ignore = "run by other tests, in a process of its own"]
fn commits_and_rotates_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let vault = open(Path::new(&folder)).unwrap();
    let mut seq = last_commit(&vault);
    loop {
        seq += 1;
        commit(&vault, seq);
        // The same line once more with other words: its bucket is to be emptied.
        let mut changes = Changes::new();
        changes.put_message(&room(), line(seq, "사과 twice"));
        vault.commit(changes).unwrap();
        say(&seq.to_string());
        vault.rotate(seq).unwrap();
        vault.snapshot().unwrap();
    }
}

#[test]
#[ignore = "run by other tests, in a process of its own"]
fn recovers_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let unlock = || Unlock::Passphrase("pass".to_owned().into());
    loop {
        say("begin");
        drop(Vault::recover(Path::new(&folder), &unlock()).unwrap());
        say("done");
    }
}

#[test]
#[ignore = "run by other tests, in a process of its own"]
fn holds_the_vault_until_told_to_stop() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let vault = open(Path::new(&folder)).unwrap();
    say("open");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(vault);
    say("closed");
}

/// REQ L1, L3, M3: everything that was acknowledged is there, and nothing is there by half.
#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    kill_after("commits_until_killed", &[1, 2, 3, 7, 20, 40, 5, 60]);
}

/// The same while keys are changed, buckets emptied and snapshots written.
#[test]
fn a_kill_in_a_rotation_loses_nothing() {
    kill_after("commits_and_rotates_until_killed", &[1, 2, 3, 5, 8, 4, 2, 6, 1, 3]);
}

fn kill_after(test: &str, rounds: &[usize]) {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for commits in rounds {
        let mut other = Other::run(test, folder.path());
        for _ in 0..*commits {
            acknowledged = other.hear().unwrap().parse().unwrap();
        }
        other.kill();
        // What it managed to say before it died counts too.
        while let Some(seq) = other.hear() {
            acknowledged = seq.parse().unwrap();
        }
        other.process.wait().unwrap();
        let vault = open(folder.path()).unwrap();
        vault.verify().unwrap();
        let last = last_commit(&vault);
        assert!(
            last == acknowledged || last == acknowledged + 1,
            "{acknowledged} acknowledged, {last} found"
        );
        // It can be written on.
        commit(&vault, last + 1);
        acknowledged = last + 1;
    }
}

/// A repair that is killed is begun again, and loses nothing that the first one would have saved.
#[test]
fn a_kill_in_a_repair_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path()).unwrap();
    for seq in 1..=30 {
        commit(&vault, seq);
    }
    drop(vault);
    for round in 0..12 {
        let mut other = Other::run("recovers_until_killed", folder.path());
        assert_eq!(other.hear().unwrap(), "begin");
        // Each round is killed a little later, as far as the next word.
        if round % 3 == 2 {
            other.hear().unwrap();
        }
        for _ in 0..round {
            std::thread::yield_now();
        }
        other.kill();
        while other.hear().is_some() {}
        other.process.wait().unwrap();
    }
    let vault = Vault::recover(folder.path(), &Unlock::Passphrase("pass".to_owned().into())).unwrap();
    vault.verify().unwrap();
    assert_eq!(last_commit(&vault), 30);
    assert_eq!(vault.repair().unwrap().unwrap().messages, 30);
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = Other::run("holds_the_vault_until_told_to_stop", folder.path());
    assert_eq!(other.hear().unwrap(), "open");
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, VaultError::Locked));
    assert_eq!(error.code(), "vault_locked");
    writeln!(other.stdin).unwrap();
    assert_eq!(other.hear().unwrap(), "closed");
    let vault = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(VaultError::Locked)));
    drop(vault);
    assert!(open(folder.path()).is_ok());
    other.process.wait().unwrap();
}
