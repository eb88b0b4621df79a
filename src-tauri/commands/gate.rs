//! Opening the vault, and where everything stands.

use mildam_client::{ClientState, UnlockKind};
use tauri::{AppHandle, State};

use super::Answer;
use crate::app::{Gate, Shell, unlock_with};

#[tauri::command]
pub(crate) async fn boot(app: AppHandle, shell: State<'_, Shell>) -> Answer<Gate> {
    shell.boot(&app).await
}

#[tauri::command]
pub(crate) async fn unlock(app: AppHandle, shell: State<'_, Shell>, passphrase: String) -> Answer<()> {
    shell.open(&app, unlock_with(Some(passphrase))).await
}

/// Without a passphrase, the keyring opens the vault.
#[tauri::command]
pub(crate) async fn repair(
    app: AppHandle,
    shell: State<'_, Shell>,
    passphrase: Option<String>,
) -> Answer<()> {
    shell.repair(&app, unlock_with(passphrase)).await
}

#[tauri::command]
pub(crate) async fn lock(shell: State<'_, Shell>) -> Answer<Gate> {
    shell.lock().await
}

/// `passphrase` or `keyring`.
#[tauri::command]
pub(crate) fn protection(shell: State<'_, Shell>) -> &'static str {
    match shell.protection() {
        Some(UnlockKind::Passphrase) => "passphrase",
        _ => "keyring",
    }
}

/// From one passphrase, or the keyring if there is none, to another.
#[tauri::command]
pub(crate) async fn change_unlock(
    shell: State<'_, Shell>,
    current: Option<String>,
    next: Option<String>,
) -> Answer<()> {
    Ok(shell.client().await?.change_unlock(unlock_with(current), unlock_with(next)).await?)
}

#[tauri::command]
pub(crate) async fn erase_now(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.client().await?.erase_now().await?)
}

#[tauri::command]
pub(crate) async fn state(shell: State<'_, Shell>) -> Answer<ClientState> {
    Ok(shell.client().await?.state().await?)
}

#[tauri::command]
pub(crate) async fn reconnect(shell: State<'_, Shell>) -> Answer<()> {
    shell.client().await?.reconnect_now().await;
    Ok(())
}
