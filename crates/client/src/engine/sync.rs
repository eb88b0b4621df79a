//! Reading: what the relay has and this device has not.

use std::collections::{BTreeMap, BTreeSet};

use mildam_e2ee::{Accepted, Body, NotAccepted, Reader, Room, RoomError};
use mildam_protocol::command::{self, MAX_PAGE, MAX_RECEIPTS, RoomSummary};
use mildam_protocol::records::{
    AccountId, ClientMessageId, Hash, LogItem, LogPosition, Member, Receipt, ReceiptKind, Role, RoomId,
};
use mildam_vault::{Changes, HistoryRow};
use tokio::time::Instant;

use super::put_off::Step;
use super::{Differs, Engine, OpenRoom};
use crate::error::Error;
use crate::model::{Event, MessageContent, MessageView, Notice};
use crate::store::{self, Arrival, Contacts, Hashes, RoomMeta};
use crate::times;

/// Of so many rooms receipts are kept that came before what they are about. All come again with the next
/// connection.
const MAX_EARLY_ROOMS: usize = 64;

/// What reading a batch of items came to.
#[derive(Default)]
struct Batch {
    hashes: BTreeMap<u64, Hash>,
    lines: Vec<HistoryRow>,
    sent: Vec<ClientMessageId>,
    /// Places of lines that only say why an item was not accepted.
    refused: BTreeSet<u64>,
    /// What the newest line says.
    last: Option<MessageContent>,
    /// When the newest line reached the relay.
    arrived_at: u64,
    /// When the batch is read, by this device's clock.
    now: u64,
    /// A message of this very device was among them that it does not know.
    put_back: bool,
    /// The next item is not there: the log must be asked.
    gap: bool,
}

impl Engine {
    /// Everything that was missed: friends, rooms, logs; then what waits to be sent.
    pub(super) async fn sync(&mut self) -> Result<(), Error> {
        self.refresh_friends().await?;
        self.sync_rooms().await?;
        self.flush().await;
        Ok(())
    }

    /// Reads what is new in all rooms; false if one of them could not be read.
    pub(super) async fn sync_rooms(&mut self) -> Result<bool, Error> {
        let mut complete = true;
        let list = self.ask(&command::RoomList {}).await?;
        let own = self.secrets()?.account().clone();
        for summary in list.rooms {
            let room = summary.room;
            // Unknown, or left and come back to since: its log is read from where it begins now.
            if self.rooms.get(&room).is_none_or(|open| open.room.position().seq < summary.start.seq) {
                self.meet(&summary);
            }
            if let Some(open) = self.rooms.get_mut(&room) {
                let behind = summary.member && summary.last_seq < open.room.position().seq;
                open.differs = match open.differs {
                    _ if behind => Some(Differs::Behind),
                    Some(Differs::Behind) => None,
                    other => other,
                };
            }
            if let Err(error) = self.catch_up(room).await {
                if error.ends_connection() {
                    return Err(error);
                }
                tracing::warn!(code = error.code(), "a room cannot be read");
                complete = false;
                continue;
            }
            self.owe_receipts(&summary, &own);
            for receipt in summary.receipts.into_iter().filter(|receipt| receipt.account != own) {
                self.on_receipt(receipt).await?;
            }
        }
        self.send_receipts().await;
        self.renew_lost_keys().await;
        Ok(complete)
    }

    /// A room that this device did not know, or knows up to its leaving only.
    fn meet(&mut self, summary: &RoomSummary) {
        let (meta, before) = match self.rooms.remove(&summary.room) {
            Some(open) => (Some(open.meta), Some(open.before.unwrap_or_else(|| Box::new(open.room)))),
            None => (None, None),
        };
        let meta = meta.unwrap_or_else(|| RoomMeta {
            kind: summary.kind,
            name: String::new(),
            members: Vec::new(),
            last: None,
            unread: 0,
            read_seq: 0,
            left: false,
            removed: false,
            blocked: None,
            beyond_repair: false,
            replaced_by: None,
            since: self.store.now(),
            arrived: Arrival { connection: self.connections, time: times::bounded(self.store.now()) },
        });
        let room = before.as_ref().map_or_else(
            || Room::joining(summary.room, summary.start),
            |before| before.joining_again(summary.start),
        );
        let open = OpenRoom { room, meta, read_back: false, before, differs: None };
        self.rooms.insert(summary.room, open);
    }

