//! Power cuts under the real store: what the vault writes, syncs and renames is recorded by `strace` while it
//! lives, and then the folder is put together as a power cut at each moment could have left it, and opened.
//!
//! The model of a disk: a write is kept for sure once its file was synced after it, a name once its folder was.
//! Until then it may be kept or not, and a write by single sectors.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod common;
mod lives;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::copy;
use lives::{Life, check_life, commit, open, run_life};
use mildam_vault::Vault;

const CALLS: &str = "openat,write,pwrite64,lseek,ftruncate,fallocate,fsync,fdatasync,rename,renameat,\
                     renameat2,unlink,unlinkat,mkdir,sendto";

/// Something that the process did, successfully.
#[derive(Debug)]
enum Step {
    /// A file was opened, and made or emptied.
    Make {
        path: PathBuf,
        empty: bool,
    },
    Write {
        path: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    Length {
        path: PathBuf,
        length: usize,
    },
    Sync(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
    Folder(PathBuf),
    /// A line was acknowledged.
    Told(u64),
}

/// `\x61\x62` as bytes.
fn unescape(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|hex| u8::from_str_radix(&hex[..2], 16).unwrap()).collect()
}

/// The parts of a line in quotes, or in angle brackets.
fn parts(line: &str, open: char, close: char) -> Vec<Vec<u8>> {
    let mut rest = line;
    let mut found = Vec::new();
    while let Some((_, after)) = rest.split_once(open) {
        let Some((part, after)) = after.split_once(close) else { break };
        found.push(unescape(part));
        rest = after;
    }
    found
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8(bytes).unwrap())
}

/// The steps of a process within a folder, in the order of time.
fn read_trace(prefix: &Path, folder: &Path) -> Vec<Step> {
    let name = prefix.file_name().unwrap().to_str().unwrap();
    let mut lines: Vec<(f64, String)> = Vec::new();
    for entry in fs::read_dir(prefix.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(name) {
            for line in fs::read_to_string(path).unwrap().lines() {
                if let Some((time, call)) = line.split_once(' ')
                    && let Ok(time) = time.parse()
                {
                    lines.push((time, call.to_owned()));
                }
            }
        }
    }
    lines.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for (_, line) in lines {
        let Some((call, answer)) = line.rsplit_once(" = ") else { continue };
        if answer.starts_with('-') || answer.starts_with('?') {
            continue;
        }
        let (name, arguments) = call.split_once('(').unwrap();
        let returned: usize = answer.split(['<', ' ']).next().unwrap().parse().unwrap_or(0);
        let handle = arguments.split('<').next().unwrap().to_owned();
        let (mut quoted, mut angled) = (parts(arguments, '"', '"'), parts(arguments, '<', '>'));
        let number = |at: usize| {
            let all: Vec<&str> = arguments.trim_end_matches(')').split(", ").collect();
            all[all.len() - 1 - at].parse::<usize>().unwrap()
        };
        let step = match name {
            "openat" => {
                places.insert(returned.to_string(), 0);
                let path = path_of(parts(answer, '<', '>').remove(0));
                let made = arguments.contains("O_CREAT");
                made.then(|| Step::Make { path, empty: arguments.contains("O_TRUNC") })
            }
            "lseek" => {
                places.insert(handle, returned);
                None
            }
            "write" => {
                let at = places.entry(handle).or_default();
                let mut bytes = quoted.remove(0);
                bytes.truncate(returned);
                *at += returned;
                Some(Step::Write { path: path_of(angled.remove(0)), at: *at - returned, bytes })
            }
            "pwrite64" => {
                let mut bytes = quoted.remove(0);
                bytes.truncate(returned);
                Some(Step::Write { path: path_of(angled.remove(0)), at: number(0), bytes })
            }
            "ftruncate" => Some(Step::Length { path: path_of(angled.remove(0)), length: number(0) }),
            "fallocate" => {
                Some(Step::Length { path: path_of(angled.remove(0)), length: number(0) + number(1) })
            }
            "fsync" | "fdatasync" => Some(Step::Sync(path_of(angled.remove(0)))),
            "rename" | "renameat" | "renameat2" => {
                let to = path_of(quoted.pop().unwrap());
                Some(Step::Rename { from: path_of(quoted.pop().unwrap()), to })
            }
            "unlink" | "unlinkat" => Some(Step::Remove(path_of(quoted.remove(0)))),
            "mkdir" => Some(Step::Folder(path_of(quoted.remove(0)))),
            "sendto" => {
                let word = String::from_utf8(quoted.remove(0)).unwrap_or_default();
                word.parse().ok().map(Step::Told)
            }
            _ => None,
        };
        let within = |path: &Path| path.starts_with(folder);
        steps.extend(step.filter(|step| match step {
            Step::Make { path, .. }
            | Step::Write { path, .. }
            | Step::Length { path, .. }
            | Step::Sync(path)
            | Step::Rename { from: path, .. }
            | Step::Remove(path)
            | Step::Folder(path) => within(path),
            Step::Told(_) => true,
        }));
    }
    steps
}

/// A file, as it is and as it is for sure.
#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    sure: Vec<u8>,
    /// What was written since it was synced: from where on, and what; or its new length.
    since: Vec<(usize, Option<Vec<u8>>)>,
}

impl Content {
    fn write(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn change(&mut self, at: usize, bytes: Option<Vec<u8>>) {
        match &bytes {
            Some(bytes) => Self::write(&mut self.now, at, bytes),
            None => self.now.resize(at, 0),
        }
        self.since.push((at, bytes));
    }
}

/// Which of what is not sure is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    All,
    None,
    /// All names, and of the files nothing.
    Names,
    /// Some sectors, by this seed.
    Some(u64),
}

