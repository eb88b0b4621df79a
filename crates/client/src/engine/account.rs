//! Getting an account, and a session.

use mildam_e2ee::recovery::WordLanguage;
use mildam_e2ee::{
    DeviceKey, DeviceSecrets, IdentityKey, KnownAccount, PreKey, RecoveryWords, SealedIdentity, WrapKey,
    first_device_list,
};
use mildam_protocol::ServerLink;
use mildam_protocol::command::{self, SessionAnswer};
use mildam_protocol::link::InvitationToken;
use mildam_protocol::password::{LOGIN_FINISH, Login, PasswordError, Registration};
use mildam_protocol::records::bytes::Bytes;
use mildam_protocol::records::keys::Signature;
use mildam_protocol::records::{AccountId, AccountKeys, SignedPreKey};
use mildam_vault::{Changes, Slot};

use super::{Engine, Own};
use crate::client::{Recover, SignUp};
use crate::error::Error;
use crate::events::Events;
use crate::model::{AccountView, ConnectionState, Event, Notice, ServerView, SignUpStep};
use crate::server::Server;
use crate::store::{self, AccountSlot, ContactRow, PendingSignUp, SessionSlot};
use crate::times;

/// New keys of an account, and its words.
struct NewKeys {
    own: Own,
    words: Vec<&'static str>,
}

/// Generates everything; each step is told before it begins. Takes a few seconds.
fn generate(
    account: AccountId,
    email: String,
    nickname: String,
    now: u64,
    events: &Events,
) -> Result<NewKeys, Error> {
    let mut rng = crate::rng();
    let step = |step| events.tell(Event::SignUp { step });
    step(SignUpStep::IdentityKey);
    let identity = IdentityKey::generate(&mut rng)?;
    let secrets = generate_device(account.clone(), now, events)?;
    step(SignUpStep::Sealing);
    let words = RecoveryWords::generate(&mut rng);
    let sealed = identity.seal(&words, &account, &mut rng)?;
    let device_list = first_device_list(&identity, &secrets, 1, &mut rng)?;
    let command = command::SignUp {
        email,
        // Made with each try, since they belong to a connection.
        password: Bytes::default(),
        proof: Signature::from_bytes([0; Signature::LENGTH]),
        invitation: None,
        nickname: nickname.clone(),
        identity_key: identity.public().clone(),
        sealed_identity: sealed.0,
        recovery_key: words.recovery_key(&account)?,
        device_list,
        prekey: first_prekey(&secrets)?,
        account: account.clone(),
    };
    let slot = AccountSlot {
        account,
        nickname,
        identity: identity.public().fingerprint(),
        device: secrets.device().to_string(),
        pending: Some(PendingSignUp { command: Box::new(command) }),
        notices: Vec::new(),
    };
    Ok(NewKeys { own: Own { slot, secrets }, words: words.words(WordLanguage::English) })
}

fn generate_device(account: AccountId, now: u64, events: &Events) -> Result<DeviceSecrets, Error> {
    let mut rng = crate::rng();
    let step = |step| events.tell(Event::SignUp { step });
    step(SignUpStep::WrapKey);
    let wrap = WrapKey::generate(&mut rng)?;
    step(SignUpStep::DeviceKey);
    let device = DeviceKey::generate(&mut rng);
    step(SignUpStep::PreKey);
    let prekey = PreKey::generate(&mut rng)?;
    Ok(DeviceSecrets::new(account, wrap, device, prekey, now)?)
}

fn first_prekey(secrets: &DeviceSecrets) -> Result<SignedPreKey, Error> {
    secrets.signed_prekey().cloned().ok_or_else(|| Error::internal("no prekey"))
}

fn check_new_password(password: &str) -> Result<(), Error> {
    if password.chars().count() < command::MIN_PASSWORD {
        return Err(Error::new("bad_password", "A password has at least 8 characters."));
    }
    if password.len() > command::MAX_PASSWORD {
        return Err(Error::new("bad_password", "A password has at most 1,024 bytes."));
    }
    Ok(())
}

/// Ends a registration away from the threads that must not block: it stretches the password.
async fn finish_registration(
    registration: Registration,
    account: AccountId,
    response: Bytes,
) -> Result<Bytes, Error> {
    let finish =
        tokio::task::spawn_blocking(move || registration.finish(&account, &response, &mut crate::rng()));
    Ok(finish.await??)
}

