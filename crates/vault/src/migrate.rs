//! Bringing the rows of an older format to this one. Format by format, each is marked in the head with
//! its last commit: after a crash there is the old format, and the next opening begins it anew, or the
//! new one. A vault that was brought up is not opened by older programs any more.
//!
//! Format 1 (0.1.0): the bucket rows held a generation, always 1, where the condition is now; the
//! head knew no state key generation and no time of rotation. One commit brings it to 2.
//!
//! Format 2: postings with fingerprints of another folding, by which accents counted, and words were
//! found from their beginning only. All blocks are removed, and made anew of the lines, under the same
//! keys. That is many commits, so that memory holds some lines at a time only. What is cut short in
//! between has format 2 and some postings, of either folding or none; nobody searches it, for no vault
//! is open before the end, and the next opening removes them again. Everything before the mark is
//! durable before the mark is written. Lines that cannot be opened are as unreadable as they were, and
//! do not keep the vault closed.

use std::ops::ControlFlow;

use crate::directory::Directory;
use crate::draft::Draft;
use crate::error::VaultError;
use crate::head::{FORMAT, HeadRow};
use crate::row::HistoryRow;
use crate::rows::{Direction, KeyRange};
use crate::sealed_rows::SealedRows;
use crate::table::{BucketNumber, RowKey, Table};

/// So many rows are read or removed in one commit.
const ROWS_AT_ONCE: usize = 256;

/// # Errors
/// As [`Vault::commit`](crate::Vault::commit).
pub(crate) fn migrate(
    rows: &SealedRows,
    directory: &mut Directory,
    head: &mut HeadRow,
) -> Result<(), VaultError> {
    if head.format == FORMAT {
        return Ok(());
    }
    tracing::info!(from = head.format, to = FORMAT, "the vault is brought to this version's format");
    if head.format == 1 {
        head.format = 2;
        commit(rows, directory, head, |draft| draft.rewrite_buckets())?;
    }
    post_all_again(rows, directory, head)?;
    rows.sync()?;
    head.format = FORMAT;
    commit(rows, directory, head, |_| Ok(()))?;
    rows.sync()
}

fn post_all_again(
    rows: &SealedRows,
    directory: &mut Directory,
    head: &mut HeadRow,
) -> Result<(), VaultError> {
    while commit(rows, directory, head, |draft| draft.remove_postings(ROWS_AT_ONCE))? {}
    let mut range = KeyRange::prefix(RowKey::new(Table::History).as_bytes());
    let mut unreadable = 0_u64;
    loop {
        let lines = next_lines(rows, directory, &mut range)?;
        if lines.is_empty() {
            break;
        }
        commit(rows, directory, head, |draft| {
            lines.iter().flatten().try_for_each(|(bucket, line)| draft.post_again(*bucket, line))
        })?;
        let lost = lines.iter().filter(|line| line.is_none()).count();
        unreadable = unreadable.saturating_add(u64::try_from(lost).unwrap_or(u64::MAX));
    }
    if unreadable > 0 {
        tracing::warn!(unreadable, "some lines cannot be read, and are not found by search");
    }
    Ok(())
}

