//! Opening the vault, and where everything stands.

use mildam_client::{ClientState, UnlockKind};
use tauri::{AppHandle, State};

use super::Answer;
use crate::app::{Gate, Shell, unlock_with};
use crate::question::Question;

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

/// From one passphrase, or the keyring if there is none, to another. Without a passphrase to know, the
/// person is asked.
#[tauri::command]
pub(crate) async fn change_unlock(
    app: AppHandle,
    shell: State<'_, Shell>,
    current: Option<String>,
    next: Option<String>,
) -> Answer<()> {
    let client = shell.client().await?;
    let (current, next) = (unlock_with(current), unlock_with(next));
    let turn = shell.turn()?;
    if current.kind() == UnlockKind::Keyring {
        let account = client.state().await?.account.map(|account| account.account);
        turn.ask(&app, Question::ChangeUnlock { account, next: next.kind() }).await?;
    }
    Ok(client.change_unlock(current, next).await?)
}

#[tauri::command]
pub(crate) async fn erase_now(app: AppHandle, shell: State<'_, Shell>) -> Answer<()> {
    let client = shell.client().await?;
    let turn = shell.turn()?;
    let account = client.state().await?.account.map(|account| account.account);
    turn.ask(&app, Question::EraseNow { account }).await?;
    Ok(client.erase_now().await?)
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
