//! Bringing the rows of an older format to this one, in one commit: after a crash there is the old
//! format or the new one. A vault that was brought up is not opened by older programs any more.
//!
//! Format 1 (0.1.0): the bucket rows held a generation, always 1, where the condition is now; the
//! head knew no state key generation and no time of rotation.

use crate::directory::Directory;
use crate::draft::Draft;
use crate::error::VaultError;
use crate::head::{FORMAT, HeadRow};
use crate::sealed_rows::SealedRows;

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
    head.format = FORMAT;
    let mut draft = Draft::new(rows, directory);
    draft.rewrite_buckets()?;
    rows.apply(draft.finish(head)?)?;
    rows.sync()
}
