//! Getting an account, and a session.

use mildam_client::{AccountView, ClientState, Notice, Recover, RecoveryWordsView, ServerView, SignUp};
use tauri::{AppHandle, State};
use zeroize::Zeroizing;

use super::Answer;
use crate::app::{CommandError, Shell};
use crate::question::Question;

#[tauri::command]
pub(crate) async fn connect(shell: State<'_, Shell>, link: String) -> Answer<ServerView> {
    Ok(shell.client().await?.connect(&link).await?)
}

#[tauri::command]
pub(crate) async fn decide_server_key(
    app: AppHandle,
    shell: State<'_, Shell>,
    found: String,
    accept: bool,
) -> Answer<ClientState> {
    let client = shell.client().await?;
    if !accept {
        return Ok(client.decide_server_key(&found, false).await?);
    }
    let turn = shell.turn()?;
    let ClientState { server, offered_key, .. } = client.state().await?;
    // What is not offered now might be a moment later, and would be taken without a question.
    let (Some(server), Some(offered)) = (server, offered_key.filter(|offered| offered.found == found)) else {
        return Err(CommandError::new("not_found", "The server shows no such key."));
    };
    let known = offered.known;
    turn.ask(&app, Question::TakeServerKey { address: server.address, known, found: offered.found }).await?;
    Ok(client.decide_server_key(&found, true).await?)
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
pub(crate) async fn log_out(app: AppHandle, shell: State<'_, Shell>) -> Answer<()> {
    let client = shell.client().await?;
    let turn = shell.turn()?;
    let account = client.state().await?.account.ok_or_else(CommandError::no_account)?.account;
    turn.ask(&app, Question::LogOut { account }).await?;
    Ok(client.log_out().await?)
}

#[tauri::command]
pub(crate) async fn recovery_words(shell: State<'_, Shell>) -> Answer<Option<RecoveryWordsView>> {
    Ok(shell.client().await?.recovery_words().await?)
}

#[tauri::command]
pub(crate) async fn confirm_recovery_words(shell: State<'_, Shell>) -> Answer<()> {
    Ok(shell.client().await?.confirm_recovery_words().await?)
}
