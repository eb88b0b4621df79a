//! What can be read by somebody who has all the files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use mildam_tests::{Person, Scene};
use mildam_vault::{Slot, Unlock, Vault};
use serde_json::Value;

use crate::Outcome;

/// DER of an RSA key's public exponent, 65537; the private exponent follows.
const EXPONENT: &[u8] = &[0x02, 0x03, 0x01, 0x00, 0x01];

/// Something that must not be found, and what to call it in a report.
struct Secret {
    name: String,
    bytes: Vec<u8>,
}

impl Secret {
    fn new(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), bytes: bytes.to_vec() }
    }

    fn text(text: &str) -> Self {
        Self::new(text, text.as_bytes())
    }

    /// The bytes as they might stand in a file: plain, UTF-16, hexadecimal, base64 at any offset.
    fn forms(&self) -> Vec<Vec<u8>> {
        let mut forms = vec![self.bytes.clone(), HEXLOWER.encode(&self.bytes).into_bytes()];
        if let Ok(text) = std::str::from_utf8(&self.bytes) {
            forms.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
            forms.push(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        }
        for offset in 0..3 {
            // Only the letters that no neighbour has a part in.
            let whole = self.bytes.get(offset..).unwrap_or_default();
            let whole = whole.get(..whole.len() / 3 * 3).unwrap_or_default();
            if whole.len() >= 6 {
                forms.push(BASE64.encode(whole).into_bytes());
                forms.push(BASE64URL_NOPAD.encode(whole).into_bytes());
            }
        }
        forms
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Looks for every form of every secret in every file.
fn search(folder: &Path, secrets: &[Secret]) -> Outcome {
    let mut total = 0;
    for file in files(folder)? {
        let bytes = fs::read(&file)?;
        total += bytes.len();
        for secret in secrets {
            for form in secret.forms() {
                ensure!(!holds(&bytes, &form), "{} can be read in {}", secret.name, file.display());
            }
        }
    }
    ensure!(total > 50_000, "there were only {total} bytes to look through");
    Ok(())
}

/// The private keys and other secrets of a person, out of their own vault.
fn secrets_of(person: &Person) -> Result<Vec<Secret>> {
    let vault = Vault::open(person.home(), Unlock::Passphrase(person.passphrase().into()))?;
    let slot = |slot: Slot| -> Result<Value> {
        let bytes = vault.get(slot)?.with_context(|| format!("{slot:?} of {}", person.account()))?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    let mut secrets = Vec::new();
    let device = slot(Slot::Device)?;
    let wrap = bytes(device.get("wrap"))?;
    let exponent =
        wrap.windows(EXPONENT.len()).position(|window| window == EXPONENT).context("an RSA key")?;
    // Tag, length, and perhaps a zero come first; any part of what follows gives it away.
    let private = wrap.get(exponent + EXPONENT.len() + 8..).and_then(|rest| rest.get(..48)).context("d")?;
    secrets.push(Secret::new("the wrap key's private exponent", private));
    secrets.push(Secret::new("the device key's seed", &bytes(device.get("signer"))?));
    let prekeys = device.get("prekeys").and_then(Value::as_array).context("prekeys")?;
    for prekey in prekeys {
        secrets.push(Secret::new("a prekey's seed", &bytes(prekey.get("seed"))?));
    }
    for word in slot(Slot::RecoveryWords)?.as_array().context("twelve words")?.windows(2) {
        let pair: Vec<_> = word.iter().filter_map(Value::as_str).collect();
        secrets.push(Secret::text(&pair.join(" ")));
    }
    let mut chains = 0;
    for (_, room) in vault.rooms()? {
        let state: Value = serde_json::from_slice(&room.state)?;
        for key in keys_within(&state) {
            chains += 1;
            secrets.push(Secret::new("a chain key", &key));
        }
    }
    ensure!(chains > 0, "no chain keys of {} were found to look for", person.account());
    Ok(secrets)
}

fn bytes(value: Option<&Value>) -> Result<Vec<u8>> {
    let text = value.and_then(Value::as_str).context("a text")?;
    Ok(BASE64URL_NOPAD.decode(text.as_bytes())?)
}

/// Every 32-byte value that is called a key, however deep it lies.
fn keys_within(value: &Value) -> Vec<Vec<u8>> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| match bytes(Some(field)) {
                Ok(key) if name == "key" && key.len() == 32 => vec![key],
                _ => keys_within(field),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(keys_within).collect(),
        _ => Vec::new(),
    }
}

/// A conversation with texts that stand nowhere else.
fn converse(scene: &Scene) -> Result<(Person, Person)> {
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let group = alice.room(&["room", "create", "--name", GROUP, "bob"])?;
    for _ in 0..3 {
        for text in TEXTS {
            alice.done(&["send", &room, text])?;
            alice.done(&["send", &group, text])?;
        }
    }
    bob.done(&["sync"])?;
    bob.done(&["send", &room, TEXTS[1]])?;
    Ok((alice, bob))
}

const GROUP: &str = "은하수 관측 모임 milkyway watchers";
const TEXTS: [&str; 2] = ["등대 뒤에서 자정에 만나자", "the lighthouse keeper knows nothing"];

/// Texts and parts of texts.
fn texts() -> impl Iterator<Item = Secret> {
    [TEXTS[0], TEXTS[1], GROUP, "등대 뒤에서", "자정에", "lighthouse", "은하수", "milkyway"]
        .into_iter()
        .map(Secret::text)
}

// REQ C4, M1, A3: whoever steals the relay's folder reads no message, no room name, no password
// and no private key.
#[test]
fn nothing_that_is_private_can_be_read_in_the_relays_folder() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = converse(&scene)?;
    scene.relay.stop()?;
    let mut secrets: Vec<Secret> = texts().collect();
    for person in [&alice, &bob] {
        secrets.push(Secret::text(&person.password()));
        secrets.push(Secret::text(&person.passphrase()));
        secrets.extend(secrets_of(person)?);
    }
    // It does know who is there: the search finds what it looks for.
    let known = search(scene.relay.data(), &[Secret::text("alice")]);
    ensure!(known.is_err(), "the relay routes for alice, so her id stands in its files");
    search(scene.relay.data(), &secrets)
}

// REQ L1: whoever steals the computer reads nothing without the passphrase.
#[test]
fn nothing_can_be_read_in_a_vaults_folder() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = converse(&scene)?;
    for person in [&alice, &bob] {
        let mut secrets: Vec<Secret> = texts().collect();
        secrets.extend(secrets_of(person)?);
        for text in [person.password(), person.passphrase(), person.email(), scene.relay.link().to_owned()] {
            secrets.push(Secret::text(&text));
        }
        for account in ["alice", "bob@"] {
            secrets.push(Secret::text(account));
        }
        search(person.home(), &secrets)?;
    }
    Ok(())
}

// REQ A3: the log says what went wrong without saying to whom.
#[test]
fn the_relays_log_names_reasons_and_no_people() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = converse(&scene)?;
    let login = ["login", "--id", "alice", "--password-stdin"];
    ensure!(alice.run(&login, Some("a wrong password"))?.code == 1, "the wrong password is refused");
    let mut peer = crate::peer::Peer::connect(&scene.relay)?;
    peer.send(b"nonsense")?;
    peer.statuses_to_the_end()?;
    let log = scene.relay.log()?;
    ensure!(log.contains("malformed"), "the reason is not in the log:\n{log}");
    let mut private = vec!["alice".to_owned(), "a wrong password".to_owned(), "nonsense".to_owned()];
    for person in [&alice, &bob] {
        private.extend([person.email(), person.password()]);
    }
    for word in private.iter().map(String::as_str).chain(TEXTS) {
        ensure!(!log.contains(word), "{word:?} is in the log:\n{log}");
    }
    Ok(())
}
