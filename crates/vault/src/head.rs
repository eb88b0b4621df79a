//! The head of the store: its format, how many commits there were, and the sums of its rows. The
//! number is also told outside the store.
//!
//! A log-structured store that finds its last bytes unreadable goes back to an earlier end, and
//! nothing inside it can tell. So the number of commits stands in the store, and, after each
//! commit is durable, also here. The file is not synced: after a killed process it is exact, after
//! a power cut it may be too low, which only makes the check weaker. It is never too high, so a
//! store that has fewer commits than this has lost something.
//!
//! ```text
//! u64 big-endian number of commits || first 8 bytes of SHA-256(T("mildam/vault-head/v1", number))
//! ```

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use mildam_records::Canonical;

use crate::error::VaultError;
use crate::fields::Fields;
use crate::folder::private_file;
use crate::sum::Sums;

/// The format of tables and rows together. A store with a higher one is refused, one with a lower
/// one is brought to this by [`crate::migrate`].
pub(crate) const FORMAT: u64 = 3;

/// The one row that every store has: `field(format) || field(commits) || field(state key
/// generation) || field(rotated at) || field(state sum) || field(history sum)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadRow {
    /// Which format the rows have.
    pub(crate) format: u64,
    pub(crate) commits: u64,
    /// Under which state key the rows are sealed: tells which of two key slots is in force.
    pub(crate) state_generation: u64,
    /// When the state key was replaced last, in milliseconds since 1970; 0 for never.
    pub(crate) rotated_at: u64,
    pub(crate) sums: Sums,
}

impl HeadRow {
    /// Of a store without other rows.
    pub(crate) const fn empty(state_generation: u64) -> Self {
        Self { format: FORMAT, commits: 0, state_generation, rotated_at: 0, sums: Sums::EMPTY }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let row = Canonical::element()
            .integer(self.format)
            .integer(self.commits)
            .integer(self.state_generation)
            .integer(self.rotated_at);
        self.sums.append_to(row).into_bytes()
    }

    /// # Errors
    /// [`VaultError::Newer`] or [`VaultError::Damaged`].
    pub(crate) fn decode(row: &[u8]) -> Result<Self, VaultError> {
        const DAMAGED: VaultError = VaultError::Damaged { what: "head" };
        let mut fields = Fields::new(row);
        // A newer format may say something else, so it is looked at first.
        let format = fields.integer().ok_or(DAMAGED)?;
        if format > FORMAT {
            return Err(VaultError::Newer { found: format });
        }
        let head = Self::fields(format, &mut fields).ok_or(DAMAGED)?;
        fields.end().ok_or(DAMAGED)?;
        Ok(head)
    }

    fn fields(format: u64, fields: &mut Fields<'_>) -> Option<Self> {
        let commits = fields.integer()?;
        // Format 1 knew no other state key than the first.
        let (state_generation, rotated_at) = match format {
            1 => (1, 0),
            2 | FORMAT => (fields.integer()?, fields.integer()?),
            _ => return None,
        };
        Some(Self { format, commits, state_generation, rotated_at, sums: Sums::read(fields)? })
    }
}

/// The file with the number of commits.
pub(crate) struct HeadFile(File);

impl HeadFile {
    pub(crate) fn open(path: &Path) -> Result<Self, VaultError> {
        Ok(Self(private_file().create(true).truncate(false).open(path)?))
    }

    /// The number of commits; none if the file is new or torn, when it says nothing.
    pub(crate) fn read(&self) -> Result<Option<u64>, VaultError> {
        let mut bytes = Vec::new();
        let mut file = &self.0;
        file.seek(SeekFrom::Start(0))?;
        file.take(17).read_to_end(&mut bytes)?;
        Ok(bytes
            .first_chunk::<8>()
            .map(|number| u64::from_be_bytes(*number))
            .filter(|commits| bytes == encode(*commits)))
    }

    pub(crate) fn write(&self, commits: u64) -> Result<(), VaultError> {
        let mut file = &self.0;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&encode(commits))?;
        Ok(())
    }
}

fn encode(commits: u64) -> Vec<u8> {
    let check = Canonical::new("mildam/vault-head/v1").integer(commits).hash();
    let mut bytes = commits.to_be_bytes().to_vec();
    bytes.extend(check.as_bytes().iter().take(8));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_store_is_told_from_a_damaged_one() {
        let row = HeadRow { commits: 7, rotated_at: 9, ..HeadRow::empty(3) };
        assert_eq!(HeadRow::decode(&row.encode()).unwrap(), row);
        let earlier = HeadRow { format: 2, ..row };
        assert_eq!(HeadRow::decode(&earlier.encode()).unwrap(), earlier);
        let newer = Canonical::element().integer(4).text("more").into_bytes();
        assert!(matches!(HeadRow::decode(&newer), Err(VaultError::Newer { found: 4 })));
        let none = Canonical::element().integer(0).into_bytes();
        assert_eq!(HeadRow::decode(&none).unwrap_err().code(), "vault_damaged");
        let error = HeadRow::decode(&row.encode()[..30]).unwrap_err();
        assert_eq!(error.code(), "vault_damaged");
    }

    #[test]
    fn a_torn_head_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.mildam");
        let head = HeadFile::open(&path).unwrap();
        assert_eq!(head.read().unwrap(), None);
        head.write(7).unwrap();
        head.write(8).unwrap();
        assert_eq!(HeadFile::open(&path).unwrap().read().unwrap(), Some(8));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[7] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(HeadFile::open(&path).unwrap().read().unwrap(), None);
    }
}
