//! The connection to the relay: TCP, TLS, a WebSocket if it must be, frames, and the set-up.

use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use mildam_protocol::ServerLink;
use mildam_protocol::frame::{self, HEADER, SESSION_LIMIT, SET_UP_LIMIT};
use mildam_protocol::session::ClientSession;
use mildam_protocol::set_up::client::ExpectServerKey;
use mildam_protocol::set_up::{self, ChannelBinding, ClientKey, Established, SetUpError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::dial::dial;
use crate::error::Error;
use crate::keep_alive::Heard;
use crate::tls::{self, Authorities, Voucher};
use crate::way::Way;
use crate::web_socket;

/// After so many bytes of a long payload the server has been heard again.
pub(crate) const CHUNK: usize = 16 * 1024;
/// So long may the first way take as long as another is left.
const FIRST_LIMIT: Duration = Duration::from_secs(4);

/// A byte stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection whose session key is active.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) established: Established<ClientSession>,
    pub(crate) way: Way,
    /// Where TCP leads to: the relay, or a proxy.
    pub(crate) peer: SocketAddr,
    pub(crate) heard: Heard,
}

/// An open byte stream to the relay, before the set-up.
pub(crate) struct Carrier {
    stream: Box<dyn Stream>,
    binding: ChannelBinding,
    voucher: Voucher,
    way: Way,
    peer: SocketAddr,
    heard: Heard,
}

/// Why a way did not lead to the relay.
enum Blocked {
    /// Something on this way does not let it through. Another way may be open.
    Here(Error),
    /// No other way would lead anywhere else.
    Everywhere(Error),
}

impl Blocked {
    /// What TLS or a WebSocket failed with.
    fn at_stream(error: Error) -> Self {
        // Who is not authentic on one way must not be taken on another, and who is busy is there.
        if matches!(error.code(), "wrong_fingerprint" | "busy") {
            Self::Everywhere(error)
        } else {
            Self::Here(error)
        }
    }
}

/// Opens the carrier on the first of the ways that lets it through. All of it together may take as
/// long as a set-up.
pub(crate) async fn open(
    link: &ServerLink,
    ways: [Way; 2],
    authorities: &Authorities,
    proxies: &Matcher,
) -> Result<Carrier, Error> {
    let open = open_one_of(link, ways, authorities, proxies, FIRST_LIMIT);
    timeout(set_up::TIME_LIMIT, open).await.map_err(|_| Error::offline())?
}

async fn open_one_of(
    link: &ServerLink,
    [first, second]: [Way; 2],
    authorities: &Authorities,
    proxies: &Matcher,
    limit: Duration,
) -> Result<Carrier, Error> {
    let failed = match timeout(limit, open_on(first, link, authorities, proxies)).await {
        Ok(Ok(carrier)) => return Ok(carrier),
        Ok(Err(Blocked::Everywhere(error))) => return Err(error),
        Ok(Err(Blocked::Here(error))) => error,
        Err(_) => Error::offline(),
    };
    tracing::info!(code = failed.code(), way = ?first, "this way is closed");
    open_on(second, link, authorities, proxies).await.map_err(|blocked| match blocked {
        Blocked::Everywhere(error) => error,
        Blocked::Here(_) => failed,
    })
}

async fn open_on(
    way: Way,
    link: &ServerLink,
    authorities: &Authorities,
    proxies: &Matcher,
) -> Result<Carrier, Blocked> {
    // Both ways lead to the same host and port.
    let tcp = dial(link, proxies).await.map_err(Blocked::Everywhere)?;
    let peer = tcp.peer_addr().map_err(|_| Blocked::Here(Error::offline()))?;
    let tls = tls::connect(tcp, link, way.alpn(), authorities).await.map_err(Blocked::at_stream)?;
    let heard = Heard::default();
    let stream: Box<dyn Stream> = match way {
        // Somebody else than the relay ends TLS and knows nothing of the protocol that was offered.
        Way::Socket if tls.voucher == Voucher::Authority && !tls.agreed => {
            return Err(Blocked::Here(Error::new(
                "set_up_failed",
                "Something on the way to the server does not let the connection through.",
            )));
        }
        Way::Socket => Box::new(tls.stream),
        Way::WebSocket => {
            let opened = web_socket::open(tls.stream, link, heard.clone()).await;
            Box::new(opened.map_err(Blocked::at_stream)?)
        }
    };
    tracing::info!(?way, voucher = ?tls.voucher, "the carrier is open");
    Ok(Carrier { stream, binding: Some(tls.binding), voucher: tls.voucher, way, peer, heard })
}

