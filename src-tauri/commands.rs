//! The commands: each forwards one call to the client.

mod account;
mod contacts;
mod friends;
mod gate;
mod invitations;
mod messages;
mod presence;
mod rooms;
mod sessions;

use tauri::ipc::Invoke;

use crate::app::CommandError;

type Answer<T> = Result<T, CommandError>;

/// All of them.
pub(crate) fn all() -> impl Fn(Invoke<tauri::Wry>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        gate::boot,
        gate::unlock,
        gate::repair,
        gate::lock,
        gate::protection,
        gate::change_unlock,
        gate::erase_now,
        gate::state,
        gate::reconnect,
        account::connect,
        account::decide_server_key,
        account::sign_up,
        account::log_in,
        account::recover,
        account::dismiss,
        account::log_out,
        account::recovery_words,
        account::confirm_recovery_words,
        contacts::contact,
        contacts::set_verified,
        contacts::compare_safety_number,
        contacts::compare_picture,
        contacts::decide_identity,
        friends::friends,
        friends::request_friend,
        friends::accept_friend,
        friends::decline_friend,
        rooms::rooms,
        rooms::open_direct,
        rooms::create_group,
        rooms::invite,
        rooms::end_block,
        rooms::leave,
        invitations::take_invitation,
        messages::send,
        messages::retry_send,
        messages::discard_send,
        messages::history,
        messages::search,
        messages::mark_read,
        presence::presence,
        presence::set_presence,
        presence::typing,
        sessions::sessions,
        sessions::end_session,
    ]
}
