//! What the machine gives without a relay, for comparison.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use anyhow::{Result, anyhow};
use ed25519_dalek::{Signer as _, SigningKey};
use tempfile::TempDir;

use super::report::Sample;
use crate::table::time;

/// Bytes that are appended and must reach the disk.
const PAGE: usize = 4 * 1024;
/// About as many bytes as a message's signature covers.
const SIGNED: usize = 512;
/// Bytes that are encrypted at once.
const BLOCK: usize = 64 * 1024;
/// So many of them are a MiB.
const BLOCKS: f64 = 16.0;

/// One core, and the disk that has the relay's folder.
pub fn samples(home: &Path) -> Result<Vec<Sample>> {
    let folder = TempDir::with_prefix_in("disk-", home)?;
    let mut file = File::create(folder.path().join("append"))?;
    let synced = time(
        || Ok(()),
        |()| {
            file.write_all(&[7; PAGE])?;
            Ok(file.sync_data()?)
        },
    )?;
    let (signer, message) = (SigningKey::from_bytes(&[5; 32]), [3; SIGNED]);
    let (signature, verifier) = (signer.sign(&message), signer.verifying_key());
    let verified = time(|| Ok(()), |()| Ok(verifier.verify_strict(&message, &signature)?))?;
    let (key, iv): ([u8; 32], [u8; 12]) = ([1; 32], [2; 12]);
    let (cipher, block) = (Aes256Gcm::new(&key.into()), vec![4; BLOCK]);
    let sealed = time(
        || Ok(()),
        |()| {
            let payload = Payload { msg: &block, aad: &[] };
            cipher.encrypt(&iv.into(), payload).map_err(|_| anyhow!("AES-GCM"))
        },
    )?;
    let per_second = |each: Duration| 1.0 / each.as_secs_f64();
    Ok([
        ("bare: fdatasync of 4 KiB more, per second", per_second(synced)),
        ("bare: Ed25519 verifications per second, one core", per_second(verified)),
        ("bare: AES-256-GCM, MiB per second, one core", per_second(sealed) / BLOCKS),
    ]
    .map(|(what, value)| Sample { what, value, digits: 0, aim: "", used: None })
    .into())
}