/// Agrees on a session key over an open carrier.
pub(crate) async fn set_up(carrier: Carrier, link: &ServerLink, key: ClientKey) -> Result<Connection, Error> {
    let Carrier { mut stream, binding, voucher, way, peer, heard } = carrier;
    let start = set_up::client::start(*link.fingerprint(), key, binding);
    let start = match voucher {
        Voucher::ServerKey | Voucher::Issuer => start,
        // The certificate is verified for the host's name, so a proxy there is the operator's own.
        Voucher::Authority => start.allow_proxy(),
    };
    let outcome = timeout(set_up::TIME_LIMIT, agree(&mut stream, start)).await;
    match outcome {
        Ok(Ok(established)) => Ok(Connection { stream, established, way, peer, heard }),
        Ok(Err(Agree::SetUp(error))) => {
            // The server is told, unless it is another one than the link names.
            if !matches!(error, SetUpError::WrongFingerprint { .. } | SetUpError::Refused { .. }) {
                let _ = write(&mut stream, &SetUpError::client_refusal()).await;
            }
            Err(error.into())
        }
        Ok(Err(Agree::Io)) => Err(Error::offline()),
        Err(_) => Err(Error::new(
            "set_up_failed",
            "The server took longer than 10 seconds to set up the connection.",
        )),
    }
}

enum Agree {
    SetUp(SetUpError),
    Io,
}

impl From<SetUpError> for Agree {
    fn from(error: SetUpError) -> Self {
        Self::SetUp(error)
    }
}

impl From<std::io::Error> for Agree {
    fn from(_: std::io::Error) -> Self {
        Self::Io
    }
}

async fn agree(
    stream: &mut Box<dyn Stream>,
    state: ExpectServerKey,
) -> Result<Established<ClientSession>, Agree> {
    let (answer, state) = state.handle(&read(stream, SET_UP_LIMIT).await?, &mut crate::rng())?;
    write(stream, &answer).await?;
    let (answer, state) = state.handle(&read(stream, SET_UP_LIMIT).await?, &mut crate::rng())?;
    write(stream, &answer).await?;
    Ok(state.handle(&read(stream, SET_UP_LIMIT).await?)?)
}

/// Reads one frame's payload of a session.
pub(crate) async fn read_session(
    stream: &mut (impl AsyncRead + Unpin),
    heard: &Heard,
) -> std::io::Result<Vec<u8>> {
    read_heard(stream, SESSION_LIMIT, heard).await
}

async fn read(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> std::io::Result<Vec<u8>> {
    read_heard(stream, limit, &Heard::default()).await
}

async fn read_heard(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
    heard: &Heard,
) -> std::io::Result<Vec<u8>> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    heard.note();
    let length = frame::payload_length(header, limit).map_err(std::io::Error::other)?;
    let mut payload = vec![0; length];
    for chunk in payload.chunks_mut(CHUNK) {
        stream.read_exact(chunk).await?;
        heard.note();
    }
    Ok(payload)
}

