//! Friends and requests.

use async_trait::async_trait;
use mildam_protocol::command::{Friend, PendingFriend};
use mildam_protocol::records::id::AccountId;
use sqlx::sqlite::SqliteRow;

use super::super::{Friends, StoreError};
use super::SqliteTransaction;
use super::column::{Columns, integer};

#[async_trait]
impl Friends for SqliteTransaction<'_> {
    async fn friends_since(&mut self, one: &AccountId, other: &AccountId) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query("SELECT since FROM friend WHERE account = ?1 AND friend = ?2")
            .bind(one.as_str())
            .bind(other.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| Columns::new(&row, "friend").integer("since")).transpose()
    }

    async fn insert_friends(
        &mut self,
        one: &AccountId,
        other: &AccountId,
        since: u64,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO friend (account, friend, since) VALUES (?1, ?2, ?3), (?2, ?1, ?3)")
            .bind(one.as_str())
            .bind(other.as_str())
            .bind(integer(since))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn friends(&mut self, account: &AccountId) -> Result<Vec<Friend>, StoreError> {
        let rows = sqlx::query(
            "SELECT friend.friend, account.nickname, friend.since
             FROM friend JOIN account ON account.id = friend.friend
             WHERE friend.account = ?1 ORDER BY friend.friend",
        )
        .bind(account.as_str())
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter()
            .map(|row| {
                let columns = Columns::new(row, "friend");
                Ok(Friend {
                    account: columns.account("friend")?,
                    nickname: columns.text("nickname")?.to_owned(),
                    since: columns.integer("since")?,
                })
            })
            .collect()
    }

    async fn friend_count(&mut self, account: &AccountId) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT count(*) AS count FROM friend WHERE account = ?1")
            .bind(account.as_str())
            .fetch_one(&mut *self.0)
            .await?;
        Columns::new(&row, "friend").integer("count")
    }

    async fn has_request(&mut self, sender: &AccountId, receiver: &AccountId) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM friend_request WHERE sender = ?1 AND receiver = ?2")
            .bind(sender.as_str())
            .bind(receiver.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        Ok(row.is_some())
    }

    async fn insert_request(
        &mut self,
        sender: &AccountId,
        receiver: &AccountId,
        greeting: &str,
        requested_at: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO friend_request (sender, receiver, greeting, requested_at)
             VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(sender.as_str())
        .bind(receiver.as_str())
        .bind(greeting)
        .bind(integer(requested_at))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn delete_request(&mut self, sender: &AccountId, receiver: &AccountId) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM friend_request WHERE sender = ?1 AND receiver = ?2")
            .bind(sender.as_str())
            .bind(receiver.as_str())
            .execute(&mut *self.0)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    async fn sweep_requests(&mut self, before: u64, limit: u32) -> Result<u64, StoreError> {
        self.sweep(
            "DELETE FROM friend_request WHERE (sender, receiver) IN (
                SELECT sender, receiver FROM friend_request WHERE requested_at < ?1
                ORDER BY requested_at LIMIT ?2)",
            before,
            limit,
        )
        .await
    }

    async fn requests_to(&mut self, account: &AccountId) -> Result<Vec<PendingFriend>, StoreError> {
        let rows = sqlx::query(
            "SELECT request.sender AS other, account.nickname, request.greeting,
                request.requested_at
             FROM friend_request AS request JOIN account ON account.id = request.sender
             WHERE request.receiver = ?1 ORDER BY request.requested_at, request.sender",
        )
        .bind(account.as_str())
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter().map(pending).collect()
    }

    async fn requests_from(&mut self, account: &AccountId) -> Result<Vec<PendingFriend>, StoreError> {
        let rows = sqlx::query(
            "SELECT receiver AS other, '' AS nickname, greeting, requested_at
             FROM friend_request WHERE sender = ?1 ORDER BY requested_at, receiver",
        )
        .bind(account.as_str())
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter().map(pending).collect()
    }
}

fn pending(row: &SqliteRow) -> Result<PendingFriend, StoreError> {
    let columns = Columns::new(row, "friend_request");
    Ok(PendingFriend {
        account: columns.account("other")?,
        nickname: columns.text("nickname")?.to_owned(),
        greeting: columns.text("greeting")?.to_owned(),
        requested_at: columns.integer("requested_at")?,
    })
}
