//! Limits on what strangers, addresses and accounts do in a time.
//!
//! A connection comes in by the [`Door`], which counts by address. What is asked on it is
//! judged before anything is looked up: whoever is bound to an account pays with the account's share,
//! everybody else with the share of the address. Whether an account exists makes no difference.

mod door;
mod meter;
mod rate;
mod share;
mod toll;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mildam_protocol::command::Kind;
use mildam_protocol::records::{AccountId, DeviceId};
use mildam_protocol::{Code, Refusal, Request};
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::limits::Limits;
use door::Door;
use meter::{Meter, Wait};
use share::Shares;

pub(crate) use door::{ConnectionPermit, Origin, TurnedAway};
pub use rate::{Rate, Stopwatch};
pub(crate) use share::{Hold, Portion};
pub(crate) use toll::{Metered, Toll};

/// How often those are forgotten who do not count any more.
const SWEEP: Duration = Duration::from_secs(60);

/// Long requests that are read at a time.
const LONG_READING: usize = 2;

/// Who pays for a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Payer {
    Address(Origin),
    Account(AccountId),
}

/// What becomes of a request that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is carried out.
    Go,
    /// It is said to be done, and nobody hears of it: it says again what was just said.
    Hush,
}

/// All that is counted.
#[derive(Debug)]
pub(crate) struct Limiter {
    door: Arc<Door>,
    /// One permit for each set-up whose RSA is computed; others wait, so that they do not fill the
    /// threads on which it is.
    key_work: Arc<Semaphore>,
    /// One permit for each long request that is read; others wait.
    long_reading: Semaphore,
    turned_away: AtomicU64,
    sign_ups: Meter<Origin>,
    guesses: Meter<(Origin, AccountId)>,
    account_guesses: Meter<AccountId>,
    device_guesses: Meter<(AccountId, DeviceId)>,
    stranger_requests: Meter<Origin>,
    requests: Meter<Payer>,
    look_ups: Meter<AccountId>,
    messages: Meter<AccountId>,
    friend_requests: Meter<AccountId>,
    new_rooms: Meter<AccountId>,
    room_changes: Meter<AccountId>,
    receipts: Meter<AccountId>,
    typing: Meter<AccountId>,
    presence_changes: Meter<AccountId>,
    bytes: Meter<Payer>,
    bytes_told: Meter<Payer>,
    address_bytes: Meter<Origin>,
    shares: Shares,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits, stopwatch: &Stopwatch) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            door: Arc::new(Door::new(limits, stopwatch)),
            key_work: Arc::new(Semaphore::new(cores)),
            long_reading: Semaphore::new(LONG_READING),
            turned_away: AtomicU64::new(0),
            sign_ups: Meter::new(limits.sign_ups, stopwatch),
            guesses: Meter::new(limits.guesses, stopwatch),
            account_guesses: Meter::new(limits.account_guesses, stopwatch),
            device_guesses: Meter::new(limits.guesses, stopwatch),
            stranger_requests: Meter::new(limits.stranger_requests, stopwatch),
            requests: Meter::new(limits.requests, stopwatch),
            look_ups: Meter::new(limits.look_ups, stopwatch),
            messages: Meter::new(limits.messages, stopwatch),
            friend_requests: Meter::new(limits.friend_requests, stopwatch),
            new_rooms: Meter::new(limits.new_rooms, stopwatch),
            room_changes: Meter::new(limits.room_changes, stopwatch),
            receipts: Meter::new(limits.receipts, stopwatch),
            typing: Meter::new(limits.typing, stopwatch),
            presence_changes: Meter::new(limits.presence_changes, stopwatch),
            bytes: Meter::new(limits.bytes, stopwatch),
            bytes_told: Meter::new(limits.bytes_told, stopwatch),
            address_bytes: Meter::new(limits.address_bytes, stopwatch),
            shares: Shares::new(),
        }
    }

    /// Lets a connection from this address in. To be asked before anything is done for it.
    ///
    /// # Errors
    /// [`TurnedAway`]: to be closed, where it can be read with its last words.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<ConnectionPermit, TurnedAway> {
        self.door.admit(address).inspect_err(|_| {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// Somebody at this origin has a session: when many connect, there is still a place for it.
    pub(crate) fn knows(&self, origin: Origin) {
        self.door.knows(origin);
    }

    /// Permits for the RSA of set-ups.
    pub(crate) const fn key_work(&self) -> &Arc<Semaphore> {
        &self.key_work
    }

    /// Permits for the reading of long requests.
    pub(crate) const fn long_reading(&self) -> &Semaphore {
        &self.long_reading
    }

    /// What those who pay may have in hand together.
    pub(crate) fn portion(&self, origin: Origin, payer: &Payer) -> Portion {
        let account = Some(payer.clone()).filter(|payer| matches!(payer, Payer::Account(_)));
        self.shares.of(account.into_iter().chain([Payer::Address(origin)]))
    }

    /// Counts a request, `None` if its command cannot be made out, and judges it. `arriving` says that the
    /// connection has not asked to be attached before: that much its own admission has paid for.
    pub(crate) fn judge(
        &self,
        kind: Option<Kind>,
        origin: Origin,
        payer: &Payer,
        arriving: bool,
    ) -> Result<Verdict, Refusal> {
        limited(self.requests.take(payer), "too many requests")?;
        match payer {
            Payer::Account(account) => {
                if self.judge_account(kind, account)? == Verdict::Hush {
                    return Ok(Verdict::Hush);
                }
            }
            Payer::Address(origin) => {
                let free = kind == Some(Kind::Ping) || arriving && kind == Some(Kind::Attach);
                if !free {
                    let many = "too many requests from your address";
                    limited(self.stranger_requests.take(origin), many)?;
                }
            }
        }
        if kind == Some(Kind::SignUp) {
            limited(self.sign_ups.take(&origin), "too many new accounts from your address")?;
        }
        Ok(Verdict::Go)
    }

    /// Counts a request for a page.
    ///
    /// # Errors
    /// The seconds after which it is worth trying again.
    pub(crate) fn judge_page(&self, origin: Origin) -> Result<(), u32> {
        self.stranger_requests.take(&origin).map_err(Wait::seconds)
    }

    /// Counts what a request that was read asks for. `proven` is the device of the account that has shown
    /// that it asks.
    pub(crate) fn judge_read(
        &self,
        request: &Request,
        origin: Origin,
        payer: &Payer,
        proven: Option<DeviceId>,
    ) -> Result<(), Refusal> {
        if let (Request::LogInStart(command), Some(device)) = (request, proven) {
            // What others try, from wherever, keeps no device from logging in.
            return limited(self.device_guesses.take(&(command.account.clone(), device)), MANY_GUESSES);
        }
        match (request, payer) {
            (Request::ReceiptSend(command), Payer::Account(account)) => {
                let count = u32::try_from(command.receipts.len()).ok().and_then(NonZeroU32::new);
                let paid = count.map_or(Ok(()), |count| self.receipts.take_up_to(account, count).map(drop));
                return limited(paid, "too many receipts");
            }
            (Request::RoomSetChange(_), Payer::Account(account)) => {
                return limited(self.room_changes.take(account), "too many changes of rooms");
            }
            _ => {}
        }
        match request {
            // Who has the answer to one of these can try a password, or has tried words.
            Request::SignUpStart(command) => self.judge_guess(origin, &command.account),
            Request::LogInStart(command) => self.judge_guess(origin, &command.account),
            // Nobody guesses 128 bits. Whoever has lost a device must get in, whatever others try meanwhile.
            Request::RecoverStart(command) => self.judge_words(origin, &command.account),
            _ => Ok(()),
        }
    }

    fn judge_account(&self, kind: Option<Kind>, account: &AccountId) -> Result<Verdict, Refusal> {
        match kind {
            Some(Kind::GetAccountKeys) => limited(self.look_ups.take(account), "too many look-ups")?,
            Some(Kind::MessageSend) => limited(self.messages.take(account), "too many messages")?,
            Some(Kind::FriendRequest) => {
                limited(self.friend_requests.take(account), "too many friend requests")?;
            }
            Some(Kind::RoomCreate) => limited(self.new_rooms.take(account), "too many new rooms")?,
            Some(Kind::PresenceSet) => {
                limited(self.presence_changes.take(account), "too many changes of presence")?;
            }
            Some(Kind::Typing) if self.typing.take(account).is_err() => return Ok(Verdict::Hush),
            _ => {}
        }
        Ok(Verdict::Go)
    }

    fn judge_guess(&self, origin: Origin, account: &AccountId) -> Result<(), Refusal> {
        self.judge_words(origin, account)?;
        limited(self.account_guesses.take(account), MANY_GUESSES)
    }

    fn judge_words(&self, origin: Origin, account: &AccountId) -> Result<(), Refusal> {
        limited(self.guesses.take(&(origin, account.clone())), MANY_GUESSES)
    }

    /// Forgets those who do not count any more.
    fn sweep(&self) {
        self.door.sweep();
        self.sign_ups.sweep();
        self.guesses.sweep();
        self.account_guesses.sweep();
        self.device_guesses.sweep();
        self.stranger_requests.sweep();
        self.requests.sweep();
        self.look_ups.sweep();
        self.messages.sweep();
        self.friend_requests.sweep();
        self.new_rooms.sweep();
        self.room_changes.sweep();
        self.receipts.sweep();
        self.typing.sweep();
        self.presence_changes.sweep();
        self.bytes.sweep();
        self.bytes_told.sweep();
        self.address_bytes.sweep();
        self.shares.sweep();
    }

    /// Whether all connections have given their places back.
    #[cfg(test)]
    pub(crate) fn nobody_is_here(&self) -> bool {
        self.door.is_empty()
    }

    /// How many addresses and accounts are remembered, each as often as there are counts of it.
    #[cfg(test)]
    fn len(&self) -> usize {
        let origins = self.door.len() + self.sign_ups.len() + self.stranger_requests.len();
        let guesses = self.guesses.len() + self.account_guesses.len();
        let payers = self.requests.len() + self.bytes.len();
        let accounts = [&self.look_ups, &self.messages, &self.friend_requests, &self.new_rooms, &self.typing];
        origins + guesses + payers + accounts.map(Meter::len).iter().sum::<usize>()
    }
}

const MANY_GUESSES: &str = "too many passwords or words were tried for this account";

fn limited(outcome: Result<(), Wait>, what: &str) -> Result<(), Refusal> {
    outcome.map_err(|wait| {
        let seconds = wait.seconds();
        Refusal::new(Code::RateLimited, format!("{what}: try again in {seconds} s")).retry_after(seconds)
    })
}

/// Forgets every minute who does not count any more, until the relay stops.
pub(crate) async fn sweep(context: Arc<Context>) {
    while let Some(()) = context.draining.run_until_cancelled(tokio::time::sleep(SWEEP)).await {
        context.limiter.sweep();
        let turned_away = context.limiter.turned_away.swap(0, Ordering::Relaxed);
        if turned_away > 0 {
            tracing::warn!(turned_away, "connections were turned away within the last minute");
        }
    }
}

#[cfg(test)]
mod tests {
    use mildam_protocol::command::{Attach, LogInStart, Ping, RecoverStart, SignUpStart};
    use mildam_protocol::records::bytes::Bytes;
    use mildam_protocol::records::keys::Signature;

    use super::*;

    /// A stopwatch that a test sets, in milliseconds.
    pub(super) fn stopwatch() -> (Stopwatch, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(1_000));
        let shown = Arc::clone(&time);
        (Stopwatch::new(move || Duration::from_millis(shown.load(Ordering::SeqCst))), time)
    }

    const ADDRESS: Origin = Origin::V4([192, 0, 2, 1]);
    const OTHER: Origin = Origin::V4([192, 0, 2, 2]);

    fn limiter(adjust: impl FnOnce(&mut Limits)) -> (Limiter, Arc<AtomicU64>) {
        let (stopwatch, time) = stopwatch();
        let mut limits = Limits::default();
        adjust(&mut limits);
        (Limiter::new(&limits, &stopwatch), time)
    }

    fn account(name: &str) -> AccountId {
        name.parse().unwrap()
    }

    /// The request of somebody who is not logged in: the seconds after which to try again, if any.
    fn ask(limiter: &Limiter, request: &Request, origin: Origin) -> Option<u32> {
        let judged = limiter.judge(Some(request.kind()), origin, &Payer::Address(origin), false);
        judged.and_then(|_| limiter.judge_read(request, origin, &Payer::Address(origin), None)).err().map(
            |refusal| {
                assert_eq!(refusal.code, Code::RateLimited);
                refusal.retry_after.unwrap()
            },
        )
    }

    fn log_in_start(account: AccountId) -> LogInStart {
        LogInStart { account, password: Bytes::default(), device: None, proof: None }
    }

    fn log_in(name: &str) -> Request {
        Request::LogInStart(Box::new(log_in_start(account(name))))
    }

    fn words(name: &str) -> Request {
        let proof = Signature::from_bytes([0; Signature::LENGTH]);
        let (account, password) = (account(name), Bytes::default());
        Request::RecoverStart(Box::new(RecoverStart { account, password, proof }))
    }

    // REQ A3, S5
    #[test]
    fn passwords_are_tried_so_often_for_an_account_from_an_address() {
        let (limiter, time) = limiter(|limits| limits.guesses = Rate::new(3, 1, 30));
        let sign_up = Request::SignUpStart(Box::new(SignUpStart {
            account: account("alice"),
            password: Bytes::default(),
        }));
        let words = words("alice");
        // All that lets a password or words be tried counts together.
        for request in [&log_in("alice"), &sign_up, &words] {
            assert_eq!(ask(&limiter, request, ADDRESS), None);
        }
        for request in [&log_in("alice"), &sign_up, &words] {
            assert_eq!(ask(&limiter, request, ADDRESS), Some(30));
        }
        // Another account, and the same from elsewhere.
        assert_eq!(ask(&limiter, &log_in("bob"), ADDRESS), None);
        assert_eq!(ask(&limiter, &log_in("alice"), OTHER), None);
        time.fetch_add(30_000, Ordering::SeqCst);
        assert_eq!(ask(&limiter, &log_in("alice"), ADDRESS), None);
        assert_eq!(ask(&limiter, &log_in("alice"), ADDRESS), Some(30));
    }

    // REQ A3, S5
    #[test]
    fn passwords_are_tried_so_often_for_an_account_from_all_addresses_together() {
        let (limiter, time) = limiter(|limits| limits.account_guesses = Rate::new(100, 1, 10));
        let tried =
            (0..=255).filter(|n| ask(&limiter, &log_in("alice"), Origin::V4([192, 0, 2, *n])).is_none());
        assert_eq!(tried.count(), 100);
        assert_eq!(ask(&limiter, &log_in("bob"), ADDRESS), None);
        assert_eq!(ask(&limiter, &log_in("alice"), OTHER), Some(10));
        assert_eq!(ask(&limiter, &words("alice"), OTHER), None, "words cannot be guessed");
        let device = Some(DeviceId::from_bytes([1; 16]));
        let payer = Payer::Address(OTHER);
        let tries = (0..20).filter(|_| limiter.judge_read(&log_in("alice"), OTHER, &payer, device).is_ok());
        assert_eq!(tries.count(), 10, "a device that shows its key has a share of its own");
        time.fetch_add(10_000, Ordering::SeqCst);
        assert_eq!(ask(&limiter, &log_in("alice"), OTHER), None);
    }

    // REQ S5
    #[test]
    fn an_address_asks_so_much_before_anybody_is_logged_in() {
        let (limiter, _) = limiter(|limits| limits.stranger_requests = Rate::new(2, 1, 5));
        let (ping, payer) = (Request::Ping(Box::new(Ping {})), Payer::Address(ADDRESS));
        let attach = Attach { proof: Signature::from_bytes([0; Signature::LENGTH]) };
        let attach = Request::Attach(Box::new(attach));
        // What cannot be read counts, too.
        limiter.judge(None, ADDRESS, &payer, true).unwrap();
        assert_eq!(ask(&limiter, &attach, ADDRESS), None);
        assert_eq!(ask(&limiter, &attach, ADDRESS), Some(5));
        // Who comes back is let in, and who asks whether the relay is there hears it.
        assert_eq!(ask(&limiter, &ping, ADDRESS), None);
        assert_eq!(limiter.judge(Some(Kind::Attach), ADDRESS, &payer, true), Ok(Verdict::Go));
        // An account has a share of its own.
        let payer = Payer::Account(account("alice"));
        assert_eq!(limiter.judge(None, ADDRESS, &payer, false), Ok(Verdict::Go));
    }

    // REQ R2
    #[test]
    fn an_account_asks_so_many_to_be_friends_and_writes_audibly_so_often() {
        let (limiter, time) = limiter(|limits| {
            (limits.friend_requests, limits.typing) = (Rate::new(2, 1, 60), Rate::new(1, 1, 1));
        });
        let payer = Payer::Account(account("alice"));
        let (befriend, typing) = (Some(Kind::FriendRequest), Some(Kind::Typing));
        // From whichever address.
        limiter.judge(befriend, ADDRESS, &payer, false).unwrap();
        limiter.judge(befriend, OTHER, &payer, false).unwrap();
        let refused = limiter.judge(befriend, OTHER, &payer, false).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::RateLimited, Some(60)));
        assert_eq!(limiter.judge(typing, ADDRESS, &payer, false), Ok(Verdict::Go));
        assert_eq!(limiter.judge(typing, ADDRESS, &payer, false), Ok(Verdict::Hush));
        time.fetch_add(1_000, Ordering::SeqCst);
        assert_eq!(limiter.judge(typing, ADDRESS, &payer, false), Ok(Verdict::Go));
    }

    // REQ S5
    #[test]
    fn whoever_does_nothing_for_a_while_is_forgotten() {
        let (limiter, time) = limiter(|_| ());
        for n in 0..=255 {
            let origin = Origin::V4([192, 0, 2, n]);
            drop(limiter.admit(std::net::Ipv4Addr::new(192, 0, 2, n).into()).unwrap());
            assert_eq!(ask(&limiter, &log_in(&format!("person{n}")), origin), None);
        }
        let remembered = limiter.len();
        let networks = 256 + 2;
        let counted = "arrivals, requests, those of strangers, and guesses twice";
        assert_eq!(remembered, networks + 4 * 256, "{counted}");
        limiter.sweep();
        assert_eq!(limiter.len(), remembered);
        time.fetch_add(31_000, Ordering::SeqCst);
        limiter.sweep();
        assert_eq!(limiter.len(), 256, "a guess from an address counts for longer than half a minute");
        time.fetch_add(31_000, Ordering::SeqCst);
        limiter.sweep();
        assert_eq!(limiter.len(), 0);
    }
}
