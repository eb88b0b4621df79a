//! A system without a keyring.
//!
//! The keyring is found through the environment, so it is taken away in a process of its own: this
//! test binary, asked to run one ignored test.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::process::Command;

use mildam_vault::{Unlock, Vault, VaultError};

#[test]
fn a_missing_keyring_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opens_without_a_keyring", "--ignored"])
        .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus")
        .env("MILDAM_TEST_VAULT", folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    // Nothing half-made is left that would count as a vault.
    assert!(!Vault::exists(folder.path()));
    assert_eq!(Vault::unlock_kind(folder.path()), None);
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn opens_without_a_keyring() {
    let Some(folder) = std::env::var_os("MILDAM_TEST_VAULT") else {
        return;
    };
    let error = Vault::open(folder.as_ref(), Unlock::Keyring).unwrap_err();
    assert!(matches!(error, VaultError::KeyringUnavailable(_)), "{error}");
    assert_eq!(error.code(), "keyring_unavailable");
}
