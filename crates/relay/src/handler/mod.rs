//! From a request to what must be done for it.
//!
//! A handler is an async function over a [`Transaction`]: it loads what it needs, has it judged by
//! [`crate::rules`], saves, and says what to answer and whom to tell. Who asks is settled before,
//! in the same transaction.

mod account;
mod device;
mod friend;
mod keys;
mod log;
mod message;
pub(crate) mod presence;
mod receipt;
mod room;
mod session;
mod signed;

use std::sync::Arc;

use mildam_protocol::command::{Done, ServerInfoAnswer, SessionId};
use mildam_protocol::records::id::{AccountId, DeviceId, Hash};
use mildam_protocol::set_up::PROTOCOL_VERSION;
use mildam_protocol::{Code, Event, Refusal, Request};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::broker::{Address, News};
use crate::config::Limits;
use crate::context::Context;
use crate::rules::require;
use crate::store::{BoxFuture, Committed, Rejection, SessionRow, StoreError, Transaction, Work};

pub(crate) use room::unlisted;
pub(crate) use signed::{check as check_signatures, is_signed};

pub(crate) use account::{
    Admission, Admitted, Approach, attach, attached, log_in, log_in_start, log_out, recover, recover_start,
    sign_up, sign_up_start,
};

/// Who asks: a device of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) account: AccountId,
    pub(crate) device: DeviceId,
}

/// What a request brings along to show who asks.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    /// SHA-256 of the session id.
    pub(crate) tag: Hash,
    /// To whom the connection belongs already.
    pub(crate) bound: Option<Caller>,
    /// When the request came.
    pub(crate) now: u64,
}

/// Where a request with a session is handled: by whom, when, under which limits.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) caller: Caller,
    pub(crate) now: u64,
    pub(crate) limits: Arc<Limits>,
}

/// How a request is carried out.
pub(crate) enum Plan {
    /// Answered at once.
    Answer(String),
    /// Looks things up.
    Read(Work),
    /// Changes something.
    Write(Work),
    /// Changes to whom the connection belongs.
    Admit(Admission),
}

/// SHA-256 of a session id: what the relay keeps of it.
pub(crate) fn session_tag(session: &SessionId) -> Hash {
    Hash::from_bytes(Sha256::digest(session.as_bytes()).into())
}

