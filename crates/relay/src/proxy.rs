//! Who is really at the other end, when a proxy or load balancer of the operator's stands between.

use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;
use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line of the PROXY protocol's version 1, in bytes.
const LONGEST_LINE: usize = 107;
/// What stands at the beginning of its version 2, the length of the rest last.
const FIXED: usize = 16;
/// The longest rest that is read: an address pair and what load balancers add.
const LONGEST: usize = 1024;
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies whose word is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    networks: Vec<IpNet>,
    speak_proxy_protocol: bool,
}

impl Proxies {
    pub(crate) const fn new(networks: Vec<IpNet>, speak_proxy_protocol: bool) -> Self {
        Self { networks, speak_proxy_protocol }
    }

    /// Whether a connection from there is a proxy's of the operator.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether a connection from there begins with a header of the PROXY protocol.
    pub(crate) fn announces(&self, peer: IpAddr) -> bool {
        self.speak_proxy_protocol && self.trust(peer)
    }

    /// Whose request this is. Each proxy adds at the end from whom it came, so the list is read from its
    /// end for as long as it was written by those who are trusted.
    pub(crate) fn requester(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut written = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        let mut address = peer;
        while self.trust(address) {
            match written.next().and_then(read_address) {
                Some(before) => address = before,
                None => break,
            }
        }
        address
    }
}

/// An address as it stands in `X-Forwarded-For`, where some write a port behind it.
fn read_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    text.parse().or_else(|_| with_port()).ok().map(|ip| ip.to_canonical())
}

/// Reads the header of the PROXY protocol, version 1 or 2, and no byte more: what comes behind it belongs
/// to TLS. `None` if the proxy speaks for itself, as in a health check.
pub(crate) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut header = vec![stream.read_u8().await?];
    if header.first() == v2::PROTOCOL_PREFIX.first() {
        let mut fixed = [0; FIXED - 1];
        stream.read_exact(&mut fixed).await?;
        header.extend(fixed);
        let [.., high, low] = fixed;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([high, low])).min(LONGEST)];
        stream.read_exact(&mut rest).await?;
        header.extend(rest);
    } else {
        while !header.ends_with(b"\r\n") && header.len() < LONGEST_LINE {
            header.push(stream.read_u8().await?);
        }
    }
    match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(pair) => Some(pair.source_address.into()),
            v1::Addresses::Tcp6(pair) => Some(IpAddr::from(pair.source_address).to_canonical()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(pair) => Some(pair.source_address.into()),
            v2::Addresses::IPv6(pair) => Some(IpAddr::from(pair.source_address).to_canonical()),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol"))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn proxies() -> Proxies {
        Proxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()], true)
    }

    fn requester(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        proxies().requester(peer.parse().unwrap(), &headers).to_string()
    }

    // REQ T7
    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        // From somebody else it is no more than a claim.
        assert_eq!(requester("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(requester("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        // What stands in front of it came from the requester.
        assert_eq!(requester("10.0.0.1", &["203.0.113.9, 198.51.100.7"]), "198.51.100.7");
        // A chain of trusted ones, in one line or in several.
        assert_eq!(requester("10.0.0.1", &["198.51.100.7, 10.0.0.2, fd00::3"]), "198.51.100.7");
        assert_eq!(requester("10.0.0.1", &["203.0.113.9", "198.51.100.7,10.0.0.2"]), "198.51.100.7");
        assert_eq!(requester("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(requester("10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(requester("10.0.0.1", &["::ffff:198.51.100.7"]), "198.51.100.7");
        // Nobody, or nothing that can be read: it is the proxy's own.
        assert_eq!(requester("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(requester("10.0.0.1", &["unknown"]), "10.0.0.1");
        assert_eq!(requester("10.0.0.1", &["198.51.100.7, unknown"]), "10.0.0.1");
    }

    async fn read(bytes: &[u8]) -> (io::Result<Option<IpAddr>>, usize) {
        let mut rest = bytes;
        let outcome = read_header(&mut rest).await;
        (outcome, rest.len())
    }

    // REQ T7
    #[tokio::test]
    async fn a_header_is_read_to_its_end_and_not_further() {
        let one = b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\nrest";
        let (outcome, left) = read(one).await;
        assert_eq!((outcome.unwrap(), left), (Some("198.51.100.7".parse().unwrap()), 4));

        let pair = ("[2001:db8::1]:1".parse::<SocketAddr>().unwrap(), "[::1]:2".parse().unwrap());
        let command = v2::Version::Two | v2::Command::Proxy;
        let header = v2::Builder::with_addresses(command, v2::Protocol::Stream, pair);
        let mut two = header.write_tlv(v2::Type::NoOp, b"more").unwrap().build().unwrap();
        two.extend(b"rest");
        let (outcome, left) = read(&two).await;
        assert_eq!((outcome.unwrap(), left), (Some("2001:db8::1".parse().unwrap()), 4));

        let local = v2::Builder::new(v2::Version::Two | v2::Command::Local, 0);
        assert_eq!(read(&local.build().unwrap()).await.0.unwrap(), None);
        assert_eq!(read(b"PROXY UNKNOWN\r\n").await.0.unwrap(), None);
        for end in 0..one.len() - 4 {
            assert!(read(&one[..end]).await.0.is_err(), "cut at {end}");
        }
        assert!(read(b"GET / HTTP/1.1\r\n\r\n").await.0.is_err());
        assert!(read(&[b'a'; 4096]).await.0.is_err());
        assert!(read(b"PROXY TCP4 1.2.3.4 nobody 1 2\r\n").await.0.is_err());
    }
}
