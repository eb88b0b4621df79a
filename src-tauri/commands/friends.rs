//! Friends.

use mildam_client::FriendsView;
use tauri::State;

use super::Answer;
use crate::app::Shell;

#[tauri::command]
pub(crate) async fn friends(shell: State<'_, Shell>) -> Answer<FriendsView> {
    Ok(shell.client().await?.friends().await?)
}

#[tauri::command]
pub(crate) async fn request_friend(shell: State<'_, Shell>, account: String, greeting: String) -> Answer<()> {
    Ok(shell.client().await?.request_friend(&account, &greeting).await?)
}

#[tauri::command]
pub(crate) async fn accept_friend(shell: State<'_, Shell>, account: String) -> Answer<()> {
    Ok(shell.client().await?.accept_friend(&account).await?)
}

#[tauri::command]
pub(crate) async fn decline_friend(shell: State<'_, Shell>, account: String) -> Answer<()> {
    Ok(shell.client().await?.decline_friend(&account).await?)
}
