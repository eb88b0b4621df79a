//! TCP to the relay: over IPv6 or IPv4, whichever answers first (RFC 8305), or through the proxy
//! that the system names.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use mildam_protocol::ServerLink;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use crate::error::Error;

/// The other family of addresses is tried beside the first one after so long.
const OTHER_FAMILY_AFTER: Duration = Duration::from_millis(250);
/// All addresses of a family together may take so long.
const FAMILY_LIMIT: Duration = Duration::from_secs(8);
/// A proxy may take so long, so that within the time of a set-up it can still be named.
const PROXY_LIMIT: Duration = Duration::from_secs(5);
/// The port of a SOCKS proxy that names none.
const SOCKS_PORT: u16 = 1080;

/// Opens TCP to the relay of a link. Where a proxy stands in between, it looks the host's name up.
///
/// # Errors
/// `proxy_failed` if there is a proxy and it does not lead there, `offline`.
pub(crate) async fn dial(link: &ServerLink, proxies: &Matcher) -> Result<TcpStream, Error> {
    let relay = address(link)?;
    let tcp = match proxy(link, &relay, proxies) {
        Some(proxy) => through(&proxy, relay).await?,
        None => {
            let dialled = if is_localhost(link.host()) {
                connector(Known::loopback()).call(relay).await
            } else {
                connector(GaiResolver::new()).call(relay).await
            };
            dialled.map_err(|_| Error::offline())?.into_inner()
        }
    };
    Ok(tcp)
}

/// The relay's address, as what the proxies' rules are asked for.
fn address(link: &ServerLink) -> Result<Uri, Error> {
    let text = format!("https://{}/", link.address());
    text.parse().map_err(|_| Error::internal("the address of a link"))
}

/// The proxy that stands before a relay. Before this very machine there never is one.
fn proxy(link: &ServerLink, relay: &Uri, proxies: &Matcher) -> Option<Intercept> {
    let host = link.host();
    let is_local = is_localhost(host) || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_local { None } else { proxies.intercept(relay) }
}

/// Whether a name always means this very machine (RFC 6761).
fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// Knows every host at these addresses; the connector puts the port in.
#[derive(Clone)]
struct Known(Vec<SocketAddr>);

impl Known {
    /// This very machine, in both families, whatever the system's tables leave out.
    fn loopback() -> Self {
        let addresses = [IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(Ipv4Addr::LOCALHOST)];
        Self(addresses.map(|address| SocketAddr::new(address, 0)).to_vec())
    }
}

impl Service<Name> for Known {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

fn connector<R>(resolver: R) -> HttpConnector<R> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_happy_eyeballs_timeout(Some(OTHER_FAMILY_AFTER));
    connector.set_connect_timeout(Some(FAMILY_LIMIT));
    connector
}

async fn through(proxy: &Intercept, relay: Uri) -> Result<TcpStream, Error> {
    let name = proxy.uri().authority().map(ToString::to_string).unwrap_or_default();
    let tunnelled = timeout(PROXY_LIMIT, tunnel(proxy, relay)).await;
    let tunnelled = tunnelled.unwrap_or_else(|_| Err("it does not answer".into()));
    tunnelled.map_err(|reason| Error::proxy_failed(&name, &*reason))
}

async fn tunnel(
    proxy: &Intercept,
    relay: Uri,
) -> Result<TcpStream, Box<dyn std::error::Error + Send + Sync>> {
    let connector = connector(GaiResolver::new());
    match proxy.uri().scheme_str() {
        Some("http") => {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            Ok(tunnel.call(relay).await?.into_inner())
        }
        Some("socks5" | "socks5h") => {
            let address = with_port(proxy.uri(), SOCKS_PORT).ok_or("it has no address")?;
            let mut socks = SocksV5::new(address, connector);
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            Ok(socks.call(relay).await.map_err(|error| error.to_string())?.into_inner())
        }
        _ => Err("only HTTP and SOCKS5 proxies are supported".into()),
    }
}

/// The same address, with a port if it names none.
fn with_port(uri: &Uri, port: u16) -> Option<Uri> {
    if uri.port().is_some() {
        return Some(uri.clone());
    }
    let authority = format!("{}:{port}", uri.host()?);
    Uri::builder().scheme(uri.scheme_str()?).authority(authority).path_and_query("/").build().ok()
}

#[cfg(test)]
mod tests {
    use mildam_protocol::records::Hash;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A host that only a proxy can look up.
    const HOST: &str = "relay.invalid";

    fn link(host: &str, port: u16) -> ServerLink {
        ServerLink::new(host, port, Hash::ZERO).unwrap()
    }

