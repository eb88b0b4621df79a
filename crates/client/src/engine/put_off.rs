//! What the relay was too busy for is done later, when it said or after a while.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Engine;
use crate::error::Error;

/// What is done again. A later one does all that the ones before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Sending what waits.
    Flush,
    /// Reading what was missed, then sending.
    Sync,
    /// Everything from the beginning of a session.
    Attach,
}

/// Where the relay does not say when, it is asked again after so long.
const USUAL: Duration = Duration::from_secs(10);
/// Whatever the relay says, it is not asked again before.
const SHORTEST: Duration = Duration::from_secs(1);
/// Whatever the relay says, it is asked again within this time.
const LONGEST: Duration = Duration::from_secs(60);

/// The step that was put off, if one was.
#[derive(Debug, Default)]
pub(super) struct PutOff {
    step: Option<(Step, Instant)>,
    /// Until when the relay wants to hear nothing.
    quiet_until: Option<Instant>,
}

impl PutOff {
    /// Notes that a step failed. One that did not because the relay is busy is not put off.
    pub(super) fn note(&mut self, error: &Error, step: Step, now: Instant) {
        if error.code() != "busy" {
            return;
        }
        let asked = error.retry_after().map(|wait| now + wait.clamp(SHORTEST, LONGEST));
        let until = asked.unwrap_or(now + USUAL);
        self.quiet_until = asked.max(self.quiet_until);
        self.step = Some(self.step.map_or((step, until), |(other, then)| (other.max(step), then.max(until))));
    }

    /// Whether the relay wants to hear nothing at the moment.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }

    /// Returns when the step is due; never if there is none.
    pub(super) async fn due(&self) {
        match self.step {
            Some((_, at)) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// The step, which is put off no longer.
    fn take(&mut self) -> Option<Step> {
        std::mem::take(self).step.map(|(step, _)| step)
    }
}

impl Engine {
    /// Does what was put off.
    pub(super) async fn resume(&mut self) {
        let Some(step) = self.put_off.take() else { return };
        if self.wire.is_none() || self.session.is_none() {
            // The next connection begins with all of it.
            return;
        }
        let done = match step {
            Step::Flush => {
                self.send_receipts().await;
                self.flush().await;
                Ok(())
            }
            Step::Sync => self.sync().await,
            Step::Attach => self.attach().await,
        };
        if let Err(error) = done {
            tracing::info!(code = error.code(), ?step, "not done this time either");
            self.put_off.note(&error, step, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(seconds: Option<u64>) -> Error {
        let error = Error::new("busy", "busy");
        match seconds {
            Some(seconds) => error.with("retry_after", seconds),
            None => error,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_due_when_the_relay_said_within_limits() {
        for (said, expected) in [(Some(3), 3), (Some(0), 1), (Some(86_400), 60), (None, 10)] {
            let (mut put_off, begun) = (PutOff::default(), Instant::now());
            put_off.note(&busy(said), Step::Flush, begun);
            assert_eq!(put_off.is_quiet(begun), said.is_some());
            put_off.due().await;
            assert_eq!(begun.elapsed().as_secs(), expected, "{said:?}");
            assert!(!put_off.is_quiet(Instant::now()));
            assert_eq!((put_off.take(), put_off.take()), (Some(Step::Flush), None));
        }
    }

    #[test]
    fn the_step_that_does_most_stands_and_the_longest_wait() {
        let (mut put_off, now) = (PutOff::default(), Instant::now());
        put_off.note(&busy(Some(30)), Step::Sync, now);
        put_off.note(&busy(None), Step::Flush, now);
        assert_eq!(put_off.step, Some((Step::Sync, now + Duration::from_secs(30))));
        assert!(put_off.is_quiet(now + Duration::from_secs(29)));
    }

    #[test]
    fn only_a_busy_relay_puts_anything_off() {
        let (mut put_off, now) = (PutOff::default(), Instant::now());
        put_off.note(&Error::offline(), Step::Attach, now);
        put_off.note(&Error::session_expired(), Step::Flush, now);
        assert_eq!(put_off.take(), None);
    }
}
