//! The names of the commands, in the one place where the app and its build script both find them.
//!
//! What stands here has a permission, which `capabilities/main.json` must name. What does not stand here
//! cannot be called.

/// Gives all commands, as `module::name`, to another macro.
macro_rules! with_commands {
    ($then:ident) => {
        $then! {
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
            rooms::replace_room,
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
        }
    };
}
