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
