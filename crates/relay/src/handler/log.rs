//! Reading: the rooms of an account, and their logs.

use mildam_protocol::Code;
use mildam_protocol::command::{MAX_PAGE, RoomListAnswer, RoomLog, RoomLogAnswer, RoomSummary};
use mildam_protocol::records::LogItem;

use super::room;
use super::{ANSWER_BUDGET, Scene, done};
use crate::rules::require;
use crate::store::{Committed, EntryRange, EpochRange, MemberRow, Rejection, RoomRow, Transaction};

/// `room_list`
pub(super) async fn rooms(tx: &mut dyn Transaction, scene: Scene) -> Result<Committed, Rejection> {
    let mut rooms = Vec::new();
    let mut size = 0_usize;
    for (head, member) in tx.rooms_of(&scene.caller.account).await? {
        let (last_seq, last_epoch) = readable(&head, &member);
        // Receipts are the part that may be left out where everything together would not fit an
        // answer: they are superseded by the next ones.
        let receipts = match size {
            fits if fits < ANSWER_BUDGET / 2 && member.is_present() => tx.receipts(&head.id).await?,
            _ => Vec::new(),
        };
        let summary = RoomSummary {
            room: head.id,
            kind: head.kind,
            start: member.start,
            last_seq,
            last_epoch,
            member: member.is_present(),
            receipts,
        };
        size = size.saturating_add(serde_json::to_vec(&summary).map_or(0, |json| json.len()));
        rooms.push(summary);
    }
    done(&RoomListAnswer { rooms })
}

/// `room_log`. Who came in later reads from the entry by which it came in; who went reads up to
/// the entry by which it went.
pub(super) async fn page(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: RoomLog,
) -> Result<Committed, Rejection> {
    require((1..=MAX_PAGE).contains(&command.limit), Code::Malformed, "a page has 1 to 200 items")?;
    let (head, member) = room::of_member(tx, &command.room, &scene.caller.account).await?;
    let (last_seq, last_epoch) = readable(&head, &member);
    let start = member.start.seq;
    let limit = command.limit.saturating_add(1);
    let entries = EntryRange {
        after: command.after_seq.max(start),
        to: last_seq,
        limit,
        joined_by: start.saturating_add(1),
    };
    let epochs = EpochRange { after: command.after_epoch, to: last_epoch, behind: start, limit };
    let entries = tx.entries(&head.id, entries).await?;
    let epochs = tx.epochs(&head.id, &scene.caller.device, epochs).await?;
    let mut items = merge(entries, epochs);
    let all = items.len();
    items.truncate(fitting(&items, command.limit));
    let more = items.len() < all;
    done(&RoomLogAnswer { items, more })
}

/// The last entry and the last epoch that a member may read.
fn readable(head: &RoomRow, member: &MemberRow) -> (u64, u64) {
    member.gone.unwrap_or((head.end.seq, head.epoch))
}

/// Puts each epoch behind the entry after which it is in force.
fn merge(entries: Vec<LogItem>, epochs: Vec<LogItem>) -> Vec<LogItem> {
    let mut items = entries;
    items.extend(epochs);
    // The sort is stable: epochs after the same entry keep their order.
    items.sort_by_key(|item| match item {
        LogItem::Entry { seq, .. } => (*seq, 0),
        LogItem::Epoch { after, .. } => (*after, 1),
    });
    items
}

/// How many items go into one answer: at least one, at most `limit`, and no more than fit a frame.
fn fitting(items: &[LogItem], limit: u32) -> usize {
    let mut size = 0_usize;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let fit = items
        .iter()
        .take(most)
        .take_while(|item| {
            size = size.saturating_add(serde_json::to_vec(item).map_or(0, |json| json.len()));
            size <= ANSWER_BUDGET
        })
        .count();
    fit.max(1)
}
