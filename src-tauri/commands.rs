//! The commands: each forwards one call to the client.

mod account;
mod friends;
mod gate;
mod messages;
mod rooms;

use tauri::ipc::Invoke;

use crate::app::CommandError;

type Answer<T> = Result<T, CommandError>;

/// All of them.
pub(crate) fn all() -> impl Fn(Invoke<tauri::Wry>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        gate::boot,
        gate::unlock,
        gate::state,
        gate::reconnect,
        account::connect,
        account::sign_up,
        account::log_in,
        account::log_out,
        account::confirm_recovery_words,
        friends::friends,
        friends::request_friend,
        friends::accept_friend,
        friends::decline_friend,
        rooms::rooms,
        rooms::open_direct,
        rooms::create_group,
        rooms::invite,
        rooms::leave,
        messages::send,
        messages::history,
        messages::search,
        messages::mark_read,
    ]
}
