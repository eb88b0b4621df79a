//! A disk that refuses: every write, sync, rename and open of a vault's life is refused in turn, once and from
//! then on, by `strace`, which answers the system call in the kernel's place; and no file may grow beyond a size,
//! for many sizes, so that writes are cut short. The store is the real one.
//!
//! The process whose calls are refused is this test binary itself, asked to run one ignored test. It tells by
//! a socket what was acknowledged: its other output may be refused as well.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mildam_records::{ClientMessageId, Hash, RoomId};
use mildam_vault::hazmat::{Argon2Cost, open_with_argon2};
use mildam_vault::{Changes, HistoryRow, RoomRow, Secret, Unlock, Vault, VaultError};

const FOLDER: &str = "MILDAM_TEST_VAULT";
const TELL: &str = "MILDAM_TEST_TELL";

/// The last line of a life.
const LAST: u64 = 6;

fn open(folder: &Path) -> Result<Vault, VaultError> {
    let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    open_with_argon2(folder, Unlock::Passphrase("pass".to_owned().into()), cheap)
}

fn room() -> RoomId {
    RoomId::from_bytes([7; 32])
}

/// What a client commits for one message: several tables, short rows and long ones.
fn commit(vault: &Vault, seq: u64) -> Result<(), VaultError> {
    let mut changes = Changes::new();
    changes.put_room(
        &room(),
        RoomRow { state: Secret::new(seq.to_be_bytes().repeat(3000)), meta: seq.to_be_bytes().to_vec() },
    );
    changes.put_log_hash(&room(), seq, Hash::from_bytes([1; 32]));
    changes.put_message(
        &room(),
        HistoryRow {
            seq,
            id: ClientMessageId::from_bytes([u8::try_from(seq).unwrap(); 16]),
            from: "alice".parse().unwrap(),
            sent_at: 1_790_000_000_000 + seq,
            body: Vec::new(),
            text: Some(format!("사과 n{seq}")),
        },
    );
    vault.commit(changes)
}

/// The last line that is there, after checking that everything is there as a whole.
fn last_line(vault: &Vault) -> u64 {
    vault.verify().unwrap();
    let Some(last) = vault.last_message(&room()).unwrap() else {
        assert!(vault.rooms().unwrap().is_empty());
        return 0;
    };
    let row = vault.room(&room()).unwrap().unwrap();
    assert_eq!((row.meta.as_slice(), row.state.len()), (&last.seq.to_be_bytes()[..], 24_000));
    let all = vault.history(&room(), None, usize::MAX).unwrap();
    assert!(all.iter().map(|line| line.seq).eq(1..=last.seq));
    assert!((1..=last.seq).all(|seq| vault.log_hash(&room(), seq).unwrap().is_some()));
    assert_eq!(vault.search("사과", usize::MAX).unwrap().len(), all.len());
    last.seq
}

/// A step of a life. One that failed is tried again on the vault that was opened again in place.
fn step(
    vault: &mut Vault,
    is_done: impl Fn(&Vault) -> bool,
    step: impl Fn(&Vault) -> Result<(), VaultError>,
) -> Result<(), VaultError> {
    let Err(error) = step(vault) else { return Ok(()) };
    assert!(matches!(error.code(), "disk_full" | "disk_failed"), "{error}");
    if vault.fault().is_some() {
        vault.reopen()?;
    }
    if is_done(vault) { Ok(()) } else { step(vault) }
}

fn live(folder: &Path, tell: &dyn Fn(&str)) -> Result<(), VaultError> {
    let mut vault = match open(folder) {
        // What was refused once may be granted the second time.
        Err(error) if matches!(error.code(), "disk_full" | "disk_failed") => open(folder)?,
        opened => opened?,
    };
    let begin = last_line(&vault);
    for seq in begin + 1..=LAST {
        let there = move |vault: &Vault| vault.has_message(&room(), seq).unwrap();
        step(&mut vault, there, |vault| commit(vault, seq))?;
        tell(&seq.to_string());
        if seq == begin + 1 {
            step(&mut vault, |vault| !vault.snapshot_is_due().unwrap(), Vault::snapshot)?;
        }
        if seq == begin + 2 {
            step(&mut vault, |vault| vault.rotated_at().unwrap() == seq, |vault| vault.rotate(seq))?;
        }
    }
    assert_eq!(last_line(&vault), LAST);
    Ok(())
}

#[test]
#[ignore = "run by other tests, in a process of its own"]
fn lives_once() {
    let (Some(folder), Ok(port)) = (std::env::var_os(FOLDER), std::env::var(TELL)) else { return };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    let tell = |word: &str| {
        socket.send(word.as_bytes()).unwrap();
    };
    match live(Path::new(&folder), &tell) {
        Ok(()) => tell("done"),
        Err(error) => tell(error.code()),
    }
}

/// What became of a life in which a call was refused.
struct Life {
    /// Whether there was such a call.
    refused: bool,
    /// The last line that was acknowledged.
    acknowledged: u64,
    /// `done`, or the code of the error with which it ended; none if it ended before it could tell.
    end: Option<String>,
    said: String,
}

fn live_refused(folder: &Path, calls: &str, error: &str, when: &str) -> Life {
    let trace = folder.with_extension("trace");
    let mut command = Command::new("timeout");
    command
        .args(["120", "strace", "--follow-forks", "--output"])
        .arg(&trace)
        .arg(format!("--trace={calls}"))
        .arg(format!("--inject={calls}:error={error}:when={when}"));
    let mut life = run_life(command, folder);
    life.refused = fs::read_to_string(&trace).unwrap().contains("(INJECTED)");
    life
}

