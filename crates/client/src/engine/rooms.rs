//! Making rooms and changing them.

use mildam_e2ee::{NewChange, NewEpoch, Room, RoomProfile};
use mildam_protocol::command;
use mildam_protocol::records::{AccountId, ReceiptKind, Role, RoomId, RoomKind};
use mildam_vault::Changes;

use super::{Engine, OpenRoom};
use crate::error::Error;
use crate::model::{Event, RoomView};
use crate::store;

/// How often something is tried again after the room moved on in between.
pub(super) const TRIES: usize = 6;

pub(super) fn on_the_wire(epoch: NewEpoch) -> command::NewEpoch {
    let NewEpoch { announcement, wraps, profile } = epoch;
    command::NewEpoch { announcement, wraps, profile }
}

fn change_command(new: NewChange) -> command::RoomSetChange {
    let NewChange { change, snapshot, epoch } = new;
    command::RoomSetChange { change, snapshot, epoch: epoch.map(on_the_wire) }
}

impl Engine {
    pub(super) async fn open_direct(&mut self, account: AccountId) -> Result<RoomView, Error> {
        let own = self.secrets()?.account().clone();
        if account == own {
            return Err(Error::new("forbidden", "A room needs somebody else."));
        }
        if let Some(room) = self.direct_with(&account).filter(|room| !self.is_beyond_repair(room)) {
            return self.room_view(room).await;
        }
        // Coming online may have brought the room, or the one that has taken its place.
        self.online().await?;
        match self.direct_with(&account) {
            Some(room) if self.is_beyond_repair(&room) => {
                self.create(RoomKind::Direct, vec![account], None, Some(room)).await
            }
            Some(room) => self.room_view(room).await,
            None => self.create(RoomKind::Direct, vec![account], None, None).await,
        }
    }

    /// Makes a room in the place of one in which nothing can be said any more, with the same people.
    pub(super) async fn replace_room(&mut self, room: RoomId) -> Result<RoomView, Error> {
        self.online().await?;
        let open = self.rooms.get(&room).ok_or_else(|| Error::not_found("room"))?;
        open.meta.check_not_replaced()?;
        if !open.is_beyond_repair(&self.contacts) {
            return Err(Error::new("forbidden", "This room needs none in its place."));
        }
        let own = self.secrets()?.account();
        let leads = open.room.members().any(|member| member.account == *own && member.role >= Role::Admin);
        if !leads && open.room.members().next().is_some() {
            return Err(Error::new("forbidden", "An admin or the owner has to do this."));
        }
        let others = open.meta.members.iter().map(|(account, _)| account.clone());
        let others: Vec<AccountId> = others.filter(|account| account != own).collect();
        let kind = open.meta.kind;
        self.create(kind, others, None, Some(room)).await
    }

    /// The direct room with an account that no other one has replaced.
    fn direct_with(&self, account: &AccountId) -> Option<RoomId> {
        let with = |open: &OpenRoom| open.meta.members.iter().any(|(member, _)| member == account);
        let mut rooms = self.rooms.iter();
        let found = rooms.find(|(_, open)| {
            open.meta.kind == RoomKind::Direct && open.meta.replaced_by.is_none() && with(open)
        });
        found.map(|(room, _)| *room)
    }

