//! What is printed: for people, or as JSON for programs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{ErrorKind, Write};

use mildam_client::text::{harmless, one_line};
use mildam_client::{
    ClientState, ContactView, Error, FriendsView, MessageContent, MessageState, MessageView, PresenceView,
    RoomView, SearchHit, SessionView, TrustView,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The server, the vault or a rule refused it.
pub(crate) const REFUSED: u8 = 1;
/// The command line or its input cannot be used.
pub(crate) const USAGE: u8 = 2;
/// The server cannot be reached.
pub(crate) const OFFLINE: u8 = 3;
/// What is stored here cannot be written or read: the disk is full, or failing, or the vault is damaged.
pub(crate) const STORAGE: u8 = 4;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client's word.
    Client(Error),
    /// The message waits: why it has not come so far as it was to.
    Pending(Error, Box<MessageView>),
    /// The input cannot be used.
    Usage(String),
    /// Standard input or output failed.
    Io(std::io::Error),
    /// Another process of this account has the vault, and could not be asked.
    Host {
        /// For programs.
        code: &'static str,
        /// For people.
        message: &'static str,
    },
}

impl Failure {
    /// The other process does not understand this one.
    pub(crate) const fn other_version() -> Self {
        let message = "The process that has this vault open is of another version of Mildam: start it anew.";
        Self::Host { code: "other_version", message }
    }

    /// The other process ended.
    pub(crate) const fn host_gone() -> Self {
        let message = "The process that has this vault open ended before it answered: it may have done it.";
        Self::Host { code: "host_gone", message }
    }

    /// More than can be asked for.
    pub(crate) const fn too_long() -> Self {
        let message = "That is too much: at most 1 MiB can be given to the process that has this vault open.";
        Self::Host { code: "too_long", message }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Something that was printed, and where.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    Out(String),
    Err(String),
}

enum Sink {
    /// This process's own standard output and error.
    Process,
    /// Kept for whoever asked for the command.
    Kept(RefCell<Vec<Line>>),
}

pub(crate) struct Output {
    json: bool,
    sink: Sink,
    /// Whoever read has gone, as `head` does: nothing more is printed, and what is done is done.
    gone: Cell<bool>,
}

impl Output {
    pub(crate) const fn of_process(json: bool) -> Self {
        Self { json, sink: Sink::Process, gone: Cell::new(false) }
    }

    pub(crate) const fn kept(json: bool) -> Self {
        Self { json, sink: Sink::Kept(RefCell::new(Vec::new())), gone: Cell::new(false) }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// What was kept since the last time.
    pub(crate) fn take(&self) -> Vec<Line> {
        match &self.sink {
            Sink::Process => Vec::new(),
            Sink::Kept(lines) => lines.take(),
        }
    }

    /// One line.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        if let Sink::Kept(lines) = &self.sink {
            lines.borrow_mut().push(Line::Out(text.to_owned()));
            return Ok(());
        }
        if self.gone.get() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.gone.set(true);
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    /// One line about what went wrong.
    pub(crate) fn complain(&self, text: &str) {
        match &self.sink {
            Sink::Process => complain(text),
            Sink::Kept(lines) => lines.borrow_mut().push(Line::Err(text.to_owned())),
        }
    }

    /// One object, in one line for every reader: some take U+2028, U+2029 and U+0085 for ends of lines.
    /// They stand in texts only, where JSON has another spelling for them.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(value).map_err(std::io::Error::other)?;
        let spelled = json.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028");
        self.line(&spelled.replace('\u{2029}', "\\u2029"))
    }

    /// One object as JSON, or the same as text.
    pub(crate) fn show(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json {
            return self.json(value);
        }
        let text = text();
        if text.is_empty() { Ok(()) } else { self.line(&text) }
    }

    pub(crate) fn message(&self, message: &MessageView) -> Result<(), Failure> {
        self.show(&message_json(message), || message_text(message))
    }

    /// A message of the outbox, with its room and id, which one needs to do something about it.
    pub(crate) fn waiting(&self, message: &MessageView) -> Result<(), Failure> {
        self.show(&message_json(message), || {
            let why = message.failure.as_ref().map_or(String::new(), |code| format!(" [{code}]"));
            format!("{} {}  {}{why}", message.room, message.id, message_text(message))
        })
    }

