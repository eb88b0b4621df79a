//! What the bytes of one connection cost, all of them: those of TLS, HTTP and WebSocket, too.
//!
//! Whoever sends faster than at its rate is read more slowly, and so is whoever has been told more than at
//! its rate.

use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mildam_protocol::records::AccountId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::{Limiter, Origin, Payer, Wait};

/// What one connection owes, and who pays.
#[derive(Debug)]
pub(crate) struct Toll {
    limiter: Arc<Limiter>,
    bill: Mutex<Bill>,
}

#[derive(Debug, Default)]
struct Bill {
    /// None: a proxy of the operator's, on behalf of nobody yet. It pays nothing.
    origin: Option<Origin>,
    account: Option<AccountId>,
    heard: u32,
    told: u32,
    /// Both, for the address.
    passed: u32,
    /// How long reading was held up until now, without the present time.
    held_up: Duration,
    since: Option<Instant>,
}

impl Toll {
    pub(crate) fn new(limiter: Arc<Limiter>, origin: Option<Origin>) -> Arc<Self> {
        Arc::new(Self { limiter, bill: Mutex::new(Bill { origin, ..Bill::default() }) })
    }

    /// From now on this address pays.
    pub(crate) fn set_origin(&self, origin: Origin) {
        self.bill().origin = Some(origin);
    }

    /// From now on this account pays, too, or nobody but the address.
    pub(crate) fn set_account(&self, account: Option<AccountId>) {
        self.bill().account = account;
    }

    /// How long reading was held up, the present time included: it is not the peer's fault.
    pub(crate) fn held_up(&self) -> Duration {
        let bill = self.bill();
        bill.held_up.saturating_add(bill.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn heard(&self, bytes: usize) {
        let mut bill = self.bill();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        bill.heard = bill.heard.saturating_add(bytes);
        bill.passed = bill.passed.saturating_add(bytes);
    }

    fn told(&self, bytes: usize) {
        let mut bill = self.bill();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        bill.told = bill.told.saturating_add(bytes);
        bill.passed = bill.passed.saturating_add(bytes);
    }

    /// Pays what is owed, or says how long it takes until more can be paid.
    fn pay(&self) -> Result<(), Wait> {
        let bill = &mut *self.bill();
        let paid = self.limiter.pay(bill);
        match paid {
            Ok(()) => {
                bill.held_up = bill
                    .held_up
                    .saturating_add(bill.since.take().map_or(Duration::ZERO, |since| since.elapsed()))
            }
            Err(_) => {
                bill.since.get_or_insert_with(Instant::now);
            }
        }
        paid
    }

    fn bill(&self) -> MutexGuard<'_, Bill> {
        // Nothing that happens under the lock can leave the bill half changed.
        self.bill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limiter {
    fn pay(&self, bill: &mut Bill) -> Result<(), Wait> {
        let Some(origin) = bill.origin else {
            (bill.heard, bill.told, bill.passed) = (0, 0, 0);
            return Ok(());
        };
        let payer = bill.account.clone().map_or(Payer::Address(origin), Payer::Account);
        settle(&mut bill.heard, |owed| self.bytes.take_up_to(&payer, owed))?;
        settle(&mut bill.told, |owed| self.bytes_told.take_up_to(&payer, owed))?;
        settle(&mut bill.passed, |owed| self.address_bytes.take_up_to(&origin, owed))
    }
}

/// Pays in pieces as large as may be paid at once.
fn settle(owed: &mut u32, mut take: impl FnMut(NonZeroU32) -> Result<NonZeroU32, Wait>) -> Result<(), Wait> {
    while let Some(most) = NonZeroU32::new(*owed) {
        *owed = owed.saturating_sub(take(most)?.get());
    }
    Ok(())
}

/// A stream whose bytes are counted. It is read no faster than is paid for.
pub(crate) struct Metered<S> {
    stream: S,
    toll: Arc<Toll>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<S> Metered<S> {
    pub(crate) const fn new(stream: S, toll: Arc<Toll>) -> Self {
        Self { stream, toll, wait: None }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(context));
                self.wait = None;
            }
            match self.toll.pay() {
                Ok(()) => break,
                Err(Wait(time)) => self.wait = Some(Box::pin(sleep(time))),
            }
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.toll.heard(buffer.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.toll.told(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.toll.told(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::super::rate::{Rate, Stopwatch};
    use super::*;
    use crate::limits::Limits;

    fn limiter(adjust: impl FnOnce(&mut Limits)) -> Arc<Limiter> {
        let mut limits = Limits::default();
        adjust(&mut limits);
        Arc::new(Limiter::new(&limits, &Stopwatch::system()))
    }

    const ADDRESS: Origin = Origin::V4([192, 0, 2, 1]);

    /// Lets so many bytes come in; tells how many seconds that took.
    async fn hear(toll: &Arc<Toll>, bytes: usize) -> u64 {
        let begun = Instant::now();
        let (mut theirs, ours) = duplex(1 << 20);
        theirs.write_all(&vec![0; bytes]).await.unwrap();
        let mut ours = Metered::new(ours, Arc::clone(toll));
        ours.read_exact(&mut vec![0; bytes]).await.unwrap();
        // Paid before the next ones are read.
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
        begun.elapsed().as_secs()
    }

    // REQ S5
    #[tokio::test(start_paused = true)]
    async fn who_sends_faster_is_read_at_the_rate_of_all_its_connections() {
        let limiter = limiter(|limits| limits.bytes = Rate::new(1_000, 100, 1));
        let toll = || {
            let toll = Toll::new(Arc::clone(&limiter), Some(ADDRESS));
            toll.set_account(Some("alice".parse().unwrap()));
            toll
        };
        let (one, two) = (toll(), toll());
        assert_eq!(hear(&one, 1_000).await, 0);
        assert_eq!(hear(&two, 200).await, 2);
        assert_eq!(two.held_up().as_secs(), 2);
        // More than a burst is paid in pieces.
        assert_eq!(hear(&one, 3_000).await, 30);
        let other = Toll::new(Arc::clone(&limiter), Some(Origin::V4([192, 0, 2, 2])));
        assert_eq!(hear(&other, 1_000).await, 0);
    }

    // REQ S5
    #[tokio::test(start_paused = true)]
    async fn an_address_pays_for_all_its_accounts_together() {
        let limiter = limiter(|limits| limits.address_bytes = Rate::new(1_000, 100, 1));
        for (account, seconds) in [("alice", 0), ("bob", 10)] {
            let toll = Toll::new(Arc::clone(&limiter), Some(ADDRESS));
            toll.set_account(Some(account.parse().unwrap()));
            assert_eq!(hear(&toll, 1_000).await, seconds);
        }
        // On whose behalf a proxy connects is not known yet.
        assert_eq!(hear(&Toll::new(limiter, None), 100_000).await, 0);
    }

    // REQ S5
    #[tokio::test(start_paused = true)]
    async fn who_is_told_much_is_listened_to_later() {
        let limiter = limiter(|limits| limits.bytes_told = Rate::new(1_000, 100, 1));
        let toll = Toll::new(limiter, Some(ADDRESS));
        let (theirs, ours) = duplex(1 << 20);
        let mut ours = Metered::new(ours, Arc::clone(&toll));
        let begun = Instant::now();
        ours.write_all(&[0; 3_000]).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO, "what is said is said");
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(begun.elapsed().as_secs(), 20);
    }
}
