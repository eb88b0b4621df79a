//! The relay, asked over real sockets by clients that keep to the protocol, and by some that do
//! not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that finds something else than it expects is to stop there"
)]

mod accounts;
mod certificates;
mod client;
mod devices;
mod faults;
mod friends;
mod invitations;
mod kills;
mod limits;
mod messages;
mod passwords;
mod person;
mod port;
mod presence;
mod program;
mod proxies;
mod recovery;
mod relay;
mod rooms;
mod stored;
