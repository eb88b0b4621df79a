//! Accepting connections.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tracing::Instrument;

use crate::connection;
use crate::context::Context;
use crate::limiter::ConnectionPermit;

/// After a failed accept (no file descriptors, for example) this long nothing is accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// A peer that has gone without a word is noticed after about two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
/// Label of the channel binding `tls-exporter` (RFC 9266).
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Where connections come in: with TLS and, if it was asked for, without.
pub(crate) struct Listeners {
    pub(crate) tls: TcpListener,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) plain: Option<TcpListener>,
}

/// What lies under the protocol: TLS, or nothing.
type Carrier = Option<Arc<ServerConfig>>;

impl Listeners {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Carrier)> {
        let plain = async {
            match &self.plain {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.tls.accept() => {
                let (stream, address) = accepted?;
                Ok((stream, address, Some(Arc::clone(&self.config))))
            }
            accepted = plain => {
                let (stream, address) = accepted?;
                Ok((stream, address, None))
            }
        }
    }
}

/// Accepts connections until the relay drains. Each holds a permit, taken before it is accepted:
/// whoever finds none waits in the system's queue.
pub(crate) async fn accept(listeners: Listeners, permits: Arc<Semaphore>, context: Arc<Context>) {
    let mut number = 0_u64;
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((permit, listeners.accept().await))
        };
        let (permit, stream, address, carrier) = tokio::select! {
            () = context.draining.cancelled() => return,
            accepted = accepted => match accepted {
                None => return,
                Some((permit, Ok((stream, address, carrier)))) => (permit, stream, address, carrier),
                Some((_, Err(error))) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let admitted = match context.limiter.admit(address.ip()) {
            Ok(admitted) => admitted,
            Err(turned_away) => {
                tracing::debug!(reason = %turned_away, "a connection was turned away");
                // Before TLS nothing can be said that the peer would understand.
                if carrier.is_none() {
                    say_at_once(stream, &turned_away.last_words());
                }
                continue;
            }
        };
        number = number.wrapping_add(1);
        let span = tracing::info_span!("connection", number, tls = carrier.is_some());
        let served = serve(stream, carrier, admitted, Arc::clone(&context));
        let ending = context.ending.clone();
        let task = async move {
            let _permit = permit;
            ending.run_until_cancelled(served).await;
        };
        context.tasks.spawn(task.instrument(span));
    }
}

/// Says something that fits into the system's buffer, and closes. Nobody is waited for.
fn say_at_once(stream: TcpStream, words: &[u8]) {
    // Whether it arrives is the peer's affair.
    let _ = stream.into_std().and_then(|mut stream| stream.write_all(words));
}

async fn serve(stream: TcpStream, carrier: Carrier, admitted: ConnectionPermit, context: Arc<Context>) {
    let deadline = Instant::now() + context.limits.set_up;
    // Neither is needed for correctness; a system that refuses them is served all the same.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
    let Some(config) = carrier else {
        return connection::serve(stream, None, deadline, admitted, context).await;
    };
    let tls = TlsAcceptor::from(config);
    let accepted = tokio::select! {
        accepted = tokio::time::timeout_at(deadline, tls.accept(stream)) => accepted,
        () = context.draining.cancelled() => return,
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%error, "TLS failed"),
        Err(_) => return tracing::info!("TLS took too long"),
    };
    let (_, session) = stream.get_ref();
    match session.export_keying_material([0; 32], BINDING_LABEL, Some(&[])) {
        Ok(binding) => connection::serve(stream, Some(binding), deadline, admitted, context).await,
        Err(error) => tracing::error!(%error, "TLS gave no channel binding"),
    }
}
