//! Whose keys are whose.

use mildam_client::ContactView;
use tauri::State;

use super::Answer;
use crate::app::Shell;

#[tauri::command]
pub(crate) async fn contact(shell: State<'_, Shell>, account: String) -> Answer<ContactView> {
    Ok(shell.client().await?.contact(&account).await?)
}

#[tauri::command]
pub(crate) async fn set_verified(
    shell: State<'_, Shell>,
    account: String,
    verified: bool,
) -> Answer<ContactView> {
    Ok(shell.client().await?.set_verified(&account, verified).await?)
}

#[tauri::command]
pub(crate) async fn compare_safety_number(
    shell: State<'_, Shell>,
    account: String,
    text: String,
) -> Answer<ContactView> {
    Ok(shell.client().await?.compare_safety_number(&account, &text).await?)
}

#[tauri::command]
pub(crate) async fn compare_picture(
    shell: State<'_, Shell>,
    account: String,
    picture: Vec<u8>,
) -> Answer<ContactView> {
    Ok(shell.client().await?.compare_picture(&account, picture).await?)
}

#[tauri::command]
pub(crate) async fn decide_identity(
    shell: State<'_, Shell>,
    account: String,
    accept: bool,
) -> Answer<ContactView> {
    Ok(shell.client().await?.decide_identity(&account, accept).await?)
}
