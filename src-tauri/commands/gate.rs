//! Opening the vault, and where everything stands.

use mildam_client::{ClientState, Unlock, UnlockKind};
use tauri::{AppHandle, State};
use zeroize::Zeroizing;

use super::Answer;
use crate::app::{Gate, Shell};

#[tauri::command]
pub(crate) async fn boot(app: AppHandle, shell: State<'_, Shell>) -> Answer<Gate> {
    shell.boot(&app).await
}

#[tauri::command]
pub(crate) async fn unlock(app: AppHandle, shell: State<'_, Shell>, passphrase: String) -> Answer<()> {
    shell.open(&app, Unlock::Passphrase(Zeroizing::new(passphrase))).await
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
