//! Signatures: what a device has signed is checked before its request waits for the writer.

use mildam_protocol::command::{Kind, NewEpoch};
use mildam_protocol::records::canonical::Canonical;
use mildam_protocol::records::keys::Signature;
use mildam_protocol::records::{DevicePublicKey, RoomChange};
use mildam_protocol::{Refusal, Request};

use crate::rules::bad_record;

/// Whether requests of this command carry records that their device has signed.
pub(crate) const fn is_signed(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::MessageSend
            | Kind::ReceiptSend
            | Kind::RoomCreate
            | Kind::RoomSetChange
            | Kind::EpochAnnounce
            | Kind::PreKeyReplace
    )
}

/// Checks all that a request says its device has signed, under that device's key. That the records name
/// this device, and that it still stands in its account's list, is for the writer to see.
///
/// # Errors
/// [`Code::BadRecord`](mildam_protocol::Code::BadRecord).
pub(crate) fn check(request: &Request, key: &DevicePublicKey) -> Result<(), Refusal> {
    let verify = |signed: Canonical, signature: &Signature, what| {
        key.verify(signed.as_bytes(), signature, what).map_err(|error| bad_record(&error))
    };
    let change = |change: &RoomChange| verify(change.signed_bytes(), &change.signature, "room change");
    let epoch = |epoch: &NewEpoch| {
        let announcement = &epoch.announcement;
        verify(announcement.signed_bytes(), &announcement.signature, "epoch announcement")
    };
    match request {
        Request::MessageSend(command) => {
            verify(command.message.signed_bytes(), &command.message.signature, "message")
        }
        Request::ReceiptSend(command) => {
            let mut receipts = command.receipts.iter();
            receipts.try_for_each(|receipt| verify(receipt.signed_bytes(), &receipt.signature, "receipt"))
        }
        Request::RoomCreate(command) => change(&command.change).and_then(|()| epoch(&command.epoch)),
        Request::RoomSetChange(command) => {
            change(&command.change)?;
            command.epoch.as_ref().map_or(Ok(()), epoch)
        }
        Request::EpochAnnounce(command) => epoch(&command.epoch),
        Request::PreKeyReplace(command) => {
            verify(command.prekey.signed_bytes(), &command.prekey.signature, "prekey")
        }
        _ => Ok(()),
    }
}