    /// Receipts that the relay lacks, because they were not sent before the last connection ended.
    fn owe_receipts(&mut self, summary: &RoomSummary, own: &AccountId) {
        let Some(open) = self.rooms.get(&summary.room).filter(|open| !open.meta.left) else { return };
        let sent = |kind| {
            let mine =
                summary.receipts.iter().filter(|receipt| receipt.account == *own && receipt.kind == kind);
            mine.map(|receipt| receipt.seq).max().unwrap_or(0)
        };
        for (kind, seq) in
            [(ReceiptKind::Delivered, open.room.position().seq), (ReceiptKind::Read, open.meta.read_seq)]
        {
            if seq > sent(kind) {
                self.receipts_due.insert((summary.room, kind), seq);
            }
        }
    }

    pub(super) async fn on_log(&mut self, room: RoomId, item: LogItem) -> Result<(), Error> {
        if self.rooms.get(&room).is_none_or(|open| open.meta.left) {
            return self.sync_rooms().await.map(|_| ());
        }
        if self.take(room, vec![item]).await? {
            self.catch_up(room).await?;
        }
        self.send_receipts().await;
        self.renew_lost_keys().await;
        // A change of members or keys may be what a waiting message waited for.
        self.flush().await;
        Ok(())
    }

    /// Reads a room's log to its end.
    pub(super) async fn catch_up(&mut self, room: RoomId) -> Result<(), Error> {
        loop {
            let open = self.rooms.get(&room).ok_or_else(|| Error::not_found("room"))?;
            let request = command::RoomLog {
                room,
                after_seq: open.room.position().seq,
                after_epoch: open.room.epoch(),
                limit: MAX_PAGE,
            };
            let page = self.ask(&request).await?;
            if self.take(room, page.items).await? {
                return Err(Error::internal("the relay's log has a gap"));
            }
            let open = self.rooms.get(&room).ok_or_else(|| Error::not_found("room"))?;
            let still =
                (open.room.position().seq, open.room.epoch()) == (request.after_seq, request.after_epoch);
            if !page.more || still {
                if let Some(open) = self.rooms.get_mut(&room) {
                    open.read_back = true;
                }
                return Ok(());
            }
        }
    }

    /// Takes items in order; true if the next one is missing in between. What was read is durable
    /// before it is told.
    async fn take(&mut self, room: RoomId, items: Vec<LogItem>) -> Result<bool, Error> {
        let mut batch = Batch { now: self.store.now(), ..Batch::default() };
        let mut taken = Ok(());
        for item in items {
            taken = self.take_one(room, &item, &mut batch).await;
            if taken.is_err() || batch.gap {
                break;
            }
        }
        // What was read before something went wrong is behind the room's position already.
        self.store_batch(room, &mut batch).await?;
        taken?;
        self.take_early(room).await?;
        Ok(batch.gap)
    }

    async fn take_one(&mut self, room: RoomId, item: &LogItem, batch: &mut Batch) -> Result<(), Error> {
        let wanted = self.offer(room, item, batch, false)?;
        if !wanted.is_empty() {
            self.fetch_keys(&wanted).await?;
            self.offer(room, item, batch, true)?;
        }
        Ok(())
    }