    fn is_beyond_repair(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|open| open.is_beyond_repair(&self.contacts))
    }

    pub(super) async fn create_group(
        &mut self,
        name: String,
        mut accounts: Vec<AccountId>,
    ) -> Result<RoomView, Error> {
        self.online().await?;
        let own = self.secrets()?.account().clone();
        accounts.retain(|account| *account != own);
        let profile = RoomProfile { name, ..RoomProfile::default() };
        self.create(RoomKind::Group, accounts, Some(profile), None).await
    }

    async fn create(
        &mut self,
        kind: RoomKind,
        others: Vec<AccountId>,
        profile: Option<RoomProfile>,
        mut replaced: Option<RoomId>,
    ) -> Result<RoomView, Error> {
        for _ in 0..TRIES {
            self.fetch_keys(&others).await?;
            self.contacts.check_unchanged(&others)?;
            if others.iter().any(|other| self.contacts.get(other).is_none()) {
                return Err(Error::new("not_friends", "A room can be made with friends only."));
            }
            let (secrets, now, mut rng) = (self.secrets()?, self.wary_now(), crate::rng());
            let before = replaced.and_then(|room| self.rooms.get(&room));
            let new = match before {
                Some(open) => open.room.replace(&others, secrets, &self.contacts, now, &mut rng)?,
                None => {
                    Room::create(kind, &others, profile.as_ref(), secrets, &self.contacts, now, &mut rng)?
                }
            };
            let request = command::RoomCreate { change: new.change, epoch: on_the_wire(new.epoch) };
            match self.ask(&request).await {
                Err(error) if error.code() == "stale" => {}
                Err(error) => return Err(error),
                Ok(answer) => {
                    self.sync_rooms().await?;
                    // There is one already, of which nothing could be read, not even who is in it.
                    let found = kind == RoomKind::Direct && !answer.created && replaced.is_none();
                    if found && self.is_beyond_repair(&answer.room) {
                        replaced = Some(answer.room);
                        continue;
                    }
                    return self.room_view(answer.room).await;
                }
            }
        }
        Err(Error::new("busy", "The server is busy with other changes. Try again."))
    }

    async fn room_view(&self, room: RoomId) -> Result<RoomView, Error> {
        self.store.read(move |vault| store::room(vault, &room)).await
    }

    pub(super) async fn invite(&mut self, room: RoomId, accounts: Vec<AccountId>) -> Result<(), Error> {
        self.online().await?;
        for _ in 0..TRIES {
            self.catch_up(room).await?;
            let open = self.rooms.get(&room).ok_or_else(|| Error::not_found("room"))?;
            let new: Vec<AccountId> =
                accounts.iter().filter(|account| !open.room.is_member(account)).cloned().collect();
            if new.is_empty() {
                return Ok(());
            }
            let mut everybody: Vec<AccountId> =
                open.room.members().map(|member| member.account.clone()).collect();
            everybody.extend(new.iter().cloned());
            self.fetch_keys(&everybody).await?;
            self.contacts.check_unchanged(&everybody)?;
            if new.iter().any(|account| self.contacts.get(account).is_none()) {
                return Err(Error::new("not_friends", "Only friends can be invited."));
            }
            let open = self.rooms.get(&room).ok_or_else(|| Error::not_found("room"))?;
            let change =
                open.room.add(&new, self.secrets()?, &self.contacts, self.wary_now(), &mut crate::rng())?;
            match self.ask(&change_command(change)).await {
                Err(error) if error.code() == "stale" => {}
                Err(error) => return Err(error),
                Ok(_) => return self.catch_up(room).await,
            }
        }
        Err(Error::new("busy", "The room is busy with other changes. Try again."))
    }

    pub(super) async fn leave(&mut self, room: RoomId) -> Result<(), Error> {
        self.online().await?;
        for _ in 0..TRIES {
            self.catch_up(room).await?;
            let open = self.rooms.get(&room).ok_or_else(|| Error::not_found("room"))?;
            let (secrets, now) = (self.secrets()?, self.wary_now());
            let heir = open.room.heir(secrets.account());
            let change = match heir {
                Some(heir) => open.room.set_role(heir, Role::Owner, secrets, &self.contacts, now)?,
                None => open.room.leave(secrets, &self.contacts, now)?,
            };
            let leaves = heir.is_none();
            match self.ask(&change_command(change)).await {
                Err(error) if error.code() == "stale" => {}
                Err(error) => return Err(error),
                Ok(_) if leaves => return self.catch_up(room).await,
                Ok(_) => {}
            }
        }
        Err(Error::new("busy", "The room is busy with other changes. Try again."))
    }

    pub(super) async fn mark_read(&mut self, room: RoomId, seq: u64) -> Result<(), Error> {
        let own = self.secrets()?.account().clone();
        let open = self.rooms.get_mut(&room).ok_or_else(|| Error::not_found("room"))?;
        let seq = seq.min(open.room.position().seq);
        if seq <= open.meta.read_seq {
            return Ok(());
        }
        open.meta.read_seq = seq;
        open.meta.unread = self.store.read(move |vault| Ok(vault.unread(&room, seq, &own)?)).await?;
        let mut changes = Changes::new();
        changes.put_room(&room, open.row()?);
        self.commit(changes).await?;
        self.receipts_due.insert((room, ReceiptKind::Read), seq);
        let view = self.room_view(room).await?;
        self.events.tell(Event::Room { room: view });
        self.send_receipts().await;
        Ok(())
    }

    /// The person knows that the log was shown differently to others, and goes on.
    pub(super) async fn end_block(&mut self, room: RoomId) -> Result<RoomView, Error> {
        let open = self.rooms.get_mut(&room).ok_or_else(|| Error::not_found("room"))?;
        if open.room.blocked().is_none() {
            return Err(Error::new(
                "forbidden",
                "This room's log is not in doubt: there is nothing to pass over.",
            ));
        }
        open.room.end_block()?;
        open.meta.blocked = None;
        let mut changes = Changes::new();
        changes.put_room(&room, open.row()?);
        self.commit(changes).await?;
        self.tell_room(room).await;
        self.flush().await;
        self.room_view(room).await
    }

    pub(super) async fn tell_room(&self, room: RoomId) {
        match self.room_view(room).await {
            Ok(room) => self.events.tell(Event::Room { room }),
            Err(error) => tracing::error!(code = error.code(), "a room cannot be shown"),
        }
    }
}
