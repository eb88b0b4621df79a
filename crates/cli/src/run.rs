//! One command, from its arguments to its answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mildam_client::text::one_line;
use mildam_client::{
    AccountView, Client, Error, EventStream, MessageState, MessageView, Notice, Recover, RepairView, SignUp,
    Unlock,
};
use serde_json::json;

use crate::args::{Args, Command, Contact, Friend, Outbox, Presence, Room, Server, Sessions, Vault, Wait};
use crate::bot::bot;
use crate::guest;
use crate::host::serve;
use crate::input::Input;
use crate::key::Key;
use crate::listen::{listen, stopped};
use crate::output::{Failure, Output};
use crate::socket::HostSocket;

/// How long `send` waits for the server if it is not told to. The message is safe before that.
const SEND_LIMIT: Duration = Duration::from_secs(15);

/// Carries the command out, here or where the vault is; gives the exit code.
pub(crate) async fn run(args: Args, key: Key, output: &Output) -> Result<u8, Failure> {
    let home = match args.home {
        Some(home) => home,
        None => default_home()?,
    };
    if matches!(args.command, Command::Vault(Vault::Repair)) {
        let (client, repair) = Client::repair(&home, key.unlock()).await?;
        client.shut_down().await;
        return repaired(repair, output).map(|()| 0);
    }
    let client = match Client::open(&home, key.unlock()).await {
        Err(error) if error.code() == "vault_locked" && !args.command.is_alone() => {
            let answer = guest::ask(&home, &key, &args.command, output).await?;
            return answer.ok_or(Failure::Client(error));
        }
        opened => opened?,
    };
    // From here on every event is seen, also those of the command itself.
    let events = client.subscribe();
    let outcome = if matches!(args.command, Command::Listen | Command::Bot) {
        stay(&home, &client, events, &args.command, &key, output).await
    } else {
        command(&client, events, args.command, &key, &Input::Process, output).await
    };
    client.shut_down().await;
    outcome.map(|()| 0)
}

/// Listens, or is a bot, and carries out what other processes of this account ask for. Ends with that, or
/// at SIGINT or SIGTERM.
async fn stay(
    home: &Path,
    client: &Client,
    events: EventStream,
    command: &Command,
    key: &Key,
    output: &Output,
) -> Result<(), Failure> {
    // It is closed before the vault is given back, so that nobody finds it afterwards.
    let socket = HostSocket::open(home);
    if let Err(error) = &socket {
        warn(&format!("other commands of this account have to wait until this one ends: {error}"), output);
    }
    let work = async {
        match command {
            Command::Bot => bot(client, events, key).await,
            _ => listen(client, events, output.is_json()).await,
        }
    };
    tokio::select! {
        () = stopped() => Ok(()),
        outcome = work => outcome,
        never = serve(socket.as_ref().ok(), client) => match never {},
    }
}

fn warn(message: &str, output: &Output) {
    if output.is_json() {
        output.complain(&json!({"warning": {"code": "no_socket", "message": message}}).to_string());
    } else {
        output.complain(&format!("mildam: {message} [no_socket]"));
    }
}

fn default_home() -> Result<PathBuf, Failure> {
    let folders = directories::ProjectDirs::from("", "", "mildam");
    let folders =
        folders.ok_or_else(|| Failure::Usage("there is no home folder: name one with --home".to_owned()))?;
    Ok(folders.data_dir().join("default"))
}

