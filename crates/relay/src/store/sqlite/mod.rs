//! The embedded store: one SQLite file.
//!
//! One task owns the only connection that writes. It takes work that waits, in fair turns, runs it in one
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
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{Committed, Rejection, Settle, Store, StoreError, Transaction, Turn, Work};
use crate::metrics::Metrics;
use writer::{Queue, Writer};

/// Connections that read.
const READERS: u32 = 4;

/// A [`Store`] in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    readers: SqlitePool,
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    stop: tokio_util::sync::CancellationToken,
}

impl SqliteStore {
    /// Opens the file, or makes it, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be used.
    pub(crate) async fn open(file: &Path, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        Self::open_with(SqliteConnectOptions::new().filename(file), metrics).await
    }

    async fn open_with(options: SqliteConnectOptions, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            // What is deleted leaves no trace in the file.
            .pragma("secure_delete", "ON")
            // KiB, if negative: what is read again and again.
            .pragma("cache_size", "-8192")
            // A WAL that grew while somebody read for long is cut back.
            .pragma("journal_size_limit", "67108864")
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        migrate::run(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            // All of them at once, and for good: when files are short it is too late to open one.
            .min_connections(READERS)
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        let queue = Queue::new(metrics);
        let stop = tokio_util::sync::CancellationToken::new();
        let writer = tokio::spawn(Writer::new(connection, Arc::clone(&queue), stop.clone()).run());
        Ok(Self { readers, queue, writer: Mutex::new(Some(writer)), stop })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn write(&self, turn: Turn, work: Work, settle: Settle) -> Result<(), StoreError> {
        self.queue.push(turn, work, settle).await
    }

    async fn read(&self, work: Work) -> Result<Committed, Rejection> {
        let mut connection = self.readers.acquire().await.map_err(StoreError::from)?;
        let mut transaction = connection.begin().await.map_err(StoreError::from)?;
        let outcome = work(&mut SqliteTransaction(&mut transaction)).await;
        transaction.rollback().await.map_err(StoreError::from)?;
        outcome
    }

    async fn closed(&self) {
        self.queue.closed().await;
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

impl SqliteTransaction<'_> {
    /// Deletes rows of before a time (`?1`), so many at most (`?2`); tells how many.
    async fn sweep(&mut self, delete: &'static str, before: u64, limit: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(delete)
            .bind(column::integer(before))
            .bind(i64::from(limit))
            .execute(&mut *self.0)
            .await?;
        Ok(done.rows_affected())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::conformance::{Place, store_conformance};
    use super::super::{BoxFuture, commit, load};
    use super::*;

    struct File(TempDir);

    impl File {
        fn options(&self) -> SqliteConnectOptions {
            SqliteConnectOptions::new().filename(self.0.path().join("relay.db"))
        }
    }

    #[async_trait]
    impl Place for File {
        async fn open(&self) -> Arc<dyn Store> {
            Arc::new(SqliteStore::open_with(self.options(), Arc::default()).await.unwrap())
        }
    }

    fn place() -> File {
        File(tempfile::tempdir().unwrap())
    }

    store_conformance!(place);

    fn fill(tx: &mut dyn Transaction, n: u64, bytes: usize) -> BoxFuture<'_, Result<Committed, Rejection>> {
        Box::pin(async move {
            let request = format!("{n} {}", "x".repeat(bytes));
            let name = |text: &str| text.parse().unwrap();
            tx.delete_request(&name("alice"), &name("bob")).await?;
            tx.insert_request(&name("alice"), &name("bob"), &request, n).await?;
            Ok(Committed::default())
        })
    }

    // REQ S1
    #[tokio::test]
    async fn a_full_disk_refuses_and_is_survived() {
        let file = place();
        let store = file.open().await;
        for (name, byte) in [("alice", 1), ("bob", 2)] {
            let account = super::super::conformance::new_account(name, byte);
            let work: Work = Box::new(move |tx| {
                Box::pin(async move {
                    tx.insert_account(&account).await?;
                    Ok(Committed::default())
                })
            });
            commit(&*store, work).await.unwrap();
        }
        store.close().await;
        // As large as it may ever get.
        let full = SqliteStore::open_with(file.options().pragma("max_page_count", "60"), Arc::default())
            .await
            .unwrap();
        commit(&full, Box::new(|tx| fill(tx, 1, 10))).await.unwrap();
        let refused = commit(&full, Box::new(|tx| fill(tx, 2, 1_000_000))).await;
        assert!(matches!(refused, Err(Rejection::Store(_))), "{refused:?}");
        let kept =
            load(&full, |tx| Box::pin(async move { Ok(tx.requests_to(&"bob".parse().unwrap()).await?) }));
        assert_eq!(kept.await.unwrap()[0].requested_at, 1);
        commit(&full, Box::new(|tx| fill(tx, 3, 20))).await.unwrap();
        full.close().await;
    }

    // REQ S1
    #[tokio::test]
    async fn a_migration_that_fails_changes_nothing() {
        let file = place();
        let options = file.options().create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(migrate::MIGRATIONS[0]).execute(&mut connection).await.unwrap();
        let rows = "PRAGMA user_version = 1;
            INSERT INTO account VALUES ('alice', '', 'hash', x'01', x'', x'', x'', x'', x'', 1);
            INSERT INTO device VALUES ('alice', x'01', x'');
            INSERT INTO prekey VALUES ('alice', x'01', x'02', 'this is no JSON', NULL)";
        sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();

        assert!(SqliteStore::open_with(file.options(), Arc::default()).await.is_err());
        let mut connection = SqliteConnection::connect_with(&file.options()).await.unwrap();
        let kept = "SELECT password_hash || (SELECT user_version FROM pragma_user_version) FROM account";
        let kept: String = sqlx::query_scalar(kept).fetch_one(&mut connection).await.unwrap();
        assert_eq!(kept, "hash1");
        // Once the row is mended everything goes on.
        let mend = r#"UPDATE prekey SET body = '{"created_at":7}'"#;
        sqlx::raw_sql(mend).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        file.open().await.close().await;
        let mut connection = SqliteConnection::connect_with(&file.options()).await.unwrap();
        let made_at = sqlx::query_scalar("SELECT created_at FROM prekey");
        let made_at: i64 = made_at.fetch_one(&mut connection).await.unwrap();
        assert_eq!(made_at, 7);
        connection.close().await.unwrap();
    }

    // REQ S1
    #[tokio::test]
    async fn data_of_a_newer_program_are_left_alone() {
        let file = place();
        file.open().await.close().await;
        let mut connection = SqliteConnection::connect_with(&file.options()).await.unwrap();
        sqlx::raw_sql("PRAGMA user_version = 999").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let refused = SqliteStore::open_with(file.options(), Arc::default()).await;
        assert!(matches!(refused, Err(StoreError::Newer { found: 999, .. })));
    }
}
