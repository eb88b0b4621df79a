//! HTTP on the port that also serves the Mildam socket: the WebSocket, the invitation's page, and what
//! operators' machines ask for.

mod pages;
mod websocket;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use mildam_protocol::carrier;
use mildam_protocol::set_up::ChannelBinding;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use crate::context::Context;
use crate::limiter::{ConnectionPermit, TurnedAway};
use crate::store::{Committed, Work};

/// Who comes only for a page is let go after so long. A WebSocket is a connection of its own by then.
const LONGEST: Duration = Duration::from_secs(60);
/// How long the last answers may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How long the store may take to say that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(5);
/// The largest head of a request, in bytes.
const HEAD_LIMIT: u32 = 16 * 1024;
/// The most lines in it.
const HEADER_LINES: usize = 64;
/// Requests of one HTTP/2 connection at a time.
const STREAMS: u32 = 16;

/// A connection on which HTTP is spoken.
#[derive(Clone)]
pub(crate) struct Visit {
    /// From where it comes.
    pub(crate) peer: IpAddr,
    /// Its place among those of its address; none yet if a proxy connects on somebody's behalf.
    pub(crate) admitted: Arc<Mutex<Option<ConnectionPermit>>>,
    /// The TLS channel; `None` behind a proxy that ends TLS.
    pub(crate) binding: ChannelBinding,
    /// When the set-up of a WebSocket must be done.
    pub(crate) deadline: Instant,
    /// Held as long as the connection, or the WebSocket that it becomes.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
    pub(crate) context: Arc<Context>,
}

impl Visit {
    /// The place for a connection of the protocol: the one that it has, or one of this address.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<ConnectionPermit, TurnedAway> {
        let admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner).take();
        admitted.map_or_else(|| self.context.limiter.admit(address), Ok)
    }

    /// It comes for a page, and sets nothing up.
    fn comes_for_a_page(&self) {
        if let Some(admitted) = &mut *self.admitted.lock().unwrap_or_else(PoisonError::into_inner) {
            admitted.set_up_done();
        }
    }
}

/// Which version is spoken: in TLS both sides agree on it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

fn router(visit: Visit) -> Router {
    Router::new()
        .route("/", get(pages::join))
        .route("/join", get(pages::join))
        .route("/join.css", get(pages::style))
        .route("/join.js", get(pages::script))
        .route("/mildam.svg", get(pages::icon))
        .route(carrier::WEB_SOCKET_PATH, get(websocket::open))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .with_state(visit)
}

/// Serves one connection until it ends, becomes a WebSocket, or has had its time.
pub(crate) async fn serve<S>(stream: S, version: Version, visit: Visit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let context = Arc::clone(&visit.context);
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(context.limits.set_up)
        .max_buf_size(HEAD_LIMIT as usize)
        .max_headers(HEADER_LINES);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_LIMIT)
        .keep_alive_interval(context.limits.set_up)
        .keep_alive_timeout(context.limits.set_up);
    let server = match version {
        Version::One => server.http1_only(),
        Version::Two => server.http2_only(),
    };
    let service = TowerToHyperService::new(router(visit));
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = ending(&context) => {
            connection.as_mut().graceful_shutdown();
            timeout(CLOSE_LIMIT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "HTTP ended");
    }
}

async fn ending(context: &Context) {
    tokio::select! {
        () = tokio::time::sleep(LONGEST) => {}
        () = context.draining.cancelled() => {}
    }
}

/// `/healthz`: the program runs.
async fn healthy() -> &'static str {
    "ok\n"
}

/// `/readyz`: it takes connections, and its store answers.
async fn ready(State(visit): State<Visit>) -> (StatusCode, &'static str) {
    let context = visit.context;
    if context.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let nothing: Work = Box::new(|_| Box::pin(async { Ok(Committed::default()) }));
    match timeout(READY_LIMIT, context.store.read(nothing)).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n"),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n"),
    }
}