/// Sorts a request. `ticket` is there if it brought a session id.
pub(crate) fn plan(
    request: Request,
    ticket: Option<Ticket>,
    now: u64,
    context: &Context,
) -> Result<Plan, Refusal> {
    let request = match request {
        Request::ServerInfo(_) => {
            return answer(&ServerInfoAnswer {
                name: context.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                protocol: PROTOCOL_VERSION,
                time: now,
            })
            .map(Plan::Answer);
        }
        Request::Ping(_) => return answer(&Done {}).map(Plan::Answer),
        Request::SignUpStart(command) => return Ok(Plan::Admit(Admission::SignUpStart(command))),
        Request::SignUp(command) => return Ok(Plan::Admit(Admission::SignUp(command))),
        Request::LogInStart(command) => return Ok(Plan::Admit(Admission::LogInStart(command))),
        Request::LogIn(command) => return Ok(Plan::Admit(Admission::LogIn(command))),
        Request::RecoverStart(command) => return Ok(Plan::Admit(Admission::RecoverStart(command))),
        Request::Recover(command) => return Ok(Plan::Admit(Admission::Recover(command))),
        other => other,
    };
    let Some(ticket) = ticket else {
        return Err(Refusal::new(Code::SessionRequired, "this needs a session: log in first"));
    };
    let limits = Arc::clone(&context.limits);
    let switchboard = Arc::clone(&context.switchboard);
    Ok(match request {
        Request::Attach(c) => Plan::Admit(Admission::Attach(ticket, c.proof)),
        Request::LogOut(_) => Plan::Admit(Admission::LogOut(ticket)),
        Request::SessionList(_) => {
            read(ticket, limits, |tx, scene| Box::pin(session::list(tx, scene, switchboard)))
        }
        Request::SessionEnd(c) => write(ticket, limits, |tx, scene| Box::pin(session::end(tx, scene, *c))),
        Request::PresenceSet(c) => {
            write(ticket, limits, move |tx, scene| Box::pin(presence::set(tx, scene, *c)))
        }
        Request::PresenceList(_) => {
            read(ticket, limits, |tx, scene| Box::pin(presence::list(tx, scene, switchboard)))
        }
        Request::Typing(c) => read(ticket, limits, |tx, scene| Box::pin(presence::typing(tx, scene, *c))),
        Request::FriendRequest(c) => {
            write(ticket, limits, |tx, scene| Box::pin(friend::request(tx, scene, *c)))
        }
        Request::FriendAccept(c) => {
            write(ticket, limits, |tx, scene| Box::pin(friend::accept(tx, scene, *c)))
        }
        Request::FriendDecline(c) => {
            write(ticket, limits, |tx, scene| Box::pin(friend::decline(tx, scene, *c)))
        }
        Request::FriendList(_) => read(ticket, limits, |tx, scene| Box::pin(friend::list(tx, scene))),
        Request::GetAccountKeys(c) => read(ticket, limits, |tx, scene| Box::pin(keys::get(tx, scene, *c))),
        Request::RoomCreate(c) => write(ticket, limits, |tx, scene| Box::pin(room::create(tx, scene, *c))),
        Request::RoomSetChange(c) => write(ticket, limits, |tx, scene| Box::pin(room::change(tx, scene, *c))),
        Request::EpochAnnounce(c) => {
            write(ticket, limits, |tx, scene| Box::pin(room::announce(tx, scene, *c)))
        }
        Request::RoomList(_) => read(ticket, limits, |tx, scene| Box::pin(log::rooms(tx, scene))),
        Request::RoomLog(c) => read(ticket, limits, |tx, scene| Box::pin(log::page(tx, scene, *c))),
        Request::MessageSend(c) => write(ticket, limits, |tx, scene| Box::pin(message::send(tx, scene, *c))),
        Request::ReceiptSend(c) => write(ticket, limits, |tx, scene| Box::pin(receipt::send(tx, scene, *c))),
        Request::PreKeyReplace(c) => {
            write(ticket, limits, |tx, scene| Box::pin(device::replace_prekey(tx, scene, *c)))
        }
        Request::DevicesSet(c) => write(ticket, limits, |tx, scene| Box::pin(device::set(tx, scene, *c))),
        Request::ServerInfo(_)
        | Request::Ping(_)
        | Request::SignUpStart(_)
        | Request::SignUp(_)
        | Request::LogInStart(_)
        | Request::LogIn(_)
        | Request::RecoverStart(_)
        | Request::Recover(_) => return Err(internal()),
    })
}

fn write<F>(ticket: Ticket, limits: Arc<Limits>, handler: F) -> Plan
where
    F: for<'t> FnOnce(&'t mut dyn Transaction, Scene) -> BoxFuture<'t, Result<Committed, Rejection>>
        + Send
        + 'static,
{
    Plan::Write(Box::new(move |tx| {
        Box::pin(async move {
            let scene = enter(tx, &ticket, limits, true).await?;
            handler(tx, scene).await
        })
    }))
}

fn read<F>(ticket: Ticket, limits: Arc<Limits>, handler: F) -> Plan
where
    F: for<'t> FnOnce(&'t mut dyn Transaction, Scene) -> BoxFuture<'t, Result<Committed, Rejection>>
        + Send
        + 'static,
{
    Plan::Read(Box::new(move |tx| {
        Box::pin(async move {
            let scene = enter(tx, &ticket, limits, false).await?;
            handler(tx, scene).await
        })
    }))
}

