//! Accounts and sessions: what changes to whom a connection belongs.

use std::sync::Arc;

use mildam_protocol::command::{
    AttachAnswer, Done, LogIn, LogInStart, MAX_INVITATION, MAX_SEALED_IDENTITY, PasswordAnswer, Recover,
    RecoverStart, RecoverStartAnswer, SessionAnswer, SessionId, SignUp, SignUpStart,
};
use mildam_protocol::link::InvitationToken;
use mildam_protocol::password::{self, PasswordError, PendingLogin};
use mildam_protocol::records::bytes::Bytes;
use mildam_protocol::records::id::{AccountId, DeviceId, Hash};
use mildam_protocol::records::keys::Signature;
use mildam_protocol::records::{
    AccountKeys, DeviceList, IdentityPublicKey, SignedPreKey, attach_bytes, recover_bytes,
};
use mildam_protocol::{Code, Event, Refusal};
use tokio::sync::oneshot;

use super::{
    Caller, OTHER_CONNECTION, Ticket, answer, device, done, enter, internal, live_session, news, refusal,
    session_tag, tell,
};
use crate::broker::{Address, Devices, News};
use crate::config::SignUpMode;
use crate::context::{Context, rng};
use crate::invitation;
use crate::rules::{bad_record, require, stale, text};
use crate::store::{
    self, AccountRow, Committed, FirstKeys, NewAccount, Rejection, SessionRow, Settle, StoreError,
    Transaction, Turn, Work,
};

/// A request that changes to whom the connection belongs, or leads up to that.
pub(crate) enum Admission {
    SignUpStart(Box<SignUpStart>),
    SignUp(Box<SignUp>),
    LogInStart(Box<LogInStart>),
    LogIn(Box<LogIn>),
    RecoverStart(Box<RecoverStart>),
    Recover(Box<Recover>),
    Attach(Ticket, Signature),
    LogOut(Ticket),
}

/// What an admission came to.
pub(crate) struct Admitted {
    /// `data` of the answer, as JSON.
    pub(crate) answer: String,
    /// To whom the connection belongs now.
    pub(crate) caller: Caller,
}

/// Passwords and words that may be tried on one connection.
const MOST_GUESSES: u32 = 5;

/// What has been said on this connection on the way to an admission.
#[derive(Default)]
pub(crate) struct Approach {
    /// The login that was begun last.
    login: Option<PendingLogin>,
    /// The account for which a sign-up was begun last.
    registering: Option<AccountId>,
    /// The account whose words were proven.
    recovering: Option<AccountId>,
    guesses: u32,
}

impl Approach {
    /// Whether nothing more may be tried.
    pub(crate) const fn is_spent(&self) -> bool {
        self.guesses >= MOST_GUESSES
    }

    /// Counts a password or words that are wrong, or could be: with the answer to a first step the
    /// peer can find out by itself whether one password is right, and need not come back.
    const fn count_guess(&mut self) {
        self.guesses = self.guesses.saturating_add(1);
    }

    /// Takes a guess back that led to a session.
    const fn forgive_guess(&mut self) {
        self.guesses = self.guesses.saturating_sub(1);
    }
}

/// `sign_up_start`
pub(crate) fn sign_up_start(
    context: &Context,
    approach: &mut Approach,
    command: SignUpStart,
) -> Result<String, Refusal> {
    let password = context.passwords.register(&command.account, &command.password).map_err(bad_password)?;
    approach.count_guess();
    approach.registering = Some(command.account);
    answer(&PasswordAnswer { password })
}

/// `sign_up`. A resend after a lost answer (same device list) is a log-in.
pub(crate) async fn sign_up(
    context: &Context,
    bound: Option<&Caller>,
    approach: &mut Approach,
    transcript: &Hash,
    command: SignUp,
    now: u64,
) -> Result<Admitted, Refusal> {
    let begun = approach.registering.take().is_some_and(|account| account == command.account);
    let admitted = register(context, bound, transcript, command, now).await?;
    if begun {
        approach.forgive_guess();
    }
    Ok(admitted)
}

