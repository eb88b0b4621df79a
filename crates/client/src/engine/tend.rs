//! What has to be done from time to time: new prekeys, old ones erased, keys of the vault changed.

use std::time::Duration;

use mildam_e2ee::{DeviceSecrets, Directory};
use mildam_protocol::command;
use mildam_protocol::records::RoomId;
use mildam_vault::{Changes, Slot};
use tokio::time::Instant;

use super::retry::Retry;
use super::{Engine, OpenRoom, Own};
use crate::error::Error;
use crate::model::Notice;
use crate::store;

/// How often it is looked whether something is due.
pub(super) const TEND_EVERY: Duration = Duration::from_secs(60);
/// The vault's keys are changed, so that what was deleted cannot be read, after so many
/// milliseconds: a day.
const ROTATE_AFTER: u64 = 24 * 60 * 60 * 1_000;

/// A snapshot that could not be written is tried again after so long, and twice as long each time after.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(60);
/// At the latest after this.
const LONGEST_SNAPSHOT_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// When a snapshot may be tried: one that does not fit costs as much as one that does.
pub(super) const fn snapshots() -> Retry {
    Retry::new(SNAPSHOT_PAUSE, LONGEST_SNAPSHOT_PAUSE)
}

impl Own {
    /// Adds a notice for the person, kept until it is dismissed.
    pub(super) fn note(&mut self, notice: Notice, changes: &mut Changes) -> Result<(), Error> {
        if !self.slot.notices.contains(&notice) {
            self.slot.notices.push(notice);
            store::put(changes, Slot::Account, &self.slot)?;
        }
        Ok(())
    }
}

impl Engine {
    pub(super) async fn tend(&mut self) {
        if self.store.has_fault() {
            return;
        }
        if let Err(error) = self.tend_keys().await {
            tracing::info!(code = error.code(), "keys were not tended to");
        }
        if let Err(error) = self.tend_vault(ROTATE_AFTER).await {
            tracing::error!(code = error.code(), "the vault was not tended to");
        }
    }

    pub(super) async fn erase_now(&mut self) -> Result<(), Error> {
        if let Err(error) = self.tend_keys().await {
            tracing::info!(code = error.code(), "keys were not tended to");
        }
        self.tend_vault(0).await
    }

    async fn tend_keys(&mut self) -> Result<(), Error> {
        if self.session.is_none() || self.wire.is_none() {
            return Ok(());
        }
        self.turn_prekey().await?;
        let now = self.relay_now();
        if self.secrets()?.has_old_prekeys(now) && self.sync_rooms().await? {
            let own = self.own.as_mut().ok_or_else(Error::no_account)?;
            own.secrets.drop_old_prekeys(now);
            self.store_secrets().await?;
        }
        Ok(())
    }

    /// Brings the relay a new prekey when it is time. The private half is durable before the relay
    /// hears of the public one.
    pub(super) async fn turn_prekey(&mut self) -> Result<(), Error> {
        let (account, device) = (self.secrets()?.account().clone(), self.secrets()?.device());
        let published = self.contacts.account(&account).and_then(|known| known.prekey(&device)).cloned();
        let now = self.relay_now();
        let own = self.own.as_mut().ok_or_else(Error::no_account)?;
        let unknown = published.as_ref().is_some_and(|published| !own.secrets.has_prekey(published));
        let due = own.secrets.prekey_due(published.as_ref(), now, &mut crate::rng())?.cloned();
        let Some(prekey) = due else {
            return Ok(());
        };
        self.store_secrets().await?;
        if unknown {
            tracing::warn!("the relay has a prekey of this device that it does not know");
            self.state_was_put_back().await?;
        }
        self.ask(&command::PreKeyReplace { prekey }).await?;
        let own = self.own.as_mut().ok_or_else(Error::no_account)?;
        own.secrets.prekey_confirmed(now);
        self.store_secrets().await?;
        self.fetch_keys(&[account]).await
    }

    /// A vault that was put together again may lack what it had last: nothing goes on under its
    /// old chains.
    pub(super) async fn look_after_repair(&mut self) -> Result<(), Error> {
        let Some(repair) = self.store.read(|vault| Ok(vault.repair()?)).await? else {
            return Ok(());
        };
        tracing::warn!(repair.messages, repair.unreadable, "the vault was repaired");
        let mut changes = Changes::new();
        for (room, open) in &mut self.rooms {
            open.room.forget_sending();
            changes.put_room(room, open.row()?);
        }
        changes.remove(Slot::Repair);
        if let Some(own) = &mut self.own {
            own.slot.notices.retain(|notice| *notice != Notice::VaultDamaged);
            own.note(Notice::VaultRepaired, &mut changes)?;
        }
        self.commit(changes).await?;
        self.tell_state().await;
        Ok(())
    }

