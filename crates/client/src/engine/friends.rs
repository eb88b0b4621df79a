//! Friends, and the keys of others.

use mildam_e2ee::{DirectoryError, KnownAccount};
use mildam_protocol::command::{self, KnownKeys, MAX_KEYS};
use mildam_protocol::records::AccountId;
use mildam_vault::{Changes, Slot};

use super::Engine;
use crate::error::Error;
use crate::model::Event;
use crate::store::{self, KnownRow};

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
            .filter(|account| !self.directory.contains_key(account))
            .collect();
        let mut changes = Changes::new();
        store::put(&mut changes, Slot::Friends, &list)?;
        self.commit(changes).await?;
        self.fetch_keys(&unknown).await?;
        let friends = self.store.read(store::friends).await?;
        self.events.tell(Event::Friends { friends });
        Ok(())
    }

    /// Asks for the newest public keys of accounts, and takes them if they follow what is known.
    pub(super) async fn fetch_keys(&mut self, accounts: &[AccountId]) -> Result<(), Error> {
        for some in accounts.chunks(MAX_KEYS) {
            let answer = self.ask(&command::GetAccountKeys { accounts: some.to_vec() }).await?;
            let mut changes = Changes::new();
            for KnownKeys { nickname, keys } in answer.accounts {
                let account = keys.account.clone();
                if !some.contains(&account) {
                    continue;
                }
                let taken = match self.directory.get(&account).cloned() {
                    None => KnownAccount::first_contact(keys),
                    Some(mut known) => known.update(keys).map(|_| known),
                };
                match taken {
                    Ok(known) => {
                        let row = KnownRow { nickname: nickname.clone(), known: known.clone() };
                        changes.put_account(&account, serde_json::to_vec(&row)?);
                        self.directory.insert(account.clone(), known);
                        self.nicknames.insert(account, nickname);
                    }
                    // What was known stays; rooms with this account refuse what does not fit it.
                    Err(error) => warn_of(&error),
                }
            }
            self.commit(changes).await?;
        }
        Ok(())
    }
}

fn warn_of(error: &DirectoryError) {
    tracing::warn!(%error, "new keys of an account were not taken");
}