    pub(crate) fn hit(&self, hit: &SearchHit) -> Result<(), Failure> {
        self.show(&message_json(&hit.message), || {
            format!("[{}] {}", one_line(&hit.room_name), message_text(&hit.message))
        })
    }

    /// Rooms of `own`. Those whose names look alike have beside them who is in them.
    pub(crate) fn rooms(&self, rooms: &[RoomView], own: &str) -> Result<(), Failure> {
        let mut looks = HashMap::new();
        for room in rooms {
            *looks.entry(room.look.as_str()).or_insert(0) += 1;
        }
        for room in rooms {
            self.show(room, || {
                let others = room.members.iter().map(|member| member.account.as_str());
                let others: Vec<&str> = others.filter(|account| *account != own).collect();
                let alike = looks.get(room.look.as_str()).is_some_and(|count| *count > 1);
                let who = if alike { format!(" ({})", others.join(", ")) } else { String::new() };
                let unread = if room.unread > 0 { format!("  ({} new)", room.unread) } else { String::new() };
                let last = room
                    .last
                    .as_ref()
                    .map_or_else(String::new, |last| format!("\n    {}", one_line(&message_text(last))));
                format!("{}  {}{who}{unread}{last}", room.room, one_line(&room.name))
            })?;
        }
        Ok(())
    }

    pub(crate) fn friends(&self, friends: &FriendsView) -> Result<(), Failure> {
        self.show(friends, || {
            let mut lines = Vec::new();
            for friend in &friends.friends {
                lines.push(format!("{}  {}", friend.account, one_line(&friend.nickname)));
            }
            for request in &friends.incoming {
                let (name, greeting) = (one_line(&request.nickname), one_line(&request.greeting));
                lines.push(format!("{}  {name}  asks: {greeting}", request.account));
            }
            for request in &friends.outgoing {
                lines.push(format!("{}  (asked)", request.account));
            }
            lines.join("\n")
        })
    }

    pub(crate) fn presence(&self, presence: &PresenceView) -> Result<(), Failure> {
        self.show(presence, || match (presence.visible, presence.online.as_slice()) {
            (false, _) => "Hidden: friends do not see this account, and it does not see them.".to_owned(),
            (true, []) => "Nobody is online.".to_owned(),
            (true, online) => online.join("\n"),
        })
    }

    /// The server: its key, its addresses, and whether it shows another key.
    pub(crate) fn server(&self, state: &ClientState) -> Result<(), Failure> {
        let (server, offered) = (&state.server, &state.offered_key);
        self.show(&json!({"server": server, "connection": state.connection, "offered_key": offered}), || {
            let Some(server) = server else { return "No server is known yet.".to_owned() };
            let mut text = format!("{}\nkey {}", server.address, server.fingerprint);
            for other in &server.others {
                text.push_str(&format!("\nalso at {other}"));
            }
            if let Some(offered) = offered {
                text.push_str(&format!(
                    "\n\nTHE SERVER SHOWS ANOTHER KEY: {}\nNothing is sent until you decide. Ask whoever runs \
                     it for the fingerprint, then:\n  mildam server decide --take FINGERPRINT\n  mildam server \
                     decide --keep",
                    offered.found
                ));
            }
            text
        })
    }

    pub(crate) fn session(&self, session: &SessionView) -> Result<(), Failure> {
        self.show(session, || {
            let online = if session.online { "  online" } else { "" };
            let current = if session.current { "  (this device)" } else { "" };
            let (since, until) = (date(session.created_at), date(session.expires_at));
            format!("{}  since {since}  until {until}{online}{current}", session.device)
        })
    }

    pub(crate) fn contact(&self, contact: &ContactView) -> Result<(), Failure> {
        self.show(contact, || {
            let trust = match contact.trust {
                TrustView::Unverified => "not compared yet",
                TrustView::Verified => "compared",
                TrustView::Changed => "THE SERVER SHOWS ANOTHER IDENTITY; nothing is sent until you decide",
            };
            let number = |groups: &[String]| {
                let lines: Vec<String> = groups.chunks(4).map(|line| line.join(" ")).collect();
                lines.join("\n  ")
            };
            let mut text = format!("{} ({}), {trust}", one_line(&contact.nickname), contact.account);
            text.push_str(&format!("\n\n  {}", number(&contact.safety_number.groups)));
            if let Some(offered) = &contact.offered {
                text.push_str(&format!("\n\nwith the other identity:\n\n  {}", number(&offered.groups)));
            }
            text
        })
    }

