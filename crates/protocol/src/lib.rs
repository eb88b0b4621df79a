//! The wire between a client and a relay.
//!
//! Everything here is sans-I/O: bytes in, bytes out; randomness is passed in, and there is no
//! clock and no socket. `docs/protocol.md` is the normative text.
//!
//! The layers, from the outside in:
//! 1. [`carrier`]: the names and limits of what carries the byte stream;
//!    [`frame`]: length-prefixed frames, their limit checked before anything is allocated;
//! 2. [`set_up`]: the RSA/AES set-up, one struct per state on both sides;
//! 3. [`session`]: the session cipher, which binds every frame to its direction and position;
//!    its envelopes are `{command, data}` requests, `{status, data | message}` answers, and pushes;
//! 4. [`command`] and [`event`]: what can be asked and what is told.
//!
//! [`password`] is the password's own protocol, carried by four of the commands.

#[cfg(all(feature = "testing", not(debug_assertions)))]
compile_error!("the feature `testing` makes keys that are no secret: never in a release");

pub mod carrier;
pub mod code;
pub mod command;
pub mod event;
pub mod frame;
pub mod link;
pub mod password;
pub mod session;
pub mod set_up;

pub use code::Code;
pub use command::{Command, Request};
pub use event::Event;
pub use link::ServerLink;
pub use mildam_records as records;
pub use session::{Refusal, SessionError};
