//! How often something may happen: the setting, and the clock that it is measured by.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::Quota;
use governor::clock::Clock;
use governor::nanos::Nanos;
use serde::Deserialize;

/// So many at once, and then so many more in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rate {
    /// How many at once, after a while without any.
    pub burst: NonZeroU32,
    /// How many more, spread evenly over the time.
    pub more: NonZeroU32,
    /// The time, in seconds.
    pub every_seconds: NonZeroU32,
}

/// No rate takes longer to be whole again, so that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl Rate {
    /// `burst` at once, then `more` in each `every_seconds`. A zero counts as 1.
    #[must_use]
    pub const fn new(burst: u32, more: u32, every_seconds: u32) -> Self {
        Self { burst: at_least_1(burst), more: at_least_1(more), every_seconds: at_least_1(every_seconds) }
    }

    /// So many times as much.
    pub(super) const fn times(self, factor: u32) -> Self {
        Self {
            burst: at_least_1(self.burst.get().saturating_mul(factor)),
            more: at_least_1(self.more.get().saturating_mul(factor)),
            every_seconds: self.every_seconds,
        }
    }

    pub(super) fn quota(self) -> Quota {
        let time = Duration::from_secs(self.every_seconds.get().into());
        let interval = (time / self.more.get()).clamp(Duration::from_nanos(1), LONGEST);
        let most = LONGEST.as_nanos() / interval.as_nanos();
        let most = NonZeroU32::new(u32::try_from(most).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
        // An interval of zero is the only one that is refused.
        let quota = Quota::with_period(interval).unwrap_or_else(|| Quota::per_second(self.more));
        quota.allow_burst(self.burst.min(most))
    }
}

const fn at_least_1(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(value) => value,
        None => NonZeroU32::MIN,
    }
}

/// Tells how much time has passed: what limits are measured by, since nobody sets it back.
#[derive(Clone)]
pub struct Stopwatch(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Stopwatch {
    /// The machine's.
    #[must_use]
    pub fn system() -> Self {
        let begun = tokio::time::Instant::now();
        Self::new(move || begun.elapsed())
    }

    /// Another one, for those who test what takes minutes.
    #[must_use]
    pub fn new(elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(elapsed))
    }
}

impl Clock for Stopwatch {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        // Nanoseconds of five centuries fit.
        Nanos::new(u64::try_from((self.0)().as_nanos()).unwrap_or(u64::MAX / 2))
    }
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopwatch(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rate, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    // REQ S5
    #[test]
    fn a_rate_is_read_and_zeros_are_refused_by_name() {
        assert_eq!(read("burst = 50\nmore = 1\nevery-seconds = 10"), Ok(Rate::new(50, 1, 10)));
        let error = read("burst = 50\nmore = 0\nevery-seconds = 10").unwrap_err();
        assert!(error.contains("more = 0") && error.contains("nonzero"), "{error}");
        assert!(read("burst = 50\nmore = 1").unwrap_err().contains("every-seconds"));
        assert!(read("burst = 1\nmore = 1\nevery-seconds = 1\nper = 2").unwrap_err().contains("per"));
        assert_eq!(Rate::new(0, 0, 0), Rate::new(1, 1, 1));
    }

    #[test]
    fn a_quota_is_the_rate_and_never_overflows() {
        let quota = Rate::new(50, 2, 10).quota();
        assert_eq!((quota.burst_size().get(), quota.replenish_interval()), (50, Duration::from_secs(5)));
        for [burst, more, seconds] in [[u32::MAX; 3], [u32::MAX, 1, u32::MAX], [u32::MAX, u32::MAX, 1]] {
            let quota = Rate::new(burst, more, seconds).quota();
            assert!(quota.burst_size_replenished_in() <= LONGEST, "{quota:?}");
        }
    }
}
