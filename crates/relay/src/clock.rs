//! What time it is, and how a clock that jumps is noticed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that goes ahead by more than this, in milliseconds, within the time that it is not looked at, has
/// jumped.
const JUMP: u64 = 60 * 60 * 1000;

/// Tells the time, in milliseconds since 1970 (UTC).
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> u64 + Send + Sync>,
    watch: Option<Arc<Watch>>,
}

/// What a clock is compared with.
struct Watch {
    /// Milliseconds since some moment, that nobody sets.
    elapsed: Box<dyn Fn() -> u64 + Send + Sync>,
    last: Mutex<Last>,
}

/// When the clock was last settled.
struct Last {
    wall: u64,
    elapsed: u64,
    /// The latest time that was ever believed.
    latest: u64,
}

impl Clock {
    /// The machine's.
    #[must_use]
    pub fn system() -> Self {
        let begin = Instant::now();
        let wall = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        };
        Self::watched(wall, move || u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Another one, for those who test what takes days. It may jump as it likes.
    #[must_use]
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { wall: Arc::new(now), watch: None }
    }

    /// One that is compared with a stopwatch: where it jumps ahead, it stands until that is settled.
    #[must_use]
    pub fn watched(
        wall: impl Fn() -> u64 + Send + Sync + 'static,
        elapsed: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let last = Mutex::new(Last { wall: wall(), elapsed: elapsed(), latest: 0 });
        let watch = Watch { elapsed: Box::new(elapsed), last };
        Self { wall: Arc::new(wall), watch: Some(Arc::new(watch)) }
    }

    pub(crate) fn now(&self) -> u64 {
        let wall = (self.wall)();
        match self.jumped(wall) {
            Some(ahead) => wall.saturating_sub(ahead),
            None => wall,
        }
    }

    /// By how much it has jumped ahead since it was last settled; none if it has not.
    pub(crate) fn jump(&self) -> Option<u64> {
        self.jumped((self.wall)())
    }

    fn jumped(&self, wall: u64) -> Option<u64> {
        let watch = self.watch.as_ref()?;
        let last = watch.last.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = last.wall.saturating_add((watch.elapsed)().saturating_sub(last.elapsed));
        // A clock that comes back from far behind has not jumped beyond what was believed before.
        let ahead = wall.saturating_sub(expected.max(last.latest));
        (ahead > JUMP).then_some(ahead)
    }

    /// Believes the clock from here on. `latest` is the latest time that was believed before this process.
    pub(crate) fn settle(&self, latest: u64) {
        if let Some(watch) = &self.watch {
            let (wall, elapsed) = ((self.wall)(), (watch.elapsed)());
            let mut last = watch.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Last { wall, elapsed, latest: last.latest.max(latest).max(wall) };
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;

    #[test]
    fn a_clock_that_jumps_ahead_stands_until_it_is_settled() {
        let (wall, elapsed) = (Arc::new(AtomicU64::new(100 * DAY)), Arc::new(AtomicU64::new(0)));
        let (shown, passed) = (Arc::clone(&wall), Arc::clone(&elapsed));
        let clock =
            Clock::watched(move || shown.load(Ordering::SeqCst), move || passed.load(Ordering::SeqCst));
        let set = |to: u64, after: u64| {
            wall.store(to, Ordering::SeqCst);
            elapsed.store(after, Ordering::SeqCst);
        };
        // Time that passes, and small corrections, are no jump.
        set(103 * DAY, 3 * DAY);
        assert_eq!((clock.now(), clock.jump()), (103 * DAY, None));
        set(103 * DAY + JUMP, 3 * DAY);
        assert_eq!(clock.jump(), None);
        set(143 * DAY, 3 * DAY);
        assert_eq!((clock.now(), clock.jump()), (103 * DAY, Some(40 * DAY)));
        clock.settle(0);
        assert_eq!((clock.now(), clock.jump()), (143 * DAY, None));
        // Back, and to where it was: nothing that was not believed before.
        set(3 * DAY, 3 * DAY);
        assert_eq!((clock.now(), clock.jump()), (3 * DAY, None));
        clock.settle(0);
        set(143 * DAY, 3 * DAY);
        assert_eq!(clock.jump(), None);
        set(145 * DAY, 3 * DAY);
        assert_eq!(clock.jump(), Some(2 * DAY));
    }

    #[test]
    fn a_machine_that_starts_without_a_clock_has_not_jumped() {
        let wall = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&wall);
        let clock = Clock::watched(move || shown.load(Ordering::SeqCst), || 0);
        clock.settle(100 * DAY);
        wall.store(101 * DAY, Ordering::SeqCst);
        assert_eq!(clock.jump(), Some(DAY), "it was off for a day, not for all the years since 1970");
    }
}