pub(crate) async fn command(
    client: &Client,
    events: EventStream,
    command: Command,
    key: &Key,
    input: &Input,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Command::Connect { link } => {
            let server = client.connect(&link).await?;
            output.show(&server, || format!("Connected to {}.", server.address))
        }
        Command::Server { change } => server(client, change, output).await,
        Command::Signup { id, email, nickname, invitation, password: _ } => {
            let sign_up = SignUp { account: id, email, password: input.line("a password")?, nickname };
            let account = match invitation {
                Some(invitation) => client.sign_up_invited(sign_up, &invitation).await?,
                None => client.sign_up(sign_up).await?,
            };
            show_account(&account, output)?;
            let words = if output.is_json() { None } else { client.recovery_words().await? };
            words.map_or(Ok(()), |words| {
                output.line(&format!(
                    "Write these twelve words down and keep them safe. They bring the account back if every \
                     device is lost:\n\n  {}\n\nThen: mildam words --confirm",
                    words.english.join(" ")
                ))
            })
        }
        Command::Login { id, password: _ } => {
            show_account(&client.log_in(&id, input.line("a password")?).await?, output)
        }
        Command::Recover { id, words_stdin: _ } => {
            let (words, password) = (input.line("the recovery words")?, input.line("a new password")?);
            show_account(&client.recover(Recover { account: id, words, password }).await?, output)
        }
        Command::Logout => {
            client.log_out().await?;
            output.show(&json!({"logged_in": false}), || "Logged out.".to_owned())
        }
        Command::Whoami => show_account(&own(client).await?, output),
        Command::Words { confirm: true, .. } => {
            client.confirm_recovery_words().await?;
            output.show(&json!({"words": null}), || "The words are erased from this device.".to_owned())
        }
        Command::Words { confirm: false, korean } => {
            own(client).await?;
            let words = client.recovery_words().await?;
            let words = words.map(|words| if korean { words.korean } else { words.english });
            output.show(&json!({ "words": words }), || match words {
                Some(words) => words.join(" "),
                None => "The words were confirmed and are no longer on this device.".to_owned(),
            })
        }
        Command::Contact(contact) => contacts(client, contact, output).await,
        Command::Dismiss { notice } => {
            let known = serde_json::from_value(notice.clone().into());
            let known = known.map_err(|_| Failure::Usage(format!("there is no notice called {notice}")))?;
            client.dismiss(known).await?;
            show_account(&own(client).await?, output)
        }
        Command::Vault(change) => vault(client, change, key, input, output).await,
        Command::Friend(friend) => friends(client, friend, output).await,
        Command::Room(room) => rooms(client, room, output).await,
        Command::Send { room, text, stdin: _, id: key, wait, timeout } => {
            let text = match text {
                Some(text) => text,
                None => input.text()?,
            };
            let limit = if wait.is_some() { Duration::from_secs(timeout) } else { SEND_LIMIT };
            output.message(&send(client, events, Sending { room, text, key, wait, limit }).await?)
        }
        Command::Outbox { change } => outbox(client, change, output).await,
        Command::History { room, limit, before } => {
            for message in client.history(&room, before, limit).await?.messages {
                output.message(&message)?;
            }
            Ok(())
        }
        Command::Search { text, limit } => {
            for hit in client.search(&text, limit).await? {
                output.hit(&hit)?;
            }
            Ok(())
        }
        Command::Read { room, seq } => {
            client.wait_online().await?;
            client.mark_read(&room, seq.unwrap_or(u64::MAX)).await?;
            let view = client.room(&room).await?;
            output.show(&json!({"room": room, "unread": view.unread}), String::new)
        }
        Command::Sync => {
            client.wait_online().await?;
            let unread: u64 = client.rooms().await?.iter().map(|room| room.unread).sum();
            output.show(&json!({ "unread": unread }), || format!("{unread} unread"))
        }
        Command::Presence { change } => presence(client, change, output).await,
        Command::Typing { room } => typing(client, &room, output).await,
        Command::Sessions { change } => sessions(client, change, output).await,
        Command::Listen | Command::Bot => {
            Err(Failure::Usage("only a process of its own can listen, or be a bot".to_owned()))
        }
    }
}

async fn server(client: &Client, change: Option<Server>, output: &Output) -> Result<(), Failure> {
    match &change {
        Some(Server::Forget { address }) => drop(client.forget_address(address).await?),
        // Whether it comes online or not, and why, shows in the state afterwards.
        _ => drop(client.wait_online().await),
    }
    match change {
        None | Some(Server::Forget { .. }) => {}
        Some(Server::Decide { take, keep: _ }) => {
            let none = "the server does not show another key: there is nothing to decide";
            let offered = client.state().await?.offered_key;
            let found = offered.ok_or_else(|| Failure::Usage(none.to_owned()))?.found;
            if take.as_ref().is_some_and(|taken| taken.trim() != found) {
                let another = format!("the server shows the key {found}, not that one: nothing was taken");
                return Err(Failure::Usage(another));
            }
            client.decide_server_key(&found, take.is_some()).await?;
            if take.is_some() {
                client.wait_online().await?;
            }
        }
    }
    output.server(&client.state().await?)
}

