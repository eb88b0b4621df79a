//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Mildam on the command line: private talk for scripts, bots and tests.
///
/// The vault's passphrase comes from MILDAM_PASSPHRASE or, without it, from the system's keyring.
/// Exit codes: 0 done, 1 refused, 2 usage, 3 offline. A message that waits for a connection is done:
/// it says so, and goes out later.
#[derive(Parser)]
#[command(name = "mildam", version)]
pub(crate) struct Args {
    /// The folder of this account; by default one in the user's data folder.
    #[arg(long, env = "MILDAM_HOME", global = true)]
    pub(crate) home: Option<PathBuf>,
    /// One JSON object a line on standard output, errors as JSON on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Connects to the server of a link, and remembers it.
    Connect {
        /// mildam://host:port/#fingerprint
        link: String,
    },
    /// Makes an account.
    Signup {
        /// The id to take: small letters, digits, _ and .
        #[arg(long)]
        id: String,
        /// An e-mail address.
        #[arg(long)]
        email: String,
        /// What others read.
        #[arg(long, default_value = "")]
        nickname: String,
        #[command(flatten)]
        password: Password,
    },
    /// Logs this device's account in again.
    Login {
        /// The account's id.
        #[arg(long)]
        id: String,
        #[command(flatten)]
        password: Password,
    },
    /// Gets an account back with its recovery words: this device becomes its only one.
    ///
    /// Standard input gives the twelve words on its first line, and a new password on its second.
    Recover {
        /// The account's id.
        #[arg(long)]
        id: String,
        /// Take words and password from standard input.
        #[arg(long, required = true)]
        words_stdin: bool,
    },
    /// Ends the session; the history stays readable.
    Logout,
    /// Who this is, and where it belongs.
    Whoami,
    /// The recovery words, until they are confirmed as written down.
    Words {
        /// They are written down: erase them here.
        #[arg(long)]
        confirm: bool,
        /// Show the Korean words, which stand for the same secret.
        #[arg(long)]
        korean: bool,
    },
    /// Whose keys are whose: safety numbers.
    #[command(subcommand)]
    Contact(Contact),
    /// What is stored on this device.
    #[command(subcommand)]
    Vault(Vault),
    /// Puts a notice away that `whoami` shows.
    Dismiss {
        /// Which.
        notice: String,
    },
    /// Friends.
    #[command(subcommand)]
    Friend(Friend),
    /// Rooms.
    #[command(subcommand)]
    Room(Room),
    /// Sends a message. Without a connection it waits here and goes out later, once: that is no failure.
    Send {
        /// The room's id.
        #[arg(allow_hyphen_values = true)]
        room: String,
        /// The text.
        #[arg(required_unless_present = "stdin", allow_hyphen_values = true)]
        text: Option<String>,
        /// Take the text from standard input.
        #[arg(long, conflicts_with = "text")]
        stdin: bool,
        /// A word of the caller's own for this message: sent again with the same, to the same room, it is
        /// sent once.
        #[arg(long, value_name = "KEY")]
        id: Option<String>,
        /// Wait until it has come so far; fails with `pending` if it has not in time.
        #[arg(long, value_name = "STATE")]
        wait: Option<Wait>,
        /// How many seconds to wait at most.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "wait")]
        timeout: u64,
    },
    /// Messages that wait to be sent, or could not be sent. Works offline.
    Outbox {
        #[command(subcommand)]
        change: Option<Outbox>,
    },
    /// A page of a conversation, oldest first. Works offline.
    History {
        /// The room's id.
        #[arg(allow_hyphen_values = true)]
        room: String,
        /// At most so many lines.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Lines before this place.
        #[arg(long)]
        before: Option<u64>,
    },
    /// Searches all history, newest first. Works offline.
    Search {
        /// The words; all of them must be in a message.
        #[arg(allow_hyphen_values = true)]
        text: String,
        /// At most so many messages.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Marks a room as read up to a place, and tells the others.
    Read {
        /// The room's id.
        #[arg(allow_hyphen_values = true)]
        room: String,
        /// The place; by default the newest.
        #[arg(long)]
        seq: Option<u64>,
    },
    /// Fetches everything that is new.
    Sync,
    /// Who of the friends is online, and whether they see this account.
    Presence {
        #[command(subcommand)]
        change: Option<Presence>,
    },
    /// Tells the members of a room that one is writing. To be repeated every few seconds while it is true.
    Typing {
        /// The room's id.
        #[arg(allow_hyphen_values = true)]
        room: String,
    },
    /// Where the account is logged in.
    Sessions {
        #[command(subcommand)]
        change: Option<Sessions>,
    },
    /// Prints events until stopped.
    Listen,
}

/// How far a message has come.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// The server has it.
    Stored,
    /// Every other member's device has it.
    Delivered,
    /// Every other member has read it.
    Read,
}

