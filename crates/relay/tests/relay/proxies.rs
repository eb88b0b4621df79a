//! What stands between: load balancers that say on whose behalf they connect.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Wire, tls_over};
use crate::relay::TestRelay;

async fn relay() -> TestRelay {
    TestRelay::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.proxy_protocol = true;
    })
    .await
}

// REQ T7
#[tokio::test]
async fn a_header_of_the_proxy_protocol_stands_before_everything_else() {
    let relay = relay().await;
    let header = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 7747\r\n";
    let mut stream = TcpStream::connect(relay.plain).await.unwrap();
    stream.write_all(header).await.unwrap();
    assert_eq!(Wire::over(stream).read_json().await["header"]["status"], "connecting");

    let mut stream = TcpStream::connect(relay.tls).await.unwrap();
    stream.write_all(header).await.unwrap();
    let (stream, ..) = tls_over(stream, &[b"mildam/1"]).await.unwrap();
    assert_eq!(Wire::over(stream).read_json().await["header"]["status"], "connecting");
    relay.stop().await;
}

// REQ T7
#[tokio::test]
async fn a_proxy_that_announces_nobody_is_not_served() {
    let relay = relay().await;
    let mut stream = TcpStream::connect(relay.plain).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    // Closed with bytes unread, which may show as a reset.
    let _ = stream.read_to_end(&mut said).await;
    assert!(said.is_empty(), "{said:?}");
    relay.stop().await;
}

// REQ T7
#[tokio::test]
async fn nobody_else_is_asked_for_a_header() {
    let relay = TestRelay::start_with(|config| {
        config.trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
        config.proxy_protocol = true;
    })
    .await;
    let mut wire = Wire::plain(relay.plain).await;
    assert_eq!(wire.read_json().await["header"]["status"], "connecting");
    relay.stop().await;
}

/// One connection an address, behind proxies.
async fn narrow(proxy_protocol: bool) -> TestRelay {
    TestRelay::start_with(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.proxy_protocol = proxy_protocol;
        config.limits.connections_an_address = 1;
    })
    .await
}

// REQ T7, S5
#[tokio::test]
async fn who_comes_by_a_proxy_is_counted_for_themselves() {
    let relay = narrow(true).await;
    let connect = async |source: &str| {
        let mut stream = TcpStream::connect(relay.plain).await.unwrap();
        let header = format!("PROXY TCP4 {source} 192.0.2.1 4711 7747\r\n");
        stream.write_all(header.as_bytes()).await.unwrap();
        Wire::over(stream)
    };
    let (mut one, mut other) = (connect("198.51.100.7").await, connect("198.51.100.8").await);
    for wire in [&mut one, &mut other] {
        assert_eq!(wire.read_json().await["header"]["status"], "connecting");
    }
    let refused = connect("198.51.100.7").await.read_json().await;
    assert_eq!(refused["header"]["status"], "fail");
    assert!(refused["header"]["retry_after"].as_u64().unwrap() > 0, "{refused}");
    relay.stop().await;
}

// REQ T7, S5
#[tokio::test]
async fn a_web_socket_by_a_proxy_is_counted_for_whom_it_was_forwarded() {
    let relay = narrow(false).await;
    let ask = async |forwarded: &str| {
        let mut stream = TcpStream::connect(relay.http).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             X-Forwarded-For: {forwarded}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(head).unwrap().to_ascii_lowercase())
    };
    let (_one, first) = ask("198.51.100.7").await;
    let (_other, second) = ask("198.51.100.7, 198.51.100.8").await;
    assert!(first.starts_with("http/1.1 101") && second.starts_with("http/1.1 101"), "{first}{second}");
    let (_, refused) = ask("203.0.113.1, 198.51.100.7").await;
    assert!(refused.starts_with("http/1.1 429") && refused.contains("retry-after: "), "{refused}");
    relay.stop().await;
}
