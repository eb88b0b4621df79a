//! Where the account is logged in.

use mildam_client::SessionView;
use tauri::{AppHandle, State};

use super::Answer;
use crate::app::{CommandError, Shell};
use crate::question::Question;

#[tauri::command]
pub(crate) async fn sessions(shell: State<'_, Shell>) -> Answer<Vec<SessionView>> {
    Ok(shell.client().await?.sessions().await?)
}

#[tauri::command]
pub(crate) async fn end_session(app: AppHandle, shell: State<'_, Shell>, device: String) -> Answer<()> {
    let client = shell.client().await?;
    let turn = shell.turn()?;
    let account = client.state().await?.account.ok_or_else(CommandError::no_account)?.account;
    if !client.sessions().await?.iter().any(|session| session.device == device) {
        return Err(CommandError::new("not_found", "There is no such device."));
    }
    turn.ask(&app, Question::EndSession { account, device: device.clone() }).await?;
    Ok(client.end_session(&device).await?)
}
