//! Public keys, for those who may know of an account.

use mildam_protocol::Code;
use mildam_protocol::command::{AccountKeysAnswer, GetAccountKeys, KnownKeys, MAX_KEYS};

use super::{ANSWER_BUDGET, Scene, done};
use crate::rules::require;
use crate::store::{Committed, Rejection, Transaction};

/// `account_keys`
pub(super) async fn get(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: GetAccountKeys,
) -> Result<Committed, Rejection> {
    require(command.accounts.len() <= MAX_KEYS, Code::TooLarge, "ask for at most 100 accounts at a time")?;
    let own = &scene.caller.account;
    let mut accounts = Vec::with_capacity(command.accounts.len());
    let mut size = 0_usize;
    for other in &command.accounts {
        let known =
            own == other || tx.friends_since(own, other).await?.is_some() || tx.have_met(own, other).await?;
        if !known {
            continue;
        }
        if let Some(row) = tx.keys(other).await? {
            let keys = KnownKeys { nickname: row.nickname, keys: row.keys };
            size = size.saturating_add(serde_json::to_vec(&keys).map_or(0, |json| json.len()));
            accounts.push(keys);
        }
    }
    require(
        size <= ANSWER_BUDGET,
        Code::TooLarge,
        "these keys do not fit one answer: ask for fewer accounts at a time",
    )?;
    done(&AccountKeysAnswer { accounts })
}
