//! Another server key than the known one: remembered until somebody decides.

use mildam_protocol::ServerLink;
use mildam_protocol::records::Hash;
use mildam_vault::{Changes, Slot};

use super::Engine;
use crate::error::Error;
use crate::model::{ClientState, OfferedKeyView, ServerView};
use crate::server::Server;

impl Engine {
    /// Remembers the server key that an attempt found in place of the link's. What was declined is
    /// not offered again, unless another one came in between.
    pub(super) fn note_offered_key(&mut self, link: &ServerLink, error: &Error) {
        let Some(found) = error.found_key() else { return };
        if self.declined_key.as_deref() == Some(found) {
            return;
        }
        self.declined_key = None;
        let offered = OfferedKeyView { known: link.fingerprint().to_string(), found: found.to_owned() };
        self.offered_at = Some(link.clone());
        self.standing.send_modify(|standing| standing.offered_key = Some(offered));
    }

    pub(super) fn forget_offered_key(&self) -> Option<OfferedKeyView> {
        let mut forgotten = None;
        self.standing.send_modify(|standing| forgotten = standing.offered_key.take());
        forgotten
    }

    pub(super) async fn decide_server_key(
        &mut self,
        found: &str,
        accept: bool,
    ) -> Result<ClientState, Error> {
        let offered = self.standing.borrow().offered_key.clone();
        if offered.is_none_or(|offered| offered.found != found) {
            return Err(Error::not_found("offered key"));
        }
        if accept {
            self.take_server_key(found).await?;
        } else {
            self.declined_key = Some(found.to_owned());
        }
        self.forget_offered_key();
        self.tell_state().await;
        self.state().await
    }

    /// The known relay has that key from now on. Said anew, the link makes the keeper try at once.
    async fn take_server_key(&mut self, found: &str) -> Result<(), Error> {
        let fingerprint: Hash = found.parse().map_err(|_| Error::internal("an offered fingerprint"))?;
        let known = self.server.borrow().clone().ok_or_else(|| Error::not_found("server"))?;
        let shown_at = self.offered_at.take().unwrap_or_else(|| known.first().clone());
        let server = known.under(&shown_at, fingerprint)?;
        self.store_server(&server).await?;
        self.server.send_replace(Some(server));
        Ok(())
    }

    pub(super) async fn store_server(&mut self, server: &Server) -> Result<(), Error> {
        let mut changes = Changes::new();
        changes.put(Slot::Server, server.to_slot()?);
        self.commit(changes).await
    }

    /// The relay was reached at this address: it is tried first from now on.
    pub(super) async fn prefer(&mut self, link: ServerLink) -> Result<(), Error> {
        let known = self.server.borrow().clone();
        let Some(known) = known.filter(|known| *known.first() != link) else { return Ok(()) };
        let server = known.with_first(link);
        self.store_server(&server).await?;
        self.hold_server(server);
        self.tell_state().await;
        Ok(())
    }

    /// Takes what is known of the same relay for the next connection. The one that there is stays.
    pub(super) fn hold_server(&self, server: Server) {
        self.server.send_if_modified(|held| {
            *held = Some(server);
            false
        });
    }

    /// Forgets an address of the relay.
    pub(super) async fn forget_address(&mut self, address: &str) -> Result<ServerView, Error> {
        let known = self.server.borrow().clone().ok_or_else(|| Error::not_found("server"))?;
        let found = known.links().find(|link| link.address() == address || link.shown_address() == address);
        let found = found.ok_or_else(|| Error::not_found("address"))?.clone();
        let server = known
            .without(&found)
            .ok_or_else(|| Error::new("forbidden", "It is the only address of this server that is known."))?;
        self.store_server(&server).await?;
        // The connection that there is stays, wherever it leads.
        self.hold_server(server.clone());
        self.tell_state().await;
        Ok(server.view())
    }
}
