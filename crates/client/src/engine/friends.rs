//! Friends.

use mildam_protocol::command;
use mildam_protocol::records::AccountId;
use mildam_vault::{Changes, Slot};

use super::Engine;
use crate::error::Error;
use crate::model::Event;
use crate::store;

impl Engine {
    pub(super) async fn request_friend(&mut self, account: AccountId, greeting: String) -> Result<(), Error> {
        self.online().await?;
        if greeting.len() > command::MAX_GREETING {
            return Err(Error::new("too_long", "The greeting is too long."));
        }
        self.ask(&command::FriendRequest { account, greeting }).await?;
        self.refresh_friends().await
    }

    pub(super) async fn answer_friend(&mut self, account: AccountId, accept: bool) -> Result<(), Error> {
        self.online().await?;
        if accept {
            self.ask(&command::FriendAccept { account }).await?;
        } else {
            self.ask(&command::FriendDecline { account }).await?;
        }
        self.refresh_friends().await
    }

    /// Reads the list anew, and the keys of friends that are not known yet.
    pub(super) async fn refresh_friends(&mut self) -> Result<(), Error> {
        let list = self.ask(&command::FriendList {}).await?;
        let unknown: Vec<AccountId> = list
            .friends
            .iter()
            .map(|friend| friend.account.clone())
            .filter(|account| self.contacts.get(account).is_none())
            .collect();
        let mut changes = Changes::new();
        store::put(&mut changes, Slot::Friends, &list)?;
        self.commit(changes).await?;
        self.fetch_keys(&unknown).await?;
        self.refresh_presence().await?;
        let friends = self.store.read(store::friends).await?;
        self.events.tell(Event::Friends { friends });
        Ok(())
    }
}
