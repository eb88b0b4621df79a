//! Another server key than the known one: remembered until somebody decides.

use mildam_protocol::ServerLink;
use mildam_protocol::records::Hash;
use mildam_vault::{Changes, Slot};

use super::Engine;
use crate::error::Error;
use crate::model::{ClientState, OfferedKeyView};
use crate::store;

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
        let known = self.link.borrow().clone().ok_or_else(|| Error::not_found("server"))?;
        let link = ServerLink::new(known.host(), known.port(), fingerprint)?;
        let mut changes = Changes::new();
        store::put(&mut changes, Slot::Server, &link.to_string())?;
        self.commit(changes).await?;
        self.link.send_replace(Some(link));
        Ok(())
    }
}