    /// Offers an item to the room. What comes back is whose keys are needed first.
    fn offer(
        &mut self,
        room: RoomId,
        item: &LogItem,
        batch: &mut Batch,
        keys_are_fresh: bool,
    ) -> Result<Vec<AccountId>, Error> {
        let own = self.own.as_ref().ok_or_else(Error::no_account)?;
        let open = self.rooms.get_mut(&room).ok_or_else(|| Error::not_found("room"))?;
        let hashes = Hashes { store: &self.store, room, batch: &batch.hashes };
        let reader = Reader {
            secrets: &own.secrets,
            directory: &self.contacts,
            hashes: &hashes,
            keys_are_fresh,
            now: batch.now,
        };
        let outcome = open.room.accept(item, &reader, &mut crate::rng());
        let at = open.room.position();
        match outcome {
            Err(NotAccepted::NeedsKeys(accounts)) => return Ok(accounts),
            Err(NotAccepted::Old) => return Ok(Vec::new()),
            Err(NotAccepted::PastUnreadable(unreadable)) => return Err(unreadable.into()),
            Err(NotAccepted::OutOfOrder) => {
                batch.gap = true;
                return Ok(Vec::new());
            }
            Err(NotAccepted::Refused(refusal)) => {
                tracing::warn!(code = refusal.code, "an item of a log was refused");
                if let LogItem::Epoch { announcement, .. } = item
                    && open.room.epoch() < announcement.epoch
                {
                    // No member has signed it. What follows may belong to the one that stands here in
                    // truth, so it is not read before that is there.
                    batch.gap = true;
                }
                let code = refusal.code.to_owned();
                let content = match refusal.code {
                    "before_device" => MessageContent::BeforeDevice,
                    _ => MessageContent::Refused { code },
                };
                // One line stands for all that this device was too late for.
                let last = batch.last.as_ref().or(open.meta.last.as_ref().map(|last| &last.content));
                if content != MessageContent::BeforeDevice || last != Some(&content) {
                    batch.refused.insert(at.seq);
                    batch.note(item, at, refusal.sender, content);
                }
            }
            Ok(accepted) => {
                batch.put_back |= matches!(&accepted, Accepted::Message(message) if message.unknown_own);
                batch.accepted(item, at, accepted, own.secrets.account());
            }
        }
        if matches!(item, LogItem::Entry { .. }) {
            batch.hashes.insert(at.seq, at.hash);
        }
        Ok(Vec::new())
    }

    /// What was known of a room is given up only for another beginning that holds.
    fn settle_beginning(&mut self, room: RoomId, batch: &mut Batch) {
        let Some(open) = self.rooms.get_mut(&room) else { return };
        let begun = open.room.has_begun();
        let Some(before) = open.before.take().filter(|_| !begun) else { return };
        open.room = *before;
        if !batch.refused.is_empty() {
            tracing::warn!("a room's other beginning does not hold");
            open.room.refuse_beginning();
        }
        *batch = Batch { now: batch.now, ..Batch::default() };
    }

    async fn store_batch(&mut self, room: RoomId, batch: &mut Batch) -> Result<(), Error> {
        self.settle_beginning(room, batch);
        let own = self.secrets()?.account().clone();
        if !batch.refused.is_empty() {
            // A log that is read once more, after a repair, is refused where its keys are gone: what
            // was read there before stays.
            let refused = std::mem::take(&mut batch.refused);
            let read = move |vault: &mildam_vault::Vault| {
                let known = |seq: &u64| vault.has_message(&room, *seq);
                refused.into_iter().map(|seq| Ok((seq, known(&seq)?))).collect::<Result<Vec<_>, Error>>()
            };
            let known = self.store.read(read).await?;
            batch.lines.retain(|line| !known.contains(&(line.seq, true)));
        }
        self.name_lines(room, &own, batch).await?;
        let open = self.rooms.get_mut(&room).ok_or_else(|| Error::not_found("room"))?;
        let views: Vec<MessageView> =
            batch.lines.iter().map(|row| store::line_view(&room, row, &own)).collect::<Result<_, _>>()?;
        if !batch.hashes.is_empty() && open.room.blocked().is_none() {
            // It goes on from what was read here.
            open.differs = None;
        }
        open.refresh(&views, &own, &self.contacts);
        if !batch.lines.is_empty() {
            open.meta.arrived = Arrival { connection: self.connections, time: batch.arrived_at };
        }
        let mut changes = Changes::new();
        for (seq, hash) in &batch.hashes {
            changes.put_log_hash(&room, *seq, *hash);
        }
        for id in &batch.sent {
            changes.remove_outbox(&room, id);
        }
        for row in &batch.lines {
            changes.put_message(&room, row.clone());
        }
        changes.put_room(&room, open.row()?);
        if batch.put_back {
            tracing::warn!("this device's state was put back to an earlier one");
            let own = self.own.as_mut().ok_or_else(Error::no_account)?;
            own.note(Notice::StatePutBack, &mut changes)?;
        }
        let (position, left) = (open.room.position().seq, open.meta.left);
        let replaced = self.note_replaced(room, &mut changes)?;
        self.commit(changes).await?;
        if batch.put_back {
            self.tell_state().await;
        }
        if views.iter().any(|view| view.from != own.as_str()) && !left {
            self.receipts_due.insert((room, ReceiptKind::Delivered), position);
        }
        for message in views {
            self.events.tell(Event::Message { message });
        }
        self.tell_room(room).await;
        if let Some(replaced) = replaced {
            self.tell_room(replaced).await;
        }
        Ok(())
    }

