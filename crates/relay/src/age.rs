//! Sessions age by the time that the relay is at work: not while it is off, and not by a clock that jumps.
//! What has had its time is swept from the store.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::context::Context;
use crate::store::{Committed, Rejection, Store, commit};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How often it is noted that the relay is at work, in milliseconds.
const NOTE: u64 = 60 * 60 * 1000;

/// How long after the start the store is swept: whoever comes back then goes first.
const SOON: Duration = Duration::from_secs(60);
/// How often after that ...
const SWEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// ... and after a sweep that failed.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// So many rows are swept in one write, so that others do not wait for long ...
const BATCH: u32 = 500;
/// ... and then others have their turn.
const TURN: Duration = Duration::from_millis(100);

/// A day, in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1000;
/// Replaced prekeys are remembered so long: those of a day are counted, and none is taken twice.
const PREKEYS: u64 = DAY;
/// Friend requests wait so long for an answer, in milliseconds: else those that nobody answers would fill an
/// inbox for ever.
const REQUESTS: u64 = 90 * DAY;

/// Makes good for the time since the relay was last at work, before anybody is served.
pub(crate) async fn begin(store: &dyn Store, clock: &Clock) -> Result<(), Rejection> {
    let now = clock.now();
    let work: crate::store::Work = Box::new(move |tx| {
        Box::pin(async move {
            let last = tx.last_at_work().await?;
            let off = last.map_or(0, |last| now.saturating_sub(last));
            if off > NOTE {
                tx.extend_sessions(off).await?;
            }
            tx.note_at_work(now.max(last.unwrap_or(0))).await?;
            // What was believed before is told to the clock below.
            Ok(Committed { answer: last.unwrap_or(0).to_string(), ..Committed::default() })
        })
    });
    let last = commit(store, work).await?.answer.parse().unwrap_or(0);
    clock.settle(last);
    Ok(())
}

/// Looks after it as long as the relay serves.
pub(crate) async fn follow(context: Arc<Context>) {
    tokio::join!(follow_clock(&context), follow_store(&context));
}

async fn follow_clock(context: &Context) {
    let mut noted = context.clock.now();
    while let Some(()) = context.draining.run_until_cancelled(tokio::time::sleep(LOOK)).await {
        let jump = context.clock.jump();
        if jump.is_none() && context.clock.now().saturating_sub(noted) < NOTE {
            context.clock.settle(0);
            continue;
        }
        if let Some(ahead) = jump {
            tracing::warn!(hours = ahead / NOTE, "the clock has jumped ahead; sessions last so much longer");
        }
        match note(&*context.store, &context.clock, jump.unwrap_or(0)).await {
            Ok(()) => {
                context.clock.settle(0);
                noted = context.clock.now();
            }
            // It is tried again; until then the clock stands where it has jumped.
            Err(_) => tracing::warn!("it was not noted that the relay is at work"),
        }
    }
}

async fn note(store: &dyn Store, clock: &Clock, ahead: u64) -> Result<(), Rejection> {
    let now = clock.now().saturating_add(ahead);
    let work: crate::store::Work = Box::new(move |tx| {
        Box::pin(async move {
            if ahead > 0 {
                tx.extend_sessions(ahead).await?;
            }
            let last = tx.last_at_work().await?.unwrap_or(0);
            tx.note_at_work(now.max(last)).await?;
            Ok(Committed::default())
        })
    });
    commit(store, work).await.map(drop)
}

async fn follow_store(context: &Context) {
    let mut wait = SOON;
    while let Some(()) = context.draining.run_until_cancelled(tokio::time::sleep(wait)).await {
        wait = match sweep(&*context.store, context.clock.now(), &context.draining).await {
            Ok(()) => SWEEP,
            Err(error) => {
                tracing::warn!(%error, "what has had its time was not swept; it is tried again in an hour");
                AGAIN
            }
        };
    }
}

