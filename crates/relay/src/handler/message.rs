//! Messages.

use mildam_protocol::command::{MAX_CIPHERTEXT, MessageSend, StoredAnswer};
use mildam_protocol::records::LogEntry;
use mildam_protocol::records::message::{MESSAGE_VERSION, Message};
use mildam_protocol::{Code, Refusal};

use super::room::{self, Device};
use super::{Scene, done, tell};
use crate::rules::{require, stale};
use crate::store::{Committed, MemberRow, MessagePlace, Rejection, RoomRow, Transaction};

/// The farthest that a device's number may jump.
const MAX_JUMP: u64 = 1_024;

/// `message_send`. A resend, known by (room, device, client message id), gets the first answer,
/// even if it would be stale by now.
pub(super) async fn send(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: MessageSend,
) -> Result<Committed, Rejection> {
    let message = command.message;
    let header = &message.header;
    let caller = &scene.caller;
    check_form(&scene, &message)?;
    let (mut head, member) = room::of_member(tx, &header.room, &caller.account).await?;
    if let Some(stored) = tx.find_message(&head.id, &caller.device, &header.id).await? {
        return done(&stored);
    }
    check_membership(&head, &member)?;
    let signer = Device { account: &header.sender, device: &header.sender_device, list: &header.sender_list };
    room::check_listed(tx, signer).await?;
    room::check_seen(tx, &head, header.seen_seq, &header.seen_hash).await?;
    let current = header.epoch == head.epoch
        && header.version == head.version
        && header.head == head.head
        && head.epoch_version == head.version;
    require(current, Code::Stale, "the room has moved on; catch up and try again")?;
    let last = tx.last_n(&head.id, &caller.device, head.epoch).await?;
    if last.is_some_and(|last| header.n <= last) {
        return Err(stale("this device's own chain").into());
    }
    // Nobody who follows the chain could read it.
    let next = last.map_or(0, |last| last.saturating_add(1));
    require(header.n.saturating_sub(next) <= MAX_JUMP, Code::BadRecord, "too many numbers left out")?;
    let place = MessagePlace { epoch: head.epoch, n: header.n, seq: head.end.seq.saturating_add(1) };
    let (device, id) = (header.sender_device, header.id);
    let entry = LogEntry::Message(Box::new(message));
    let item = room::append(tx, &mut head, entry, None, scene.now).await?;
    tx.insert_message(&head.id, &device, &id, place).await?;
    tx.save_room(&head).await?;
    let members = tx.members(&head.id).await?;
    let stored = StoredAnswer { seq: place.seq, stored_at: scene.now };
    let audience = members.iter().map(|row| &row.member.account);
    tell(&stored, vec![room::log_news(&head.id, item, audience)?])
}

/// What shows without the store.
fn check_form(scene: &Scene, message: &Message) -> Result<(), Refusal> {
    let header = &message.header;
    require(
        header.sender == scene.caller.account && header.sender_device == scene.caller.device,
        Code::BadRecord,
        "a message is sent by the device that sealed it",
    )?;
    require(header.format == MESSAGE_VERSION, Code::BadRecord, "this relay knows message format 1 only")?;
    require(
        message.ciphertext.len() <= MAX_CIPHERTEXT,
        Code::TooLarge,
        "a sealed message may have at most 96 KiB",
    )
}

fn check_membership(head: &RoomRow, member: &MemberRow) -> Result<(), Refusal> {
    require(member.is_present(), Code::NotMember, "you are not a member of this room any more")?;
    require(!head.closed, Code::Forbidden, "this room is closed")
}
