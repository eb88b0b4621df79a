//! Sessions of the asker's own account.

use std::sync::Arc;

use mildam_protocol::command::{Done, SessionEnd, SessionListAnswer, SessionSummary};
use mildam_protocol::{Code, Event};

use super::{Scene, done, news, tell};
use crate::broker::{Address, Devices, News, Switchboard};
use crate::rules::require;
use crate::store::{Committed, Rejection, Transaction};

/// `session_list`
pub(super) async fn list(
    tx: &mut dyn Transaction,
    scene: Scene,
    switchboard: Arc<Switchboard>,
) -> Result<Committed, Rejection> {
    let account = &scene.caller.account;
    let sessions = tx
        .sessions_of(account)
        .await?
        .into_iter()
        .filter(|session| session.expires_at > scene.now)
        .map(|session| SessionSummary {
            device: session.device,
            created_at: session.created_at,
            expires_at: session.expires_at,
            online: switchboard.is_connected(account, &session.device),
        })
        .collect();
    done(&SessionListAnswer { sessions })
}

/// `session_end`. The device is told, and its connections get no more news.
pub(super) async fn end(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: SessionEnd,
) -> Result<Committed, Rejection> {
    let account = scene.caller.account;
    let ended = tx.end_session(&account, &command.device).await?;
    require(ended, Code::NotFound, "this device has no session")?;
    let device = Address { account, devices: Devices::Only(command.device) };
    let told = News { last: true, ..news(vec![device], &Event::SessionEnded {})? };
    tell(&Done {}, vec![told])
}
