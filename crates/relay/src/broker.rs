//! Who is told what.
//!
//! The database is the truth; news only spare clients the asking. A connection that cannot keep up
//! is told to catch up, and losing news costs time, never messages.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mildam_protocol::Event;
use mildam_protocol::records::id::{AccountId, DeviceId};

use tokio_util::sync::CancellationToken;

use crate::outbox::Outbox;

/// Which devices of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devices {
    /// All of them.
    All,
    /// This one.
    Only(DeviceId),
    /// All others.
    Except(Vec<DeviceId>),
}

impl Devices {
    fn include(&self, device: &DeviceId) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only == device,
            Self::Except(others) => !others.contains(device),
        }
    }
}

/// Where news go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The account.
    pub account: AccountId,
    /// Which of its devices.
    pub devices: Devices,
}

impl Address {
    /// All devices of an account.
    #[must_use]
    pub const fn all(account: AccountId) -> Self {
        Self { account, devices: Devices::All }
    }
}

/// An event as JSON, serialised once for all who get it.
#[derive(Clone, Debug)]
pub struct EventText {
    /// `{event, data}`.
    shared: Arc<str>,
    /// The wrap that one device gets with an epoch, which all others get with another one.
    wrap: Option<Arc<str>>,
}

/// What closes the event of an epoch: the item, what kind of item it is, the data, and the event.
const EPOCH_END: &str = "}}}}";

impl EventText {
    /// An event that is the same for everybody.
    #[must_use]
    pub const fn new(text: Arc<str>) -> Self {
        Self { shared: text, wrap: None }
    }

    /// The event of an epoch, with the wrap for one device.
    #[must_use]
    pub fn with_wrap(&self, wrap: Arc<str>) -> Self {
        Self { shared: Arc::clone(&self.shared), wrap: Some(wrap) }
    }

    /// Its length in bytes, or a little less.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.len().saturating_add(self.wrap.as_ref().map_or(0, |wrap| wrap.len()))
    }

    /// The bytes that are kept for this one, if all that share the text bear it together.
    #[must_use]
    pub fn share(&self) -> usize {
        let shared = self.shared.len() / Arc::strong_count(&self.shared).max(1);
        shared.saturating_add(self.wrap.as_ref().map_or(0, |wrap| wrap.len()))
    }

    /// The text.
    #[must_use]
    pub fn json(&self) -> Cow<'_, str> {
        match (&self.wrap, self.shared.strip_suffix(EPOCH_END)) {
            (Some(wrap), Some(begin)) => Cow::Owned([begin, ",\"wrap\":", wrap, EPOCH_END].concat()),
            _ => Cow::Borrowed(&self.shared),
        }
    }
}

/// An event for some devices.
#[derive(Clone, Debug)]
pub struct News {
    /// Who gets it.
    pub to: Vec<Address>,
    /// What they are told.
    pub event: EventText,
    /// Whether it is the last that these devices get: their session has ended.
    pub last: bool,
}

impl News {
    /// News of an event. `None` if the event cannot be written as JSON, which no event of ours is.
    #[must_use]
    pub fn new(to: Vec<Address>, event: &Event) -> Option<Self> {
        let event = EventText::new(serde_json::to_string(event).ok()?.into());
        Some(Self { to, event, last: false })
    }
}

/// Carries news to the nodes where the addressed devices are connected.
///
/// News that are published one after the other arrive one after the other.
pub trait Broker: Send + Sync {
    /// Tells them. Must not block.
    fn publish(&self, news: News);
}

/// The connections of this node, and at the same time the broker of a relay that is one node.
#[derive(Debug, Default)]
pub struct Switchboard {
    lines: Mutex<HashMap<AccountId, Vec<Line>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Line {
    number: u64,
    device: DeviceId,
    outbox: Arc<Outbox>,
    ended: CancellationToken,
}

impl Switchboard {
    /// Connects a device: from here on its news go into `outbox`, until the [`Subscription`] is
    /// dropped. Tells also whether no other device of the account was connected.
    #[must_use]
    pub fn subscribe(
        self: &Arc<Self>,
        account: AccountId,
        device: DeviceId,
        outbox: Arc<Outbox>,
    ) -> (Subscription, bool) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let ended = CancellationToken::new();
        let line = Line { number, device, outbox, ended: ended.clone() };
        let mut accounts = self.lines();
        let lines = accounts.entry(account.clone()).or_default();
        let first = lines.is_empty();
        lines.push(line);
        drop(accounts);
        (Subscription { switchboard: Arc::clone(self), account, number, ended }, first)
    }

    /// Whether any device of an account is connected.
    #[must_use]
    pub fn is_online(&self, account: &AccountId) -> bool {
        self.lines().get(account).is_some_and(|lines| !lines.is_empty())
    }

    /// Whether a device is connected.
    #[must_use]
    pub fn is_connected(&self, account: &AccountId, device: &DeviceId) -> bool {
        self.lines().get(account).is_some_and(|lines| lines.iter().any(|line| line.device == *device))
    }

