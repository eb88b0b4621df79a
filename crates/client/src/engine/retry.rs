//! When something of this device that failed is tried again: later each time.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Pauses that double. No others wait for the same thing, so there is no jitter, unlike in
/// [`Backoff`](crate::backoff::Backoff).
#[derive(Debug)]
pub(super) struct Retry {
    first: Duration,
    longest: Duration,
    pause: Duration,
    at: Option<Instant>,
}

impl Retry {
    /// Nothing failed yet. The first pause is `first`, and none is longer than `longest`.
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, pause: Duration::ZERO, at: None }
    }

    /// The next try is after a pause, twice as long as the last.
    pub(super) fn later(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(self.first, self.longest);
        self.at = Some(now + self.pause);
    }

    /// It worked: the next pause is the first again.
    pub(super) const fn reset(&mut self) {
        *self = Self::new(self.first, self.longest);
    }

    /// Whether a next try is set.
    pub(super) const fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// Whether no pause stands against a try.
    pub(super) fn may_try(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now >= at)
    }

    /// Returns when the pause is over; never if no try is set.
    pub(super) async fn due(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_a_limit_and_starts_over() {
        let (first, longest) = (Duration::from_secs(2), Duration::from_secs(60));
        let mut retry = Retry::new(first, longest);
        let now = Instant::now();
        assert!(retry.may_try(now) && !retry.is_set());
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(seconds);
            retry.later(now);
            assert!(retry.is_set() && retry.may_try(now + pause), "{pause:?}");
            assert!(!retry.may_try(now + pause - Duration::from_millis(1)), "{pause:?}");
        }
        retry.reset();
        assert!(retry.may_try(now) && !retry.is_set());
        retry.later(now);
        assert!(retry.may_try(now + first));
    }
}
