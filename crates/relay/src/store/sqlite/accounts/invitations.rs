//! Invitations.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use mildam_protocol::records::id::{AccountId, Hash};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::super::super::{InvitationRow, Invitations, SqliteStore, StoreError};
use super::super::SqliteTransaction;
use super::super::column::{Columns, integer};
use super::super::migrate::MIGRATIONS;

/// How long who writes beside a relay waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);

impl SqliteStore {
    /// Adds an invitation to a file that a relay may have open: SQLite lets one write at a time.
    ///
    /// # Errors
    /// [`StoreError::Older`] and [`StoreError::Newer`] if the file is not of this version, [`StoreError`] if
    /// it cannot be used.
    pub(crate) async fn invite(
        file: &Path,
        tag: &Hash,
        invitation: &InvitationRow,
    ) -> Result<(), StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(PATIENCE)
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        if found < known {
            return Err(StoreError::Older);
        }
        SqliteTransaction(&mut connection).insert_invitation(tag, invitation).await?;
        Ok(connection.close().await?)
    }
}

#[async_trait]
impl Invitations for SqliteTransaction<'_> {
    async fn insert_invitation(&mut self, tag: &Hash, invitation: &InvitationRow) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO invitation (tag, created_at, expires_at, used_by) VALUES (?1, ?2, ?3, ?4)")
            .bind(tag.as_bytes().as_slice())
            .bind(integer(invitation.created_at))
            .bind(integer(invitation.expires_at))
            .bind(invitation.used_by.as_ref().map(AccountId::as_str))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn invitation(&mut self, tag: &Hash) -> Result<Option<InvitationRow>, StoreError> {
        let row = sqlx::query(
            "SELECT created_at, expires_at, used_by IS NOT NULL AS used, coalesce(used_by, '') AS used_by
             FROM invitation WHERE tag = ?1",
        )
        .bind(tag.as_bytes().as_slice())
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(|row| {
            let columns = Columns::new(&row, "invitation");
            Ok(InvitationRow {
                created_at: columns.integer("created_at")?,
                expires_at: columns.integer("expires_at")?,
                used_by: if columns.flag("used")? { Some(columns.account("used_by")?) } else { None },
            })
        })
        .transpose()
    }

    async fn use_invitation(&mut self, tag: &Hash, by: &AccountId, now: u64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE invitation SET used_by = ?2 WHERE tag = ?1 AND used_by IS NULL AND expires_at > ?3",
        )
        .bind(tag.as_bytes().as_slice())
        .bind(by.as_str())
        .bind(integer(now))
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    async fn sweep_invitations(&mut self, before: u64, limit: u32) -> Result<u64, StoreError> {
        self.sweep(
            "DELETE FROM invitation WHERE tag IN (
                SELECT tag FROM invitation WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
            before,
            limit,
        )
        .await
    }
}