async fn register(
    context: &Context,
    bound: Option<&Caller>,
    transcript: &Hash,
    command: SignUp,
    now: u64,
) -> Result<Admitted, Refusal> {
    text::nickname(&command.nickname)?;
    let email = text::email(&command.email)?;
    require(
        command.sealed_identity.len() <= MAX_SEALED_IDENTITY,
        Code::TooLarge,
        "a sealed identity key may have at most 8 KiB",
    )?;
    let keys = FirstKeys { list: command.device_list, prekey: command.prekey };
    // Without it, somebody's public records could be signed up by anybody.
    let certificate = keys.list.certificate(&device::only_device(&keys.list)?).ok_or_else(internal)?;
    certificate.verify_login(transcript, &command.proof).map_err(|error| bad_record(&error))?;
    let Asker { known, invitation } =
        admit(context, &command.account, &keys.list.hash(), command.invitation, now).await?;
    password::check_record(&command.password).map_err(bad_password)?;
    let device = first_device(&command.account, &command.identity_key, &keys)?;
    device::check_time(&keys.prekey, now)?;
    let caller = Caller { account: command.account.clone(), device };
    check_connection(bound, &caller)?;
    if let Some(account) = known {
        require(account.list == keys.list.hash(), Code::AccountTaken, "this id is taken")?;
        return begin_session(context, caller, account.nickname, Beginning::Session, now).await;
    }
    let nickname = match command.nickname {
        empty if empty.is_empty() => command.account.to_string(),
        chosen => chosen,
    };
    let new = NewAccount {
        id: command.account.clone(),
        nickname: nickname.clone(),
        password: command.password.0,
        recovery_key: command.recovery_key,
        email_tag: context.secrets.email_tag(&email).map_err(broken)?,
        email_sealed: context.secrets.seal_email(&command.account, &email).map_err(broken)?,
        identity_key: command.identity_key,
        sealed_identity: command.sealed_identity.0,
        keys,
        created_at: now,
    };
    let beginning = Beginning::Account { new: Box::new(new), invitation };
    begin_session(context, caller, nickname, beginning, now).await
}

/// Somebody who may sign up.
struct Asker {
    /// The account that has the id already.
    known: Option<AccountRow>,
    /// The tag of the invitation that a new account uses up.
    invitation: Option<Hash>,
}

/// Finds out whether somebody may sign up, before anything shows that depends on who has: to the uninvited
/// all ids look the same. A resend of what was done is a log-in, and needs no invitation.
async fn admit(
    context: &Context,
    account: &AccountId,
    list: &Hash,
    given: Option<String>,
    now: u64,
) -> Result<Asker, Refusal> {
    let given = given.filter(|given| !given.is_empty());
    let fits = given.as_ref().is_none_or(|given| given.len() <= MAX_INVITATION);
    require(fits, Code::TooLarge, "an invitation has at most 64 bytes")?;
    let token = given.as_ref().and_then(|given| given.parse::<InvitationToken>().ok());
    let tag = token.map(|token| invitation::tag(&token));
    let id = account.clone();
    let (known, invitation) = store::load(&*context.store, move |tx| {
        Box::pin(async move {
            let invitation = match &tag {
                Some(tag) => tx.invitation(tag).await?,
                None => None,
            };
            Ok((tx.account(&id).await?, invitation))
        })
    })
    .await
    .map_err(refusal)?;
    if known.as_ref().is_some_and(|account| account.list == *list) {
        return Ok(Asker { known, invitation: None });
    }
    match context.sign_up {
        SignUpMode::Open => Ok(Asker { known, invitation: None }),
        SignUpMode::Closed => Err(Refusal::new(Code::SignUpClosed, "nobody can sign up here")),
        SignUpMode::Invitation => {
            require(given.is_some(), Code::InvitationNeeded, "people sign up by invitation here")?;
            require(
                invitation.is_some_and(|found| found.is_good(now)),
                Code::InvitationInvalid,
                NOT_INVITED,
            )?;
            Ok(Asker { known, invitation: tag })
        }
    }
}

/// What is said of an invitation that lets nobody in.
const NOT_INVITED: &str = "this invitation is unknown, was used, or has expired";

