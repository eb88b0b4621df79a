//! The task that owns the connection: opens it, reads it, and tries again when it is lost.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use hyper_util::client::proxy::matcher::Matcher;
use mildam_protocol::ServerLink;
use mildam_protocol::event::Event as Push;
use mildam_protocol::set_up::ClientKey;
use tokio::sync::{Notify, OnceCell, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::carrier;
use crate::error::Error;
use crate::model::ConnectionState;
use crate::route::{RouteWatch, Watched};
use crate::tls::Authorities;
use crate::way::Ways;
use crate::wire::{Reading, Wire};

/// What the connection tells the engine.
pub(crate) enum News {
    /// An attempt at that link has come so far, short of being up.
    State(ServerLink, ConnectionState),
    /// A connection is up, to the relay of that link.
    Up(ServerLink, Wire),
    /// The connection to the relay of that link is lost, or could not be made.
    Down(ServerLink, Error),
    /// The relay told something.
    Push(Box<Push>),
}

/// This process's set-up key: made once, when it is first needed.
#[derive(Default)]
struct SetUpKey(OnceCell<ClientKey>);

impl SetUpKey {
    async fn get(&self) -> Result<ClientKey, Error> {
        let make = || async {
            let made = tokio::task::spawn_blocking(|| ClientKey::generate(&mut crate::rng())).await?;
            made.map_err(Error::from)
        };
        self.0.get_or_try_init(make).await.cloned()
    }
}

/// Makes connections, and remembers what worked.
struct Connector {
    key: SetUpKey,
    authorities: Authorities,
    ways: Ways,
    news: mpsc::Sender<News>,
}

impl Connector {
    /// Connects once, and tells how far it has come.
    async fn connect(&self, link: &ServerLink) -> Result<(Wire, Reading), Error> {
        let _ = self.news.send(News::State(link.clone(), ConnectionState::Connecting)).await;
        // Key and carrier are made at the same time; each takes its while.
        let ways = self.ways.order(link, Instant::now());
        // Asked anew each time: what proxies there are changes with the network.
        let proxies = Matcher::from_system();
        let open = carrier::open(link, ways, &self.authorities, &proxies);
        let (opened, key) = tokio::join!(open, self.key.get());
        let carrier = opened?;
        let _ = self.news.send(News::State(link.clone(), ConnectionState::SettingUp)).await;
        Ok(Wire::new(carrier::set_up(carrier, link, key?).await?))
    }
}

/// The owner of the connection.
pub(crate) struct Keeper {
    link: watch::Receiver<Option<ServerLink>>,
    connector: Connector,
    news: mpsc::Sender<News>,
    hurry: Arc<Notify>,
    backoff: Backoff,
    route: RouteWatch,
    /// Where the relay of that link was reached last.
    reached: Option<(ServerLink, SocketAddr)>,
}

/// What comes after an attempt.
enum Next {
    /// The next one, at once: there is a reason to begin anew.
    Anew,
    /// A pause, because of this.
    After(Error),
}

impl Keeper {
    pub(crate) fn new(
        link: watch::Receiver<Option<ServerLink>>,
        news: mpsc::Sender<News>,
        hurry: Arc<Notify>,
    ) -> Self {
        let connector = Connector {
            key: SetUpKey::default(),
            authorities: Authorities::system(),
            ways: Ways::default(),
            news: news.clone(),
        };
        Self {
            link,
            connector,
            news,
            hurry,
            backoff: Backoff::default(),
            route: RouteWatch::new(),
            reached: None,
        }
    }

    /// Keeps a connection up until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        // It ends by itself once nobody hears its news.
        let _ = stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&mut self) -> Option<()> {
        loop {
            let link = self.next_link().await?;
            let reached = self.reached.as_ref().filter(|(known, _)| *known == link);
            self.route.aim(&link, reached.map(|(_, peer)| *peer));
            // Whoever was in a hurry before now is served by this attempt.
            let _ = self.hurry.notified().now_or_never();
            if let Next::After(lost) = self.connect(&link).await? {
                self.news.send(News::Down(link, lost)).await.ok()?;
                self.pause().await?;
            }
        }
    }

    /// Connects once, and holds the connection for as long as it lasts.
    async fn connect(&mut self, link: &ServerLink) -> Option<Next> {
        let outcome = tokio::select! {
            outcome = self.connector.connect(link) => outcome,
            changed = self.link.changed() => return changed.ok().map(|()| Next::Anew),
            // What was begun on the network of before may hang for long.
            () = self.route.changed(Watched::Disconnected) => {
                self.connector.ways.forget();
                return Some(Next::Anew);
            }
        };
        match outcome {
            Ok((wire, reading)) => self.hold(link, wire, reading).await,
            Err(error) => Some(Next::After(error)),
        }
    }

    async fn hold(&mut self, link: &ServerLink, wire: Wire, reading: Reading) -> Option<Next> {
        self.backoff.reset();
        self.connector.ways.worked(link, wire.way(), Instant::now());
        self.reached = Some((link.clone(), wire.peer()));
        self.route.aim(link, Some(wire.peer()));
        self.news.send(News::Up(link.clone(), wire.clone())).await.ok()?;
        let doubt = Notify::new();
        let watch = async {
            loop {
                self.route.changed(Watched::Connected).await;
                doubt.notify_one();
            }
        };
        tokio::select! {
            () = reading.run(&self.news) => {}
            () = wire.gone(&doubt) => tracing::info!("the relay is not heard any more"),
            () = watch => {}
            // Another relay: the engine has let go of this one already.
            changed = self.link.changed() => return changed.ok().map(|()| Next::Anew),
        }
        Some(Next::After(Error::offline()))
    }

    /// Waits before the next attempt, unless there is a reason to make it now.
    async fn pause(&mut self) -> Option<()> {
        let pause = self.backoff.next(&mut crate::rng());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.hurry.notified() => self.backoff.reset(),
            changed = self.link.changed() => { changed.ok()?; self.backoff.reset() }
            () = self.route.changed(Watched::Disconnected) => {
                self.backoff.reset();
                self.connector.ways.forget();
            }
        }
        Some(())
    }

    /// The link to connect to, once there is one; none when the engine is gone.
    async fn next_link(&mut self) -> Option<ServerLink> {
        self.link.wait_for(Option::is_some).await.ok()?.clone()
    }
}
