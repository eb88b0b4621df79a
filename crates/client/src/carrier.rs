//! The way to the relay: TCP, TLS, frames, and the set-up.

use mildam_protocol::ServerLink;
use mildam_protocol::frame::{self, HEADER, SESSION_LIMIT, SET_UP_LIMIT};
use mildam_protocol::session::ClientSession;
use mildam_protocol::set_up::client::ExpectServerKey;
use mildam_protocol::set_up::{self, ChannelBinding, ClientKey, Established, SetUpError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::Error;
use crate::keep_alive::Heard;
use crate::tls::{self, Authorities, Voucher};

/// What TLS says to speak.
const ALPN: &[u8] = b"mildam/1";

/// After so many bytes of a long payload the server has been heard again.
const CHUNK: usize = 16 * 1024;

/// A byte stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection whose session key is active.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) established: Established<ClientSession>,
}

/// An open byte stream to the relay, before the set-up.
pub(crate) struct Carrier {
    stream: Box<dyn Stream>,
    binding: ChannelBinding,
    voucher: Voucher,
}

/// Opens the carrier. All of it together may take as long as a set-up.
pub(crate) async fn open(link: &ServerLink, authorities: &Authorities) -> Result<Carrier, Error> {
    timeout(set_up::TIME_LIMIT, open_tls(link, authorities)).await.map_err(|_| Error::offline())?
}

async fn open_tls(link: &ServerLink, authorities: &Authorities) -> Result<Carrier, Error> {
    let tcp = TcpStream::connect((link.host(), link.port())).await?;
    tcp.set_nodelay(true)?;
    let tls = tls::connect(tcp, link, ALPN, authorities).await?;
    tracing::info!(voucher = ?tls.voucher, "TLS is open");
    Ok(Carrier { stream: Box::new(tls.stream), binding: Some(tls.binding), voucher: tls.voucher })
}

/// Agrees on a session key over an open carrier.
pub(crate) async fn set_up(carrier: Carrier, link: &ServerLink, key: ClientKey) -> Result<Connection, Error> {
    let Carrier { mut stream, binding, voucher } = carrier;
    let start = set_up::client::start(*link.fingerprint(), key, binding);
    let start = match voucher {
        Voucher::ServerKey | Voucher::Issuer => start,
        // The certificate is verified for the host's name, so a proxy there is the operator's own.
        Voucher::Authority => start.allow_proxy(),
    };
    let outcome = timeout(set_up::TIME_LIMIT, agree(&mut stream, start)).await;
    match outcome {
        Ok(Ok(established)) => Ok(Connection { stream, established }),
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

    use super::*;
    use crate::testing::*;

    static CLIENT_KEY: LazyLock<ClientKey> =
        LazyLock::new(|| ClientKey::generate(&mut crate::rng()).unwrap());

    /// Sets a connection up with a server that shows `shown`, has `key`, and sees no TLS channel.
    async fn through_proxy(
        shown: Shown,
        key: &set_up::ServerKey,
        authorities: &Authorities,
    ) -> Result<Connection, Error> {
        let server = TlsServer::bind(shown, &["mildam/1"]).await;
        let link = server.link(&SERVER_KEY);
        let client = async {
            let carrier = open(&link, authorities).await?;
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
}
