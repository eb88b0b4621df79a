//! A disk that refuses: every write, sync, rename and open of a vault's life is refused in turn, once and from
//! then on, by `strace`, which answers the system call in the kernel's place; and no file may grow beyond a size,
//! for many sizes, so that writes are cut short. The store is the real one.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;
mod lives;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::copy;
use lives::{Life, check_life, commit, open, run_life};

/// A life in which calls are refused, and whether there was such a call.
fn live_refused(folder: &Path, calls: &str, error: &str, when: &str) -> (Life, bool) {
    let trace = folder.with_extension("trace");
    let mut command = Command::new("timeout");
    command
        .args(["120", "strace", "--follow-forks", "--output"])
        .arg(&trace)
        .arg(format!("--trace={calls}"))
        .arg(format!("--inject={calls}:error={error}:when={when}"));
    let life = run_life(command, folder);
    (life, fs::read_to_string(&trace).unwrap().contains("(INJECTED)"))
}

/// A life in which no file may have more than so many bytes.
fn live_limited(folder: &Path, bytes: usize) -> Life {
    let mut command = Command::new("timeout");
    let limit = format!("trap '' XFSZ; exec prlimit --fsize={bytes} \"$0\" \"$@\"");
    command.args(["120", "sh", "-c", &limit]);
    run_life(command, folder)
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
            let (life, refused) = live_refused(&folder, calls, error, &when);
            let place =
                format!("{calls} {error} when={when} from {lines} lines: {:?}\n{}", life.end, life.said);
            if !refused {
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