    /// This device is no longer on its account's list.
    pub(super) async fn was_removed(&mut self) -> Result<(), Error> {
        let mut changes = Changes::new();
        let own = self.own.as_mut().ok_or_else(Error::no_account)?;
        own.slot.notices.retain(|notice| *notice != Notice::LoggedOut);
        own.note(Notice::DeviceRemoved, &mut changes)?;
        self.commit(changes).await?;
        self.forget_session().await
    }

    /// Somebody else has ended this device's session. A device that was taken off the account learns that
    /// when it logs in.
    pub(super) async fn was_logged_out(&mut self) -> Result<(), Error> {
        let mut changes = Changes::new();
        self.own.as_mut().ok_or_else(Error::no_account)?.note(Notice::LoggedOut, &mut changes)?;
        self.commit(changes).await?;
        self.forget_session().await
    }

    async fn store_secrets(&mut self) -> Result<(), Error> {
        let mut changes = Changes::new();
        changes.put(Slot::Device, self.secrets()?.to_secret_bytes()?.to_vec());
        self.commit(changes).await
    }

    /// What this device would send with may have been used already: it begins anew everywhere.
    pub(super) async fn state_was_put_back(&mut self) -> Result<(), Error> {
        let mut changes = Changes::new();
        for (room, open) in &mut self.rooms {
            open.room.forget_sending();
            changes.put_room(room, open.row()?);
        }
        self.own.as_mut().ok_or_else(Error::no_account)?.note(Notice::StatePutBack, &mut changes)?;
        self.commit(changes).await?;
        self.tell_state().await;
        Ok(())
    }

    async fn tell_of(&mut self, notice: Notice) {
        let mut changes = Changes::new();
        let noted = match &mut self.own {
            Some(own) => own.note(notice, &mut changes),
            None => return,
        };
        let stored = match noted {
            Ok(()) => self.commit(changes).await,
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            tracing::error!(code = error.code(), "a notice was not stored");
        }
        self.tell_state().await;
    }

    pub(super) async fn dismiss(&mut self, notice: Notice) -> Result<(), Error> {
        if notice == Notice::VaultRepaired {
            // Whoever has seen what came back lets the damaged original go.
            self.store.read(|vault| Ok(vault.discard_damaged()?)).await?;
        }
        let own = self.own.as_mut().ok_or_else(Error::no_account)?;
        own.slot.notices.retain(|kept| *kept != notice);
        let mut changes = Changes::new();
        store::put(&mut changes, Slot::Account, &own.slot)?;
        self.commit(changes).await?;
        self.tell_state().await;
        Ok(())
    }

    /// Changes the vault's keys if that was so long ago, in milliseconds. Everything is read for it, so
    /// this is where damage shows that nobody has stumbled over yet.
    async fn tend_vault(&mut self, rotate_after: u64) -> Result<(), Error> {
        let now = self.store.now();
        let mut tended = self.store.read(move |vault| Ok(store::rotate(vault, now, rotate_after)?)).await;
        if tended.is_ok() && self.snapshots.may_try(Instant::now()) {
            tended = self.store.read(|vault| Ok(store::keep_snapshot(vault)?)).await;
            match tended {
                Ok(()) => self.snapshots.reset(),
                Err(_) => self.snapshots.later(Instant::now()),
            }
        }
        if tended.as_ref().is_err_and(|error| error.code() == "vault_damaged") {
            self.tell_of(Notice::VaultDamaged).await;
        }
        tended
    }

    /// Rooms whose members' devices have changed get a new key now and not with the next message:
    /// after devices were shut out.
    pub(super) async fn renew_rooms(&mut self) {
        let now = self.store.now();
        self.renew(|engine, open| open.room.needs_epoch(now, &engine.contacts)).await;
    }

    /// Rooms whose key this device could not get at get a new one, or it would read nothing of them
    /// until it writes.
    pub(super) async fn renew_lost_keys(&mut self) {
        let Ok(device) = self.secrets().map(DeviceSecrets::device) else { return };
        self.renew(|_, open| open.read_back && open.room.lacks_key(&device)).await;
    }

    async fn renew(&mut self, due: impl Fn(&Self, &OpenRoom) -> bool) {
        let due = self.rooms.iter().filter(|(_, open)| !open.meta.left && due(self, open));
        let rooms: Vec<RoomId> = due.map(|(room, _)| *room).collect();
        for room in rooms {
            if let Err(error) = self.announce(room).await {
                tracing::info!(code = error.code(), "a room's key was not renewed");
            }
        }
    }
}
