//! Logs, epochs and receipts.

use async_trait::async_trait;
use mildam_protocol::command::StoredAnswer;
use mildam_protocol::records::bytes::Bytes;
use mildam_protocol::records::id::{AccountId, ClientMessageId, DeviceId, Hash, RoomId};
use mildam_protocol::records::{LogItem, Receipt, ReceiptKind, SealedProfile};
use sqlx::QueryBuilder;
use sqlx::sqlite::SqliteRow;

use super::super::{EntryRange, EntryRow, EpochRange, EpochRow, Log, MessagePlace, StoreError};
use super::SqliteTransaction;
use super::column::{Columns, integer, json, name};

/// Wraps that are added by one statement.
const WRAPS_A_STATEMENT: usize = 3_000;

#[async_trait]
impl Log for SqliteTransaction<'_> {
    async fn insert_entry(&mut self, room: &RoomId, entry: &EntryRow) -> Result<(), StoreError> {
        let snapshot = entry.snapshot.as_ref();
        sqlx::query(
            "INSERT INTO entry (room, seq, hash, log_hash, body, snapshot, stored_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(room.as_bytes().as_slice())
        .bind(integer(entry.at.seq))
        .bind(entry.hash.as_bytes().as_slice())
        .bind(entry.at.hash.as_bytes().as_slice())
        .bind(json(&entry.entry, "entry")?)
        .bind(snapshot.map(|snapshot| json(snapshot, "entry")).transpose()?)
        .bind(integer(entry.stored_at))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn find_entry(&mut self, room: &RoomId, hash: &Hash) -> Result<Option<StoredAnswer>, StoreError> {
        let row = sqlx::query("SELECT seq, stored_at FROM entry WHERE room = ?1 AND hash = ?2")
            .bind(room.as_bytes().as_slice())
            .bind(hash.as_bytes().as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        row.as_ref().map(read_place).transpose()
    }

    async fn log_hash(&mut self, room: &RoomId, seq: u64) -> Result<Option<Hash>, StoreError> {
        let row = sqlx::query("SELECT log_hash FROM entry WHERE room = ?1 AND seq = ?2")
            .bind(room.as_bytes().as_slice())
            .bind(integer(seq))
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| Columns::new(&row, "entry").hash("log_hash")).transpose()
    }

    async fn insert_message(
        &mut self,
        room: &RoomId,
        device: &DeviceId,
        id: &ClientMessageId,
        place: MessagePlace,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO message (room, device, id, epoch, n, seq)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(room.as_bytes().as_slice())
        .bind(device.as_bytes().as_slice())
        .bind(id.as_bytes().as_slice())
        .bind(integer(place.epoch))
        .bind(integer(place.n))
        .bind(integer(place.seq))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn find_message(
        &mut self,
        room: &RoomId,
        device: &DeviceId,
        id: &ClientMessageId,
    ) -> Result<Option<StoredAnswer>, StoreError> {
        let row = sqlx::query(
            "SELECT entry.seq, entry.stored_at FROM message
             JOIN entry ON entry.room = message.room AND entry.seq = message.seq
             WHERE message.room = ?1 AND message.device = ?2 AND message.id = ?3",
        )
        .bind(room.as_bytes().as_slice())
        .bind(device.as_bytes().as_slice())
        .bind(id.as_bytes().as_slice())
        .fetch_optional(&mut *self.0)
        .await?;
        row.as_ref().map(read_place).transpose()
    }

    async fn last_n(
        &mut self,
        room: &RoomId,
        device: &DeviceId,
        epoch: u64,
    ) -> Result<Option<u64>, StoreError> {
        let row =
            sqlx::query("SELECT max(n) AS n FROM message WHERE room = ?1 AND device = ?2 AND epoch = ?3")
                .bind(room.as_bytes().as_slice())
                .bind(device.as_bytes().as_slice())
                .bind(integer(epoch))
                .fetch_one(&mut *self.0)
                .await?;
        Columns::new(&row, "message").optional_integer("n")
    }

    async fn insert_epoch(&mut self, epoch: &EpochRow) -> Result<(), StoreError> {
        let announcement = &epoch.announcement;
        sqlx::query(
            "INSERT INTO epoch (room, epoch, hash, after_seq, body, profile, stored_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(announcement.room.as_bytes().as_slice())
        .bind(integer(announcement.epoch))
        .bind(epoch.hash.as_bytes().as_slice())
        .bind(integer(epoch.after_seq))
        .bind(json(announcement, "epoch")?)
        .bind(epoch.profile.as_ref().map(|profile| profile.0.0.as_slice()))
        .bind(integer(epoch.stored_at))
        .execute(&mut *self.0)
        .await?;
        // One statement for many: SQLite binds up to 32,766 values.
        for wraps in epoch.wraps.chunks(WRAPS_A_STATEMENT) {
            let mut insert = QueryBuilder::new("INSERT INTO wrap (room, epoch, device, body) ");
            insert.push_values(wraps, |mut row, wrap| {
                row.push_bind(announcement.room.as_bytes().as_slice());
                row.push_bind(integer(announcement.epoch));
                row.push_bind(wrap.device.as_bytes().as_slice());
                row.push_bind(&*wrap.text);
            });
            insert.build().persistent(false).execute(&mut *self.0).await?;
        }
        Ok(())
    }

    async fn find_epoch(&mut self, room: &RoomId, hash: &Hash) -> Result<Option<StoredAnswer>, StoreError> {
        let row = sqlx::query("SELECT after_seq AS seq, stored_at FROM epoch WHERE room = ?1 AND hash = ?2")
            .bind(room.as_bytes().as_slice())
            .bind(hash.as_bytes().as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        row.as_ref().map(read_place).transpose()
    }

    async fn epoch_time(&mut self, room: &RoomId, epoch: u64) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query("SELECT stored_at FROM epoch WHERE room = ?1 AND epoch = ?2")
            .bind(room.as_bytes().as_slice())
            .bind(integer(epoch))
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| Columns::new(&row, "epoch").integer("stored_at")).transpose()
    }

    async fn entries(&mut self, room: &RoomId, range: EntryRange) -> Result<Vec<LogItem>, StoreError> {
        let rows = sqlx::query(
            "SELECT seq, stored_at, body, CASE WHEN seq = ?5 THEN snapshot END AS snapshot
             FROM entry WHERE room = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4",
        )
        .bind(room.as_bytes().as_slice())
        .bind(integer(range.after))
        .bind(integer(range.to))
        .bind(i64::from(range.limit))
        .bind(integer(range.joined_by))
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter()
            .map(|row| {
                let columns = Columns::new(row, "entry");
                Ok(LogItem::Entry {
                    seq: columns.integer("seq")?,
                    stored_at: columns.integer("stored_at")?,
                    entry: columns.json("body")?,
                    snapshot: columns.optional_json("snapshot")?,
                })
            })
            .collect()
    }

    async fn epochs(
        &mut self,
        room: &RoomId,
        device: &DeviceId,
        range: EpochRange,
    ) -> Result<Vec<LogItem>, StoreError> {
        // Later epochs are in force behind later places: those before the first that counts are passed over
        // by an index, and not read one by one.
        let rows = sqlx::query(
            "SELECT epoch.after_seq, epoch.stored_at, epoch.body, epoch.profile,
                wrap.body AS wrap
             FROM epoch LEFT JOIN wrap ON wrap.room = epoch.room AND wrap.epoch = epoch.epoch
                AND wrap.device = ?2
             WHERE epoch.room = ?1 AND epoch.epoch <= ?4 AND epoch.after_seq > ?5
                AND epoch.epoch > max(?3, coalesce((
                    SELECT epoch FROM epoch WHERE room = ?1 AND after_seq <= ?5
                    ORDER BY after_seq DESC, epoch DESC LIMIT 1), 0))
             ORDER BY epoch.epoch LIMIT ?6",
        )
        .bind(room.as_bytes().as_slice())
        .bind(device.as_bytes().as_slice())
        .bind(integer(range.after))
        .bind(integer(range.to))
        .bind(integer(range.behind))
        .bind(i64::from(range.limit))
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter()
            .map(|row| {
                let columns = Columns::new(row, "epoch");
                let profile = columns.optional_bytes("profile")?;
                Ok(LogItem::Epoch {
                    after: columns.integer("after_seq")?,
                    stored_at: columns.integer("stored_at")?,
                    announcement: columns.json("body")?,
                    wrap: columns.optional_json("wrap")?,
                    profile: profile.map(|bytes| SealedProfile(Bytes(bytes.to_vec()))),
                })
            })
            .collect()
    }

    async fn receipts(&mut self, room: &RoomId) -> Result<Vec<Receipt>, StoreError> {
        let rows = sqlx::query("SELECT body FROM receipt WHERE room = ?1 ORDER BY account, kind")
            .bind(room.as_bytes().as_slice())
            .fetch_all(&mut *self.0)
            .await?;
        rows.iter().map(|row| Columns::new(row, "receipt").json("body")).collect()
    }

    async fn receipt_seq(
        &mut self,
        room: &RoomId,
        account: &AccountId,
        kind: ReceiptKind,
    ) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query("SELECT seq FROM receipt WHERE room = ?1 AND account = ?2 AND kind = ?3")
            .bind(room.as_bytes().as_slice())
            .bind(account.as_str())
            .bind(name(&kind, "receipt")?)
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| Columns::new(&row, "receipt").integer("seq")).transpose()
    }

    async fn put_receipt(&mut self, receipt: &Receipt) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO receipt (room, account, kind, seq, body) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (room, account, kind) DO UPDATE SET seq = ?4, body = ?5",
        )
        .bind(receipt.room.as_bytes().as_slice())
        .bind(receipt.account.as_str())
        .bind(name(&receipt.kind, "receipt")?)
        .bind(integer(receipt.seq))
        .bind(json(receipt, "receipt")?)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }
}

fn read_place(row: &SqliteRow) -> Result<StoredAnswer, StoreError> {
    let columns = Columns::new(row, "entry");
    Ok(StoredAnswer { seq: columns.integer("seq")?, stored_at: columns.integer("stored_at")? })
}
