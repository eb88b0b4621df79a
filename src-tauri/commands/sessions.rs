//! Where the account is logged in.

use mildam_client::SessionView;
use tauri::State;

use super::Answer;
use crate::app::Shell;

#[tauri::command]
pub(crate) async fn sessions(shell: State<'_, Shell>) -> Answer<Vec<SessionView>> {
    Ok(shell.client().await?.sessions().await?)
}

#[tauri::command]
pub(crate) async fn end_session(shell: State<'_, Shell>, device: String) -> Answer<()> {
    Ok(shell.client().await?.end_session(&device).await?)
}
