//! Noticing that the relay is gone although the connection does not say so: a network that was
//! changed, a cable that was pulled, a computer that slept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// A relay that was silent for so long is asked whether it is there.
const QUIET: Duration = Duration::from_secs(15);
/// Having been asked, it must be heard within this time. Together with [`QUIET`] a relay that is
/// gone is noticed within 25 seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same where there is a reason to doubt that the relay can still be reached.
const PATIENCE_IN_DOUBT: Duration = Duration::from_secs(5);

/// Counts what is heard of the relay. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<(AtomicU64, Notify)>);

impl Heard {
    /// Something was heard.
    pub(crate) fn note(&self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        self.0.1.notify_one();
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Waits until something is heard, or was since this was asked last.
    async fn something(&self) {
        self.0.1.notified().await;
    }
}

/// Asks after each silence, and at once when there is a doubt, and returns once nothing is heard: no
/// answer, and no part of anything else. An answer that stands behind a long one is late for a good reason.
pub(crate) async fn until_gone<F: Future<Output = bool>>(
    ping: impl Fn() -> F,
    heard: &Heard,
    doubt: &Notify,
) {
    loop {
        let mut patience = tokio::select! {
            heard = timeout(QUIET, heard.something()) => match heard {
                Ok(()) => continue,
                Err(_) => PATIENCE,
            },
            () = doubt.notified() => PATIENCE_IN_DOUBT,
        };
        let answered = ping();
        tokio::pin!(answered);
        loop {
            let before = heard.count();
            tokio::select! {
                answered = &mut answered => if answered { break } else { return },
                () = tokio::time::sleep(patience) => if heard.count() == before { return },
                () = doubt.notified() => patience = PATIENCE_IN_DOUBT,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::{Instant, sleep};

    // On a clock that moves only when everybody waits, these times are exact. REQ T9
    #[tokio::test(start_paused = true)]
    async fn a_relay_that_falls_silent_is_noticed_within_30_seconds() {
        let begun = Instant::now();
        until_gone(pending, &Heard::default(), &Notify::new()).await;
        assert_eq!(begun.elapsed(), QUIET + PATIENCE);
        assert!(begun.elapsed() < Duration::from_secs(30));

        // The silence begins with the last that was heard, whenever that was.
        let (begun, heard, doubt) = (Instant::now(), Heard::default(), Notify::new());
        let once = async {
            sleep(Duration::from_secs(14)).await;
            heard.note();
            pending::<()>().await;
        };
        tokio::select! {
            () = until_gone(pending, &heard, &doubt) => {}
            () = once => {}
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(14) + QUIET + PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_asks_at_once_and_waits_for_a_short_time_only() {
        let (begun, heard, doubt) = (Instant::now(), Heard::default(), Notify::new());
        let later = async {
            // The first doubt is dispelled, the second comes while a late answer is waited for.
            for at in [3, 17] {
                sleep(Duration::from_secs(at)).await;
                doubt.notify_one();
            }
            pending::<()>().await;
        };
        let asked = AtomicU64::new(0);
        let ping = || {
            let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
            async move { if first { true } else { pending().await } }
        };
        tokio::select! {
            () = until_gone(ping, &heard, &doubt) => {}
            () = later => {}
        }
        // Asked at 3 seconds and, after a silence, at 18; the doubt at 20 shortens the wait.
        assert_eq!(begun.elapsed(), Duration::from_secs(20) + PATIENCE_IN_DOUBT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_answers_or_sends_is_not_given_up() {
        let heard = Heard::default();
        let asked = AtomicU64::new(0);
        let ping = || {
            heard.note();
            std::future::ready(asked.fetch_add(1, Ordering::Relaxed) < 4)
        };
        until_gone(ping, &heard, &Notify::new()).await;
        assert_eq!(asked.into_inner(), 5, "it is given up by the first ping that fails, not before");

        // A long answer in front of the ping's: heard in pieces, 8 seconds apart, for two minutes.
        let (begun, heard, doubt) = (Instant::now(), Heard::default(), Notify::new());
        let pieces = async {
            for _ in 0..15 {
                sleep(Duration::from_secs(8)).await;
                heard.note();
            }
            pending::<()>().await;
        };
        tokio::select! {
            () = until_gone(pending, &heard, &doubt) => {}
            () = pieces => {}
        }
        assert!(begun.elapsed() >= Duration::from_secs(120), "{:?}", begun.elapsed());
    }
}
