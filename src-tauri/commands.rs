//! The commands: each forwards one call to the client. Those of consequence ask the person first, where the
//! web view has no say.

#[macro_use]
mod list;

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

macro_rules! handler {
    ($($module:ident :: $name:ident,)*) => {
        tauri::generate_handler![$($module::$name),*]
    };
}

/// All of them.
pub(crate) fn all() -> impl Fn(Invoke<tauri::Wry>) -> bool + Send + Sync + 'static {
    with_commands!(handler)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    macro_rules! names {
        ($($module:ident :: $name:ident,)*) => {
            [$(stringify!($name)),*]
        };
    }

    // A command that no capability allows fails only when somebody presses its button.
    #[test]
    fn the_window_may_call_the_commands_and_listen() {
        let capability: Value = serde_json::from_str(include_str!("capabilities/main.json")).unwrap();
        let allowed: Vec<String> = serde_json::from_value(capability["permissions"].clone()).unwrap();
        let mut wanted: BTreeSet<String> =
            with_commands!(names).iter().map(|name| format!("allow-{}", name.replace('_', "-"))).collect();
        wanted.extend(["core:event:allow-listen", "core:event:allow-unlisten"].map(str::to_owned));
        assert_eq!(allowed.iter().cloned().collect::<BTreeSet<_>>(), wanted);
        assert_eq!(allowed.len(), wanted.len(), "one is named twice");
        assert_eq!(capability["windows"], serde_json::json!(["main"]));
    }
}