    fn all_through(proxy: &str) -> Matcher {
        Matcher::builder().all(proxy).build()
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Reads up to and with the empty line.
    async fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn assert_open(mut near: TcpStream, mut far: TcpStream) {
        near.write_all(b"hello").await.unwrap();
        let mut come = [0; 5];
        far.read_exact(&mut come).await.unwrap();
        assert_eq!(&come, b"hello");
    }

    #[tokio::test]
    async fn an_http_proxy_is_given_the_name_and_what_it_asks_for() {
        let (listener, port) = listener().await;
        let proxies = all_through(&format!("http://user:secret@127.0.0.1:{port}"));
        let link = link(HOST, 7747);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            assert!(head.starts_with("CONNECT relay.invalid:7747 HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"), "{head}");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            stream
        };
        let (near, far) = tokio::join!(dial(&link, &proxies), serve);
        assert_open(near.unwrap(), far).await;
    }

    #[tokio::test]
    async fn a_socks_proxy_is_given_the_name_and_what_it_asks_for() {
        let (listener, port) = listener().await;
        let proxies = all_through(&format!("socks5h://user:secret@127.0.0.1:{port}"));
        let link = link(HOST, 7747);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let expect = async |stream: &mut TcpStream, expected: &[u8]| {
                let mut come = vec![0; expected.len()];
                stream.read_exact(&mut come).await.unwrap();
                assert_eq!(come, expected);
            };
            expect(&mut stream, &[5, 1, 2]).await;
            stream.write_all(&[5, 2]).await.unwrap();
            expect(&mut stream, b"\x01\x04user\x06secret").await;
            stream.write_all(&[1, 0]).await.unwrap();
            expect(&mut stream, b"\x05\x01\x00\x03\x0drelay.invalid\x1e\x43").await;
            stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            stream
        };
        let (near, far) = tokio::join!(dial(&link, &proxies), serve);
        assert_open(near.unwrap(), far).await;
    }

    #[tokio::test]
    async fn a_proxy_that_fails_is_named() {
        let (listener, port) = listener().await;
        let link = link(HOST, 7747);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
        };
        let address = format!("127.0.0.1:{port}");
        let proxies = all_through(&format!("http://{address}"));
        let (refused, ()) = tokio::join!(dial(&link, &proxies), serve);
        drop(listener);
        // Then there is no proxy any more, or one of a kind that is not known.
        for refused in [
            refused,
            dial(&link, &proxies).await,
            dial(&link, &all_through(&format!("socks5://{address}"))).await,
            dial(&link, &all_through(&format!("https://{address}"))).await,
        ] {
            let error = refused.unwrap_err();
            assert_eq!((error.code(), error.is_offline()), ("proxy_failed", true));
            assert_eq!(error.details()["proxy"], address);
            assert!(error.to_string().contains(&address), "{error}");
        }
    }

    // On a clock that moves when everybody waits, nothing is waited for.
    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_does_not_answer_is_named() {
        let (_listener, port) = listener().await;
        let proxies = all_through(&format!("http://127.0.0.1:{port}"));
        let error = dial(&link(HOST, 7747), &proxies).await.unwrap_err();
        assert_eq!(
            (error.code(), error.details()["proxy"].as_str()),
            ("proxy_failed", &*format!("127.0.0.1:{port}"))
        );
    }

    #[test]
    fn no_proxy_stands_before_this_machine_or_where_the_rules_name_none() {
        let proxies = Matcher::builder()
            .all("http://proxy.example.org:3128")
            .no("example.net, 10.0.0.0/8, 2001:db8::/32")
            .build();
        let is_used = |host| {
            let link = link(host, 7747);
            proxy(&link, &address(&link).unwrap(), &proxies).is_some()
        };
        for host in ["localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "::1"] {
            assert!(!is_used(host), "{host}");
        }
        for host in ["example.net", "relay.example.net", "10.1.2.3", "2001:db8::1"] {
            assert!(!is_used(host), "{host}");
        }
        for host in ["example.org", "notexample.net", "192.0.2.1", "2001:db9::1"] {
            assert!(is_used(host), "{host}");
        }
    }

    #[test]
    fn a_socks_proxy_without_a_port_has_its_usual_one() {
        let with = |uri: &str| with_port(&uri.parse().unwrap(), SOCKS_PORT).unwrap().to_string();
        assert_eq!(with("socks5://proxy"), "socks5://proxy:1080/");
        assert_eq!(with("socks5://[::1]"), "socks5://[::1]:1080/");
        assert_eq!(with("socks5://proxy:9050"), "socks5://proxy:9050/");
    }

    #[tokio::test]
    async fn localhost_is_this_machine_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).await.unwrap();
            let here = listener.local_addr().unwrap();
            for host in ["localhost", "relay.localhost."] {
                let stream =
                    dial(&link(host, here.port()), &all_through("http://192.0.2.1:9")).await.unwrap();
                assert_eq!(stream.peer_addr().unwrap(), here);
            }
        }
    }

    #[tokio::test]
    async fn a_host_is_reached_at_whichever_of_its_addresses_answers() {
        let (_listener, port) = listener().await;
        let here = SocketAddr::from(([127, 0, 0, 1], port));
        let dead = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
        let relay = address(&link(HOST, port)).unwrap();
        for known in [vec![dead, here], vec![here, dead]] {
            let stream = connector(Known(known)).call(relay.clone()).await.unwrap();
            assert_eq!(stream.inner().peer_addr().unwrap(), here);
        }
    }
}
