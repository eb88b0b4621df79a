//! Messages.

use mildam_client::{HistoryPage, MessageView, SearchHit};
use tauri::State;

use super::Answer;
use crate::app::Shell;

/// As many lines as the window is given at once. It shows fewer, and none of it may ask for everything.
const MAX_LINES: usize = 200;

#[tauri::command]
pub(crate) async fn send(shell: State<'_, Shell>, room: String, text: String) -> Answer<MessageView> {
    Ok(shell.client().await?.send(&room, &text).await?)
}

#[tauri::command]
pub(crate) async fn retry_send(shell: State<'_, Shell>, room: String, id: String) -> Answer<MessageView> {
    Ok(shell.client().await?.retry_send(&room, &id).await?)
}

#[tauri::command]
pub(crate) async fn discard_send(shell: State<'_, Shell>, room: String, id: String) -> Answer<String> {
    Ok(shell.client().await?.discard_send(&room, &id).await?)
}

#[tauri::command]
pub(crate) async fn history(
    shell: State<'_, Shell>,
    room: String,
    before: Option<u64>,
    limit: usize,
) -> Answer<HistoryPage> {
    Ok(shell.client().await?.history(&room, before, limit.min(MAX_LINES)).await?)
}

#[tauri::command]
pub(crate) async fn search(shell: State<'_, Shell>, query: String, limit: usize) -> Answer<Vec<SearchHit>> {
    Ok(shell.client().await?.search(&query, limit.min(MAX_LINES)).await?)
}

#[tauri::command]
pub(crate) async fn mark_read(shell: State<'_, Shell>, room: String, seq: u64) -> Answer<()> {
    Ok(shell.client().await?.mark_read(&room, seq).await?)
}
