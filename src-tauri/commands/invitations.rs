//! Links that the app was opened with.

use mildam_client::InvitationView;
use tauri::State;

use super::Answer;
use crate::app::Shell;

/// What the link leads to that the app was opened with last, once. Nothing is connected by this.
#[tauri::command]
pub(crate) fn take_invitation(shell: State<'_, Shell>) -> Answer<Option<InvitationView>> {
    let link = shell.take_link();
    Ok(link.map(|link| mildam_client::read_invitation(&link)).transpose()?)
}
