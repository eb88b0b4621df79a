//! Folders, as somebody copies them from one computer to another.

use std::fs;
use std::path::Path;

use anyhow::Result;

/// Copies a folder with everything in it.
///
/// # Errors
/// If something cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
