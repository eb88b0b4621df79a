//! The headless messenger: everything that Mildam does, without a window.
//!
//! [`Client`] is the one facade, [`Event`] the one stream of news. Everything shown comes from the
//! vault, so it works without a network; the network only changes the vault.
//!
//! ```text
//!            facade (Client)                reads: straight from the vault
//!                 | jobs
//!                 v
//!  vault <---- engine ----> wire ----> relay        the engine alone writes rooms and keys
//!                 ^           |
//!                 +-- connection: opens wires, reads pushes, tries again
//! ```
//!
//! The connection's states, each an [`ConnectionState`]:
//!
//! ```text
//! Unconfigured --link--> Offline --> Connecting --> SettingUp --> Connected --session--> Online
//!                           ^            |              |             |                    |
//!                           +-- failure, after a pause that grows ----+--------------------+
//! ```

mod backoff;
mod carrier;
mod certificate;
mod client;
mod clock;
mod connection;
mod dial;
mod engine;
mod error;
mod events;
mod keep_alive;
pub mod model;
mod route;
mod safety;
mod server;
mod standing;
mod store;
#[cfg(test)]
mod testing;
mod times;
mod tls;
mod way;
mod web_socket;
mod wire;

pub use client::{Client, Recover, SignUp};
pub use clock::Clock;
pub use error::Error;
pub use events::EventStream;
pub use mildam_protocol::records::text;
pub use mildam_vault::{Unlock, UnlockKind};
pub use model::*;

/// How a vault in this folder is opened; `None` if there is none yet.
#[must_use]
pub fn unlock_kind(home: &std::path::Path) -> Option<UnlockKind> {
    mildam_vault::Vault::unlock_kind(home)
}

/// Reads a server link or an invitation, in any of their forms, and connects to nothing.
///
/// # Errors
/// `bad_link`
pub fn read_invitation(text: &str) -> Result<InvitationView, Error> {
    let invitation: mildam_protocol::link::Invitation = text.parse()?;
    Ok(invitation.into())
}

/// The longest text of a message, in bytes of UTF-8.
pub const MAX_TEXT: usize = 16 * 1024;

/// The operating system's random source.
pub(crate) fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_shown_before_anything_is_connected() {
        let fingerprint = mildam_records::Hash::from_bytes([9; 32]).to_string();
        let shown = read_invitation(&format!("https://relay.example.org/join#{fingerprint}/alice")).unwrap();
        assert_eq!(shown.address, "relay.example.org:443");
        assert_eq!(shown.link, format!("mildam://relay.example.org:443/#{fingerprint}"));
        assert_eq!((&shown.fingerprint, shown.account), (&fingerprint, Some("alice".to_owned())));
        // What lets one in stays with the link that is connected by.
        let token = "AAAAAAAAAAAAAAAAAAAAAA";
        let given = format!("https://relay.example.org/join#{fingerprint}/alice/{token}");
        assert_eq!(read_invitation(&given).unwrap().link, format!("{}/{token}", shown.link + "/"));
        assert_eq!(read_invitation("https://example.org/").unwrap_err().code(), "bad_link");
    }
}
