//! Who comes in: connections of each address, and those that are being set up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    arrivals: Meter<Origin>,
    most: usize,
    most_set_ups: usize,
    most_set_ups_together: usize,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    origins: HashMap<Origin, Count>,
    setting_up: usize,
}

#[derive(Debug, Default)]
struct Count {
    connections: usize,
    setting_up: usize,
}

impl Door {
    pub(super) fn new(limits: &Limits, stopwatch: &Stopwatch) -> Self {
        Self {
            arrivals: Meter::new(limits.new_connections, stopwatch),
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
        if present.setting_up >= self.most_set_ups_together {
            return Err(TurnedAway { reason: "too many are connecting: try again", retry_after: SHORTLY });
        }
        let (connections, setting_up) =
            present.origins.get(&origin).map_or((0, 0), |count| (count.connections, count.setting_up));
        if connections >= self.most {
            let reason = "too many connections from your address: close others first";
            return Err(TurnedAway { reason, retry_after: SOME_TIME });
        }
        if setting_up >= self.most_set_ups {
            let reason = "too many are connecting from your address: try again";
            return Err(TurnedAway { reason, retry_after: SHORTLY });
        }
        self.arrivals.take(&origin).map_err(|wait| TurnedAway {
            reason: "too many new connections from your address: try again later",
            retry_after: wait.seconds(),
        })?;
        let count = present.origins.entry(origin).or_default();
        count.connections = count.connections.saturating_add(1);
        count.setting_up = count.setting_up.saturating_add(1);
        present.setting_up = present.setting_up.saturating_add(1);
        Ok(ConnectionPermit { door: Arc::clone(self), origin, setting_up: true })
    }

    pub(super) fn sweep(&self) {
        self.arrivals.sweep();
        self.present().origins.shrink_to_fit();
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.arrivals.len() + self.present().origins.len()
    }

    /// Whether nobody is in.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let present = self.present();
        present.origins.is_empty() && present.setting_up == 0
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
            if let Some(count) = present.origins.get_mut(&self.origin) {
                count.setting_up = count.setting_up.saturating_sub(1);
            }
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.set_up_done();
        let mut present = self.door.present();
        if let Some(count) = present.origins.get_mut(&self.origin) {
            count.connections = count.connections.saturating_sub(1);
            if count.connections == 0 {
                present.origins.remove(&self.origin);
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
        assert!(door.present().origins.is_empty());
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
