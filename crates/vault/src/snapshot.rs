//! A copy of all rows as they lie, in one file that is read from front to back: what is left when
//! the store cannot be read any more.
//!
//! ```text
//! snapshot = "MILDAMSN" || format (u16, 1) || row ... || 0 (u32) || number of rows (u64)
//!            || SHA-256 of everything before
//! row      = length (u32, not 0) || key || length (u32) || value
//! ```
//!
//! Integers are big-endian. The rows are sealed as in the store, so the file says no more than the
//! store does; and when the state key is replaced, nobody can read its secrets again.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::error::VaultError;
use crate::folder::private_file;
use crate::key_slot::VaultKeys;
use crate::open::read_head;
use crate::rows::{Batch, Direction, KeyRange, MemoryRows, Rows, Visit};
use crate::sealed_rows::SealedRows;

const MAGIC: &[u8; 8] = b"MILDAMSN";
const FORMAT: u16 = 1;
/// No key and no value in the store is nearly as long; a damaged length must not ask for all memory.
const LONGEST: u32 = 64 * 1024;

/// A snapshot leaves so many bytes free on the disk: what people write next needs them more.
const LEFT_FREE: u64 = 8 * 1024 * 1024;
/// After so many bytes it is looked again how much is free.
const LOOK_EVERY: u64 = 1024 * 1024;

const DAMAGED: VaultError = VaultError::Damaged { what: "snapshot" };

/// Writes a snapshot row by row.
pub(crate) struct SnapshotWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    rows: u64,
    /// Bytes that may still be written before it is looked again how much is free.
    seen_free: u64,
}

impl SnapshotWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, VaultError> {
        let file = BufWriter::new(private_file().create(true).truncate(true).open(path)?);
        let mut writer = Self { path: path.to_owned(), file, hash: Sha256::new(), rows: 0, seen_free: 0 };
        writer.write(MAGIC)?;
        writer.write(&FORMAT.to_be_bytes())?;
        Ok(writer)
    }

    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), VaultError> {
        for bytes in [key, value] {
            let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
            self.write(&length.ok_or(VaultError::RowTooLong { length: bytes.len() })?.to_be_bytes())?;
            self.write(bytes)?;
        }
        self.rows = self.rows.saturating_add(1);
        Ok(())
    }

    /// Ends the file and makes it durable, but not yet its name.
    pub(crate) fn finish(mut self) -> Result<(), VaultError> {
        self.write(&0_u32.to_be_bytes())?;
        self.write(&self.rows.to_be_bytes())?;
        let hash = self.hash.finalize();
        self.file.write_all(&hash)?;
        self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), VaultError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > self.seen_free {
            if fs4::available_space(&self.path)? < LEFT_FREE.saturating_add(LOOK_EVERY) {
                return Err(VaultError::DiskFull);
            }
            self.seen_free = LOOK_EVERY;
        }
        self.seen_free = self.seen_free.saturating_sub(length);
        self.hash.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }
}

/// Key and value.
type Row = (Vec<u8>, Vec<u8>);

/// Reads a snapshot from front to back.
struct SnapshotReader<R> {
    file: R,
    hash: Sha256,
    rows: u64,
    /// Bytes read so far.
    read: u64,
}

impl SnapshotReader<BufReader<File>> {
    fn open(path: &Path) -> Result<Self, VaultError> {
        Self::new(BufReader::new(File::open(path)?))
    }
}

impl<R: Read> SnapshotReader<R> {
    fn new(file: R) -> Result<Self, VaultError> {
        let mut reader = Self::at(file);
        if reader.array()? != *MAGIC {
            return Err(DAMAGED);
        }
        match u16::from_be_bytes(reader.array()?) {
            FORMAT => Ok(reader),
            newer if newer > FORMAT => Err(VaultError::Newer { found: u64::from(newer) }),
            _ => Err(DAMAGED),
        }
    }

    /// Where a row begins.
    fn at(file: R) -> Self {
        Self { file, hash: Sha256::new(), rows: 0, read: 0 }
    }

