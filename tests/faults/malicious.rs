//! The relay's operator is the attacker: the relay with the right key, in the hands of somebody who
//! reads and changes whatever passes. Each test is one attack from docs/threat-model.md: what it
//! does, what the person sees, that nothing was accepted, and whether and how the room heals.

mod answers;
mod epochs;
mod forks;
mod hand;
mod joiners;
mod keys;
mod log;
mod members;
mod relay;
mod replaced;
mod wire;

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use data_encoding::BASE64URL_NOPAD as B64;
use mildam_e2ee::records::Message;
use mildam_tests::{Person, Scene, copy_folder};
use mildam_vault::{Unlock, Vault};
use serde_json::{Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;

use relay::{Devices, Fate, Kind, MaliciousRelay, Traffic};

/// A relay, and the one that stands in front of it.
struct Stage {
    scene: Scene,
    devices: Devices,
    middle: MaliciousRelay,
}

impl Stage {
    fn start() -> Result<Self> {
        let scene = Scene::start()?;
        let devices = Devices::default();
        let middle = MaliciousRelay::before(&scene.relay, devices.clone())?;
        Ok(Self { scene, devices, middle })
    }

    /// Somebody who signed up before the relay was taken over, and is led to the middle since: the
    /// fingerprint in the link is the same.
    fn person(&self, account: &str) -> Result<Person> {
        let person = self.scene.stranger(account);
        person.sign_up(self.scene.relay.link())?;
        self.devices.lend(&person)?;
        lead(&person, self.middle.link())?;
        Ok(person)
    }

    fn people<const N: usize>(&self, accounts: [&str; N]) -> Result<[Person; N]> {
        let people = accounts.into_iter().map(|account| self.person(account));
        let people: Vec<Person> = people.collect::<Result<_>>()?;
        for (at, one) in people.iter().enumerate() {
            for other in people.iter().skip(at + 1) {
                self.scene.befriend(one, other)?;
            }
        }
        people.try_into().map_err(|_| anyhow::anyhow!("another number of people"))
    }

    /// Alice and Bob, who have talked already: first contact is over.
    fn pair(&self) -> Result<(Person, Person, String)> {
        let [alice, bob] = self.people(["alice", "bob"])?;
        let room = alice.direct(&bob)?;
        say(&alice, &room, "하나")?;
        hear(&bob, &room, &["하나"])?;
        Ok((alice, bob, room))
    }

    /// A group that Alice has made with Bob and Carol, in which she has said something.
    fn group(&self) -> Result<([Person; 3], String)> {
        let [alice, bob, carol] = self.people(["alice", "bob", "carol"])?;
        let room = alice.room(&["room", "create", "--name", "모임", "bob", "carol"])?;
        say(&alice, &room, "하나")?;
        hear(&bob, &room, &["하나"])?;
        hear(&carol, &room, &["하나"])?;
        Ok(([alice, bob, carol], room))
    }
}

/// Leads somebody to another address of the server, and to none of those where it was before.
fn lead(person: &Person, link: &str) -> Result<()> {
    let server = person.done(&["connect", link])?;
    let others = server.first().and_then(|server| server.get("others")?.as_array()).context("a server")?;
    for other in others.iter().filter_map(Value::as_str) {
        person.done(&["server", "forget", other])?;
    }
    Ok(())
}

fn say(person: &Person, room: &str, text: &str) -> Result<()> {
    person.done(&["send", room, text]).map(drop)
}

/// Catches up, and checks all texts of the room.
fn hear(person: &Person, room: &str, texts: &[&str]) -> Result<()> {
    person.done(&["sync"])?;
    let heard: Vec<String> = person.texts(room)?.into_iter().map(|(_, text)| text).collect();
    assert_eq!(heard, texts, "what {} reads", person.account());
    Ok(())
}

/// A room as its line in the list shows it.
fn line(person: &Person, room: &str) -> Result<Value> {
    let rooms = person.done(&["room", "list"])?;
    let line = rooms.into_iter().find(|line| line.get("room").and_then(Value::as_str) == Some(room));
    line.with_context(|| format!("{} has no such room", person.account()))
}

/// Why nothing can be sent in a room, if so.
fn blocked(person: &Person, room: &str) -> Result<Option<String>> {
    Ok(line(person, room)?.get("blocked").and_then(Value::as_str).map(str::to_owned))
}

/// Whose things were refused in a room, and why, oldest first, as the history shows it.
fn refusals(person: &Person, room: &str) -> Result<Vec<(String, String)>> {
    let lines = person.done(&["history", room, "--limit", "1000"])?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    Ok(lines
        .iter()
        .filter_map(|line| Some((text(line.get("from"))?, text(line.get("notice")?.get("code"))?)))
        .collect())
}

/// The same, as pairs that can be compared with words in a test.
fn assert_refused(person: &Person, room: &str, expected: &[(&str, &str)]) -> Result<()> {
    let refused = refusals(person, room)?;
    let refused: Vec<_> = refused.iter().map(|(from, code)| (from.as_str(), code.as_str())).collect();
    assert_eq!(refused, expected, "what {} is told", person.account());
    Ok(())
}

/// How far each text of one's own has come, oldest first.
fn states(person: &Person, room: &str) -> Result<Vec<String>> {
    let lines = person.done(&["history", room, "--limit", "1000"])?;
    let own = lines.iter().filter(|line| line.get("from").and_then(Value::as_str) == Some(person.account()));
    let texts = own.filter(|line| line.get("text").is_some_and(Value::is_string));
    let states = texts.filter_map(|line| line.get("state")?.as_str().map(str::to_owned));
    Ok(states.collect())
}

/// How many messages are missing before this text, as it lies in the vault.
fn missing_before(person: &Person, room: &str, text: &str) -> Result<u64> {
    let vault = Vault::open(person.home(), Unlock::Passphrase(Zeroizing::new(person.passphrase())))?;
    let rows = vault.history(&room.parse()?, None, 1000)?;
    let row = rows.iter().find(|row| row.text.as_deref() == Some(text)).context("no such text")?;
    let body: Value = serde_json::from_slice(&row.body)?;
    body.get("missing_before").and_then(Value::as_u64).context("no count")
}

/// Writes something while there is no relay: it waits in the outbox for the next `sync`, which,
/// unlike `send`, does not wait until it has gone out.
fn send_later(stage: &Stage, person: &Person, room: &str, text: &str) -> Result<()> {
    stage.middle.shut(true);
    let sent = person.done(&["send", room, text])?;
    stage.middle.shut(false);
    assert_eq!(sent.first().and_then(|sent| sent.get("state")), Some(&json!("pending")));
    Ok(())
}

/// Puts one more entry at the end of what an account reads of a log, as number `seq`.
fn append(account: &'static str, seq: u64, entry: Value) -> impl FnMut(&mut Traffic) + Send + 'static {
    let item = json!({"entry": {"seq": seq, "stored_at": 1, "entry": entry}});
    move |traffic| {
        let items = traffic.data.get_mut("items").and_then(Value::as_array_mut);
        if let Some(items) = items.filter(|_| traffic.account == account) {
            items.push(item.clone());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the `at`-th value of a record, and tells where it stands: a bit of a byte string or a
/// number, a letter of a text. Nothing if there are fewer.
fn alter(record: &mut Value, at: usize) -> Option<String> {
    fn leaves(value: &Value, place: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(field, value)| leaves(value, &format!("{place}/{field}"), found));
            }
            Value::Array(values) => {
                let numbered = values.iter().enumerate();
                numbered.for_each(|(at, value)| leaves(value, &format!("{place}/{at}"), found));
            }
            _ => found.push(place.to_owned()),
        }
    }
    let mut found = Vec::new();
    leaves(record, "", &mut found);
    let place = found.into_iter().nth(at)?;
    let value = record.pointer_mut(&place)?;
    *value = match &*value {
        Value::Number(number) => (number.as_u64()? ^ 1).into(),
        Value::String(text) => match B64.decode(text.as_bytes()) {
            Ok(mut bytes) if bytes.len() >= 12 => {
                *bytes.first_mut()? ^= 1;
                B64.encode(&bytes).into()
            }
            _ => format!("{text}x").into(),
        },
        Value::Null => B64.encode(&[1; 32]).into(),
        other => return Some(format!("{place} of another kind: {other}")),
    };
    Some(place)
}

/// A person's home as it was at one moment.
struct Home(TempDir);

impl Home {
    fn keep(person: &Person) -> Result<Self> {
        let kept = TempDir::with_prefix("mildam-home-")?;
        copy_folder(person.home(), kept.path())?;
        Ok(Self(kept))
    }

    fn restore(&self, person: &Person) -> Result<()> {
        fs::remove_dir_all(person.home())?;
        copy_folder(self.0.path(), person.home())
    }
}
