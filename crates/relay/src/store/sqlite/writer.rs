//! The task that writes.

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::{Committed, Rejection, Settle, StoreError, Work};
use super::SqliteTransaction;

/// The most pieces of work in one commit.
const GROUP: usize = 256;

/// A piece of work that waits.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) settle: Settle,
}

/// Owns the connection that writes.
pub(super) struct Writer {
    connection: SqliteConnection,
    jobs: mpsc::Receiver<Job>,
    stop: CancellationToken,
}

type Outcome = Result<Committed, Rejection>;

impl Writer {
    pub(super) const fn new(
        connection: SqliteConnection,
        jobs: mpsc::Receiver<Job>,
        stop: CancellationToken,
    ) -> Self {
        Self { connection, jobs, stop }
    }

    /// Works until it is told to stop, then finishes what waits.
    pub(super) async fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                biased;
                count = self.jobs.recv_many(&mut group, GROUP) => if count == 0 { break },
                () = self.stop.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
            }
            if !group.is_empty() {
                self.commit(group.drain(..)).await;
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::error!(%error, "closing the database failed");
        }
    }

    async fn commit(&mut self, group: impl Iterator<Item = Job>) {
        let (works, settles): (Vec<_>, Vec<_>) = group.map(|job| (job.work, job.settle)).unzip();
        match self.run_group(works).await {
            Ok(outcomes) => {
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
    }

    /// Runs all works and commits once. An error means that nothing of the group was stored.
    async fn run_group(&mut self, works: Vec<Work>) -> Result<Vec<Outcome>, StoreError> {
        self.execute("BEGIN IMMEDIATE").await?;
        let mut outcomes = Vec::with_capacity(works.len());
        for work in works {
            self.execute("SAVEPOINT work").await?;
            let outcome = work(&mut SqliteTransaction(&mut self.connection)).await;
            match outcome {
                Ok(_) => self.execute("RELEASE work").await?,
                // A failing database may have undone the whole transaction by itself: nothing
                // that ran in it can be trusted.
                Err(Rejection::Store(error @ StoreError::Database(_))) => return Err(error),
                Err(_) => self.execute("ROLLBACK TO work; RELEASE work").await?,
            }
            outcomes.push(outcome);
        }
        self.execute("COMMIT").await?;
        Ok(outcomes)
    }

    /// Runs a statement as it is. The transactions of `sqlx` count their own depth and would lose
    /// count where SQLite ends a transaction by itself, as it does when the disk is full.
    async fn execute(&mut self, statement: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(statement).execute(&mut self.connection).await?;
        Ok(())
    }
}
