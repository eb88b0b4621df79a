//! The command line.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args as ClapArgs, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::input::StdinNeed;
use crate::output::Failure;

/// Mildam on the command line: private talk for scripts, bots and tests.
///
/// The vault's passphrase comes from MILDAM_PASSPHRASE or, without it, from the system's keyring.
/// Exit codes: 0 done, 1 refused, 2 usage, 3 offline, 4 the disk is full or failing, or what is stored is
/// damaged. A message that waits for a connection is done: it says so, and goes out later. While
/// `mildam listen` or `mildam bot` runs, the other commands of the same account are carried out there, and
/// answer as ever.
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

impl Args {
    /// Whether everything is to be told in JSON.
    pub(crate) const fn is_json(&self) -> bool {
        self.json || matches!(self.command, Command::Bot)
    }

    /// Reads a command line without its program that somebody else gave to this process. This process's
    /// environment names no folder for it.
    pub(crate) fn read(line: &[String]) -> Result<Self, Failure> {
        // The text of `--help` is an answer too, but none that a program expects.
        let usage = |error: clap::Error| Failure::Usage(error.render().to_string().trim_end().to_owned());
        let line = ["mildam"].into_iter().chain(line.iter().map(String::as_str));
        let matches = Self::command().try_get_matches_from(line).map_err(usage)?;
        let mut args = Self::from_arg_matches(&matches).map_err(usage)?;
        if matches.value_source("home") != Some(ValueSource::CommandLine) {
            args.home = None;
        }
        Ok(args)
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Connects to the server of a link, and remembers it.
    Connect {
        /// mildam://host:port/#fingerprint, with the invitation if it has one
        link: String,
    },
    /// The server, its addresses, and what to do if it shows another key.
    Server {
        #[command(subcommand)]
        change: Option<Server>,
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
        /// The invitation, or a link with it, if the link that was connected by has none.
        #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
        invitation: Option<String>,
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
    /// Prints events until stopped. Other commands of the same account work beside it.
    Listen,
    /// Prints events as JSON, and carries out what standard input says, until that ends.
    ///
    /// A line of standard input is {"id":"1","args":["send","ROOM","hello"]}, with "stdin":"..." for
    /// a command that reads it. The answer is a line like the events:
    /// {"event":"answer","id":"1","exit":0,"output":[...],"error":null}. Commands run beside each other.
    Bot,
}

impl Command {
    /// Whether it can be carried out only by a process that has the vault for itself.
    pub(crate) const fn is_alone(&self) -> bool {
        matches!(self, Self::Listen | Self::Bot | Self::Vault(Vault::Repair))
    }

    /// How much of standard input it reads.
    pub(crate) const fn stdin_need(&self) -> StdinNeed {
        match self {
            Self::Signup { .. } | Self::Login { .. } | Self::Vault(Vault::Protect { keyring: false }) => {
                StdinNeed::Lines(1)
            }
            Self::Recover { .. } => StdinNeed::Lines(2),
            Self::Send { text: None, .. } => StdinNeed::Everything,
            _ => StdinNeed::Nothing,
        }
    }
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

#[derive(Subcommand)]
pub(crate) enum Server {
    /// Decides about another server key that the server's address shows.
    ///
    /// Ask the person who runs the server, by another way, for the fingerprint of the new key. Give it with
    /// --take: nothing is taken but that key, and only if the address shows it.
    Decide {
        /// The fingerprint of the new key: it replaces the known one.
        #[arg(long, value_name = "FINGERPRINT", required_unless_present = "keep", conflicts_with = "keep")]
        take: Option<String>,
        /// The known key stays: nothing is sent to that address until it shows the known key again.
        #[arg(long)]
        keep: bool,
    },
    /// Forgets an address of the server, if others are known.
    Forget {
        /// Host and port, as `mildam server` shows them.
        address: String,
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
    /// Makes a room in the place of one in which nothing can ever be said again, with the same people.
    Replace {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Result<Args, Failure> {
        Args::read(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_of_somebody_else_is_read_like_ones_own() {
        let args = read(&["send", "ROOM", "--stdin", "--id", "KEY"]).ok().unwrap();
        assert_eq!(args.command.stdin_need(), StdinNeed::Everything);
        assert!(!args.command.is_alone() && args.home.is_none());
        let args = read(&["whoami", "--home", "elsewhere"]).ok().unwrap();
        assert_eq!(args.home, Some(PathBuf::from("elsewhere")));
        assert_eq!(args.command.stdin_need(), StdinNeed::Nothing);
        assert!(read(&["vault", "repair"]).ok().unwrap().command.is_alone());
    }

    #[test]
    fn what_cannot_be_read_never_ends_this_process() {
        for line in [&[] as &[&str], &["dance"], &["--help"], &["send", "--help"], &["--version"], &["send"]]
        {
            let Some(Failure::Usage(text)) = read(line).err() else { panic!("{line:?}") };
            assert!(!text.is_empty() && !text.contains('\u{1b}'), "{text}");
        }
    }
}
