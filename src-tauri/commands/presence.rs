//! Who is online, and who is writing.

use mildam_client::PresenceView;
use tauri::State;

use super::Answer;
use crate::app::Shell;

#[tauri::command]
pub(crate) async fn presence(shell: State<'_, Shell>) -> Answer<PresenceView> {
    Ok(shell.client().await?.presence())
}

#[tauri::command]
pub(crate) async fn set_presence(shell: State<'_, Shell>, visible: bool) -> Answer<PresenceView> {
    Ok(shell.client().await?.set_presence(visible).await?)
}

#[tauri::command]
pub(crate) async fn typing(shell: State<'_, Shell>, room: String) -> Answer<()> {
    Ok(shell.client().await?.typing(&room).await?)
}