/// Writes one frame.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> std::io::Result<()> {
    stream.write_all(&frame::encode(payload).map_err(std::io::Error::other)?).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use tokio::net::TcpStream;

    use super::*;
    use crate::testing::*;

    static CLIENT_KEY: LazyLock<ClientKey> =
        LazyLock::new(|| ClientKey::generate(&mut crate::rng()).unwrap());

    /// No proxies.
    static DIRECT: LazyLock<Matcher> = LazyLock::new(|| Matcher::builder().build());
    const SOCKET_FIRST: [Way; 2] = [Way::Socket, Way::WebSocket];

    /// Sets a connection up with a server that shows `shown`, has `key`, and sees no TLS channel.
    async fn through_proxy(
        shown: Shown,
        key: &set_up::ServerKey,
        authorities: &Authorities,
    ) -> Result<Connection, Error> {
        let server = TlsServer::bind(shown, &["mildam/1"]).await;
        let link = server.link(&SERVER_KEY);
        let client = async {
            let carrier = open(&link, SOCKET_FIRST, authorities, &DIRECT).await?;
            set_up(carrier, &link, CLIENT_KEY.clone()).await
        };
        let serve = async { serve_set_up(&mut server.accept().await?, key, None).await };
        tokio::join!(client, serve).0
    }

    #[tokio::test]
    async fn a_proxy_that_ends_tls_is_taken_only_where_an_authority_vouches_for_it() {
        let proxy = web("localhost");
        let authorities = trusting(&proxy);
        let connection = through_proxy(proxy, &SERVER_KEY, &authorities).await.unwrap();
        assert!(!connection.established.bound);
        for shown in [own(&SERVER_KEY), issued(&SERVER_KEY, &params("localhost"))] {
            let refused = through_proxy(shown, &SERVER_KEY, &authorities).await.err().unwrap();
            assert_eq!(refused.code(), "set_up_failed");
        }
    }

    #[tokio::test]
    async fn an_authority_does_not_replace_the_server_key() {
        let proxy = web("localhost");
        let authorities = trusting(&proxy);
        let refused = through_proxy(proxy, &OTHER_KEY, &authorities).await.err().unwrap();
        assert_eq!(refused.code(), "wrong_fingerprint");
        assert_eq!(refused.found_key(), Some(OTHER_KEY.fingerprint().to_string().as_str()));
    }

    /// Lets the client connect, and serves a WebSocket in TLS once `before` is over.
    async fn by_web_socket(
        server: &TlsServer,
        ways: [Way; 2],
        authorities: &Authorities,
        before: impl Future<Output = ()>,
    ) -> Connection {
        let link = server.link(&SERVER_KEY);
        let client = async {
            let carrier = open_one_of(&link, ways, authorities, &DIRECT, Duration::from_secs(1)).await?;
            set_up(carrier, &link, CLIENT_KEY.clone()).await
        };
        let serve = async {
            before.await;
            let stream = server.accept().await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let binding = binding(&stream);
            let mut stream = accept_web_socket(stream).await.unwrap();
            serve_set_up(&mut stream, &SERVER_KEY, binding).await.unwrap();
        };
        let (connection, ()) = tokio::join!(client, serve);
        let connection = connection.unwrap();
        assert_eq!(connection.way, Way::WebSocket);
        connection
    }

    #[tokio::test]
    async fn a_web_socket_carries_the_set_up_bound_to_its_tls_channel() {
        let server = TlsServer::bind(issued(&SERVER_KEY, &params("localhost")), &["http/1.1"]).await;
        let ways = [Way::WebSocket, Way::Socket];
        let connection = by_web_socket(&server, ways, &trusting_none(), async {}).await;
        assert!(connection.established.bound);
    }

    #[tokio::test]
    async fn the_web_socket_is_taken_where_the_socket_is_refused_cut_or_not_answered() {
        let server = TlsServer::bind(own(&SERVER_KEY), &["http/1.1"]).await;
        let refused = async { drop(server.accept().await.unwrap_err()) };
        by_web_socket(&server, SOCKET_FIRST, &trusting_none(), refused).await;
        let cut = async { drop(server.accept_tcp().await) };
        by_web_socket(&server, SOCKET_FIRST, &trusting_none(), cut).await;
        // Nobody ever answers, until the client gives it up by itself.
        let swallowed = async {
            let mut stream = server.accept_tcp().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        by_web_socket(&server, SOCKET_FIRST, &trusting_none(), swallowed).await;
    }

    #[tokio::test]
    async fn the_web_socket_is_taken_where_somebody_else_ends_tls_and_does_not_know_the_socket() {
        let web = web("localhost");
        let authorities = trusting(&web);
        let server = TlsServer::bind(web, &[]).await;
        let link = server.link(&SERVER_KEY);
        let client = open(&link, SOCKET_FIRST, &authorities, &DIRECT);
        let serve = async {
            let without = server.accept().await.unwrap();
            assert_eq!(without.get_ref().1.alpn_protocol(), None);
            accept_web_socket(server.accept().await.unwrap()).await.unwrap();
        };
        let (carrier, ()) = tokio::join!(client, serve);
        assert_eq!(carrier.unwrap().way, Way::WebSocket);
    }

    #[tokio::test]
    async fn the_relay_itself_is_taken_without_a_word_about_the_protocol() {
        let server = TlsServer::bind(own(&SERVER_KEY), &[]).await;
        let (link, authorities) = (server.link(&SERVER_KEY), trusting_none());
        let (carrier, served) =
            tokio::join!(open(&link, SOCKET_FIRST, &authorities, &DIRECT), server.accept());
        assert_eq!((carrier.unwrap().way, served.is_ok()), (Way::Socket, true));
    }

    #[tokio::test]
    async fn who_is_not_authentic_on_one_way_is_not_tried_on_the_other() {
        let server = TlsServer::bind(own(&OTHER_KEY), &["mildam/1", "http/1.1"]).await;
        let (link, authorities) = (server.link(&SERVER_KEY), trusting_none());
        let (refused, _) = tokio::join!(open(&link, SOCKET_FIRST, &authorities, &DIRECT), server.accept());
        assert_eq!(refused.err().unwrap().code(), "wrong_fingerprint");
        // The next who comes is this test, not the client once more.
        let next = TcpStream::connect((link.host(), link.port())).await.unwrap();
        assert_eq!(server.accept_tcp().await.peer_addr().unwrap(), next.local_addr().unwrap());
    }

    #[tokio::test]
    async fn where_no_way_is_open_the_first_one_says_why() {
        let server = TlsServer::bind(own(&SERVER_KEY), &["http/1.1"]).await;
        let (link, authorities) = (server.link(&SERVER_KEY), trusting_none());
        let serve = async {
            drop(server.accept().await.unwrap_err());
            let mut stream = server.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let (refused, ()) = tokio::join!(open(&link, SOCKET_FIRST, &authorities, &DIRECT), serve);
        let refused = refused.err().unwrap();
        assert_eq!(refused.code(), "set_up_failed");
        assert!(refused.to_string().contains("TLS"), "{refused}");
    }

    #[tokio::test]
    async fn a_relay_that_is_busy_is_not_asked_again_on_another_way() {
        let server = TlsServer::bind(own(&SERVER_KEY), &["http/1.1"]).await;
        let (link, authorities) = (server.link(&SERVER_KEY), trusting_none());
        let serve = async {
            let mut stream = server.accept().await.unwrap();
            let answer = b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let ways = [Way::WebSocket, Way::Socket];
        let (refused, ()) = tokio::join!(open(&link, ways, &authorities, &DIRECT), serve);
        let refused = refused.err().unwrap();
        assert_eq!((refused.code(), refused.details()["retry_after"].as_str()), ("busy", "7"));
    }
}
