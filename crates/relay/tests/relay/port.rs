//! One port for everything: the Mildam socket, HTTP, and the protocol in a WebSocket.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use mildam_protocol::command::FriendList;
use mildam_protocol::frame;
use mildam_relay::Rate;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::{Client, Wire, tls, tls_stream};
use crate::person::Person;
use crate::relay::TestRelay;

/// Asks for a page, over HTTP/1.1, and gives head and body of the answer.
async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, more: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

async fn get_tls(relay: &TestRelay, path: &str, more: &str) -> (String, String) {
    let (stream, ..) = tls_stream(relay.tls, &[b"http/1.1"]).await.unwrap();
    get(stream, path, more).await
}

/// A WebSocket on a stream.
async fn web_socket<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let mut request = "ws://relay/ws".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "mildam.1".parse().unwrap());
    let (socket, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "mildam.1");
    socket
}

/// The bytes in a WebSocket's messages, sent in messages of so many bytes.
fn bytes<S>(mut socket: WebSocketStream<S>, size: usize) -> impl crate::client::Stream + 'static
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ours, mut theirs) = duplex(1 << 16);
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => theirs.write_all(&bytes).await.unwrap(),
                    Some(Ok(_)) => {}
                    _ => return,
                },
                read = theirs.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        for message in buffer[..count].chunks(size) {
                            socket.feed(Message::binary(message.to_vec())).await.unwrap();
                        }
                        socket.flush().await.unwrap();
                    }
                },
            }
        }
    });
    ours
}

// REQ T1
#[tokio::test]
async fn tls_tells_the_socket_from_http_by_its_name() {
    let relay = TestRelay::start().await;
    for names in [&[b"mildam/1".as_slice()] as &[&[u8]], &[b"http/1.1", b"h2", b"mildam/1"]] {
        let (mut wire, ..) = tls(relay.tls, names).await.unwrap();
        assert_eq!(wire.read_json().await["header"]["status"], "connecting");
    }
    for names in [&[] as &[&[u8]], &[b"http/1.1"]] {
        let (stream, ..) = tls_stream(relay.tls, names).await.unwrap();
        let (head, body) = get(stream, "/healthz", "").await;
        assert!(head.starts_with("http/1.1 200") && body == "ok\n", "{names:?}: {head}");
    }
    assert!(tls(relay.tls, &[b"gopher"]).await.is_err());
    relay.stop().await;
}

// REQ T1
#[tokio::test]
async fn a_web_socket_carries_the_same_bytes_cut_anywhere() {
    let relay = TestRelay::start().await;
    for (name, size) in [("alice", 1), ("bob", 7), ("carol", 4096)] {
        let (stream, binding, _) = tls_stream(relay.tls, &[b"http/1.1"]).await.unwrap();
        let mut wire = Wire::over(bytes(web_socket(stream).await, size));
        let established = wire.set_up(*relay.link.fingerprint(), Some(binding)).await;
        let mut person = Person::with(Client::begin(wire, established), name);
        person.sign_up().await.unwrap();
        assert_eq!(person.client.ask(&FriendList {}).await.unwrap().friends, []);
    }
    // Without TLS, for a proxy that ends it, the set-up is bound to nothing.
    let stream = TcpStream::connect(relay.http).await.unwrap();
    let mut wire = Wire::over(bytes(web_socket(stream).await, 100));
    let established = wire.set_up(*relay.link.fingerprint(), None).await;
    let mut dave = Person::with(Client::begin(wire, established), "dave");
    dave.sign_up().await.unwrap();
    relay.stop().await;
}

// REQ T7
#[tokio::test]
async fn what_does_not_belong_in_a_web_socket_ends_it() {
    let relay = TestRelay::start().await;
    let too_long = vec![0; 64 * 1024 + 1];
    for message in [Message::text("{}"), Message::binary(too_long)] {
        let mut socket = web_socket(TcpStream::connect(relay.http).await.unwrap()).await;
        assert!(matches!(socket.next().await, Some(Ok(Message::Binary(_)))), "the greeting");
        socket.send(message).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            assert!(!message.is_text(), "{message:?}");
        }
    }
    // Neither is a page, or a socket without the words for it.
    let (head, _) = get_tls(&relay, "/ws", "").await;
    assert!(head.starts_with("http/1.1 4"), "{head}");
    relay.stop().await;
}

// REQ S5
#[tokio::test]
async fn pages_are_asked_for_so_often_and_health_always() {
    let relay = TestRelay::start_with(|config| config.limits.stranger_requests = Rate::new(3, 1, 60)).await;
    for _ in 0..3 {
        assert!(get_tls(&relay, "/join", "").await.0.starts_with("http/1.1 200"));
    }
    for path in ["/join", "/readyz", "/nothing"] {
        let (head, _) = get_tls(&relay, path, "").await;
        assert!(head.starts_with("http/1.1 429") && head.contains("retry-after: "), "{path}: {head}");
    }
    for _ in 0..10 {
        assert_eq!(get_tls(&relay, "/healthz", "").await.1, "ok\n");
    }
    relay.stop().await;
}

