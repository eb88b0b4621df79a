//! How long to wait before the next try.

use std::time::Duration;

use rand_core::Rng;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double, with jitter, so that a relay that comes back is not met by all at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked: the next pause is the first again.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: between half and the whole of a pause that doubles up to [`LONGEST`].
    pub(crate) fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let factor = 1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let pause = FIRST.saturating_mul(factor).min(LONGEST);
        let half = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX);
        Duration::from_millis(half.saturating_add(rng.next_u64() % half.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_over() {
        let (mut backoff, mut rng) = (Backoff::default(), crate::rng());
        let mut bound = FIRST;
        for _ in 0..40 {
            let pause = backoff.next(&mut rng);
            assert!(pause >= bound / 2 && pause <= bound, "{pause:?} for {bound:?}");
            bound = (bound * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= FIRST);
    }
}
