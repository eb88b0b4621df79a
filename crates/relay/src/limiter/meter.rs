//! Counting what each of many does.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;

use super::rate::{Rate, Stopwatch};

/// How long until it is allowed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Duration);

impl Wait {
    /// In whole seconds, at least 1: after so long it is allowed, if nothing else happens.
    pub(crate) fn seconds(self) -> u32 {
        let part = u64::from(self.0.subsec_nanos() > 0);
        u32::try_from(self.0.as_secs().saturating_add(part)).unwrap_or(u32::MAX).max(1)
    }
}

/// Counts one thing for each key.
#[derive(Debug)]
pub(crate) struct Meter<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, HashMapStateStore<K>, Stopwatch, NoOpMiddleware<Nanos>>,
    burst: NonZeroU32,
}

impl<K: Hash + Eq + Clone> Meter<K> {
    pub(super) fn new(rate: Rate, stopwatch: &Stopwatch) -> Self {
        let quota = rate.quota();
        let limiter = RateLimiter::hashmap_with_clock(quota, stopwatch.clone());
        Self { limiter, burst: quota.burst_size() }
    }

    /// Counts one, if it is allowed.
    pub(super) fn take(&self, key: &K) -> Result<(), Wait> {
        self.limiter.check_key(key).map_err(|until| Wait(until.wait_time_from(self.limiter.clock().now())))
    }

    /// Counts as many of `wanted` as may ever be counted at once, if they are allowed; tells how many.
    pub(super) fn take_up_to(&self, key: &K, wanted: NonZeroU32) -> Result<NonZeroU32, Wait> {
        let count = wanted.min(self.burst);
        match self.limiter.check_key_n(key, count) {
            // Not more than a burst, so what cannot ever be allowed does not come up.
            Ok(Ok(())) | Err(_) => Ok(count),
            Ok(Err(until)) => Err(Wait(until.wait_time_from(self.limiter.clock().now()))),
        }
    }

    /// Forgets those who have done nothing that still counts.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.limiter.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::tests::stopwatch;
    use super::*;

    // REQ R2, S5
    #[test]
    fn after_the_time_that_it_tells_it_is_allowed_and_not_before() {
        let (stopwatch, time) = stopwatch();
        let meter = Meter::new(Rate::new(3, 1, 10), &stopwatch);
        for _ in 0..3 {
            meter.take(&"alice").unwrap();
        }
        let wait = meter.take(&"alice").unwrap_err();
        assert_eq!((wait, wait.seconds()), (Wait(Duration::from_secs(10)), 10));
        meter.take(&"bob").unwrap();
        time.fetch_add(9_500, Ordering::SeqCst);
        assert_eq!(meter.take(&"alice").unwrap_err().seconds(), 1);
        time.fetch_add(500, Ordering::SeqCst);
        meter.take(&"alice").unwrap();
        meter.take(&"alice").unwrap_err();
    }

    #[test]
    fn much_is_counted_in_pieces_that_fit() {
        let (stopwatch, time) = stopwatch();
        let meter = Meter::new(Rate::new(100, 50, 1), &stopwatch);
        let wanted = NonZeroU32::new(250).unwrap();
        assert_eq!(meter.take_up_to(&(), wanted).map(NonZeroU32::get), Ok(100));
        assert_eq!(meter.take_up_to(&(), wanted), Err(Wait(Duration::from_secs(2))));
        time.fetch_add(1_000, Ordering::SeqCst);
        assert_eq!(meter.take_up_to(&(), NonZeroU32::new(50).unwrap()).map(NonZeroU32::get), Ok(50));
    }

    // REQ S5
    #[test]
    fn who_has_waited_long_enough_is_forgotten() {
        let (stopwatch, time) = stopwatch();
        let meter = Meter::new(Rate::new(10, 1, 1), &stopwatch);
        for key in 0..1_000 {
            meter.take(&key).unwrap();
        }
        for _ in 0..8 {
            meter.take(&0).unwrap();
        }
        meter.sweep();
        assert_eq!(meter.len(), 1_000);
        time.fetch_add(2_000, Ordering::SeqCst);
        meter.sweep();
        assert_eq!(meter.len(), 1, "what still counts is kept");
        time.fetch_add(8_000, Ordering::SeqCst);
        meter.sweep();
        assert_eq!(meter.len(), 0);
    }
}
