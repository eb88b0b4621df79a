//! The schema, one file for each version. `user_version` says which ones a database has seen.

use std::path::Path;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::super::StoreError;
use crate::data_dir;

pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
];

/// Brings a database up to date.
pub(super) async fn run(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    close_files(connection).await?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    let done = usize::try_from(found).map_err(|_| StoreError::Corrupt("user_version"))?;
    // A table that is made anew is gone for a moment, and what belongs to its rows must stay. Within a
    // transaction this cannot be said any more; who fails here does not go on with the connection.
    sqlx::raw_sql("PRAGMA foreign_keys = OFF").execute(&mut *connection).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for migration in MIGRATIONS.iter().skip(done) {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    if found < known {
        let loose = sqlx::query("PRAGMA foreign_key_check").fetch_optional(&mut *transaction).await?;
        if loose.is_some() {
            return Err(StoreError::Corrupt("what belongs to another row"));
        }
    }
    // A pragma takes no parameters; the number is our own.
    let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {known}"));
    sqlx::raw_sql(version).execute(&mut *transaction).await?;
    transaction.commit().await?;
    sqlx::raw_sql("PRAGMA foreign_keys = ON").execute(&mut *connection).await?;
    Ok(())
}

/// Closes the database's files to everybody but their owner. SQLite makes the database by the process's
/// umask, and those beside it with the mode that it has then.
async fn close_files(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let file = "SELECT file FROM pragma_database_list WHERE name = 'main'";
    let file: Option<String> = sqlx::query_scalar(file).fetch_one(&mut *connection).await?;
    // One that is in memory has none.
    let Some(file) = file.filter(|file| !file.is_empty()) else { return Ok(()) };
    for end in ["", "-wal", "-shm"] {
        data_dir::close_file(Path::new(&format!("{file}{end}"))).map_err(sqlx::Error::Io)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    const SOURCES: [&str; 5] = [
        include_str!("accounts.rs"),
        include_str!("accounts/invitations.rs"),
        include_str!("friends.rs"),
        include_str!("log.rs"),
        include_str!("rooms.rs"),
    ];

    /// All statements that look something up, as they stand in the sources.
    fn statements() -> Vec<&'static str> {
        let mut found = Vec::new();
        for source in SOURCES {
            for verb in ["SELECT ", "UPDATE ", "DELETE "] {
                for (at, _) in source.match_indices(&format!("\"{verb}")) {
                    let rest = &source[at + 1..];
                    found.push(&rest[..rest.find('"').unwrap()]);
                }
            }
        }
        found
    }

    /// These concern every row there is, or any one.
    fn may_scan(statement: &str) -> bool {
        let all = [
            "UPDATE session SET expires_at = min(",
            "SELECT last_at FROM work",
            "SELECT id FROM account LIMIT 1",
        ];
        all.iter().any(|begin| statement.starts_with(begin))
    }

    // REQ S1
    #[tokio::test]
    async fn accounts_and_what_is_theirs_outlive_a_table_made_anew() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for migration in MIGRATIONS.iter().take(5) {
            sqlx::raw_sql(*migration).execute(&mut connection).await.unwrap();
        }
        let account = |id: &str| {
            let columns = "id, nickname, email_tag, email_sealed, identity_key, identity, sealed_identity, list, \
                           created_at, hidden";
            sqlx::AssertSqlSafe(format!(
                "INSERT INTO account ({columns})
                 VALUES ('{id}', 'nick', x'01', x'02', x'03', x'04', x'05', x'06', 7, 1)"
            ))
        };
        let device = |id: &str| {
            let insert = "INSERT INTO device (account, device, device_key)";
            sqlx::AssertSqlSafe(format!("{insert} VALUES ('{id}', x'08', x'09')"))
        };
        sqlx::raw_sql("PRAGMA user_version = 5").execute(&mut connection).await.unwrap();
        sqlx::raw_sql(account("alice")).execute(&mut connection).await.unwrap();
        sqlx::raw_sql(device("alice")).execute(&mut connection).await.unwrap();
        assert!(sqlx::raw_sql(account("bob")).execute(&mut connection).await.is_err(), "her address");
        run(&mut connection).await.unwrap();
        let kept = "SELECT nickname || created_at || hidden || hex(identity) || hex(device)
             FROM account JOIN device ON device.account = account.id";
        let kept: Vec<String> = sqlx::query_scalar(kept).fetch_all(&mut connection).await.unwrap();
        assert_eq!(kept, ["nick710408"]);
        // Addresses are nobody's any more, and foreign keys hold as before.
        sqlx::raw_sql(account("bob")).execute(&mut connection).await.unwrap();
        assert!(sqlx::raw_sql(device("nobody")).execute(&mut connection).await.is_err());
        assert!(
            sqlx::raw_sql("DELETE FROM account WHERE id = 'alice'").execute(&mut connection).await.is_err()
        );
        connection.close().await.unwrap();
    }

    // REQ S1
    #[tokio::test]
    async fn no_statement_reads_a_whole_table() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        run(&mut connection).await.unwrap();
        let statements = statements();
        assert!(statements.len() > 40, "only {} were found", statements.len());
        for statement in statements {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let plan = sqlx::raw_sql(explain).fetch_all(&mut connection).await.unwrap();
            assert!(!plan.is_empty(), "{statement}");
            for step in plan {
                let step: String = step.get("detail");
                assert!(!step.starts_with("SCAN ") || may_scan(statement), "{step}: {statement}");
            }
        }
        connection.close().await.unwrap();
    }
}