/// `log_in_start`. Whether an account exists shows neither in the answer nor in its time.
pub(crate) async fn log_in_start(
    context: &Context,
    approach: &mut Approach,
    transcript: &Hash,
    command: LogInStart,
) -> Result<String, Refusal> {
    approach.login = None;
    let id = command.account.clone();
    let known = store::load(&*context.store, |tx| Box::pin(async move { Ok(tx.account(&id).await?) }))
        .await
        .map_err(refusal)?;
    let record = known.and_then(|account| account.password);
    let (login, password) = context
        .passwords
        .answer(&command.account, record.as_deref(), &command.password, transcript, &mut rng())
        .map_err(bad_password)?;
    approach.count_guess();
    approach.login = Some(login);
    answer(&PasswordAnswer { password })
}

/// `log_in`.
pub(crate) async fn log_in(
    context: &Context,
    bound: Option<&Caller>,
    approach: &mut Approach,
    transcript: &Hash,
    command: LogIn,
    now: u64,
) -> Result<Admitted, Refusal> {
    let caller = Caller { account: command.account, device: command.device };
    let login = approach.login.take();
    check_connection(bound, &caller)?;
    let Some(login) = login else {
        approach.count_guess();
        return Err(wrong_credentials());
    };
    let fits = *login.account() == caller.account && login.finish(&command.password).is_ok();
    if !fits {
        return Err(wrong_credentials());
    }
    approach.forgive_guess();
    let asked = caller.account.clone();
    let known = store::load(&*context.store, |tx| Box::pin(async move { Ok(tx.keys(&asked).await?) }))
        .await
        .map_err(refusal)?
        .ok_or_else(internal)?;
    let certificate = known.keys.lists.last().and_then(|list| list.certificate(&caller.device));
    let proven = certificate.is_some_and(|own| own.verify_login(transcript, &command.proof).is_ok());
    require(proven, Code::DeviceUnknown, "this device does not belong to the account")?;
    begin_session(context, caller, known.nickname, Beginning::Session, now).await
}

/// `recover_start`. Whether an account exists shows in nothing.
pub(crate) async fn recover_start(
    context: &Context,
    approach: &mut Approach,
    transcript: &Hash,
    command: RecoverStart,
) -> Result<String, Refusal> {
    approach.recovering = None;
    let id = command.account.clone();
    let (known, published) = store::load(&*context.store, |tx| {
        Box::pin(async move { Ok((tx.account(&id).await?, tx.keys(&id).await?)) })
    })
    .await
    .map_err(refusal)?;
    let signed = recover_bytes(&command.account, transcript);
    let proven = known.zip(published).filter(|(account, _)| {
        account
            .recovery_key
            .as_ref()
            .is_some_and(|key| key.verify(signed.as_bytes(), &command.proof, "recovery proof").is_ok())
    });
    let Some((account, published)) = proven else {
        approach.count_guess();
        return Err(wrong_words());
    };
    let password = context.passwords.register(&command.account, &command.password).map_err(bad_password)?;
    approach.recovering = Some(command.account);
    answer(&RecoverStartAnswer {
        sealed_identity: Bytes(account.sealed_identity),
        keys: published.keys,
        nickname: published.nickname,
        password,
    })
}

/// `recover`
pub(crate) async fn recover(
    context: &Context,
    bound: Option<&Caller>,
    approach: &mut Approach,
    transcript: &Hash,
    command: Recover,
    now: u64,
) -> Result<Admitted, Refusal> {
    if approach.recovering.as_ref() != Some(&command.account) {
        approach.count_guess();
        return Err(wrong_words());
    }
    password::check_record(&command.password).map_err(bad_password)?;
    let (list, prekey) = (command.device_list, command.prekey);
    let caller = Caller { account: command.account, device: device::only_device(&list)? };
    check_connection(bound, &caller)?;
    let certificate = list.certificate(&caller.device).ok_or_else(internal)?;
    prekey.verify(certificate).map_err(|error| bad_record(&error))?;
    device::check_time(&prekey, now)?;
    let signed = certificate.recovered_bytes(transcript, &command.password, &list.hash());
    certificate
        .device_key
        .verify(signed.as_bytes(), &command.proof, "recovery")
        .map_err(|error| bad_record(&error))?;
    let id = caller.account.clone();
    let known = store::load(&*context.store, |tx| Box::pin(async move { Ok(tx.keys(&id).await?) }))
        .await
        .map_err(refusal)?
        .ok_or_else(wrong_words)?;
    if known.keys.lists.last() == Some(&list) {
        return begin_session(context, caller, known.nickname, Beginning::Session, now).await;
    }
    let generation = Box::new(NewGeneration { list, prekey, password: command.password.0 });
    begin_session(context, caller, known.nickname, Beginning::Generation(generation), now).await
}

