//! The relay's byte stream inside a WebSocket, for networks that let nothing else through.
//!
//! Binary messages carry the stream; where one ends and the next begins means nothing. A close is
//! the end of the stream.

use std::future::ready;
use std::io;
use std::pin::Pin;
use std::task::{self, Context, Poll};

use futures_util::{SinkExt, StreamExt, stream};
use http::Uri;
use http::header::RETRY_AFTER;
use mildam_protocol::ServerLink;
use mildam_protocol::carrier::{WEB_SOCKET_MESSAGE, WEB_SOCKET_PATH, WEB_SOCKET_PROTOCOL};
use mildam_protocol::frame::SESSION_LIMIT;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, ClientRequestBuilder, Error as WsError, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use crate::error::{self, Error};
use crate::keep_alive::Heard;

/// What TLS says to speak.
pub(crate) const ALPN: &[u8] = b"http/1.1";
/// The longest message that is taken, in bytes: a server may put a whole frame into one.
const LONGEST: usize = SESSION_LIMIT + WEB_SOCKET_MESSAGE;

/// Opens a WebSocket over TLS to the relay of a link.
///
/// # Errors
/// `busy` if it is to be tried later, `set_up_failed` if what answers is no relay, `offline` if the
/// connection broke.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    link: &ServerLink,
    heard: Heard,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<S>, Error> {
    let uri: Uri = format!("wss://{}{WEB_SOCKET_PATH}", link.address())
        .parse()
        .map_err(|_| Error::internal("the address of a WebSocket"))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(WEB_SOCKET_PROTOCOL);
    let config = WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    let stream = Listening { stream, heard, bytes: 0 };
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    let (messages, _) = opened.map_err(not_opened)?;
    Ok(bytes(messages))
}

fn not_opened(error: WsError) -> Error {
    match error {
        WsError::Io(_) => Error::offline(),
        WsError::Http(response) if matches!(response.status().as_u16(), 429 | 503) => busy(&response),
        other => Error::new("set_up_failed", format!("No relay answers at the server's WebSocket: {other}.")),
    }
}

fn busy<T>(response: &http::Response<T>) -> Error {
    let busy = Error::new("busy", "The server asks to try again later.");
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    match seconds {
        Some::<u32>(seconds) => busy.with(error::RETRY_AFTER, seconds),
        None => busy,
    }
}

/// The bytes in a WebSocket's binary messages.
pub(crate) fn bytes<S: AsyncRead + AsyncWrite + Unpin + Send>(
    socket: WebSocketStream<S>,
) -> impl AsyncRead + AsyncWrite + Unpin + Send {
    let (sink, stream) = socket.split();
    let stream = stream.take_while(|message| ready(!matches!(message, Ok(Message::Close(_)))));
    let read = stream.filter_map(|message| {
        ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(Message::Text(_)) => Some(Err(io::Error::new(io::ErrorKind::InvalidData, "a text message"))),
            Ok(_) => None,
            Err(error) => Some(Err(into_io(error))),
        })
    });
    let write = sink.sink_map_err(into_io).with_flat_map(|mut bytes: Bytes| {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            messages.push(Ok(Message::Binary(bytes.split_to(bytes.len().min(WEB_SOCKET_MESSAGE)))));
        }
        stream::iter(messages)
    });
    tokio::io::join(StreamReader::new(read), SinkWriter::new(CopyToBytes::new(write)))
}

fn into_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Notes that the server was heard while a long message comes in, which shows only when it is
/// there as a whole. What is shorter than a chunk, as pings are, is not noted: they may be those of
/// a proxy, and say nothing about the relay.
pub(crate) struct Listening<S> {
    stream: S,
    heard: Heard,
    bytes: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.bytes += buffer.filled().len() - before;
        if self.bytes >= crate::carrier::CHUNK {
            self.bytes = 0;
            self.heard.note();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    async fn pair() -> (impl AsyncRead + AsyncWrite + Unpin + Send, WebSocketStream<DuplexStream>) {
        let (near, far) = tokio::io::duplex(1000);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        (bytes(near), far)
    }

    #[tokio::test]
    async fn messages_carry_one_stream_whatever_their_boundaries() {
        let (mut near, mut far) = pair().await;
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let (there, back) = (sent.clone(), sent.clone());
        let server = async move {
            let mut come = Vec::new();
            while come.len() < there.len() {
                match far.next().await.unwrap().unwrap() {
                    Message::Binary(bytes) => come.extend_from_slice(&bytes),
                    other => panic!("not binary: {other}"),
                }
            }
            assert!(come == there);
            for piece in back.chunks(777) {
                far.send(Message::Binary(piece.to_vec().into())).await.unwrap();
                far.send(Message::Binary(Bytes::new())).await.unwrap();
                far.send(Message::Ping(Bytes::new())).await.unwrap();
            }
            far.close(None).await.unwrap();
            while far.next().await.is_some() {}
        };
        let client = async move {
            near.write_all(&sent).await.unwrap();
            near.flush().await.unwrap();
            let mut come = Vec::new();
            near.read_to_end(&mut come).await.unwrap();
            assert!(come == sent);
        };
        tokio::join!(server, client);
    }

    #[tokio::test]
    async fn a_text_message_is_an_error_and_a_lost_connection_too() {
        let (mut near, mut far) = pair().await;
        far.send(Message::Text("text".into())).await.unwrap();
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (mut near, far) = pair().await;
        drop(far);
        near.read_u8().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_long_message_is_heard_before_it_is_there() {
        let (near, mut far) = tokio::io::duplex(1000);
        let heard = Heard::default();
        let mut near = Listening { stream: near, heard: heard.clone(), bytes: 0 };
        let mut some = [0; 600];
        far.write_all(&some).await.unwrap();
        near.read_exact(&mut some).await.unwrap();
        assert_eq!(heard.count(), 0, "as short as a ping");
        let (sent, mut come) = (vec![0; crate::carrier::CHUNK], vec![0; crate::carrier::CHUNK]);
        tokio::try_join!(far.write_all(&sent), near.read_exact(&mut come)).unwrap();
        assert_eq!(heard.count(), 1);
    }

    #[test]
    fn a_server_that_is_busy_says_for_how_long() {
        let answer = |status, seconds: &str| {
            let builder = http::Response::builder().status(status).header(RETRY_AFTER, seconds);
            not_opened(WsError::Http(Box::new(builder.body(None).unwrap())))
        };
        let error = answer(503, "30");
        assert_eq!((error.code(), error.details()["retry_after"].as_str()), ("busy", "30"));
        assert!(answer(429, "Wed, 21 Oct 2026 07:28:00 GMT").details().is_empty());
        assert_eq!(answer(404, "30").code(), "set_up_failed");
    }
}
