//! What all connections share.

use std::sync::Arc;

use mildam_protocol::password::ServerKeys;
use mildam_protocol::set_up::ServerKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{Broker, Switchboard};
use crate::clock::Clock;
use crate::config::{Limits, SignUpMode};
use crate::http::Readiness;
use crate::limiter::Limiter;
use crate::metrics::Metrics;
use crate::proxy::Proxies;
use crate::secrets::Secrets;
use crate::space::Space;
use crate::store::Store;

/// What all connections share.
pub(crate) struct Context {
    /// What the relay is called.
    pub(crate) name: String,
    /// Who may make an account.
    pub(crate) sign_up: SignUpMode,
    pub(crate) key: ServerKey,
    pub(crate) clock: Clock,
    pub(crate) limits: Arc<Limits>,
    pub(crate) limiter: Arc<Limiter>,
    /// The proxies whose word on where a connection comes from is taken.
    pub(crate) proxies: Proxies,
    pub(crate) store: Arc<dyn Store>,
    /// The room on the disk of the store.
    pub(crate) space: Space,
    /// Whether the store answered when it was last asked for the sake of `/readyz`.
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) switchboard: Arc<Switchboard>,
    pub(crate) passwords: ServerKeys,
    pub(crate) secrets: Secrets,
    /// Everything that must end before the store is closed.
    pub(crate) tasks: TaskTracker,
    /// No new work: finish what is in hand and close.
    pub(crate) draining: CancellationToken,
    /// Out of patience: drop everything.
    pub(crate) ending: CancellationToken,
}

/// The operating system's random source.
pub(crate) const fn rng() -> impl rand_core::CryptoRng {
    rand_core::UnwrapErr(getrandom::SysRng)
}
