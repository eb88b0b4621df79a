//! Sending: what waits goes out, once, in order.

use std::collections::BTreeSet;

use mildam_e2ee::{Body, Content, RoomError};
use mildam_protocol::command;
use mildam_protocol::records::{ClientMessageId, Message, RoomId};
use mildam_vault::{Changes, OutboxRow};
use tokio::time::Instant;

use super::put_off::Step;
use super::rooms::{TRIES, on_the_wire};
use super::{Differs, Engine, OpenRoom};
use crate::error::Error;
use crate::model::{Event, MessageView};
use crate::store::{self, Outgoing};

/// Whether a message that is refused so can never be sent as it is.
fn is_final(error: &Error) -> bool {
    matches!(error.code(), "not_member" | "forbidden" | "not_found" | "too_long" | "room_replaced")
}

impl Engine {
    /// Sends what waits. A room whose message cannot go now holds back its later ones.
    pub(super) async fn flush(&mut self) {
        if self.wire.is_none() || self.session.is_none() || self.put_off.is_quiet(Instant::now()) {
            return;
        }
        let mut held = BTreeSet::new();
        let waiting = match self.store.read(|vault| Ok(vault.outbox()?)).await {
            Ok(waiting) => waiting,
            Err(error) => return tracing::error!(code = error.code(), "the outbox cannot be read"),
        };
        for row in waiting {
            let room = row.room;
            // It would be refused. Once another room has taken its place, it fails instead.
            let behind =
                |open: &OpenRoom| open.differs == Some(Differs::Behind) && open.meta.replaced_by.is_none();
            if held.contains(&room) || Self::gave_up(&row) || self.rooms.get(&room).is_some_and(behind) {
                continue;
            }
            let sent = match Box::pin(self.send_row(row.clone())).await {
                // Nothing that happens later makes it go, so it does not hold the others back.
                Err(error) if is_final(&error) => self.give_up(row, error).await,
                other => other,
            };
            if let Err(error) = sent {
                tracing::info!(code = error.code(), "a message waits");
                self.put_off.note(&error, Step::Flush, Instant::now());
                if error.ends_connection() {
                    return;
                }
                held.insert(room);
            }
        }
    }

    fn gave_up(row: &OutboxRow) -> bool {
        serde_json::from_slice::<Outgoing>(&row.body).map_or(true, |outgoing| outgoing.failed.is_some())
    }

    async fn send_row(&mut self, mut row: OutboxRow) -> Result<(), Error> {
        for _ in 0..TRIES {
            let message = match &row.sealed {
                Some(sealed) => serde_json::from_slice(sealed)?,
                None => self.seal_row(&mut row).await?,
            };
            let room = row.room;
            match self.ask(&command::MessageSend { message }).await {
                // It comes back in the log, and leaves the outbox then.
                Ok(stored) => {
                    let behind =
                        self.rooms.get(&room).is_none_or(|open| open.room.position().seq < stored.seq);
                    return if behind { self.catch_up(room).await } else { Ok(()) };
                }
                Err(error) if matches!(error.code(), "stale" | "bad_record") => {
                    self.catch_up(room).await?;
                    if self.is_sent(&row).await? {
                        return Ok(());
                    }
                    row.sealed = None;
                }
                Err(error) => {
                    if error.code() == "blocked_room" {
                        self.relay_differs(room).await?;
                    }
                    return Err(error);
                }
            }
        }
        Err(Error::new("busy", "The room is busy with other changes."))
    }

    /// The relay keeps another log of a room than was read here, and says so.
    async fn relay_differs(&mut self, room: RoomId) -> Result<(), Error> {
        let own = self.secrets()?.account().clone();
        let Some(open) = self.rooms.get_mut(&room).filter(|open| open.differs.is_none()) else {
            return Ok(());
        };
        open.differs = Some(Differs::Refused);
        open.refresh(&[], &own, &self.contacts);
        let mut changes = Changes::new();
        changes.put_room(&room, open.row()?);
        self.commit(changes).await?;
        self.tell_room(room).await;
        Ok(())
    }

    /// A message that could not be sent waits again. It is sealed anew: the relay never took it.
    pub(super) async fn retry_send(
        &mut self,
        room: RoomId,
        id: ClientMessageId,
    ) -> Result<MessageView, Error> {
        let mut row = self.outbox_row(room, id).await?;
        let mut outgoing: Outgoing = serde_json::from_slice(&row.body)?;
        if outgoing.failed.take().is_none() {
            return Err(Error::not_found("message that could not be sent"));
        }
        (row.body, row.sealed) = (serde_json::to_vec(&outgoing)?, None);
        let view = store::outbox_view(row.clone(), self.secrets()?.account())?;
        let mut changes = Changes::new();
        changes.put_outbox(row);
        self.commit(changes).await?;
        self.events.tell(Event::Message { message: view.clone() });
        self.tell_room(room).await;
        self.flush().await;
        Ok(view)
    }