fn wrong_words() -> Refusal {
    Refusal::new(Code::WrongWords, "id and recovery words do not go together")
}

fn wrong_credentials() -> Refusal {
    Refusal::new(Code::WrongCredentials, "id and password do not go together")
}

fn bad_password(error: PasswordError) -> Refusal {
    match error {
        PasswordError::Malformed => Refusal::new(Code::BadPassword, "not a message of the password protocol"),
        other => broken(other),
    }
}

/// `attach`. The connection's pushes begin when the caller subscribes it.
///
/// The session's id alone is not enough: the proof shows that its device is at the other end.
pub(crate) fn attach(context: &Context, transcript: &Hash, ticket: Ticket, proof: Signature) -> Work {
    let limits = context.limits.clone();
    let transcript = *transcript;
    Box::new(move |tx| {
        Box::pin(async move {
            let SessionRow { account, device, expires_at, .. } = live_session(tx, &ticket).await?;
            let key = tx.device_key(&account, &device).await?;
            let signed = attach_bytes(&account, &device, &transcript);
            let proven = key.is_some_and(|key| key.verify(signed.as_bytes(), &proof, "attachment").is_ok());
            require(proven, Code::DeviceUnknown, "this is not the device that the session belongs to")?;
            let standing = tx.standing(&account).await?.ok_or_else(internal)?;
            let expires_at = super::renew_session(tx, &ticket, expires_at, &limits).await?;
            done(&AttachAnswer { account, device, nickname: standing.nickname, expires_at })
        })
    })
}

/// What an [`attach`] came to.
pub(crate) fn attached(outcome: Result<Committed, Rejection>) -> Result<Admitted, Refusal> {
    let Committed { answer, .. } = outcome.map_err(refusal)?;
    // The answer is our own; reading it back saves a second way out of the transaction.
    let attached: AttachAnswer = serde_json::from_str(&answer).map_err(broken)?;
    Ok(Admitted { answer, caller: Caller { account: attached.account, device: attached.device } })
}

/// `log_out`. Other connections of the device are told and get no more news.
pub(crate) async fn log_out(context: &Context, turn: Turn, ticket: Ticket) -> Result<Committed, Refusal> {
    let limits = context.limits.clone();
    let work: Work = Box::new(move |tx| {
        Box::pin(async move {
            let scene = enter(tx, &ticket, limits, false).await?;
            tx.end_session(&scene.caller.account, &scene.caller.device).await?;
            let device =
                Address { account: scene.caller.account, devices: Devices::Only(scene.caller.device) };
            let ended = News { last: true, ..news(vec![device], &Event::SessionEnded {})? };
            tell(&Done {}, vec![ended])
        })
    });
    store::commit_for(&*context.store, turn, work).await.map_err(refusal)
}

/// What begins together with a session: all of it or nothing.
enum Beginning {
    Session,
    Account {
        new: Box<NewAccount>,
        /// The tag of the invitation that it uses up.
        invitation: Option<Hash>,
    },
    Generation(Box<NewGeneration>),
}

/// What the recovery words begin.
struct NewGeneration {
    list: DeviceList,
    prekey: SignedPreKey,
    password: Vec<u8>,
}

