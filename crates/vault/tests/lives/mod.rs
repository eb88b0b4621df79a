//! The life of a vault in a process of its own: this very test binary, asked to run one ignored test. It tells
//! by a socket what was acknowledged, since its other output may be refused.

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

pub fn open(folder: &Path) -> Result<Vault, VaultError> {
    let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    open_with_argon2(folder, Unlock::Passphrase("pass".to_owned().into()), cheap)
}

fn room() -> RoomId {
    RoomId::from_bytes([7; 32])
}

/// What a client commits for one message: several tables, short rows and long ones.
pub fn commit(vault: &Vault, seq: u64) -> Result<(), VaultError> {
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

/// What became of a life.
pub struct Life {
    /// The last line that was acknowledged.
    pub acknowledged: u64,
    /// `done`, or the code of the error with which it ended; none if it ended before it could tell.
    pub end: Option<String>,
    pub said: String,
}

/// Lives in a process that another command starts. Nothing may hang, whatever is refused.
pub fn run_life(mut command: Command, folder: &Path) -> Life {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "lives::lives_once", "--ignored", "--nocapture"])
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
    Life { acknowledged, end, said: String::from_utf8_lossy(&said).into_owned() }
}

/// What became of a life: it ended with a reason that a person can be told, and everything is there that was
/// acknowledged, and can be written on.
pub fn check_life(folder: &Path, life: &Life, lines: u64, place: &str) {
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
