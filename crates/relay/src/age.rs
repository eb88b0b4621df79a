//! Sessions age by the time that the relay is at work: not while it is off, and not by a clock that jumps.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::context::Context;
use crate::store::{Committed, Rejection, Store, commit};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How often it is noted that the relay is at work, in milliseconds.
const NOTE: u64 = 60 * 60 * 1000;

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
            Ok(Committed { answer: last.unwrap_or(0).into(), ..Committed::default() })
        })
    });
    let last = commit(store, work).await?.answer.as_u64().unwrap_or(0);
    clock.settle(last);
    Ok(())
}

/// Looks after it as long as the relay serves.
pub(crate) async fn follow(context: Arc<Context>) {
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
