//! Accounts, their public keys, and sessions.

use async_trait::async_trait;
use mildam_protocol::records::id::{AccountId, DeviceId, Hash};
use mildam_protocol::records::{AccountKeys, DeviceList, DevicePublicKey, IdentityPublicKey, SignedPreKey};

use super::super::{
    AccountRow, Accounts, KeysRow, NewAccount, PreKeyMark, SessionRow, Sessions, Standing, StoreError,
};
use super::SqliteTransaction;
use super::column::{Columns, integer, json};

#[async_trait]
impl Accounts for SqliteTransaction<'_> {
    async fn account(&mut self, id: &AccountId) -> Result<Option<AccountRow>, StoreError> {
        let row = sqlx::query("SELECT nickname, password_hash, list FROM account WHERE id = ?1")
            .bind(id.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| {
            let columns = Columns::new(&row, "account");
            Ok(AccountRow {
                nickname: columns.text("nickname")?.to_owned(),
                password_hash: columns.text("password_hash")?.to_owned(),
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

    async fn email_holder(&mut self, tag: &Hash) -> Result<Option<AccountId>, StoreError> {
        let row = sqlx::query("SELECT id FROM account WHERE email_tag = ?1")
            .bind(tag.as_bytes().as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| Columns::new(&row, "account").account("id")).transpose()
    }

    async fn insert_account(&mut self, new: &NewAccount) -> Result<(), StoreError> {
        let list = &new.keys.list;
        let prekey = &new.keys.prekey;
        sqlx::query(
            "INSERT INTO account (id, nickname, password_hash, email_tag, email_sealed,
                identity_key, identity, sealed_identity, list, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .bind(new.id.as_str())
        .bind(&new.nickname)
        .bind(&new.password_hash)
        .bind(new.email_tag.as_bytes().as_slice())
        .bind(&new.email_sealed)
        .bind(new.identity_key.as_spki())
        .bind(new.identity_key.fingerprint().as_bytes().as_slice())
        .bind(&new.sealed_identity)
        .bind(list.hash().as_bytes().as_slice())
        .bind(integer(new.created_at))
        .execute(&mut *self.0)
        .await?;
        sqlx::query(
            "INSERT INTO device_list (account, generation, version, body)
             VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(new.id.as_str())
        .bind(integer(list.generation))
        .bind(integer(list.version))
        .bind(json(list, "device_list")?)
        .execute(&mut *self.0)
        .await?;
        for certificate in &list.certificates {
            sqlx::query("INSERT INTO device (account, device, device_key) VALUES (?1, ?2, ?3)")
                .bind(new.id.as_str())
                .bind(certificate.device.as_bytes().as_slice())
                .bind(certificate.device_key.as_bytes().as_slice())
                .execute(&mut *self.0)
                .await?;
        }
        sqlx::query("INSERT INTO prekey (account, device, hash, body) VALUES (?1, ?2, ?3, ?4)")
            .bind(new.id.as_str())
            .bind(prekey.device.as_bytes().as_slice())
            .bind(prekey.public.hash().as_bytes().as_slice())
            .bind(json(prekey, "prekey")?)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn keys(&mut self, id: &AccountId) -> Result<Option<KeysRow>, StoreError> {
        let row = sqlx::query("SELECT nickname, identity_key FROM account WHERE id = ?1")
            .bind(id.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let lists = sqlx::query(
            "SELECT body FROM device_list WHERE account = ?1 AND generation =
                (SELECT max(generation) FROM device_list WHERE account = ?1)
             ORDER BY version",
        )
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

    async fn device_key(
        &mut self,
        account: &AccountId,
        device: &DeviceId,
    ) -> Result<Option<DevicePublicKey>, StoreError> {
        let row = sqlx::query("SELECT device_key FROM device WHERE account = ?1 AND device = ?2")
            .bind(account.as_str())
            .bind(device.as_bytes().as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| {
            let key = Columns::new(&row, "device").hash("device_key")?;
            DevicePublicKey::from_bytes(key.as_bytes()).map_err(|_| StoreError::Corrupt("device"))
        })
        .transpose()
    }

    async fn prekey_marks(
        &mut self,
        account: &AccountId,
        replaced_after: u64,
    ) -> Result<Vec<PreKeyMark>, StoreError> {
        let rows = sqlx::query(
            "SELECT device, hash, replaced_at IS NULL AS current FROM prekey
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
                })
            })
            .collect()
    }
}

#[async_trait]
impl Sessions for SqliteTransaction<'_> {
    async fn session(&mut self, tag: &Hash) -> Result<Option<SessionRow>, StoreError> {
        let row = sqlx::query("SELECT account, device, expires_at FROM session WHERE tag = ?1")
            .bind(tag.as_bytes().as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| {
            let columns = Columns::new(&row, "session");
            Ok(SessionRow {
                account: columns.account("account")?,
                device: columns.device("device")?,
                expires_at: columns.integer("expires_at")?,
            })
        })
        .transpose()
    }

    async fn put_session(&mut self, tag: &Hash, session: &SessionRow) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM session WHERE account = ?1 AND device = ?2")
            .bind(session.account.as_str())
            .bind(session.device.as_bytes().as_slice())
            .execute(&mut *self.0)
            .await?;
        sqlx::query("INSERT INTO session (tag, account, device, expires_at) VALUES (?1, ?2, ?3, ?4)")
            .bind(tag.as_bytes().as_slice())
            .bind(session.account.as_str())
            .bind(session.device.as_bytes().as_slice())
            .bind(integer(session.expires_at))
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

    async fn delete_session(&mut self, tag: &Hash) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM session WHERE tag = ?1")
            .bind(tag.as_bytes().as_slice())
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }
}
