//! Accounts and sessions: what changes to whom a connection belongs.

use mildam_protocol::command::{
    AttachAnswer, Done, LogIn, MAX_PASSWORD, MAX_SEALED_IDENTITY, SessionAnswer, SessionId, SignUp,
};
use mildam_protocol::records::id::{AccountId, DeviceId, Hash};
use mildam_protocol::records::{AccountKeys, IdentityPublicKey};
use mildam_protocol::{Code, Event, Refusal};
use zeroize::Zeroizing;

use super::{
    Caller, OTHER_CONNECTION, Ticket, answer, done, enter, internal, news, refusal, session_tag, tell,
};
use crate::broker::{Address, Devices, News};
use crate::context::Context;
use crate::rules::{bad_record, require, text};
use crate::store::{self, Committed, FirstKeys, NewAccount, SessionRow, Work};

/// A request that changes to whom the connection belongs.
pub(crate) enum Admission {
    SignUp(Box<SignUp>),
    LogIn(Box<LogIn>),
    Attach(Ticket),
    LogOut(Ticket),
}

/// What an admission came to.
pub(crate) struct Admitted {
    /// `data` of the answer.
    pub(crate) answer: serde_json::Value,
    /// To whom the connection belongs now.
    pub(crate) caller: Caller,
}

/// `sign_up`. A resend after a lost answer (same device list, right password) is a log-in.
pub(crate) async fn sign_up(
    context: &Context,
    bound: Option<&Caller>,
    command: SignUp,
    now: u64,
) -> Result<Admitted, Refusal> {
    let password = Zeroizing::new(command.password);
    text::password(&password)?;
    text::nickname(&command.nickname)?;
    let email = text::email(&command.email)?;
    require(
        command.sealed_identity.len() <= MAX_SEALED_IDENTITY,
        Code::TooLarge,
        "a sealed identity key may have at most 8 KiB",
    )?;
    let keys = FirstKeys { list: command.device_list, prekey: command.prekey };
    let device = first_device(&command.account, &command.identity_key, &keys)?;
    let caller = Caller { account: command.account.clone(), device };
    check_connection(bound, &caller)?;
    let id = command.account.clone();
    let known = store::load(&*context.store, |tx| Box::pin(async move { Ok(tx.account(&id).await?) }))
        .await
        .map_err(refusal)?;
    if let Some(account) = known {
        let same = account.list == keys.list.hash();
        let fits = check_password(context, password, Some(account.password_hash)).await?;
        require(same && fits, Code::AccountTaken, "this id is taken")?;
        return begin_session(context, caller, account.nickname, None, now).await;
    }
    let nickname = match command.nickname {
        empty if empty.is_empty() => command.account.to_string(),
        chosen => chosen,
    };
    let password_hash = context.passwords.hash(password).await.map_err(broken)?;
    let new = NewAccount {
        id: command.account.clone(),
        nickname: nickname.clone(),
        password_hash,
        email_tag: context.secrets.email_tag(&email).map_err(broken)?,
        email_sealed: context.secrets.seal_email(&command.account, &email).map_err(broken)?,
        identity_key: command.identity_key,
        sealed_identity: command.sealed_identity.0,
        keys,
        created_at: now,
    };
    begin_session(context, caller, nickname, Some(Box::new(new)), now).await
}

/// `log_in`. Whether an account exists shows neither in the answer nor in its time.
pub(crate) async fn log_in(
    context: &Context,
    bound: Option<&Caller>,
    transcript: &Hash,
    command: LogIn,
    now: u64,
) -> Result<Admitted, Refusal> {
    let password = Zeroizing::new(command.password);
    let caller = Caller { account: command.account, device: command.device };
    check_connection(bound, &caller)?;
    let asked = caller.clone();
    let (known, published) = store::load(&*context.store, |tx| {
        Box::pin(async move {
            let account = tx.account(&asked.account).await?;
            Ok((account, tx.keys(&asked.account).await?))
        })
    })
    .await
    .map_err(refusal)?;
    let hash = known.as_ref().map(|account| account.password_hash.clone());
    let usable = password.len() <= MAX_PASSWORD;
    let fits = usable && check_password(context, password, hash).await?;
    let account = known
        .filter(|_| fits)
        .ok_or_else(|| Refusal::new(Code::WrongCredentials, "id and password do not go together"))?;
    let list = published.and_then(|row| row.keys.lists.into_iter().next_back());
    let proven = list.is_some_and(|list| {
        list.certificate(&caller.device)
            .is_some_and(|certificate| certificate.verify_login(transcript, &command.proof).is_ok())
    });
    require(proven, Code::DeviceUnknown, "this device does not belong to the account")?;
    begin_session(context, caller, account.nickname, None, now).await
}