    /// The next row, or none after the last one, once number and hash were found right.
    fn row(&mut self) -> Result<Option<Row>, VaultError> {
        let length = u32::from_be_bytes(self.array()?);
        if length > 0 {
            let key = self.bytes(length)?;
            let length = u32::from_be_bytes(self.array()?);
            let value = self.bytes(length)?;
            self.rows = self.rows.saturating_add(1);
            return Ok(Some((key, value)));
        }
        if u64::from_be_bytes(self.array()?) != self.rows {
            return Err(DAMAGED);
        }
        let hash = self.hash.clone().finalize();
        if self.array::<32>()?.as_slice() != hash.as_slice() || self.file.read(&mut [0])? != 0 {
            return Err(DAMAGED);
        }
        Ok(None)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], VaultError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, VaultError> {
        let length = usize::try_from(length.min(LONGEST.saturating_add(1))).map_err(|_| DAMAGED)?;
        if length > LONGEST as usize {
            return Err(DAMAGED);
        }
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), VaultError> {
        self.file.read_exact(bytes).map_err(ends_early)?;
        self.hash.update(&*bytes);
        self.read = self.read.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

fn ends_early(error: std::io::Error) -> VaultError {
    if error.kind() == ErrorKind::UnexpectedEof { DAMAGED } else { error.into() }
}

/// Reads a whole snapshot to see that it is one.
pub(crate) fn check(path: &Path) -> Result<(), VaultError> {
    to_the_end(SnapshotReader::open(path)?)
}

/// The same, of a snapshot in memory.
pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(), VaultError> {
    to_the_end(SnapshotReader::new(bytes)?)
}

fn to_the_end(mut reader: SnapshotReader<impl Read>) -> Result<(), VaultError> {
    while reader.row()?.is_some() {}
    Ok(())
}

/// How many commits the vault had made that a snapshot is of; none if there is none that the keys open.
pub(crate) fn commits(path: &Path, keys: &VaultKeys) -> Option<u64> {
    // The head is the first row of all.
    let (key, value) = SnapshotReader::open(path).ok()?.row().ok()??;
    let rows = MemoryRows::default();
    rows.apply(Batch::from([(key, Some(value))])).ok()?;
    let head = read_head(&SealedRows::new(Box::new(rows), keys), keys).ok()?;
    (head.state_generation == keys.state_generation).then_some(head.commits)
}

/// The rows of a snapshot, as far as they can be read, where they lie: what is in memory is a small part.
/// Each row bears a tag of its own, so those before a damaged place are as good as ever.
pub(crate) struct SnapshotRows {
    file: Mutex<File>,
    blocks: Vec<Block>,
}

/// Some rows that stand side by side. They were written in the order of their keys, but a damaged key may
/// stand anywhere: nothing relies on the order.
struct Block {
    least: Vec<u8>,
    greatest: Vec<u8>,
    offset: u64,
    rows: u64,
}

/// So many bytes of rows make a block, but for the last row.
const BLOCK_LENGTH: u64 = 64 * 1024;

impl SnapshotRows {
    /// None if there is no snapshot.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, VaultError> {
        match fs::exists(path) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut reader = SnapshotReader::open(path)?;
        let mut blocks: Vec<Block> = Vec::new();
        loop {
            let offset = reader.read;
            let key = match reader.row() {
                Ok(Some((key, _))) => key,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, rows = reader.rows, "the snapshot ends early");
                    break;
                }
            };
            match blocks.last_mut() {
                Some(block) if offset.saturating_sub(block.offset) < BLOCK_LENGTH => {
                    block.rows = block.rows.saturating_add(1);
                    if key < block.least {
                        block.least = key;
                    } else if key > block.greatest {
                        block.greatest = key;
                    }
                }
                _ => blocks.push(Block { least: key.clone(), greatest: key, offset, rows: 1 }),
            }
        }
        Ok(Some(Self { file: Mutex::new(File::open(path)?), blocks }))
    }

    fn rows_of(&self, block: &Block) -> Result<Vec<Row>, VaultError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(block.offset))?;
        let mut reader = SnapshotReader::at(BufReader::new(&mut *file));
        (0..block.rows).map(|_| reader.row()?.ok_or(DAMAGED)).collect()
    }
}