/// Checks the session, and that the connection was attached to it. Renews it where that can be written
/// and is worth it.
pub(super) async fn enter(
    tx: &mut dyn Transaction,
    ticket: &Ticket,
    limits: Arc<Limits>,
    renew: bool,
) -> Result<Scene, Rejection> {
    let session = live_session(tx, ticket).await?;
    let caller = Caller { account: session.account, device: session.device };
    require(ticket.bound.is_some(), Code::NotAttached, "attach this connection to the session first")?;
    if renew {
        renew_session(tx, ticket, session.expires_at, &limits).await?;
    }
    Ok(Scene { caller, now: ticket.now, limits })
}

/// Moves a session's expiry if that is worth it, and tells it. It never comes nearer: a clock that was
/// behind for a while must not end sessions once it is right.
pub(super) async fn renew_session(
    tx: &mut dyn Transaction,
    ticket: &Ticket,
    expires_at: u64,
    limits: &Limits,
) -> Result<u64, Rejection> {
    let renewed = limits.session_end(ticket.now);
    if renewed.saturating_sub(expires_at) <= RENEW_AFTER {
        return Ok(expires_at);
    }
    tx.renew_session(&ticket.tag, renewed).await?;
    Ok(renewed)
}

/// The session of a ticket, if it stands and is that of whom the connection belongs to, if to anybody.
pub(super) async fn live_session(tx: &mut dyn Transaction, ticket: &Ticket) -> Result<SessionRow, Rejection> {
    let session = tx
        .session(&ticket.tag)
        .await?
        .filter(|session| session.expires_at > ticket.now)
        .ok_or_else(|| Refusal::new(Code::SessionExpired, "the session is over: log in again"))?;
    require(!session.ended, Code::SessionRevoked, "the session was ended: log in again")?;
    let own = |bound: &Caller| bound.account == session.account && bound.device == session.device;
    require(ticket.bound.as_ref().is_none_or(own), Code::WrongConnection, OTHER_CONNECTION)?;
    Ok(session)
}

/// What is said to a second account on one connection.
pub(super) const OTHER_CONNECTION: &str =
    "this connection belongs to another account or device; open a new one";

/// A session's expiry is moved in the database once it has come so much nearer, in milliseconds.
const RENEW_AFTER: u64 = 60 * 60 * 1000;

/// The bytes of JSON that an answer may have, so that sealed and encoded it fits a frame.
pub(super) const ANSWER_BUDGET: usize = 700 * 1024;

/// `data` of an answer, as JSON.
pub(crate) fn answer(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|_| internal())
}

/// An outcome that nobody else is told of.
pub(super) fn done(value: &impl Serialize) -> Result<Committed, Rejection> {
    tell(value, Vec::new())
}

/// An outcome that others are told of.
pub(super) fn tell(value: &impl Serialize, news: Vec<News>) -> Result<Committed, Rejection> {
    Ok(Committed { answer: answer(value)?, news })
}

/// News of an event.
pub(super) fn news(to: Vec<Address>, event: &Event) -> Result<News, Refusal> {
    News::new(to, event).ok_or_else(internal)
}

/// What is said when the fault is the relay's.
pub(crate) fn internal() -> Refusal {
    Refusal::new(Code::Internal, "the relay made a mistake; try again")
}

/// What is said of an outcome that is not a success.
pub(crate) fn refusal(rejection: Rejection) -> Refusal {
    match rejection {
        Rejection::Refused(refusal) => refusal,
        Rejection::Store(error @ (StoreError::Corrupt(_) | StoreError::Conflict)) => {
            tracing::error!(%error, "a request failed in the store");
            internal()
        }
        Rejection::Store(error) => {
            tracing::error!(%error, "the store cannot work");
            Refusal::new(
                Code::StorageUnavailable,
                "the relay cannot store or read at the moment; try again later",
            )
        }
    }
}
