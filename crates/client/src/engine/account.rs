//! Getting an account, and a session.

use mildam_e2ee::recovery::WordLanguage;
use mildam_e2ee::{
    DeviceKey, DeviceSecrets, IdentityKey, KnownAccount, PreKey, RecoveryWords, WrapKey, first_device_list,
};
use mildam_protocol::ServerLink;
use mildam_protocol::command::{self, SessionAnswer};
use mildam_protocol::records::{AccountId, AccountKeys};
use mildam_vault::{Changes, Slot};

use super::{Engine, Own};
use crate::client::SignUp;
use crate::error::Error;
use crate::events::Events;
use crate::model::{AccountView, ConnectionState, Event, ServerView, SignUpStep};
use crate::store::{self, AccountSlot, KnownRow, PendingSignUp, SessionSlot};

/// New keys of an account, and its words.
struct NewKeys {
    own: Own,
    words: Vec<&'static str>,
}

/// Generates everything; each step is told before it begins. Takes a few seconds.
fn generate(account: AccountId, email: String, nickname: String, events: &Events) -> Result<NewKeys, Error> {
    let mut rng = crate::rng();
    let step = |step| events.tell(Event::SignUp { step });
    step(SignUpStep::IdentityKey);
    let identity = IdentityKey::generate(&mut rng)?;
    step(SignUpStep::WrapKey);
    let wrap = WrapKey::generate(&mut rng)?;
    step(SignUpStep::DeviceKey);
    let device = DeviceKey::generate(&mut rng);
    step(SignUpStep::PreKey);
    let prekey = PreKey::generate(&mut rng)?;
    let secrets = DeviceSecrets::new(account.clone(), wrap, device, prekey, crate::now())?;
    step(SignUpStep::Sealing);
    let words = RecoveryWords::generate(&mut rng);
    let sealed = identity.seal(&words, &account, &mut rng)?;
    let device_list = first_device_list(&identity, &secrets, &mut rng)?;
    let prekey = secrets.signed_prekey().cloned().ok_or_else(|| Error::internal("no prekey"))?;
    let command = command::SignUp {
        account: account.clone(),
        email,
        password: String::new(),
        nickname: nickname.clone(),
        identity_key: identity.public().clone(),
        sealed_identity: sealed.0,
        device_list,
        prekey,
    };
    let slot = AccountSlot {
        account,
        nickname,
        identity: identity.public().fingerprint(),
        device: secrets.device().to_string(),
        pending: Some(PendingSignUp { command: Box::new(command) }),
    };
    Ok(NewKeys { own: Own { slot, secrets }, words: words.words(WordLanguage::English) })
}

impl Engine {
    pub(super) async fn connect(&mut self, link: ServerLink) -> Result<ServerView, Error> {
        let known = self.link.borrow().clone();
        let committed = self.own.as_ref().is_some_and(|own| own.slot.pending.is_none());
        if committed && known.as_ref().is_some_and(|known| known.fingerprint() != link.fingerprint()) {
            return Err(Error::new(
                "forbidden",
                "This device's account lives on another server. Use another profile for this one.",
            ));
        }
        let before = known.clone();
        if known.as_ref() != Some(&link) || self.wire.is_none() {
            self.wire = None;
            self.down = Error::offline();
            self.link.send_replace(Some(link.clone()));
            if let Err(error) = self.connected().await {
                // A link that does not work is not remembered.
                self.link.send_replace(before.clone());
                if before.is_none() {
                    self.set_connection(ConnectionState::Unconfigured).await;
                }
                return Err(error);
            }
        }
        let mut changes = Changes::new();
        store::put(&mut changes, Slot::Server, &link.to_string())?;
        self.commit(changes).await?;
        self.tell_state().await;
        store::server_view(&link.to_string())
    }

