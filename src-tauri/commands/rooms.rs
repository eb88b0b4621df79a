//! Rooms.

use mildam_client::RoomView;
use tauri::State;

use super::Answer;
use crate::app::Shell;

#[tauri::command]
pub(crate) async fn rooms(shell: State<'_, Shell>) -> Answer<Vec<RoomView>> {
    Ok(shell.client().await?.rooms().await?)
}

#[tauri::command]
pub(crate) async fn open_direct(shell: State<'_, Shell>, account: String) -> Answer<RoomView> {
    Ok(shell.client().await?.open_direct(&account).await?)
}

#[tauri::command]
pub(crate) async fn create_group(
    shell: State<'_, Shell>,
    name: String,
    accounts: Vec<String>,
) -> Answer<RoomView> {
    Ok(shell.client().await?.create_group(&name, &accounts).await?)
}

#[tauri::command]
pub(crate) async fn invite(shell: State<'_, Shell>, room: String, accounts: Vec<String>) -> Answer<()> {
    Ok(shell.client().await?.invite(&room, &accounts).await?)
}

#[tauri::command]
pub(crate) async fn replace_room(shell: State<'_, Shell>, room: String) -> Answer<RoomView> {
    Ok(shell.client().await?.replace_room(&room).await?)
}

#[tauri::command]
pub(crate) async fn end_block(shell: State<'_, Shell>, room: String) -> Answer<RoomView> {
    Ok(shell.client().await?.end_block(&room).await?)
}

#[tauri::command]
pub(crate) async fn leave(shell: State<'_, Shell>, room: String) -> Answer<()> {
    Ok(shell.client().await?.leave(&room).await?)
}
