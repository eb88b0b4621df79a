//! Times that others tell: bounded where they come in, so that no clock and no lie of anybody's can
//! put a message beyond what can be shown, or a room on top for good.

/// The last millisecond of the year 9999 (UTC). Nothing is shown as later.
const LATEST: u64 = 253_402_300_799_999;
/// The first millisecond of the year 2026 (UTC). There was no relay before, so a clock that says so is wrong.
const FIRST: u64 = 1_767_225_600_000;
const DAY: u64 = 24 * 60 * 60 * 1_000;
/// How long a message may wait in the outbox before its time is no longer shown.
const WAITING: u64 = 30 * DAY;
/// Clocks that differ by less, in milliseconds, count as the same.
const TOLERANCE: i64 = 2 * 60 * 1_000;

/// A time as it can be shown, whoever told it.
pub(crate) const fn bounded(time: u64) -> u64 {
    if time < LATEST { time } else { LATEST }
}

/// When an entry of a log reached the relay: its own word, unless its clock or that word is absurd; then the
/// time at which this device reads it.
pub(crate) fn arrived_at(stored_at: u64, now: u64) -> u64 {
    let now = bounded(now);
    if (FIRST..=now.max(FIRST).saturating_add(DAY)).contains(&stored_at) { stored_at } else { now }
}

/// When a message was written, as far as its sender's word fits its arrival: not after that, and not
/// longer before than an outbox waits.
pub(crate) fn written_at(sent_at: u64, stored_at: u64, now: u64) -> u64 {
    let arrived = arrived_at(stored_at, now);
    sent_at.clamp(arrived.saturating_sub(WAITING), arrived)
}

/// By how many milliseconds this computer's clock is ahead of the relay's; negative if it is behind.
pub(crate) fn ahead(own: u64, relay: u64) -> i64 {
    let own = i64::try_from(bounded(own)).unwrap_or(i64::MAX);
    own.saturating_sub(i64::try_from(bounded(relay)).unwrap_or(i64::MAX))
}

/// That, if it is worth a word.
pub(crate) fn noticeable(ahead: i64) -> Option<i64> {
    (ahead.abs() > TOLERANCE).then_some(ahead)
}

/// The latest date of a key that the relay takes.
pub(crate) const fn tomorrow(now: u64) -> u64 {
    now.saturating_add(DAY)
}

/// The relay's time, told by this computer's clock.
pub(crate) fn by_relay(own: u64, ahead: i64) -> u64 {
    let own = i64::try_from(bounded(own)).unwrap_or(i64::MAX);
    u64::try_from(own.saturating_sub(ahead)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const HOUR: u64 = 60 * 60 * 1_000;

    #[test]
    fn a_senders_time_is_shown_within_bounds() {
        let arrived = NOW - HOUR;
        for (sent_at, shown) in [
            (arrived - 5_000, arrived - 5_000),
            (arrived - 29 * DAY, arrived - 29 * DAY),
            (arrived - 31 * DAY, arrived - 30 * DAY),
            (0, arrived - 30 * DAY),
            (arrived + 1, arrived),
            (9_001_795_840_408_451, arrived),
            (u64::MAX, arrived),
        ] {
            assert_eq!(written_at(sent_at, arrived, NOW), shown, "{sent_at}");
        }
    }

    #[test]
    fn a_relays_absurd_time_gives_way_to_ones_own() {
        for stored_at in [0, FIRST - 1, NOW + DAY + 1, 9_001_795_840_408_451, u64::MAX] {
            assert_eq!(arrived_at(stored_at, NOW), NOW, "{stored_at}");
        }
        // A clock that is a little behind the relay's is no reason to doubt it.
        assert_eq!(arrived_at(NOW + HOUR, NOW), NOW + HOUR);
    }

    #[test]
    fn ones_own_absurd_clock_leaves_the_relays_time() {
        for now in [0, FIRST - 1] {
            assert_eq!(arrived_at(FIRST + HOUR, now), FIRST + HOUR);
        }
        assert_eq!(arrived_at(NOW, u64::MAX), NOW);
        assert_eq!(arrived_at(u64::MAX, u64::MAX), LATEST);
    }

    #[test]
    fn clocks_are_compared_both_ways() {
        for (own, relay, difference) in
            [(NOW, NOW, 0), (NOW + DAY, NOW, 86_400_000), (NOW, NOW + DAY, -86_400_000)]
        {
            assert_eq!(ahead(own, relay), difference);
            assert_eq!(by_relay(own, difference), relay);
        }
        assert_eq!(by_relay(u64::MAX, ahead(u64::MAX, NOW)), NOW);
        assert_eq!(by_relay(0, ahead(0, NOW)), NOW);
        assert_eq!(noticeable(120_000), None);
        assert_eq!(noticeable(-120_001), Some(-120_001));
    }
}