    pub(super) async fn sign_up(
        &mut self,
        account: AccountId,
        sign_up: SignUp,
    ) -> Result<AccountView, Error> {
        if self.own.as_ref().is_some_and(|own| own.slot.pending.is_none()) {
            return Err(Error::new("forbidden", "There is an account on this device already."));
        }
        let email = sign_up.email.trim().to_owned();
        if !email.contains('@') || email.len() > command::MAX_EMAIL {
            return Err(Error::new("bad_email", "This is not an e-mail address."));
        }
        if sign_up.password.chars().count() < command::MIN_PASSWORD
            || sign_up.password.len() > command::MAX_PASSWORD
        {
            return Err(Error::new("bad_password", "A password has at least 8 characters."));
        }
        let wire = self.connected().await?;
        let nickname = sign_up.nickname.trim().to_owned();
        self.prepare_keys(account, email, nickname).await?;
        self.events.tell(Event::SignUp { step: SignUpStep::Registering });
        let pending =
            self.own.as_ref().and_then(|own| own.slot.pending.clone()).ok_or_else(Error::no_account)?;
        let mut request = *pending.command.clone();
        request.password = sign_up.password.to_string();
        let answer = wire.ask(None, &request).await;
        zeroize::Zeroize::zeroize(&mut request.password);
        let answer = answer?;

        let keys = AccountKeys {
            account: request.account.clone(),
            identity_key: request.identity_key,
            lists: vec![request.device_list],
            prekeys: vec![request.prekey],
        };
        let known = KnownAccount::first_contact(keys).map_err(|_| Error::internal("own keys"))?;
        let mut changes = Changes::new();
        let row = KnownRow { nickname: answer.nickname.clone(), known: known.clone() };
        changes.put_account(&request.account, serde_json::to_vec(&row)?);
        self.directory.insert(request.account, known);
        if let Some(own) = &mut self.own {
            own.slot.pending = None;
            own.slot.nickname.clone_from(&answer.nickname);
            store::put(&mut changes, Slot::Account, &own.slot)?;
        }
        self.begin_session(answer, changes).await?;
        self.events.tell(Event::SignUp { step: SignUpStep::Done });
        self.own_view().await
    }

    /// The keys for a sign-up, durably stored before the relay hears of them: if its answer is
    /// lost, the next try brings the same keys and gets the same answer.
    async fn prepare_keys(
        &mut self,
        account: AccountId,
        email: String,
        nickname: String,
    ) -> Result<(), Error> {
        if let Some(own) = self.own.as_mut().filter(|own| own.slot.account == account)
            && let Some(pending) = &mut own.slot.pending
        {
            pending.command.email = email;
            pending.command.nickname.clone_from(&nickname);
            own.slot.nickname = nickname;
            return Ok(());
        }
        let events = self.events.clone();
        let made = tokio::task::spawn_blocking(move || generate(account, email, nickname, &events));
        let NewKeys { own, words } = made.await??;
        let mut changes = Changes::new();
        store::put(&mut changes, Slot::Account, &own.slot)?;
        store::put(&mut changes, Slot::RecoveryWords, &words)?;
        changes.put(Slot::Device, own.secrets.to_secret_bytes()?.to_vec());
        self.commit(changes).await?;
        self.own = Some(own);
        Ok(())
    }

    pub(super) async fn log_in(&mut self, account: &AccountId, password: &str) -> Result<AccountView, Error> {
        let own = self.own.as_ref().filter(|own| own.slot.account == *account && own.slot.pending.is_none());
        if own.is_none() {
            return Err(Error::new("device_unknown", "This account was not made on this device."));
        }
        let wire = self.connected().await?;
        let secrets = self.secrets()?;
        let request = command::LogIn {
            account: account.clone(),
            password: password.to_owned(),
            device: secrets.device(),
            proof: secrets.sign_login_proof(wire.transcript()),
        };
        let answer = wire.ask(None, &request).await?;
        self.begin_session(answer, Changes::new()).await?;
        self.own_view().await
    }

    async fn begin_session(&mut self, answer: SessionAnswer, mut changes: Changes) -> Result<(), Error> {
        let slot = SessionSlot { session: answer.session.clone(), expires_at: answer.expires_at };
        store::put(&mut changes, Slot::Session, &slot)?;
        self.commit(changes).await?;
        self.session = Some(answer.session);
        self.tell_state().await;
        self.attach().await
    }

    pub(super) async fn log_out(&mut self) -> Result<(), Error> {
        if self.own.is_none() {
            return Err(Error::no_account());
        }
        if let (Some(wire), Some(session)) = (self.wire.clone(), self.session.clone()) {
            // Offline, the session ends here and expires there.
            let _ = wire.ask(Some(&session), &command::LogOut {}).await;
        }
        self.forget_session().await
    }

    pub(super) async fn forget_session(&mut self) -> Result<(), Error> {
        self.session = None;
        let mut changes = Changes::new();
        changes.remove(Slot::Session);
        self.commit(changes).await?;
        if self.wire.is_some() {
            self.set_connection(ConnectionState::Connected).await;
        }
        self.tell_state().await;
        Ok(())
    }

    pub(super) async fn confirm_words(&mut self) -> Result<(), Error> {
        let mut changes = Changes::new();
        changes.remove(Slot::RecoveryWords);
        self.commit(changes).await?;
        self.tell_state().await;
        Ok(())
    }

    async fn own_view(&self) -> Result<AccountView, Error> {
        self.store.read(store::account).await?.ok_or_else(Error::no_account)
    }
}
