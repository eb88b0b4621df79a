//! How fast is read: whoever sends faster is listened to more slowly.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Limiter, Payer};

/// The bytes that one connection has sent, and who pays for them.
#[derive(Debug)]
pub(crate) struct Flow {
    limiter: Arc<Limiter>,
    payer: Payer,
    owed: u32,
}

impl Flow {
    pub(crate) const fn new(limiter: Arc<Limiter>, payer: Payer) -> Self {
        Self { limiter, payer, owed: 0 }
    }

    /// From now on somebody else pays.
    pub(crate) fn set_payer(&mut self, payer: Payer) {
        self.payer = payer;
    }

    pub(crate) const fn payer(&self) -> &Payer {
        &self.payer
    }

    /// So many bytes were read.
    pub(crate) fn owe(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Waits until what is owed is paid; tells how long that took. If this is dropped before it is
    /// done, what is left is still owed.
    pub(crate) async fn pay(&mut self) -> Duration {
        let mut waited = Duration::ZERO;
        while let Some(owed) = NonZeroU32::new(self.owed) {
            match self.limiter.bytes.take_up_to(&self.payer, owed) {
                Ok(paid) => self.owed = self.owed.saturating_sub(paid.get()),
                Err(wait) => {
                    sleep(wait.0).await;
                    waited = waited.saturating_add(wait.0);
                }
            }
        }
        waited
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::rate::{Rate, Stopwatch};
    use super::*;
    use crate::limits::Limits;

    // REQ S5
    #[tokio::test(start_paused = true)]
    async fn who_sends_faster_is_read_at_the_rate_and_all_that_one_pays_for_together() {
        let limits = Limits { bytes: Rate::new(1_000, 100, 1), ..Limits::default() };
        let limiter = Arc::new(Limiter::new(&limits, &Stopwatch::system()));
        let payer = Payer::Account("alice".parse().unwrap());
        let mut one = Flow::new(Arc::clone(&limiter), payer.clone());
        let mut two = Flow::new(Arc::clone(&limiter), payer);
        let begun = Instant::now();
        one.owe(1_000);
        assert_eq!(one.pay().await, Duration::ZERO);
        two.owe(200);
        let waited = two.pay().await;
        assert_eq!((waited.as_secs(), begun.elapsed().as_secs()), (2, 2));
        // More than a burst is paid in pieces.
        one.owe(3_000);
        one.pay().await;
        assert_eq!(begun.elapsed().as_secs(), 32);
        let mut other = Flow::new(limiter, Payer::Account("bob".parse().unwrap()));
        other.owe(1_000);
        assert_eq!(other.pay().await, Duration::ZERO);
    }
}
