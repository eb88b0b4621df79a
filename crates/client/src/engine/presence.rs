//! Who is online and who is writing, and the account's own sessions: known while connected, and
//! stored nowhere.

use mildam_protocol::command;
use mildam_protocol::records::{AccountId, DeviceId, RoomId};

use super::Engine;
use crate::error::Error;
use crate::model::{Event, PresenceView, SessionView};
use crate::times;

impl Engine {
    /// Reads anew who is online.
    pub(super) async fn refresh_presence(&mut self) -> Result<(), Error> {
        let list = self.ask(&command::PresenceList {}).await?;
        let online = list.online.iter().map(ToString::to_string).collect();
        self.show_presence(PresenceView { visible: list.visible, online });
        Ok(())
    }

    /// Nobody is known to be online as long as there is no connection.
    pub(super) fn forget_presence(&self) {
        let visible = self.presence.borrow().visible;
        self.show_presence(PresenceView { visible, online: Vec::new() });
    }

    pub(super) fn on_presence(&self, account: &AccountId, online: bool) {
        let mut presence = self.presence.borrow().clone();
        presence.online.retain(|known| known != account.as_str());
        if online && presence.visible {
            presence.online.push(account.to_string());
            presence.online.sort();
        }
        self.show_presence(presence);
    }

    pub(super) fn on_typing(&self, room: &RoomId, account: &AccountId) {
        if self.presence.borrow().visible && self.rooms.contains_key(room) {
            self.events.tell(Event::Typing { room: room.to_string(), account: account.to_string() });
        }
    }

    fn show_presence(&self, presence: PresenceView) {
        let changed = self.presence.send_if_modified(|known| {
            let changed = *known != presence;
            known.clone_from(&presence);
            changed
        });
        if changed {
            self.events.tell(Event::Presence { presence });
        }
    }

    pub(super) async fn set_presence(&mut self, visible: bool) -> Result<PresenceView, Error> {
        self.online().await?;
        self.ask(&command::PresenceSet { visible }).await?;
        self.refresh_presence().await?;
        Ok(self.presence.borrow().clone())
    }

    /// Tells the members of a room that the person writes. That it is lost is no harm.
    pub(super) async fn typing(&mut self, room: RoomId) {
        let told = self.attached && self.presence.borrow().visible;
        if told && let Err(error) = self.ask(&command::Typing { room }).await {
            tracing::debug!(code = error.code(), "nobody was told of the writing");
        }
    }

    pub(super) async fn sessions(&mut self) -> Result<Vec<SessionView>, Error> {
        self.online().await?;
        let own = self.secrets()?.device();
        let sessions = self.ask(&command::SessionList {}).await?.sessions;
        Ok(sessions
            .into_iter()
            .map(|session| SessionView {
                device: session.device.to_string(),
                current: session.device == own,
                created_at: times::bounded(session.created_at),
                expires_at: times::bounded(session.expires_at),
                online: session.online,
            })
            .collect())
    }

    pub(super) async fn end_session(&mut self, device: DeviceId) -> Result<(), Error> {
        self.online().await?;
        if device == self.secrets()?.device() {
            return self.log_out().await;
        }
        self.ask(&command::SessionEnd { device }).await.map(drop)
    }
}
