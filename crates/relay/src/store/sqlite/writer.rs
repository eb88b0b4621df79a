//! The task that writes, and what waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::super::turns::{Turn, Turns};
use super::super::{Committed, Rejection, Settle, StoreError, Work};
use super::SqliteTransaction;
use crate::metrics::{Counted, Metrics};

/// The most pieces of work in one commit.
const GROUP: usize = 256;
/// After so long no more of them are begun: those that are done wait for the commit.
const GROUP_TIME: Duration = Duration::from_millis(5);
/// How much work may wait in all. Each account has a share of its own in what is in hand.
const QUEUE: usize = 16 * 1024;

/// A piece of work that waits.
struct Job {
    work: Work,
    settle: Settle,
    _place: OwnedSemaphorePermit,
    _waits: Counted,
}

/// What waits for the writer.
pub(super) struct Queue {
    jobs: Mutex<Jobs>,
    filled: Notify,
    places: Arc<Semaphore>,
    closed: CancellationToken,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Jobs {
    turns: Turns<Job>,
    /// No more is taken.
    ended: bool,
}

impl Queue {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            jobs: Mutex::default(),
            filled: Notify::new(),
            places: Arc::new(Semaphore::new(QUEUE)),
            closed: CancellationToken::new(),
            metrics,
        })
    }

    /// Puts work where it waits for its turn.
    pub(super) async fn push(&self, turn: Turn, work: Work, settle: Settle) -> Result<(), StoreError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let job = Job { work, settle, _place: place, _waits: self.metrics.job_waits() };
        let mut jobs = self.jobs();
        if jobs.ended {
            return Err(StoreError::Closed);
        }
        jobs.turns.push(turn, job);
        drop(jobs);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until nothing is taken any more.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Takes nothing any more; what waits is still done.
    fn end(&self) {
        self.jobs().ended = true;
        self.places.close();
        self.closed.cancel();
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // Nothing that happens under the lock can leave the queue half changed.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("len", &self.jobs().turns.len()).finish_non_exhaustive()
    }
}

/// Owns the connection that writes.
pub(super) struct Writer {
    connection: SqliteConnection,
    queue: Arc<Queue>,
    stop: CancellationToken,
}

type Outcome = Result<Committed, Rejection>;

impl Writer {
    pub(super) const fn new(
        connection: SqliteConnection,
        queue: Arc<Queue>,
        stop: CancellationToken,
    ) -> Self {
        Self { connection, queue, stop }
    }

    /// Works until it is told to stop, then finishes what waits.
    pub(super) async fn run(mut self) {
        // Also if it panics: nobody must wait for it.
        let _ended = Ended(Arc::clone(&self.queue));
        loop {
            if self.commit().await {
                continue;
            }
            if self.queue.closed.is_cancelled() {
                break;
            }
            tokio::select! {
                biased;
                // What came until then is still done.
                () = self.stop.cancelled() => self.queue.end(),
                () = self.queue.filled.notified() => {}
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::error!(%error, "closing the database failed");
        }
    }

    /// Does some of what waits; false if there is nothing.
    async fn commit(&mut self) -> bool {
        let begun = Instant::now();
        let mut settles = Vec::new();
        match self.run_group(begun, &mut settles).await {
            Ok(outcomes) => {
                if settles.is_empty() {
                    return false;
                }
                self.queue.metrics.committed(settles.len(), begun.elapsed());
                for (settle, outcome) in settles.into_iter().zip(outcomes) {
                    settle(outcome);
                }
            }
            Err(error) => {
                tracing::error!(%error, works = settles.len(), "nothing could be stored");
                // SQLite may have undone everything by itself; then there is nothing to undo.
                if let Err(error) = self.execute("ROLLBACK").await {
                    tracing::debug!(%error, "there was nothing to undo");
                }
                for settle in settles {
                    settle(Err(StoreError::Unavailable.into()));
                }
            }
        }
        true
    }

    /// Runs what is next, as much as belongs together, and commits once. An error means that nothing of the
    /// group was stored.
    async fn run_group(
        &mut self,
        begun: Instant,
        settles: &mut Vec<Settle>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::new();
        while outcomes.is_empty() || outcomes.len() < GROUP && begun.elapsed() < GROUP_TIME {
            let next = self.queue.jobs().turns.pop();
            let Some((turn, Job { work, settle, .. })) = next else { break };
            settles.push(settle);
            let began = Instant::now();
            if outcomes.is_empty() {
                self.execute("BEGIN IMMEDIATE").await?;
            }
            let outcome = self.run_one(work).await;
            self.queue.jobs().turns.charge(turn, began.elapsed());
            outcomes.push(outcome?);
        }
        if !outcomes.is_empty() {
            self.execute("COMMIT").await?;
        }
        Ok(outcomes)
    }

    async fn run_one(&mut self, work: Work) -> Result<Outcome, StoreError> {
        self.execute("SAVEPOINT work").await?;
        let outcome = work(&mut SqliteTransaction(&mut self.connection)).await;
        match outcome {
            Ok(_) => self.execute("RELEASE work").await?,
            // A failing database may have undone the whole transaction by itself: nothing that ran in it can
            // be trusted.
            Err(Rejection::Store(error @ StoreError::Database(_))) => return Err(error),
            Err(_) => self.execute("ROLLBACK TO work; RELEASE work").await?,
        }
        Ok(outcome)
    }

    /// Runs a statement as it is. The transactions of `sqlx` count their own depth and would lose
    /// count where SQLite ends a transaction by itself, as it does when the disk is full.
    async fn execute(&mut self, statement: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(statement).execute(&mut self.connection).await?;
        Ok(())
    }
}

/// Ends the queue when it is dropped, and gives up what waits.
struct Ended(Arc<Queue>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
        let given_up = std::mem::take(&mut self.0.jobs().turns);
        drop(given_up);
    }
}
