//! Getting an account, and a session.

use mildam_client::{AccountView, ClientState, Notice, Recover, RecoveryWordsView, ServerView, SignUp};
use tauri::State;
use zeroize::Zeroizing;

use super::Answer;
use crate::app::Shell;

#[tauri::command]
pub(crate) async fn connect(shell: State<'_, Shell>, link: String) -> Answer<ServerView> {
    Ok(shell.client().await?.connect(&link).await?)
}

#[tauri::command]
pub(crate) async fn decide_server_key(
    shell: State<'_, Shell>,
    found: String,
    accept: bool,
) -> Answer<ClientState> {
    Ok(shell.client().await?.decide_server_key(&found, accept).await?)
}

#[tauri::command]
pub(crate) async fn sign_up(
    shell: State<'_, Shell>,
    account: String,
    email: String,
    password: String,
    nickname: String,
) -> Answer<AccountView> {
    let sign_up = SignUp { account, email, password: Zeroizing::new(password), nickname };
    Ok(shell.client().await?.sign_up(sign_up).await?)
}

#[tauri::command]
pub(crate) async fn log_in(
    shell: State<'_, Shell>,
    account: String,
    password: String,
) -> Answer<AccountView> {
    Ok(shell.client().await?.log_in(&account, Zeroizing::new(password)).await?)
}

#[tauri::command]
pub(crate) async fn recover(
    shell: State<'_, Shell>,
    account: String,
    words: String,
    password: String,
) -> Answer<AccountView> {
    let recover = Recover { account, words: Zeroizing::new(words), password: Zeroizing::new(password) };
    Ok(shell.client().await?.recover(recover).await?)
}

#[tauri::command]
pub(crate) async fn dismiss(shell: State<'_, Shell>, notice: Notice) -> Answer<()> {
    Ok(shell.client().await?.dismiss(notice).await?)
}

#[tauri::command]
pub(crate) async fn log_out(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.client().await?.log_out().await?)
}

#[tauri::command]
pub(crate) async fn recovery_words(shell: State<'_, Shell>) -> Answer<Option<RecoveryWordsView>> {
    Ok(shell.client().await?.recovery_words().await?)
}

#[tauri::command]
pub(crate) async fn confirm_recovery_words(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.client().await?.confirm_recovery_words().await?)
}
