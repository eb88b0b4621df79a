//! HTTP on the port that also serves the Mildam socket: the WebSocket, the invitation's page, and what
//! operators' machines ask for.

mod pages;
mod websocket;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use mildam_protocol::carrier;
use mildam_protocol::set_up::ChannelBinding;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::limiter::{ConnectionPermit, Toll, TurnedAway};
use crate::metrics;
use crate::metrics::Counted;
use crate::store::{Committed, Work};

/// Who comes only for a page is let go after so long. A WebSocket is a connection of its own by then.
const LONGEST: Duration = Duration::from_secs(60);
/// Where it is asked whether the program runs.
const HEALTH: &str = "/healthz";
/// How long the last answers may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How long the store may take to say that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(5);
/// For so long it is taken at its word.
const READY_AGE: Duration = Duration::from_secs(1);
/// The largest head of a request, in bytes.
const HEAD_LIMIT: u32 = 16 * 1024;
/// The most lines in it.
const HEADER_LINES: usize = 64;
/// Requests of one HTTP/2 connection at a time.
const STREAMS: u32 = 16;
/// Connections for metrics at a time.
const METRICS_CONNECTIONS: usize = 16;
/// After a failed accept of one of them this long none is accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection on which HTTP is spoken.
#[derive(Clone)]
pub(crate) struct Visit {
    /// From where it comes.
    pub(crate) peer: IpAddr,
    /// Its place among those of its address; none yet if a proxy connects on somebody's behalf.
    pub(crate) admitted: Arc<Mutex<Option<ConnectionPermit>>>,
    /// What its bytes cost.
    pub(crate) toll: Arc<Toll>,
    /// The TLS channel; `None` behind a proxy that ends TLS.
    pub(crate) binding: ChannelBinding,
    /// When the set-up of a WebSocket must be done.
    pub(crate) deadline: Instant,
    /// Held as long as the connection, or the WebSocket that it becomes.
    pub(crate) permit: Arc<(OwnedSemaphorePermit, Counted)>,
    pub(crate) context: Arc<Context>,
}

impl Visit {
    /// The place for a connection of the protocol: the one that it has, or one of this address.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<ConnectionPermit, TurnedAway> {
        let admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let admitted = admitted.map_or_else(|| self.context.limiter.admit(address), Ok);
        match &admitted {
            Ok(admitted) => self.toll.set_origin(admitted.origin()),
            Err(_) => self.context.metrics.connection_turned_away(),
        }
        admitted
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
    let counting = middleware::from_fn_with_state(visit.clone(), count);
    Router::new()
        .route("/", get(pages::join))
        .route("/join", get(pages::join))
        .route("/join.css", get(pages::style))
        .route("/join.js", get(pages::script))
        .route("/mildam.svg", get(pages::icon))
        .route(carrier::WEB_SOCKET_PATH, get(websocket::open))
        .route(HEALTH, get(healthy))
        .route("/readyz", get(ready))
        .layer(counting)
        .with_state(visit)
}

/// Serves one connection until it ends, becomes a WebSocket, or has had its time.
pub(crate) async fn serve<S>(stream: S, version: Version, visit: Visit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let context = Arc::clone(&visit.context);
    answer(stream, version, router(visit), &context).await;
}

/// Serves the metrics to whoever reaches this listener, until the relay drains.
pub(crate) async fn serve_metrics(listener: TcpListener, context: Arc<Context>) {
    let router: Router = Router::new().route("/metrics", get(show_metrics)).with_state(Arc::clone(&context));
    let places = Arc::new(Semaphore::new(METRICS_CONNECTIONS));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        let (place, stream) = match context.draining.run_until_cancelled(accepted).await.flatten() {
            None => return,
            Some((place, Ok((stream, _)))) => (place, stream),
            Some((_, Err(error))) => {
                tracing::warn!(%error, "a connection for metrics could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (router, shared) = (router.clone(), Arc::clone(&context));
        context.tasks.spawn(async move {
            let _place = place;
            let answered = answer(stream, Version::One, router, &shared);
            shared.ending.run_until_cancelled(answered).await;
        });
    }
}

/// Answers what is asked on one connection.
async fn answer<S>(stream: S, version: Version, router: Router, context: &Context)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
    let service = TowerToHyperService::new(router);
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = ending(context) => {
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

/// Counts what is asked for, and by whom. Whether the program runs is told however often that is asked.
async fn count(State(visit): State<Visit>, request: Request, next: Next) -> Response {
    let Context { metrics, limiter, proxies, .. } = &*visit.context;
    metrics.http_requested();
    let asked = if request.uri().path() == HEALTH {
        Ok(())
    } else {
        limiter.judge_page(proxies.requester(visit.peer, request.headers()).into())
    };
    match asked {
        Ok(()) => next.run(request).await,
        Err(seconds) => {
            let wait = [(header::RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, wait, "too many requests\n").into_response()
        }
    }
}

/// `/metrics`, at a place of its own.
async fn show_metrics(State(context): State<Arc<Context>>) -> Response {
    // Reads what the system says of the process: not on the threads that serve everybody.
    match tokio::task::spawn_blocking(move || context.metrics.render(&context.limits)).await {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// `/healthz`: the program runs. It asks nobody, so that a program with a broken store still says so.
async fn healthy() -> &'static str {
    "ok\n"
}

/// `/readyz`: it takes connections, and its store answers.
async fn ready(State(visit): State<Visit>) -> (StatusCode, &'static str) {
    let context = visit.context;
    if context.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let store = Arc::clone(&context.store);
    let ask = async move {
        let nothing: Work = Box::new(|_| Box::pin(async { Ok(Committed::default()) }));
        matches!(timeout(READY_LIMIT, store.read(nothing)).await, Ok(Ok(_)))
    };
    if context.readiness.known_or(ask, &context.tasks).await {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n")
    }
}

/// Whether the store answered when it was last asked, and when that was. Who asks is a stranger, and a
/// read of the store is dear: all who ask within a second share one.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Arc<tokio::sync::Mutex<Option<(Instant, bool)>>>);

impl Readiness {
    /// What is known if it is young enough, and otherwise what `ask` gives. Whoever comes while it is being
    /// asked waits for the same answer.
    async fn known_or(&self, ask: impl Future<Output = bool> + Send + 'static, tasks: &TaskTracker) -> bool {
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some((asked, ready)) = *last
            && asked.elapsed() < READY_AGE
        {
            return ready;
        }
        // A task of its own: it is asked to the end and noted, though whoever wanted to know may be gone.
        let asking = tasks.spawn(async move {
            let ready = ask.await;
            *last = Some((Instant::now(), ready));
            ready
        });
        asking.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;

    use super::*;

    // REQ S2
    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_once_a_second_whoever_asks() {
        let (readiness, tasks) = (Readiness::default(), TaskTracker::new());
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = |outcome: bool| {
            let asked = Arc::clone(&asked);
            let answer = async move {
                asked.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                outcome
            };
            readiness.known_or(answer, &tasks)
        };
        assert_eq!(futures_util::future::join_all((0..50).map(|_| ask(true))).await, [true; 50]);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // What it said holds for a second, and not longer.
        assert!(ask(false).await);
        tokio::time::advance(READY_AGE).await;
        assert!(!ask(false).await);
        assert!(!ask(true).await);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        tokio::time::advance(READY_AGE).await;
        // Whoever goes away does not make the next one ask again.
        assert_eq!(ask(true).now_or_never(), None);
        assert!(ask(false).await);
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }
}
