//! Watching the way out of this machine: whether the system has a route to the relay, and from
//! which of its addresses. Asking for it sends nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use mildam_protocol::ServerLink;
use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked while there is no connection: its return is noticed within this time.
const LOOK_DISCONNECTED: Duration = Duration::from_millis(500);
/// How often it is looked while there is one.
const LOOK_CONNECTED: Duration = Duration::from_secs(2);
/// Where it is looked as long as no address of the relay is known: addresses that are reserved for
/// documentation, to which the way is the one to everywhere.
const ANYWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// Whether there is a connection whose route is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    Connected,
    Disconnected,
}

/// The address from which this machine goes out; none without a route.
type Source = Option<IpAddr>;

/// Whether a change of the route is a reason to act: to try again, or to ask whether the relay is
/// still there.
fn matters(before: Source, now: Source, watched: Watched) -> bool {
    match watched {
        Watched::Disconnected => now.is_some() && now != before,
        Watched::Connected => before.is_some() && now != before,
    }
}

/// The address from which this machine would go out to one of these.
fn source(targets: &[SocketAddr]) -> Source {
    targets.iter().find_map(|target| {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

/// Watches the route to one relay.
pub(crate) struct RouteWatch<L = fn(&[SocketAddr]) -> Source> {
    targets: Vec<SocketAddr>,
    look: L,
    last: Source,
}

impl RouteWatch {
    pub(crate) fn new() -> Self {
        Self::looking(source)
    }
}

impl<L: Fn(&[SocketAddr]) -> Source> RouteWatch<L> {
    fn looking(look: L) -> Self {
        let targets = ANYWHERE.to_vec();
        let last = look(&targets);
        Self { targets, look, last }
    }

    /// Watches the route to the relay of a link from now on, to the address at which it, or the proxy
    /// before it, was reached last.
    pub(crate) fn aim(&mut self, link: &ServerLink, reached: Option<SocketAddr>) {
        let literal = link.host().parse().ok().map(|host| SocketAddr::new(host, link.port()));
        let targets = reached.or(literal).map_or_else(|| ANYWHERE.to_vec(), |target| vec![target]);
        if targets != self.targets {
            self.targets = targets;
            self.last = (self.look)(&self.targets);
        }
    }

    /// Returns once the route has changed in a way that matters. Nothing is lost if this is dropped
    /// before.
    pub(crate) async fn changed(&mut self, watched: Watched) {
        let mut looks = interval(match watched {
            Watched::Connected => LOOK_CONNECTED,
            Watched::Disconnected => LOOK_DISCONNECTED,
        });
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let before = self.last;
            self.last = (self.look)(&self.targets);
            if matters(before, self.last, watched) {
                tracing::info!(?watched, "the route to the relay has changed");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use mildam_protocol::records::Hash;
    use tokio::time::{Instant, sleep};

    use super::*;

    const HOME: Source = Some(IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2)));
    const OFFICE: Source = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));

    #[test]
    fn a_route_that_appears_or_moves_is_a_reason_to_try_and_one_that_goes_or_moves_to_doubt() {
        for (before, now, tries, doubts) in [
            (None, None, false, false),
            (None, HOME, true, false),
            (HOME, HOME, false, false),
            (HOME, OFFICE, true, true),
            (HOME, None, false, true),
        ] {
            let case = format!("{before:?} to {now:?}");
            assert_eq!(matters(before, now, Watched::Disconnected), tries, "{case}");
            assert_eq!(matters(before, now, Watched::Connected), doubts, "{case}");
        }
    }

    /// How long it takes to notice what happens after 10.3 seconds.
    async fn noticed_after(watched: Watched, before: Source, after: Source) -> Duration {
        let source = Cell::new(before);
        let mut watch = RouteWatch::looking(|_| source.get());
        let change = async {
            sleep(Duration::from_millis(10_300)).await;
            source.set(after);
            Instant::now()
        };
        let noticed = async {
            watch.changed(watched).await;
            Instant::now()
        };
        let (changed, noticed) = tokio::join!(change, noticed);
        noticed - changed
    }

    // On a clock that moves only when everybody waits, these times are exact.
    #[tokio::test(start_paused = true)]
    async fn the_return_of_the_network_is_noticed_within_half_a_second() {
        let returned = noticed_after(Watched::Disconnected, None, HOME).await;
        assert_eq!(returned, Duration::from_millis(200));
        assert!(noticed_after(Watched::Disconnected, HOME, OFFICE).await <= LOOK_DISCONNECTED);
        assert!(noticed_after(Watched::Connected, HOME, None).await <= LOOK_CONNECTED);
        assert!(noticed_after(Watched::Connected, HOME, OFFICE).await <= LOOK_CONNECTED);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_nobody_waits_is_noticed_by_the_next_who_does() {
        let source = Cell::new(None);
        let mut watch = RouteWatch::looking(|_| source.get());
        source.set(HOME);
        let begun = Instant::now();
        watch.changed(Watched::Disconnected).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[test]
    fn the_route_that_counts_is_the_one_to_where_the_relay_was_reached() {
        let near = SocketAddr::from(([127, 0, 0, 1], 7747));
        let named = ServerLink::new("relay.example.org", 7747, Hash::ZERO).unwrap();
        let literal = ServerLink::new("127.0.0.1", 7747, Hash::ZERO).unwrap();
        let mut watch = RouteWatch::looking(|targets| targets.first().map(SocketAddr::ip));
        for (link, reached, target) in
            [(&named, Some(near), near), (&literal, None, near), (&named, None, ANYWHERE[0])]
        {
            watch.aim(link, reached);
            // What is true of the new target from the start is no change.
            assert_eq!((watch.targets[0], watch.last), (target, Some(target.ip())));
        }
        assert_eq!(source(&[near]), Some(near.ip()));
    }
}