    /// Forgets a message that could not be sent, or that nobody can have yet, and gives its text back.
    pub(super) async fn discard_send(&mut self, room: RoomId, id: ClientMessageId) -> Result<String, Error> {
        let on_its_way = || Error::new("on_its_way", "This message may have been sent already.");
        let sent = self.store.read(move |vault| Ok(vault.message_by_id(&room, &id)?.is_some())).await?;
        if sent {
            return Err(on_its_way());
        }
        let row = self.outbox_row(room, id).await?;
        let outgoing: Outgoing = serde_json::from_slice(&row.body)?;
        if outgoing.failed.is_none() && row.sealed.is_some() {
            return Err(on_its_way());
        }
        let mut changes = Changes::new();
        changes.remove_outbox(&room, &id);
        self.commit(changes).await?;
        self.events.tell(Event::MessageGone { room: room.to_string(), id: id.to_string() });
        self.tell_room(room).await;
        Ok(outgoing.text)
    }

    async fn outbox_row(&self, room: RoomId, id: ClientMessageId) -> Result<OutboxRow, Error> {
        let rows = self.store.read(move |vault| Ok(vault.outbox_of(&room)?)).await?;
        rows.into_iter().find(|row| row.id == id).ok_or_else(|| Error::not_found("message"))
    }

    /// Whether the message has come back in the log.
    async fn is_sent(&self, row: &OutboxRow) -> Result<bool, Error> {
        let (room, id) = (row.room, row.id);
        self.store.read(move |vault| Ok(vault.message_by_id(&room, &id)?.is_some())).await
    }

    /// Seals a waiting message. The moved chain and the sealed bytes are one durable step, before
    /// anything goes out.
    async fn seal_row(&mut self, row: &mut OutboxRow) -> Result<Message, Error> {
        let outgoing: Outgoing = serde_json::from_slice(&row.body)?;
        let content = Content { sent_at: row.created_at, body: Body::Text(outgoing.text) };
        if let Some(open) = self.rooms.get(&row.room) {
            open.meta.check_not_replaced()?;
        }
        for _ in 0..TRIES {
            self.check_identities(row.room)?;
            if self.rooms.get(&row.room).is_some_and(|open| !open.read_back) {
                self.catch_up(row.room).await?;
            }
            let own = self.own.as_ref().ok_or_else(Error::no_account)?;
            let open = self.rooms.get_mut(&row.room).ok_or_else(|| Error::not_found("room"))?;
            let now = self.store.now();
            match open.room.seal(&content, row.id, &own.secrets, &self.contacts, now, &mut crate::rng()) {
                Ok(message) => {
                    row.sealed = Some(serde_json::to_vec(&message)?);
                    let mut changes = Changes::new();
                    changes.put_room(&row.room, open.row()?);
                    changes.put_outbox(row.clone());
                    self.commit(changes).await?;
                    return Ok(message);
                }
                Err(RoomError::EpochDue) => self.announce(row.room).await?,
                Err(RoomError::UnknownKeys(account)) => self.fetch_keys(&[account]).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new("busy", "The room is busy with other changes."))
    }

    /// Announces a new epoch and reads it back, or reads the one that somebody else announced.
    pub(super) async fn announce(&mut self, room: RoomId) -> Result<(), Error> {
        let open = self.rooms.get(&room).ok_or_else(|| Error::not_found("room"))?;
        let members: Vec<_> = open.room.members().map(|member| member.account.clone()).collect();
        self.fetch_keys(&members).await?;
        self.check_identities(room)?;
        let open = self.rooms.get(&room).ok_or_else(|| Error::not_found("room"))?;
        let epoch =
            open.room.announce(self.secrets()?, &self.contacts, self.wary_now(), &mut crate::rng())?;
        match self.ask(&command::EpochAnnounce { epoch: on_the_wire(epoch) }).await {
            Err(error) if error.code() != "stale" => Err(error),
            _ => self.catch_up(room).await,
        }
    }

    /// The relay will never take it: it stays, marked as not sent.
    async fn give_up(&mut self, mut row: OutboxRow, error: Error) -> Result<(), Error> {
        let mut outgoing: Outgoing = serde_json::from_slice(&row.body)?;
        outgoing.failed = Some(error);
        row.body = serde_json::to_vec(&outgoing)?;
        let room = row.room;
        let own = self.secrets()?.account().clone();
        let view = store::outbox_view(row.clone(), &own)?;
        let mut changes = Changes::new();
        changes.put_outbox(row);
        self.commit(changes).await?;
        self.events.tell(Event::Message { message: view });
        self.tell_room(room).await;
        Ok(())
    }
}
