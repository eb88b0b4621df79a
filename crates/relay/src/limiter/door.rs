//! Who comes in: connections of each address, and those that are being set up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mildam_protocol::{frame, set_up};

use super::meter::Meter;
use super::rate::Stopwatch;
use crate::limits::Limits;

/// Whom an address stands for: one address of version 4, one network of 64 bits of version 6, since
/// whoever has one of its addresses has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let network = u128::from_be_bytes(address.octets()) >> 64;
                Self::V6(u64::try_from(network).unwrap_or_default().to_be_bytes())
            }
        }
    }
}

/// A network that an origin is part of. Whoever has a larger one has all addresses in it, so these are counted,
/// too, with shares that grow more slowly than they do: customers have a /64, a /56 or a /48 of version 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network {
    /// Its address, without what tells the addresses in it apart.
    prefix: [u8; 8],
    bytes: usize,
    version_4: bool,
}

/// How many levels of networks are counted.
const LEVELS: usize = 3;
/// How many shares of new connections a network of each level has: the more of both versions.
const LEVEL_SHARES: [u32; LEVELS] = [1, 8, 64];

impl Origin {
    /// The networks that it is part of, and how many shares of a single origin each has.
    fn networks(self) -> [(Network, u32); LEVELS] {
        let cut = |address: &[u8], bytes: usize, version_4| {
            let mut prefix = [0; 8];
            for (to, from) in prefix.iter_mut().zip(address.iter().take(bytes)) {
                *to = *from;
            }
            Network { prefix, bytes, version_4 }
        };
        match self {
            // Of version 4 people have single addresses; who has more has often a whole /24.
            Self::V4(address) => {
                [(cut(&address, 4, true), 1), (cut(&address, 3, true), 8), (cut(&address, 2, true), 64)]
            }
            Self::V6(address) => {
                [(cut(&address, 8, false), 1), (cut(&address, 7, false), 4), (cut(&address, 6, false), 16)]
            }
        }
    }
}

/// Of the set-ups that may be under way, one in so many is kept for those who had a session of late.
const KEPT: usize = 5;
/// How long that is remembered.
const LATE: Duration = Duration::from_secs(24 * 60 * 60);
/// Origins that are remembered so.
const MOST_KNOWN: usize = 100_000;

/// Seconds after which it is worth knocking again where nobody knows when somebody leaves.
const SOME_TIME: u32 = 30;
/// Seconds after which some set-ups that are under way have ended.
const SHORTLY: u32 = 5;

/// Why a connection is not served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct TurnedAway {
    reason: &'static str,
    /// In so many seconds it is worth trying again.
    retry_after: u32,
}

impl TurnedAway {
    /// There are as many connections as there may be.
    pub(crate) const fn full() -> Self {
        Self { reason: "there are too many connections: try again later", retry_after: SOME_TIME }
    }

    /// In so many seconds it is worth trying again.
    pub(crate) const fn retry_after(self) -> u32 {
        self.retry_after
    }

    /// What it is told where that can be read, as a whole frame: on a connection without TLS.
    pub(crate) fn last_words(self) -> Vec<u8> {
        frame::encode(&set_up::turned_away(self.reason, self.retry_after)).unwrap_or_default()
    }
}

/// Counts who is in.
#[derive(Debug)]
pub(crate) struct Door {
    /// For each level of networks.
    arrivals: [Meter<Network>; LEVELS],
    most: usize,
    most_set_ups: usize,
    most_set_ups_together: usize,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    networks: HashMap<Network, Count>,
    setting_up: usize,
    /// Those who had a session of late, and when.
    known: HashMap<Origin, Instant>,
}

#[derive(Debug, Default)]
struct Count {
    connections: usize,
    setting_up: usize,
}

impl Door {
    pub(super) fn new(limits: &Limits, stopwatch: &Stopwatch) -> Self {
        Self {
            arrivals: LEVEL_SHARES.map(|shares| Meter::new(limits.new_connections.times(shares), stopwatch)),
            most: limits.connections_an_address,
            most_set_ups: limits.set_ups_an_address,
            most_set_ups_together: limits.set_ups,
            present: Mutex::default(),
        }
    }