/// `attach`. The connection's pushes begin when the caller subscribes it.
pub(crate) async fn attach(context: &Context, ticket: Ticket) -> Result<Admitted, Refusal> {
    let limits = context.limits.clone();
    let tag = ticket.tag;
    let work: Work = Box::new(move |tx| {
        Box::pin(async move {
            let scene = enter(tx, &ticket, limits, false).await?;
            let standing = tx.standing(&scene.caller.account).await?.ok_or_else(internal)?;
            let expires_at = scene.limits.session_end(scene.now);
            tx.renew_session(&tag, expires_at).await?;
            done(&AttachAnswer {
                account: scene.caller.account,
                device: scene.caller.device,
                nickname: standing.nickname,
                expires_at,
            })
        })
    });
    let committed = store::commit(&*context.store, work).await.map_err(refusal)?;
    // The answer is our own; reading it back saves a second way out of the transaction.
    let attached: AttachAnswer = serde_json::from_value(committed.answer.clone()).map_err(broken)?;
    Ok(Admitted {
        answer: committed.answer,
        caller: Caller { account: attached.account, device: attached.device },
    })
}

/// `log_out`. Other connections of the device are told and get no more news.
pub(crate) async fn log_out(context: &Context, ticket: Ticket) -> Result<Committed, Refusal> {
    let limits = context.limits.clone();
    let work: Work = Box::new(move |tx| {
        Box::pin(async move {
            let scene = enter(tx, &ticket, limits, false).await?;
            tx.delete_session(&ticket.tag).await?;
            let device =
                Address { account: scene.caller.account, devices: Devices::Only(scene.caller.device) };
            let ended = News { last: true, ..news(vec![device], &Event::SessionEnded {})? };
            tell(&Done {}, vec![ended])
        })
    });
    store::commit(&*context.store, work).await.map_err(refusal)
}

/// Begins a session in place of the device's earlier one; with a new account, both or neither.
async fn begin_session(
    context: &Context,
    caller: Caller,
    nickname: String,
    new: Option<Box<NewAccount>>,
    now: u64,
) -> Result<Admitted, Refusal> {
    let mut id = [0; 32];
    getrandom::fill(&mut id).map_err(broken)?;
    let session = SessionId::from_bytes(id);
    let expires_at = context.limits.session_end(now);
    let tag = session_tag(&session);
    let row = SessionRow { account: caller.account.clone(), device: caller.device, expires_at };
    let work: Work = Box::new(move |tx| {
        Box::pin(async move {
            if let Some(new) = new {
                let taken = tx.standing(&new.id).await?.is_some();
                require(!taken, Code::AccountTaken, "this id is taken")?;
                let used = tx.email_holder(&new.email_tag).await?.is_some();
                require(!used, Code::EmailTaken, "another account has this address")?;
                tx.insert_account(&new).await?;
            }
            tx.put_session(&tag, &row).await?;
            done(&Done {})
        })
    });
    store::commit(&*context.store, work).await.map_err(refusal)?;
    Ok(Admitted { answer: answer(&SessionAnswer { session, expires_at, nickname })?, caller })
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
    match list.certificates.as_slice() {
        [only] if list.generation == 1 && list.version == 1 => Ok(only.device),
        _ => Err(Refusal::new(
            Code::BadRecord,
            "an account begins with one device, in version 1 of generation 1",
        )),
    }
}

fn check_connection(bound: Option<&Caller>, caller: &Caller) -> Result<(), Refusal> {
    let own = bound.is_none_or(|bound| bound == caller);
    require(own, Code::WrongConnection, OTHER_CONNECTION)
}

async fn check_password(
    context: &Context,
    password: Zeroizing<String>,
    hash: Option<String>,
) -> Result<bool, Refusal> {
    context.passwords.check(password, hash).await.map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "an admission failed");
    internal()
}
