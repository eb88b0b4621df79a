//! What is in hand: requests that are not answered yet, and what is kept of long ones meanwhile.
//!
//! An account has a share and so has an address, for all that comes from it. Who has used up a share waits,
//! and nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Payer;

/// Requests of an account that may be in hand; a long answer counts for several.
const ACCOUNT_REQUESTS: usize = 256;
/// Requests from an address.
const ADDRESS_REQUESTS: usize = 1_024;
/// KiB of long requests of an account, or from an address: one of the longest, and a half.
const LONG: usize = 12 * 1024;
/// KiB of long requests of all.
const ALL_LONG: usize = 128 * 1024;
/// Bytes of a request that is not long. So much each connection may hold.
pub(crate) const SHORT: usize = 16 * 1024;

/// Everybody's shares, as long as they are in use.
#[derive(Debug)]
pub(super) struct Shares {
    shares: Mutex<HashMap<Payer, Arc<Share>>>,
    long: Arc<Semaphore>,
}

/// What somebody may have in hand.
#[derive(Debug)]
struct Share {
    requests: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self { shares: Mutex::default(), long: Arc::new(Semaphore::new(ALL_LONG)) }
    }

    /// The shares that those who pay use together.
    pub(super) fn of(&self, payers: impl IntoIterator<Item = Payer>) -> Portion {
        let mut shares = self.shares();
        let shares =
            payers.into_iter().map(|payer| Arc::clone(shares.entry(payer).or_insert_with_key(Share::new)));
        Portion { shares: shares.collect(), long: Arc::clone(&self.long) }
    }

    /// Forgets those that nobody uses.
    pub(super) fn sweep(&self) {
        let mut shares = self.shares();
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        shares.shrink_to_fit();
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<Payer, Arc<Share>>> {
        // Nothing that happens under the lock can leave the map half changed.
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shares().len()
    }
}

impl Share {
    fn new(payer: &Payer) -> Arc<Self> {
        let requests = match payer {
            Payer::Address(_) => ADDRESS_REQUESTS,
            Payer::Account(_) => ACCOUNT_REQUESTS,
        };
        Arc::new(Self { requests: Arc::new(Semaphore::new(requests)), long: Arc::new(Semaphore::new(LONG)) })
    }
}

/// The shares of which one connection takes.
#[derive(Clone, Debug)]
pub(crate) struct Portion {
    shares: Vec<Arc<Share>>,
    long: Arc<Semaphore>,
}

/// Something in hand. Dropping it gives back what it took.
#[derive(Debug)]
pub(crate) struct Hold(#[expect(dead_code, reason = "held, not read")] Vec<OwnedSemaphorePermit>);

impl Portion {
    /// Waits until a request that counts for so many may be in hand.
    pub(crate) async fn request(&self, weight: u32) -> Hold {
        self.take(weight, |share| &share.requests, None).await
    }

    /// Waits until a request of so many bytes may be kept; at once if it is short.
    pub(crate) async fn long(&self, bytes: usize) -> Option<Hold> {
        if bytes <= SHORT {
            return None;
        }
        let kibibytes = bytes.div_ceil(1024).min(LONG);
        let weight = u32::try_from(kibibytes).unwrap_or(u32::MAX);
        Some(self.take(weight, |share| &share.long, Some(&self.long)).await)
    }

    async fn take(
        &self,
        weight: u32,
        part: impl Fn(&Share) -> &Arc<Semaphore>,
        of_all: Option<&Arc<Semaphore>>,
    ) -> Hold {
        let mut held = Vec::with_capacity(self.shares.len());
        // Always in this order, the common one last: who waits for an own share keeps nobody waiting.
        for semaphore in self.shares.iter().map(|share| part(share)).chain(of_all) {
            // None of them is ever closed.
            held.extend(Arc::clone(semaphore).acquire_many_owned(weight).await);
        }
        Hold(held)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::super::Origin;
    use super::*;

    fn payers(account: &str) -> [Payer; 2] {
        [Payer::Account(account.parse().unwrap()), Payer::Address(Origin::V4([192, 0, 2, 1]))]
    }

    // REQ S5
    #[test]
    fn an_account_has_so_much_in_hand_and_others_have_theirs() {
        let shares = Shares::new();
        let (alice, again, bob) =
            (shares.of(payers("alice")), shares.of(payers("alice")), shares.of(payers("bob")));
        let first = alice.request(200).now_or_never().unwrap();
        assert!(again.request(100).now_or_never().is_none(), "on whichever connection");
        let _bobs = bob.request(256).now_or_never().unwrap();
        drop(first);
        let _again = again.request(256).now_or_never().unwrap();
        // All from one address together.
        let _third = shares.of(payers("carol")).request(256).now_or_never().unwrap();
        let _fourth = shares.of(payers("dave")).request(256).now_or_never().unwrap();
        assert!(shares.of(payers("erin")).request(1).now_or_never().is_none());
    }

    // REQ S5
    #[test]
    fn long_requests_are_kept_one_at_a_time_and_short_ones_always() {
        const LONGEST: usize = 8 << 20;
        let shares = Shares::new();
        let alice = shares.of(payers("alice"));
        let one = alice.long(LONGEST).now_or_never().unwrap();
        assert!(one.is_some());
        assert!(alice.long(LONGEST).now_or_never().is_none());
        assert!(shares.of(payers("bob")).long(LONGEST).now_or_never().is_none(), "at the same address");
        assert!(alice.long(SHORT).now_or_never().unwrap().is_none());
        drop(one);
        assert!(alice.long(LONGEST).now_or_never().unwrap().is_some());
    }

    // REQ S5
    #[test]
    fn shares_that_nobody_uses_are_forgotten() {
        let shares = Shares::new();
        let alice = shares.of(payers("alice"));
        drop(shares.of([Payer::Account("bob".parse().unwrap())]));
        shares.sweep();
        assert_eq!(shares.len(), 2);
        drop(alice);
        shares.sweep();
        assert_eq!(shares.len(), 0);
    }
}