async fn own(client: &Client) -> Result<AccountView, Failure> {
    // Asking for rooms gives the error that says why there is no account.
    match client.state().await?.account {
        Some(account) => Ok(account),
        None => Err(client
            .rooms()
            .await
            .err()
            .map_or_else(|| Failure::Usage("there is no account".to_owned()), Failure::Client)),
    }
}

fn show_account(account: &AccountView, output: &Output) -> Result<(), Failure> {
    output.show(account, || {
        let state = if account.logged_in { "logged in" } else { "logged out" };
        let mut text = format!("{} ({}), {state}", one_line(&account.nickname), account.account);
        for notice in &account.notices {
            text.push_str("\n! ");
            text.push_str(match notice {
                Notice::StatePutBack => "This device's data came from an older copy. New keys were made.",
                Notice::LoggedOut => {
                    "This device was logged out from elsewhere. If that was not you, log in and look at `mildam sessions`."
                }
                Notice::DeviceRemoved => "This device was taken off the account.",
                Notice::VaultDamaged => "Part of what is stored here is damaged: run `mildam vault repair`.",
                Notice::VaultRepaired => {
                    "The vault was damaged, and put together again from what could be read."
                }
            });
        }
        text
    })
}

async fn contacts(client: &Client, contact: Contact, output: &Output) -> Result<(), Failure> {
    let view = match contact {
        Contact::Show { id } => client.contact(&id).await?,
        Contact::Verify { id, number: None } => client.set_verified(&id, true).await?,
        Contact::Verify { id, number: Some(number) } => client.compare_safety_number(&id, &number).await?,
        Contact::Unverify { id } => client.set_verified(&id, false).await?,
        Contact::AcceptIdentity { id } => client.decide_identity(&id, true).await?,
        Contact::KeepIdentity { id } => client.decide_identity(&id, false).await?,
    };
    output.contact(&view)
}

async fn vault(
    client: &Client,
    change: Vault,
    key: &Key,
    input: &Input,
    output: &Output,
) -> Result<(), Failure> {
    match change {
        Vault::Protect { keyring: true } => {
            client.change_unlock(key.unlock(), Unlock::Keyring).await?;
            output.show(&json!({"unlock": "keyring"}), || "The system's keyring opens it now.".to_owned())
        }
        Vault::Protect { keyring: false } => {
            let next = Unlock::Passphrase(input.line("a new passphrase")?);
            client.change_unlock(key.unlock(), next).await?;
            output.show(&json!({"unlock": "passphrase"}), || "The new passphrase opens it now.".to_owned())
        }
        Vault::Erase => {
            client.erase_now().await?;
            output.show(&json!({"erased": true}), || "Replaced keys and deleted rows are erased.".to_owned())
        }
        Vault::Repair => Err(Failure::Usage("a vault is repaired while nothing else uses it".to_owned())),
    }
}

/// Says what came back, and fails if the account did not.
fn repaired(repair: RepairView, output: &Output) -> Result<(), Failure> {
    let RepairView { account, rooms, messages, unreadable } = repair;
    output.show(&repair, || {
        let account = if account { "The account is there again" } else { "The account is NOT there again" };
        format!(
            "{account}, with {rooms} rooms and {messages} messages. {unreadable} more rows could not be read.\n\
             The damaged original is kept in the folder until `mildam dismiss vault_repaired`."
        )
    })?;
    if account { Ok(()) } else { Err(Failure::Client(Error::account_lost())) }
}

async fn friends(client: &Client, friend: Friend, output: &Output) -> Result<(), Failure> {
    match friend {
        Friend::Request { id, greeting } => client.request_friend(&id, &greeting).await?,
        Friend::Accept { id } => client.accept_friend(&id).await?,
        Friend::Decline { id } => client.decline_friend(&id).await?,
        Friend::List => {}
    }
    output.friends(&client.friends().await?)
}

async fn rooms(client: &Client, room: Room, output: &Output) -> Result<(), Failure> {
    let made = match room {
        Room::Direct { id } => client.open_direct(&id).await?.room,
        Room::Create { name, ids } => client.create_group(&name, &ids).await?.room,
        Room::Invite { room, ids } => {
            client.invite(&room, &ids).await?;
            room
        }
        Room::Leave { room } => {
            client.leave(&room).await?;
            room
        }
        Room::Replace { room } => client.replace_room(&room).await?.room,
        Room::Unblock { room } => client.end_block(&room).await?.room,
        Room::List => return output.rooms(&client.rooms().await?, &own(client).await?.account),
    };
    output.show(&json!({ "room": made }), || made.clone())
}