    /// Notes that a room has taken the place of an earlier one of the same people; gives the earlier one if
    /// that is new.
    fn note_replaced(&mut self, room: RoomId, changes: &mut Changes) -> Result<Option<RoomId>, Error> {
        let Some(open) = self.rooms.get(&room) else { return Ok(None) };
        let Some(replaced) = open.room.replaces() else { return Ok(None) };
        let accounts = |open: &OpenRoom| -> BTreeSet<AccountId> {
            open.room.members().map(|member| member.account.clone()).collect()
        };
        let owners: Vec<AccountId> = open
            .room
            .members()
            .filter(|member| member.role == Role::Owner)
            .map(|member| member.account.clone())
            .collect();
        let (kind, company) = (open.room.kind(), accounts(open));
        let Some(before) = self.rooms.get_mut(&replaced) else { return Ok(None) };
        // Of a room that never began nothing is known that could contradict. Nobody but who could do so in
        // the room before leads others away from it, and nobody comes in by that.
        let leads = |member: &Member| member.role >= Role::Admin && owners.contains(&member.account);
        let is_theirs = before.room.members().next().is_none()
            || (before.room.kind() == kind
                && company.is_subset(&accounts(before))
                && before.room.members().any(leads));
        if replaced == room || !is_theirs || before.meta.replaced_by.is_some() {
            return Ok(None);
        }
        before.meta.replaced_by = Some(room);
        changes.put_room(&replaced, before.row()?);
        Ok(Some(replaced))
    }

    /// Sees to it that the id of a line is the line's alone: what others send may bear the id of a
    /// message that is here already, or waits to be sent. Such a line is named by the log hash at its
    /// place, like those that nobody wrote.
    async fn name_lines(&self, room: RoomId, own: &AccountId, batch: &mut Batch) -> Result<(), Error> {
        let mut ids: BTreeSet<ClientMessageId> = batch.sent.iter().copied().collect();
        let others = batch.lines.iter().filter(|line| line.from != *own);
        let others: Vec<(u64, ClientMessageId)> = others.map(|line| (line.seq, line.id)).collect();
        if others.is_empty() {
            return Ok(());
        }
        let read = move |vault: &mildam_vault::Vault| {
            let mut copies = BTreeSet::new();
            for (seq, id) in others {
                let elsewhere = vault.is_waiting(&room, &id)
                    || vault.message_by_id(&room, &id)?.is_some_and(|line| line.seq != seq);
                if elsewhere || !ids.insert(id) {
                    copies.insert(seq);
                }
            }
            Ok(copies)
        };
        let copies = self.store.read(read).await?;
        for line in batch.lines.iter_mut().filter(|line| copies.contains(&line.seq)) {
            if let Some(hash) = batch.hashes.get(&line.seq) {
                line.id = name_of(hash);
            }
        }
        Ok(())
    }

