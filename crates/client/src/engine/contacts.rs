//! The keys of others: pinned at the first contact, moved forward, and left to the person to judge
//! when somebody's identity changes.

use mildam_e2ee::{DirectoryError, KnownAccount};
use mildam_protocol::command::{self, KnownKeys, MAX_KEYS};
use mildam_protocol::records::{AccountId, RoomId};
use mildam_vault::Changes;

use super::Engine;
use crate::error::Error;
use crate::model::{ContactView, Event};
use crate::store::{self, ContactRow};

impl Engine {
    /// Asks for the newest public keys of accounts, and takes them if they follow what is known.
    pub(super) async fn fetch_keys(&mut self, accounts: &[AccountId]) -> Result<(), Error> {
        let mut changed = Vec::new();
        for some in accounts.chunks(MAX_KEYS) {
            let answer = self.ask(&command::GetAccountKeys { accounts: some.to_vec() }).await?;
            let mut changes = Changes::new();
            for KnownKeys { nickname, keys } in answer.accounts {
                let account = keys.account.clone();
                if !some.contains(&account) {
                    continue;
                }
                let before = self.contacts.get(&account);
                match ContactRow::told(before, nickname, keys) {
                    Ok(row) if before == Some(&row) => {}
                    Ok(row) => {
                        if row.offered.is_some() != before.is_some_and(|before| before.offered.is_some()) {
                            changed.push(account.clone());
                        }
                        changes.put_account(&account, serde_json::to_vec(&row)?);
                        self.contacts.insert(account, row);
                    }
                    // What was known stays; rooms with this account refuse what does not fit it.
                    Err(error) => tracing::warn!(%error, "new keys of an account were not taken"),
                }
            }
            self.commit(changes).await?;
        }
        for account in changed {
            self.tell_contact(&account).await?;
        }
        Ok(())
    }

    /// The person has compared the safety number, or takes that back.
    pub(super) async fn set_verified(
        &mut self,
        account: AccountId,
        verified: bool,
    ) -> Result<ContactView, Error> {
        let row = self.contact(&account)?;
        let verified = verified.then(|| row.known.identity().fingerprint());
        self.put_contact(&account, ContactRow { verified, ..row }).await
    }

    /// The person decides about another identity that the relay shows: it is taken in place of the
    /// known one, or left alone.
    pub(super) async fn decide_identity(
        &mut self,
        account: AccountId,
        accept: bool,
    ) -> Result<ContactView, Error> {
        let mut row = self.contact(&account)?;
        let Some(offered) = row.offered.take() else {
            return Err(Error::new("not_found", "This contact's identity has not changed."));
        };
        if accept {
            row.known = KnownAccount::first_contact(*offered)
                .map_err(|_| Error::internal("an offered identity does not verify"))?;
            (row.verified, row.declined) = (None, None);
        } else {
            row.declined = Some(offered.identity_key.fingerprint());
        }
        self.put_contact(&account, row).await
    }

    fn contact(&self, account: &AccountId) -> Result<ContactRow, Error> {
        self.contacts.get(account).cloned().ok_or_else(|| Error::not_found("contact"))
    }

    async fn put_contact(&mut self, account: &AccountId, row: ContactRow) -> Result<ContactView, Error> {
        let mut changes = Changes::new();
        changes.put_account(account, serde_json::to_vec(&row)?);
        self.contacts.insert(account.clone(), row);
        for (room, open) in &mut self.rooms {
            // A room that was made under another identity needs one that takes its place.
            let beyond_repair = open.is_beyond_repair(&self.contacts);
            if open.room.is_member(account) && open.meta.beyond_repair != beyond_repair {
                open.meta.beyond_repair = beyond_repair;
                changes.put_room(room, open.row()?);
            }
        }
        self.commit(changes).await?;
        self.tell_contact(account).await?;
        // A decision may be what a waiting message waited for.
        self.flush().await;
        let (asked, now) = (account.clone(), self.store.now());
        self.store.read(move |vault| store::contact(vault, &asked, now)).await
    }

    /// A contact is shown in the list of friends and in rooms.
    async fn tell_contact(&self, account: &AccountId) -> Result<(), Error> {
        let friends = self.store.read(store::friends).await?;
        self.events.tell(Event::Friends { friends });
        let of_account = |room: &&RoomId| {
            self.rooms.get(room).is_some_and(|open| open.room.is_member(account) && !open.meta.left)
        };
        for room in self.rooms.keys().filter(of_account) {
            self.tell_room(*room).await;
        }
        Ok(())
    }

    /// Nothing is sent in a room as long as the relay shows another identity of a member than the
    /// known one, and the person has not decided.
    pub(super) fn check_identities(&self, room: RoomId) -> Result<(), Error> {
        let open = self.rooms.get(&room).ok_or_else(|| Error::not_found("room"))?;
        self.contacts.check_unchanged(open.room.members().map(|member| &member.account))
    }
}

impl ContactRow {
    /// A contact after the relay has shown keys. `declined` is remembered, so that one refusal
    /// stands.
    fn told(
        before: Option<&Self>,
        nickname: String,
        keys: mildam_protocol::records::AccountKeys,
    ) -> Result<Self, DirectoryError> {
        let Some(before) = before else {
            let known = KnownAccount::first_contact(keys)?;
            return Ok(Self::first(nickname, known));
        };
        let mut row = Self { nickname, ..before.clone() };
        match row.known.update(keys.clone()) {
            Ok(_) => row.offered = None,
            Err(DirectoryError::IdentityChanged) => {
                let another = KnownAccount::first_contact(keys.clone())?;
                let declined = row.declined == Some(another.identity().fingerprint());
                row.offered = (!declined).then(|| Box::new(keys));
            }
            Err(error) => return Err(error),
        }
        Ok(row)
    }
}
