//! The ways to a relay, and which of them is tried first.

use std::time::Duration;

use mildam_protocol::{ServerLink, carrier};
use tokio::time::Instant;

use crate::model::TransportView;
use crate::web_socket;

/// A WebSocket is tried first for so long after the other way was found closed.
const SOCKET_AGAIN: Duration = Duration::from_secs(15 * 60);

/// How the bytes are carried. Both stand in TLS, at the same host and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As they are.
    Socket,
    /// In the messages of a WebSocket, for networks that let nothing else through.
    WebSocket,
}

impl Way {
    /// What TLS says to speak.
    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Socket => carrier::ALPN,
            Self::WebSocket => web_socket::ALPN,
        }
    }

    pub(crate) const fn view(self) -> TransportView {
        match self {
            Self::Socket => TransportView::Tls,
            Self::WebSocket => TransportView::Wss,
        }
    }
}

/// Remembers that only the WebSocket got through.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    web_socket_since: Option<(ServerLink, Instant)>,
}

impl Ways {
    /// Both ways to the relay of a link, the one to try first in front.
    pub(crate) fn order(&self, link: &ServerLink, now: Instant) -> [Way; 2] {
        if self.remembers(link, now) { [Way::WebSocket, Way::Socket] } else { [Way::Socket, Way::WebSocket] }
    }

    fn remembers(&self, link: &ServerLink, now: Instant) -> bool {
        let remembered = self.web_socket_since.as_ref();
        remembered.is_some_and(|(known, since)| known == link && now < *since + SOCKET_AGAIN)
    }

    /// That way has led to the relay.
    pub(crate) fn worked(&mut self, link: &ServerLink, way: Way, now: Instant) {
        match way {
            Way::Socket => self.web_socket_since = None,
            // As long as the socket is not tried, nothing new is known about it.
            Way::WebSocket if self.remembers(link, now) => {}
            Way::WebSocket => self.web_socket_since = Some((link.clone(), now)),
        }
    }

    /// This is another network, which may let through what the last one did not.
    pub(crate) fn forget(&mut self) {
        self.web_socket_since = None;
    }
}

#[cfg(test)]
mod tests {
    use mildam_protocol::records::Hash;

    use super::*;

    #[test]
    fn the_web_socket_comes_first_where_it_alone_got_through_until_the_socket_is_due_again() {
        let link = |host| ServerLink::new(host, 7747, Hash::ZERO).unwrap();
        let (here, there) = (link("here"), link("there"));
        let socket_first = [Way::Socket, Way::WebSocket];
        let (mut ways, begun) = (Ways::default(), Instant::now());
        assert_eq!(ways.order(&here, begun), socket_first);
        ways.worked(&here, Way::WebSocket, begun);
        assert_eq!(ways.order(&here, begun), [Way::WebSocket, Way::Socket]);
        assert_eq!(ways.order(&there, begun), socket_first);

        // Connecting that way again in the meantime does not put the socket off.
        ways.worked(&here, Way::WebSocket, begun + SOCKET_AGAIN / 2);
        let later = begun + SOCKET_AGAIN;
        assert_eq!(ways.order(&here, later), socket_first);
        ways.worked(&here, Way::WebSocket, later);
        assert_eq!(ways.order(&here, later), [Way::WebSocket, Way::Socket]);

        ways.worked(&here, Way::Socket, later);
        assert_eq!(ways.order(&here, later), socket_first);
        ways.worked(&here, Way::WebSocket, later);
        ways.forget();
        assert_eq!(ways.order(&here, later), socket_first);
    }
}