    /// Lets a connection in, or says why not.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionPermit, TurnedAway> {
        let origin = Origin::from(address);
        let mut present = self.present();
        let open = match present.known.contains_key(&origin) {
            true => self.most_set_ups_together,
            false => self.most_set_ups_together.saturating_sub(self.most_set_ups_together / KEPT),
        };
        if present.setting_up >= open {
            return Err(TurnedAway { reason: "too many are connecting: try again", retry_after: SHORTLY });
        }
        for (network, shares) in origin.networks() {
            let Some(count) = present.networks.get(&network) else { continue };
            let most = |most: usize| most.saturating_mul(usize::try_from(shares).unwrap_or(usize::MAX));
            if count.connections >= most(self.most) {
                let reason = "too many connections from your address: close others first";
                return Err(TurnedAway { reason, retry_after: SOME_TIME });
            }
            if count.setting_up >= most(self.most_set_ups) {
                let reason = "too many are connecting from your address: try again";
                return Err(TurnedAway { reason, retry_after: SHORTLY });
            }
        }
        for ((network, _), arrivals) in origin.networks().iter().zip(&self.arrivals) {
            arrivals.take(network).map_err(|wait| TurnedAway {
                reason: "too many new connections from your address: try again later",
                retry_after: wait.seconds(),
            })?;
        }
        for (network, _) in origin.networks() {
            let count = present.networks.entry(network).or_default();
            count.connections = count.connections.saturating_add(1);
            count.setting_up = count.setting_up.saturating_add(1);
        }
        present.setting_up = present.setting_up.saturating_add(1);
        Ok(ConnectionPermit { door: Arc::clone(self), origin, setting_up: true })
    }

    /// Somebody at this origin has a session.
    pub(super) fn knows(&self, origin: Origin) {
        let mut present = self.present();
        if present.known.len() < MOST_KNOWN || present.known.contains_key(&origin) {
            present.known.insert(origin, Instant::now());
        }
    }

    pub(super) fn sweep(&self) {
        self.arrivals.iter().for_each(Meter::sweep);
        let mut present = self.present();
        present.networks.shrink_to_fit();
        present.known.retain(|_, when| when.elapsed() < LATE);
        present.known.shrink_to_fit();
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.arrivals.iter().map(Meter::len).sum::<usize>() + self.present().networks.len()
    }

    /// Whether nobody is in.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let present = self.present();
        present.networks.is_empty() && present.setting_up == 0
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        // Nothing that happens under the lock can leave the counts half changed.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    door: Arc<Door>,
    origin: Origin,
    setting_up: bool,
}

impl ConnectionPermit {
    /// From where the connection comes.
    pub(crate) const fn origin(&self) -> Origin {
        self.origin
    }

