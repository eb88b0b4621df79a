//! The task that owns the connection: opens it, reads it, and tries again when it is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
use crate::server::Server;
use crate::tls::Authorities;
use crate::way::Ways;
use crate::wire::{Reading, Wire};

/// However long a relay asks to wait, it is tried again within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

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
    server: watch::Receiver<Option<Server>>,
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
    /// It was not reached, because of this.
    After(Error),
    /// It was reached, and lost.
    Lost(Error),
}

impl Keeper {
    pub(crate) fn new(
        server: watch::Receiver<Option<Server>>,
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
            server,
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
            let server = self.next_server().await?;
            // Whoever was in a hurry before now is served by this attempt.
            let _ = self.hurry.notified().now_or_never();
            if let Some((link, lost)) = self.try_each(&server).await? {
                let asked = lost.retry_after().unwrap_or_default().min(LONGEST_WAIT);
                self.news.send(News::Down(link, lost)).await.ok()?;
                self.pause(asked).await?;
            }
        }
    }

    /// Tries the relay's addresses one after another, until one has held a connection; gives the address
    /// and the error with which that ended. Where none answers, it is the error of the one used last, unless
    /// another one shows another server key. None if there is a reason to begin anew.
    async fn try_each(&mut self, server: &Server) -> Option<Option<(ServerLink, Error)>> {
        let mut failed: Option<(ServerLink, Error)> = None;
        for link in server.links() {
            let reached = self.reached.as_ref().filter(|(known, _)| known == link);
            self.route.aim(link, reached.map(|(_, peer)| *peer));
            match self.connect(link).await? {
                Next::Anew => return Some(None),
                Next::Lost(lost) => return Some(Some((link.clone(), lost))),
                Next::After(error) => {
                    let says_more = error.found_key().is_some()
                        && failed.as_ref().is_some_and(|(_, before)| before.found_key().is_none());
                    if failed.is_none() || says_more {
                        failed = Some((link.clone(), error));
                    }
                }
            }
        }
        Some(failed)
    }

    /// Connects once, and holds the connection for as long as it lasts.
    async fn connect(&mut self, link: &ServerLink) -> Option<Next> {
        let outcome = tokio::select! {
            outcome = self.connector.connect(link) => outcome,
            changed = self.server.changed() => return changed.ok().map(|()| Next::Anew),
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
            changed = self.server.changed() => return changed.ok().map(|()| Next::Anew),
        }
        Some(Next::Lost(Error::offline()))
    }

    /// Waits before the next attempt, unless there is a reason to make it now. Where the relay asked
    /// to wait, only a person or another relay is one.
    async fn pause(&mut self, asked: Duration) -> Option<()> {
        let pause = self.backoff.next(&mut crate::rng()).max(asked);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.hurry.notified() => self.backoff.reset(),
            changed = self.server.changed() => { changed.ok()?; self.backoff.reset() }
            () = self.route.changed(Watched::Disconnected), if asked.is_zero() => {
                self.backoff.reset();
                self.connector.ways.forget();
            }
        }
        Some(())
    }

    /// The relay to connect to, once there is one; none when the engine is gone.
    async fn next_server(&mut self) -> Option<Server> {
        self.server.wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use mildam_protocol::records::Hash;
    use mildam_protocol::set_up;

    use super::*;
    use crate::testing::*;

    struct Kept {
        keeper: Keeper,
        server: watch::Sender<Option<Server>>,
        news: mpsc::Receiver<News>,
        hurry: Arc<Notify>,
    }

    fn keep(link: ServerLink) -> Kept {
        let (server, server_out) = watch::channel(Some(Server::new(link)));
        let (news_in, news) = mpsc::channel(16);
        let hurry = Arc::new(Notify::new());
        Kept { keeper: Keeper::new(server_out, news_in, Arc::clone(&hurry)), server, news, hurry }
    }

    fn some_link() -> ServerLink {
        ServerLink::new("127.0.0.1", 7747, Hash::ZERO).unwrap()
    }

    // On a clock that moves only when everybody waits, these times are exact.
    #[tokio::test(start_paused = true)]
    async fn a_relay_that_asks_to_wait_is_left_alone_for_so_long_but_not_longer_than_a_person_wants() {
        let Kept { mut keeper, server, hurry, news: _news } = keep(some_link());
        for seconds in [40, 41] {
            let (begun, asked) = (Instant::now(), Duration::from_secs(seconds));
            keeper.pause(asked).await.unwrap();
            assert_eq!(begun.elapsed(), asked);
        }
        let begun = Instant::now();
        hurry.notify_one();
        keeper.pause(Duration::from_secs(40)).await.unwrap();
        server.send_modify(|_| {});
        keeper.pause(Duration::from_secs(40)).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(server);
        assert_eq!(keeper.pause(Duration::from_secs(40)).await, None, "nobody is left to connect for");
    }

    #[tokio::test]
    async fn a_relay_that_turns_away_is_busy_and_tried_again_when_a_person_wants() {
        let server = TlsServer::bind(own(&SERVER_KEY), &["mildam/1"]).await;
        let Kept { keeper, server: _server, mut news, hurry } = keep(server.link(&SERVER_KEY));
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(keeper.run(stop.clone()));
        for message in ["full", "still full"] {
            let mut stream = server.accept().await.unwrap();
            carrier::write(&mut stream, &set_up::turned_away(message, 600)).await.unwrap();
            let error = loop {
                match news.recv().await.unwrap() {
                    News::Down(_, error) => break error,
                    News::State(..) => {}
                    News::Up(..) | News::Push(_) => panic!("connected to a relay that is full"),
                }
            };
            assert_eq!((error.code(), error.details()["retry_after"].as_str()), ("busy", "600"));
            assert!(error.to_string().contains(message), "{error}");
            hurry.notify_one();
        }
        stop.cancel();
        keeping.await.unwrap();
    }
}