/// Begins a session in place of the device's earlier one, and with it what it comes with.
async fn begin_session(
    context: &Context,
    caller: Caller,
    nickname: String,
    beginning: Beginning,
    now: u64,
) -> Result<Admitted, Refusal> {
    let mut id = [0; 32];
    getrandom::fill(&mut id).map_err(broken)?;
    let session = SessionId::from_bytes(id);
    let expires_at = context.limits.session_end(now);
    let tag = session_tag(&session);
    let row = SessionRow {
        account: caller.account.clone(),
        device: caller.device,
        created_at: now,
        expires_at,
        ended: false,
    };
    let work: Work = Box::new(move |tx| {
        Box::pin(async move {
            let told = match beginning {
                Beginning::Session => Vec::new(),
                Beginning::Account { new, invitation } => {
                    if let Some(tag) = invitation {
                        // Of two who come at once one is the first. Whatever fails below gives it back.
                        let good = tx.use_invitation(&tag, &new.id, now).await?;
                        require(good, Code::InvitationInvalid, NOT_INVITED)?;
                    }
                    let taken = tx.standing(&new.id).await?.is_some();
                    require(!taken, Code::AccountTaken, "this id is taken")?;
                    tx.insert_account(&new).await?;
                    Vec::new()
                }
                Beginning::Generation(new) => begin_generation(tx, &new, now).await?,
            };
            // Somebody may have taken the device off the list in between.
            let listed = tx.device_key(&row.account, &row.device).await?.is_some();
            require(listed, Code::DeviceUnknown, "this device does not belong to the account")?;
            tx.put_session(&tag, &row).await?;
            tell(&Done {}, told)
        })
    });
    commit_and_tell(context, Turn::of_account(&caller.account), work).await.map_err(refusal)?;
    Ok(Admitted { answer: answer(&SessionAnswer { session, expires_at, nickname })?, caller })
}

/// Writes, and tells of it in the order of the commits: a device that was taken off the list gets
/// no news of what was committed after that.
async fn commit_and_tell(context: &Context, turn: Turn, work: Work) -> Result<(), Rejection> {
    let broker = Arc::clone(&context.broker);
    let (put, got) = oneshot::channel();
    let settle: Settle = Box::new(move |outcome| {
        let settled = outcome.map(|committed| {
            for news in committed.news {
                broker.publish(news);
            }
        });
        // The other end waits below, or nobody wants to know any more.
        let _ = put.send(settled);
    });
    context.store.write(turn, work, settle).await?;
    got.await.map_err(|_| StoreError::Closed)?
}

async fn begin_generation(
    tx: &mut dyn Transaction,
    new: &NewGeneration,
    now: u64,
) -> Result<Vec<News>, Rejection> {
    let account = &new.list.account;
    let keys = tx.keys(account).await?.ok_or_else(internal)?.keys;
    let newest = keys.lists.last().map_or(0, |list| list.generation);
    if new.list.generation != newest.saturating_add(1) {
        return Err(stale("the account's generation").into());
    }
    device::with_list(keys, new.list.clone()).verify().map_err(|error| bad_record(&error))?;
    for certificate in &new.list.certificates {
        let listed = tx.device_key(account, &certificate.device).await?.is_some();
        require(!listed, Code::BadRecord, "a generation begins with a device that is new")?;
    }
    let told = device::put_list(tx, &new.list, now).await?;
    tx.put_prekey(&new.prekey, now, now.saturating_sub(device::DAY)).await?;
    tx.set_password(account, &new.password).await?;
    Ok(told)
}

/// Checks everything that a new account publishes; gives its one device.
fn first_device(
    account: &AccountId,
    identity_key: &IdentityPublicKey,
    keys: &FirstKeys,
) -> Result<DeviceId, Refusal> {
    let published = AccountKeys {
        account: account.clone(),
        identity_key: identity_key.clone(),
        lists: vec![keys.list.clone()],
        prekeys: vec![keys.prekey.clone()],
    };
    let list = published.verify().map_err(|error| bad_record(&error))?;
    require(list.generation == 1, Code::BadRecord, "an account begins with generation 1")?;
    device::only_device(list)
}

fn check_connection(bound: Option<&Caller>, caller: &Caller) -> Result<(), Refusal> {
    let own = bound.is_none_or(|bound| bound == caller);
    require(own, Code::WrongConnection, OTHER_CONNECTION)
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "an admission failed");
    internal()
}