    /// The connection is set up: its place among those that are not is free again.
    pub(crate) fn set_up_done(&mut self) {
        if std::mem::take(&mut self.setting_up) {
            let mut present = self.door.present();
            present.setting_up = present.setting_up.saturating_sub(1);
            for (network, _) in self.origin.networks() {
                if let Some(count) = present.networks.get_mut(&network) {
                    count.setting_up = count.setting_up.saturating_sub(1);
                }
            }
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.set_up_done();
        let mut present = self.door.present();
        for (network, _) in self.origin.networks() {
            if let Some(count) = present.networks.get_mut(&network) {
                count.connections = count.connections.saturating_sub(1);
                if count.connections == 0 {
                    present.networks.remove(&network);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::super::rate::Rate;
    use super::super::tests::stopwatch;
    use super::*;

    fn door(adjust: impl FnOnce(&mut Limits)) -> Arc<Door> {
        let mut limits = Limits::default();
        adjust(&mut limits);
        Arc::new(Door::new(&limits, &Stopwatch::new(|| Duration::ZERO)))
    }

    fn admit(door: &Arc<Door>, address: &str) -> Result<ConnectionPermit, TurnedAway> {
        door.admit(address.parse().unwrap())
    }

    // REQ S5
    #[test]
    fn an_address_is_one_of_version_4_or_a_network_of_version_6() {
        let origin = |address: &str| Origin::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(origin("192.0.2.1"), origin("::ffff:192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_ne!(origin("::ffff:192.0.2.1"), origin("::ffff:192.0.2.2"));
        assert_eq!(origin("2001:db8:0:1::1"), origin("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(origin("2001:db8:0:1::1"), origin("2001:db8:0:2::1"));
        assert_ne!(origin("::1"), origin("127.0.0.1"));
    }

    // REQ S5
    #[test]
    fn an_address_has_so_many_connections_and_others_have_theirs() {
        let door = door(|limits| limits.connections_an_address = 2);
        let (first, mut second) = (admit(&door, "192.0.2.1").unwrap(), admit(&door, "192.0.2.1").unwrap());
        second.set_up_done();
        assert_eq!(admit(&door, "192.0.2.1").unwrap_err().retry_after, SOME_TIME);
        let other = admit(&door, "192.0.2.2").unwrap();
        drop(first);
        let third = admit(&door, "192.0.2.1").unwrap();
        drop((second, third, other));
        assert!(door.present().networks.is_empty());
        assert_eq!(door.present().setting_up, 0);
    }

    // REQ S5
    #[test]
    fn set_ups_under_way_have_limits_of_their_own() {
        let door = door(|limits| (limits.set_ups_an_address, limits.set_ups) = (2, 3));
        let mut first = admit(&door, "192.0.2.1").unwrap();
        let second = admit(&door, "192.0.2.1").unwrap();
        assert_eq!(admit(&door, "192.0.2.1").unwrap_err().retry_after, SHORTLY);
        let _other = admit(&door, "192.0.2.2").unwrap();
        let full = admit(&door, "192.0.2.3").unwrap_err();
        assert_eq!(full.retry_after, SHORTLY);
        first.set_up_done();
        first.set_up_done();
        let _third = admit(&door, "192.0.2.1").unwrap();
        admit(&door, "192.0.2.3").unwrap_err();
        // One that ends before it is set up frees both places.
        drop(second);
        let _fourth = admit(&door, "192.0.2.1").unwrap();
    }

    // REQ S5
    #[test]
    fn larger_networks_have_shares_that_grow_more_slowly() {
        let door = door(|limits| limits.connections_an_address = 2);
        let count = |addresses: &mut dyn Iterator<Item = String>| {
            let held: Vec<_> = addresses.filter_map(|address| admit(&door, &address).ok()).collect();
            held.len()
        };
        assert_eq!(count(&mut (0..200).map(|n| format!("192.0.2.{n}"))), 16);
        assert_eq!(count(&mut (0..200).map(|n| format!("198.51.{n}.1"))), 128);
        // Everything that a customer with a /56, and one with a /48, can have.
        assert_eq!(count(&mut (0..200).map(|n| format!("2001:db8:0:{n:x}::1"))), 8);
        assert_eq!(count(&mut (0..200).map(|n| format!("2001:db8:0:{n:x}00::1"))), 32);
        // Others are not counted with them.
        assert_eq!(count(&mut (0..20).map(|n| format!("2001:db8:{n:x}::1"))), 20);
    }

    // REQ S5
    #[test]
    fn some_set_ups_are_kept_for_those_who_were_here_of_late() {
        let door = door(|limits| limits.set_ups = 10);
        door.knows("203.0.113.1".parse::<IpAddr>().unwrap().into());
        let strangers: Vec<_> = (0..20).map_while(|n| admit(&door, &format!("192.0.{n}.1")).ok()).collect();
        assert_eq!(strangers.len(), 8);
        let _one = admit(&door, "203.0.113.1").unwrap();
        let _two = admit(&door, "203.0.113.1").unwrap();
        admit(&door, "203.0.113.1").unwrap_err();
        drop(strangers);
        admit(&door, "192.0.2.1").unwrap();
    }

    // REQ S5
    #[test]
    fn connections_come_at_a_rate_and_are_told_when_to_come_again() {
        let (stopwatch, time) = stopwatch();
        let limits = Limits { new_connections: Rate::new(3, 1, 20), ..Limits::default() };
        let door = Arc::new(Door::new(&limits, &stopwatch));
        for _ in 0..3 {
            admit(&door, "192.0.2.1").unwrap();
        }
        let turned_away = admit(&door, "192.0.2.1").unwrap_err();
        assert_eq!(turned_away.retry_after, 20);
        let words: serde_json::Value = serde_json::from_slice(&turned_away.last_words()[4..]).unwrap();
        assert_eq!(words["header"]["status"], "fail");
        assert_eq!(words["header"]["retry_after"], 20);
        admit(&door, "192.0.2.2").unwrap();
        time.fetch_add(20_000, Ordering::SeqCst);
        admit(&door, "192.0.2.1").unwrap();
    }
}