/// The next lines of a range, with the buckets that seal them, or none for one that does not open. The
/// range is what is left of it.
fn next_lines(
    rows: &SealedRows,
    directory: &Directory,
    range: &mut KeyRange,
) -> Result<Vec<Option<(BucketNumber, HistoryRow)>>, VaultError> {
    let mut found = Vec::new();
    let mut last = None;
    rows.scan_sealed(range, Direction::Up, &mut |key, value| {
        last = Some(key.to_vec());
        let row = RowKey::found(Table::History, key);
        found.push(match rows.open(&row, value, directory) {
            Ok(line) => Some(rows.sealed_by(&row, value)?).zip(HistoryRow::decode(&line)),
            Err(VaultError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        });
        Ok(if found.len() < ROWS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    if let Some(mut next) = last {
        // The least key behind it.
        next.push(0);
        range.from = next;
    }
    Ok(found)
}

/// One commit, which is seen from here on; not yet durable.
fn commit<T>(
    rows: &SealedRows,
    directory: &mut Directory,
    head: &mut HeadRow,
    make: impl FnOnce(&mut Draft<'_>) -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    let mut draft = Draft::new(rows, directory);
    let made = make(&mut draft)?;
    rows.apply(draft.finish(head)?)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mildam_records::{ClientMessageId, RoomId};

    use super::*;
    use crate::changes::Changes;
    use crate::key_files::MemoryFiles;
    use crate::key_slot::{Argon2Cost, SlotKey, VaultKeys};
    use crate::keyring::OsKeyring;
    use crate::postings::{Entry, Fingerprints};
    use crate::rows::{Batch, MemoryRows, Rows, Visit};
    use crate::unlock::Unlock;
    use crate::vault::Vault;

    const LINES: u64 = 600;
    const PERIOD: u64 = 30 * 24 * 60 * 60 * 1000;

    /// Rows of a machine that stops after some writes.
    struct Stopping {
        rows: Arc<MemoryRows>,
        left: AtomicUsize,
    }

    impl Rows for Stopping {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
            self.rows.get(key)
        }

        fn scan(
            &self,
            range: &KeyRange,
            direction: Direction,
            visit: &mut Visit<'_>,
        ) -> Result<(), VaultError> {
            self.rows.scan(range, direction, visit)
        }

        fn apply(&self, batch: Batch) -> Result<(), VaultError> {
            let left = self.left.load(Ordering::Relaxed);
            let next = left.checked_sub(1).ok_or(VaultError::Io(io::Error::other("stopped")))?;
            self.left.store(next, Ordering::Relaxed);
            self.rows.apply(batch)
        }

        fn sync(&self) -> Result<(), VaultError> {
            Ok(())
        }
    }

    fn sealed(rows: &Arc<MemoryRows>, keys: &VaultKeys, writes: usize) -> SealedRows {
        let rows = Stopping { rows: Arc::clone(rows), left: AtomicUsize::new(writes) };
        SealedRows::new(Box::new(rows), keys)
    }

    fn open(rows: &Arc<MemoryRows>, keys: &VaultKeys, writes: usize) -> Result<Vault, VaultError> {
        let unlock = Unlock::Passphrase(String::new().into());
        let slot_key = SlotKey::new(&unlock, Argon2Cost::LEAST, &OsKeyring)?;
        let files = Arc::new(MemoryFiles::default());
        Vault::load(sealed(rows, keys, writes), (keys.clone(), slot_key), files, None, None)
    }

    fn found(rows: &MemoryRows, range: &KeyRange) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        rows.scan(range, Direction::Up, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        found
    }

    fn copied(rows: &MemoryRows) -> Arc<MemoryRows> {
        let copy = MemoryRows::default();
        let all = found(rows, &KeyRange::everything());
        copy.apply(all.into_iter().map(|(key, value)| (key, Some(value))).collect()).unwrap();
        Arc::new(copy)
    }

    fn blocks() -> KeyRange {
        KeyRange::prefix(RowKey::new(Table::Postings).as_bytes())
    }

    /// A vault of format 2, in whose postings nothing is found.
    fn of_format_2() -> (Arc<MemoryRows>, VaultKeys) {
        let (rows, keys) = (Arc::new(MemoryRows::default()), VaultKeys::generate().unwrap());
        Vault::begin(&sealed(&rows, &keys, usize::MAX), &keys).unwrap();
        let vault = open(&rows, &keys, usize::MAX).unwrap();
        let mut changes = Changes::new();
        for seq in 1..=LINES {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&seq.to_be_bytes());
            let line = HistoryRow {
                seq,
                id: ClientMessageId::from_bytes(id),
                from: "alice".parse().unwrap(),
                sent_at: PERIOD * (650 + seq % 3),
                body: Vec::new(),
                text: Some(format!("사과 café x{seq}y")),
            };
            changes.put_message(&RoomId::from_bytes([u8::try_from(seq % 2).unwrap(); 32]), line);
        }
        vault.commit(changes).unwrap();
        let mut head = vault.progress().unwrap().head;
        let mut batch = Batch::new();
        let mut nothing = Vec::new();
        Entry::append(&mut nothing, 1, 1, &Fingerprints::of_text("nothing"));
        for (key, _) in found(&rows, &blocks()) {
            let bucket = RowKey::last_number(&key[..5]).unwrap();
            let key = RowKey::found(Table::Postings, &key);
            vault.rows.put(&mut batch, &key, bucket, &vault.directory(), &nothing).unwrap();
        }
        head.format = 2;
        head.sums = vault.rows.sums_after(head.sums, &batch).unwrap();
        let key = RowKey::new(Table::Head);
        vault.rows.put(&mut batch, &key, 0, &vault.directory(), &head.encode()).unwrap();
        vault.rows.apply(batch).unwrap();
        (rows, keys)
    }

    /// Every line that can be read has one entry, of this version.
    fn is_indexed(vault: &Vault, lines: u64) {
        for query in ["사과", "cafe", "afé"] {
            assert_eq!(vault.search(query, usize::MAX).unwrap().len() as u64, lines, "{query}");
        }
        assert_eq!(vault.search("599", 9).unwrap().len(), 1);
        let mut entries = 0;
        let directory = vault.directory();
        vault
            .rows
            .scan(Table::Postings, &blocks(), Direction::Up, &directory, &mut |_, block| {
                entries += Entry::all_of(&block).unwrap().len() as u64;
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        assert_eq!(entries, lines);
    }

    #[test]
    fn a_new_index_may_be_cut_short_at_any_write() {
        let (original, keys) = of_format_2();
        for writes in 0.. {
            let rows = copied(&original);
            let opened = open(&rows, &keys, writes).is_ok();
            let vault = open(&rows, &keys, usize::MAX).unwrap();
            vault.verify().unwrap();
            is_indexed(&vault, LINES);
            assert_eq!(vault.progress().unwrap().head.format, FORMAT);
            drop(vault);
            // Brought up once only.
            assert!(open(&rows, &keys, 0).is_ok());
            if opened {
                assert!(writes > 4, "{writes}");
                break;
            }
        }
    }

    #[test]
    fn an_unreadable_line_keeps_no_vault_closed() {
        let (rows, keys) = of_format_2();
        let lines = KeyRange::prefix(RowKey::new(Table::History).as_bytes());
        let (key, mut value) = found(&rows, &lines).swap_remove(300);
        *value.last_mut().unwrap() ^= 1;
        rows.apply(Batch::from([(key, Some(value))])).unwrap();
        is_indexed(&open(&rows, &keys, usize::MAX).unwrap(), LINES - 1);
    }
}