// REQ S5
#[tokio::test]
async fn a_web_socket_in_which_nothing_is_said_is_closed() {
    let relay = TestRelay::start().await;
    for empty in [Message::binary(Vec::new()), Message::Ping(Vec::new().into())] {
        let mut socket = web_socket(TcpStream::connect(relay.http).await.unwrap()).await;
        for _ in 0..200 {
            // It may have been closed by now.
            let _ = socket.send(empty.clone()).await;
        }
        let closed = async { while let Some(Ok(_)) = socket.next().await {} };
        tokio::time::timeout(std::time::Duration::from_secs(5), closed).await.expect("still open");
    }
    relay.stop().await;
}

// REQ T7
#[tokio::test]
async fn a_draining_relay_says_so_in_a_web_socket_and_closes_it() {
    let relay = TestRelay::start().await;
    let stream = TcpStream::connect(relay.http).await.unwrap();
    let mut wire = Wire::over(bytes(web_socket(stream).await, 100));
    wire.set_up(*relay.link.fingerprint(), None).await;
    relay.begin_to_stop();
    assert_eq!(wire.read().await, None);
    relay.stop().await;
}

// REQ T7
#[tokio::test]
async fn bytes_that_are_no_http_get_a_clear_answer() {
    let relay = TestRelay::start().await;
    for bytes in [b"\0\0\0\x05hello\r\n\r\n".as_slice(), b"GET / HTTP/9.9\r\n\r\n", &[b'a'; 40_000]] {
        let mut stream = TcpStream::connect(relay.http).await.unwrap();
        // The relay may have had enough before all of it has arrived.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    let greeting = |address: SocketAddr| async move {
        Wire::plain(address).await.read_json().await["header"]["status"].clone()
    };
    assert_eq!(greeting(relay.plain).await, "connecting");
    relay.stop().await;
}

// REQ D2
#[tokio::test]
async fn the_page_of_an_invitation_runs_nothing_foreign_and_tells_no_more_than_the_link() {
    let relay = TestRelay::start_with(|config| config.name = "<script>alert(1)</script>".to_owned()).await;
    let (head, english) = get_tls(&relay, "/join", "Accept-Language: fr, en;q=0.5\r\n").await;
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self';"), "{head}");
    assert!(
        head.contains("x-content-type-options: nosniff") && head.contains("referrer-policy: no-referrer")
    );
    assert!(english.contains("&lt;script&gt;alert(1)") && !english.contains("<script>alert"), "{english}");
    assert!(!english.contains(&relay.link.fingerprint().to_string()));
    let (_, korean) = get_tls(&relay, "/", "Accept-Language: ko-KR,en;q=0.5\r\n").await;
    assert!(english.contains("lang=\"en\"") && korean.contains("lang=\"ko\""));
    let (_, wished) = get_tls(&relay, "/join?lang=ko", "Accept-Language: en\r\n").await;
    assert_eq!(wished, korean);
    for (path, kind) in
        [("/join.js", "text/javascript"), ("/join.css", "text/css"), ("/mildam.svg", "image/svg+xml")]
    {
        let (head, body) = get_tls(&relay, path, "").await;
        assert!(head.contains(&format!("content-type: {kind}")) && !body.is_empty(), "{head}");
        assert!(korean.contains(path));
    }
    assert!(get_tls(&relay, "/server-key.der", "").await.0.starts_with("http/1.1 404"));
    relay.stop().await;
}

// REQ S2
#[tokio::test]
async fn it_says_whether_it_is_ready() {
    let relay = TestRelay::start().await;
    let stream = TcpStream::connect(relay.http).await.unwrap();
    let (head, body) = get(stream, "/readyz", "").await;
    assert!(head.starts_with("http/1.1 200") && body == "ready\n", "{head}");
    relay.stop().await;
}

/// A frame is judged by its header, wherever it is cut.
#[tokio::test]
async fn a_frame_that_is_too_long_is_refused_in_a_web_socket_too() {
    let relay = TestRelay::start().await;
    let stream = TcpStream::connect(relay.http).await.unwrap();
    let mut wire = Wire::over(bytes(web_socket(stream).await, 1));
    wire.read_json().await;
    wire.write_raw(&u32::MAX.to_be_bytes()).await;
    assert_eq!(wire.read_json().await["header"]["status"], "fail");
    assert!(frame::encode(&vec![0; frame::SESSION_LIMIT + 1]).is_err());
    relay.stop().await;
}
