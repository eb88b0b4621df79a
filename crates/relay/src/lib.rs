//! The relay: it stores and forwards what it cannot read.
//!
//! A room is a log with contiguous numbers, an account's state is its memberships. What a client
//! sends is checked as far as public keys allow, committed, answered, and only then told to others.
//! The relay is built on the public records of the protocol: it cannot name a type that holds a
//! plaintext or a client's private key.
//!
//! [`run`] is the whole program; [`Relay`] is the same in three steps, for those who run a relay
//! inside another program or a test.

mod age;
mod broker;
mod certificate;
mod clock;
pub mod config;
mod connection;
mod context;
mod data_dir;
mod frames;
mod handler;
mod http;
mod identity;
mod invitation;
mod keys;
mod limiter;
mod limits;
mod listener;
mod metrics;
mod outbox;
mod proxy;
mod relay;
mod rules;
mod secrets;
mod space;
mod store;
mod tls;

pub use certificate::{CertificateError, Description};
pub use clock::Clock;
pub use config::{Config, ConfigError, Limits, SignUpMode};
pub use invitation::{INVITATION_DAYS, InviteError, invite};
pub use keys::{CertificateRequest, Keys};
pub use limiter::{Rate, Stopwatch};
pub use relay::{Ready, Relay, RelayError, last_link, run};
pub use tls::{PemFiles, TlsError};
