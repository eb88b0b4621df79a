//! Accepting connections.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mildam_protocol::carrier;
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::Instrument;

use crate::context::Context;
use crate::http::{self, Version, Visit};
use crate::limiter::{ConnectionPermit, Metered, Toll, TurnedAway};
use crate::{connection, proxy, tls};

/// After a failed accept (no file descriptors, for example) this long nothing is accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections from the machine itself and from proxies that are trusted, beyond those that there may be.
const RESERVE: usize = 16;
/// A peer that has gone without a word is noticed after two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Where connections come in.
pub(crate) struct Listeners {
    /// TLS: the Mildam socket, and HTTP for everybody else.
    pub(crate) tls: TcpListener,
    pub(crate) config: Arc<ServerConfig>,
    /// The Mildam socket without TLS.
    pub(crate) plain: Option<TcpListener>,
    /// HTTP without TLS, for a proxy that ends TLS.
    pub(crate) http: Option<TcpListener>,
}

/// Through which listener a connection came.
#[derive(Clone, Debug)]
enum Door {
    Tls(Arc<ServerConfig>),
    Plain,
    Http,
}

impl Door {
    const fn name(&self) -> &'static str {
        match self {
            Self::Tls(_) => "tls",
            Self::Plain => "plain",
            Self::Http => "http",
        }
    }

    /// What somebody is told who is not served. Before TLS nothing can be said that the peer would
    /// understand.
    fn last_words(&self, turned_away: TurnedAway) -> Vec<u8> {
        match self {
            Self::Tls(_) => Vec::new(),
            Self::Plain => turned_away.last_words(),
            Self::Http => {
                let seconds = turned_away.retry_after();
                let head = "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 0";
                format!("{head}\r\nRetry-After: {seconds}\r\n\r\n").into_bytes()
            }
        }
    }
}

impl Listeners {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Door)> {
        let ((stream, peer), door) = tokio::select! {
            accepted = self.tls.accept() => (accepted?, Door::Tls(Arc::clone(&self.config))),
            accepted = accept_if_there(self.plain.as_ref()) => (accepted?, Door::Plain),
            accepted = accept_if_there(self.http.as_ref()) => (accepted?, Door::Http),
        };
        Ok((stream, peer, door))
    }
}

async fn accept_if_there(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Accepts connections until the relay drains. Each holds a permit; whoever finds none is turned away, but for
/// the operator's own machines: they want to know whether the relay is there.
pub(crate) async fn accept(listeners: Listeners, permits: Arc<Semaphore>, context: Arc<Context>) {
    let mut number = 0_u64;
    let reserve = Arc::new(Semaphore::new(RESERVE));
    loop {
        let (stream, peer, door) = tokio::select! {
            () = context.draining.cancelled() => return,
            accepted = listeners.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        // A socket for both versions shows an address of version 4 in the clothes of version 6.
        let peer = peer.ip().to_canonical();
        // On whose behalf a proxy connects is known later.
        let trusted = context.proxies.trust(peer);
        let own = trusted || peer.is_loopback();
        let permit = Arc::clone(&permits).try_acquire_owned().ok();
        let permit = permit.or_else(|| Arc::clone(&reserve).try_acquire_owned().ok().filter(|_| own));
        let admitted = permit.ok_or_else(TurnedAway::full).and_then(|permit| {
            let admitted = if trusted { None } else { Some(context.limiter.admit(peer)?) };
            Ok((permit, admitted))
        });
        let (permit, admitted) = match admitted {
            Ok(admitted) => admitted,
            Err(turned_away) => {
                context.metrics.connection_turned_away();
                tracing::debug!(reason = %turned_away, "a connection was turned away");
                say_at_once(stream, &door.last_words(turned_away));
                continue;
            }
        };
        number = number.wrapping_add(1);
        let span = tracing::info_span!("connection", number, door = door.name());
        let origin = admitted.as_ref().map(ConnectionPermit::origin);
        let visit = Visit {
            peer,
            toll: Toll::new(Arc::clone(&context.limiter), origin),
            admitted: Arc::new(Mutex::new(admitted)),
            binding: None,
            deadline: Instant::now() + context.limits.set_up,
            permit: Arc::new((permit, context.metrics.connection_opened())),
            context: Arc::clone(&context),
        };
        let ending = context.ending.clone();
        let task = async move {
            ending.run_until_cancelled(serve(stream, door, visit)).await;
        };
        context.tasks.spawn(task.instrument(span));
    }
}

/// Says something that fits into the system's buffer, and closes. Nobody is waited for.
fn say_at_once(stream: TcpStream, words: &[u8]) {
    // Whether it arrives is the peer's affair.
    let _ = stream.into_std().and_then(|mut stream| stream.write_all(words));
}

async fn serve(mut stream: TcpStream, door: Door, mut visit: Visit) {
    // Neither is needed for correctness; a system that refuses them is served all the same.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
    let context = Arc::clone(&visit.context);
    if context.proxies.announces(visit.peer) {
        match in_time(&visit, proxy::read_header(&mut stream)).await {
            Some(Ok(peer)) => visit.peer = peer.unwrap_or(visit.peer),
            Some(Err(error)) => return tracing::debug!(%error, "a proxy announced nobody"),
            None => return,
        }
    }
    let stream = Metered::new(stream, Arc::clone(&visit.toll));
    match door {
        Door::Plain => match visit.enter(visit.peer) {
            Ok(admitted) => {
                let served = connection::serve(stream, None, visit.deadline, (admitted, visit.toll), context);
                Box::pin(served).await;
            }
            Err(turned_away) => say_at_once(stream.into_inner(), &turned_away.last_words()),
        },
        Door::Http => Box::pin(http::serve(stream, Version::One, visit)).await,
        Door::Tls(config) => Box::pin(serve_tls(stream, config, visit)).await,
    }
}

async fn serve_tls(stream: Metered<TcpStream>, config: Arc<ServerConfig>, mut visit: Visit) {
    let stream = match in_time(&visit, TlsAcceptor::from(config).accept(stream)).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return tracing::debug!(%error, "TLS failed"),
        None => return,
    };
    let (_, session) = stream.get_ref();
    match session.export_keying_material([0; 32], carrier::EXPORTER_LABEL, Some(&[])) {
        Ok(binding) => visit.binding = Some(binding),
        Err(error) => return tracing::error!(%error, "TLS gave no channel binding"),
    }
    match session.alpn_protocol() {
        Some(carrier::ALPN) => {
            if let Ok(admitted) = visit.enter(visit.peer) {
                let Visit { binding, deadline, toll, context, permit, .. } = visit;
                let served = connection::serve(stream, binding, deadline, (admitted, toll), context);
                Box::pin(served).await;
                drop(permit);
            }
        }
        Some(tls::HTTP_2) => Box::pin(http::serve(stream, Version::Two, visit)).await,
        // Who names no protocol is taken for a browser or one of the many WebSocket clients.
        _ => Box::pin(http::serve(stream, Version::One, visit)).await,
    }
}

/// What must happen before the time for the set-up is over, and before the relay stops.
async fn in_time<T>(visit: &Visit, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = timeout_at(visit.deadline, work) => {
            done.inspect_err(|_| tracing::debug!("it took too long to set up")).ok()
        }
        () = visit.context.draining.cancelled() => None,
    }
}
