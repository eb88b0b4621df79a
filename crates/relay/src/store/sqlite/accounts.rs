//! Accounts, their public keys, and sessions.

mod invitations;

use async_trait::async_trait;
use mildam_protocol::records::id::{AccountId, DeviceId, Hash};
use mildam_protocol::records::{AccountKeys, DeviceList, DevicePublicKey, IdentityPublicKey, SignedPreKey};

use super::super::{
    AccountRow, Accounts, KeysRow, NewAccount, PreKeyMark, SessionRow, Sessions, Standing, StoreError,
};
use super::SqliteTransaction;
use super::column::{Columns, integer, json};

fn device_key(bytes: &[u8], what: &'static str) -> Result<DevicePublicKey, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::Corrupt(what))?;
    DevicePublicKey::from_bytes(bytes).map_err(|_| StoreError::Corrupt(what))
}

impl SqliteTransaction<'_> {
    /// Adds a list, and rows for devices that are new in it.
    async fn insert_list(&mut self, list: &DeviceList, now: u64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO device_list (account, generation, version, body, stored_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(list.account.as_str())
        .bind(integer(list.generation))
        .bind(integer(list.version))
        .bind(json(list, "device_list")?)
        .bind(integer(now))
        .execute(&mut *self.0)
        .await?;
        for certificate in &list.certificates {
            sqlx::query(
                "INSERT INTO device (account, device, device_key) VALUES (?1, ?2, ?3)
                 ON CONFLICT (account, device) DO NOTHING",
            )
            .bind(list.account.as_str())
            .bind(certificate.device.as_bytes().as_slice())
            .bind(certificate.device_key.as_bytes().as_slice())
            .execute(&mut *self.0)
            .await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Accounts for SqliteTransaction<'_> {
    async fn account(&mut self, id: &AccountId) -> Result<Option<AccountRow>, StoreError> {
        let row = sqlx::query(
            "SELECT nickname, password, recovery_key, sealed_identity, list FROM account WHERE id = ?1",
        )
        .bind(id.as_str())
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(|row| {
            let columns = Columns::new(&row, "account");
            Ok(AccountRow {
                nickname: columns.text("nickname")?.to_owned(),
                password: columns.optional_bytes("password")?.map(<[u8]>::to_vec),
                recovery_key: columns
                    .optional_bytes("recovery_key")?
                    .map(|key| device_key(key, "account"))
                    .transpose()?,
                sealed_identity: columns.bytes("sealed_identity")?.to_vec(),
                list: columns.hash("list")?,
            })
        })
        .transpose()
    }

    async fn standing(&mut self, id: &AccountId) -> Result<Option<Standing>, StoreError> {
        let row = sqlx::query("SELECT nickname, identity, list FROM account WHERE id = ?1")
            .bind(id.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| {
            let columns = Columns::new(&row, "account");
            Ok(Standing {
                account: id.clone(),
                nickname: columns.text("nickname")?.to_owned(),
                identity: columns.hash("identity")?,
                list: columns.hash("list")?,
            })
        })
        .transpose()
    }

    async fn has_accounts(&mut self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT id FROM account LIMIT 1").fetch_optional(&mut *self.0).await?;
        Ok(row.is_some())
    }

    async fn insert_account(&mut self, new: &NewAccount) -> Result<(), StoreError> {
        let list = &new.keys.list;
        sqlx::query(
            "INSERT INTO account (id, nickname, password, email_tag, email_sealed,
                identity_key, identity, sealed_identity, list, created_at, recovery_key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )
        .bind(new.id.as_str())
        .bind(&new.nickname)
        .bind(&new.password)
        .bind(new.email_tag.as_bytes().as_slice())
        .bind(&new.email_sealed)
        .bind(new.identity_key.as_spki())
        .bind(new.identity_key.fingerprint().as_bytes().as_slice())
        .bind(&new.sealed_identity)
        .bind(list.hash().as_bytes().as_slice())
        .bind(integer(new.created_at))
        .bind(new.recovery_key.as_bytes().as_slice())
        .execute(&mut *self.0)
        .await?;
        self.insert_list(list, new.created_at).await?;
        self.put_prekey(&new.keys.prekey, new.created_at, 0).await
    }

    async fn keys(&mut self, id: &AccountId) -> Result<Option<KeysRow>, StoreError> {
        let row = sqlx::query("SELECT nickname, identity_key FROM account WHERE id = ?1")
            .bind(id.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let lists =
            sqlx::query("SELECT body FROM device_list WHERE account = ?1 ORDER BY generation, version")
                .bind(id.as_str())
                .fetch_all(&mut *self.0)
                .await?;
        let prekeys =
            sqlx::query("SELECT body FROM prekey WHERE account = ?1 AND replaced_at IS NULL ORDER BY device")
                .bind(id.as_str())
                .fetch_all(&mut *self.0)
                .await?;
        let columns = Columns::new(&row, "account");
        Ok(Some(KeysRow {
            nickname: columns.text("nickname")?.to_owned(),
            keys: AccountKeys {
                account: id.clone(),
                identity_key: IdentityPublicKey::from_spki(columns.bytes("identity_key")?)
                    .map_err(|_| StoreError::Corrupt("account"))?,
                lists: lists
                    .iter()
                    .map(|row| Columns::new(row, "device_list").json::<DeviceList>("body"))
                    .collect::<Result<_, _>>()?,
                prekeys: prekeys
                    .iter()
                    .map(|row| Columns::new(row, "prekey").json::<SignedPreKey>("body"))
                    .collect::<Result<_, _>>()?,
            },
        }))
    }

    async fn newest_list(
        &mut self,
        id: &AccountId,
    ) -> Result<Option<(IdentityPublicKey, DeviceList)>, StoreError> {
        let row = sqlx::query(
            "SELECT account.identity_key, device_list.body
             FROM account JOIN device_list ON device_list.account = account.id
             WHERE account.id = ?1 ORDER BY device_list.generation DESC, device_list.version DESC LIMIT 1",
        )
        .bind(id.as_str())
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(|row| {
            let columns = Columns::new(&row, "device_list");
            let identity = IdentityPublicKey::from_spki(columns.bytes("identity_key")?)
                .map_err(|_| StoreError::Corrupt("account"))?;
            Ok((identity, columns.json("body")?))
        })
        .transpose()
    }

    async fn device_key(
        &mut self,
        account: &AccountId,
        device: &DeviceId,
    ) -> Result<Option<DevicePublicKey>, StoreError> {
        let row = sqlx::query(
            "SELECT device_key FROM device WHERE account = ?1 AND device = ?2 AND removed_at IS NULL",
        )
        .bind(account.as_str())
        .bind(device.as_bytes().as_slice())
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(|row| device_key(Columns::new(&row, "device").bytes("device_key")?, "device")).transpose()
    }

    async fn removed_devices(&mut self, account: &AccountId) -> Result<Vec<DeviceId>, StoreError> {
        let rows = sqlx::query("SELECT device FROM device WHERE account = ?1 AND removed_at IS NOT NULL")
            .bind(account.as_str())
            .fetch_all(&mut *self.0)
            .await?;
        rows.iter().map(|row| Columns::new(row, "device").device("device")).collect()
    }

    async fn put_list(&mut self, list: &DeviceList, now: u64) -> Result<Vec<DeviceId>, StoreError> {
        let account = list.account.as_str();
        let rows = sqlx::query("SELECT device FROM device WHERE account = ?1 AND removed_at IS NULL")
            .bind(account)
            .fetch_all(&mut *self.0)
            .await?;
        let mut removed = Vec::new();
        for row in &rows {
            let device = Columns::new(row, "device").device("device")?;
            if list.certificate(&device).is_none() {
                removed.push(device);
            }
        }
        for device in &removed {
            let device = device.as_bytes().as_slice();
            for statement in [
                "UPDATE session SET ended = 1 WHERE account = ?1 AND device = ?2 AND ended = 0",
                "DELETE FROM prekey WHERE account = ?1 AND device = ?2",
                "UPDATE device SET removed_at = ?3 WHERE account = ?1 AND device = ?2",
            ] {
                sqlx::query(statement)
                    .bind(account)
                    .bind(device)
                    .bind(integer(now))
                    .execute(&mut *self.0)
                    .await?;
            }
        }
        sqlx::query("UPDATE account SET list = ?2 WHERE id = ?1")
            .bind(account)
            .bind(list.hash().as_bytes().as_slice())
            .execute(&mut *self.0)
            .await?;
        self.insert_list(list, now).await?;
        Ok(removed)
    }

    async fn lists_since(&mut self, account: &AccountId, since: u64) -> Result<u64, StoreError> {
        let row =
            sqlx::query("SELECT count(*) AS count FROM device_list WHERE account = ?1 AND stored_at > ?2")
                .bind(account.as_str())
                .bind(integer(since))
                .fetch_one(&mut *self.0)
                .await?;
        Columns::new(&row, "device_list").integer("count")
    }

    async fn put_prekey(
        &mut self,
        prekey: &SignedPreKey,
        now: u64,
        forget_before: u64,
    ) -> Result<(), StoreError> {
        let (account, device) = (prekey.account.as_str(), prekey.device.as_bytes().as_slice());
        sqlx::query("DELETE FROM prekey WHERE account = ?1 AND device = ?2 AND replaced_at < ?3")
            .bind(account)
            .bind(device)
            .bind(integer(forget_before))
            .execute(&mut *self.0)
            .await?;
        sqlx::query(
            "UPDATE prekey SET replaced_at = ?3 WHERE account = ?1 AND device = ?2 AND replaced_at IS NULL",
        )
        .bind(account)
        .bind(device)
        .bind(integer(now))
        .execute(&mut *self.0)
        .await?;
        sqlx::query(
            "INSERT INTO prekey (account, device, hash, body, created_at, stored_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(account)
        .bind(device)
        .bind(prekey.public.hash().as_bytes().as_slice())
        .bind(json(prekey, "prekey")?)
        .bind(integer(prekey.created_at))
        .bind(integer(now))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn sweep_prekeys(&mut self, before: u64, limit: u32) -> Result<u64, StoreError> {
        self.sweep(
            "DELETE FROM prekey WHERE (account, device, hash) IN (
                SELECT account, device, hash FROM prekey WHERE replaced_at < ?1
                ORDER BY replaced_at LIMIT ?2)",
            before,
            limit,
        )
        .await
    }

    async fn prekeys_since(
        &mut self,
        account: &AccountId,
        device: &DeviceId,
        since: u64,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS count FROM prekey WHERE account = ?1 AND device = ?2 AND stored_at > ?3",
        )
        .bind(account.as_str())
        .bind(device.as_bytes().as_slice())
        .bind(integer(since))
        .fetch_one(&mut *self.0)
        .await?;
        Columns::new(&row, "prekey").integer("count")
    }

    async fn set_password(&mut self, account: &AccountId, record: &[u8]) -> Result<(), StoreError> {
        sqlx::query("UPDATE account SET password = ?2 WHERE id = ?1")
            .bind(account.as_str())
            .bind(record)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn is_hidden(&mut self, account: &AccountId) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT hidden FROM account WHERE id = ?1")
            .bind(account.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map_or(Ok(true), |row| Columns::new(&row, "account").flag("hidden"))
    }

    async fn set_hidden(&mut self, account: &AccountId, hidden: bool) -> Result<(), StoreError> {
        sqlx::query("UPDATE account SET hidden = ?2 WHERE id = ?1")
            .bind(account.as_str())
            .bind(hidden)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn watchers(&mut self, account: &AccountId) -> Result<Vec<AccountId>, StoreError> {
        let rows = sqlx::query(
            "SELECT friend.friend AS id FROM friend
             JOIN account AS own ON own.id = friend.account
             JOIN account AS other ON other.id = friend.friend
             WHERE friend.account = ?1 AND own.hidden = 0 AND other.hidden = 0
             ORDER BY id",
        )
        .bind(account.as_str())
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter().map(|row| Columns::new(row, "friend").account("id")).collect()
    }

    async fn acquaintances(&mut self, account: &AccountId) -> Result<Vec<AccountId>, StoreError> {
        let rows = sqlx::query(
            "SELECT friend AS id FROM friend WHERE account = ?1
             UNION
             SELECT other.account FROM member AS own JOIN member AS other USING (room)
             WHERE own.account = ?1 AND own.end_seq IS NULL AND other.end_seq IS NULL
                AND other.account <> ?1
             ORDER BY id",
        )
        .bind(account.as_str())
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter().map(|row| Columns::new(row, "member").account("id")).collect()
    }

    async fn prekey_marks(
        &mut self,
        account: &AccountId,
        replaced_after: u64,
    ) -> Result<Vec<PreKeyMark>, StoreError> {
        let rows = sqlx::query(
            "SELECT device, hash, created_at, replaced_at IS NULL AS current FROM prekey
             WHERE account = ?1 AND (replaced_at IS NULL OR replaced_at > ?2)
             ORDER BY device, hash",
        )
        .bind(account.as_str())
        .bind(integer(replaced_after))
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter()
            .map(|row| {
                let columns = Columns::new(row, "prekey");
                Ok(PreKeyMark {
                    device: columns.device("device")?,
                    hash: columns.hash("hash")?,
                    current: columns.flag("current")?,
                    created_at: columns.integer("created_at")?,
                })
            })
            .collect()
    }
}

#[async_trait]
impl Sessions for SqliteTransaction<'_> {
    async fn session(&mut self, tag: &Hash) -> Result<Option<SessionRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM session WHERE tag = ?1")
            .bind(tag.as_bytes().as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| session_row(&row)).transpose()
    }

    async fn put_session(&mut self, tag: &Hash, session: &SessionRow) -> Result<(), StoreError> {
        self.end_session(&session.account, &session.device).await?;
        sqlx::query("DELETE FROM session WHERE account = ?1 AND expires_at <= ?2")
            .bind(session.account.as_str())
            .bind(integer(session.created_at))
            .execute(&mut *self.0)
            .await?;
        sqlx::query(
            "INSERT INTO session (tag, account, device, created_at, expires_at, ended)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(tag.as_bytes().as_slice())
        .bind(session.account.as_str())
        .bind(session.device.as_bytes().as_slice())
        .bind(integer(session.created_at))
        .bind(integer(session.expires_at))
        .bind(session.ended)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn renew_session(&mut self, tag: &Hash, expires_at: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE session SET expires_at = ?2 WHERE tag = ?1")
            .bind(tag.as_bytes().as_slice())
            .bind(integer(expires_at))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn end_session(&mut self, account: &AccountId, device: &DeviceId) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE session SET ended = 1 WHERE account = ?1 AND device = ?2 AND ended = 0")
                .bind(account.as_str())
                .bind(device.as_bytes().as_slice())
                .execute(&mut *self.0)
                .await?;
        Ok(done.rows_affected() > 0)
    }

    async fn extend_sessions(&mut self, by: u64) -> Result<(), StoreError> {
        // Numbers of SQLite end at 2^63: a session that lasts for ever does.
        sqlx::query("UPDATE session SET expires_at = min(expires_at, 9223372036854775807 - ?1) + ?1")
            .bind(integer(by))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn last_at_work(&mut self) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query("SELECT last_at FROM work").fetch_optional(&mut *self.0).await?;
        row.map(|row| Columns::new(&row, "work").integer("last_at")).transpose()
    }

    async fn note_at_work(&mut self, at: u64) -> Result<(), StoreError> {
        let note = "INSERT INTO work (id, last_at) VALUES (1, ?1)
             ON CONFLICT (id) DO UPDATE SET last_at = excluded.last_at";
        sqlx::query(note).bind(integer(at)).execute(&mut *self.0).await?;
        Ok(())
    }

    async fn sweep_sessions(&mut self, before: u64, limit: u32) -> Result<u64, StoreError> {
        self.sweep(
            "DELETE FROM session WHERE tag IN (
                SELECT tag FROM session WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
            before,
            limit,
        )
        .await
    }

    async fn sessions_of(&mut self, account: &AccountId) -> Result<Vec<SessionRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM session WHERE account = ?1 AND ended = 0 ORDER BY device")
            .bind(account.as_str())
            .fetch_all(&mut *self.0)
            .await?;
        rows.iter().map(session_row).collect()
    }
}

fn session_row(row: &sqlx::sqlite::SqliteRow) -> Result<SessionRow, StoreError> {
    let columns = Columns::new(row, "session");
    Ok(SessionRow {
        account: columns.account("account")?,
        device: columns.device("device")?,
        created_at: columns.integer("created_at")?,
        expires_at: columns.integer("expires_at")?,
        ended: columns.flag("ended")?,
    })
}
