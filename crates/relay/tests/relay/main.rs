//! The relay, asked over real sockets by clients that keep to the protocol, and by some that do
//! not.

mod accounts;
mod client;
mod faults;
mod friends;
mod messages;
mod person;
mod program;
mod relay;
mod rooms;
