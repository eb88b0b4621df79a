//! The server link: where a relay is and which key it must prove.

use std::fmt;
use std::str::FromStr;

use mildam_records::id::Hash;

/// `mildam://host:port/#fingerprint`.
///
/// The fingerprint is SHA-256 over the SubjectPublicKeyInfo of the relay's server key, in
/// base64url (43 characters). It stands in the fragment, which no browser sends anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLink {
    host: String,
    port: u16,
    fingerprint: Hash,
}

/// Why a text is not a server link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It does not begin with `mildam://`.
    #[error("a server link begins with mildam://")]
    Scheme,
    /// Host or port are missing or not usable.
    #[error("the link needs a host and a port, as in mildam://host:port/#fingerprint")]
    Address,
    /// The fingerprint is missing or not 43 characters of base64url.
    #[error("the link has no usable fingerprint after the #; copy it whole")]
    Fingerprint,
}

impl ServerLink {
    /// A link from its parts. `host` is a name, an IPv4 address, or an IPv6 address without
    /// brackets.
    ///
    /// # Errors
    /// [`LinkError::Address`] for a host that cannot stand in a link.
    pub fn new(host: &str, port: u16, fingerprint: Hash) -> Result<Self, LinkError> {
        let named = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_'));
        let ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        if port == 0 || !(named || ipv6) {
            return Err(LinkError::Address);
        }
        Ok(Self { host: host.to_ascii_lowercase(), port, fingerprint })
    }

    /// Host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// SHA-256 over the server key's SubjectPublicKeyInfo.
    #[must_use]
    pub const fn fingerprint(&self) -> &Hash {
        &self.fingerprint
    }

    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for ServerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mildam://{}/#{}", self.address(), self.fingerprint)
    }
}

impl FromStr for ServerLink {
    type Err = LinkError;

    /// Reads a link. White space around it, as pasting brings along, is not an error.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(LinkError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("mildam") {
            return Err(LinkError::Scheme);
        }
        let (address, fingerprint) = rest.split_once('#').ok_or(LinkError::Fingerprint)?;
        let fingerprint = fingerprint.parse().map_err(|_| LinkError::Fingerprint)?;
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = address.rsplit_once(':').ok_or(LinkError::Address)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or(LinkError::Address)?,
            None if host.contains(':') => return Err(LinkError::Address),
            None => host,
        };
        let port = port.parse().map_err(|_| LinkError::Address)?;
        Self::new(host, port, fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_read_back_as_they_were_written() {
        for host in ["relay.example.org", "127.0.0.1", "::1", "fe80::1"] {
            let link = ServerLink::new(host, 7747, Hash::from_bytes([9; 32])).unwrap();
            assert_eq!(link.to_string().parse(), Ok(link.clone()));
            assert_eq!(format!("  {link}\n").parse(), Ok(link));
        }
    }

    #[test]
    fn what_is_not_a_link_is_told_apart() {
        let fingerprint = Hash::from_bytes([9; 32]).to_string();
        let read = |text: &str| text.parse::<ServerLink>();
        assert_eq!(read("relay.example.org"), Err(LinkError::Scheme));
        assert_eq!(read("https://a:1/#x"), Err(LinkError::Scheme));
        assert_eq!(read("mildam://a:1"), Err(LinkError::Fingerprint));
        assert_eq!(read("mildam://a:1/#abc"), Err(LinkError::Fingerprint));
        for address in ["", "a", "a:", "a:0", "a:70000", "a/b:1", "::1:5", "[::1:5", "밀담:1", ":5"] {
            let text = format!("mildam://{address}/#{fingerprint}");
            assert_eq!(read(&text), Err(LinkError::Address), "{text}");
        }
    }
}