impl Engine {
    pub(super) async fn connect(
        &mut self,
        link: ServerLink,
        invitation: Option<InvitationToken>,
    ) -> Result<ServerView, Error> {
        let known = self.server.borrow().clone();
        let committed = self.own.as_ref().is_some_and(|own| own.slot.pending.is_none());
        if committed && known.as_ref().is_some_and(|known| known.fingerprint() != link.fingerprint()) {
            return Err(Error::new(
                "forbidden",
                "This device's account lives on another server. Use another profile for this one.",
            ));
        }
        let server =
            known.as_ref().map_or_else(|| Server::new(link.clone()), |known| known.with_first(link.clone()));
        // Who has an account needs no invitation.
        let server = server.invited(invitation.filter(|_| !committed));
        if known.as_ref().is_none_or(|known| *known.first() != link) || self.wire.is_none() {
            self.wire = None;
            self.down = Error::offline();
            let offered = self.forget_offered_key();
            // Whoever names an address wants to know whether it works, and not whether another one does.
            self.server.send_replace(Some(Server::new(link)));
            if let Err(error) = self.connected().await {
                // A link that does not work is not remembered, nor what its address shows.
                self.server.send_replace(known.clone());
                self.standing.send_modify(|standing| standing.offered_key = offered);
                if known.is_none() {
                    self.set_connection(ConnectionState::Unconfigured).await;
                }
                return Err(error);
            }
        }
        self.store_server(&server).await?;
        self.hold_server(server.clone());
        self.tell_state().await;
        Ok(server.view())
    }

