//! Rooms and members.

use async_trait::async_trait;
use mildam_protocol::records::LogPosition;
use mildam_protocol::records::id::{AccountId, RoomId};
use mildam_protocol::records::membership::Membership;
use mildam_protocol::records::room::Member;
use sqlx::sqlite::SqliteRow;

use super::super::{MemberRow, PreKeyMark, RoomRow, Rooms, StoreError, TargetRow};
use super::SqliteTransaction;
use super::column::{Columns, integer, json, name};

#[async_trait]
impl Rooms for SqliteTransaction<'_> {
    async fn room(&mut self, room: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM room WHERE id = ?1")
            .bind(room.as_bytes().as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        row.as_ref().map(read_room).transpose()
    }

    async fn save_room(&mut self, room: &RoomRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO room (id, kind, suite, version, head, epoch, epoch_hash, epoch_version, seq,
                hash, closed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (id) DO UPDATE SET version = ?4, head = ?5, epoch = ?6, epoch_hash = ?7,
                epoch_version = ?8, seq = ?9, hash = ?10, closed = ?11",
        )
        .bind(room.id.as_bytes().as_slice())
        .bind(name(&room.kind, "room")?)
        .bind(name(&room.suite, "room")?)
        .bind(integer(room.version))
        .bind(room.head.as_bytes().as_slice())
        .bind(integer(room.epoch))
        .bind(room.epoch_hash.as_ref().map(|hash| hash.as_bytes().as_slice()))
        .bind(integer(room.epoch_version))
        .bind(integer(room.end.seq))
        .bind(room.end.hash.as_bytes().as_slice())
        .bind(room.closed)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn direct_room(
        &mut self,
        one: &AccountId,
        other: &AccountId,
    ) -> Result<Option<RoomId>, StoreError> {
        let row = sqlx::query("SELECT room FROM direct_room WHERE low = ?1 AND high = ?2")
            .bind(one.min(other).as_str())
            .bind(one.max(other).as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| Columns::new(&row, "direct_room").room("room")).transpose()
    }

    async fn name_direct_room(
        &mut self,
        one: &AccountId,
        other: &AccountId,
        room: &RoomId,
    ) -> Result<(), StoreError> {
        let name = "INSERT INTO direct_room (low, high, room) VALUES (?1, ?2, ?3)
             ON CONFLICT (low, high) DO UPDATE SET room = excluded.room";
        sqlx::query(name)
            .bind(one.min(other).as_str())
            .bind(one.max(other).as_str())
            .bind(room.as_bytes().as_slice())
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn member(&mut self, room: &RoomId, account: &AccountId) -> Result<Option<MemberRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM member WHERE room = ?1 AND account = ?2")
            .bind(room.as_bytes().as_slice())
            .bind(account.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        row.as_ref().map(read_member).transpose()
    }

    async fn members(&mut self, room: &RoomId) -> Result<Vec<MemberRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM member WHERE room = ?1 AND end_seq IS NULL ORDER BY account")
            .bind(room.as_bytes().as_slice())
            .fetch_all(&mut *self.0)
            .await?;
        rows.iter().map(read_member).collect()
    }

    async fn targets(&mut self, room: &RoomId, replaced_after: u64) -> Result<Vec<TargetRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT member.account, account.list, prekey.device, prekey.hash, prekey.created_at,
                prekey.replaced_at IS NULL AS current
             FROM member JOIN account ON account.id = member.account
             LEFT JOIN prekey ON prekey.account = member.account
                AND (prekey.replaced_at IS NULL OR prekey.replaced_at > ?2)
             WHERE member.room = ?1 AND member.end_seq IS NULL
             ORDER BY member.account, prekey.device, prekey.hash",
        )
        .bind(room.as_bytes().as_slice())
        .bind(integer(replaced_after))
        .fetch_all(&mut *self.0)
        .await?;
        let mut targets: Vec<TargetRow> = Vec::new();
        for row in &rows {
            let columns = Columns::new(row, "member");
            let account = columns.account("account")?;
            if targets.last().is_none_or(|target| target.account != account) {
                targets.push(TargetRow { account, list: columns.hash("list")?, prekeys: Vec::new() });
            }
            if let (Some(target), Some(hash)) = (targets.last_mut(), columns.optional_hash("hash")?) {
                target.prekeys.push(PreKeyMark {
                    device: columns.device("device")?,
                    hash,
                    current: columns.flag("current")?,
                    created_at: columns.integer("created_at")?,
                });
            }
        }
        Ok(targets)
    }

    async fn save_member(&mut self, room: &RoomId, member: &MemberRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO member (room, account, identity, role, start_seq, start_hash, end_seq,
                end_epoch)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (room, account) DO UPDATE SET identity = ?3, role = ?4, start_seq = ?5,
                start_hash = ?6, end_seq = ?7, end_epoch = ?8",
        )
        .bind(room.as_bytes().as_slice())
        .bind(member.member.account.as_str())
        .bind(member.member.identity.as_bytes().as_slice())
        .bind(name(&member.member.role, "member")?)
        .bind(integer(member.start.seq))
        .bind(member.start.hash.as_bytes().as_slice())
        .bind(member.gone.map(|(seq, _)| integer(seq)))
        .bind(member.gone.map(|(_, epoch)| integer(epoch)))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn membership(&mut self, room: &RoomId) -> Result<Option<Membership>, StoreError> {
        let row = sqlx::query("SELECT body FROM membership WHERE room = ?1")
            .bind(room.as_bytes().as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| Columns::new(&row, "membership").json("body")).transpose()
    }

    async fn save_membership(&mut self, membership: &Membership) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO membership (room, body) VALUES (?1, ?2)
             ON CONFLICT (room) DO UPDATE SET body = ?2",
        )
        .bind(membership.room().as_bytes().as_slice())
        .bind(json(membership, "membership")?)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn rooms_of(&mut self, account: &AccountId) -> Result<Vec<(RoomRow, MemberRow)>, StoreError> {
        let rows = sqlx::query(
            "SELECT room.*, member.account, member.identity, member.role, member.start_seq,
                member.start_hash, member.end_seq, member.end_epoch
             FROM member JOIN room ON room.id = member.room
             WHERE member.account = ?1 ORDER BY room.id",
        )
        .bind(account.as_str())
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter().map(|row| Ok((read_room(row)?, read_member(row)?))).collect()
    }

    async fn room_count(&mut self, account: &AccountId) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT count(*) AS count FROM member WHERE account = ?1 AND end_seq IS NULL")
            .bind(account.as_str())
            .fetch_one(&mut *self.0)
            .await?;
        Columns::new(&row, "member").integer("count")
    }

    async fn have_met(&mut self, one: &AccountId, other: &AccountId) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 FROM member AS one JOIN member AS other ON other.room = one.room
             WHERE one.account = ?1 AND other.account = ?2
                AND (one.end_seq IS NULL OR other.start_seq < one.end_seq)
                AND (other.end_seq IS NULL OR one.start_seq < other.end_seq)
             LIMIT 1",
        )
        .bind(one.as_str())
        .bind(other.as_str())
        .fetch_optional(&mut *self.0)
        .await?;
        Ok(row.is_some())
    }
}

fn read_room(row: &SqliteRow) -> Result<RoomRow, StoreError> {
    let columns = Columns::new(row, "room");
    Ok(RoomRow {
        id: columns.room("id")?,
        kind: columns.name("kind")?,
        suite: columns.name("suite")?,
        version: columns.integer("version")?,
        head: columns.hash("head")?,
        epoch: columns.integer("epoch")?,
        epoch_hash: columns.optional_hash("epoch_hash")?,
        epoch_version: columns.integer("epoch_version")?,
        end: LogPosition { seq: columns.integer("seq")?, hash: columns.hash("hash")? },
        closed: columns.flag("closed")?,
    })
}

fn read_member(row: &SqliteRow) -> Result<MemberRow, StoreError> {
    let columns = Columns::new(row, "member");
    let end = columns.optional_integer("end_seq")?;
    Ok(MemberRow {
        member: Member {
            account: columns.account("account")?,
            identity: columns.hash("identity")?,
            role: columns.name("role")?,
        },
        start: LogPosition { seq: columns.integer("start_seq")?, hash: columns.hash("start_hash")? },
        gone: end.zip(columns.optional_integer("end_epoch")?),
    })
}