#[derive(Default)]
struct Disk {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    sure_names: BTreeMap<PathBuf, usize>,
    folders: Vec<PathBuf>,
}

const SECTOR: usize = 512;

impl Disk {
    /// A folder as it lies, all of it for sure.
    fn of(folder: &Path) -> Self {
        let mut disk = Self { folders: vec![folder.to_owned()], ..Self::default() };
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    disk.folders.push(path.clone());
                    folders.push(path);
                } else {
                    let now = fs::read(&path).unwrap();
                    disk.files.push(Content { sure: now.clone(), now, since: Vec::new() });
                    disk.names.insert(path, disk.files.len() - 1);
                }
            }
        }
        disk.sure_names = disk.names.clone();
        disk
    }

    fn file(&mut self, path: &Path) -> &mut Content {
        let id = *self.names.get(path).unwrap_or_else(|| panic!("no {}", path.display()));
        &mut self.files[id]
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Make { path, empty } => {
                if !self.names.contains_key(path) {
                    self.files.push(Content::default());
                    self.names.insert(path.clone(), self.files.len() - 1);
                }
                if *empty && !self.file(path).now.is_empty() {
                    self.file(path).change(0, None);
                }
            }
            Step::Write { path, at, bytes } => self.file(path).change(*at, Some(bytes.clone())),
            Step::Length { path, length } => self.file(path).change(*length, None),
            Step::Sync(path) if self.folders.contains(path) => {
                let here = |name: &PathBuf| name.parent() == Some(path);
                self.sure_names.retain(|name, _| !here(name));
                let now = self.names.iter().filter(|(name, _)| here(name));
                self.sure_names.extend(now.map(|(name, id)| (name.clone(), *id)));
            }
            Step::Sync(path) => {
                let file = self.file(path);
                file.sure.clone_from(&file.now);
                file.since.clear();
            }
            Step::Rename { from, to } => {
                let id = self.names.remove(from).expect("what is renamed is there");
                self.names.insert(to.clone(), id);
            }
            Step::Remove(path) => drop(self.names.remove(path)),
            Step::Folder(path) => self.folders.push(path.clone()),
            Step::Told(_) => {}
        }
    }

    /// Writes the folder as a power cut may have left it, in another place.
    fn leave(&self, from: &Path, to: &Path, kept: Kept) {
        let mut seed = match kept {
            Kept::Some(seed) => seed,
            Kept::All | Kept::None | Kept::Names => 0,
        };
        let mut keep = || match kept {
            Kept::All => true,
            Kept::None | Kept::Names => false,
            Kept::Some(_) => {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed >> 63 == 1
            }
        };
        for folder in &self.folders {
            fs::create_dir_all(to.join(folder.strip_prefix(from).unwrap())).unwrap();
        }
        let names = if kept == Kept::Names || keep() { &self.names } else { &self.sure_names };
        for (name, id) in names {
            let file = &self.files[*id];
            let mut content = file.sure.clone();
            for (at, bytes) in &file.since {
                match bytes {
                    None if keep() => content.resize(*at, 0),
                    None => {}
                    Some(bytes) => {
                        let mut begin = 0;
                        while begin < bytes.len() {
                            let end = ((at + begin) / SECTOR + 1) * SECTOR - at;
                            let sector = &bytes[begin..end.min(bytes.len())];
                            if keep() {
                                Content::write(&mut content, at + begin, sector);
                            }
                            begin += sector.len();
                        }
                    }
                }
            }
            fs::write(to.join(name.strip_prefix(from).unwrap()), content).unwrap();
        }
    }
}

// REQ L1: real sled, real files: whenever the power is cut, what was acknowledged is there, as a whole.
#[test]
fn a_power_cut_under_the_real_store_loses_nothing() {
    let work = tempfile::tempdir().unwrap();
    let (before, folder) = (work.path().join("before"), work.path().join("folder"));
    let vault = open(&before).unwrap();
    for seq in 1..=3 {
        commit(&vault, seq).unwrap();
    }
    drop(vault);
    copy(&before, &folder);
    let mut disk = Disk::of(&folder);
    let trace = work.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-ff", "-ttt", "-y", "-xx", "--string-limit=10000000"]);
    command.arg("--output").arg(&trace).arg(format!("--trace={CALLS}"));
    let life = run_life(command, &folder);
    assert_eq!(life.end.as_deref(), Some("done"), "{}", life.said);
    let steps = read_trace(&trace, &folder);
    assert!(steps.len() > 40, "{} steps", steps.len());
    let mut acknowledged = 0;
    for (at, step) in steps.iter().enumerate() {
        disk.take(step);
        if let Step::Told(seq) = step {
            acknowledged = *seq;
        }
        for kept in [Kept::All, Kept::None, Kept::Names, Kept::Some(at as u64)] {
            let left = work.path().join("left");
            disk.leave(&folder, &left, kept);
            assert!(Vault::exists(&left), "step {at}, {kept:?}");
            let place = format!("after step {at} of {}, {kept:?}: {:?}", steps.len(), Brief(step));
            let life = Life { acknowledged, end: None, said: String::new() };
            check_life(&left, &life, 3, &place);
            fs::remove_dir_all(&left).unwrap();
        }
    }
}

/// A step without what it wrote.
struct Brief<'a>(&'a Step);

impl std::fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Step::Write { path, at, bytes } => {
                write!(f, "{} bytes at {at} of {}", bytes.len(), path.display())
            }
            other => other.fmt(f),
        }
    }
}
