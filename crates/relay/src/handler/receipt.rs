//! Receipts: delivered and read.

use std::collections::BTreeMap;

use mildam_protocol::command::{Done, MAX_RECEIPTS, ReceiptSend};
use mildam_protocol::records::Receipt;
use mildam_protocol::{Code, Event};

use super::room::{self, NOT_MEMBER};
use super::{Scene, news, tell};
use crate::broker::{Address, Devices};
use crate::rules::require;
use crate::store::{Committed, Rejection, Transaction};

/// `receipt_send`. All or none; a receipt that says nothing new is no error.
pub(super) async fn send(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: ReceiptSend,
) -> Result<Committed, Rejection> {
    require(command.receipts.len() <= MAX_RECEIPTS, Code::TooLarge, "send at most 200 receipts at a time")?;
    let caller = &scene.caller;
    if tx.device_key(&caller.account, &caller.device).await?.is_none() {
        return Err(room::unlisted().into());
    }
    let mut audiences = BTreeMap::new();
    let mut told = Vec::new();
    for receipt in command.receipts {
        let own = receipt.account == caller.account && receipt.device == caller.device;
        require(own, Code::BadRecord, "a receipt is sent by the device that signed it")?;
        let so_far = tx.receipt_seq(&receipt.room, &caller.account, receipt.kind).await?;
        if so_far.is_some_and(|seq| seq >= receipt.seq) {
            continue;
        }
        let (head, member) = room::of_member(tx, &receipt.room, &caller.account).await?;
        require(member.is_present(), Code::NotMember, NOT_MEMBER)?;
        require(
            receipt.seq > member.start.seq,
            Code::BadRecord,
            "a receipt is for what the member can read",
        )?;
        room::check_seen(tx, &head, receipt.seq, &receipt.hash).await?;
        tx.put_receipt(&receipt).await?;
        let to = match audiences.get(&receipt.room) {
            Some(known) => Vec::clone(known),
            None => audience(tx, &scene, &receipt).await?,
        };
        audiences.insert(receipt.room, to.clone());
        told.push(news(to, &Event::Receipt { receipt })?);
    }
    tell(&Done {}, told)
}

/// The other members, and the sender's other devices.
async fn audience(
    tx: &mut dyn Transaction,
    scene: &Scene,
    receipt: &Receipt,
) -> Result<Vec<Address>, Rejection> {
    let members = tx.members(&receipt.room).await?;
    Ok(members
        .into_iter()
        .map(|row| {
            let devices = if row.member.account == scene.caller.account {
                Devices::Except(vec![scene.caller.device])
            } else {
                Devices::All
            };
            Address { account: row.member.account, devices }
        })
        .collect())
}