    pub(super) async fn sign_up(
        &mut self,
        account: AccountId,
        sign_up: SignUp,
        invitation: Option<InvitationToken>,
    ) -> Result<AccountView, Error> {
        if self.own.as_ref().is_some_and(|own| own.slot.pending.is_none()) {
            return Err(Error::new("forbidden", "There is an account on this device already."));
        }
        let email = sign_up.email.trim().to_owned();
        if !email.contains('@') || email.len() > command::MAX_EMAIL {
            return Err(Error::new("bad_email", "This is not an e-mail address."));
        }
        check_new_password(&sign_up.password)?;
        let wire = self.connected().await?;
        let nickname = sign_up.nickname.trim().to_owned();
        self.prepare_keys(account, email, nickname).await?;
        self.events.tell(Event::SignUp { step: SignUpStep::Registering });
        let pending =
            self.own.as_ref().and_then(|own| own.slot.pending.clone()).ok_or_else(Error::no_account)?;
        let mut request = *pending.command.clone();
        let (registration, password) = Registration::start(&sign_up.password, &mut crate::rng())?;
        let start = command::SignUpStart { account: request.account.clone(), password };
        let response = wire.ask(None, &start).await?.password;
        request.password = finish_registration(registration, request.account.clone(), response).await?;
        request.proof = self.secrets()?.sign_login_proof(wire.transcript());
        let server = self.server.borrow().clone();
        let kept = server.as_ref().and_then(Server::invitation).cloned();
        request.invitation = invitation.or(kept).map(|token| token.to_string());
        let answer = wire.ask(None, &request).await?;

        let keys = AccountKeys {
            account: request.account.clone(),
            identity_key: request.identity_key,
            lists: vec![request.device_list],
            prekeys: vec![request.prekey],
        };
        let known = KnownAccount::first_contact(keys).map_err(|_| Error::internal("own keys"))?;
        let mut changes = Changes::new();
        let row = ContactRow::first(answer.nickname.clone(), known);
        changes.put_account(&request.account, serde_json::to_vec(&row)?);
        self.contacts.insert(request.account, row);
        if let Some(own) = &mut self.own {
            own.slot.pending = None;
            own.slot.nickname.clone_from(&answer.nickname);
            store::put(&mut changes, Slot::Account, &own.slot)?;
        }
        if let Some(server) = server.map(|server| server.signed_up()) {
            changes.put(Slot::Server, server.to_slot()?);
            self.hold_server(server);
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
        let now = self.relay_now();
        if let Some(own) = self.own.as_mut().filter(|own| own.slot.account == account)
            && let Some(pending) = &mut own.slot.pending
            // Keys that a wrong clock dated were never taken, and never will be.
            && pending.command.prekey.created_at <= times::tomorrow(now)
        {
            pending.command.email = email;
            pending.command.nickname.clone_from(&nickname);
            own.slot.nickname = nickname;
            return Ok(());
        }
        let events = self.events.clone();
        let made = tokio::task::spawn_blocking(move || generate(account, email, nickname, now, &events));
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
        let (login, first) = Login::start(password, &mut crate::rng())?;
        let secrets = self.secrets()?;
        let start = command::LogInStart {
            account: account.clone(),
            password: first,
            device: Some(secrets.device()),
            proof: Some(secrets.sign_login_proof(wire.transcript())),
        };
        let response = wire.ask(None, &start).await?.password;
        let (asked, transcript) = (account.clone(), *wire.transcript());
        let finish = tokio::task::spawn_blocking(move || {
            login.finish(&asked, &response, &transcript, &mut crate::rng())
        });
        let last = match finish.await? {
            Ok(last) => last,
            // The relay hears of a wrong password as well, so that it can count.
            Err(PasswordError::Wrong) => Bytes(vec![0; LOGIN_FINISH]),
            Err(error) => return Err(error.into()),
        };
        let secrets = self.secrets()?;
        let request = command::LogIn {
            account: account.clone(),
            password: last,
            device: secrets.device(),
            proof: secrets.sign_login_proof(wire.transcript()),
        };
        let answer = match wire.ask(None, &request).await {
            Err(error) if error.code() == "device_unknown" => {
                self.was_removed().await?;
                return Err(error);
            }
            other => other?,
        };
        self.begin_session(answer, Changes::new()).await?;
        self.own_view().await
    }

    pub(super) async fn recover(
        &mut self,
        account: AccountId,
        recover: Recover,
    ) -> Result<AccountView, Error> {
        // A connection that belongs to the device that this was is of no use to the one it becomes.
        let session = self.session.take();
        let outcome = Box::pin(self.begin_generation(account, recover)).await;
        if outcome.is_err() && self.session.is_none() && session.is_some() {
            self.session = session;
            self.attach().await?;
        }
        outcome
    }

    /// Begins a new generation of the account's devices with this one: the words open the identity
    /// key, which signs this device's list. If the answer is lost, the next try begins the
    /// generation after it.
    async fn begin_generation(&mut self, account: AccountId, recover: Recover) -> Result<AccountView, Error> {
        if self.own.as_ref().is_some_and(|own| own.slot.pending.is_none() && own.slot.account != account) {
            return Err(Error::new("forbidden", "There is another account on this device already."));
        }
        let words = RecoveryWords::parse(&recover.words)?;
        check_new_password(&recover.password)?;
        let wire = self.fresh_connection().await?;
        let (registration, password) = Registration::start(&recover.password, &mut crate::rng())?;
        let proof = words.sign(&account, wire.transcript())?;
        let start = command::RecoverStart { account: account.clone(), password, proof };
        let stands = wire.ask(None, &start).await?;
        let mut keys = stands.keys;
        let fits = keys.account == account && keys.verify().is_ok();
        let generation = keys.lists.last().filter(|_| fits).and_then(|list| list.generation.checked_add(1));
        let generation = generation.ok_or_else(|| Error::internal("the account's keys do not verify"))?;
        if let Some(known) = self.contacts.get(&account)
            && *known.known.identity() != keys.identity_key
        {
            return Err(Error::new("identity_changed", "The server shows another identity of your account."));
        }
        let identity = SealedIdentity(stands.sealed_identity)
            .open(&words, &account, &keys.identity_key)
            .map_err(|_| Error::new("wrong_words", "These words do not open this account."))?;

        let (events, owner, now) = (self.events.clone(), account.clone(), self.relay_now());
        let made = tokio::task::spawn_blocking(move || {
            let secrets = generate_device(owner, now, &events)?;
            let list = first_device_list(&identity, &secrets, generation, &mut crate::rng())?;
            Ok::<_, Error>((secrets, list))
        });
        let (secrets, device_list) = made.await??;
        self.events.tell(Event::SignUp { step: SignUpStep::Registering });
        let record = finish_registration(registration, account.clone(), stands.password).await?;
        let request = command::Recover {
            account: account.clone(),
            proof: secrets.sign_recovered(wire.transcript(), &record, &device_list.hash()),
            password: record,
            device_list: device_list.clone(),
            prekey: first_prekey(&secrets)?,
        };
        let answer = wire.ask(None, &request).await?;

        keys.lists.push(device_list);
        keys.prekeys = vec![request.prekey];
        let identity = keys.identity_key.fingerprint();
        let mut row = ContactRow::first(
            answer.nickname.clone(),
            KnownAccount::first_contact(keys.clone()).map_err(|_| Error::internal("own keys"))?,
        );
        if let Some(before) = self.contacts.get(&account) {
            row.known.clone_from(&before.known);
            row.known.update(keys).map_err(|_| Error::internal("own keys"))?;
        }
        let slot = AccountSlot {
            nickname: answer.nickname.clone(),
            identity,
            device: secrets.device().to_string(),
            pending: None,
            notices: Vec::new(),
            account: account.clone(),
        };
        let mut changes = Changes::new();
        changes.put_account(&account, serde_json::to_vec(&row)?);
        changes.put(Slot::Device, secrets.to_secret_bytes()?.to_vec());
        changes.remove(Slot::RecoveryWords);
        store::put(&mut changes, Slot::Account, &slot)?;
        for (room, open) in &mut self.rooms {
            // The chains that this device sent with belong to the device that it was.
            open.room.forget_sending();
            changes.put_room(room, open.row()?);
        }
        self.contacts.insert(account, row);
        self.own = Some(Own { slot, secrets });
        self.begin_session(answer, changes).await?;
        self.renew_rooms().await;
        self.events.tell(Event::SignUp { step: SignUpStep::Done });
        self.own_view().await
    }

    async fn begin_session(&mut self, answer: SessionAnswer, mut changes: Changes) -> Result<(), Error> {
        if let Some(own) = &mut self.own
            && own.slot.notices.contains(&Notice::LoggedOut)
        {
            own.slot.notices.retain(|notice| *notice != Notice::LoggedOut);
            store::put(&mut changes, Slot::Account, &own.slot)?;
        }
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