    /// Tells the watchers whether an account is online. Nobody comes or goes between finding out and
    /// telling, so the last word that they hear is the true one.
    pub fn publish_presence(&self, account: &AccountId, watchers: &[AccountId]) {
        let accounts = self.lines();
        let online = accounts.get(account).is_some_and(|lines| !lines.is_empty());
        let event = EventText::new(Event::Presence { account: account.clone(), online }.to_json().into());
        for line in watchers.iter().filter_map(|watcher| accounts.get(watcher)).flatten() {
            line.outbox.push(event.clone());
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<AccountId, Vec<Line>>> {
        // Nothing that happens under the lock can leave the map half changed.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for Switchboard {
    fn publish(&self, news: News) {
        let mut accounts = self.lines();
        for address in &news.to {
            let Some(lines) = accounts.get_mut(&address.account) else {
                continue;
            };
            for line in lines.iter() {
                if address.devices.include(&line.device) {
                    line.outbox.push(news.event.clone());
                }
            }
            if news.last {
                for line in lines.extract_if(.., |line| address.devices.include(&line.device)) {
                    line.ended.cancel();
                }
            }
        }
    }
}

/// A device's connection to the news. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    switchboard: Arc<Switchboard>,
    account: AccountId,
    number: u64,
    ended: CancellationToken,
}

impl Subscription {
    /// Waits until the last news have gone out that this device gets.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends it; true if no device of the account is connected any more.
    #[must_use]
    pub fn end(self) -> bool {
        self.leave()
    }

    fn leave(&self) -> bool {
        let mut accounts = self.switchboard.lines();
        let Some(lines) = accounts.get_mut(&self.account) else { return true };
        lines.retain(|line| line.number != self.number);
        let last = lines.is_empty();
        if last {
            accounts.remove(&self.account);
        }
        last
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use mildam_protocol::records::bytes::Bytes;
    use mildam_protocol::records::keys::Signature;
    use mildam_protocol::records::{Hash, LogItem, RoomId, SealedProfile, Wrap};

    use super::*;
    use crate::outbox::Outgoing;

    fn queued(outbox: &Outbox) -> usize {
        std::iter::from_fn(|| outbox.take()).filter(|item| matches!(item, Outgoing::Push { .. })).count()
    }

    // REQ C4
    #[test]
    fn the_news_of_an_epoch_bear_the_wrap_of_each_device() {
        let announcement = serde_json::json!({
            "room": RoomId::from_bytes([1; 32]), "epoch": 1, "previous": null, "announcer": "alice",
            "announcer_device": DeviceId::from_bytes([1; 16]), "version": 1, "head": Hash::ZERO,
            "seen_seq": 0, "seen_hash": Hash::ZERO, "recipients": [], "profile": null,
            "commitment": Hash::ZERO, "signature": Signature::from_bytes([0; 64]),
        });
        let wrap = Wrap {
            account: "alice".parse().unwrap(),
            device: DeviceId::from_bytes([1; 16]),
            prekey: Hash::ZERO,
            rsa: Bytes(vec![1]),
            kem: Bytes(vec![2]),
            key: Bytes(vec![3]),
        };
        let event = |wrap: Option<Wrap>| Event::Log {
            room: RoomId::from_bytes([1; 32]),
            item: Box::new(LogItem::Epoch {
                after: 1,
                stored_at: 2,
                announcement: serde_json::from_value(announcement.clone()).unwrap(),
                wrap: wrap.map(Box::new),
                profile: Some(SealedProfile(Bytes(vec![4]))),
            }),
        };
        let shared = EventText::new(event(None).to_json().into());
        let told = shared.with_wrap(serde_json::to_string(&wrap).unwrap().into());
        assert_eq!(serde_json::from_str::<Event>(&shared.json()).unwrap(), event(None));
        assert_eq!(serde_json::from_str::<Event>(&told.json()).unwrap(), event(Some(wrap)));
        assert!(told.bytes() <= told.json().len() && told.share() < told.bytes());
    }

    // REQ T9
    #[test]
    fn news_reach_the_addressed_devices_and_no_others() {
        let board = Arc::new(Switchboard::default());
        let alice: AccountId = "alice".parse().unwrap();
        let bob: AccountId = "bob".parse().unwrap();
        let [one, two] = [1, 2].map(|n| DeviceId::from_bytes([n; 16]));
        let boxes: Vec<_> = (0..4).map(|_| Arc::new(Outbox::new(8, Arc::default()))).collect();
        let lines = [
            board.subscribe(alice.clone(), one, boxes[0].clone()),
            board.subscribe(alice.clone(), one, boxes[1].clone()),
            board.subscribe(alice.clone(), two, boxes[2].clone()),
            board.subscribe(bob.clone(), one, boxes[3].clone()),
        ];
        assert_eq!(lines.each_ref().map(|(_, first)| *first), [true, false, false, true]);
        let reached = |devices| {
            let to = vec![Address { account: alice.clone(), devices }];
            board.publish(News::new(to, &Event::CatchUp {}).unwrap());
            boxes.iter().map(|outbox| queued(outbox)).collect::<Vec<_>>()
        };
        assert_eq!(reached(Devices::All), [1, 1, 1, 0]);
        assert_eq!(reached(Devices::Only(two)), [0, 0, 1, 0]);
        assert_eq!(reached(Devices::Except(vec![two])), [1, 1, 0, 0]);
    }

    #[test]
    fn the_last_news_end_the_line_and_so_does_dropping_it() {
        let board = Arc::new(Switchboard::default());
        let alice: AccountId = "alice".parse().unwrap();
        let [one, two] = [1, 2].map(|n| DeviceId::from_bytes([n; 16]));
        let boxes: Vec<_> = (0..2).map(|_| Arc::new(Outbox::new(8, Arc::default()))).collect();
        let _ended = board.subscribe(alice.clone(), one, boxes[0].clone());
        let (dropped, _) = board.subscribe(alice.clone(), two, boxes[1].clone());
        let all = || News::new(vec![Address::all(alice.clone())], &Event::CatchUp {}).unwrap();
        board.publish(News {
            to: vec![Address { account: alice.clone(), devices: Devices::Only(one) }],
            last: true,
            ..all()
        });
        board.publish(all());
        assert_eq!((queued(&boxes[0]), queued(&boxes[1])), (1, 1));
        drop(dropped);
        board.publish(all());
        assert_eq!((queued(&boxes[0]), queued(&boxes[1])), (0, 0));
    }
}
