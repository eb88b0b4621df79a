//! What people do with Mildam, done with the real programs over TLS.

mod bot;
mod commands;
mod groups;
mod invitations;
mod manners;
mod offline;
mod outbox;
mod presence;
mod server;
mod talk;

/// Every failure is an error with its story, so that tests read as what they show.
type Outcome = anyhow::Result<()>;
