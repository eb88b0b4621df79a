//! Who is online, and who is writing: told while it is true, and kept nowhere.

use std::sync::{Arc, OnceLock};

use mildam_protocol::command::{Done, PresenceListAnswer, PresenceSet, Typing};
use mildam_protocol::records::id::AccountId;
use mildam_protocol::{Code, Event};

use super::room::{self, NOT_MEMBER};
use super::{Scene, done, news, tell};
use crate::broker::{Address, Switchboard};
use crate::context::Context;
use crate::rules::require;
use crate::store::{Committed, Rejection, Settle, Transaction, Turn, Work};

/// `presence_set`
pub(super) async fn set(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: PresenceSet,
) -> Result<Committed, Rejection> {
    let account = scene.caller.account;
    let was_visible = !tx.is_hidden(&account).await?;
    if was_visible == command.visible {
        return done(&Done {});
    }
    // Those who see it are told in either case: to whom it shows itself, or from whom it hides.
    tx.set_hidden(&account, false).await?;
    let watchers = tx.watchers(&account).await?;
    tx.set_hidden(&account, !command.visible).await?;
    let to = watchers.into_iter().map(Address::all).collect();
    let told = news(to, &Event::Presence { account, online: command.visible })?;
    tell(&Done {}, vec![told])
}

/// `presence_list`
pub(super) async fn list(
    tx: &mut dyn Transaction,
    scene: Scene,
    switchboard: Arc<Switchboard>,
) -> Result<Committed, Rejection> {
    let account = &scene.caller.account;
    let visible = !tx.is_hidden(account).await?;
    // Whoever may see this account is seen by it: friendship and showing oneself go both ways.
    let mut online = tx.watchers(account).await?;
    online.retain(|friend| switchboard.is_online(friend));
    done(&PresenceListAnswer { visible, online })
}

/// `typing`. Of an account that hides itself nothing is told.
pub(super) async fn typing(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: Typing,
) -> Result<Committed, Rejection> {
    let account = scene.caller.account;
    let (_, member) = room::of_member(tx, &command.room, &account).await?;
    require(member.is_present(), Code::NotMember, NOT_MEMBER)?;
    if tx.is_hidden(&account).await? {
        return done(&Done {});
    }
    let others = tx.members(&command.room).await?.into_iter().map(|row| row.member.account);
    let to = others.filter(|other| *other != account).map(Address::all).collect();
    tell(&Done {}, vec![news(to, &Event::Typing { room: command.room, account })?])
}

/// Tells the friends that an account came or went. It stands in the queue of those who write, so that it
/// neither overtakes nor falls behind a friendship's end or the wish to hide; and what the friends are
/// told is what is true when they are.
pub(crate) async fn changed(context: &Context, account: AccountId) {
    let turn = Turn::of_account(&account);
    let watchers = Arc::new(OnceLock::new());
    let found = Arc::clone(&watchers);
    let id = account.clone();
    let work: Work = Box::new(move |tx| {
        Box::pin(async move {
            // Nobody else writes to the cell.
            let _ = found.set(tx.watchers(&id).await?);
            Ok(Committed::default())
        })
    });
    let switchboard = Arc::clone(&context.switchboard);
    let settle: Settle = Box::new(move |outcome| match (outcome, watchers.get()) {
        (Ok(_), Some(watchers)) => switchboard.publish_presence(&account, watchers),
        (outcome, _) => {
            tracing::warn!(error = ?outcome.err(), "friends were not told that an account came or went");
        }
    });
    if let Err(error) = context.store.write(turn, work, settle).await {
        tracing::debug!(%error, "nobody is told of presence any more");
    }
}