/// A life in which no file may have more than so many bytes.
fn live_limited(folder: &Path, bytes: usize) -> Life {
    let mut command = Command::new("timeout");
    let limit = format!("trap '' XFSZ; exec prlimit --fsize={bytes} \"$0\" \"$@\"");
    command.args(["120", "sh", "-c", &limit]);
    run_life(command, folder)
}

/// Lives in a process that another command starts. Nothing may hang, whatever is refused.
fn run_life(mut command: Command, folder: &Path) -> Life {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "lives_once", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(TELL, socket.local_addr().unwrap().port().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // Whatever was told is in the socket's queue by now.
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let (mut bytes, mut acknowledged, mut end) = ([0; 64], 0, None);
    while let Ok(length) = socket.recv(&mut bytes) {
        let word = String::from_utf8(bytes[..length].to_vec()).unwrap();
        match word.parse() {
            Ok(seq) => acknowledged = seq,
            Err(_) => end = Some(word),
        }
    }
    assert_ne!(output.status.code(), Some(124), "{command:?}: it hangs");
    let said = [output.stdout, output.stderr].concat();
    Life { refused: false, acknowledged, end, said: String::from_utf8_lossy(&said).into_owned() }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What became of a life: it ended with a reason that a person can be told, and everything is there that was
/// acknowledged, and can be written on.
fn check_life(folder: &Path, life: &Life, lines: u64, place: &str) {
    let codes = ["done", "disk_full", "disk_failed"];
    assert!(life.end.as_deref().is_none_or(|end| codes.contains(&end)), "{place}");
    let vault = open(folder).unwrap_or_else(|error| panic!("{place}: {error}"));
    let last = last_line(&vault);
    let least = life.acknowledged.max(lines);
    assert!(last == least || last == least + 1, "{last} lines, {least} acknowledged, {place}");
    commit(&vault, last + 1).unwrap();
    vault.rotate(9).unwrap();
    assert_eq!(last_line(&vault), last + 1, "{place}");
}

/// Refuses the first call, then the second, until there is none left, each in the life of a new vault and
/// of one that has lines already.
fn refuse_each(calls: &str, error: &str, from_then_on: bool) {
    let work = tempfile::tempdir().unwrap();
    let (empty, lived) = (work.path().join("empty"), work.path().join("lived"));
    fs::create_dir(&empty).unwrap();
    let vault = open(&lived).unwrap();
    for seq in 1..=3 {
        commit(&vault, seq).unwrap();
    }
    vault.snapshot().unwrap();
    drop(vault);
    for (before, lines) in [(&empty, 0), (&lived, 3)] {
        let (mut number, mut ended) = (0, 0);
        loop {
            number += 1;
            let folder = work.path().join(format!("{lines}-{number}"));
            copy(before, &folder);
            let when = if from_then_on { format!("{number}+") } else { number.to_string() };
            let life = live_refused(&folder, calls, error, &when);
            let place =
                format!("{calls} {error} when={when} from {lines} lines: {:?}\n{}", life.end, life.said);
            if !life.refused {
                assert_eq!(life.end.as_deref(), Some("done"), "{place}");
                break;
            }
            ended += usize::from(life.end.as_deref().is_some_and(|end| end != "done"));
            check_life(&folder, &life, lines, &place);
            fs::remove_dir_all(&folder).unwrap();
        }
        assert!(number > 3, "{calls} were hardly called");
        assert!(!from_then_on || ended > 0, "no life ended for a refused {calls}");
    }
}

// REQ L1: a full disk, from any write on.
#[test]
fn a_disk_that_is_full_from_any_write_on_loses_nothing() {
    refuse_each("write,pwrite64,pwritev,ftruncate,fallocate", "ENOSPC", true);
}

// REQ L1: a single refused write is made good by opening the vault again in place.
#[test]
fn any_write_that_is_refused_once_loses_nothing() {
    refuse_each("write,pwrite64,pwritev,ftruncate,fallocate", "ENOSPC", false);
}

#[test]
fn any_sync_that_fails_once_loses_nothing() {
    refuse_each("fsync,fdatasync,sync_file_range", "EIO", false);
}

#[test]
fn any_rename_or_removal_that_fails_once_loses_nothing() {
    refuse_each("rename,renameat,renameat2,unlink,unlinkat,mkdir", "EIO", false);
}

#[test]
fn any_file_that_cannot_be_opened_once_loses_nothing() {
    refuse_each("openat", "EMFILE", false);
}

// REQ L1: writes that are cut short wherever the room ends.
#[test]
fn a_disk_with_room_for_any_part_loses_nothing() {
    let work = tempfile::tempdir().unwrap();
    let lived = work.path().join("lived");
    let vault = open(&lived).unwrap();
    for seq in 1..=3 {
        commit(&vault, seq).unwrap();
    }
    drop(vault);
    let (mut ended, mut done) = (0, 0);
    // The store has 150 KB before, and three times as much after a life.
    for bytes in (0..600).step_by(12).map(|kib| kib * 1024 + 7) {
        let folder = work.path().join(bytes.to_string());
        copy(&lived, &folder);
        let life = live_limited(&folder, bytes);
        let place = format!("{bytes} bytes: {:?}\n{}", life.end, life.said);
        let is_done = life.end.as_deref() == Some("done");
        (ended, done) = (ended + usize::from(!is_done), done + usize::from(is_done));
        check_life(&folder, &life, 3, &place);
        fs::remove_dir_all(&folder).unwrap();
    }
    assert!(ended > 10 && done > 0, "{ended} lives ended, {done} did not");
}
