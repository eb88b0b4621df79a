//! The embedded store: one SQLite file.
//!
//! One task owns the only connection that writes. It takes all work that waits, runs it in one
//! transaction, each piece in a savepoint of its own, and commits once: the cost of making things
//! durable is shared by everybody who writes at the same time. Readers have connections of their
//! own and are never in its way (WAL).

mod accounts;
mod column;
mod friends;
mod log;
mod migrate;
mod rooms;
mod writer;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use super::{Committed, Rejection, Settle, Store, StoreError, Transaction, Work};
use writer::{Job, Writer};

/// How much work may wait for the writer.
const QUEUE: usize = 1024;
/// Connections that read.
const READERS: u32 = 4;

/// A [`Store`] in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    readers: SqlitePool,
    queue: mpsc::Sender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
    stop: tokio_util::sync::CancellationToken,
}

impl SqliteStore {
    /// Opens the file, or makes it, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be used.
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            // What is deleted leaves no trace in the file.
            .pragma("secure_delete", "ON")
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        migrate::run(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let stop = tokio_util::sync::CancellationToken::new();
        let writer = tokio::spawn(Writer::new(connection, jobs, stop.clone()).run());
        Ok(Self { readers, queue, writer: Mutex::new(Some(writer)), stop })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn write(&self, work: Work, settle: Settle) -> Result<(), StoreError> {
        self.queue.send(Job { work, settle }).await.map_err(|_| StoreError::Closed)
    }

    async fn read(&self, work: Work) -> Result<Committed, Rejection> {
        let mut connection = self.readers.acquire().await.map_err(StoreError::from)?;
        let mut transaction = connection.begin().await.map_err(StoreError::from)?;
        let outcome = work(&mut SqliteTransaction(&mut transaction)).await;
        transaction.rollback().await.map_err(StoreError::from)?;
        outcome
    }

    async fn close(&self) {
        self.stop.cancel();
        if let Some(writer) = self.writer.lock().await.take() {
            // A writer that panicked has nothing left to finish.
            let _ = writer.await;
        }
        self.readers.close().await;
    }
}

/// A [`Transaction`] on one connection; whoever makes it begins and ends the SQL transaction.
struct SqliteTransaction<'c>(&'c mut SqliteConnection);

impl Transaction for SqliteTransaction<'_> {}
