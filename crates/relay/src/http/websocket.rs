//! The protocol over a WebSocket: its binary messages carry the bytes of the socket, cut anywhere.

use std::io;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt, stream};
use mildam_protocol::carrier::{WEB_SOCKET_MESSAGE, WEB_SOCKET_PROTOCOL};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tracing::Instrument;

use super::Visit;
use crate::connection;

/// What is read at a time. Each connection holds so much.
const READ_BUFFER: usize = 4 * 1024;

/// Messages without a byte of the protocol that may follow each other.
const MOST_EMPTY: u32 = 100;

/// `/ws`
pub(super) async fn open(
    State(visit): State<Visit>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let context = Arc::clone(&visit.context);
    let admitted = match visit.enter(context.proxies.requester(visit.peer, &headers)) {
        Ok(admitted) => admitted,
        Err(turned_away) => {
            let wait = [(header::RETRY_AFTER, turned_away.retry_after().to_string())];
            return (StatusCode::TOO_MANY_REQUESTS, wait, turned_away.to_string()).into_response();
        }
    };
    // Whoever waits for the relay to end waits for the WebSocket, too.
    let task = context.tasks.token();
    let span = tracing::Span::current();
    let upgrade = upgrade
        .protocols([WEB_SOCKET_PROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        // What cannot be written, such as answers to pings that nobody reads, ends the connection.
        .max_write_buffer_size(2 * WEB_SOCKET_MESSAGE)
        // A message is kept until it is whole, so this is what a stranger can make the relay hold.
        .max_message_size(WEB_SOCKET_MESSAGE)
        .max_frame_size(WEB_SOCKET_MESSAGE);
    upgrade.on_upgrade(move |socket| {
        let served = async move {
            let _task = task;
            let _permit = visit.permit;
            let ending = context.ending.clone();
            let served = connection::serve(
                bytes(socket),
                visit.binding,
                visit.deadline,
                (admitted, visit.toll),
                context,
            );
            ending.run_until_cancelled(served).await;
        };
        served.instrument(span)
    })
}

/// The bytes in a WebSocket's binary messages.
fn bytes(socket: WebSocket) -> impl AsyncRead + AsyncWrite + Unpin + Send {
    let (sink, stream) = socket.split();
    let mut empty = 0_u32;
    let read = stream.filter_map(move |message| {
        std::future::ready(match message {
            Ok(Message::Binary(bytes)) if !bytes.is_empty() => {
                empty = 0;
                Some(Ok(bytes))
            }
            Ok(Message::Text(_)) => Some(Err(io::Error::other("a text in the WebSocket"))),
            // Pings are answered by themselves, and the end of the stream follows the last message.
            Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => {
                empty = empty.saturating_add(1);
                (empty > MOST_EMPTY).then(|| Err(io::Error::other("too many messages with nothing in them")))
            }
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let write = sink.sink_map_err(io::Error::other).with_flat_map(|mut bytes: Bytes| {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            messages.push(Ok(Message::Binary(bytes.split_to(bytes.len().min(WEB_SOCKET_MESSAGE)))));
        }
        stream::iter(messages)
    });
    tokio::io::join(StreamReader::new(read), SinkWriter::new(CopyToBytes::new(write)))
}