#[derive(Subcommand)]
pub(crate) enum Outbox {
    /// Lets one that could not be sent wait again.
    Retry {
        /// The room's id.
        #[arg(allow_hyphen_values = true)]
        room: String,
        /// The message's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Forgets one that could not be sent, or that cannot have been sent yet, and prints its text.
    Discard {
        /// The room's id.
        #[arg(allow_hyphen_values = true)]
        room: String,
        /// The message's id.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Presence {
    /// Lets friends see when this account is online or writing.
    Show,
    /// Hides it from them. Who hides sees nobody else either.
    Hide,
}

#[derive(Subcommand)]
pub(crate) enum Sessions {
    /// Logs a device of the account out.
    End {
        /// The device's id, as `mildam sessions` lists it.
        #[arg(allow_hyphen_values = true)]
        device: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Friend {
    /// Asks somebody to be a friend.
    Request {
        /// Their id.
        id: String,
        /// A few words to go with it.
        #[arg(long, default_value = "")]
        greeting: String,
    },
    /// Accepts a request.
    Accept {
        /// Who asked.
        id: String,
    },
    /// Declines a request.
    Decline {
        /// Who asked.
        id: String,
    },
    /// Friends and waiting requests. Works offline.
    List,
}

#[derive(Subcommand)]
pub(crate) enum Contact {
    /// The safety number and what is known of somebody. Works offline.
    Show {
        /// Their id.
        id: String,
    },
    /// Marks somebody as compared.
    Verify {
        /// Their id.
        id: String,
        /// The number that they read out: it must be the same.
        #[arg(long)]
        number: Option<String>,
    },
    /// Takes that back.
    Unverify {
        /// Their id.
        id: String,
    },
    /// Takes the new identity of somebody whose identity has changed.
    AcceptIdentity {
        /// Their id.
        id: String,
    },
    /// Keeps the known identity of somebody for whom the server shows another.
    KeepIdentity {
        /// Their id.
        id: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Vault {
    /// Lets it be opened by the passphrase on standard input from now on, or by the system's keyring.
    Protect {
        /// By the system's keyring.
        #[arg(long)]
        keyring: bool,
    },
    /// Makes unreadable now what would be within a day: replaced keys, and what was deleted.
    Erase,
    /// Puts a damaged one together again, from what can be read of it and of its last snapshot.
    Repair,
}

#[derive(Subcommand)]
pub(crate) enum Room {
    /// Opens the one-to-one room with a friend.
    Direct {
        /// The friend's id.
        id: String,
    },
    /// Makes a group.
    Create {
        /// Its name.
        #[arg(long)]
        name: String,
        /// The friends' ids.
        ids: Vec<String>,
    },
    /// Brings friends into a group.
    Invite {
        /// The room's id.
        #[arg(allow_hyphen_values = true)]
        room: String,
        /// The friends' ids.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Leaves a group.
    Leave {
        /// The room's id.
        #[arg(allow_hyphen_values = true)]
        room: String,
    },
    /// Goes on in a room whose log was shown differently to others.
    Unblock {
        /// The room's id.
        #[arg(allow_hyphen_values = true)]
        room: String,
    },
    /// All rooms, the newest first. Works offline.
    List,
}

/// Where the password comes from: never from the command line, which everybody can read.
#[derive(ClapArgs)]
pub(crate) struct Password {
    /// Take the password from the first line of standard input.
    #[arg(long, required = true)]
    pub(crate) password_stdin: bool,
}
