//! The task that owns the connection: opens it, reads it, and tries again when it is lost.

use std::sync::Arc;

use mildam_protocol::ServerLink;
use mildam_protocol::event::Event as Push;
use mildam_protocol::set_up::ClientKey;
use tokio::sync::{Notify, OnceCell, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::carrier;
use crate::error::Error;
use crate::model::ConnectionState;
use crate::wire::{Reading, Wire};

/// What the connection tells the engine.
pub(crate) enum News {
    /// The state changed, short of being up.
    State(ConnectionState),
    /// A connection is up, to the relay of that link.
    Up(ServerLink, Wire),
    /// The connection to the relay of that link is lost, or could not be made.
    Down(ServerLink, Error),
    /// The relay told something.
    Push(Box<Push>),
}

/// This process's set-up key: made once, when it is first needed.
#[derive(Clone, Default)]
pub(crate) struct SetUpKey(Arc<OnceCell<ClientKey>>);

impl SetUpKey {
    pub(crate) async fn get(&self) -> Result<ClientKey, Error> {
        let make = || async {
            let made = tokio::task::spawn_blocking(|| ClientKey::generate(&mut crate::rng())).await?;
            made.map_err(Error::from)
        };
        self.0.get_or_try_init(make).await.cloned()
    }
}

/// Connects once, and tells how far it has come.
async fn connect(
    link: &ServerLink,
    key: &SetUpKey,
    news: &mpsc::Sender<News>,
) -> Result<(Wire, Reading), Error> {
    let _ = news.send(News::State(ConnectionState::Connecting)).await;
    // Key and carrier are made at the same time; each takes its while.
    let (opened, key) = tokio::join!(carrier::open(link), key.get());
    let (stream, binding) = opened?;
    let _ = news.send(News::State(ConnectionState::SettingUp)).await;
    Ok(Wire::new(carrier::set_up(stream, binding, link, key?).await?))
}

/// The owner of the connection.
pub(crate) struct Keeper {
    pub(crate) link: watch::Receiver<Option<ServerLink>>,
    pub(crate) key: SetUpKey,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) hurry: Arc<Notify>,
    pub(crate) stop: CancellationToken,
}

impl Keeper {
    /// Keeps a connection up until told to stop.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let Some(link) = self.link.borrow_and_update().clone() else {
                if self.link.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let outcome = connect(&link, &self.key, &self.news).await;
            let lost = match outcome {
                Ok((wire, reading)) => {
                    backoff.reset();
                    let peer = wire.clone();
                    if self.news.send(News::Up(link.clone(), wire)).await.is_err() {
                        return;
                    }
                    tokio::select! {
                        () = reading.run(&self.news) => {}
                        () = peer.gone() => tracing::info!("the relay is not heard any more"),
                        // Another relay: the engine has let go of this one already.
                        changed = self.link.changed() => if changed.is_err() { return } else { continue },
                    }
                    Error::offline()
                }
                Err(error) => error,
            };
            if self.news.send(News::Down(link, lost)).await.is_err() {
                return;
            }
            let pause = backoff.next(&mut crate::rng());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.hurry.notified() => backoff.reset(),
                changed = self.link.changed() => if changed.is_err() { return },
            }
        }
    }
}