    /// Says why a command was not done; gives the exit code.
    pub(crate) fn failure(&self, failure: &Failure) -> u8 {
        let (code, message, exit) = match failure {
            Failure::Client(error) if error.is_offline() => (error.code(), error.to_string(), OFFLINE),
            Failure::Client(error) if error.is_of_storage() => (error.code(), error.to_string(), STORAGE),
            Failure::Client(error) => (error.code(), error.to_string(), REFUSED),
            Failure::Pending(error, _) => {
                let message = format!("{error} The message waits here, and goes out when it can.");
                (error.code(), message, if error.is_offline() { OFFLINE } else { REFUSED })
            }
            Failure::Usage(message) => ("usage", message.clone(), USAGE),
            Failure::Io(error) => ("io", error.to_string(), REFUSED),
            Failure::Host { code, message } => (*code, (*message).to_owned(), REFUSED),
        };
        if self.json {
            let mut error = json!({"code": code, "message": message});
            if let (Failure::Pending(_, waiting), Some(fields)) = (failure, error.as_object_mut()) {
                fields.insert("pending".to_owned(), message_json(waiting));
            }
            self.complain(&json!({"error": error}).to_string());
        } else {
            self.complain(&format!("mildam: {message} [{code}]"));
        }
        exit
    }
}

/// Says something on standard error. Where that fails nobody can be told, and what was done stays done.
pub(crate) fn complain(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// `{"room","seq","id","from","text","sent_at","state"}`; a line that is no text has a `notice`
/// in place of it.
pub(crate) fn message_json(message: &MessageView) -> Value {
    let mut json = json!({
        "room": message.room,
        "seq": message.seq,
        "id": message.id,
        "from": message.from,
        "text": null,
        "sent_at": message.sent_at,
        "state": message.state,
    });
    if let Some(fields) = json.as_object_mut() {
        if let Some(failure) = &message.failure {
            fields.insert("failure".to_owned(), failure.clone().into());
        }
        match &message.content {
            MessageContent::Text { text, missing_before } => {
                fields.insert("text".to_owned(), text.clone().into());
                fields.insert("missing_before".to_owned(), (*missing_before).into());
            }
            other => {
                drop(fields.insert("notice".to_owned(), serde_json::to_value(other).unwrap_or_default()))
            }
        }
    }
    json
}

/// The day of a time in milliseconds since 1970, by UTC: `2026-11-26`.
fn date(ms: u64) -> String {
    // Howard Hinnant's civil_from_days, from the first of March of the year 0 on.
    let days = ms / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn message_text(message: &MessageView) -> String {
    let from = &message.from;
    match &message.content {
        MessageContent::Text { text, .. } => {
            let mark = match message.state {
                MessageState::Pending => " … (waits, and goes out when there is a connection)",
                MessageState::Failed => " (not sent)",
                MessageState::Stored => " ✓",
                MessageState::Delivered => " ✓✓",
                MessageState::Read => " ✓✓ read",
                MessageState::Received => "",
            };
            // Further lines are set in, so that none looks like a message of its own.
            format!("{from}: {}{mark}", harmless(text).replace('\n', "\n    "))
        }
        MessageContent::RoomCreated => format!("-- {from} made this room"),
        MessageContent::MembersAdded { accounts } => format!("-- {from} brought in {}", accounts.join(", ")),
        MessageContent::MemberLeft => format!("-- {from} left"),
        MessageContent::MemberRemoved { account } => format!("-- {from} removed {account}"),
        MessageContent::BeforeDevice => {
            "-- messages from before this device was part of the account cannot be read here".to_owned()
        }
        MessageContent::Refused { code } => format!("-- something from {from} was refused ({code})"),
        MessageContent::NeedsNewerVersion => format!("-- {from} sent something that needs a newer version"),
    }
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn a_day_is_written_as_people_write_it() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400_000), "2000-02-29");
        assert_eq!(date(1_735_689_599_999), "2024-12-31");
        assert_eq!(date(1_764_115_200_000), "2025-11-26");
    }
}