/// What has its time.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Sessions,
    PreKeys,
    Requests,
    Invitations,
}

impl Kind {
    /// Before when it has had it.
    const fn before(self, now: u64) -> u64 {
        match self {
            Self::Sessions | Self::Invitations => now,
            Self::PreKeys => now.saturating_sub(PREKEYS),
            Self::Requests => now.saturating_sub(REQUESTS),
        }
    }
}

/// Sweeps everything that has had its time, or what can be done until the relay stops.
async fn sweep(store: &dyn Store, now: u64, stop: &CancellationToken) -> Result<(), Rejection> {
    for kind in [Kind::Sessions, Kind::PreKeys, Kind::Requests, Kind::Invitations] {
        while sweep_some(store, kind, kind.before(now)).await? {
            if stop.run_until_cancelled(tokio::time::sleep(TURN)).await.is_none() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether there may be more.
async fn sweep_some(store: &dyn Store, kind: Kind, before: u64) -> Result<bool, Rejection> {
    let work: crate::store::Work = Box::new(move |tx| {
        Box::pin(async move {
            let count = match kind {
                Kind::Sessions => tx.sweep_sessions(before, BATCH).await?,
                Kind::PreKeys => tx.sweep_prekeys(before, BATCH).await?,
                Kind::Requests => tx.sweep_requests(before, BATCH).await?,
                Kind::Invitations => tx.sweep_invitations(before, BATCH).await?,
            };
            Ok(Committed { answer: count.to_string(), ..Committed::default() })
        })
    });
    let count = commit(store, work).await?.answer.parse().unwrap_or(0);
    if count > 0 {
        tracing::debug!(?kind, count, "swept");
    }
    Ok(count >= u64::from(BATCH))
}

#[cfg(test)]
mod tests {
    use mildam_protocol::records::id::{AccountId, Hash};

    use super::*;
    use crate::store::conformance::new_account;
    use crate::store::{SessionRow, SqliteStore, load};

    fn tag(n: u16) -> Hash {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        Hash::from_bytes(bytes)
    }

    // REQ S1
    #[tokio::test]
    async fn what_has_had_its_time_is_swept_bit_by_bit() {
        const NOW: u64 = 1_000 * DAY;
        const SESSIONS: u16 = 1_100;
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("relay.db"), Arc::default()).await.unwrap();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| name.parse::<AccountId>().unwrap());
        let device = new_account("alice", 1).keys.prekey.device;
        let asked = bob.clone();
        let work: crate::store::Work = Box::new(move |tx| {
            Box::pin(async move {
                for (name, byte) in [("alice", 1), ("bob", 2), ("carol", 3)] {
                    tx.insert_account(&new_account(name, byte)).await?;
                }
                for n in 0..=SESSIONS {
                    // Each ends the one before; the last has not expired.
                    let expires_at = if n < SESSIONS { NOW - 1 } else { NOW + 1 };
                    let account = alice.clone();
                    let session = SessionRow { account, device, created_at: 1, expires_at, ended: false };
                    tx.put_session(&tag(n), &session).await?;
                }
                tx.insert_request(&alice, &bob, "", NOW - REQUESTS - 1).await?;
                tx.insert_request(&carol, &bob, "", NOW - REQUESTS).await?;
                Ok(Committed::default())
            })
        });
        commit(&store, work).await.unwrap();
        sweep(&store, NOW, &CancellationToken::new()).await.unwrap();
        let (kept, waiting) = load(&store, move |tx| {
            Box::pin(async move {
                let mut kept = Vec::new();
                for n in 0..=SESSIONS {
                    if tx.session(&tag(n)).await?.is_some() {
                        kept.push(n);
                    }
                }
                Ok((kept, tx.requests_to(&asked).await?.len()))
            })
        })
        .await
        .unwrap();
        assert_eq!((kept, waiting), (vec![SESSIONS], 1));
        store.close().await;
    }
}