    /// Keeps a receipt for an entry that was not read yet.
    fn keep_early(&mut self, receipt: Receipt) {
        let known = self.early_receipts.contains_key(&receipt.room);
        if known || self.early_receipts.len() < MAX_EARLY_ROOMS {
            let of_room = self.early_receipts.entry(receipt.room).or_default();
            // A later one of the same kind says all that an earlier one does.
            of_room.insert((receipt.account.clone(), receipt.kind), receipt);
            if of_room.len() > MAX_RECEIPTS {
                of_room.pop_first();
            }
        }
    }

    /// Looks again at receipts that came before what they are about.
    async fn take_early(&mut self, room: RoomId) -> Result<(), Error> {
        let Some(open) = self.rooms.get(&room) else { return Ok(()) };
        let position = open.room.position().seq;
        for (_, receipt) in self.early_receipts.remove(&room).unwrap_or_default() {
            if receipt.seq > position {
                self.keep_early(receipt);
            } else {
                self.on_receipt(receipt).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn on_receipt(&mut self, receipt: Receipt) -> Result<(), Error> {
        let room = receipt.room;
        let mut asked = false;
        loop {
            let Some(open) = self.rooms.get(&room) else { return Ok(()) };
            let batch = BTreeMap::new();
            let hashes = Hashes { store: &self.store, room, batch: &batch };
            match open.room.verify_receipt(&receipt, &self.contacts, &hashes) {
                Ok(()) => break,
                Err(RoomError::UnknownKeys(account)) if !asked => {
                    asked = true;
                    self.fetch_keys(&[account]).await?;
                }
                Err(RoomError::PastUnreadable(unreadable)) => return Err(unreadable.into()),
                // The entry comes behind it, perhaps over another of the relay's many ways.
                Err(_) if receipt.seq > open.room.position().seq => {
                    self.keep_early(receipt);
                    return Ok(());
                }
                Err(_) => {
                    tracing::info!("a receipt does not fit the log");
                    return Ok(());
                }
            }
        }
        let (account, kind, seq) = (receipt.account.clone(), receipt.kind, receipt.seq);
        let known = self.store.read(move |vault| Ok(vault.receipts(&room)?)).await?;
        let before =
            known.iter().find(|row| row.account == account && row.kind == kind).map_or(0, |row| row.seq);
        if seq <= before {
            return Ok(());
        }
        let mut changes = Changes::new();
        changes.put_receipt(&room, &account, kind, seq);
        self.commit(changes).await?;
        let lines = self.store.read(move |vault| store::own_lines(vault, &room, before, seq)).await?;
        for message in lines {
            self.events.tell(Event::Message { message });
        }
        self.tell_room(room).await;
        Ok(())
    }

    /// Sends the receipts that are due. What cannot be sent now is found again at the next sync.
    pub(super) async fn send_receipts(&mut self) {
        if self.wire.is_none() || self.session.is_none() {
            return;
        }
        let mut receipts = Vec::new();
        for ((room, kind), seq) in std::mem::take(&mut self.receipts_due) {
            let (Ok(secrets), Some(open)) = (self.secrets(), self.rooms.get(&room)) else { continue };
            let at = open.room.position();
            let hash = if at.seq == seq { Ok(Some(at.hash)) } else { self.store.log_hash(&room, seq) };
            let hash = hash.unwrap_or_else(|error| {
                tracing::error!(%error, "a receipt cannot be made");
                None
            });
            if let Some(hash) = hash.filter(|_| !open.meta.left) {
                receipts.push(secrets.sign_receipt(room, kind, LogPosition { seq, hash }));
            }
        }
        for some in receipts.chunks(MAX_RECEIPTS) {
            if let Err(error) = self.ask(&command::ReceiptSend { receipts: some.to_vec() }).await {
                tracing::info!(code = error.code(), "receipts were not sent");
                if error.code() == "busy" {
                    let due = some.iter().map(|receipt| ((receipt.room, receipt.kind), receipt.seq));
                    self.receipts_due.extend(due);
                    self.put_off.note(&error, Step::Flush, Instant::now());
                }
            }
        }
    }
}

/// The id of a line that has none of its own: the first bytes of the log hash at its place.
fn name_of(hash: &Hash) -> ClientMessageId {
    let id = hash.as_bytes().first_chunk().map_or([0; ClientMessageId::LENGTH], |bytes| *bytes);
    ClientMessageId::from_bytes(id)
}

impl OpenRoom {
    /// Brings what is shown of the room up to its state and its new lines.
    pub(super) fn refresh(&mut self, new: &[MessageView], own: &AccountId, contacts: &Contacts) {
        self.meta.beyond_repair = self.is_beyond_repair(contacts);
        let meta = &mut self.meta;
        if let Some(kind) = self.room.kind() {
            meta.kind = kind;
            meta.members = self.room.members().map(|member| (member.account.clone(), member.role)).collect();
            meta.left = !self.room.is_member(own);
            meta.removed &= meta.left;
        }
        if let Some(profile) = self.room.profile() {
            meta.name.clone_from(&profile.name);
        }
        let differs = self.differs.map(Differs::code);
        meta.blocked = self.room.blocked().or(differs).map(str::to_owned);
        for line in new {
            let others_text =
                line.from != own.as_str() && matches!(line.content, MessageContent::Text { .. });
            if others_text && line.seq.is_some_and(|seq| seq > meta.read_seq) {
                meta.unread = meta.unread.saturating_add(1);
            }
            if let MessageContent::MemberRemoved { account } = &line.content {
                meta.removed = meta.left && *account == own.as_str();
            }
            meta.last = Some(line.clone());
        }
    }
}

impl Batch {
    fn line(
        &mut self,
        at: LogPosition,
        id: ClientMessageId,
        from: AccountId,
        sent_at: u64,
        content: &MessageContent,
    ) {
        let text = match content {
            MessageContent::Text { text, .. } => Some(text.clone()),
            _ => None,
        };
        self.last = Some(content.clone());
        match serde_json::to_vec(content) {
            Ok(body) => self.lines.push(HistoryRow { seq: at.seq, id, from, sent_at, body, text }),
            Err(_) => tracing::error!("a line cannot be encoded"),
        }
    }

    /// A notice: a line that nobody wrote. It is named by the log hash at its place.
    fn note(&mut self, item: &LogItem, at: LogPosition, from: Option<AccountId>, content: MessageContent) {
        let LogItem::Entry { stored_at, .. } = item else { return };
        if let Some(from) = from {
            self.arrived_at = times::arrived_at(*stored_at, self.now);
            self.line(at, name_of(&at.hash), from, self.arrived_at, &content);
        }
    }

    fn accepted(&mut self, item: &LogItem, at: LogPosition, accepted: Accepted, own: &AccountId) {
        match accepted {
            Accepted::Created { by } => self.note(item, at, Some(by), MessageContent::RoomCreated),
            Accepted::Added { by, accounts } => {
                let accounts = accounts.iter().map(ToString::to_string).collect();
                self.note(item, at, Some(by), MessageContent::MembersAdded { accounts });
            }
            Accepted::Left { by } => self.note(item, at, Some(by), MessageContent::MemberLeft),
            Accepted::Removed { by, account } => {
                let account = account.to_string();
                self.note(item, at, Some(by), MessageContent::MemberRemoved { account });
            }
            Accepted::Message(message) => {
                let text = match message.content.body {
                    Body::Text(text) => MessageContent::Text { text, missing_before: message.missing },
                    _ => MessageContent::NeedsNewerVersion,
                };
                let (id, sender) = (message.id, message.sender);
                if sender == *own {
                    self.sent.push(id);
                }
                let LogItem::Entry { stored_at, .. } = item else { return };
                self.arrived_at = times::arrived_at(*stored_at, self.now);
                let written_at = times::written_at(message.content.sent_at, *stored_at, self.now);
                self.line(at, id, sender, written_at, &text);
            }
            Accepted::Changed { .. } | Accepted::Epoch { .. } | Accepted::Withheld => {}
        }
    }
}