impl Rows for SnapshotRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        let may_hold = |block: &&Block| block.least.as_slice() <= key && key <= block.greatest.as_slice();
        for block in self.blocks.iter().filter(may_hold) {
            if let Some((_, value)) = self.rows_of(block)?.into_iter().find(|(found, _)| found == key) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<(), VaultError> {
        if range.from >= range.to {
            return Ok(());
        }
        let may_hold = |block: &&Block| block.least < range.to && range.from <= block.greatest;
        let mut blocks: Vec<&Block> = self.blocks.iter().filter(may_hold).collect();
        if direction == Direction::Down {
            blocks.reverse();
        }
        for block in blocks {
            let mut rows = self.rows_of(block)?;
            rows.retain(|(key, _)| range.from <= *key && *key < range.to);
            rows.sort_unstable();
            if direction == Direction::Down {
                rows.reverse();
            }
            for (key, value) in rows {
                if let ControlFlow::Break(()) = visit(&key, &value)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Nobody changes a snapshot.
    fn apply(&self, _: Batch) -> Result<(), VaultError> {
        Err(VaultError::Halted)
    }

    fn sync(&self) -> Result<(), VaultError> {
        Err(VaultError::Halted)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn written(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("snapshot");
        let mut writer = SnapshotWriter::create(&path).unwrap();
        writer.row(b"a", b"one").unwrap();
        writer.row(b"b", b"").unwrap();
        writer.finish().unwrap();
        path
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(&folder);
        check(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            let expected =
                if matches!(at, 8 | 9) { &["vault_newer", "vault_damaged"][..] } else { &["vault_damaged"] };
            assert!(expected.contains(&check(&path).unwrap_err().code()), "byte {at}");
        }
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert_eq!(check(&path).unwrap_err().code(), "vault_damaged", "length {length}");
        }
        fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
        assert_eq!(check(&path).unwrap_err().code(), "vault_damaged");
    }

    #[test]
    fn what_comes_before_a_damaged_place_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(&folder);
        let bytes = fs::read(&path).unwrap();
        // Within the second row.
        fs::write(&path, &bytes[..bytes.len() - 48]).unwrap();
        let rows = SnapshotRows::open(&path).unwrap().unwrap();
        assert_eq!(rows.get(b"a").unwrap().unwrap(), b"one");
        assert_eq!(rows.get(b"b").unwrap(), None);
        assert!(SnapshotRows::open(&folder.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn a_damaged_key_takes_no_other_row_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let mut writer = SnapshotWriter::create(&path).unwrap();
        for n in 1..=2_000_u16 {
            writer.row(&[&b"k"[..], &n.to_be_bytes()].concat(), &[1; 100]).unwrap();
        }
        writer.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        let row = 4 + 3 + 4 + 100;
        for (damaged, byte) in [(1_u16, 0xff), (1_000, 0xff), (1_000, 0), (2_000, 0)] {
            let mut flipped = bytes.clone();
            flipped[10 + row * usize::from(damaged - 1) + 4] = byte;
            fs::write(&path, flipped).unwrap();
            let rows = SnapshotRows::open(&path).unwrap().unwrap();
            for n in 1..=2_000_u16 {
                let found = rows.get(&[&b"k"[..], &n.to_be_bytes()].concat()).unwrap();
                assert_eq!(found.is_some(), n != damaged, "{n} {damaged}");
            }
            let mut count = 0;
            rows.scan(&KeyRange::prefix(b"k"), Direction::Up, &mut |_, _| {
                count += 1;
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
            assert_eq!(count, 1_999);
        }
    }

    #[test]
    fn rows_are_found_where_they_lie_as_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let mut writer = SnapshotWriter::create(&path).unwrap();
        let memory = MemoryRows::default();
        // Enough for several blocks.
        for n in 1..=2_000_u16 {
            let (key, value) = ([&b"k"[..], &(n * 2).to_be_bytes()].concat(), vec![1; usize::from(n % 300)]);
            writer.row(&key, &value).unwrap();
            memory.apply(Batch::from([(key, Some(value))])).unwrap();
        }
        writer.finish().unwrap();
        let rows = SnapshotRows::open(&path).unwrap().unwrap();
        assert!(rows.blocks.len() > 3, "{}", rows.blocks.len());
        let key = |n: u16| [&b"k"[..], &n.to_be_bytes()].concat();
        for n in 0..4_010 {
            assert_eq!(rows.get(&key(n)).unwrap(), memory.get(&key(n)).unwrap(), "{n}");
        }
        for (from, to) in [(0, 4_010), (0, 1), (7, 8), (8, 8), (9, 7), (1_000, 3_001), (4_000, 5_000)] {
            let range = KeyRange { from: key(from), to: key(to) };
            for direction in [Direction::Up, Direction::Down] {
                let all = |rows: &dyn Rows| {
                    let mut found = Vec::new();
                    rows.scan(&range, direction, &mut |key, value| {
                        found.push((key.to_vec(), value.to_vec()));
                        Ok(ControlFlow::Continue(()))
                    })
                    .unwrap();
                    found
                };
                assert_eq!(all(&rows), all(&memory), "{from} {to} {direction:?}");
            }
        }
    }
}
