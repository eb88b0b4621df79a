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
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::VaultError;
use crate::folder::private_file;
use crate::rows::{Batch, MemoryRows, Rows};

const MAGIC: &[u8; 8] = b"MILDAMSN";
const FORMAT: u16 = 1;
/// No key and no value in the store is nearly as long; a damaged length must not ask for all memory.
const LONGEST: u32 = 64 * 1024;

const DAMAGED: VaultError = VaultError::Damaged { what: "snapshot" };

/// Writes a snapshot row by row.
pub(crate) struct SnapshotWriter {
    file: BufWriter<File>,
    hash: Sha256,
    rows: u64,
}

impl SnapshotWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, VaultError> {
        let file = BufWriter::new(private_file().create(true).truncate(true).open(path)?);
        let mut writer = Self { file, hash: Sha256::new(), rows: 0 };
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
}

impl SnapshotReader<BufReader<File>> {
    fn open(path: &Path) -> Result<Self, VaultError> {
        Self::new(BufReader::new(File::open(path)?))
    }
}

impl<R: Read> SnapshotReader<R> {
    fn new(file: R) -> Result<Self, VaultError> {
        let mut reader = Self { file, hash: Sha256::new(), rows: 0 };
        if reader.array()? != *MAGIC {
            return Err(DAMAGED);
        }
        match u16::from_be_bytes(reader.array()?) {
            FORMAT => Ok(reader),
            newer if newer > FORMAT => Err(VaultError::Newer { found: u64::from(newer) }),
            _ => Err(DAMAGED),
        }
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
        self.file.read_exact(&mut bytes).map_err(ends_early)?;
        self.hash.update(bytes);
        Ok(bytes)
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, VaultError> {
        let length = usize::try_from(length.min(LONGEST.saturating_add(1))).map_err(|_| DAMAGED)?;
        if length > LONGEST as usize {
            return Err(DAMAGED);
        }
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes).map_err(ends_early)?;
        self.hash.update(&bytes);
        Ok(bytes)
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

/// The rows of a snapshot, as far as they can be read; none if there is no snapshot. Each row bears
/// a tag of its own, so those before a damaged place are as good as ever.
pub(crate) fn read(path: &Path) -> Result<Option<MemoryRows>, VaultError> {
    match fs::exists(path) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut reader = SnapshotReader::open(path)?;
    let mut batch = Batch::new();
    loop {
        match reader.row() {
            Ok(Some((key, value))) => drop(batch.insert(key, Some(value))),
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, rows = batch.len(), "the snapshot ends early");
                break;
            }
        }
    }
    let rows = MemoryRows::default();
    rows.apply(batch)?;
    Ok(Some(rows))
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
        let rows = read(&path).unwrap().unwrap();
        assert_eq!(rows.get(b"a").unwrap().unwrap(), b"one");
        assert_eq!(rows.get(b"b").unwrap(), None);
        assert!(read(&folder.path().join("none")).unwrap().is_none());
    }
}