async fn presence(client: &Client, change: Option<Presence>, output: &Output) -> Result<(), Failure> {
    client.wait_online().await?;
    let presence = match change {
        None => client.presence(),
        Some(Presence::Show) => client.set_presence(true).await?,
        Some(Presence::Hide) => client.set_presence(false).await?,
    };
    output.presence(&presence)
}

async fn typing(client: &Client, room: &str, output: &Output) -> Result<(), Failure> {
    client.wait_online().await?;
    let room = client.room(room).await?.room;
    client.typing(&room).await?;
    // Jobs are done in their order: with this one the word is out.
    client.wait_online().await?;
    let told = client.presence().visible;
    output.show(&json!({"room": room, "told": told}), || {
        let text = if told { "Told." } else { "Nobody is told: this account hides when it is online." };
        text.to_owned()
    })
}

async fn sessions(client: &Client, change: Option<Sessions>, output: &Output) -> Result<(), Failure> {
    client.wait_online().await?;
    if let Some(Sessions::End { device }) = change {
        client.end_session(&device).await?;
        return output.show(&json!({"device": device, "ended": true}), || "Logged out.".to_owned());
    }
    for session in client.sessions().await? {
        output.session(&session)?;
    }
    Ok(())
}

/// What is to be sent, and how far it is to come before the command ends.
struct Sending {
    room: String,
    text: String,
    key: Option<String>,
    wait: Option<Wait>,
    limit: Duration,
}

/// Sends. The message is safe in the outbox at once; whether the server has it already is waited for as
/// long as there may be a connection, or as the caller wants.
async fn send(client: &Client, mut events: EventStream, sending: Sending) -> Result<MessageView, Failure> {
    let Sending { room, text, key, wait, limit } = sending;
    let queue = async || match &key {
        Some(key) => client.send_once(&room, &text, key).await,
        None => client.send(&room, &text).await,
    };
    let queued = match queue().await {
        // A room that others made meanwhile is not known here before the next sync.
        Err(error) if error.code() == "not_found" => {
            client.wait_online().await?;
            queue().await?
        }
        other => other?,
    };
    let arrives = async {
        loop {
            let message = client.message(&room, &queued.id).await?;
            if message.state == MessageState::Failed {
                return Err(Failure::Client(client.send_failure(&room, &message.id).await?));
            }
            if message.state >= wanted(wait) {
                return Ok(message);
            }
            // It may have been blocked by what was read meanwhile; the message waits.
            client.check_open(&room).await.map_err(|error| Failure::Pending(error, Box::new(message)))?;
            if wait.is_none()
                && let Err(error) = client.wait_online().await
            {
                let message = client.message(&room, &queued.id).await?;
                // It goes out by itself when there is a connection, but not before somebody logs in.
                let by_itself = error.is_offline() || error.code() == "busy";
                return if by_itself { Ok(message) } else { Err(Failure::Pending(error, Box::new(message))) };
            }
            if events.next().await.is_none() {
                return Err(Failure::Client(Error::offline()));
            }
        }
    };
    match tokio::time::timeout(limit, arrives).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let message = client.message(&room, &queued.id).await?;
            match wait {
                None => Ok(message),
                Some(_) => Err(Failure::Pending(Error::pending(), Box::new(message))),
            }
        }
    }
}

const fn wanted(wait: Option<Wait>) -> MessageState {
    match wait {
        None | Some(Wait::Stored) => MessageState::Stored,
        Some(Wait::Delivered) => MessageState::Delivered,
        Some(Wait::Read) => MessageState::Read,
    }
}

async fn outbox(client: &Client, change: Option<Outbox>, output: &Output) -> Result<(), Failure> {
    match change {
        None => {
            for message in client.outbox().await? {
                output.waiting(&message)?;
            }
            Ok(())
        }
        Some(Outbox::Retry { room, id }) => output.message(&client.retry_send(&room, &id).await?),
        Some(Outbox::Discard { room, id }) => {
            let text = client.discard_send(&room, &id).await?;
            output.show(&json!({"room": room, "id": id, "text": text}), || text.clone())
        }
    }
}
