//! What client and relay must agree on before the first frame: how the byte stream is carried.

/// What TLS says to speak (ALPN) where the frames follow at once.
pub const ALPN: &[u8] = b"mildam/1";
/// Label of the channel binding `tls-exporter` (RFC 9266). Its context is empty.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Where the relay takes WebSockets.
pub const WEB_SOCKET_PATH: &str = "/ws";
/// What such a WebSocket says to speak (its subprotocol).
pub const WEB_SOCKET_PROTOCOL: &str = "mildam.1";
/// The longest message of a WebSocket, in bytes, that the relay takes, and that either sends.
pub const WEB_SOCKET_MESSAGE: usize = 64 * 1024;
